"""Parquet files of others go through `keymill provision` and `keymill rewrap`, and come out as they
were: those that packages ship, and those of writers that copies.py does not have.

Each gets a column of ids behind its own, without a change to a byte of its pages (added_column.py).
Then schema elements, statistics, the footer's pairs and every value of every column are compared
with those of the file as it was. With folders, every Parquet file below them is tried instead, and
those that are refused are listed.

    python3 tests/clients/public_files.py [FOLDER...]
"""

import datetime
import decimal
import subprocess
import sys
import tempfile
from pathlib import Path

import chdb
import deltalake
import duckdb
import fastparquet
import pandas
import pyarrow
import pyarrow.parquet
import pyiceberg.catalog
import pyspark.sql
from added_column import ORDERS, first_groups, footer, with_ids
from client_table import version
from copies import same_footer, same_values
from daemon import ALIAS, BINARY, Daemon, environment, report, running

CLIENTS = Path(__file__).resolve().parent
ROWS = 2500
GROUP = 1000
ID = "id of the container"
# More than any of the files has: each gives one part.
ROWS_PER_PART = 10_000_000
# A larger one is not rewrapped as well, since that copies the same columns in the same way.
REWRAPPED_ROWS_MAX = 100_000


def shipped(folder: Path):
    """What packages ship. Of three million flights, those in the first row group."""
    for file in sorted((Path(pyarrow.__file__).parent / "tests" / "data" / "parquet").glob("*.parquet")):
        yield "pyarrow's files", file
    flights = folder / "flights.parquet"
    first_groups(CLIENTS / "node_modules" / "vega-datasets" / "data" / "flights-3m.parquet", flights, 1)
    yield "vega-datasets", flights


def table() -> pyarrow.Table:
    """What every library below can write."""
    began = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)
    of = lambda kind, value: pyarrow.array([value(row) if row % 11 else None for row in range(ROWS)], kind)
    return pyarrow.table({
        "tenant": [f"tenant-{row % 9}" for row in range(ROWS)],
        "bytes": of(pyarrow.int64(), lambda row: 2**62 + row),
        "ratio": of(pyarrow.float64(), lambda row: row / 7),
        "flag": of(pyarrow.bool_(), lambda row: row % 3 == 0),
        "price": of(pyarrow.decimal128(20, 4), lambda row: decimal.Decimal(row) / 4),
        "day": of(pyarrow.date32(), lambda row: began.date()),
        "made": of(pyarrow.timestamp("us", tz="UTC"), lambda row: began.replace(tzinfo=datetime.UTC) + datetime.timedelta(days=row)),
        "note": of(pyarrow.string(), lambda row: f"größe {row}"),
        "raw": of(pyarrow.binary(), lambda row: bytes([row % 256, 0xFF]) * (row % 7)),
        "zone": of(pyarrow.struct({"name": pyarrow.string(), "rack": pyarrow.int32()}), lambda row: {"name": f"z{row % 3}", "rack": row % 9}),
        "labels": of(pyarrow.map_(pyarrow.string(), pyarrow.string()), lambda row: [("a", f"{row}"), ("b", None)][: row % 3]),
        "disks": of(pyarrow.list_(pyarrow.struct({"a": pyarrow.int32(), "b": pyarrow.list_(pyarrow.string())})), lambda row: [{"a": row, "b": ["x"] * (row % 3)}] * (row % 4)),
    })


def written(folder: Path):
    """What libraries write of it, or of the types that they alone have."""
    sent = table()
    path = folder / "duckdb.parquet"
    # Parquet has no struct without members, and pyarrow does not read a null ARRAY as DuckDB 2.0
    # writes it (its issue 24731).
    without = ["empty_struct", *(row[0] for row in duckdb.sql("DESCRIBE FROM test_all_types()").fetchall() if "fixed" in row[0])]
    duckdb.sql(f"COPY (SELECT * EXCLUDE ({', '.join(without)}) FROM test_all_types()) TO '{path}'")
    yield "DuckDB's types", path
    for codec in ("zstd", "uncompressed"):
        path = folder / f"clickhouse-{codec.lower()}.parquet"
        chdb.query(f"""SELECT number, toString(number % 9) AS tenant, toLowCardinality(toString(number % 5)) AS category, toUInt8(number) AS small, toDecimal128(number, 4) AS price, toDateTime64(number, 6, 'UTC') AS made,
            toDate(number) AS day, toUUID('00000000-0000-4000-8000-000000000001') AS id, toIPv6('::1') AS address, [number, 1] AS list, map('a', number) AS labels, tuple(number, 'x')::Tuple(a UInt64, b String) AS pair, toFixedString('abc', 3) AS fixed,
            if(number % 11 = 0, NULL, toInt256(number)) AS huge, if(number % 11 = 0, NULL, number / 7) AS ratio FROM numbers({ROWS})
            INTO OUTFILE '{path}' FORMAT Parquet SETTINGS output_format_parquet_row_group_size = {GROUP}, output_format_parquet_compression_method = '{codec if codec == 'zstd' else 'none'}'""")
        yield "ClickHouse's writer", path
    frame = sent.select(["tenant", "bytes", "ratio", "flag", "note", "raw"]).to_pandas()
    frame["when"] = pandas.Timestamp("2024-05-06")
    for name, options in {"flat": {}, "int96": {"times": "int96", "compression": "GZIP"}}.items():
        path = folder / f"fastparquet-{name}.parquet"
        fastparquet.write(str(path), frame, row_group_offsets=GROUP, **options)
        yield "fastparquet's writer", path
    deltalake.write_deltalake(str(folder / "delta"), sent)
    yield "deltalake's writer", next((folder / "delta").glob("*.parquet"))
    home = folder / "iceberg"
    home.mkdir()
    catalog = pyiceberg.catalog.load_catalog("lake", uri=f"sqlite:///{home}/lake.db", warehouse=str(home))
    catalog.create_namespace("storage")
    catalog.create_table("storage.volumes", sent.schema).append(sent)
    yield "pyiceberg's writer", next(home.rglob("*.parquet"))
    path = folder / "hyparquet.parquet"
    subprocess.run(["node", CLIENTS / "written.mjs", path], check=True, timeout=60)
    yield "hyparquet-writer", path
    yield from by_spark(folder, sent)


