"""Parquet's modular encryption by Apache Spark on a running daemon, with ParquetKms.java as its KMS client: what Spark writes pyarrow reads, and the other way around. tests/long has the class built."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pyspark
from daemon import Daemon, Tally, environment, new_key, report, running
from java_clients import JAVA
from parquet_encryption import COLUMN_KEY, FOOTER_KEY, SECRET, Tables, configuration
from pyspark.sql import SparkSession

ROWS = 20_000
CRYPTO = "spark.hadoop.parquet"
# What of the SDK for Java would bring another Netty or HTTP client beside Spark's.
LEFT_OUT = ("netty-nio-client", "apache-client", "apache5-client", "aws-crt-client")


def class_path() -> str:
    """The class and its SDK; Parquet and Hadoop are Spark's."""
    jars = [jar for jar in (JAVA / "classpath").read_text().strip().split(":") if "/awssdk/" in jar or "reactive-streams" in jar]
    return ":".join([str(JAVA / "classes"), *(jar for jar in jars if not any(name in jar for name in LEFT_OUT))])


def session() -> SparkSession:
    settings = {
        "spark.driver.extraClassPath": class_path(), "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1",
        f"{CRYPTO}.crypto.factory.class": "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory",
        f"{CRYPTO}.encryption.kms.client.class": "clients.ParquetKms",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def rewrite(source: str, target: str) -> None:
    """Spark's half, as whoever the environment names: reads a file, encrypted or not, and writes an encrypted one."""
    keys = {"parquet.encryption.footer.key": FOOTER_KEY, "parquet.encryption.column.keys": f"{COLUMN_KEY}:container_id,size"}
    session().read.parquet(source).coalesce(1).write.options(**keys).parquet(target)


def spark(mill: Daemon, role: str, source: Path, target: Path, fails: str | None = None) -> Path | None:
    """Runs `rewrite` as one of the daemon's principals; `fails` is what it must say when it has to fail. What it wrote."""
    variables = environment(**mill.credentials(role), SPARK_LOCAL_IP="127.0.0.1")
    command = [sys.executable, __file__, source, target]
    ran = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = f"{role}: {ran.returncode}\n{ran.stdout}\n{ran.stderr[-6000:]}"
    assert (ran.returncode != 0) == bool(fails), said
    assert not fails or fails in ran.stderr, said
    return None if fails else next(target.glob("part-*.parquet"))


def exchanged(mill: Daemon, folder: Path, tally: Tally) -> None:
    """A table goes from pyarrow to Spark and back, encrypted in between by each."""
    names = pyarrow.array([f"container-{row:012}" for row in range(ROWS)])
    table = pyarrow.table({"tenant": pyarrow.array([row % 7 for row in range(ROWS)]), "container_id": names, "size": range(ROWS)})
    sealed = folder / "pyarrow.parquet"
    Tables(mill, tally, "admin").write(table, sealed, configuration())
    before = mill.metric("keymill_requests_total")
    written = spark(mill, "admin", sealed, folder / "spark")
    calls = mill.metric("keymill_requests_total") - before
    assert SECRET.encode() not in written.read_bytes(), written
    assert Tables(mill, tally, "consumer").read(written).equals(table), "pyarrow reads another table than Spark has written"
    spark(mill, "provisioner", sealed, folder / "never", fails="AccessDeniedException")
    spark(mill, "consumer", sealed, folder / "neither", fails="AccessDeniedException")
    report("Apache Spark's Parquet encryption", pyspark.__version__, int(calls))


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-parquet-") as folder:
        tally = Tally()
        for alias in (FOOTER_KEY, COLUMN_KEY):
            new_key(mill, alias, tally)
        exchanged(mill, Path(folder), tally)


if __name__ == "__main__":
    rewrite(*sys.argv[1:]) if sys.argv[1:] else main()
