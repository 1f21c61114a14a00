"""The Python package where the daemon is restarted, throttles, or answers what it should not: nothing is lost, bound twice, or taken for whole."""

import concurrent.futures
import contextlib
import email.utils
import http.server
import json
import logging
import socketserver
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.ipc
from daemon import ALIAS, ROOT, Daemon, new_key, report, running
from python_package import raises
from throttle import limit

sys.path.insert(0, str(ROOT / "clients" / "python"))
import keymill  # noqa: E402
import keymill.patience  # noqa: E402

ROWS = 200_000
KEYS_PER_SECOND = 500
WORKERS = 8
BLOB = b"b" * 96
KEYS = {"key_arn": "arn", "key_material_id": "material"}
HEAD = {"Keymill-Key-Arn": "arn", "Keymill-Key-Material-Id": "material", "Keymill-Blob-Bytes": "96"}


class Told(logging.Handler):
    """What the package logs."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def took(self) -> list[str]:
        """The lines since the last time."""
        lines, self.lines = self.lines, []
        return lines


class Restart:
    """Ends the daemon and starts it again, beside the call that has just said how far it is."""

    def __init__(self, mill: Daemon, end):
        self.mill, self.end, self.rows, self.threads = mill, end, 0, []

    def __call__(self, rows: int) -> None:
        self.rows += rows
        if not self.threads:
            self.threads.append(threading.Thread(target=self.run))
            self.threads[0].start()

    def run(self) -> None:
        self.end()
        time.sleep(0.3)
        self.mill.start()

    def done(self, rows: int, told: Told) -> None:
        self.threads[0].join()
        lines = told.took()
        assert self.rows == rows, (self.rows, rows)
        assert any("lost the daemon" in line for line in lines) and any("goes on after" in line for line in lines), lines


def restarted(mill: Daemon, end, told: Told) -> None:
    """The daemon goes away in the middle of each kind of call, and comes back."""
    sockets = {name: f"unix:{path}" for name, path in mill.facts["sockets"].items()}
    provisioner = f"unix:{mill.socket}"
    sent = pyarrow.table({"volume": [f"volume-{row}" for row in range(ROWS)]})
    restart = Restart(mill, end)
    bound = keymill.bind(sent, key=ALIAS, context=["volume"], progress=restart, endpoint=provisioner)
    restart.done(ROWS, told)
    assert bound["volume"].equals(sent["volume"]) and pyarrow.compute.count_distinct(bound["ciphertext_blob"]).as_py() == ROWS
    restart = Restart(mill, end)
    exported = keymill.export(5 * ROWS, key=ALIAS, progress=restart, endpoint=provisioner)
    restart.done(5 * ROWS, told)
    assert pyarrow.compute.count_distinct(exported["ciphertext_blob"]).as_py() == 5 * ROWS
    assert exported["container_id"].to_pylist() == [f"container-{row:012}" for row in range(5 * ROWS)]
    restart = Restart(mill, end)
    moved = keymill.rewrap(bound, key=ALIAS, progress=restart, endpoint=sockets["rewrapper"])
    restart.done(ROWS, told)
    restart = Restart(mill, end)
    found = keymill.verify(moved, progress=restart, endpoint=sockets["consumer"])
    restart.done(ROWS, told)
    assert found.ok and found.rows == ROWS, found


def slowed(mill: Daemon) -> None:
    """At a low limit rows come a few at a time, and a row that is refused among them is named all the same."""
    key, _, alias, _ = new_key(mill, "alias/slow")
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": mill.principal("admin")["arn"]}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": mill.principal("provisioner")["arn"]}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*"},
        {
            "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
            "Condition": {"StringEquals": {"kms:EncryptionContext:volume": "volume-1600"}},
        },
    ]
    mill.client("admin").put_key_policy(KeyId=key, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    limit(mill, KEYS_PER_SECOND)
    asked = {"key": alias, "context": ["volume"], "endpoint": f"unix:{mill.socket}"}
    sent = pyarrow.table({"volume": [f"volume-{row}" for row in range(1700)]})
    bound = keymill.bind(sent.slice(0, 1600), **asked)
    assert pyarrow.compute.count_distinct(bound["ciphertext_blob"]).as_py() == 1600
    error = raises(keymill.RefusedRow, "row 1600: AccessDeniedException", keymill.bind, sent, **asked)
    assert error.row == 1600, vars(error)
    exported = keymill.export(1000, key=alias, endpoint=f"unix:{mill.socket}")
    assert pyarrow.compute.count_distinct(exported["ciphertext_blob"]).as_py() == 1000


def throttled(told: Told) -> None:
    """The daemon's own word of throttling, when many calls share a limit that is too low: all are waited out."""
    limits = {"KEYMILL_RATES__PRINCIPAL_KEYS_PER_SECOND": "10", "KEYMILL_LIMITS__WRITE_TIMEOUT_MS": "100"}
    with running(limits) as mill, concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        work = [pool.submit(call, 4, f"unix:{mill.socket}", ALIAS) for call in WORKERS // 2 * (bind, export)]
        blobs = [blob for done in work for blob in done.result()["ciphertext_blob"].to_pylist()]
        assert len(blobs) == len(set(blobs)) == 4 * WORKERS, len(blobs)
    lines = told.took()
    assert any("told to wait (ThrottlingException: " in line for line in lines) and any("goes on" in line for line in lines), lines


class Script(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A daemon that answers one call after the other as it is told, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path):
        super().__init__(str(path), Answering)
        self.answers: list = []
        self.rows: list[int] = []


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)["Count"] if body[:1] == b"{" else pyarrow.ipc.open_stream(body).read_all().num_rows
        self.server.rows.append(asked)
        self.server.answers.pop(0)(self, asked)

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        # A client that has read enough hangs up.
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def cut(self) -> None:
        """Ends the connection."""
        self.close_connection = True

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_) -> None:
        pass