def by_spark(folder: Path, sent: pyarrow.Table):
    """As it writes by default, and as it wrote before: INT96, and the names that lists had."""
    session = pyspark.sql.SparkSession.builder.master("local[1]").appName("writer")
    for name, value in {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.sql.session.timeZone": "UTC"}.items():
        session = session.config(name, value)
    session = session.getOrCreate()
    frame = session.createDataFrame(sent).coalesce(1)
    for name, options in {"now": {}, "legacy": {"spark.sql.parquet.writeLegacyFormat": "true", "spark.sql.parquet.outputTimestampType": "INT96"}}.items():
        for option, value in options.items():
            session.conf.set(option, value)
        frame.write.parquet(str(folder / f"spark-{name}"))
        yield "Apache Spark's writer", next((folder / f"spark-{name}").glob("*.parquet"))


def run(*command, **variables: str) -> str | None:
    """What the command has said if it has failed."""
    given = [str(part) for part in (BINARY, *command)]
    ran = subprocess.run(given, capture_output=True, text=True, check=False, env=environment(**variables), stdin=subprocess.DEVNULL, timeout=300)
    assert "panicked" not in ran.stderr, ran.stderr
    return ran.stderr.strip().splitlines()[-1] if ran.returncode else None


def round_trip(mill: Daemon, before: Path, folder: Path) -> str | None:
    """Provisions and rewraps a file, and compares it; or says with which words it was refused."""
    named = folder / f"{before.stem}-with-ids.parquet"
    with_ids(before, named, ID)
    ordered = ORDERS in footer(before.read_bytes())[1]
    out, again = folder / "out", folder / "again"
    over = ["--key", ALIAS, "--rows-per-part", ROWS_PER_PART, "--endpoint"]
    refused = run("provision", named, *over, f"unix:{mill.socket}", "--id-column", ID, "--context", f'"{ID}"', "--out", out)
    if refused is None:
        # A table without a row has no part.
        parts = [*out.glob("*.parquet")]
        if parts and sum(pyarrow.parquet.read_metadata(part).num_rows for part in parts) <= REWRAPPED_ROWS_MAX:
            assert run("rewrap", out, *over, mill.endpoint, "--out", again, **mill.credentials("admin")) is None, before
            parts += again.glob("*.parquet")
        for part in parts:
            same_footer(before, part, ordered)
            same_values(before, part)
    for path in {named, *out.glob("*"), *again.glob("*")}:
        path.unlink()
    return refused


def main() -> None:
    tried: dict[str, int] = {}
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for who, file in (*shipped(folder), *written(folder)):
            (folder / "job").mkdir(exist_ok=True)
            refused = round_trip(mill, file, folder / "job")
            assert refused is None, (who, file, refused)
            tried[who] = tried.get(who, 0) + 1
    locks = {"vega-datasets": ("package-lock.json", "vega-datasets"), "hyparquet-writer": ("package-lock.json", "hyparquet-writer"), "ClickHouse's writer": ("requirements.txt", "chdb")}
    for who, count in tried.items():
        package = {"Apache": "pyspark", "DuckDB's": "duckdb"}.get(who.split()[0], who.split("'")[0])
        report(who, version(*locks.get(who, ("requirements.txt", package))), count)


def unread(file: Path) -> str:
    """Which of the two that compare cannot read it."""
    readers = {"DuckDB": lambda: duckdb.sql(f"FROM '{file}'").to_arrow_table(), "pyarrow": lambda: pyarrow.parquet.read_table(file)}
    failing = []
    for name, read in readers.items():
        try:
            read()
        except Exception as error:
            failing.append(f"{name} does not read ({str(error)[:80]})")
    return ", ".join(failing)


def of_folders(folders: list[str]) -> None:
    """Every file below the folders: how many are equal, and what was refused, or differs."""
    files = sorted(path for folder in folders for path in Path(folder).rglob("*") if path.suffix in (".parquet", ".parq"))
    equal = 0
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        for number, file in enumerate(files):
            job = Path(temporary) / str(number)
            job.mkdir()
            try:
                refused = round_trip(mill, file, job)
            except Exception as error:
                said = unread(file)
                print(f"{said} {file}" if said else f"NOT EQUAL {file}: {type(error).__name__}: {str(error)[:600]}")
                continue
            equal += refused is None
            if refused is not None:
                print(f"refused {file}: {refused}")
    print(f"{len(files)} files, {equal} equal")


if __name__ == "__main__":
    sys.exit(of_folders(sys.argv[1:]) if len(sys.argv) > 1 else main())
