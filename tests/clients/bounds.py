"""Small files that once took gigabytes, and others that readers find hard: each is provisioned, counted, rewrapped and verified in bounded memory, or refused by name.

    python3 tests/clients/bounds.py [ROWS]

ROWS are those of the table that is one row group.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
from daemon import ALIAS, BINARY, environment, report, running

RESIDENT_MAX_MIB = 512
ONE_GROUP_ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
# Of the table that is one row group. A fingerprint of each row is kept; all of its rows in memory
# would be more.
ONE_GROUP_MAX_MIB = 100 + 40 * ONE_GROUP_ROWS // 1_000_000
# More than some readers can count.
MANY_GROUPS = 33_000


def write(path: Path, columns: dict, group: int | None = None, **options) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group, **options)
    return path


def ids(rows: int) -> dict[str, list]:
    return {"volume": [f"volume-{number:08}" for number in range(rows)], "tenant": [f"tenant-{number % 9}" for number in range(rows)]}


def same(text: str, rows: int, before: tuple[str, int] = ("", 0)) -> pyarrow.DictionaryArray:
    """One text in every row, after another in the first ones. A column of plain text would be gigabytes here, and the same in the file."""
    places = pyarrow.array([0] * before[1] + [1] * rows, pyarrow.int32())
    return pyarrow.DictionaryArray.from_arrays(places, [before[0], text])


def narrow_keys(path: Path) -> Path:
    """Row groups with other values each, of a dictionary whose keys have 8 bits."""
    kind = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
    schema = pyarrow.schema([("volume", pyarrow.string()), ("tenant", kind)])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for group in range(2):
            values = [f"tenant-{group}-{number}" for number in range(120)]
            names = [f"volume-{group}-{number}" for number in range(120)]
            tenants = pyarrow.DictionaryArray.from_arrays(pyarrow.array(range(120), pyarrow.int8()), values)
            writer.write_table(pyarrow.table([pyarrow.array(names), tenants], schema))
    return path


# Each with its rows, and how it is written.
TABLES = {
    "narrow-keys": (240, narrow_keys),
    "one-long-text": (5000, lambda path: write(path, {**ids(5000), "note": same("x" * 500_000, 5000)}, store_schema=False)),
    "long-texts": (20_000, lambda path: write(path, {**ids(20_000), "note": same("y" * 200_000, 20_000)}, store_schema=False)),
    "long-contexts": (5000, lambda path: write(path, {**ids(5000), "tenant": ["x" * 7000] * 5000})),
    "short-and-long": (53_000, lambda path: write(path, {**ids(53_000), "note": same("w" * 100_000, 3000, ("z", 50_000))}, group=53_000, store_schema=False)),
    "one-group": (ONE_GROUP_ROWS, lambda path: write(path, ids(ONE_GROUP_ROWS), group=ONE_GROUP_ROWS)),
    "groups-of-one": (4000, lambda path: write(path, ids(4000), group=1)),
    # This process's own memory is more after it, and a child's peak counts what its parent had.
    "many-groups": (MANY_GROUPS, lambda path: write(path, ids(MANY_GROUPS), group=1)),
    "wide": (300, lambda path: write(path, {**ids(300), **{f"c{number}": [number] * 300 for number in range(3000)}}, group=100)),
}


def tables(folder: Path):
    """Each is written by a process of its own: a child's peak counts what its parent had."""
    for name, (rows, write_to) in TABLES.items():
        path = folder / f"{name}.parquet"
        in_a_child(write_to, path)
        yield path, rows


def in_a_child(write_to, path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=write_to, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == 0, path


def spent(command: list, **variables: str) -> tuple[int, str, float, float]:
    """The status of a command, what it said, and how much it took: memory in MiB, and seconds of CPU."""
    given = [str(part) for part in command]
    process = subprocess.Popen(given, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, said, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def ran(command: list, **variables: str) -> tuple[int, str, float]:
    """The status of a command, what it said, and how much memory it took in MiB."""
    return spent(command, **variables)[:3]


def linear(folder: Path) -> None:
    """A footer is read once: eight times as many row groups take about eight times as long."""
    seconds = []
    for groups in (4_000, 32_000):
        table = folder / f"linear-{groups}.parquet"
        in_a_child(lambda path, groups=groups: write(path, {"ciphertext_blob": [bytes(96)] * groups}, group=1), table)
        # Each row has bytes that are not a blob.
        status, said, _, took = spent([BINARY, "census", "--json", table])
        assert status == 1, said
        seconds.append(took)
    assert seconds[1] < 20 * max(seconds[0], 0.05), seconds
    print(f"census of 4,000 and of 32,000 row groups: {seconds[0]:.2f} s and {seconds[1]:.2f} s of CPU")


def main() -> None:
    jobs = 0
    with tempfile.TemporaryDirectory() as folder, running() as mill:
        folder = Path(folder)
        linear(folder)
        over, admin = ["--endpoint", mill.endpoint], mill.credentials("admin")
        for table, rows in tables(folder):
            out, again = folder / f"out-{table.stem}", folder / f"again-{table.stem}"
            commands = {
                "provision": ["--key", ALIAS, "--id-column", "volume", "--context", "tenant,volume", "--out", out, "--endpoint", f"unix:{mill.socket}", table],
                "census": [out],
                "rewrap": ["--key", ALIAS, "--out", again, *over, out],
                "verify": ["--id-column", "volume", *over, again],
            }
            if rows == MANY_GROUPS:
                # Through a daemon a row group is a call.
                commands = {name: commands[name] for name in ("provision", "census")}
                again = out
            most_mib = ONE_GROUP_MAX_MIB if table.stem == "one-group" else RESIDENT_MAX_MIB
            peaks = {}
            for name, arguments in commands.items():
                status, said, peaks[name] = ran([BINARY, name, *arguments], **({} if name == "provision" else admin))
                assert status == 0, (table.name, name, said)
                assert "panicked" not in said, said
                assert peaks[name] <= most_mib, (table.name, name, peaks[name])
                jobs += 1
            written = sum(pyarrow.parquet.read_metadata(part).num_rows for part in again.glob("*.parquet"))
            assert written == rows, (table.name, written)
            print(f"{table.stem} ({table.stat().st_size / 1e6:.1f} MB): " + ", ".join(f"{name} {peak:.0f} MiB" for name, peak in peaks.items()))
            for path in {table, *out.glob("*"), *again.glob("*")}:
                path.unlink()
    report("pyarrow on tables that are hard to read", pyarrow.__version__, jobs)


if __name__ == "__main__":
    sys.exit(main())
