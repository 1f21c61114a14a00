"""Data keys that have left a daemon, singly, in batches and in streams: none twice, none without its record in the audit log."""

import base64
import json
import threading
from collections import Counter
from pathlib import Path

import pyarrow.ipc
from blake3 import blake3
from daemon import BLOB_BYTES

NONCE, EPOCH = slice(24, 48), slice(24, 44)
# What records call a single key, a batch and a stream.
SINGLE, BATCH, STREAM = "GenerateDataKeyWithoutPlaintext", "DataKeys", "Bind"


class Issued:
    """What has left during one life of the daemon, and the epochs of its lives before; written by many threads.

    An epoch dies with its process, so that nonces need to be compared within a life only, and epochs with all lives before.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.epochs_before: set[bytes] = set()
        self.counts: Counter = Counter()
        self.begin()

    def begin(self) -> None:
        """Another life begins."""
        self.nonces: set[bytes] = set()
        self.blobs: list[bytes] = []
        self.answered: list[str] = []
        self.streams: list[tuple[str, str, list[bytes]]] = []

    def single(self, request: str, blob: bytes) -> None:
        self.keep(SINGLE, [blob])
        self.answered.append(request)

    def stream(self, kind: str, request: str, blobs: list[bytes]) -> None:
        """What has come of a batch or a stream, whole or not."""
        self.keep(kind, blobs)
        self.streams.append((kind, request, blobs))

    def keep(self, kind: str, blobs: list[bytes]) -> None:
        with self.lock:
            before = len(self.nonces)
            self.nonces.update(blob[NONCE] for blob in blobs)
            assert len(self.nonces) == before + len(blobs), f"issued twice: a nonce of a {kind}"
            self.counts[kind] += len(blobs)
            self.blobs += blobs[:1]

    def end(self, records: list[dict]) -> list[bytes]:
        """Checks a life that has ended against its records, and returns some of its blobs."""
        epochs = {nonce[:20] for nonce in self.nonces}
        again = epochs & self.epochs_before
        assert not again, f"issued twice: {len(again)} epochs of an earlier life"
        self.epochs_before |= epochs
        ids = {record["requestID"] for record in records}
        lost = [request for request in self.answered if request not in ids]
        assert not lost, f"{len(lost)} of {len(self.answered)} answered calls have no record: {lost[:3]}"
        chunks: dict[str, dict[int, str]] = {}
        for record in records:
            if record["eventName"] in (BATCH, STREAM) and "additionalEventData" in record:
                data = record["additionalEventData"]
                if "count" in data:
                    chunks.setdefault(record["requestID"], {})[data["count"]] = data["rowsBlake3"]
        for kind, request, blobs in self.streams:
            self.recorded(kind, blobs, chunks.get(request, {}))
        return self.blobs

    @staticmethod
    def recorded(kind: str, blobs: list[bytes], told: dict[int, str]) -> None:
        """No more came than was recorded, and what came is what was recorded."""
        assert not blobs or told and max(told) >= len(blobs), f"{len(blobs)} keys of a {kind} came, {max(told, default=0)} are recorded"
        digest, done = blake3(), 0
        for count in sorted(count for count in told if 0 < count <= len(blobs)):
            digest.update(b"".join(blobs[done:count]))
            done = count
            assert digest.hexdigest() == told[count], f"the digest of {count} rows of a {kind}"


class Trail:
    """The audit log, read from where it was read to before. The daemon must have started since it was killed: that completes the log."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.read_to: dict[Path, int] = {}
        self.records = 0

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))

    def news(self) -> list[dict]:
        found = []
        for file in self.files():
            begin = self.read_to.get(file, 0)
            if file.stat().st_size == begin:
                continue
            with file.open("rb") as log:
                log.seek(begin)
                lines = log.read().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            self.read_to[file] = begin + sum(map(len, whole))
            found += [json.loads(line) for line in whole if line.startswith(b'{"eventVersion"')]
        self.records += len(found)
        return found


def of_octets(body: bytes) -> list[bytes]:
    """The blobs that are whole in a batch's octets."""
    return [body[at : at + BLOB_BYTES] for at in range(0, len(body) - BLOB_BYTES + 1, BLOB_BYTES)]


def of_arrow(body: bytes) -> list[bytes]:
    """The blobs in the record batches that are whole."""
    blobs: list[bytes] = []
    try:
        for batch in pyarrow.ipc.open_stream(body):
            blobs += batch.column("ciphertext_blob").to_pylist()
    except (pyarrow.ArrowInvalid, OSError):
        pass
    return blobs


def of_json(body: bytes) -> bytes:
    return base64.b64decode(json.loads(body)["CiphertextBlob"])
