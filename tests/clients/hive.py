"""Tables in folders that are columns (`tenant=a/…`), as pyarrow, DuckDB and Spark write them: `keymill provision` and `rewrap` keep the folders, and the same readers see every column again.

    python3 tests/clients/hive.py
"""

import json
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
from daemon import ALIAS, BINARY, environment, report, running
from provision import done, fails, run

NULL = "__HIVE_DEFAULT_PARTITION__"
VALUES = ["plain", "a b", "a/b", "100%", "x=y", "größe Ä", "%41", "+p", "q?*:\"#", "007", "2024-01-01", "…\u00a0"]
ROWS = 6000
OURS = ["container_id", "key_arn", "key_material_id", "key_spec", "ciphertext_blob", "created_at"]
READS = {"DuckDB": 0, "pyarrow": 0, "Polars": 0}


def containers(values: list) -> pyarrow.Table:
    numbers = range(ROWS)
    return pyarrow.table({
        "volume": [f"volume-{number:06}" for number in numbers],
        "bytes": pyarrow.array([number * 4096 if number % 10 else None for number in numbers], pyarrow.int64()),
        "tenant": [values[number % len(values)] for number in numbers],
        "zone": [f"z{number // 7 % 3}" for number in numbers],
    })


def spark_name(value: str | None) -> str:
    """As Spark escapes a value: some characters of ASCII, and no others."""
    if not value:
        return NULL
    return "".join(f"%{ord(letter):02X}" if letter in "\"#%'*/:=?\\{[]^\x7f" or ord(letter) < 32 else letter for letter in value)


def by_spark(sent: pyarrow.Table, folder: Path) -> None:
    """The folders that Spark's partitionBy makes."""
    for value in set(sent["tenant"].to_pylist()):
        for zone in set(sent["zone"].to_pylist()):
            chosen = [number for number, row in enumerate(sent.select(["tenant", "zone"]).to_pylist()) if (row["tenant"], row["zone"]) == (value, zone)]
            path = folder / f"tenant={spark_name(value)}" / f"zone={zone}"
            path.mkdir(parents=True)
            pyarrow.parquet.write_table(sent.take(chosen).drop(["tenant", "zone"]), path / "part-00000-6c1e.c000.snappy.parquet", row_group_size=40)
    (folder / "_SUCCESS").write_text("")


def by_pyarrow(sent: pyarrow.Table, folder: Path) -> None:
    pyarrow.parquet.write_to_dataset(sent, folder, partition_cols=["tenant", "zone"], row_group_size=50)


def by_duckdb(sent: pyarrow.Table, folder: Path, kind: str = "parquet") -> None:
    with duckdb.connect() as connection:
        connection.register("sent", sent)
        connection.execute(f"COPY sent TO '{folder}' (FORMAT {kind}, PARTITION_BY (tenant, zone))")


def rows_of(folder: Path) -> dict[str, pyarrow.Table]:
    """The rows in order, by each reader."""
    names = pyarrow.schema([("tenant", pyarrow.string()), ("zone", pyarrow.string())])
    partitioning = pyarrow.dataset.partitioning(names, flavor="hive")
    found = {"pyarrow": pyarrow.dataset.dataset(folder, format="parquet", partitioning=partitioning).to_table()}
    with duckdb.connect() as connection:
        query = f"SELECT * FROM read_parquet('{folder}/*/*/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
        found["DuckDB"] = connection.sql(query).to_arrow_table()
    frame = polars.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True, hive_schema={"tenant": polars.String, "zone": polars.String})
    found["Polars"] = frame.collect().to_arrow()
    return {reader: table.sort_by("volume") for reader, table in found.items()}


