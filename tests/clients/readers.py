"""An export, a provisioned and a rewrapped table, as other readers read them: every value of every
column beside pyarrow's, and blobs of each reader opened with the context that it read.

Where a reader gives another value, its line in READERS says so and in which way, and both are held:
a difference that is not in the line fails, and so does one that is no more. The table of
docs/readers.md is made of the same lines; with `--write` it is written anew.

    python3 tests/clients/readers.py [--write]
"""

import datetime
import decimal
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import chdb
import deltalake
import duckdb
import fastparquet
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pyiceberg.catalog
import pyspark.errors
import pyspark.sql
from client_table import version
from daemon import ALIAS, BINARY, ROOT, Daemon, Tally, environment, report, running

CLIENTS = Path(__file__).resolve().parent
PAGE = ROOT / "docs" / "readers.md"
BEGIN, END = "<!-- readers: written by tests/clients/readers.py --write -->", "<!-- /readers -->"
# Types that Delta Lake or Iceberg has not.
NOT_IN_LAKES = ["time", "unsigned"]
ROWS = 4500
GROUP = 1500
OPENED = 10
Columns = dict[str, list]
# In place of a column that a reader does not read.
UNREAD = ["unread"]
EPOCH = datetime.datetime(1970, 1, 1)


def table() -> pyarrow.Table:
    """A column of each kind that users have, each with a null in every eleventh row."""
    began, utc = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456), datetime.UTC
    of = lambda kind, value: pyarrow.array([value(row) if row % 11 else None for row in range(ROWS)], kind)
    second = lambda row: began + datetime.timedelta(seconds=row)
    return pyarrow.table({
        "volume": [f"volume-{row:06}" for row in range(ROWS)],
        "tenant": [f"tenant-{row % 9}" for row in range(ROWS)],
        "bytes": of(pyarrow.int64(), lambda row: 2**62 + row),
        "small": of(pyarrow.int16(), lambda row: row),
        "unsigned": of(pyarrow.uint64(), lambda row: 2**64 - 1 - row),
        "ratio": of(pyarrow.float64(), lambda row: row / 7),
        "half": of(pyarrow.float32(), lambda row: row / 4),
        "flag": of(pyarrow.bool_(), lambda row: row % 3 == 0),
        "price": of(pyarrow.decimal128(20, 4), lambda row: decimal.Decimal(row) / 4),
        "day": of(pyarrow.date32(), lambda row: began.date() + datetime.timedelta(days=row)),
        "time": of(pyarrow.time64("us"), lambda row: datetime.time(1, 2, 3, row)),
        "made": of(pyarrow.timestamp("us", tz="UTC"), lambda row: second(row).replace(tzinfo=utc)),
        "local": of(pyarrow.timestamp("ms"), lambda row: second(row).replace(microsecond=5000)),
        "note": of(pyarrow.string(), lambda row: f"größe {row}"),
        "raw": of(pyarrow.binary(), lambda row: bytes([row % 256, 0xFF]) * (row % 7)),
        "fixed": of(pyarrow.binary(5), lambda row: f"{row:05}".encode()),
        "extents": of(pyarrow.list_(pyarrow.int32()), lambda row: [row, None, 1][: row % 4]),
        "zone": of(pyarrow.struct({"name": pyarrow.string(), "rack": pyarrow.int32()}), lambda row: {"name": f"z{row % 3}", "rack": row % 9}),
        "labels": of(pyarrow.map_(pyarrow.string(), pyarrow.string()), lambda row: [("a", f"{row}"), ("b", None)][: row % 3]),
        "disks": of(pyarrow.list_(pyarrow.struct({"a": pyarrow.int32(), "b": pyarrow.list_(pyarrow.string())})), lambda row: [{"a": row, "b": ["x"] * (row % 3)}] * (row % 4)),
    })