def stream(rows: int, batch: int = 2) -> bytes:
    """An answer of so many rows, some to a record batch."""
    sink = pyarrow.BufferOutputStream()
    columns = {"ciphertext_blob": pyarrow.array([BLOB] * rows, pyarrow.binary())} | {name: [value] * rows for name, value in KEYS.items()}
    table = pyarrow.table(columns)
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return sink.getvalue().to_pybytes()


def whole(answer, asked: int) -> None:
    answer.say(200, stream(asked))


def refusing(status: int, code: str = "", **headers: str):
    body = json.dumps({"__type": code, "message": "text"}).encode() if code else b"<html>"
    return lambda answer, asked: answer.say(status, body, **headers)


def saying(body: bytes, **headers: str):
    return lambda answer, asked: answer.say(200, body, **headers)


def cut_after(rows: int, chunked: bool):
    """So many rows and no end: no marker, and the framing breaks off as well."""

    def answer_part(answer, asked: int) -> None:
        part = stream(rows)[:-8]
        if chunked:
            answer.say(200, b"%x\r\n%s\r\n" % (len(part), part), Content_Length="", Transfer_Encoding="chunked")
        else:
            answer.say(200, part, Content_Length=str(len(part) + 1000))
        answer.cut()

    return answer_part


def gone(answer, asked: int) -> None:
    answer.cut()


def head_alone(answer, asked: int) -> None:
    answer.wfile.write(b"HTTP/1.1 200 OK\r\n")
    answer.cut()


@contextlib.contextmanager
def scripted(folder: Path):
    """A daemon that is a script, which this process has reached before."""
    with Script(folder / "scripted.sock") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"unix:{folder}/scripted.sock"
        server.answers.append(whole)
        assert bind(1, endpoint).num_rows == 1
        yield server, endpoint
        server.shutdown()


def bind(rows: int, endpoint: str, key: str = "k", **given) -> pyarrow.Table:
    with keymill.Client(endpoint, **given) as client:
        return keymill.bind(pyarrow.table({"volume": [str(row) for row in range(rows)]}), key=key, context=["volume"], client=client)


def export(rows: int, endpoint: str, key: str = "k", **given) -> pyarrow.Table:
    with keymill.Client(endpoint, **given) as client:
        return keymill.export(rows, key=key, client=client)


def odd_answers(told: Told) -> None:
    """Cut answers, and those that readers of Arrow would take for whole. No time passes: the pauses are noted."""
    pauses: list[float] = []
    real, keymill.patience.time.sleep = keymill.patience.time.sleep, pauses.append
    with tempfile.TemporaryDirectory() as temporary:
        with scripted(Path(temporary)) as (server, endpoint):
            waits(server, endpoint, pauses, told)
            cuts(server, endpoint)
            odd(server, endpoint)
            assert not server.answers
        # What was there is waited for, and not for ever.
        raises(keymill.ConnectionLost, "refused", bind, 1, endpoint, patience_seconds=0.05)
        assert "lost the daemon" in told.took()[-1]
        # What never was is told at once.
        raises(keymill.ConnectionLost, "No such file", bind, 1, f"unix:{temporary}/never.sock")
    keymill.patience.time.sleep = real


