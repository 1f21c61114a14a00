"""The Python package: its wheel in an environment of its own, called with what pyarrow, pandas, Polars and DuckDB have in memory, over the socket and signed."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import boto3
import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
import python_wheel
from daemon import ALIAS, BLOB_BYTES, Daemon, Tally, new_key, report, running

ROWS = 30_000
ADDED = ["key_arn", "key_material_id", "key_spec", "encryption_context", "ciphertext_blob", "created_at"]


def opens(mill: Daemon, table: pyarrow.Table, tally: Tally, bytes_: int = 32) -> None:
    consumer = mill.client("consumer", tally)
    rows = table.select(["ciphertext_blob", "encryption_context", "key_arn", "key_material_id"]).take(list(range(0, table.num_rows, max(1, table.num_rows // 40))))
    for row in rows.to_pylist():
        opened = consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=dict(row["encryption_context"]))
        assert (opened["KeyId"], opened["KeyMaterialId"]) == (row["key_arn"], row["key_material_id"])
        assert len(opened["Plaintext"]) == bytes_


def check(mill: Daemon, sent: pyarrow.Table, got: pyarrow.Table, tally: Tally) -> None:
    assert got.column_names == [*sent.column_names, *ADDED], got.column_names
    for name in sent.column_names:
        assert got[name].to_pylist() == sent[name].to_pylist(), name
    for row in got.select(["volume", "tenant", "encryption_context"]).to_pylist():
        assert row["encryption_context"] == [("purpose", "volume"), ("tenant", row["tenant"]), ("volume", row["volume"])], row
    blobs = got["ciphertext_blob"].to_pylist()
    assert len(set(blobs)) == sent.num_rows and {len(blob) for blob in blobs} == {BLOB_BYTES}
    opens(mill, got, tally)


def kinds(mill: Daemon, keymill, tally: Tally) -> int:
    sent = pyarrow.table({
        "volume": [f"volume-{row}" for row in range(ROWS)],
        "tenant": pyarrow.array([f"tenant-{row % 7}" for row in range(ROWS)]).dictionary_encode(),
        "bytes": pyarrow.array([row if row % 5 else None for row in range(ROWS)], pyarrow.int64()),
    })
    asked = {"key": ALIAS, "context": ["tenant", "volume"], "constants": {"purpose": "volume"}, "endpoint": f"unix:{mill.socket}"}
    check(mill, sent, keymill.bind(sent, id_column="volume", **asked), tally)
    part = sent.slice(0, 100).combine_chunks()
    plain = part.set_column(1, "tenant", part["tenant"].cast(pyarrow.string()))
    check(mill, part, keymill.bind(part.to_batches()[0], **asked), tally)
    check(mill, part, keymill.bind(part.to_reader(), **asked), tally)
    check(mill, plain, keymill.bind(pandas.DataFrame({name: plain[name].to_pandas() for name in plain.column_names}).assign(bytes=range(100)), **asked).set_column(2, "bytes", plain["bytes"]), tally)
    check(mill, part, keymill.bind(polars.from_arrow(part), **asked), tally)
    with duckdb.connect() as connection:
        relation = connection.from_arrow(plain)
        check(mill, plain, keymill.bind(relation, **asked), tally)
        provisioned = keymill.bind(part, **asked)
        assert connection.sql("SELECT count(DISTINCT ciphertext_blob) FROM provisioned").fetchall() == [(100,)]
    assert polars.from_arrow(provisioned).height == 100 and provisioned.to_pandas().shape == (100, 9)
    partitioned(keymill.bind(sent, **asked))
    none = keymill.bind(sent.slice(0, 0), **asked)
    assert none.num_rows == 0 and none.column_names == [*sent.column_names, *ADDED]
    # Contexts so long that a call holds few rows, and another length; a client that is kept.
    long = pyarrow.table({"tenant": ["é" * 2000 + str(row) for row in range(1000)]})
    with keymill.Client(f"unix:{mill.socket}") as client:
        got = keymill.bind(long, key=ALIAS, context=["tenant"], number_of_bytes=16, client=client)
        assert got["key_spec"].to_pylist() == ["AES_128"] * 1000
        opens(mill, got, tally, 16)
        keymill.bind(part, **(asked | {"client": client, "endpoint": None}))
    # Signed, with what botocore finds in the environment.
    os.environ |= mill.credentials("provisioner")
    signed = asked | {"endpoint": mill.endpoint, "constants": {"purpose": "volume"}}
    check(mill, sent, keymill.bind(sent, **signed), tally)
    del signed["endpoint"]
    check(mill, part, keymill.bind(part, **signed), tally)
    return 11


def partitioned(table: pyarrow.Table) -> None:
    """Written to a folder partitioned by tenant, as engines do, it comes back from every reader as it was, contexts and blobs included."""
    plain = table.set_column(table.column_names.index("tenant"), "tenant", table["tenant"].cast(pyarrow.string()))
    wanted = {row["volume"]: row for row in plain.select(["volume", "tenant", "ciphertext_blob"]).to_pylist()}
    with tempfile.TemporaryDirectory() as folder:
        parts = pyarrow.dataset.partitioning(pyarrow.schema([("tenant", pyarrow.string())]), flavor="hive")
        pyarrow.dataset.write_dataset(plain, folder, format="parquet", partitioning=parts)
        assert len(list(Path(folder).glob("tenant=*/*.parquet"))) == 7
        columns = "volume, tenant, ciphertext_blob, encryption_context['tenant'] AS bound"
        with duckdb.connect() as connection:
            by_duckdb = connection.sql(f"SELECT {columns} FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true)").to_arrow_table()
        by_polars = polars.read_parquet(f"{folder}/*/*.parquet", hive_partitioning=True).to_arrow()
        by_pyarrow = pyarrow.dataset.dataset(folder, format="parquet", partitioning=parts).to_table()
        for reader, read in (("DuckDB", by_duckdb), ("Polars", by_polars), ("pyarrow", by_pyarrow)):
            rows = read.select(["volume", "tenant", "ciphertext_blob"]).to_pylist()
            assert len(rows) == len(wanted) and all(wanted[row["volume"]] == row for row in rows), reader
        assert by_duckdb["bound"].to_pylist() == by_duckdb["tenant"].to_pylist()


def layouts(mill: Daemon, keymill, tally: Tally) -> None:
    """Types and cuts of Arrow that libraries make: the rows come out as they went in, however they lie."""
    asked = {"key": ALIAS, "context": ["tenant", "volume"], "constants": {"purpose": "volume"}, "endpoint": f"unix:{mill.socket}"}
    tenants, volumes = [f"tenant-{row % 7}" for row in range(200)], [f"volume-{row}" for row in range(200)]
    for kind in (pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary(pyarrow.int8(), pyarrow.large_string()), pyarrow.dictionary(pyarrow.uint32(), pyarrow.string())):
        sent = pyarrow.table({"tenant": pyarrow.array(tenants).cast(kind), "volume": volumes})
        check(mill, sent, keymill.bind(sent, id_column="volume", **asked), tally)
    frame = polars.DataFrame({"volume": volumes, "tenant": tenants}).with_columns(polars.col("tenant").cast(polars.Categorical))
    check(mill, frame.to_arrow(), keymill.bind(frame, id_column="volume", **asked), tally)
    # Chunks of one row and of none, and slices, share calls; each comes out as it was.
    whole = pyarrow.table({"tenant": tenants, "volume": volumes, "sizes": [[row] * (row % 3) for row in range(200)]})
    pieces = pyarrow.concat_tables([whole.slice(row, 1) for row in range(100)] + [whole.slice(0, 0), whole.slice(100)])
    done: list[int] = []
    got = keymill.bind(pieces, progress=done.append, **asked)
    check(mill, whole, got, tally)
    assert done == [200] and got["tenant"].num_chunks == 101, (done, got["tenant"].num_chunks)
    check(mill, whole, keymill.bind(iter(whole.to_batches(max_chunksize=7)), **asked), tally)
    assert keymill.bind(iter([]), **asked).num_rows == 0
    # What the table says of itself stays: a pandas index comes back.
    indexed = pandas.DataFrame({"tenant": tenants, "volume": volumes}, index=pandas.Index(range(1000, 1200), name="at"))
    assert keymill.bind(indexed, **asked).to_pandas().index.equals(indexed.index)


def streams(mill: Daemon, keymill, folder: Path) -> None:
    """Batch by batch: nothing is made before it is read, memory is that of a call, and any reader of Arrow takes it."""
    asked = {"key": ALIAS, "context": ["tenant"], "endpoint": f"unix:{mill.socket}"}
    made = []

    def batches(count: int):
        for number in range(count):
            made.append(number)
            yield pyarrow.record_batch({"tenant": pyarrow.array([f"tenant-{number}"] * 8192)})

    reader = keymill.bind_batches(batches(20), **asked)
    assert made == [0], "the schema is that of the first batch"
    assert next(iter(reader)).num_rows == 8192 and len(made) == 1, made
    reader.close()
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    made.clear()
    peak = 0
    with pyarrow.parquet.ParquetWriter(folder / "bound.parquet", reader.schema) as writer:
        for batch in keymill.bind_batches(batches(20), **asked):
            writer.write_batch(batch)
            peak = max(peak, pyarrow.total_allocated_bytes() - before)
    assert pyarrow.parquet.read_metadata(folder / "bound.parquet").num_rows == 20 * 8192
    # A call has some 8 MiB at most in its several forms; all rows would be 80 MiB.
    assert peak < 32 << 20 and tracemalloc.get_traced_memory()[1] < 32 << 20, (peak, tracemalloc.get_traced_memory())
    tracemalloc.stop()
    with duckdb.connect() as connection:
        bound = keymill.bind_batches(batches(3), **asked)  # noqa: F841
        assert connection.sql("SELECT count(*), count(DISTINCT ciphertext_blob) FROM bound").fetchall() == [(3 * 8192, 3 * 8192)]
    assert polars.from_arrow(keymill.export_batches(10, key=ALIAS, endpoint=f"unix:{mill.socket}")).height == 10


def exported(mill: Daemon, keymill, tally: Tally) -> None:
    endpoint, done = f"unix:{mill.socket}", []
    got = keymill.export(100_000, key=ALIAS, constants={"purpose": "volume", "a": ""}, progress=done.append, endpoint=endpoint)
    assert got.column_names == ["container_id", *ADDED] and sum(done) == 100_000 and len(done) > 1, (got.column_names, done)
    assert got["container_id"][99_999].as_py() == "container-000000099999"
    assert got["encryption_context"][7].as_py() == [("a", ""), ("purpose", "volume")]
    assert pyarrow.compute.count_distinct(got["ciphertext_blob"]).as_py() == 100_000
    opens(mill, got, tally)
    more = keymill.export(3, key=ALIAS, id_pattern="v{}-x", first_row=9, number_of_bytes=64, endpoint=endpoint)
    assert more["container_id"].to_pylist() == ["v9-x", "v10-x", "v11-x"] and more["key_spec"].to_pylist() == ["BYTES_64"] * 3
    assert more["encryption_context"].to_pylist() == [[]] * 3
    opens(mill, more, tally, 64)
    assert keymill.export(0, key=ALIAS, endpoint=endpoint).num_rows == 0
    for pattern in ("none", "{}{}", "{:12}", "{:033}", "{:0}", "{0}", "a{}}", "\n{}", "x" * 255 + "{}"):
        raises(ValueError, "an id pattern has", keymill.export, 1, key=ALIAS, id_pattern=pattern, endpoint=endpoint)
    raises(ValueError, "not negative", keymill.export, -1, key=ALIAS, endpoint=endpoint)
    raises(ValueError, "give one", keymill.export, 1, key=ALIAS, key_spec="AES_256", number_of_bytes=16, endpoint=endpoint)
    consumer = f"unix:{mill.facts['sockets']['consumer']}"
    raises(keymill.AccessDenied, "AccessDeniedException: ", keymill.export, 1, key=ALIAS, endpoint=consumer)
    raises(keymill.KeymillError, "NotFoundException", keymill.export, 1, key="alias/none", endpoint=endpoint)


def moved(mill: Daemon, keymill, tally: Tally) -> None:
    """Rewrapped and verified, from every library's form of a map, and to another key and context."""
    sockets = {name: f"unix:{path}" for name, path in mill.facts["sockets"].items()}
    consumer, rewrapper = sockets["consumer"], sockets["rewrapper"]
    count = 10_000
    sent = pyarrow.table({"zone": ["z"] * count, "tenant": [f"tenant-{row % 7}" for row in range(count)], "volume": [f"volume-{row}" for row in range(count)]})
    old = keymill.bind(sent, key=ALIAS, context=["tenant", "volume"], constants={"purpose": "volume"}, endpoint=f"unix:{mill.socket}")
    done: list[int] = []
    new = keymill.rewrap(old, key=ALIAS, progress=done.append, endpoint=rewrapper)
    assert new.column_names == ["zone", "tenant", "volume", "key_spec", "key_arn", "key_material_id", "encryption_context", "ciphertext_blob", "created_at"]
    assert sum(done) == count and not set(new["ciphertext_blob"].to_pylist()) & set(old["ciphertext_blob"].to_pylist())
    for name in ("zone", "tenant", "volume", "key_spec", "encryption_context"):
        assert new[name].to_pylist() == old[name].to_pylist(), name
    opens(mill, new, tally)
    other = keymill.rewrap(old, key=ALIAS, context=["tenant", "volume"], constants={"purpose": "volume"}, new_context=["zone"], endpoint=rewrapper)
    assert other["encryption_context"].to_pylist() == [[("zone", "z")]] * count
    opens(mill, other, tally)
    bare = keymill.rewrap(other.slice(0, 10), key=ALIAS, new_context=[], endpoint=rewrapper)
    assert bare["encryption_context"].to_pylist() == [[]] * 10
    assert keymill.verify(bare, endpoint=consumer).ok and keymill.verify(bare, context=[], endpoint=consumer).ok
    # Each library has maps in another form; so has pandas those that it read from Parquet.
    few = new.slice(17, 500)
    forms = [few, polars.from_arrow(few), few.to_pandas(), few.slice(0, 0), bare.to_pandas()]
    with duckdb.connect() as connection:
        forms.append(connection.from_arrow(few))
        views = pyarrow.map_(pyarrow.large_string(), pyarrow.large_string())
        forms.append(few.set_column(few.column_names.index("encryption_context"), "encryption_context", few["encryption_context"].cast(views)))
        for form in forms:
            report = keymill.verify(form, endpoint=consumer)
            assert report.ok and not report.findings, (type(form), report)
        assert keymill.verify(few, context=["tenant", "volume"], constants={"purpose": "volume"}, endpoint=consumer).rows == 500
    again = keymill.rewrap(polars.from_arrow(few), key=ALIAS, endpoint=rewrapper)
    assert again["encryption_context"].to_pylist() == few["encryption_context"].to_pylist()
    damages(keymill, new, consumer, rewrapper)