def folders(mill: Daemon, folder: Path, sent: pyarrow.Table) -> dict[str, Path]:
    """What the three commands write of a table."""
    folder.mkdir()
    pyarrow.parquet.write_table(sent, folder / "volumes.parquet", row_group_size=GROUP)
    out = {name: folder / name for name in ("exported", "provisioned", "mapped", "rewrapped")}
    over, size = ["--key", ALIAS, "--endpoint", f"unix:{mill.socket}"], ["--rows-per-part", GROUP]
    given = ["--constant", "purpose=volume", *over, *size, "--out"]
    run("export", "--count", ROWS, "--id-pattern", "container-{:06}", *given, out["exported"])
    given = [folder / "volumes.parquet", "--id-column", "volume", "--context", "tenant,volume", *given]
    run("provision", *given, out["provisioned"])
    run("provision", *given, out["mapped"], "--context-map")
    run("rewrap", out["mapped"], "--key", ALIAS, "--endpoint", mill.endpoint, *size, "--out", out["rewrapped"], **mill.credentials("admin"))
    del out["mapped"]
    for name in ("provisioned", "rewrapped"):
        assert pyarrow.parquet.read_table(out[name]).select(sent.column_names).equals(sent), name
    return out


def run(*command, **variables: str) -> None:
    given = [str(part) for part in (BINARY, *command)]
    ran = subprocess.run(given, capture_output=True, text=True, check=False, env=environment(**variables), stdin=subprocess.DEVNULL, timeout=120)
    assert ran.returncode == 0, f"{given}: {ran.stderr}"


def parts(folder: Path) -> list[str]:
    return [str(part) for part in sorted(folder.glob("*.parquet"))]


def lists(read: pyarrow.Table) -> Columns:
    """The columns of a table in the order of its ids."""
    read = read.sort_by("container_id")
    return {name: read[name].to_pylist() for name in read.column_names}


def by_pyarrow(folder: Path) -> Columns:
    return lists(pyarrow.parquet.read_table(folder))


def by_duckdb(folder: Path) -> Columns:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return lists(connection.sql(f"FROM '{folder}/*.parquet'").to_arrow_table())


def by_polars(folder: Path) -> Columns:
    return lists(polars.read_parquet(f"{folder}/*.parquet").to_arrow())


def by_pandas(folder: Path) -> Columns:
    return lists(pyarrow.Table.from_pandas(pandas.read_parquet(folder, dtype_backend="pyarrow")))


def by_pandas_alone(folder: Path) -> Columns:
    frame = pandas.read_parquet(folder).sort_values("container_id")
    return {name: values(frame[name]) for name in frame.columns}


def values(series: pandas.Series) -> list:
    return [bare(value) for value in series.astype(object).where(series.notna(), None)]


def by_fastparquet(folder: Path) -> Columns:
    """Column by column, since one that cannot be read spoils the others. Rows are in the order of
    the parts, which is that of the ids."""
    file, columns = fastparquet.ParquetFile(parts(folder)), {}
    for name in file.columns:
        try:
            columns[name] = values(file.to_pandas(columns=[name])[name])
        except (NotImplementedError, TypeError):
            columns[name] = UNREAD
    return columns


def by_chdb(folder: Path) -> Columns:
    """ClickHouse has one type for text and bytes, which comes as text."""
    read = chdb.query(f"SELECT * FROM file('{folder}/*.parquet') ORDER BY container_id", "ArrowTable")
    return {name: (read[name].cast(pyarrow.binary()) if name in ("raw", "ciphertext_blob") else read[name]).to_pylist() for name in read.column_names}


