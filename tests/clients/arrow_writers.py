"""What writers of Arrow make of a table, as the daemon takes it: compressed batches, all rows in one batch, dictionaries that grow and that are nested; and `keymill bind`, whose result is whole or is not there."""

import json
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path

import arro3.core
import arro3.io
import polars
import pyarrow
import pyarrow.ipc
from arrow_streams import END
from daemon import BINARY, Daemon, Tally, environment, new_key, report, running

ALIAS = "alias/written"
QUERY = {"key": ALIAS, "spec": "AES_256", "context": "tenant"}
ADDED = ["ciphertext_blob", "key_arn", "key_material_id"]
# More than a record batch once had.
ROWS = 150_000
FEW = 20_000
TENANTS = 20
# What docs/interfaces.md says of the largest streams.
STREAM_BYTES_MAX = 160 << 20
MESSAGE_BYTES_MAX = 16 << 20
CUT = 18
calls: dict[str, int] = {}


def table(rows: int) -> pyarrow.Table:
    numbers = range(rows)
    return pyarrow.table({"tenant": [f"tenant-{row % TENANTS}" for row in numbers], "n": pyarrow.array(numbers, pyarrow.int64())})


def asked(mill: Daemon, who: str, body: bytes, **query: str) -> subprocess.CompletedProcess:
    """The answer to a stream, by curl."""
    calls[who] = calls.get(who, 0) + 1
    url = f"http://localhost/v1/data-keys/bind?{urllib.parse.urlencode(QUERY | query)}"
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--unix-socket", mill.socket, url, "-X", "POST", "-T", "-"]
    return subprocess.run(command, input=body, capture_output=True)


def bound(mill: Daemon, who: str, body: bytes, **query: str) -> pyarrow.Table:
    """The rows of an answer, which is whole."""
    answer = asked(mill, who, body, **query)
    assert answer.returncode == 0, (who, answer.stdout[-300:], answer.stderr)
    assert answer.stdout.endswith(END), f"{who}: no end"
    read = pyarrow.ipc.open_stream(answer.stdout).read_all()
    assert read.column_names[-3:] == ADDED, read.column_names
    assert len(set(read["ciphertext_blob"].to_pylist())) == read.num_rows
    return read


def told(mill: Daemon, who: str, body: bytes) -> tuple[str, str]:
    """Code and message of a refusal."""
    answer = asked(mill, who, body)
    assert answer.returncode == 22, (answer.returncode, answer.stdout[:200])
    refusal = json.loads(answer.stdout)
    return refusal["__type"], refusal.get("message", refusal.get("Message", ""))


def stream(batches: list[pyarrow.RecordBatch], **options) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batches[0].schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def same(read: pyarrow.Table, sent: pyarrow.Table) -> None:
    """All rows, in their order."""
    assert read.num_rows == sent.num_rows, (read.num_rows, sent.num_rows)
    for name in sent.column_names:
        assert read[name].to_pylist() == sent[name].to_pylist(), name


def compressed(mill: Daemon) -> None:
    """The defaults of arro3, and what pyarrow and Polars compress when they are told to."""
    sent = table(FEW)
    for codec in ("lz4", "zstd"):
        same(bound(mill, "pyarrow", stream(sent.to_batches(), compression=codec)), sent)
        keyed = sent.set_column(0, "tenant", sent["tenant"].dictionary_encode()).to_batches()
        same(bound(mill, "pyarrow", stream(keyed, compression=codec)), sent)
        file = mill.state / f"polars-{codec}.arrows"
        polars.from_arrow(sent).write_ipc_stream(file, compression=codec)
        same(bound(mill, "Polars", file.read_bytes()), sent)
    for codec in ("default", "LZ4", "ZSTD"):
        file = mill.state / f"arro3-{codec}.arrows"
        how = {} if codec == "default" else {"compression": codec}
        arro3.io.write_ipc_stream(arro3.core.Table.from_arrow(sent), file, **how)
        same(bound(mill, "arro3", file.read_bytes()), sent)


def in_one_batch(mill: Daemon) -> None:
    """All rows in one batch, as Polars and pyarrow write what is one chunk in memory."""
    sent = table(ROWS).combine_chunks()
    body = stream(sent.to_batches())
    assert len(list(pyarrow.ipc.open_stream(body))) == 1
    same(bound(mill, "pyarrow", body), sent)
    file = mill.state / "one.arrows"
    polars.from_arrow(sent, rechunk=True).write_ipc_stream(file)
    same(bound(mill, "Polars", file.read_bytes()), sent)