def check(out: Path, sent: pyarrow.Table) -> dict[str, dict]:
    """Every row of `sent` as it went in, by every reader; and what stands beside it."""
    manifest = json.loads((out / "_manifest.json").read_text())
    assert manifest["complete"] and manifest["rows"] == sent.num_rows, manifest
    standing = {str(path.relative_to(out)): path.stat().st_size for path in out.rglob("*.parquet")}
    assert {part["file"]: part["bytes"] for part in manifest["parts"]} == standing, standing
    assert manifest["parameters"]["folders"]["columns"] == ["tenant", "zone"], manifest["parameters"]
    sent = sent.sort_by("volume")
    keys = None
    for reader, table in rows_of(out).items():
        assert set(table.column_names) == {*sent.column_names, *OURS}, (reader, table.column_names)
        for name in sent.column_names:
            assert table[name].to_pylist() == sent[name].to_pylist(), (reader, name)
        blobs = dict(zip(table["volume"].to_pylist(), table["ciphertext_blob"].to_pylist(), strict=True))
        assert keys is None or keys == blobs, reader
        keys = blobs
        READS[reader] += 1
    assert len(set(keys.values())) == sent.num_rows, "a blob came twice"
    for part in out.rglob("*.parquet"):
        footer = pyarrow.parquet.ParquetFile(part)
        assert not {"tenant", "zone"} & set(footer.schema_arrow.names), "a column of a folder is in a file"
        assert json.loads(footer.metadata.metadata[b"keymill.folder_columns"]) == ["tenant", "zone"]
    return keys


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root).parent) for path in root.rglob("*") if path.is_file() and path.parent != root}


