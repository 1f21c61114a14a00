"""Tables in, tables out: `keymill provision` on Parquet, CSV and NDJSON, through the daemon with a provisioner's rights and on its store.

Every row is compared with the one that went in; DuckDB, Polars and pyarrow read what came out; rows picked at random are opened with their own context.
Killed, interrupted and out of room, a job goes on where it was, and every container has one key.

    python3 tests/clients/provision.py [KILLS]
"""

import contextlib
import datetime
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import duckdb
import polars
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
from daemon import ALIAS, BINARY, BLOB_BYTES, Daemon, Tally, environment, new_key, refused, report, running

ROWS = 200_000
KILLS = 5
OPENED = 200
TENANTS = 50
ADDED = ["key_arn", "key_material_id", "key_spec", "encryption_context", "ciphertext_blob", "created_at"]
SMALL_DISK = "mount -t tmpfs -o size=12m tmpfs \"$0\" && exec \"$@\""
STOPPED = 130
READS = {"DuckDB": 0, "pyarrow": 0, "Polars": 0}


def containers(rows: int, first: int = 0) -> pyarrow.Table:
    """Volumes, each of a tenant, with columns of many types beside."""
    numbers = range(first, first + rows)
    began = datetime.datetime(2024, 5, 6)
    return pyarrow.table({
        "volume": [f"volume-{number:09}" for number in numbers],
        "tenant": pyarrow.array([f"tenant-{number % TENANTS}" for number in numbers]).dictionary_encode(),
        "bytes": pyarrow.array([number * 4096 if number % 10 else None for number in numbers], pyarrow.int64()),
        "price": pyarrow.array([number / 7 for number in numbers], pyarrow.float64()),
        "made": pyarrow.array([began + datetime.timedelta(seconds=number) for number in numbers], pyarrow.timestamp("ms", tz="Europe/Paris")),
        "extents": pyarrow.array([[number] * (number % 3) for number in numbers], pyarrow.list_(pyarrow.int32())),
        "zone": pyarrow.array([{"name": f"z{number % 3}", "rack": number % 9} for number in numbers]),
    })


def command(inputs: list, out: Path, *more: str, key: str = ALIAS, context: str = "tenant,volume") -> list:
    given = [BINARY, "provision", *inputs, "--key", key, "--id-column", "volume", "--context", context, "--constant", "purpose=Zoë's volumes"]
    return [*given, "--context-map", "--out", out, "--json", *more]


def run(arguments: list, **variables: str) -> subprocess.CompletedProcess:
    given = {"env": environment(**variables), "capture_output": True, "text": True, "check": False}
    return subprocess.run(arguments, stdin=subprocess.DEVNULL, timeout=600, **given)


def done(arguments: list, ending: str = "finished", **variables: str) -> dict:
    """Runs a job to its end, and returns what it printed."""
    ran = run(arguments, **variables)
    assert ran.returncode == (STOPPED if ending == "stopped" else 0), f"{arguments}: {ran.stderr}"
    said = json.loads(ran.stdout)
    assert said["ending"] == ending, said
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    if ending == "finished":
        # What a scheduler reads: at least one line at the end.
        last = [event for event in events if event["message"] == "the job is under way"][-1]
        assert last["rows"] == last["count"] == said["rows"] and last["seconds_left"] == 0 and last["bytes"] == said["bytes"], (last, said)
    return said


def fails(status: int, says: str, arguments: list, **variables: str) -> None:
    ran = run(arguments, **variables)
    told = "\n".join(json.loads(line)["message"] for line in ran.stderr.splitlines()) if "--json" in arguments else ran.stderr
    assert ran.returncode == status and says in told, f"{ran.returncode} instead of {status}, without {says!r}: {ran.stderr}"
    assert not ran.stdout, ran.stdout


def read(out: Path) -> pyarrow.Table:
    """The folder in the order of its rows."""
    parts = sorted(out.rglob("*.parquet"), key=lambda part: part.name)
    return pyarrow.concat_tables([pyarrow.parquet.ParquetFile(part).read() for part in parts])


