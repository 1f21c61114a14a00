"""Tables as other tools write them, of each kind that their users met with and no other step has: what comes out is what went in, or a refusal that names the file, the column or the row.

    python3 tests/clients/foreign_tables.py
"""

import decimal
import gzip
import json
import math
import tempfile
import unicodedata
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
from bounds import RESIDENT_MAX_MIB, ran
from daemon import ALIAS, BINARY, Daemon, report, running
from provision import command, done, fails, read, run

# Of NDJSON: as many as a table may have, less the id's and the context's.
NAMES = 9_000


def passed_over(folder: Path, over: list) -> None:
    """What is in a folder and is not read is named; where the format is said, every ending is read."""
    lake = folder / "endings"
    lake.mkdir()
    for name in ("a.csv", "c.txt", "d", "e.json.bak"):
        (lake / name).write_text(f"volume,tenant\n{name},t\n")
    (lake / "b.csv.gz").write_bytes(gzip.compress(b"volume,tenant\nb,t\n"))
    (lake / "_notes.csv").write_text("not,of the table\n")
    job = run(command([lake], folder / "by-endings", *over))
    assert job.returncode == 0 and json.loads(job.stdout)["rows"] == 2, job.stderr
    told = next(event for event in map(json.loads, job.stderr.splitlines()) if event["message"].startswith("passed over"))
    assert told["level"] == "WARN" and told["count"] == 3, told
    assert all(f"{lake}/{name}" in told["names"] for name in ("c.txt", "d", "e.json.bak")), told
    assert done(command([lake], folder / "all-endings", *over, "--input-format", "csv"))["rows"] == 5


def maps_of_pandas(mill: Daemon, folder: Path, over: list) -> None:
    """pandas writes a map back as a list of pairs: that is refused by name, and the columns can be named instead."""
    rows = pyarrow.table({"volume": ["a", "b"], "tenant": ["t", "u"]})
    pyarrow.parquet.write_table(rows, folder / "maps.parquet")
    done(command([folder / "maps.parquet"], folder / "maps", *over))
    pandas.read_parquet(folder / "maps").to_parquet(folder / "copy.parquet")
    verify = [BINARY, "verify", folder / "copy.parquet", "--json", "--endpoint", mill.endpoint]
    as_consumer = mill.credentials("consumer")
    fails(2, 'column "encryption_context" is of type LIST(', [*verify, "--id-column", "volume"], **as_consumer)
    fails(2, "contexts are a map of strings; name the columns of the contexts", verify, **as_consumer)
    opened = run([*verify, "--context", "tenant,volume", "--constant", "purpose=Zoë's volumes"], **as_consumer)
    assert opened.returncode == 0 and json.loads(opened.stdout)["rows"] == 2, opened


def numbers_are_not_text(folder: Path, over: list) -> None:
    """Numbers have texts that differ from tool to tool: as ids and contexts they are refused by name and type."""
    columns = {
        "DOUBLE": [0.5, math.nan, -0.0], "INT64": [1, 2, 3], "BOOLEAN": [True, False, None],
        "DECIMAL(5, 2)": pyarrow.array([decimal.Decimal("1.50")] * 3, pyarrow.decimal128(5, 2)),
    }
    for kind, values in columns.items():
        table = pyarrow.table({"volume": ["a", "b", "c"], "tenant": values})
        pyarrow.parquet.write_table(table, folder / "numbers.parquet")
        says = f'Column "tenant" is of type {kind}, and contexts are strings'
        fails(1, says, command([folder / "numbers.parquet"], folder / "numbers", *over))
        pyarrow.parquet.write_table(table.rename_columns(["tenant", "volume"]), folder / "numbers.parquet")
        says = f'Column "volume" is of type {kind}, and contexts are strings'
        fails(1, says, command([folder / "numbers.parquet"], folder / "numbers", *over))


