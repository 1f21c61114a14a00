"""Tables of many types and writers go through `keymill provision` and `keymill rewrap`, and their own columns come out as they were.

Schema elements, statistics and the footer's pairs are compared as DuckDB tells them, values as DuckDB and pyarrow read them; with a row left out likewise.

    python3 tests/clients/copies.py
"""

import datetime
import decimal
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet
from daemon import ALIAS, BINARY, environment, report, running

ROWS = 3000
GROUP = 1000
OURS = ["container_id", "key_arn", "key_material_id", "key_spec", "ciphertext_blob", "created_at"]
# What DuckDB tells of each schema element and of each chunk.
ELEMENT = "name, type, type_length, repetition_type, num_children, converted_type, scale, precision, field_id, logical_type"
# The deprecated `min` and `max` beside `min_value` and `max_value` say the same once more, and are
# left out.
CHUNK = """row_group_id, row_group_num_rows, path_in_schema, type, num_values, CASE WHEN stats_min_value IS NULL THEN stats_min END, stats_null_count, stats_distinct_count, stats_min_value,
stats_max_value, compression, list_sort(string_split(encodings, ', ')), total_compressed_size, total_uncompressed_size, bloom_filter_length,
CASE WHEN stats_min_value IS NOT NULL AND type LIKE '%BYTE_ARRAY' THEN [nullif(min_is_exact, false), nullif(max_is_exact, false)] END"""
# The places of least and greatest values in it, and of whether they are exact.
BOUNDS, OLD_BOUND = (8, 9, 15), (5,)


def ids() -> list[str]:
    return [f"volume-{number:06}" for number in range(ROWS)]


def every() -> pyarrow.Table:
    """A column of each type that pyarrow writes."""
    numbers, began = range(ROWS), datetime.datetime(2024, 5, 6)
    of = lambda kind, value: pyarrow.array([value(number) if number % 11 else None for number in numbers], kind)
    days = lambda number: began.date() + datetime.timedelta(days=number - 900_000 // 2)
    return pyarrow.table({
        "volume": ids(),
        "tenant": [f"tenant-{number % 9}" for number in numbers],
        "i8": of(pyarrow.int8(), lambda n: n % 100), "u16": of(pyarrow.uint16(), lambda n: n), "u64": of(pyarrow.uint64(), lambda n: 2**64 - 1 - n),
        "half": of(pyarrow.float16(), lambda n: float(n % 64)), "flag": of(pyarrow.bool_(), lambda n: n % 3 == 0),
        "d32": of(pyarrow.decimal128(7, 2), lambda n: decimal.Decimal(n) / 4), "d256": of(pyarrow.decimal256(60, 5), lambda n: decimal.Decimal(n) / 8),
        "date64": of(pyarrow.date64(), lambda n: began.date()), "date32": of(pyarrow.date32(), lambda n: days(n)),
        "seconds": of(pyarrow.timestamp("s"), lambda n: began), "nanos": of(pyarrow.timestamp("ns", tz="UTC"), lambda n: began.replace(tzinfo=datetime.UTC)),
        "paris": of(pyarrow.timestamp("us", tz="Europe/Paris"), lambda n: began), "t32": of(pyarrow.time32("s"), lambda n: datetime.time(1, 2, n % 60)),
        "t64": of(pyarrow.time64("ns"), lambda n: datetime.time(1, 2, 3, n)), "took": of(pyarrow.duration("ms"), lambda n: datetime.timedelta(seconds=n)),
        "fixed": of(pyarrow.binary(5), lambda n: f"{n:05}".encode()), "large": of(pyarrow.large_string(), lambda n: f"großer Text {n}" * 3),
        "bytes": of(pyarrow.large_binary(), lambda n: bytes([n % 256]) * (n % 7)), "view": of(pyarrow.string_view(), lambda n: f"v{n}"),
        "category": of(pyarrow.string(), lambda n: f"c{n % 5}").dictionary_encode(),
        "list": of(pyarrow.list_(pyarrow.struct({"a": pyarrow.int32(), "b": pyarrow.list_(pyarrow.string())})), lambda n: [{"a": n, "b": ["x"] * (n % 3)}] * (n % 4)),
        "map": of(pyarrow.map_(pyarrow.string(), pyarrow.float64()), lambda n: [("k", n / 3)]),
        "uuid": pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), of(pyarrow.binary(16), lambda n: uuid.UUID(int=n).bytes)),
        "json": pyarrow.ExtensionArray.from_storage(pyarrow.json_(), of(pyarrow.string(), lambda n: json.dumps({"n": n}))),
    })


