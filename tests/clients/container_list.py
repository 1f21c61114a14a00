"""A list of containers: 1,048,576 ids, as many keys, through the running daemon and on its store once it has stopped.

Rows picked at random are opened through boto3 with their own context; DuckDB, pyarrow and polars read the folder and agree.
"""

import json
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import boto3
import duckdb
import polars
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
from daemon import ALIAS, BINARY, BLOB_BYTES, Daemon, Tally, environment, refused, report, running

COUNT = 1 << 20
OPENED = 1_000
# From here to there in a blob of version 1.
NONCE = (24, 48)
GROUP_ROWS = 128 * 1024
CONTEXT = {"tenant": "Zoë", "purpose": "volumes"}
READS = {"DuckDB": 0, "pyarrow": 0, "polars": 0}
COLUMNS = [
    ("container_id", pyarrow.string()),
    ("key_arn", pyarrow.string()),
    ("key_material_id", pyarrow.string()),
    ("key_spec", pyarrow.string()),
    ("encryption_context", pyarrow.map_(pyarrow.string(), pyarrow.string())),
    ("ciphertext_blob", pyarrow.binary()),
    ("created_at", pyarrow.timestamp("us", tz="UTC")),
]
ENCODINGS = {
    "container_id": "DELTA_BYTE_ARRAY",
    "key_arn": "RLE_DICTIONARY",
    "key_material_id": "RLE_DICTIONARY",
    "key_spec": "RLE_DICTIONARY",
    "ciphertext_blob": "DELTA_LENGTH_BYTE_ARRAY",
    "created_at": "DELTA_BINARY_PACKED",
}


