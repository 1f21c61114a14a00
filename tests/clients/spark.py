"""Past one machine: the example job of the Python package on Apache Spark, several executor processes, to a folder partitioned by tenant; checked row by row.

    python3 tests/clients/spark.py [ROWS]
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import duckdb
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
import pyspark
from daemon import ALIAS, BLOB_BYTES, ROOT, Tally, environment, report, running
from provision import containers

ROWS = 1_000_000
OPENED = 300
# Two executor processes of one core and 1 GiB each.
MASTER = "local-cluster[2,1,1024]"


def submit(folder: Path, *more: str, settings: tuple[str, ...] = (), **given: str) -> None:
    """The example, with `more` arguments, Spark's `settings` and `given` variables."""
    package = ROOT / "clients" / "python"
    command = [
        Path(pyspark.__file__).parent / "bin" / "spark-submit", "--master", MASTER, "--conf", "spark.ui.enabled=false", "--conf", "spark.sql.session.timeZone=UTC",
        "--conf", "spark.sql.execution.arrow.maxRecordsPerBatch=20000", "--conf", f"spark.executorEnv.PYTHONPATH={package}",
        "--conf", "spark.sql.files.maxPartitionBytes=8m", "--conf", f"spark.local.dir={folder}/scratch",
        *(part for setting in settings for part in ("--conf", setting)),
        package / "examples" / "spark_provision.py", folder / "in", folder / "out", "--key", ALIAS, "--context", "tenant,volume", "--constant", "purpose=volume",
        "--partition-by", "tenant", *more,
    ]
    variables = {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(package), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_WORKER_DIR": f"{folder}/work"}
    variables |= {"PATH": os.environ["PATH"]} | given
    ran = subprocess.run(command, env=environment(**variables), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-6000:]


def check(mill, folder: Path, sent: pyarrow.Table, tally: Tally) -> None:
    out = folder / "out"
    tenants = pyarrow.compute.unique(sent["tenant"].cast(pyarrow.string())).to_pylist()
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(f"tenant={tenant}" for tenant in tenants)
    assert (out / "_SUCCESS").exists()
    got = pyarrow.dataset.dataset(out, format="parquet", partitioning="hive").to_table().sort_by("volume")
    assert got.num_rows == sent.num_rows
    for name in ("volume", "tenant", "bytes", "price"):
        wanted = sent[name].cast(pyarrow.string()) if name == "tenant" else sent[name]
        assert got[name].combine_chunks().cast(wanted.type).equals(wanted.combine_chunks()), name
    assert pyarrow.compute.count_distinct(got["ciphertext_blob"]).as_py() == sent.num_rows, "a blob came twice"
    assert pyarrow.compute.unique(pyarrow.compute.binary_length(got["ciphertext_blob"])).to_pylist() == [BLOB_BYTES]
    contexts = got["encryption_context"]
    for name, wanted in (("tenant", got["tenant"]), ("volume", got["volume"]), ("purpose", None)):
        values = pyarrow.compute.map_lookup(contexts, name, "first")
        if wanted is None:
            assert pyarrow.compute.unique(values).to_pylist() == ["volume"]
        else:
            assert values.combine_chunks().equals(wanted.combine_chunks().cast(pyarrow.string())), f"a row has another row's {name}"
    assert max(map(len, contexts.slice(0, 1000).to_pylist())) == 3
    consumer = mill.client("consumer", tally)
    for row in got.take(random.sample(range(got.num_rows), OPENED)).to_pylist():
        opened = consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=dict(row["encryption_context"]))
        assert (opened["KeyId"], opened["KeyMaterialId"]) == (row["key_arn"], row["key_material_id"]), row
    with duckdb.connect() as connection:
        counted = f"SELECT count(*), count(DISTINCT volume), count(DISTINCT tenant) FROM read_parquet('{out}/*/*.parquet', hive_partitioning = true)"
        assert connection.execute(counted).fetchone() == (sent.num_rows, sent.num_rows, len(tenants))


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in").mkdir()
        sent = containers(rows)
        for number in range(4):
            share = -(-rows // 4)
            pyarrow.parquet.write_table(sent.slice(number * share, share), folder / "in" / f"{number}.parquet", row_group_size=50_000)
        began = time.monotonic()
        submit(folder, "--endpoint", f"unix:{mill.socket}")
        seconds = time.monotonic() - began
        issued = mill.metric("keymill_data_keys_total", operation="Bind")
        assert issued >= rows, issued
        print(f"Spark: {rows} rows in {seconds:.1f} s with its start, {issued:.0f} keys issued")
        check(mill, folder, sent, tally)
    report("Apache Spark", pyspark.__version__, 1)
    report("boto3 on what Spark wrote", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