def names(mill: Daemon, keymill, tally: Tally) -> None:
    """Columns of a context by any name: with commas, quotes and dots, alone and beside others."""
    sockets = {name: f"unix:{path}" for name, path in mill.facts["sockets"].items()}
    columns = ["size, GB", 'say "a,b"', '"', "a.b", "a=b", " c&d+é"]
    sent = pyarrow.table({name: [f"{name}-{row}" for row in range(5)] for name in [*columns, "size", " GB"]})
    for context in ([columns[0]], [columns[2]], columns, columns[::-1]):
        old = keymill.bind(sent, key=ALIAS, context=context, endpoint=f"unix:{mill.socket}")
        assert old["encryption_context"].to_pylist() == [sorted((name, f"{name}-{row}") for name in context) for row in range(5)]
        opens(mill, old, tally)
        assert keymill.verify(old, context=context, endpoint=sockets["consumer"]).ok
        assert not keymill.verify(old, context=["size", " GB"], endpoint=sockets["consumer"]).ok
        new = keymill.rewrap(old, key=ALIAS, context=context, new_context=columns[1:3], endpoint=sockets["rewrapper"])
        assert new["encryption_context"].to_pylist() == [sorted((name, f"{name}-{row}") for name in columns[1:3]) for row in range(5)]
        opens(mill, new, tally)


