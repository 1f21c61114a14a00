"""Ten million rows through `provision`, `rewrap`, `census` and `verify`: how long, and that memory is what was promised.

    python3 tests/clients/large_table.py [ROWS]
"""

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from daemon import ALIAS, BINARY, report, running
from provision import command, run

ROWS = 10_000_000
RSS_MIB_MAX = 512
GROUP = 1 << 17


def measured(name: str, arguments: list, rows: int, variables: dict[str, str] | None = None) -> dict:
    """Runs it in a child of its own, as children's peaks are kept as one, prints its figures, and returns what it said and its peak in MiB."""
    began = time.monotonic()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        ran = run(arguments, **(variables or {}))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        os.write(writer, json.dumps({"peak": peak, "out": ran.stdout[-3000:], "error": ran.stderr[-3000:]}).encode())
        os._exit(ran.returncode)
    os.close(writer)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(reader) as pipe:
        said = json.load(pipe)
    seconds = time.monotonic() - began
    assert status == 0, said
    print(f"{name}: {rows} rows in {seconds:.1f} s, {rows / seconds:,.0f} rows/s, peak {said['peak']:.0f} MiB")
    assert said["peak"] < RSS_MIB_MAX, "more memory than was promised"
    return json.loads(said["out"]) | {"peak": said["peak"]}


def write(path: Path, rows: int) -> None:
    """The table, a row group at a time."""
    schema = pyarrow.schema([("volume", pyarrow.string()), ("tenant", pyarrow.string()), ("bytes", pyarrow.int64())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, GROUP):
            numbers = pyarrow.array(range(first, min(first + GROUP, rows)), pyarrow.int64())
            text = numbers.cast(pyarrow.string())
            volume = pyarrow.compute.binary_join_element_wise("volume", text, "-")
            tenant = pyarrow.compute.binary_join_element_wise("tenant", pyarrow.array([number % 1000 for number in range(first, first + len(numbers))]).cast(pyarrow.string()), "-")
            writer.write_table(pyarrow.table([volume, tenant, numbers], schema=schema))


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder / "table.parquet", rows)
        measured("provision through the daemon", command([folder / "table.parquet"], folder / "through", "--endpoint", f"unix:{mill.socket}"), rows)
        over, as_admin = ["--endpoint", mill.endpoint], mill.credentials("admin")
        measured("rewrap through the daemon", [BINARY, "rewrap", folder / "through", *over, "--key", ALIAS, "--out", folder / "again", "--json"], rows, as_admin)
        verified = measured("verify through the daemon", [BINARY, "verify", folder / "again", *over, "--id-column", "volume", "--json"], rows, as_admin)
        assert verified["finding_count"] == 0 and verified["rows"] == rows, verified
        shutil.rmtree(folder / "through")
        shutil.rmtree(folder / "again")
        assert mill.stop() == 0
        beside = ["--dir", str(mill.state)]
        measured("provision on the store", command([folder / "table.parquet"], folder / "store", *beside), rows)
        measured("rewrap on the store", [BINARY, "rewrap", folder / "store", *beside, "--key", ALIAS, "--out", folder / "rewrapped", "--json"], rows)
        counted = measured("census", [BINARY, "census", folder / "rewrapped", "--json"], rows)
        assert counted["keys"][0]["count"] == rows, counted
        verified = measured("verify on the store", [BINARY, "verify", folder / "rewrapped", *beside, "--id-column", "volume", "--json"], rows)
        assert verified["finding_count"] == 0 and verified["rows"] == rows, verified
    report("keymill on a large table", f"{rows} rows", 7)


if __name__ == "__main__":
    main()
