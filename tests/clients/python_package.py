"""The Python package: installed from clients/python, and called with what pyarrow, pandas, Polars and DuckDB have in memory, over the socket and signed."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import duckdb
import pandas
import polars
import pyarrow
import pyarrow.dataset
from daemon import ALIAS, BLOB_BYTES, ROOT, Daemon, Tally, new_key, report, running

ROWS = 30_000
ADDED = ["key_arn", "key_material_id", "key_spec", "encryption_context", "ciphertext_blob", "created_at"]


def install(folder: Path) -> None:
    """As users do, but without the network: the build backend is among the locked clients."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    source = folder / "source"
    subprocess.run(["cp", "-r", ROOT / "clients" / "python", source], check=True)
    subprocess.run([*command, "--target", folder / "installed", source], check=True)
    sys.path.insert(0, str(folder / "installed"))


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
    check(mill, sent, keymill.provision(sent, id_column="volume", **asked), tally)
    part = sent.slice(0, 100).combine_chunks()
    plain = part.set_column(1, "tenant", part["tenant"].cast(pyarrow.string()))
    check(mill, part, keymill.provision(part.to_batches()[0], **asked), tally)
    check(mill, part, keymill.provision(part.to_reader(), **asked), tally)
    check(mill, plain, keymill.provision(pandas.DataFrame({name: plain[name].to_pandas() for name in plain.column_names}).assign(bytes=range(100)), **asked).set_column(2, "bytes", plain["bytes"]), tally)
    check(mill, part, keymill.provision(polars.from_arrow(part), **asked), tally)
    with duckdb.connect() as connection:
        relation = connection.from_arrow(plain)
        check(mill, plain, keymill.provision(relation, **asked), tally)
        provisioned = keymill.provision(part, **asked)
        assert connection.sql("SELECT count(DISTINCT ciphertext_blob) FROM provisioned").fetchall() == [(100,)]
    assert polars.from_arrow(provisioned).height == 100 and provisioned.to_pandas().shape == (100, 9)
    partitioned(keymill.provision(sent, **asked))
    none = keymill.provision(sent.slice(0, 0), **asked)
    assert none.num_rows == 0 and none.column_names == [*sent.column_names, *ADDED]
    # Contexts so long that a call holds few rows, and another length; a client that is kept.
    long = pyarrow.table({"tenant": ["é" * 2000 + str(row) for row in range(1000)]})
    with keymill.Client(f"unix:{mill.socket}") as client:
        got = keymill.provision(long, key=ALIAS, context=["tenant"], number_of_bytes=16, client=client)
        assert got["key_spec"].to_pylist() == ["AES_128"] * 1000
        opens(mill, got, tally, 16)
        keymill.provision(part, **(asked | {"client": client}))
    # Signed, with what botocore finds in the environment.
    os.environ |= mill.credentials("provisioner")
    signed = asked | {"endpoint": mill.endpoint, "constants": {"purpose": "volume"}}
    check(mill, sent, keymill.provision(sent, **signed), tally)
    del signed["endpoint"]
    check(mill, part, keymill.provision(part, **signed), tally)
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
        try:
            keymill.provision(table, **(asked | changes))
        except kind as error:
            assert says in str(error), f"{says!r}: {error}"
            return error
        raise AssertionError(f"{says!r} was not said")

    tenants = pyarrow.chunked_array([["me"] * 20_000, ["me"] * 9_000 + ["nobody"] + ["me"] * 10])
    error = refused(keymill.KeymillError, "AccessDeniedException", pyarrow.table({"tenant": tenants}))
    assert (error.code, error.row) == ("AccessDeniedException", 29_000), vars(error)
    error = refused(keymill.KeymillError, 'Context column "tenant" is null', pyarrow.table({"tenant": pyarrow.array(["me", None], pyarrow.string())}))
    assert (error.code, error.row) == ("ValidationException", 1), vars(error)
    one = pyarrow.table({"tenant": ["me"]})
    refused(keymill.KeymillError, "NotFoundException", one, key="alias/none")
    refused(ValueError, "no column 'zone'", one, context=["zone"])
    refused(ValueError, "a list", one, context="tenant")
    refused(ValueError, "there twice", pyarrow.table({"tenant": ["me", "me"]}), id_column="tenant")
    refused(ValueError, "'key_arn' already", pyarrow.table({"tenant": ["me"], "key_arn": ["x"]}))
    refused(TypeError, "contexts are strings", pyarrow.table({"tenant": [1]}))
    refused(TypeError, "speaks Arrow", [1, 2])
    refused(ValueError, "an endpoint is", one, endpoint="ftp://localhost")
    refused(OSError, "", one, endpoint=f"unix:{mill.socket}.none")
    as_nobody = type("Credentials", (), {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "x", "token": None})()
    with keymill.Client(mill.endpoint, credentials=as_nobody, region="us-east-1") as client:
        refused(keymill.KeymillError, "UnrecognizedClientException", one, client=client)


def main() -> None:
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        install(Path(temporary))
        import keymill

        assert temporary in keymill.__file__, keymill.__file__
        tables = kinds(mill, keymill, tally)
        refusals(mill, keymill, tally)
    report("The Python package", f"on pyarrow {pyarrow.__version__}, pandas {pandas.__version__}, Polars {polars.__version__}, DuckDB {duckdb.__version__}", tables)
    report("boto3 on what the Python package bound", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