def damages(keymill, new: pyarrow.Table, consumer: str, rewrapper: str) -> None:
    """A row that does not open is named by its number in the table, wherever it is."""
    blobs, maps = new["ciphertext_blob"].to_pylist(), new["encryption_context"].to_pylist()
    blobs[9_999] = blobs[9_999][:60] + bytes([blobs[9_999][60] ^ 1]) + blobs[9_999][61:]
    blobs[3], blobs[5], blobs[8_500] = b"not a blob", None, blobs[10]
    maps[8_500], maps[9_000] = maps[10], None
    damaged = new.drop(["ciphertext_blob", "encryption_context"])
    damaged = damaged.append_column("ciphertext_blob", pyarrow.array(blobs, pyarrow.binary()))
    damaged = damaged.append_column("encryption_context", pyarrow.array(maps, new["encryption_context"].type))
    for form in (damaged, polars.from_arrow(damaged)):
        report = keymill.verify(form, endpoint=consumer)
        found = [(finding.row, finding.code) for finding in report.findings]
        expected = [(3, "InvalidCiphertextException"), (5, "ValidationException"), (8_500, "Duplicate"), (9_000, "ValidationException"), (9_999, "InvalidCiphertextException")]
        assert found == expected and not report.ok and report.rows == 10_000, report
        assert report.findings[2].reason == "its wrapped key is that of row 10", report
    wrong = keymill.verify(new, context=["tenant"], endpoint=consumer)
    assert wrong.finding_count == 10_000 and len(wrong.findings) == 1_000, wrong.finding_count
    error = raises(keymill.RefusedRow, "row 3: InvalidCiphertextException", keymill.rewrap, damaged.slice(0, 5), key=ALIAS, endpoint=rewrapper)
    assert (error.row, error.code, error.reason) == (3, "InvalidCiphertextException", ""), vars(error)
    # Behind the first rows of a call, whose answer is under way already.
    error = raises(keymill.RefusedRow, "row 8994: ValidationException", keymill.rewrap, damaged.slice(6), key=ALIAS, endpoint=rewrapper)
    assert (error.row, error.code) == (8_994, "ValidationException") and "null" in error.reason, vars(error)
    raises(ValueError, "no column 'ciphertext_blob'", keymill.verify, new.drop(["ciphertext_blob"]), endpoint=consumer)
    raises(ValueError, "no column 'encryption_context'", keymill.verify, new.drop(["encryption_context"]), endpoint=consumer)
    raises(TypeError, "not of maps", keymill.verify, new.drop(["encryption_context"]).append_column("encryption_context", new["tenant"]), endpoint=consumer)
    raises(TypeError, "wrapped keys are binary", keymill.verify, new.drop(["ciphertext_blob"]).append_column("ciphertext_blob", new["tenant"]), endpoint=consumer)