def check(out: Path, sent: pyarrow.Table, arn: str) -> pyarrow.Table:
    """Every row as it went in, and what stands beside it."""
    manifest = json.loads((out / "_manifest.json").read_text())
    assert manifest["complete"] and manifest["rows"] == sent.num_rows, manifest
    named = {part["file"]: part["bytes"] for part in manifest["parts"]}
    assert named == {str(part.relative_to(out)): part.stat().st_size for part in out.rglob("*.parquet")}, named
    left = sorted(path.name for path in out.iterdir() if path.suffix != ".parquet" and path.is_file())
    assert left in (["_manifest.json"], ["_manifest.json", "_rejects.ndjson"]), left
    table = read(out)
    assert table.column_names == [*sent.column_names, "container_id", *ADDED], table.column_names
    for name in sent.column_names:
        assert table[name].combine_chunks().equals(sent[name].combine_chunks()), f"{name}: {table[name].type} {sent[name].type}"
    assert table["container_id"].to_pylist() == sent["volume"].to_pylist()
    rows = table.select(["tenant", "volume", "encryption_context"]).slice(0, 5000).to_pylist()
    for row in rows:
        expected = {"purpose": "Zoë's volumes", "tenant": row["tenant"], "volume": row["volume"]}
        assert dict(row["encryption_context"]) == expected, row
    blobs = table["ciphertext_blob"]
    assert pyarrow.compute.count_distinct(blobs).as_py() == table.num_rows, "a blob came twice"
    assert pyarrow.compute.unique(pyarrow.compute.binary_length(blobs)).to_pylist() == [BLOB_BYTES]
    for name, value in (("key_arn", arn), ("key_spec", "AES_256")):
        assert pyarrow.compute.unique(table[name]).to_pylist() == [value], name
    said = pyarrow.parquet.read_metadata(next(out.rglob("*.parquet"))).metadata
    assert json.loads(said[b"keymill.context_columns"]) == ["tenant", "volume"]
    assert json.loads(said[b"keymill.context_constants"]) == {"purpose": "Zoë's volumes"}
    readers_agree(out, table)
    return table


def readers_agree(out: Path, table: pyarrow.Table) -> None:
    parts = f"{out}/**/*.parquet"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        by_duckdb = connection.execute(
            f"SELECT count(*), count(DISTINCT volume), count(DISTINCT ciphertext_blob), min(encryption_context['tenant']) FROM read_parquet('{parts}')"
        ).fetchone()
    frame = polars.read_parquet(parts)
    by_polars = (
        frame.height, frame["volume"].n_unique(), frame["ciphertext_blob"].n_unique(),
        frame.select(polars.col("encryption_context").map.get("tenant").min()).item(),
    )
    scanned = pyarrow.dataset.dataset(out, format="parquet").to_table()
    contexts = pyarrow.compute.map_lookup(scanned["encryption_context"], "tenant", "first")
    by_pyarrow = (
        scanned.num_rows, pyarrow.compute.count_distinct(scanned["volume"]).as_py(),
        pyarrow.compute.count_distinct(scanned["ciphertext_blob"]).as_py(), pyarrow.compute.min(contexts).as_py(),
    )
    assert by_duckdb == by_polars == by_pyarrow and by_pyarrow[0] == table.num_rows, (by_duckdb, by_polars, by_pyarrow)
    for reader in READS:
        READS[reader] += 1


def open_some(mill: Daemon, table: pyarrow.Table, tally: Tally, count: int = OPENED) -> None:
    """Opens rows picked at random, as the consumer, each with its own context and no other."""
    consumer = mill.client("consumer", tally)
    rows = table.select(["encryption_context", "ciphertext_blob", "key_arn", "key_material_id"])
    rows = rows.take(random.sample(range(table.num_rows), min(count, table.num_rows))).to_pylist()

    def open_row(row: dict) -> bytes:
        blob, context = row["ciphertext_blob"], dict(row["encryption_context"])
        opened = consumer.decrypt(CiphertextBlob=blob, EncryptionContext=context)
        assert (opened["KeyId"], opened["KeyMaterialId"]) == (row["key_arn"], row["key_material_id"]), row
        refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=blob, EncryptionContext=context | {"tenant": "tenant-x"})
        return opened["Plaintext"]

    with ThreadPoolExecutor(4) as threads:
        plaintexts = list(threads.map(open_row, rows))
    assert len(set(plaintexts)) == len(rows), "a data key came twice"


