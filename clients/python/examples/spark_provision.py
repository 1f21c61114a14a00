r"""Provisions a table with Apache Spark: each executor calls the daemon beside it.

    spark-submit examples/spark_provision.py INPUT OUT --key alias/containers \
        --context tenant,volume [--partition-by tenant] [--endpoint unix:PATH]
        [--patience-seconds 120]

INPUT is a folder of Parquet, OUT one that is not there yet. The package keymill must be on every
executor. A task that is repeated makes new keys, and Spark commits the output of one attempt alone:
every row that is written has one key.

A daemon that goes away is waited for, and then the task fails. With
`--conf spark.excludeOnFailure.enabled=true` Spark repeats it on another executor, whose daemon is
another one of the fleet.
"""

import argparse
import os

from pyspark.sql import SparkSession, types

import keymill


def main() -> None:
    parser = argparse.ArgumentParser(description="Provision a table with Apache Spark.")
    parser.add_argument("input")
    parser.add_argument("out")
    parser.add_argument("--key", required=True)
    parser.add_argument(
        "--context", required=True, help="columns of every row's encryption context, with commas"
    )
    parser.add_argument("--constant", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--partition-by", default="", help="columns that folders are named after, with commas"
    )
    parser.add_argument("--endpoint", default=os.environ.get("KEYMILL_ENDPOINT"))
    parser.add_argument("--patience-seconds", type=float, default=120)
    arguments = parser.parse_args()
    key, endpoint, context = arguments.key, arguments.endpoint, arguments.context.split(",")
    patience_seconds = arguments.patience_seconds
    constants = dict(pair.split("=", 1) for pair in arguments.constant)

    spark = SparkSession.builder.appName("keymill-provision").getOrCreate()
    frame = spark.read.parquet(arguments.input)
    added = [
        types.StructField("key_arn", types.StringType(), False),
        types.StructField("key_material_id", types.StringType(), False),
        types.StructField("key_spec", types.StringType(), False),
        types.StructField(
            "encryption_context",
            types.MapType(types.StringType(), types.StringType(), True),
            False,
        ),
        types.StructField("ciphertext_blob", types.BinaryType(), False),
        types.StructField("created_at", types.TimestampType(), False),
    ]
    schema = types.StructType([*frame.schema.fields, *added])

    def with_keys(batches):
        with keymill.Client(endpoint, patience_seconds=patience_seconds) as client:
            yield from keymill.bind_batches(
                batches, key=key, context=context, constants=constants, client=client
            )

    written = frame.mapInArrow(with_keys, schema).write
    if arguments.partition_by:
        written = written.partitionBy(*arguments.partition_by.split(","))
    written.parquet(arguments.out)
    spark.stop()


if __name__ == "__main__":
    main()