def raises(kind: type, says: str, call, /, *arguments, **named) -> Exception:
    """Calls, and holds the error to its type and words."""
    try:
        call(*arguments, **named)
    except kind as error:
        assert says in str(error), f"{says!r}: {error}"
        return error
    raise AssertionError(f"{says!r} was not said")


def refusals(mill: Daemon, keymill, tally: Tally) -> None:
    key, _, alias, _ = new_key(mill, "alias/python", tally)
    everything = {"Effect": "Allow", "Principal": {"AWS": mill.principal("admin")["arn"]}, "Action": "kms:*", "Resource": "*"}
    mine = {"Effect": "Allow", "Principal": {"AWS": mill.principal("provisioner")["arn"]}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*"}
    nobody = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*"}
    nobody["Condition"] = {"StringEquals": {"kms:EncryptionContext:tenant": "nobody"}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything, mine, nobody]})
    mill.client("admin", tally).put_key_policy(KeyId=key, Policy=policy)
    asked = {"key": alias, "context": ["tenant"], "endpoint": f"unix:{mill.socket}"}

    def refused(kind: type, says: str, table, **changes) -> Exception:
        return raises(kind, says, keymill.bind, table, **(asked | changes))

    tenants = pyarrow.chunked_array([["me"] * 20_000, ["me"] * 9_000 + ["nobody"] + ["me"] * 10])
    error = refused(keymill.RefusedRow, "row 29000: AccessDeniedException: User: ", pyarrow.table({"tenant": tenants}))
    assert (error.code, error.row) == ("AccessDeniedException", 29_000) and "User: " in error.reason, vars(error)
    same = pickle.loads(pickle.dumps(error))
    assert (type(same), str(same), same.row, same.reason, same.code) == (type(error), str(error), 29_000, error.reason, error.code), same
    # What came before it has its keys, and what reads the stream is told of it there.
    whole = []
    try:
        for batch in keymill.bind_batches(pyarrow.table({"tenant": tenants}), **asked):
            whole.append(batch.num_rows)
    except keymill.RefusedRow as error:
        assert error.row == 29_000 and sum(whole) == 3 * 8192, (error, whole)
    error = refused(keymill.RefusedRow, 'Context column "tenant" is null', pyarrow.table({"tenant": pyarrow.array(["me", None], pyarrow.string())}))
    assert (error.code, error.row) == ("ValidationException", 1), vars(error)
    refused(keymill.RefusedRow, "row 2: ", pyarrow.table({"tenant": ["me", "me", "x" * 9000]}))
    one = pyarrow.table({"tenant": ["me"]})
    error = refused(keymill.KeymillError, "NotFoundException", one, key="alias/none")
    assert type(error) is keymill.KeymillError and error.code == "NotFoundException", error
    refused(ValueError, "no column 'zone'", one, context=["zone"])
    refused(ValueError, "a list of columns", one, context="tenant")
    refused(ValueError, "at least one column", one, context=[])
    refused(ValueError, "twice", one, context=["tenant", "tenant"])
    refused(ValueError, "twice", one, constants={"tenant": "me"})
    refused(ValueError, "has no name", one, context=["tenant", ""])
    refused(ValueError, "'='", one, constants={"a=b": "c"})
    # P6 of Polars and dictionaries: ids of every layout are counted.
    for ids in (pyarrow.array(["me", "you", "me"]), pyarrow.array(["me", "you", "me"]).dictionary_encode(), polars.Series(["me", "you", "me"]).to_arrow()):
        error = refused(keymill.RefusedRow, "row 2: ValidationException: its 'tenant' is that of row 0", pyarrow.table({"tenant": ids}), id_column="tenant")
    refused(keymill.RefusedRow, "its 'at' is that of row 1", pyarrow.table({"tenant": ["me"] * 3, "at": [1, 2, 2]}), id_column="at")
    refused(keymill.RefusedRow, "row 1: ValidationException: its 'tenant' is null", pyarrow.table({"tenant": ["me", None]}), id_column="tenant")
    refused(keymill.RefusedRow, "its 'tenant' is empty", polars.DataFrame({"tenant": ["me", ""]}), id_column="tenant")
    refused(ValueError, "no column 'id'", one, id_column="id")
    refused(ValueError, "'key_arn' already", pyarrow.table({"tenant": ["me"], "key_arn": ["x"]}))
    refused(ValueError, "'Key_ARN' already, which readers that ignore case take for 'key_arn'", pyarrow.table({"tenant": ["me"], "Key_ARN": ["x"]}))
    refused(TypeError, "contexts are strings", pyarrow.table({"tenant": [1]}))
    refused(TypeError, "PyCapsule", [1, 2])
    refused(TypeError, "PyCapsule", "tenant")
    refused(ValueError, "an endpoint is", one, endpoint="ftp://localhost")
    refused(ValueError, "name the daemon", one, endpoint=None)
    # One that was never there is told at once.
    error = refused(ConnectionError, "No such file", one, endpoint=f"unix:{mill.socket}.none")
    assert isinstance(error, keymill.ConnectionLost) and isinstance(error, keymill.Unavailable)
    as_nobody = type("Credentials", (), {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "x", "token": None})()
    with keymill.Client(mill.endpoint, credentials=as_nobody, region="us-east-1") as client:
        refused(keymill.KeymillError, "UnrecognizedClientException", one, client=client, endpoint=None)
        refused(ValueError, "give one", one, client=client)


def in_the_environment() -> None:
    """What the step does with the package that is installed in this interpreter's environment."""
    import keymill

    assert sys.prefix in keymill.__file__, keymill.__file__
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        os.environ.pop("AWS_ENDPOINT_URL_KMS", None)
        refusals(mill, keymill, tally)
        layouts(mill, keymill, tally)
        streams(mill, keymill, Path(temporary))
        exported(mill, keymill, tally)
        moved(mill, keymill, tally)
        names(mill, keymill, tally)
        tables = kinds(mill, keymill, tally)
    report("The Python package", f"on pyarrow {pyarrow.__version__}, pandas {pandas.__version__}, Polars {polars.__version__}, DuckDB {duckdb.__version__}", tables)
    report("boto3 on what the Python package bound", boto3.__version__, tally.calls)


def main() -> None:
    if sys.argv[1:] == ["--installed"]:
        in_the_environment()
        return
    python_wheel.checks()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = python_wheel.install(python_wheel.build(folder), folder)
        subprocess.run([python, __file__, "--installed"], check=True)


if __name__ == "__main__":
    main()