def dictionaries(mill: Daemon) -> None:
    names = [f"tenant-{row:05}" for row in range(3_000)]
    values = pyarrow.array(names)
    parts = [
        pyarrow.DictionaryArray.from_arrays(pyarrow.array(range(count), pyarrow.int32()), values.slice(0, count))
        for count in (10, 500, 500, 3_000)
    ]
    batches = [pyarrow.record_batch({"tenant": part}) for part in parts]
    sent = pyarrow.Table.from_batches(batches)
    same(bound(mill, "pyarrow", stream(batches, emit_dictionary_deltas=True)), sent)
    same(bound(mill, "pyarrow", stream(batches)), sent)
    lists = pyarrow.array([["a", "b"], [], None, ["c"]])
    keys = pyarrow.array([3, 0, 1, 2] * 5, pyarrow.int8())
    nested = pyarrow.record_batch({"tenant": pyarrow.array(names[:20]), "lists": pyarrow.DictionaryArray.from_arrays(keys, lists)})
    same(bound(mill, "pyarrow", stream([nested])), pyarrow.Table.from_batches([nested]))


def memory(mill: Daemon) -> int:
    status = Path(f"/proc/{mill.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def bombs(mill: Daemon) -> None:
    """A few bytes that claim many are refused for what they claim."""
    long = pyarrow.record_batch({"tenant": ["t"], "long": ["x" * 15_000_000]})
    true = (15_000_000).to_bytes(8, "little")
    before = memory(mill)
    for codec in ("lz4", "zstd"):
        body = stream([long], compression=codec)
        assert len(body) < 200_000, len(body)
        at = body.rindex(true)
        for claimed in (MESSAGE_BYTES_MAX, 1 << 33, (1 << 63) - 1):
            changed = body[:at] + claimed.to_bytes(8, "little") + body[at + 8 :]
            for _ in range(10):
                code, said = told(mill, "pyarrow", changed)
                assert code == "RequestEntityTooLargeException" or said.startswith("After 0 rows: The body of a message, decompressed, has at most"), (code, said)
    grown = memory(mill) - before
    assert grown < 8 << 20, f"claims have grown the daemon by {grown >> 20} MiB"


def largest(codec: str | None) -> None:
    """A stream whose messages are nearly as large as they may be: texts beside dictionaries that are replaced. A daemon of its own, since an allocator keeps what earlier streams had."""
    names = [pyarrow.array([f"{number}" * 7_000_000 for number in range(start, start + 2)]) for start in (1, 3)]
    batches = [
        pyarrow.record_batch({"tenant": ["t", "t"], "keyed": pyarrow.DictionaryArray.from_arrays([0, 1], name), "long": ["y" * 15_000_000, ""]})
        for name in names * 2
    ]
    with running() as mill:
        new_key(mill, ALIAS, Tally())
        before = memory(mill)
        same(bound(mill, "pyarrow", stream(batches, compression=codec)), pyarrow.Table.from_batches(batches))
        grown = memory(mill) - before
    print(f"a stream of the largest messages ({codec}) has grown the daemon by {grown >> 20} MiB")
    assert grown < STREAM_BYTES_MAX, f"the daemon has grown by {grown >> 20} MiB"


def command(mill: Daemon, *arguments: str | Path, **more) -> subprocess.CompletedProcess:
    """`keymill bind`, with the daemon's socket."""
    calls["keymill"] = calls.get("keymill", 0) + 1
    line = [BINARY, "bind", *arguments, "--endpoint", f"unix:{mill.socket}", "--key", ALIAS, "--context", "tenant"]
    return subprocess.run(line, capture_output=True, env=environment(), **more)


def whole_or_absent(mill: Daemon) -> None:
    """The command that puts keys into a file: whatever its input, and whatever stops it."""
    sent = table(ROWS)
    inputs = {name: mill.state / name for name in ("stream.arrows", "file.arrow", "packed.arrows", "polars.arrow", "cut.arrows", "null.arrows")}
    with pyarrow.ipc.new_stream(inputs["stream.arrows"], sent.schema) as writer:
        writer.write_table(sent)
    with pyarrow.ipc.new_file(inputs["file.arrow"], sent.schema) as writer:
        writer.write_table(sent, max_chunksize=FEW)
    polars.from_arrow(sent).write_ipc_stream(inputs["packed.arrows"], compression="zstd")
    for name in ("stream.arrows", "file.arrow", "packed.arrows"):
        out = mill.state / f"{name}.out"
        done = command(mill, inputs[name], "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        outcome = json.loads(done.stdout)
        assert (outcome["ending"], outcome["rows"], outcome["bytes"]) == ("finished", ROWS, out.stat().st_size), outcome
        read = pyarrow.ipc.open_stream(out).read_all()
        same(read, sent)
        assert len(set(read["ciphertext_blob"].to_pylist())) == ROWS
        again = command(mill, inputs[name], "--out", out)
        assert again.returncode == 1 and b"is there already" in again.stderr, again.stderr
    done = command(mill, "-", input=inputs["stream.arrows"].read_bytes())
    assert done.returncode == 0 and done.stdout.endswith(END) and f"finished: {ROWS} rows".encode() in done.stderr, done.stderr
    same(pyarrow.ipc.open_stream(done.stdout).read_all(), sent)
    # A row that has no context, an input that is cut, and a process that is killed.
    tenants = [*sent["tenant"].to_pylist()[:FEW], None]
    with pyarrow.ipc.new_stream(inputs["null.arrows"], pyarrow.schema({"tenant": pyarrow.string()})) as writer:
        writer.write_table(pyarrow.table({"tenant": tenants}))
    polars.from_arrow(sent).write_ipc(inputs["polars.arrow"])
    inputs["cut.arrows"].write_bytes(inputs["stream.arrows"].read_bytes()[:-8])
    out = mill.state / "absent.out"
    for name, said in {
        "null.arrows": f'row {FEW + 1}: Context column "tenant" is null; {out} was not made',
        "cut.arrows": f"after {ROWS} rows: it is not an Arrow IPC stream or file: it ends without its end-of-stream marker",
        "polars.arrow": "it is an Arrow file that cannot be read from its beginning, as those of Polars' write_ipc",
    }.items():
        refused = command(mill, inputs[name], "--out", out)
        assert refused.returncode == 1 and said in refused.stderr.decode(), refused.stderr
        assert not list(mill.state.glob("absent.out*")), "something is left"
        piped = command(mill, inputs[name])
        assert piped.returncode == 1 and not piped.stdout.endswith(END), piped.stderr
    line = [BINARY, "bind", "-", "--endpoint", f"unix:{mill.socket}", "--key", ALIAS, "--context", "tenant", "--out", out]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as waiting:
        waiting.stdin.write(inputs["stream.arrows"].read_bytes()[:-8])
        waiting.stdin.flush()
        while not out.with_name("absent.out.partial").exists():
            time.sleep(0.05)
        waiting.send_signal(signal.SIGKILL)
    assert not out.exists()
    done = command(mill, inputs["stream.arrows"], "--out", out)
    assert done.returncode == 0, done.stderr
    same(pyarrow.ipc.open_stream(out).read_all(), sent)


def cut_answers(mill: Daemon, admin) -> None:
    """What is refused far behind ends the connection, and curl says so; with `--remove-on-error` it leaves no file."""
    policy = json.loads(admin.get_key_policy(KeyId=key_of(admin))["Policy"])
    policy["Statement"].append({
        "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
        "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "nobody"}},
    })
    admin.put_key_policy(KeyId=key_of(admin), Policy=json.dumps(policy))
    tenants = ["tenant-1"] * (2 * FEW) + ["nobody"]
    body = stream(pyarrow.table({"tenant": tenants}).to_batches())
    answer = asked(mill, "pyarrow", body)
    assert answer.returncode == CUT and not answer.stdout.endswith(END), (answer.returncode, answer.stderr)
    file, out = mill.state / "late.arrows", mill.state / "late.out"
    file.write_bytes(body)
    url = f"http://localhost/v1/data-keys/bind?{urllib.parse.urlencode(QUERY)}"
    curl = ["curl", "--silent", "--fail", "--remove-on-error", "--unix-socket", mill.socket, "-o", out, "-T", file, "-X", "POST", url]
    assert subprocess.run(curl).returncode == CUT and not out.exists()
    refused = command(mill, file, "--out", out)
    said = f"{file}, row {2 * FEW + 1}: AccessDeniedException: User: "
    assert refused.returncode == 1 and said in refused.stderr.decode(), refused.stderr
    assert not list(mill.state.glob("late.out*")), "something is left"


def key_of(admin) -> str:
    return admin.describe_key(KeyId=ALIAS)["KeyMetadata"]["KeyId"]


def main() -> None:
    tally = Tally()
    for codec in (None, "lz4", "zstd"):
        largest(codec)
    with running() as mill:
        new_key(mill, ALIAS, tally)
        admin = mill.client("admin", tally)
        bombs(mill)
        compressed(mill)
        in_one_batch(mill)
        dictionaries(mill)
        whole_or_absent(mill)
        cut_answers(mill, admin)
    report("pyarrow's writers of streams", pyarrow.__version__, calls["pyarrow"])
    report("Polars' writer of streams", polars.__version__, calls["Polars"])
    report("arro3", arro3.io.__version__, calls["arro3"])


if __name__ == "__main__":
    main()