def by_pyarrow(folder: Path):
    """Codecs, page versions, encodings, checksums, indexes and orders."""
    table = every()
    sorting = [pyarrow.parquet.SortingColumn(0)]
    variants = {
        "snappy": {"write_page_index": True, "sorting_columns": sorting, "write_page_checksum": True},
        "zstd": {"compression": "zstd", "data_page_version": "2.0", "store_schema": False},
        "gzip": {"compression": "gzip", "use_dictionary": False, "write_statistics": False},
        "brotli": {"compression": {name: "snappy" if name in ("volume", "tenant") else "brotli" for name in leaves(table)}},
        "lz4": {"compression": "lz4", "version": "1.0"},
        "plain": {"compression": "none", "use_byte_stream_split": False, "data_page_size": 2000},
        "int96": {"use_deprecated_int96_timestamps": True},
    }
    for name, options in variants.items():
        path = folder / f"pyarrow-{name}.parquet"
        kept = table
        if name == "lz4":
            # Version 1.0 has neither unsigned numbers nor nanoseconds.
            kept = table.drop(["nanos", "u64"])
        pyarrow.parquet.write_table(kept.replace_schema_metadata({"owner": "storage"}), path, row_group_size=GROUP, **options)
        yield path


def leaves(table: pyarrow.Table) -> list[str]:
    """The leaf columns as Parquet names them."""
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.slice(0, 1), sink)
    schema = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(sink.getvalue())).schema
    return [schema.column(at).path for at in range(len(schema))]


def by_duckdb(folder: Path):
    """Types that DuckDB alone writes, a Bloom filter for its dictionaries, keys of its own."""
    path = folder / "duckdb.parquet"
    duckdb.sql("CREATE TYPE mood AS ENUM ('up', 'down')")
    query = f"""SELECT printf('volume-%06d', i) AS volume, 'tenant-' || (i % 9) AS tenant, uuid() AS u, to_months(14) + to_days(i::INT % 5) AS span,
        (CASE WHEN i % 2 = 0 THEN 'up' ELSE 'down' END)::mood AS mood, ('01:02:03+0' || (i % 9))::TIMETZ AS timetz, (i || '.25')::DECIMAL(30, 2) AS price, '{{"a": ' || i || '}}' AS text,
        ('{{"a": ' || i || '}}')::JSON AS doc, i::HUGEINT AS huge, '101'::BIT AS bits, [i, NULL] AS list, {{'a': i, 'b': [i::VARCHAR]}} AS struct, MAP {{'k': i}} AS map,
        TIMESTAMP_NS '2024-01-02 03:04:05.678901234' AS ns, DATE '9999-12-31' AS late, i::UTINYINT % 200 AS small, NULL::INTEGER AS nothing FROM range({ROWS}) t(i)"""
    options = f"FORMAT parquet, ROW_GROUP_SIZE {GROUP}, KV_METADATA {{owner: 'storage', note: 'Größe'}}, PARQUET_VERSION v2"
    duckdb.sql(f"COPY ({query.replace('i::UTINYINT % 200', '(i % 200)::UTINYINT')}) TO '{path}' ({options})")
    yield path