def letters(mill: Daemon, folder: Path, over: list) -> None:
    """Composed and decomposed letters are two ids and two contexts, and stay what they are."""
    ids = [unicodedata.normalize(form, "größe-é") for form in ("NFC", "NFD")]
    assert ids[0] != ids[1]
    sent = pyarrow.table({"volume": ids, "tenant": ids})
    pyarrow.parquet.write_table(sent, folder / "letters.parquet")
    (folder / "letters.csv").write_text("volume,tenant\n" + "".join(f"{text},{text}\n" for text in ids))
    for ending in ("parquet", "csv"):
        done(command([folder / f"letters.{ending}"], folder / f"letters-{ending}", *over))
        rows = read(folder / f"letters-{ending}").to_pylist()
        assert [row["volume"] for row in rows] == [row["tenant"] for row in rows] == ids, rows
        assert [dict(row["encryption_context"])["tenant"] for row in rows] == ids, rows
        consumer = mill.client("consumer")
        for row in rows:
            context = dict(row["encryption_context"])
            assert len(consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=context)["Plaintext"]) == 32


def one_type(folder: Path, over: list) -> None:
    """What is one type of Parquet is one, however each library holds it, and whether a file may have nulls in it is the file's own."""
    kinds = {"large": (pyarrow.large_string(), True), "never-null": (pyarrow.string(), False), "small": (pyarrow.string(), True), "view": (pyarrow.string_view(), True)}
    for turn in range(2):
        lake = folder / f"types-{turn}"
        lake.mkdir()
        for number, (name, (kind, may_be_null)) in enumerate(sorted(kinds.items(), reverse=turn == 1)):
            fields = [pyarrow.field("volume", kind, may_be_null), pyarrow.field("tenant", kind, may_be_null), pyarrow.field("n", pyarrow.int32(), may_be_null)]
            values = [pyarrow.array([f"{name}-{row}" for row in range(3)], kind), pyarrow.array(["t"] * 3, kind), pyarrow.array([1, None if may_be_null else 2, 3], pyarrow.int32())]
            pyarrow.parquet.write_table(pyarrow.table(values, pyarrow.schema(fields)), lake / f"{number}-{name}.parquet")
        assert done(command([lake], folder / f"types-{turn}-out", *over))["rows"] == 12
        for part in (folder / f"types-{turn}-out").glob("*.parquet"):
            name = pyarrow.parquet.read_table(part)["volume"][0].as_py().rsplit("-", 1)[0]
            field = pyarrow.parquet.ParquetFile(part).schema_arrow.field("n")
            assert field.nullable == kinds[name][1], (part, name, field)
        names = {row["volume"] for part in (folder / f"types-{turn}-out").glob("*.parquet") for row in pyarrow.parquet.read_table(part).to_pylist()}
        assert names == {f"{name}-{row}" for name in kinds for row in range(3)}, names


def sparse(folder: Path, over: list) -> None:
    """Another name in every line: a column each, in bounded memory."""
    lines = (f'{{"volume":"v{number}","tenant":"t","c{number}":{number}}}' for number in range(NAMES))
    (folder / "sparse.ndjson").write_text("\n".join(lines) + "\n")
    status, said, peak = ran(command([folder / "sparse.ndjson"], folder / "sparse", *over))
    assert status == 0, said
    assert peak <= RESIDENT_MAX_MIB, peak
    rows = pyarrow.parquet.read_table(folder / "sparse", columns=["volume", "c0", f"c{NAMES - 1}"])
    assert rows.num_rows == NAMES and rows["c0"].null_count == NAMES - 1, rows
    last = rows.slice(NAMES - 1).to_pylist()
    assert last == [{"volume": f"v{NAMES - 1}", "c0": None, f"c{NAMES - 1}": NAMES - 1}], last
    print(f"{NAMES} names in {NAMES} lines: {peak:.0f} MiB")


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder, over = Path(temporary), ["--endpoint", f"unix:{mill.socket}"]
        passed_over(folder, over)
        maps_of_pandas(mill, folder, over)
        numbers_are_not_text(folder, over)
        letters(mill, folder, over)
        one_type(folder, over)
        sparse(folder, over)
    report("pandas on a table's maps", pandas.__version__, 1)


if __name__ == "__main__":
    main()
