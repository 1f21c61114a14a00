"""pyarrow, Polars and curl over the Unix socket: a stream of containers comes back with a wrapped key for each row, which opens under that row's context alone."""

import contextlib
import http.client
import json
import random
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.httpsession
import polars
import pyarrow
import pyarrow.ipc
from daemon import BLOB_BYTES, NOT_ALLOWED_TO_OPEN, Daemon, Tally, new_key, refused, report, running

ROWS = 200_000
BATCH_ROWS = 10_000
OPENED = 300
TENANTS = 20
# A message and a chunk, with what the allocator keeps: far below what all of the stream has.
MEMORY_BYTES = 48 << 20
# What the sockets, hyper and a message under way hold together, in rows.
UNREAD_ROWS = 120_000
MEDIA_TYPE = "application/vnd.apache.arrow.stream"


class Stream:
    """One POST whose body is written by a thread of its own while the answer is read: either side waits for the other."""

    calls = 0

    def __init__(self, mill: Daemon, batches, options: pyarrow.ipc.IpcWriteOptions | None = None, **query: str):
        Stream.calls += 1
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(mill.socket)
        target = f"/v1/data-keys/bind?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MEDIA_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.socket.sendall(head.encode())
        self.batches, self.options, self.sent = batches, options, 0
        self.writer = threading.Thread(target=self.run, daemon=True)
        self.writer.start()
        self.answer = http.client.HTTPResponse(self.socket, method="POST")

    def run(self) -> None:
        # Whoever refuses a stream reads no more of it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            with pyarrow.ipc.new_stream(self, self.batches[0].schema, options=self.options) as writer:
                for batch in self.batches:
                    writer.write(batch)
                    self.sent += batch.num_rows
            self.socket.sendall(b"0\r\n\r\n")

    closed = False

    def write(self, data) -> int:
        data = memoryview(data)
        if len(data):
            self.socket.sendall(b"%x\r\n" % len(data) + data.tobytes() + b"\r\n")
        return len(data)

    def flush(self) -> None:
        pass

    def read(self) -> pyarrow.Table:
        self.answer.begin()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers["Content-Type"] == MEDIA_TYPE
        table = pyarrow.ipc.open_stream(self.answer).read_all()
        assert self.answer.read() == b"", "something after the end"
        self.writer.join()
        self.socket.close()
        return table

    def refused(self) -> tuple[int, str, str]:
        """The status, code and message of a refusal before the first row."""
        self.answer.begin()
        body = json.loads(self.answer.read())
        self.socket.close()
        return self.answer.status, body["__type"], body.get("Message", body.get("message", ""))


def containers(rows: int, tenant=lambda row: f"tenant-{row % TENANTS}") -> list[pyarrow.RecordBatch]:
    """Ids, tenants in a dictionary, and what is no part of the context."""
    batches = []
    for first in range(0, rows, BATCH_ROWS):
        numbers = range(first, min(first + BATCH_ROWS, rows))
        columns = {
            "container id": pyarrow.array([f"container-{row:08}" for row in numbers]),
            "tenant": pyarrow.array([tenant(row) for row in numbers]).dictionary_encode(),
            "bytes": pyarrow.array([row * 4096 if row % 10 else None for row in numbers], pyarrow.int64()),
            "extents": pyarrow.array([[row] * (row % 3) for row in numbers], pyarrow.list_(pyarrow.int32())),
        }
        batches.append(pyarrow.record_batch(columns))
    return batches


