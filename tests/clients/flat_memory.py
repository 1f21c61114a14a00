"""`census` and `verify` on ten times as many rows take no more memory.

    python3 tests/clients/flat_memory.py [ROWS]

Ten million rows and a hundred million: 12 GB in TMPDIR, and 5 GB more for a moment.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from daemon import ALIAS, BINARY, report, running
from large_table import measured

ROWS = 10_000_000
TIMES = 10
# What a longer list of files and row groups may take.
MORE = 1.2
ROW_BYTES = 170


def peaks(state: Path, folder: Path, rows: int) -> dict[str, float]:
    beside, out = ["--dir", str(state)], folder / str(rows)
    measured("export", [BINARY, "export", *beside, "--key", ALIAS, "--count", str(rows), "--out", out, "--json"], rows)
    commands = {"census": [BINARY, "census", out], "verify": [BINARY, "verify", out, *beside, "--id-column", "container_id"]}
    found = {}
    for name, command in commands.items():
        said = measured(name, [*command, "--json"], rows, {"TMPDIR": str(folder)})
        assert said["rows"] == rows and said["finding_count"] == 0 and said["keys"][0]["count"] == rows, said
        found[name] = said["peak"]
    shutil.rmtree(out)
    return found


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        assert mill.stop() == 0
        free, needed = shutil.disk_usage(temporary).free, rows * TIMES * ROW_BYTES
        assert free > needed, f"{needed >> 30} GiB are needed in {temporary}, {free >> 30} are free"
        few = peaks(mill.state, Path(temporary), rows)
        many = peaks(mill.state, Path(temporary), rows * TIMES)
    for name, peak in many.items():
        print(f"{name}: {peak / few[name]:.2f} times the memory for {TIMES} times the rows")
        assert peak < few[name] * MORE, name
    report("keymill census and verify on many rows", f"{rows * TIMES} rows", 4)


if __name__ == "__main__":
    main()