def formats(mill: Daemon, folder: Path, arn: str, tally: Tally) -> None:
    """Files, folders, patterns and standard input of each format, over the socket and signed; on the store where it says so."""
    over = ["--endpoint", f"unix:{mill.socket}"]
    sent = containers(ROWS)
    pyarrow.parquet.write_table(sent, folder / "all.parquet", row_group_size=30_000, compression="zstd")
    done(command([folder / "all.parquet"], folder / "parquet", *over))
    open_some(mill, check(folder / "parquet", sent, arn), tally)
    again = done(command([folder / "all.parquet"], folder / "parquet", *over), "found finished")
    assert again["rows_written"] == 0, again

    # Three files in a folder.
    (folder / "lake" / "deep").mkdir(parents=True)
    cut = 70_000
    for number, name in enumerate(("a", "b", "deep/c")):
        part = sent.slice(number * cut, cut)
        pyarrow.parquet.write_table(part, folder / "lake" / f"{name}.parquet", row_group_size=10_000, compression=("snappy", "gzip", "lz4")[number])
    (folder / "lake" / "_notes.csv").write_text("no,rows\n")
    signed = ["--endpoint", mill.endpoint, "--rows-per-part", "33333"]
    done(command([folder / "lake"], folder / "parts", *signed), **mill.credentials("provisioner"))
    open_some(mill, check(folder / "parts", sent, arn), tally)
    # Parts are whole row groups of one file: of seven, seven and six, three at a time.
    assert len(list((folder / "parts").glob("*.parquet"))) == 8

    text = sent.select(["volume", "tenant", "bytes"]).slice(0, 50_000)
    text = text.set_column(1, "tenant", text["tenant"].cast(pyarrow.string()))
    as_text = text.set_column(2, "bytes", text["bytes"].cast(pyarrow.string()))
    as_text = as_text.append_column("note", pyarrow.array([f'"{number}",\nline' if number % 2 else None for number in range(50_000)]))
    pyarrow.csv.write_csv(as_text, folder / "t1.csv")
    done(command([f"{folder}/t?.csv"], folder / "csv", *over, "--rows-per-part", "20000"))
    open_some(mill, check(folder / "csv", as_text, arn), tally)

    lines = [{"volume": row["volume"], "tenant": row["tenant"], "bytes": row["bytes"], "half": number / 2, "odd": number % 2 == 1} for number, row in enumerate(text.to_pylist())]
    for number, line in enumerate(lines):
        line["mixed"] = number if number % 2 else {"n": [number]}
    (folder / "t.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    wanted = pyarrow.Table.from_pylist([line | {"mixed": json.dumps(line["mixed"])} for line in lines])
    done(command([folder / "t.jsonl"], folder / "ndjson", *over, "--rows-per-part", "20000"))
    open_some(mill, check(folder / "ndjson", wanted, arn), tally)

    # Compressed: members one behind the other, cut within a row; and a part begins in the midst.
    plain = (folder / "t1.csv").read_bytes()
    (folder / "t2.csv.gz").write_bytes(gzip.compress(plain[:999_999]) + gzip.compress(plain[999_999:]))
    done(command([folder / "t2.csv.gz"], folder / "gzip", *over, "--rows-per-part", "7000"))
    check(folder / "gzip", as_text, arn)
    with pyarrow.CompressedOutputStream(folder / "t2.jsonl.zst", "zstd") as out:
        out.write((folder / "t.jsonl").read_bytes())
    done(command([folder / "t2.jsonl.zst"], folder / "zstd", *over, "--rows-per-part", "20000"))
    check(folder / "zstd", wanted, arn)
    # Text as Excel writes it in Western Europe.
    accents = pyarrow.table({"volume": ["größe-1", "größe-2"], "tenant": ["Zoë", "50 €"]})
    (folder / "ansi.csv").write_bytes("volume,tenant\r\ngröße-1,Zoë\r\ngröße-2,50 €\r\n".encode("cp1252"))
    done(command([folder / "ansi.csv"], folder / "ansi", *over, "--encoding", "windows-1252"))
    check(folder / "ansi", accents, arn)
    fails(1, "row 1: its field 1 is not UTF-8 text", command([folder / "ansi.csv"], folder / "not-utf-8", *over))
    fails(1, "these files are NDJSON", command([folder / "t.jsonl"], folder / "no-csv", *over, "--encoding", "latin1"))

    with (folder / "t2.csv.gz").open("rb") as table:
        arguments = command(["-"], folder / "input", *over, "--input-format", "csv")
        ran = subprocess.run(arguments, env=environment(), stdin=table, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert events[-1]["rows"] == events[-1]["count"] == 50_000 and events[-1]["bytes"] > 50_000 * BLOB_BYTES, events
    check(folder / "input", as_text, arn)
    done(command(["-"], folder / "input", *over, "--input-format", "csv"), "found finished")


def names(mill: Daemon, folder: Path, tally: Tally) -> None:
    """Columns whose names have commas, dots, quotes and what else CSV allows, through the daemon and on files that are opened again."""
    over = ["--endpoint", f"unix:{mill.socket}"]
    columns = ["size, GB", "zone.name", 'say "a"', "a=b", "volume"]
    sent = pyarrow.table({name: [f"{name} {number}" for number in range(100)] for name in columns})
    # A nested column beside them, whose leaf has the path that a name with a dot looks like.
    nested = sent.append_column("zone", pyarrow.array([{"name": "another"}] * 100))
    (folder / "names").mkdir()
    pyarrow.csv.write_csv(sent, folder / "names" / "t.csv")
    (folder / "names" / "t.ndjson").write_text("".join(json.dumps(row) + "\n" for row in nested.to_pylist()))
    pyarrow.parquet.write_table(nested, folder / "names" / "t.parquet")
    given = ["--context", '"size, GB",zone.name', "--context", '"say ""a""","a=b"']
    for ending in ("csv", "ndjson", "parquet"):
        out = folder / f"names-{ending}"
        arguments = [BINARY, "provision", folder / "names" / f"t.{ending}", "--key", ALIAS, "--id-column", "volume", *given, "--out", out, "--json", *over]
        done(arguments)
        done(arguments, "found finished")
        footer = pyarrow.parquet.read_metadata(out / "part-00000.parquet").metadata
        assert json.loads(footer[b"keymill.context_columns"]) == columns[:-1], footer
        consumer = ["--endpoint", mill.endpoint, "--json"]
        # By the columns that are given, and by those that the footer names.
        for named in (given, []):
            ran = run([BINARY, "verify", out, *named, *consumer], **mill.credentials("consumer"))
            assert ran.returncode == 0 and json.loads(ran.stdout)["rows"] == 100, ran
        fails(1, "the folder holds a job with context", [argument if argument != given[1] else '"size, GB"' for argument in arguments])
    open_one = read(folder / "names-csv").slice(0, 1).to_pylist()[0]
    opened = mill.client("consumer", tally).decrypt(CiphertextBlob=open_one["ciphertext_blob"], EncryptionContext={name: open_one[name] for name in columns[:-1]})
    assert len(opened["Plaintext"]) == 32


def refusals(mill: Daemon, folder: Path, tally: Tally) -> None:
    """What is wrong with a table is told with file and row, and before any key is made."""
    over = ["--endpoint", f"unix:{mill.socket}"]
    before = mill.metric("keymill_data_keys_total")

    def told(says: str, *lines: str, status: int = 1, more: tuple = (), **changes: str) -> None:
        name = folder / "wrong.csv"
        name.write_text("\n".join(("volume,tenant", *lines)) + "\n")
        fails(status, says, command([name], folder / f"refused-{time.monotonic_ns()}", *over, *more, **changes))

    told(f"{folder}/wrong.csv, row 3: its \"volume\" is that of {folder}/wrong.csv, row 1; such rows can be left out", "a,t", "b,t", "a,u")
    told('row 2: its "volume" is null or empty', "a,t", ",t")
    told('row 1: Context column "tenant" is null.', "a,")
    told("row 2: The encryption context is larger than 8192 bytes", "a,t", "b," + "x" * 8192)
    told("row 2: it has 3 fields, not 2", "a,t", "b,t,c")
    told('there is no column "zone"', "a,t", context="zone")
    told("its header names \"volume\" twice", "a,t", more=(str(duplicate_header(folder)),))
    told("there is no such file", more=(str(folder / "absent.csv"),))
    told("--context and --constant: an encryption context names each pair once", status=64, context="tenant,tenant")
    told("NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found", "a,t", key="alias/none")
    for named, content in (("cut.csv.gz", gzip.compress(b"volume,tenant\n" + random.randbytes(9000).hex().encode())[:-9]), ("plain.csv.zst", b"volume,tenant\na,t\n")):
        (folder / named).write_bytes(content)
        fails(1, f"{folder}/{named} cannot be read as CSV: its ", command([folder / named], folder / f"refused-{named}", *over))
    (folder / "wrong.ndjson").write_text('{"volume":"a","tenant":"t"}\n{"volume":7,"tenant":"t"}\n')
    fails(1, 'row 2: "volume" is not a string', command([folder / "wrong.ndjson"], folder / "n1", *over))
    (folder / "wrong.ndjson").write_text('{"volume":"a","tenant":"t"}\n[1]\n')
    fails(1, "row 2: it is not a JSON object", command([folder / "wrong.ndjson"], folder / "n2", *over))
    numbers = pyarrow.table({"volume": [1, 2], "tenant": ["a", "b"]})
    pyarrow.parquet.write_table(numbers, folder / "wrong.parquet")
    fails(1, 'Column "volume" is of type INT64, and contexts are strings', command([folder / "wrong.parquet"], folder / "n3", *over))
    taken = pyarrow.table({"volume": ["a"], "tenant": ["b"], "key_arn": ["c"]})
    pyarrow.parquet.write_table(taken, folder / "wrong.parquet")
    fails(1, 'there is a column "key_arn" already', command([folder / "wrong.parquet"], folder / "n4", *over))
    (folder / "wrong.parquet").write_bytes(b"PAR1 this is none PAR1")
    fails(1, "wrong.parquet cannot be read as Parquet", command([folder / "wrong.parquet"], folder / "n5", *over))
    (folder / "wide.csv").write_text("volume" * 1_000_000 + ",tenant\na,t\n")
    ran = run(command([folder / "wide.csv"], folder / "n6", *over))
    assert ran.returncode == 1 and len(ran.stderr) < 4096 and 'there is no column \\"volume\\"; it has' in ran.stderr, ran.stderr[:9999]
    assert mill.metric("keymill_data_keys_total") == before, "a key was made for a table that was refused"

    # Tables without rows, or without one that can be used: a part has the columns.
    empty = pyarrow.table({"volume": pyarrow.array([], pyarrow.string()), "tenant": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(empty, folder / "none.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"volume": [None, ""], "tenant": ["t", "t"]}), folder / "unusable.parquet")
    for name, text in (("none.csv", "volume,tenant\n"), ("unusable.csv", "volume,tenant\n,t\n"), ("none.ndjson", ""), ("unusable.ndjson", "[1]\n")):
        (folder / name).write_text(text)
    for name in ("none.parquet", "unusable.parquet", "none.csv", "unusable.csv", "none.ndjson", "unusable.ndjson"):
        out = folder / f"of-{name}"
        for ending in ("finished", "found finished"):
            said = done(command([folder / name], out, *over, "--on-error", "skip"), ending)
            assert said["rows"] == 0, said
        table = read(out)
        assert table.num_rows == 0 and table.column_names == [*empty.column_names, "container_id", *ADDED], table.schema
        done([BINARY, "rewrap", out, "--key", ALIAS, "--out", folder / f"again-{name}", "--json", *over])
        for table in (out, folder / f"again-{name}"):
            for step in (["verify", table, "--id-column", "volume", *over], ["census", table]):
                ran = run([BINARY, *step, "--json"])
                assert ran.returncode == 0 and json.loads(ran.stdout)["rows"] == 0, ran
    assert mill.metric("keymill_data_keys_total") == before

    # Left out, from several files, and listed.
    (folder / "some").mkdir()
    (folder / "some" / "a.csv").write_text("volume,tenant\na,t\n,t\nb,\nc,t\n")
    (folder / "some" / "b.csv").write_text("volume,tenant\nd,t\na,t\ne,t,x\nf,t\n")
    said = done(command([folder / "some"], folder / "skipped", *over, "--on-error", "skip"))
    assert said["rows"] == 4, said
    fails(1, f"{folder}/some/**/*: the folder for parts is inside it", command([f"{folder}/some/**/*"], folder / "some" / "out", *over))
    rejects = [json.loads(line) for line in (folder / "skipped" / "_rejects.ndjson").read_text().splitlines()]
    assert [(Path(one["file"]).name, one["row"]) for one in rejects] == [("a.csv", 2), ("a.csv", 3), ("b.csv", 2), ("b.csv", 3)], rejects
    assert rejects[2]["reason"] == f'its "volume" is that of {folder}/some/a.csv, row 1', rejects
    arn = mill.client("consumer").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
    check(folder / "skipped", pyarrow.table({"volume": ["a", "c", "d", "f"], "tenant": ["t"] * 4}), arn)

    # A row that its caller may not have a key for.
    key, _, alias, _ = new_key(mill, "alias/mine", tally)
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": mill.principal("admin")["arn"]}, "Action": "kms:*", "Resource": "*"},
        {
            "Effect": "Allow", "Principal": {"AWS": mill.principal("provisioner")["arn"]}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
        },
        {
            "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
            "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "nobody"}},
        },
    ]
    mill.client("admin", tally).put_key_policy(KeyId=key, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    rows = "".join(f"v{number},{'nobody' if number == 20_011 else 'me'}\n" for number in range(30_000))
    (folder / "denied.csv").write_text("volume,tenant\n" + rows)
    # A dry call finds a wrong key before the table is looked through, whose second row is bad.
    (folder / "twice.csv").write_text("volume,tenant\na,t\na,t\n")
    says = f"{folder}/twice.csv, row 1: NotFoundException: Alias arn:aws:kms:{mill.facts['region']}:{mill.facts['account']}:alias/nobody is not found; it was tried before all others, and nothing else was done"
    fails(1, says, command([folder / "twice.csv"], folder / "nobody", *over, key="alias/nobody"))
    assert not list((folder / "nobody").glob("part-*"))
    fails(1, f"{folder}/denied.csv, row 20012: AccessDeniedException: User: ", command([folder / "denied.csv"], folder / "denied", *over, key=alias))


def duplicate_header(folder: Path) -> Path:
    path = folder / "header.csv"
    path.write_text("volume,volume\na,t\n")
    return path


def stopped(mill: Daemon, folder: Path) -> None:
    """Parameters, files and folders that do not fit are refused; a finished job needs its files no more."""
    over = ["--endpoint", f"unix:{mill.socket}", "--rows-per-part", "2000", "--workers", "2"]
    table, out = folder / "stop.parquet", folder / "stop"
    sent = containers(60_000)
    pyarrow.parquet.write_table(sent, table, row_group_size=7_000)
    arguments = command([table], out, *over)
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        while not list(out.glob("*.parquet")):
            time.sleep(0.005)
        fails(69, "is in use by another job", arguments)
        job.send_signal(signal.SIGINT)
        said, _ = job.communicate(timeout=60)
    assert job.returncode == STOPPED, job.returncode
    said = json.loads(said)
    assert said["ending"] == "stopped" and 0 < said["rows"] < 60_000, said
    standing = {part.name: part.read_bytes() for part in out.glob("*.parquet")}
    assert not list(out.glob("*.partial")), "something half-written is left"
    for says, change in (
        ("the folder holds a job with context tenant,volume, not tenant;", {"context": "tenant"}),
        ("the folder holds a job with key alias/containers, not alias/mine;", {"key": "alias/mine"}),
    ):
        fails(1, says, command([table], out, *over, **change))
    fails(1, "the folder holds a job with handling of bad rows stop, not skip", [*arguments, "--on-error", "skip"])
    kept = table.stat()
    os.utime(table, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
    fails(1, "stop.parquet has changed since this job began", arguments)
    os.utime(table, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    done(arguments)
    arn = mill.client("consumer").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
    check(out, sent, arn)
    for name, content in standing.items():
        assert (out / name).read_bytes() == content, f"{name} was made again"
    os.utime(table, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
    fails(3, "nothing done: this job has finished, and ", arguments)
    table.unlink()
    done(arguments, "found finished")


def killed(mill: Daemon, folder: Path, arn: str, kills: int) -> None:
    """Kill -9 at random moments, until the job is done: every container has one key, and no part that stood is made again."""
    over = ["--endpoint", f"unix:{mill.socket}", "--rows-per-part", "3000"]
    sent = containers(120_000)
    # Some rows are left out, so that parts and rows do not begin alike.
    twice = pyarrow.concat_tables([sent.slice(0, 50_000), sent.slice(10, 30), sent.slice(50_000)])
    pyarrow.parquet.write_table(twice, folder / "killed.parquet", row_group_size=11_000)
    began = time.monotonic()
    done(command([folder / "killed.parquet"], folder / "whole", *over, "--on-error", "skip"))
    seconds = time.monotonic() - began
    count = 0
    while count < kills:
        out = folder / f"killed-{count}"
        arguments = command([folder / "killed.parquet"], out, *over, "--on-error", "skip")
        standing: dict[str, bytes] = {}
        while count < kills:
            with subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.wait(random.uniform(0, seconds * 0.8))
                job.kill()
            count += 1
            for name, content in standing.items():
                assert (out / name).read_bytes() == content, f"{name} was made again"
            standing = {part.name: part.read_bytes() for part in out.glob("*.parquet")}
            if job.returncode == 0:
                break
        ran = run(arguments)
        assert ran.returncode == 0, ran.stderr
        check(out, sent, arn)
        shutil.rmtree(out)
    print(f"killed {count} times")


def out_of_room(mill: Daemon, folder: Path, arn: str) -> None:
    """A full disk ends a job with what to do; the same command goes on once there is room."""
    sent = containers(120_000)
    pyarrow.parquet.write_table(sent, folder / "room.parquet", row_group_size=10_000)
    disk = Path(tempfile.mkdtemp(prefix="keymill-disk-"))
    ballast, out = disk / "ballast", disk / "out"
    over = ["--endpoint", f"unix:{mill.socket}", "--rows-per-part", "10000"]
    arguments = [str(argument) for argument in command([folder / "room.parquet"], out, *over)]
    script = f"""
        head -c 8m /dev/zero >{ballast}
        status=0; "$@" 2>{folder}/full.txt || status=$?
        echo $status >{folder}/full.status
        ls {out} >{folder}/full.names
        rm {ballast} && mount -o remount,size=64m {disk} && "$@" && cp -r {out} {folder}/room
    """
    try:
        ran = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, disk, "sh", "-ec", script, "sh", *arguments],
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
        )
        assert ran.returncode == 0, ran.stderr
    finally:
        shutil.rmtree(disk, ignore_errors=True)
    said, names = (folder / "full.txt").read_text(), (folder / "full.names").read_text().split()
    assert (folder / "full.status").read_text().strip() == "1" and "No space left on device" in said, said
    assert "the same command resumes the job once this is solved" in said, said
    assert not [name for name in names if name.endswith(".partial")], names
    check(folder / "room", sent, arn)


def on_the_store(mill: Daemon, folder: Path, arn: str, tally: Tally) -> None:
    """Without a daemon, whose lock is in the way while it runs."""
    sent = containers(ROWS)
    beside = command([folder / "all.parquet"], folder / "store", "--dir", mill.state)
    fails(69, "--endpoint unix:", beside)
    assert mill.stop() == 0
    done(beside)
    mill.start()
    open_some(mill, check(folder / "store", sent, arn), tally)
    log = [json.loads(line) for file in (mill.state / "audit").glob("*.jsonl") for line in file.read_bytes().splitlines()]
    parts = [record for record in log if record.get("eventName") == "Provision"]
    assert sum(record["additionalEventData"]["count"] for record in parts) == ROWS, parts


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arn = mill.client("consumer").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
        formats(mill, folder, arn, tally)
        names(mill, folder, tally)
        refusals(mill, folder, tally)
        stopped(mill, folder)
        killed(mill, folder, arn, kills)
        out_of_room(mill, folder, arn)
        on_the_store(mill, folder, arn, tally)
    report("boto3 on provisioned rows", boto3.__version__, tally.calls)
    for reader, version in (("DuckDB", duckdb.__version__), ("pyarrow", pyarrow.__version__), ("Polars", polars.__version__)):
        report(f"{reader} on provisioned folders", version, READS[reader])


if __name__ == "__main__":
    main()