def memory(mill: Daemon) -> int:
    """The most that the daemon has ever had, in bytes."""
    status = Path(f"/proc/{mill.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def scene(mill: Daemon, tally: Tally) -> tuple[str, str]:
    """A key under which the provisioner mints, but for nobody's containers, and the consumer opens what is tenant-7's."""
    key, arn, alias, _ = new_key(mill, "alias/bound", tally)
    condition = {"StringEquals": {"kms:EncryptionContext:tenant": "tenant-7"}}
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": mill.principal("admin")["arn"]}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": mill.principal("provisioner")["arn"]}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": mill.principal("consumer")["arn"]}, "Action": "kms:Decrypt", "Resource": "*", "Condition": condition},
        {
            "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
            "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "nobody"}},
        },
    ]
    mill.client("admin", tally).put_key_policy(KeyId=key, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    return alias, arn


def opens_alone(mill: Daemon, table: pyarrow.Table, tally: Tally) -> None:
    """Random rows, each under its own context and no other."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    plaintexts = set()
    for at in random.sample(range(table.num_rows), OPENED):
        row = table.slice(at, 1).to_pylist()[0]
        blob = row["ciphertext_blob"]
        context = {"container id": row["container id"], "tenant": row["tenant"], "purpose": "volume"}
        opened = admin.decrypt(CiphertextBlob=blob, EncryptionContext=context)
        assert opened["KeyId"] == row["key_arn"] and opened["KeyMaterialId"] == row["key_material_id"], opened
        plaintexts.add(opened["Plaintext"])
        for wrong in ({"tenant": "tenant-99"}, {"container id": "container-x"}, {"purpose": "bucket"}):
            refused("InvalidCiphertextException", None, admin.decrypt, CiphertextBlob=blob, EncryptionContext=context | wrong)
        if row["tenant"] == "tenant-7":
            assert consumer.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == opened["Plaintext"]
        else:
            refused("AccessDeniedException", NOT_ALLOWED_TO_OPEN, consumer.decrypt, CiphertextBlob=blob, EncryptionContext=context)
            refused("InvalidCiphertextException", None, consumer.decrypt, CiphertextBlob=blob, EncryptionContext=context | {"tenant": "tenant-7"})
    assert len(plaintexts) == OPENED, "a data key came twice"


def bound(mill: Daemon, alias: str, arn: str) -> pyarrow.Table:
    """All rows, within the memory of a few."""
    query = {"key": alias, "spec": "AES_256", "context": "tenant,container id", "constant": "purpose=volume"}
    Stream(mill, containers(2 * BATCH_ROWS), **query).read()
    before, batches = memory(mill), containers(ROWS)
    began = time.monotonic()
    table = Stream(mill, batches, **query).read()
    seconds = time.monotonic() - began
    grown = memory(mill) - before
    assert grown < MEMORY_BYTES, f"the daemon has grown by {grown >> 20} MiB"
    print(f"bind: {ROWS / seconds:,.0f} rows a second, the daemon's memory grown by {grown >> 20} MiB")
    sent = pyarrow.Table.from_batches(batches)
    assert table.num_rows == ROWS and table.column_names == [*sent.column_names, "ciphertext_blob", "key_arn", "key_material_id"]
    for name in ("container id", "bytes", "extents"):
        assert table[name].combine_chunks().equals(sent[name].combine_chunks()), name
    assert table["tenant"].to_pylist() == sent["tenant"].to_pylist()
    blobs = table["ciphertext_blob"].to_pylist()
    assert len(set(blobs)) == ROWS and {len(blob) for blob in blobs} == {BLOB_BYTES}
    assert set(table["key_arn"].to_pylist()) == {arn}
    issued = mill.metric("keymill_data_keys_total", operation="Bind")
    assert issued == ROWS + 2 * BATCH_ROWS, issued
    return table


def others(mill: Daemon, alias: str, tally: Tally) -> None:
    """What Polars has in memory, whose strings are views, and curl with a file."""
    admin = mill.client("admin", tally)
    frame = polars.DataFrame({"tenant": ["tenant-1", "a tenant of more than twelve letters"] * 10_000, "n": range(20_000)})
    batches = frame.to_arrow(compat_level=polars.CompatLevel.newest()).to_batches(max_chunksize=BATCH_ROWS)
    assert batches[0].schema.field("tenant").type == pyarrow.string_view(), batches[0].schema
    bound = polars.from_arrow(Stream(mill, batches, key=alias, spec="AES_128", context="tenant").read())
    assert bound.select("tenant", "n").equals(frame)
    file = mill.state / "containers.arrows"
    with pyarrow.ipc.new_stream(file, batches[0].schema) as writer:
        writer.write_table(pyarrow.Table.from_batches(batches), max_chunksize=BATCH_ROWS)
    url = f"http://localhost/v1/data-keys/bind?key={alias}&spec=AES_128&context=tenant"
    command = ["curl", "--silent", "--show-error", "--fail", "--unix-socket", mill.socket, url, "-X", "POST", "-T", file]
    answer = subprocess.run(command, capture_output=True, check=True).stdout
    table = pyarrow.ipc.open_stream(answer).read_all()
    assert table.num_rows == bound.height
    for row in (*bound.tail(2).to_dicts(), *table.slice(0, 2).to_pylist()):
        opened = admin.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext={"tenant": row["tenant"]})
        assert len(opened["Plaintext"]) == 16


def slow(mill: Daemon, alias: str) -> None:
    """A reader that takes nothing stops the writer."""
    stream = Stream(mill, containers(ROWS), key=alias, spec="AES_256", context="tenant")
    seen = -1
    while seen != stream.sent:
        seen = stream.sent
        time.sleep(0.5)
    assert seen < UNREAD_ROWS, f"{seen} rows were taken of a reader that takes none"
    assert stream.read().num_rows == ROWS


def refusals(mill: Daemon, alias: str, arn: str) -> None:
    query = {"key": alias, "spec": "AES_256", "context": "tenant"}
    me = mill.principal("provisioner")["arn"]
    denied = f"User: {me} is not authorized to perform: kms:GenerateDataKeyWithoutPlaintext on resource: {arn} with an explicit deny in a resource-based policy"
    nobody = containers(100, lambda row: "nobody" if row == 41 else "tenant-1")
    assert Stream(mill, nobody, **query).refused() == (400, "AccessDeniedException", f"Row 41: {denied}")
    null = containers(100, lambda row: None if row == 7 else "tenant-1")
    assert Stream(mill, null, **query).refused() == (400, "ValidationException", 'Row 7: Context column "tenant" is null.')
    views = [pyarrow.record_batch({"tenant": pyarrow.array(["tenant-1"]), "l": pyarrow.array([[1]], pyarrow.list_view(pyarrow.int8()))})]
    *status, said = Stream(mill, views, **query).refused()
    assert status == [400, "ValidationException"] and said.startswith('After 0 rows: Columns like "l", of type ListView'), said
    # A row far behind: the answer ends without its end, and what is there is good.
    late = containers(5 * BATCH_ROWS, lambda row: "nobody" if row == 4 * BATCH_ROWS + 1 else "tenant-1")
    stream = Stream(mill, late, **query)
    stream.answer.begin()
    assert stream.answer.status == 200
    reader, rows = pyarrow.ipc.open_stream(stream.answer), 0
    try:
        for batch in reader:
            rows += batch.num_rows
        raise AssertionError("a stream with a refused row has an end")
    except (http.client.IncompleteRead, OSError, pyarrow.ArrowInvalid):
        assert rows <= 4 * BATCH_ROWS, rows
    assert f"Row {4 * BATCH_ROWS + 1}: User: {me}" in mill.log.read_text(errors="replace"), mill.tail()


def in_batches(mill: Daemon, alias: str, arn: str) -> None:
    """A batch as Arrow: pyarrow reads what curl asked for."""
    body = json.dumps({"KeyId": alias, "KeySpec": "AES_256", "Count": 20_000})
    asked = ["curl", "--silent", "--fail-with-body", "--unix-socket", mill.socket, "http://localhost/v1/data-keys", "-H", f"Accept: {MEDIA_TYPE}", "-d", body]
    answer = subprocess.run(asked, capture_output=True, check=True).stdout
    assert answer.endswith(b"\xff\xff\xff\xff\0\0\0\0"), "no end"
    table = pyarrow.ipc.open_stream(answer).read_all()
    blobs = table["ciphertext_blob"].to_pylist()
    assert len(set(blobs)) == 20_000 and {len(blob) for blob in blobs} == {BLOB_BYTES}
    assert set(table["key_arn"].to_pylist()) == {arn} and len(set(table["key_material_id"].to_pylist())) == 1


def with_blobs(mill: Daemon, table: pyarrow.Table, arn: str, tally: Tally) -> None:
    """The rows that came back go on: verified, sealed anew under a new generation, verified again; each of those by who may, who needs no other right and no plaintext."""
    def ask(who: str, purpose: str, rows: pyarrow.Table, **query: str) -> pyarrow.Table:
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=4000)
        url = f"{mill.endpoint}/v1/data-keys/{purpose}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
        signed = botocore.awsrequest.AWSRequest("POST", url, {"Content-Type": MEDIA_TYPE}, sink.getvalue().to_pybytes())
        given = mill.credentials(who)
        credentials = botocore.credentials.Credentials(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"])
        botocore.auth.SigV4Auth(credentials, "kms", mill.facts["region"]).add_auth(signed)
        answer = botocore.httpsession.URLLib3Session().send(signed.prepare())
        assert answer.status_code == 200, answer.content
        return pyarrow.ipc.open_stream(answer.content).read_all()

    names = {"context": "tenant,container id", "constant": "purpose=volume"}
    rows = table.select(["container id", "tenant", "ciphertext_blob"]).slice(0, 4500).unify_dictionaries()
    assert ask("admin", "verify", rows, **names)["refusal"].null_count == rows.num_rows
    # The consumer may open tenant 7's alone.
    refusals = ask("consumer", "verify", rows, **names)
    for row in refusals.to_pylist():
        assert (row["refusal"] is None) == (row["tenant"] == "tenant-7"), row
    mill.client("admin", tally).rotate_key_on_demand(KeyId=arn)
    again = ask("admin", "rewrap", rows, key=arn, **names, **{"new-context": "container id", "new-constant": "zone=a"})
    assert again.column_names == ["container id", "tenant", "ciphertext_blob", "key_arn", "key_material_id"] and again.num_rows == rows.num_rows
    assert not set(again["ciphertext_blob"].to_pylist()) & set(rows["ciphertext_blob"].to_pylist())
    assert set(again["key_material_id"].to_pylist()) != set(table["key_material_id"].to_pylist())
    refusals = ask("admin", "verify", again.select(["container id", "ciphertext_blob"]), context="container id", constant="zone=a")
    assert refusals["refusal"].null_count == rows.num_rows
    row = again.slice(11, 1).to_pylist()[0]
    context = {"container id": row["container id"], "zone": "a"}
    admin = mill.client("admin", tally)
    old = {"tenant": row["tenant"], "container id": row["container id"], "purpose": "volume"}
    plaintexts = {
        admin.decrypt(CiphertextBlob=blob, EncryptionContext=bound_to)["Plaintext"]
        for blob, bound_to in ((row["ciphertext_blob"], context), (rows["ciphertext_blob"][11].as_py(), old))
    }
    assert len(plaintexts) == 1, "another data key"


def main() -> None:
    tally = Tally()
    with running() as mill:
        alias, arn = scene(mill, tally)
        table = bound(mill, alias, arn)
        in_batches(mill, alias, arn)
        with_blobs(mill, table, arn, tally)
        opens_alone(mill, table, tally)
        others(mill, alias, tally)
        slow(mill, alias)
        refusals(mill, alias, arn)
    report("pyarrow over the Unix socket", pyarrow.__version__, Stream.calls)
    report("boto3 on what pyarrow bound", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
