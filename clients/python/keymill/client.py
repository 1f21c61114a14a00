"""Calls of a daemon, made again while it is restarted or a limit is reached."""

import http.client
import json
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.ipc

from keymill.connection import Answer, Connection
from keymill.errors import ConnectionLost, InvalidAnswer, RefusedRow, Unavailable, refusal
from keymill.patience import Patience
from keymill.signing import Credentials

ROWS_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
BLOBS_PATH = "/v1/data-keys"
# How long a call is made again, as the commands of keymill do.
PATIENCE_SECONDS = 120.0
# The marker that ends an Arrow stream: a continuation, and a message of no bytes.
ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# Bytes of an answer beyond its rows: schema and dictionaries. And of one row beyond what was sent,
# where the caller's limit is so low that each row is a record batch of its own.
ANSWER_BYTES_MORE = 1 << 20
ANSWER_ROW_BYTES_MORE = 16 * 1024
BLOB_BYTES_MAX = 4160
# Pairs of a query, of which a name may be there many times.
Query = Sequence[tuple[str, str]]

# The endpoints that this process has had an answer from. A daemon that was there is waited for; one
# that never was is a wrong address, which is told at once.
_reached: set[str] = set()


@dataclass(frozen=True)
class Blobs:
    """Wrapped keys of one length under one generation, one after the other in `content`."""

    content: bytes
    blob_bytes: int
    count: int
    key_arn: str
    key_material_id: str


class Client:
    """A connection to the daemon at `endpoint`: unix:PATH, http://HOST:PORT or https://HOST:PORT.

    Without one, the variable KEYMILL_ENDPOINT or AWS_ENDPOINT_URL_KMS names it. On a Unix socket
    the kernel says who asks. Over HTTP the calls are signed with `credentials`, or those that
    botocore finds; `ca_bundle`, or AWS_CA_BUNDLE, names the certificate authorities of https.

    A call that is throttled, or whose connection breaks, is made again for `patience_seconds`
    (120) without progress, with `Retry-After` respected; a warning of the logger `keymill` tells of
    it. What came whole is kept, and only the rest is asked for again, so no row has two keys. A
    daemon that this process has never reached is not waited for.

    A context manager. Not for several threads, and not for a process that was forked: open one in
    each.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        region: str | None = None,
        ca_bundle: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ):
        variables = ("KEYMILL_ENDPOINT", "AWS_ENDPOINT_URL_KMS")
        named = [endpoint, *(os.environ.get(variable) for variable in variables)]
        found = next((name for name in named if name), None)
        if found is None:
            raise ValueError("name the daemon: endpoint=, KEYMILL_ENDPOINT or AWS_ENDPOINT_URL_KMS")
        self._endpoint, self._patience_seconds = found, patience_seconds
        self._connection = Connection(found, credentials, region, ca_bundle)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def rows(self, endpoint: str, query: Query, rows: pyarrow.RecordBatch) -> pyarrow.Table:
        """The answer of `bind`, `rewrap` or `verify` to these rows: as many, in their order.

        The rows of one call are at most 1 MiB as an Arrow stream. Raises RefusedRow, whose row is
        counted within them, or another KeymillError.
        """
        encoded = "&".join(f"{_quote(name)}={_quote(value)}" for name, value in query)
        target = f"{BLOBS_PATH}/{endpoint}?{encoded}"
        headers = {"Content-Type": ROWS_MEDIA_TYPE, "Accept": ROWS_MEDIA_TYPE}
        answered: list[pyarrow.Table] = []
        done, patience = 0, self._patience()
        while True:
            body = _encode(rows.slice(done))
            most = len(body) + ANSWER_BYTES_MORE + rows.num_rows * ANSWER_ROW_BYTES_MORE
            try:
                answer = self._call(target, body, headers, most, patience)
            except RefusedRow as error:
                raise error.behind(done) from error.__cause__
            table = _decode(answer, rows.num_rows - done)
            if table is not None and table.num_rows > 0:
                answered.append(table)
                done += table.num_rows
                patience.rest()
            if answer.cut is None or done == rows.num_rows:
                return pyarrow.concat_tables(answered)
            if table is None or table.num_rows == 0:
                patience.wait(self._lost(answer.cut))

    def blobs(self, asked: dict[str, Any]) -> Blobs:
        """Wrapped keys of a batch, whole ones: as many as were asked for, or fewer, but one.

        The daemon ends a batch early when the key is rotated, for example; the next call then says
        why, if there is a reason to refuse it. Raises KeymillError.
        """
        body = json.dumps(asked).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/octet-stream"}
        most, patience = asked["Count"] * BLOB_BYTES_MAX, self._patience()
        while True:
            answer = self._call(BLOBS_PATH, body, headers, most, patience)
            try:
                size = int(answer.headers["keymill-blob-bytes"])
                arn = answer.headers["keymill-key-arn"]
                material = answer.headers["keymill-key-material-id"]
                count = len(answer.body) // size
            except (KeyError, ValueError, ZeroDivisionError) as error:
                raise self._odd("a batch without its headers") from error
            if count > asked["Count"] or (answer.cut is None and count != asked["Count"]):
                raise self._odd(f"{count} blobs to {asked['Count']}")
            if count > 0:
                patience.rest()
                return Blobs(answer.body, size, count, arn, material)
            patience.wait(self._lost(answer.cut or "an empty batch"))

    def _patience(self) -> Patience:
        return Patience(self._endpoint, self._patience_seconds)

    def _call(
        self, target: str, body: bytes, headers: dict[str, str], bytes_max: int, patience: Patience
    ) -> Answer:
        """The answer of a call that was taken; it may be cut."""
        while True:
            try:
                answer = self._connection.post(target, body, headers, bytes_max)
            except ConnectionLost as error:
                if self._endpoint not in _reached:
                    raise
                patience.wait(error)
                continue
            _reached.add(self._endpoint)
            if answer.status == http.client.OK:
                if answer.cut is None:
                    patience.rest()
                return answer
            refused = refusal(answer.status, answer.body, answer.retry_after_seconds)
            if not isinstance(refused, Unavailable):
                raise refused
            patience.wait(refused)

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost("ConnectionLost", f"{self._endpoint}: {reason}")

    def _odd(self, reason: str) -> InvalidAnswer:
        return InvalidAnswer("InvalidAnswer", f"{self._endpoint}: {reason}")


def _quote(text: str) -> str:
    """As signatures want it: everything but what RFC 3986 calls unreserved."""
    return urllib.parse.quote(text, safe="")


def _encode(rows: pyarrow.RecordBatch) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue().to_pybytes())


def _decode(answer: Answer, count: int) -> pyarrow.Table | None:
    """The rows of an answer: all of them, or those that came whole before it was cut.

    Arrow's readers take a stream without its end marker for whole, so it is looked for.
    """
    batches: list[pyarrow.RecordBatch] = []
    try:
        reader = pyarrow.ipc.open_stream(answer.body)
        # One by one: those before the place where it breaks off are good.
        for batch in reader:
            batches.append(batch)  # noqa: PERF402
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        if answer.cut is None:
            raise InvalidAnswer("InvalidAnswer", f"not an Arrow stream: {error}") from error
    rows = sum(batch.num_rows for batch in batches)
    whole = answer.cut is None
    if whole and not answer.body.endswith(ARROW_END):
        raise InvalidAnswer("InvalidAnswer", "an Arrow stream without its end marker")
    if rows > count or (whole and rows != count):
        raise InvalidAnswer("InvalidAnswer", f"{rows} rows to {count}")
    return pyarrow.Table.from_batches(batches, reader.schema) if batches or whole else None