def waits(server: Script, endpoint: str, pauses: list[float], told: Told) -> None:
    """Throttling and failures are waited out, at least as long as the answer asks."""
    busy = refusing(400, "ThrottlingException")
    server.answers += [busy, busy, refusing(500, "KMSInternalException"), refusing(502), whole]
    assert bind(3, endpoint).num_rows == 3
    assert len(pauses) == 4 and all(pause <= 2 for pause in pauses), pauses
    assert [line.split(": ", 1)[1].split(" ")[0] for line in told.took()] == ["told", "goes"]
    pauses.clear()
    server.answers += [refusing(429, Retry_After="7"), refusing(503, Retry_After=email.utils.formatdate(time.time() + 30, usegmt=True)), whole]
    assert bind(3, endpoint).num_rows == 3
    assert pauses[0] == 7 and 20 < pauses[1] <= 30, pauses
    pauses.clear()
    server.answers += [refusing(429, Retry_After="soon"), whole]
    assert bind(3, endpoint).num_rows == 3 and pauses[0] < 1, pauses
    # Longer than it may wait: not waited for at all.
    server.answers += [refusing(400, "ThrottlingException", Retry_After="1000")]
    error = raises(keymill.Throttled, "ThrottlingException: text", bind, 3, endpoint)
    assert error.retry_after_seconds == 1000, vars(error)
    server.answers += [busy]
    raises(keymill.Throttled, "ThrottlingException: text", bind, 3, endpoint, patience_seconds=0)
    server.answers += [refusing(500)]
    error = raises(keymill.Unavailable, "status 500", bind, 3, endpoint, patience_seconds=0)
    assert not isinstance(error, keymill.ConnectionLost), error
    server.answers += [gone, gone, whole]
    assert bind(3, endpoint).num_rows == 3


def cuts(server: Script, endpoint: str) -> None:
    """What came whole is kept, and only the rest is asked for again."""
    for chunked in (True, False):
        server.rows.clear()
        server.answers += [cut_after(4, chunked), cut_after(0, chunked), head_alone, gone, cut_after(2, chunked), whole]
        assert bind(9, endpoint)["volume"].to_pylist() == [str(row) for row in range(9)]
        assert server.rows == [9, 5, 5, 5, 5, 3], server.rows
        server.answers += [cut_after(4, chunked), refusing(400, "AccessDeniedException"), cut_after(4, chunked)]
        raises(keymill.AccessDenied, "text", bind, 9, endpoint)
        server.answers += [lambda answer, asked: answer.say(400, b'{"__type":"AccessDeniedException","message":"Row 1: no"}')]
        error = raises(keymill.RefusedRow, "row 5: AccessDeniedException: no", bind, 9, endpoint)
        assert error.row == 5, vars(error)
    server.answers += [cut_after(0, True)]
    raises(keymill.ConnectionLost, "broke off", bind, 9, endpoint, patience_seconds=0)
    # Octets are good as far as they are whole.
    server.rows.clear()
    head = {name.replace("-", "_"): value for name, value in HEAD.items()}

    def blobs(answer, asked: int) -> None:
        answer.say(200, BLOB * 2 + b"half", **head, Content_Length=str(asked * 96))
        answer.cut()

    server.answers += [blobs, gone, lambda answer, asked: answer.say(200, BLOB * asked, **head)]
    assert export(5, endpoint)["ciphertext_blob"].to_pylist() == [BLOB] * 5
    assert server.rows == [5, 3, 3], server.rows


def odd(server: Script, endpoint: str) -> None:
    """An answer that HTTP calls whole, and that is not."""
    for body, says in (
        (stream(9)[:-8], "end marker"), (stream(8), "8 rows to 9"), (stream(10), "10 rows to 9"), (b"", "not an Arrow stream"),
        (b"<html>", "not an Arrow stream"), (b"x" * 4_000_000, "more than"),
    ):
        server.answers += [saying(body)]
        raises(keymill.InvalidAnswer, says, bind, 9, endpoint)
    server.answers += [refusing(404), lambda answer, asked: answer.wfile.write(b"SSH-2.0\r\n") and answer.cut()]
    raises(keymill.InvalidAnswer, "status 404", bind, 9, endpoint)
    raises(keymill.InvalidAnswer, "SSH-2.0", bind, 9, endpoint)
    head = {name.replace("-", "_"): value for name, value in HEAD.items()}
    server.answers += [saying(BLOB * 5), saying(BLOB * 4, **head), saying(BLOB * 6, **head), saying(BLOB, **(head | {"Keymill_Blob_Bytes": "0"}))]
    for says in ("without its headers", "4 blobs to 5", "6 blobs to 5", "without its headers"):
        raises(keymill.InvalidAnswer, says, export, 5, endpoint)


def main() -> None:
    told = Told()
    logging.getLogger("keymill").addHandler(told)
    odd_answers(told)
    throttled(told)
    with running() as mill:
        restarted(mill, mill.stop, told)
        restarted(mill, mill.kill, told)
        slowed(mill)
    report("pyarrow on calls of the Python package that waited", pyarrow.__version__, 10)


if __name__ == "__main__":
    main()