def printed(arguments: list, status: int = 0, **variables: str) -> dict:
    ran = run([*arguments, "--json"], **variables)
    assert ran.returncode == status, (arguments, ran.returncode, ran.stderr)
    return json.loads(ran.stdout)


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        at = ["--endpoint", f"unix:{mill.socket}"]
        provision = lambda table, out, *more: [BINARY, "provision", table, "--key", ALIAS, "--id-column", "volume", "--context", "tenant,volume", "--json", "--out", out, *at, *more]
        sent = containers(VALUES)
        writers = {"pyarrow": by_pyarrow, "duckdb": by_duckdb, "spark": by_spark}
        for name, write in writers.items():
            write(sent, folder / name)
            done(provision(folder / name, folder / f"{name}-out", "--rows-per-part", "120"))
            keys = check(folder / f"{name}-out", sent)
            assert folders(folder / f"{name}-out") == folders(folder / name), name
            done(provision(folder / name, folder / f"{name}-out", "--rows-per-part", "120"), "found finished")

        # The blobs are bound to the values of the folders, whatever reads them.
        consumer, as_consumer = mill.client("consumer"), mill.credentials("consumer")
        verify = lambda table, *more: printed([BINARY, "verify", table, "--endpoint", mill.endpoint, *more], **as_consumer)
        for row in random.sample(sent.to_pylist(), 30):
            opened = consumer.decrypt(CiphertextBlob=keys[row["volume"]], EncryptionContext={"tenant": row["tenant"], "volume": row["volume"]})
            assert len(opened["Plaintext"]) == 32

        # What a job wrote is a table again: whole, a folder of it, and copied by another writer.
        out = folder / "spark-out"
        assert printed([BINARY, "census", out])["rows"] == ROWS
        assert not verify(out, "--id-column", "volume")["finding_count"]
        one = verify(f"{out}/tenant=plain")
        assert one["rows"] == ROWS / len(VALUES) and not one["finding_count"], one
        copied = folder / "copied"
        with duckdb.connect() as connection:
            source = f"SELECT * FROM read_parquet('{out}/*/*/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
            connection.execute(f"COPY ({source}) TO '{copied}' (FORMAT parquet, PARTITION_BY (zone, tenant))")
        assert not verify(copied, "--context", "tenant,volume")["finding_count"]
        admin = ["--endpoint", mill.endpoint]
        ran = run([BINARY, "rewrap", out, "--key", ALIAS, "--json", "--out", folder / "rewrapped", *admin], **mill.credentials("admin"))
        assert ran.returncode == 0, ran.stderr
        after = check(folder / "rewrapped", sent)
        assert folders(folder / "rewrapped") == folders(out) and not set(after.values()) & set(keys.values())
        assert not verify(folder / "rewrapped", "--id-column", "volume")["finding_count"]
        gone, moved = "column \"tenant\" of its contexts is in the name of the folder that it was written to", folder / "moved.parquet"
        fails(2, gone, [BINARY, "verify", out, "--no-hive", "--json", "--endpoint", mill.endpoint], **as_consumer)
        shutil.copy(next(out.rglob("*.parquet")), moved)
        fails(2, gone, [BINARY, "verify", moved, "--json", "--endpoint", mill.endpoint], **as_consumer)

        # Text, in the same folders; a row that is left out is of its file.
        for kind in ("csv", "json"):
            by_duckdb(sent, folder / kind, kind)
            more = ["--input-format", "ndjson"] if kind == "json" else []
            done(provision(folder / kind, folder / f"{kind}-out", "--rows-per-part", "77", *more))
            table = containers(VALUES)
            if kind == "csv":
                table = table.set_column(1, "bytes", table["bytes"].cast(pyarrow.string()))
            check(folder / f"{kind}-out", table)
            assert not verify(folder / f"{kind}-out")["finding_count"]

        # A null is a null: no context has one, and any other use of the column does.
        nulls = containers(["a", None, "b"])
        by_pyarrow(nulls, folder / "nulls")
        fails(1, "Context column \"tenant\" is null", provision(folder / "nulls", folder / "refused"))
        said = done(provision(folder / "nulls", folder / "some", "--on-error", "skip"))
        rejects = [json.loads(line) for line in (folder / "some" / "_rejects.ndjson").read_text().splitlines()]
        assert said["rows"] == ROWS * 2 // 3 and len(rejects) == ROWS // 3 and all(f"tenant={NULL}/" in reject["file"] for reject in rejects)
        check(folder / "some", nulls.filter(nulls["tenant"].is_valid()))
        by_zone = provision(folder / "nulls", folder / "by-zone")
        by_zone[by_zone.index("tenant,volume")] = "zone,volume"
        done(by_zone)
        check(folder / "by-zone", nulls)

        # Killed and resumed: no part that stands is made again.
        arguments, out = provision(folder / "pyarrow", folder / "killed", "--rows-per-part", "50", "--workers", "2"), folder / "killed"
        standing: dict[Path, bytes] = {}
        for _ in range(4):
            with subprocess.Popen([str(part) for part in arguments], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
                until = time.monotonic() + 30
                while len(list(out.rglob("*.parquet"))) < len(standing) + 5 and time.monotonic() < until and job.poll() is None:
                    time.sleep(0.002)
                job.kill()
            assert all(path.read_bytes() == content for path, content in standing.items()), "a part was made again"
            standing = {path: path.read_bytes() for path in out.rglob("*.parquet")}
        fails(1, "the folder holds a job with columns of folders kept, not left out", [*arguments, "--no-hive"])
        ran = run(arguments)
        assert ran.returncode == 0, ran.stderr
        check(out, sent)
        assert all(path.read_bytes() == content for path, content in standing.items()), "a part was made again"

        # Taken for nothing, refused, and led elsewhere.
        plain = provision(folder / "pyarrow", folder / "plain", "--no-hive")
        plain[plain.index("tenant,volume")] = "volume"
        done(plain)
        assert not list((folder / "plain").rglob("tenant=*"))
        fails(1, "there is no column \"tenant\"", provision(folder / "pyarrow", folder / "none", "--no-hive"))
        both = folder / "both" / "tenant=a"
        both.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"volume": ["x"], "Tenant": ["y"]}), both / "x.parquet")
        fails(1, "column \"Tenant\" is in the file, and in the name of a folder above it", provision(folder / "both", folder / "none"))
        shutil.copytree(folder / "pyarrow" / "tenant=plain", folder / "mixed" / "tenant=plain")
        shutil.copytree(folder / "pyarrow" / "tenant=plain" / "zone=z0", folder / "mixed" / "tenant=x")
        fails(1, "its folders name column \"tenant\", and those of", provision(folder / "mixed", folder / "none"))
        linked = folder / "linked"
        linked.mkdir()
        (linked / "tenant=plain").symlink_to(folder)
        fails(1, f"{linked}/tenant=plain is not part of a job", provision(folder / "pyarrow", linked))
        assert mill.stop() == 0
    for reader, module in (("DuckDB", duckdb), ("pyarrow", pyarrow), ("Polars", polars)):
        report(f"{reader} on folders that are columns", module.__version__, READS[reader])


if __name__ == "__main__":
    main()