def export(source: list[str], out: Path, count: int, *more: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs `keymill export` to its end, well or not, with these environment variables."""
    context = [argument for name, value in CONTEXT.items() for argument in ("--constant", f"{name}={value}")]
    command = [BINARY, "export", "--key", ALIAS, "--count", str(count), "--out", out, *context, *source, *more]
    return subprocess.run(command, env=environment(**variables), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def exported(source: list[str], out: Path, count: int) -> pyarrow.Table:
    done = export(source, out, count)
    assert done.returncode == 0, f"export: {done.stderr}"
    return pyarrow.dataset.dataset(out, format="parquet").to_table()


def type_name(type_: pyarrow.DataType) -> str:
    """A type's text without the names that a map's entries have in a file."""
    return f"map<{type_.key_type}, {type_.item_type}>" if pyarrow.types.is_map(type_) else str(type_)


def check_schema(out: Path) -> None:
    """Names, types, no nulls, and how each column is stored."""
    for part in sorted(out.glob("*.parquet")):
        stored = pyarrow.parquet.ParquetFile(part)
        said = [(field.name, type_name(field.type), field.nullable) for field in stored.schema_arrow]
        assert said == [(name, type_name(type_), False) for name, type_ in COLUMNS], said
        for number in range(stored.metadata.num_row_groups):
            group = stored.metadata.row_group(number)
            assert group.num_rows <= GROUP_ROWS, group
            for column in (group.column(at) for at in range(group.num_columns)):
                name = column.path_in_schema.split(".")[0]
                assert ENCODINGS.get(name, "RLE_DICTIONARY") in column.encodings, column
                assert column.compression == "UNCOMPRESSED", column
                if name == "ciphertext_blob":
                    assert not column.has_dictionary_page and not column.is_stats_set, column


def check_rows(mill: Daemon, table: pyarrow.Table, count: int) -> None:
    """Every container once, every blob once, and what is the same in every row."""
    expected = pyarrow.array([f"container-{number:012}" for number in range(count)])
    assert table["container_id"].sort().combine_chunks().equals(expected), "the container ids are not those asked for"
    blobs = table["ciphertext_blob"]
    assert pyarrow.compute.count_distinct(blobs).as_py() == count, "a blob came twice"
    nonces = pyarrow.compute.binary_slice(blobs, NONCE[0], NONCE[1])
    assert pyarrow.compute.count_distinct(nonces).as_py() == count, "a nonce came twice"
    assert pyarrow.compute.unique(pyarrow.compute.binary_length(blobs)).to_pylist() == [BLOB_BYTES]
    arn = mill.client("consumer").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
    for column, value in (("key_arn", arn), ("key_spec", "AES_256")):
        assert pyarrow.compute.unique(table[column]).to_pylist() == [value], column
    contexts = {tuple(sorted(row)) for row in table["encryption_context"].slice(0, 1000).to_pylist()}
    assert contexts == {tuple(sorted(CONTEXT.items()))}, contexts


def open_some(mill: Daemon, table: pyarrow.Table, tally: Tally) -> None:
    """Opens rows picked at random, as the consumer, each with its own context."""
    consumer = mill.client("consumer", tally)
    rows = table.take(random.sample(range(table.num_rows), OPENED)).to_pylist()

    def open_row(row: dict) -> bytes:
        opened = consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=dict(row["encryption_context"]))
        assert (opened["KeyId"], opened["KeyMaterialId"]) == (row["key_arn"], row["key_material_id"]), row
        return opened["Plaintext"]

    with ThreadPoolExecutor(4) as threads:
        plaintexts = list(threads.map(open_row, rows))
    assert len(set(plaintexts)) == OPENED and {len(plaintext) for plaintext in plaintexts} == {32}
    refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=rows[0]["ciphertext_blob"])


def summaries(out: Path) -> dict[str, tuple]:
    """What each reader makes of the folder."""
    parts, counts = f"{out}/*.parquet", "count(*), count(DISTINCT container_id), count(DISTINCT ciphertext_blob)"
    rest = "min(container_id), max(container_id), min(epoch_us(created_at)), max(epoch_us(created_at))"
    context = "min(encryption_context['tenant']), max(encryption_context['purpose'])"
    with duckdb.connect() as connection:
        by_duckdb = connection.execute(f"SELECT {counts}, {rest}, {context} FROM read_parquet('{parts}')").fetchone()
    table = pyarrow.dataset.dataset(out, format="parquet").to_table()
    ids, created = table["container_id"], table["created_at"].cast(pyarrow.int64())
    entries = pyarrow.compute.map_lookup
    by_pyarrow = (
        table.num_rows,
        pyarrow.compute.count_distinct(ids).as_py(),
        pyarrow.compute.count_distinct(table["ciphertext_blob"]).as_py(),
        *(bound.as_py() for bound in pyarrow.compute.min_max(ids).values()),
        *(bound.as_py() for bound in pyarrow.compute.min_max(created).values()),
        pyarrow.compute.min(entries(table["encryption_context"], "tenant", "first")).as_py(),
        pyarrow.compute.max(entries(table["encryption_context"], "purpose", "first")).as_py(),
    )
    frame = polars.read_parquet(parts)

    by_polars = frame.select(
        polars.len(),
        polars.col("container_id").n_unique().alias("ids"),
        polars.col("ciphertext_blob").n_unique().alias("blobs"),
        polars.col("container_id").min().alias("first"),
        polars.col("container_id").max().alias("last"),
        polars.col("created_at").dt.timestamp("us").min().alias("earliest"),
        polars.col("created_at").dt.timestamp("us").max().alias("latest"),
        polars.col("encryption_context").map.get("tenant").min().alias("tenant"),
        polars.col("encryption_context").map.get("purpose").max().alias("purpose"),
    ).row(0)
    for reader in READS:
        READS[reader] += 1
    return {"DuckDB": by_duckdb, "pyarrow": by_pyarrow, "polars": by_polars}


def check_readers(out: Path, count: int) -> None:
    said = summaries(out)
    assert len(set(said.values())) == 1, said
    rows, ids, blobs, first, last, earliest, latest, tenant, purpose = said["pyarrow"]
    assert (rows, ids, blobs) == (count, count, count), said
    assert (first, last) == ("container-000000000000", f"container-{count - 1:012}"), said
    assert (tenant, purpose) == (CONTEXT["tenant"], CONTEXT["purpose"]), said
    assert earliest <= latest and abs(latest / 1e6 - datetime.now().timestamp()) < 3600, said


def check_manifest(out: Path, count: int) -> None:
    manifest = json.loads((out / "_manifest.json").read_text())
    assert manifest["complete"] and manifest["rows"] == count, manifest
    named = {part["file"]: part["bytes"] for part in manifest["parts"]}
    assert named == {part.name: part.stat().st_size for part in out.glob("*.parquet")}, named


def check(mill: Daemon, out: Path, table: pyarrow.Table, count: int, tally: Tally) -> None:
    check_schema(out)
    check_manifest(out, count)
    check_rows(mill, table, count)
    check_readers(out, count)
    open_some(mill, table, tally)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        through, beside = Path(temporary) / "through", Path(temporary) / "beside"
        first = exported(["--endpoint", f"unix:{mill.socket}"], through, count)
        check(mill, through, first, count, tally)
        held = export(["--dir", str(mill.state)], beside, count)
        assert held.returncode != 0 and "--endpoint" in held.stderr, f"the store of a running daemon was opened: {held.stderr}"
        assert mill.stop() == 0
        second = exported(["--dir", str(mill.state)], beside, count)
        mill.start()
        check(mill, beside, second, count, tally)
        both = pyarrow.chunked_array(first["ciphertext_blob"].chunks + second["ciphertext_blob"].chunks)
        assert pyarrow.compute.count_distinct(both).as_py() == 2 * count, "two exports have a blob in common"
        again = export(["--dir", str(mill.state)], beside, count)
        assert again.returncode != 0 or "already" in again.stdout + again.stderr, "a finished export was made again"
    report("boto3 on exported rows", boto3.__version__, tally.calls)
    for reader, version in (("DuckDB", duckdb.__version__), ("pyarrow", pyarrow.__version__), ("polars", polars.__version__)):
        report(f"{reader} on exported folders", version, READS[reader])


if __name__ == "__main__":
    main()
