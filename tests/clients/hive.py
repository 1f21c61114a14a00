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


def kept_in_files(folder: Path, provision, verify) -> None:
    """Folders as Polars writes them, and DuckDB where it is asked to: their columns are in the files, too, text and number."""
    # Names that Polars and DuckDB write alike.
    sent = containers(["plain", "a b", "a/b", "007"]).append_column("day", pyarrow.array([number % 3 for number in range(ROWS)], pyarrow.int64()))
    polars.from_arrow(sent).write_parquet(folder / "by-polars", partition_by=["tenant", "day"], mkdir=True)
    with duckdb.connect() as connection:
        connection.register("sent", sent)
        connection.execute(f"COPY sent TO '{folder}/by-duckdb' (FORMAT parquet, PARTITION_BY (tenant, day), WRITE_PARTITION_COLUMNS true)")
    wanted = sent.sort_by("volume").to_pylist()
    for table in (folder / "by-polars", folder / "by-duckdb"):
        arguments = provision(table, table.with_suffix(".out"))
        arguments[arguments.index("tenant,volume")] = "tenant,day,volume"
        done(arguments)
        # With hive_partitioning=True, Polars 2.1 does not read some of its own folders.
        read = polars.read_parquet(f"{table}.out/**/*.parquet", hive_partitioning=False).sort("volume")
        assert read.select(sent.column_names).to_dicts() == wanted, table
        with duckdb.connect() as connection:
            query = f"SELECT volume, bytes, tenant, zone, day FROM read_parquet('{table}.out/*/*/*.parquet', hive_partitioning = true) ORDER BY volume"
            assert connection.sql(query).to_arrow_table().to_pylist() == wanted, table
        for part in table.with_suffix(".out").rglob("*.parquet"):
            assert {"tenant", "day"} <= set(pyarrow.parquet.read_schema(part).names), part
        found = verify(table.with_suffix(".out"), "--id-column", "volume")
        assert found["rows"] == ROWS and not found["finding_count"], found
        READS["Polars"] += 1

    # One row is of another folder.
    one = next((folder / "by-polars" / "tenant=plain").rglob("*.parquet"))
    rows = pyarrow.parquet.read_table(one)
    days = rows["day"].to_pylist()
    days[4] = 9
    pyarrow.parquet.write_table(rows.set_column(rows.column_names.index("day"), "day", pyarrow.array(days)), one)
    says = f'{one}, row 5: its column "day" is not "{days[0]}", as the name of its folder says'
    fails(1, says, provision(folder / "by-polars", folder / "other-day"))
    assert not list((folder / "other-day").rglob("*.parquet"))
    done(provision(folder / "by-polars", folder / "left-out", "--on-error", "skip"))
    rejects = [json.loads(line) for line in (folder / "left-out" / "_rejects.ndjson").read_text().splitlines()]
    assert [(reject["file"], reject["row"]) for reject in rejects] == [(str(one), 5)], rejects
    # So it is in a table with blobs.
    part = next((folder / "by-polars.out" / "tenant=plain").rglob("*.parquet"))
    rows = pyarrow.parquet.read_table(part)
    days = rows["day"].to_pylist()
    days[4] = 9
    rows = rows.set_column(rows.column_names.index("day"), "day", pyarrow.array(days)).replace_schema_metadata(rows.schema.metadata)
    pyarrow.parquet.write_table(rows, part)
    found = printed([BINARY, "census", part], 1)
    assert found["finding_count"] == 1 and found["findings"][0].startswith(f'{part}, row 5: its column "day"'), found


def from_anywhere(folder: Path, provision, verify) -> None:
    """A table has the columns of its folders from wherever it is named; its parts are not put into one that they are below."""
    home = folder / "lake" / "env=prod"
    home.mkdir(parents=True)
    (home / "t.csv").write_text("volume,tenant\nx,a\ny,b\n")
    for number, (table, out) in enumerate([("t.csv", "out0"), (home / "t.csv", home / "out1"), ("../env=prod/t.csv", folder / "lake" / "out2")]):
        arguments = provision(table, out)
        arguments[arguments.index("tenant,volume")] = "env,tenant,volume"
        ran = subprocess.run([str(part) for part in arguments], cwd=home, env=environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
        assert ran.returncode == 0, ran.stderr
        whole = home / out
        inside = "env=prod/part-00000.parquet" if number == 2 else "part-00000.parquet"
        assert [str(path.relative_to(whole)) for path in whole.rglob("*.parquet")] == [inside], list(whole.rglob("*"))
        found = verify(whole)
        assert found["rows"] == 2 and not found["finding_count"], found
    fails(1, 'take the name of its folder for column "env", which the table has; write to another folder', provision(home / "t.csv", folder / "env=test" / "out"))

    # A folder that is named as a column that is added is found before the table is looked through,
    # whose second row is bad.
    (folder / "ours" / "Key_ARN=1").mkdir(parents=True)
    (folder / "ours" / "Key_ARN=1" / "t.csv").write_text("volume,tenant\nx,a\nx,b\n")
    fails(1, 'there is a column "Key_ARN" already, which readers that ignore case take for "key_arn"', provision(folder / "ours", folder / "none"))
    uri = f"file://{home}/t.csv"
    arguments = provision(uri, folder / "by-uri")
    done(arguments)


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
        fails(1, "column \"Tenant\" is in the file, in other letters, and in the name of a folder above it", provision(folder / "both", folder / "none"))
        kept_in_files(folder, provision, verify)
        from_anywhere(folder, provision, verify)
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