def by_hyparquet(folder: Path) -> Columns:
    ran = subprocess.run(["node", CLIENTS / "readers.mjs", *parts(folder)], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    rows = [row for line in ran.stdout.splitlines() for row in json.loads(line, object_hook=from_json)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def from_json(value: dict):
    match value:
        case {"$big": digits}:
            return int(digits)
        case {"$bytes": digits}:
            return bytes.fromhex(digits)
        case {"$date": milliseconds}:
            return in_utc(EPOCH + datetime.timedelta(milliseconds=milliseconds))
    return value


def by_spark(folder: Path) -> Columns:
    """With one Java process for all folders, which ends with this one."""
    return lists(spark().read.parquet(str(folder)).toArrow())


def spark(of_time: str = "true") -> pyspark.sql.SparkSession:
    builder = pyspark.sql.SparkSession.builder.master("local[2]").appName("readers")
    settings = {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.sql.session.timeZone": "UTC", "spark.sql.timeType.enabled": of_time}
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def hold_spark_on_time(folder: Path) -> None:
    try:
        spark("false").read.parquet(str(folder))
    except pyspark.errors.PySparkException as error:
        assert "UNSUPPORTED_TIME_TYPE" in str(error), error
    else:
        raise AssertionError("Spark reads columns of type TIME now; its line says that it does not")


def bare(value):
    """A value of pandas or numpy as Python has it; numpy's null is not a number."""
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, pandas.Timestamp):
        return value.to_pydatetime()
    if hasattr(value, "tolist"):
        return bare(value.tolist())
    if isinstance(value, list):
        return [bare(inner) for inner in value]
    if isinstance(value, dict):
        return {name: bare(inner) for name, inner in value.items()}
    return value


def by_deltalake(folder: Path) -> Columns:
    """As docs/readers.md makes a table of a job's folder, in a copy of it."""
    copy = folder.with_suffix(".delta")
    shutil.copytree(folder, copy)
    deltalake.convert_to_deltalake(str(copy))
    return lists(deltalake.DeltaTable(str(copy)).to_pyarrow_table())


def by_pyiceberg(folder: Path) -> Columns:
    """The parts where they are, in a table of a catalog of their own."""
    home = folder.with_suffix(".iceberg")
    home.mkdir()
    catalog = pyiceberg.catalog.load_catalog("lake", uri=f"sqlite:///{home}/lake.db", warehouse=str(home))
    catalog.create_namespace("storage")
    lake = catalog.create_table("storage.volumes", pyarrow.parquet.read_schema(parts(folder)[0]))
    lake.add_files(parts(folder))
    return lists(lake.scan().to_arrow())


def in_utc(value: datetime.datetime) -> datetime.datetime:
    return value.replace(tzinfo=datetime.UTC)


def naive(value: datetime.datetime) -> datetime.datetime:
    return value.replace(tzinfo=None)


def midnight(value: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(value, datetime.time())


def since_midnight(value: datetime.time) -> int:
    return (datetime.datetime.combine(EPOCH, value) - EPOCH) // datetime.timedelta(microseconds=1)


def milliseconds(value: datetime.datetime) -> datetime.datetime:
    return in_utc(value.replace(microsecond=value.microsecond // 1000 * 1000))


def unread(value) -> None:
    """The column is not read at all."""


@dataclass
class Reader:
    """A reader, and how what it gives differs from what the table has."""

    name: str
    lock: tuple[str, str]
    call: str
    read: Callable[[Path], Columns]
    says: str
    # By column, what the reader makes of a value.
    makes: dict[str, Callable] = field(default_factory=dict)
    # And of a null, where that is not None.
    of_null: dict[str, object] = field(default_factory=dict)
    # Columns that it has in place of others, which are not compared.
    instead: dict[str, list[str]] = field(default_factory=dict)
    # How it refuses a table that has the columns of NOT_IN_LAKES. Then it reads one without them.
    refuses: str = ""


LOCK = "requirements.txt"
READERS = [
    Reader("pyarrow", (LOCK, "pyarrow"), '`pyarrow.parquet.read_table("parts")`', by_pyarrow, "nothing: its values are those that the others are held to"),
    Reader("DuckDB", (LOCK, "duckdb"), "`FROM 'parts/*.parquet'`", by_duckdb, "nothing"),
    Reader("Polars", (LOCK, "polars"), '`polars.read_parquet("parts/*.parquet")`', by_polars, "nothing"),
    Reader("pandas, with types of Arrow", (LOCK, "pandas"), '`pandas.read_parquet("parts", dtype_backend="pyarrow")`', by_pandas, "nothing"),
    Reader(
        "pandas", (LOCK, "pandas"), '`pandas.read_parquet("parts")`', by_pandas_alone,
        "whole numbers with nulls become floats, also in lists and structs: 64 bits lose digits",
        {"bytes": float, "small": float, "unsigned": float},
    ),
    Reader(
        "Apache Spark", (LOCK, "pyspark"), '`spark.read.parquet("parts")`', by_spark,
        "a table with a TIME column is refused unless `spark.sql.timeType.enabled` is true; unsigned 64-bit numbers become decimals",
        {"unsigned": decimal.Decimal},
    ),
    Reader(
        "ClickHouse, chDB", (LOCK, "chdb"), "`FROM file('parts/*.parquet')`", by_chdb,
        "text and bytes are one type, `String`, which chDB hands to Arrow as text: cast `ciphertext_blob` to binary there; a null list or map is empty and a null struct has null members; a TIME is a moment of 1970-01-01, and a timestamp without a zone is in UTC",
        {"time": lambda value: in_utc(midnight(EPOCH.date())).replace(hour=value.hour, minute=value.minute, second=value.second, microsecond=value.microsecond), "local": in_utc},
        {"extents": [], "labels": [], "disks": [], "zone": {"name": None, "rack": None}},
    ),
    Reader(
        "hyparquet", ("package-lock.json", "hyparquet"), "`parquetReadObjects({ file, compressors, utf8: false })`", by_hyparquet,
        "**without `utf8: false` blobs come as damaged text**; times have milliseconds, a TIME is a number, decimals are floats, maps are objects",
        {
            "price": float, "day": lambda value: in_utc(midnight(value)), "time": since_midnight, "made": milliseconds, "local": in_utc, "created_at": milliseconds,
            "labels": dict, "encryption_context": dict,
        },
    ),
    Reader(
        "fastparquet", (LOCK, "fastparquet"), '`ParquetFile(parts).to_pandas(columns=[…])`', by_fastparquet,
        "**`container_id` and `ciphertext_blob` are not read** (`NotImplementedError: Encoding 7`, `6`; [below](#fastparquet)); timestamps lose their zone, a date is a timestamp, a TIME a number, decimals floats, maps dictionaries; lists of structs are `None`, and structs with whole numbers may not be read",
        {
            "container_id": unread, "ciphertext_blob": unread, "price": float, "day": midnight, "time": since_midnight, "made": naive, "created_at": naive,
            "labels": dict, "encryption_context": dict, "disks": lambda value: None,
        },
        instead={"zone": ["zone.name", "zone.rack"]},
    ),
    Reader(
        "Delta Lake, deltalake", (LOCK, "deltalake"), '`convert_to_deltalake("parts")`', by_deltalake,
        "columns of type TIME are refused, and unsigned numbers beyond 2⁶³ − 1",
        refuses="Invalid data type for Delta Lake: Time64",
    ),
    Reader(
        "Iceberg, pyiceberg", (LOCK, "pyiceberg"), "`table.add_files(parts)`", by_pyiceberg,
        "unsigned numbers beyond 2⁶³ − 1 are refused (`struct.error`); a null list of structs is read as an empty one",
        of_null={"disks": []}, refuses="argument out of range",
    ),
]


def same(got, wanted) -> bool:
    """Equal, and of one type: to Python True, 1 and 1.0 are equal. JSON has a float's 1.0 as 1."""
    return got == wanted and isinstance(got, (float, int) if type(wanted) is float else type(wanted))


def compare(reader: Reader, folder: Path, wanted: Columns) -> Columns:
    """Every value that the reader gives, beside what its line makes of the value in the table."""
    got = reader.read(folder)
    names = [name for column in wanted for name in reader.instead.get(column, [column])]
    assert sorted(got) == sorted(names), (reader.name, folder.name, sorted(set(got) ^ set(names)))
    for name in wanted.keys() & got.keys():
        make, of_null = reader.makes.get(name), reader.of_null.get(name)
        if make is unread:
            assert got[name] is UNREAD, f"{reader.name} reads {name} now; its line says that it does not"
            continue
        made = [of_null if value is None else make(value) if make else value for value in wanted[name]]
        differing = [(row, *pair) for row, pair in enumerate(zip(got[name], made, strict=True)) if not same(*pair)]
        assert not differing, (reader.name, folder.name, name, differing[0])
        if make or of_null is not None:
            as_it_is = all(map(same, got[name], wanted[name]))
            assert not as_it_is, f"{reader.name} gives {name} as it is now; its line says that it does not"
    return got


def hold_refusal(reader: Reader, folder: Path) -> None:
    try:
        reader.read(folder)
    except Exception as error:
        assert reader.refuses in str(error), (reader.name, error)
    else:
        raise AssertionError(f"{reader.name} takes {NOT_IN_LAKES} now; its line says that it does not")


def open_some(mill: Daemon, read: Columns, tally: Tally) -> None:
    """Opens blobs picked at random, each with the context that the reader has for its row."""
    consumer = mill.client("consumer", tally)
    for row in random.sample(range(ROWS), OPENED):
        if "encryption_context" in read:
            context = dict(read["encryption_context"][row])
        else:
            # As the footer says: two columns and a constant.
            context = {"purpose": "volume", "tenant": read["tenant"][row], "volume": read["volume"][row]}
        opened = consumer.decrypt(CiphertextBlob=read["ciphertext_blob"][row], EncryptionContext=context)
        assert (opened["KeyId"], opened["KeyMaterialId"]) == (read["key_arn"][row], read["key_material_id"][row])


def by_fastparquet_of_a_copy(mill: Daemon, out: Path, tally: Tally) -> None:
    """As the page says: a copy by DuckDB has the blobs in an encoding that fastparquet knows."""
    copy = out.with_suffix(".copy")
    copy.mkdir()
    duckdb.sql(f"COPY (FROM '{out}/*.parquet') TO '{copy}/all.parquet' (PARQUET_VERSION v1)")
    read, wanted = by_fastparquet(copy), by_pyarrow(copy)
    for name in ("container_id", "key_arn", "key_material_id", "ciphertext_blob"):
        assert read[name] == wanted[name], name
    open_some(mill, read, tally)


def page_table() -> list[str]:
    lines = ["| reader | version | with | what it gives otherwise |", "|---|---|---|---|"]
    return lines + [f"| {reader.name} | {version(*reader.lock)} | {reader.call} | {reader.says} |" for reader in READERS]


def hold_page(write: bool) -> None:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    new = "\n".join([before + BEGIN, *page_table(), END + rest.split(END)[1]])
    if write:
        PAGE.write_text(new)
    assert write or new == text, "docs/readers.md does not say so; tests/clients/readers.py --write writes the table"


def main() -> None:
    hold_page("--write" in sys.argv)
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        out = folders(mill, Path(temporary) / "all", table())
        lake = folders(mill, Path(temporary) / "lake", table().drop(NOT_IN_LAKES))
        for reader in READERS:
            if reader.refuses:
                hold_refusal(reader, out["provisioned"])
            for folder in (lake if reader.refuses else out).values():
                read = compare(reader, folder, by_pyarrow(folder))
                if read["ciphertext_blob"] is not UNREAD:
                    open_some(mill, read, tally)
        hold_spark_on_time(out["provisioned"])
        by_fastparquet_of_a_copy(mill, out["exported"], tally)
    for reader in READERS:
        report(f"{reader.name} as a reader", version(*reader.lock), len(out))
    report("boto3 on what readers read", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
