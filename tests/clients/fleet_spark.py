"""The example job of the Python package on Apache Spark, two executors, each with a daemon of one fleet beside it; one daemon is killed half-way and stays away.

    python3 tests/clients/fleet_spark.py [ROWS]

The executors are processes of this host, so what stands for the host of each is the interpreter that it starts: it names the daemon by the executor's folder.
"""

import shlex
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
import pyarrow.parquet
import pyspark
from daemon import Daemon, Tally, report, wait_until
from postgres import server
from provision import containers
from spark import check, submit

ROWS = 200_000
FILES = 16
# A node's rate: the job lasts long enough for a daemon to be killed under it.
KEYS_PER_SECOND = 5_000
PATIENCE_SECONDS = 5
HALF_WAY_SECONDS = 600
SETTINGS = ("spark.excludeOnFailure.enabled=true", "spark.sql.files.openCostInBytes=8m")


def interpreter(folder: Path, nodes: list[Daemon]) -> Path:
    """Python, with the daemon beside its executor. A folder of an executor is called as its number."""
    path = folder / "python"
    sockets = "".join(f"{number}) socket={shlex.quote(str(node.socket))};; " for number, node in enumerate(nodes))
    path.write_text(f'#!/bin/sh\ncase "$((${{PWD##*/}} % {len(nodes)}))" in {sockets}esac\nexport KEYMILL_ENDPOINT="unix:$socket"\nexec {shlex.quote(sys.executable)} "$@"\n')
    path.chmod(0o755)
    return path


def keys_of(node: Daemon) -> float:
    return node.metric("keymill_data_keys_total", operation="Bind")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    tally = Tally()
    with server() as database, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        database.ask("postgres", "CREATE DATABASE fleet")
        nodes = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            arguments = ("--store", database.url("fleet"), "--root-key", str(folder / "root.key"), "--admin-listen", "127.0.0.1:0")
            nodes.append(Daemon(folder / name, {"KEYMILL_RATES__PRINCIPAL_KEYS_PER_SECOND": str(KEYS_PER_SECOND)}, arguments=arguments))
        try:
            for node in nodes:
                node.start()
            (folder / "in").mkdir()
            sent = containers(rows)
            share = -(-rows // FILES)
            for number in range(FILES):
                pyarrow.parquet.write_table(sent.slice(number * share, share), folder / "in" / f"{number:02}.parquet")
            killed: list[float] = []

            def kill() -> None:
                wait_until(lambda: sum(keys_of(node) for node in nodes) >= rows / 2, HALF_WAY_SECONDS, "half of the job")
                killed.append(keys_of(nodes[1]))
                nodes[1].kill()

            killer = threading.Thread(target=kill, daemon=True)
            killer.start()
            began = time.monotonic()
            given = {"PYSPARK_PYTHON": str(interpreter(folder, nodes)), "PYSPARK_DRIVER_PYTHON": sys.executable}
            submit(folder, "--patience-seconds", str(PATIENCE_SECONDS), settings=SETTINGS, **given)
            seconds = time.monotonic() - began
            killer.join(timeout=60)
            [by_the_killed] = killed
            assert by_the_killed > 0, "the daemon that was killed had made no key"
            of_both = by_the_killed + keys_of(nodes[0])
            assert of_both >= rows, of_both
            print(f"Spark: {rows} rows in {seconds:.1f} s with its start; {by_the_killed:.0f} keys were made by the daemon that was killed, {of_both:.0f} in all")
            check(nodes[0], folder, sent, tally)
        finally:
            for node in nodes:
                node.kill()
    report("Apache Spark on a fleet", pyspark.__version__, 1)
    report("boto3 on what Spark wrote on a fleet", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