def by_others(folder: Path):
    """Polars, and pandas with an index and whole numbers that may be missing."""
    frame = polars.DataFrame({
        "volume": ids(), "tenant": [f"tenant-{number % 9}" for number in range(ROWS)],
        "category": polars.Series([f"c{number % 5}" for number in range(ROWS)], dtype=polars.Categorical),
        "choice": polars.Series(["a", "b"] * (ROWS // 2), dtype=polars.Enum(["a", "b"])),
        "took": [datetime.timedelta(microseconds=number) for number in range(ROWS)], "at": [datetime.time(3, 4, 5)] * ROWS,
        "price": polars.Series([decimal.Decimal(number) / 4 for number in range(ROWS)], dtype=polars.Decimal(20, 2)),
        "array": polars.Series([[number, 1] for number in range(ROWS)], dtype=polars.Array(polars.Int32, 2)),
        "struct": [{"a": number, "b": [None, "x"]} for number in range(ROWS)],
    })
    path = folder / "polars.parquet"
    frame.write_parquet(path, row_group_size=GROUP, statistics="full")
    yield path
    path = folder / "pandas.parquet"
    whole = pandas.array([2**53 + 1, None, 7] * (ROWS // 3), dtype="Int64")
    pandas.DataFrame({"volume": ids(), "tenant": "tenant-1", "whole": whole}, index=pandas.Index(range(5, ROWS + 5), name="row")).to_parquet(path, row_group_size=GROUP)
    yield path


def run(command: str, table: Path, out: Path | None, *more: str, **variables: str) -> None:
    job = [] if out is None else ["--key", ALIAS, "--out", out]
    given = [BINARY, command, table, *job, *more]
    ran = subprocess.run([str(part) for part in given], capture_output=True, text=True, check=False, env=environment(**variables), stdin=subprocess.DEVNULL, timeout=120)
    assert ran.returncode == 0, f"{given}: {ran.stderr}"


def elements(path: Path) -> list[tuple]:
    """The schema elements but the root."""
    return duckdb.sql(f"SELECT {ELEMENT} FROM parquet_schema('{path}')").fetchall()[1:]


def chunks(path: Path, columns: set[str]) -> list[tuple]:
    rows = duckdb.sql(f"SELECT {CHUNK} FROM parquet_metadata('{path}') ORDER BY row_group_id, column_id").fetchall()
    return [row for row in rows if row[2] in columns]


def without(row: tuple, places: tuple) -> tuple:
    return tuple(None if at in places else value for at, value in enumerate(row))


def pairs(path: Path) -> dict[bytes, bytes]:
    return dict(duckdb.sql(f"SELECT key, value FROM parquet_kv_metadata('{path}')").fetchall())


def same_values(before: Path, after: Path, where: str = "true") -> None:
    """The rows, column by column, as DuckDB and pyarrow read them."""
    names = [row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{before}'").fetchall()]
    types = lambda path: {row[0]: row[1] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()}
    assert types(before).items() <= types(after).items(), (before, types(after))
    columns = ", ".join(f'"{name}"' for name in names)
    differing = duckdb.sql(f"SELECT count(*) FROM (SELECT {columns} FROM '{before}' WHERE {where} EXCEPT ALL SELECT {columns} FROM '{after}')").fetchall()
    assert differing == [(0,)], (before, differing)
    if where == "true":
        sent, got = pyarrow.parquet.read_table(before), pyarrow.parquet.read_table(after)
        assert got.num_rows == sent.num_rows
        for name in sent.column_names:
            assert got.schema.field(name).equals(sent.schema.field(name)), (before, name, got.schema.field(name), sent.schema.field(name))
            assert got[name].combine_chunks().equals(sent[name].combine_chunks()) or stream(got, name) == stream(sent, name), (before, name)
        for name, value in (sent.schema.metadata or {}).items():
            assert got.schema.metadata[name] == value, (before, name)


def stream(table: pyarrow.Table, name: str) -> bytes:
    """A column as Arrow writes it: what is not a number equals nothing, and its bytes do."""
    sink, column = pyarrow.BufferOutputStream(), table.select([name]).combine_chunks().replace_schema_metadata()
    with pyarrow.ipc.new_stream(sink, column.schema) as writer:
        writer.write_table(column)
    return sink.getvalue().to_pybytes()


def same(got: list[tuple], sent: list[tuple], table: Path) -> None:
    """Two lists of rows, whose first difference is shown."""
    differing = [pair for pair in zip(got, sent, strict=True) if pair[0] != pair[1]]
    assert not differing, (table, differing[0])


def same_footer(before: Path, after: Path, ordered: bool = True) -> None:
    """`ordered` is whether the footer says how values are ordered. If not, there are no least and
    greatest values afterwards, and no column index, which has those of pages."""
    own = elements(before)
    same(elements(after)[: len(own)], own, before)
    columns = {row[2] for row in duckdb.sql(f"SELECT {CHUNK} FROM parquet_metadata('{before}')").fetchall()}
    wanted, got = chunks(before, columns), chunks(after, columns)
    if not ordered:
        wanted, got = [without(row, BOUNDS + OLD_BOUND) for row in wanted], [without(row, OLD_BOUND) for row in got]
    same(got, wanted, before)
    said, kept = pairs(before), pairs(after)
    said.pop(b"ARROW:schema", None)
    assert said.items() <= kept.items(), (before, set(said) - set(kept))
    was, now = (pyarrow.parquet.ParquetFile(path).metadata for path in (before, after))
    assert (was.created_by, was.format_version) == (now.created_by, now.format_version)
    for group in range(was.num_row_groups):
        # An order by columns that a part has not is no order.
        assert was.row_group(group).sorting_columns == now.row_group(group).sorting_columns
        for column in range(was.num_columns):
            old, new = was.row_group(group).column(column), now.row_group(group).column(column)
            assert (old.has_column_index and ordered, old.has_offset_index, set(old.encodings)) == (new.has_column_index, new.has_offset_index, set(new.encodings)), (before, old.path_in_schema)


def main() -> None:
    jobs = 0
    with tempfile.TemporaryDirectory() as folder, running() as mill:
        folder = Path(folder)
        at = ["--endpoint", f"unix:{mill.socket}"]
        tables = [*by_pyarrow(folder), *by_duckdb(folder), *by_others(folder)]
        given = ["--id-column", "volume", "--context", "tenant,volume"]
        for table in tables:
            out, again = folder / f"out-{table.stem}", folder / f"again-{table.stem}"
            run("provision", table, out, *given, "--rows-per-part", "3000", *at)
            part = out / "part-00000.parquet"
            assert [path.name for path in sorted(out.glob("*.parquet"))] == [part.name]
            same_footer(table, part)
            same_values(table, part)
            assert duckdb.sql(f"SELECT * FROM '{part}'").columns[-len(OURS):] == OURS
            run("rewrap", out, again, "--rows-per-part", "3000", "--endpoint", mill.endpoint, **mill.credentials("admin"))
            same_footer(table, again / part.name)
            same_values(table, again / part.name)
            # Contexts are found where the footers say that they are.
            run("verify", again, None, "--id-column", "volume", "--endpoint", mill.endpoint, **mill.credentials("admin"))
            names = lambda path: duckdb.sql(f"SELECT * FROM '{path}'").columns
            assert names(again / part.name) == names(part), "a rewrapped table has other columns, or in another order"
            jobs += 3
        # A row that cannot be used is left out of its row group; the others stay what they were.
        for table in tables:
            if "brotli" in table.name:
                continue
            out = folder / f"skip-{table.stem}"
            twice = folder / f"twice-{table.name}"
            duplicate(table, twice)
            run("provision", twice, out, *given, "--on-error", "skip", "--rows-per-part", "3000", *at)
            part = out / "part-00000.parquet"
            own = elements(twice)
            same(elements(part)[: len(own)], own, table)
            same_values(twice, part, "volume IS NOT NULL")
            assert duckdb.sql(f"SELECT count(*) FROM '{part}'").fetchall() == [(ROWS - 3,)]
            jobs += 1
    for name, library in (("pyarrow", pyarrow), ("DuckDB", duckdb), ("Polars", polars), ("pandas", pandas)):
        report(f"{name} on copied tables", library.__version__, jobs)


def duplicate(table: Path, to: Path) -> None:
    """The same table with three rows that have no id, by pyarrow, in row groups of their own size."""
    rows = pyarrow.parquet.read_table(table)
    volumes = [None if number in (1, 1500, 1501) else f"volume-{number:06}" for number in range(ROWS)]
    at = rows.schema.get_field_index("volume")
    rows = rows.set_column(at, pyarrow.field("volume", pyarrow.string()), pyarrow.array(volumes, pyarrow.string()))
    pyarrow.parquet.write_table(rows, to, row_group_size=GROUP, use_dictionary="pyarrow-gzip" not in table.name)


if __name__ == "__main__":
    sys.exit(main())
