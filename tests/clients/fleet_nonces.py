"""The nonces of several daemons under one KMS key, compared: none is there twice.

    python3 tests/clients/fleet_nonces.py [COUNT]

Three daemons on one PostgreSQL issue data keys under one KMS key at the same time: most of them in batches, some one by one out of their pools.
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy
import wire
from daemon import BLOB_BYTES, Tally, report, wait_until
from fleet_load import Member, made_key
from issued import NONCE, of_json
from postgres import server

COUNT = 30_000_000
DATABASE = "fleet"
# In one call.
BATCH_KEYS = 20_000
# One of so many is issued by a call of its own.
SINGLES_OF = 300
WORDS = 3
# Odd numbers of 64 bits, from the digits of pi.
FACTORS = numpy.array([0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1], dtype=numpy.uint64)


def nonces_of(blobs: bytes) -> numpy.ndarray:
    """The nonces of these blobs, three words each."""
    octets = numpy.frombuffer(blobs, dtype=numpy.uint8).reshape(-1, BLOB_BYTES)[:, NONCE]
    return numpy.ascontiguousarray(octets).view(numpy.uint64)


def repeated(nonces: numpy.ndarray) -> int:
    """How many nonces are there before. Sorts a word made of all three; where two of these are equal, the nonces themselves are compared."""
    with numpy.errstate(over="ignore"):
        mixed = (nonces * FACTORS).sum(axis=1, dtype=numpy.uint64)
    order = numpy.argsort(mixed)
    mixed = mixed[order]
    suspects = numpy.flatnonzero(mixed[1:] == mixed[:-1])
    again = 0
    for at in suspects:
        alike, first = 0, at
        while first > 0 and mixed[first - 1] == mixed[at]:
            first -= 1
        for other in range(first, at + 1):
            alike |= bool((nonces[order[other]] == nonces[order[at + 1]]).all())
        again += alike
    return again


def issue(member: Member, key: str, count: int) -> numpy.ndarray:
    """So many data keys of one node, in batches and one by one."""
    found = []
    connection = wire.Connection(member.daemon.socket, 600)
    single = wire.operation("GenerateDataKeyWithoutPlaintext", json.dumps({"KeyId": key, "KeySpec": "AES_256"}).encode())
    left = count
    while left:
        keys = min(BATCH_KEYS, left)
        body = json.dumps({"KeyId": key, "KeySpec": "AES_256", "Count": keys, "EncryptionContext": {}}).encode()
        connection.send(wire.request("POST", "/v1/data-keys", {"Accept": "application/octet-stream"}, body))
        answer = connection.receive()
        assert answer.status == 200 and len(answer.body) == keys * BLOB_BYTES, (answer.status, answer.body[:200])
        found.append(nonces_of(answer.body))
        left -= keys
        blobs = bytearray()
        for _ in range(min(keys // SINGLES_OF, left)):
            connection.send(single)
            answer = connection.receive()
            assert answer.status == 200, answer
            blobs += of_json(answer.body)
            left -= 1
        if blobs:
            found.append(nonces_of(bytes(blobs)))
    return numpy.concatenate(found)


def compared(members: list[Member], key: str, count: int) -> None:
    """So many nonces of all nodes together."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(members)) as threads:
        parts = list(threads.map(lambda member: issue(member, key, count // len(members)), members))
    issued = time.monotonic()
    nonces = numpy.concatenate(parts)
    for part in parts:
        assert len(part) == count // len(members)
    parts.clear()
    # That the comparison finds what it looks for: two that are the same, put in.
    few = nonces[:1000].copy()
    few[999] = few[1]
    assert repeated(few) == 1
    again = repeated(nonces)
    assert again == 0, f"{again} nonces are there twice"
    assert nonces.shape[1] == WORDS
    print(
        f"{len(nonces):,} nonces of {len(members)} nodes under one KMS key, none twice: issued in {issued - began:.0f} s, "
        f"compared in {time.monotonic() - issued:.0f} s"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with server() as database, tempfile.TemporaryDirectory(prefix="fleet-nonces-", ignore_cleanup_errors=True) as name:
        folder, url = Path(name), database.url(DATABASE)
        database.ask("postgres", f"CREATE DATABASE {DATABASE}")
        members = [Member(f"node-{number}", folder, url, url, folder / "root.key", Tally(), 10) for number in range(3)]
        try:
            for member in members:
                member.start()
            key = made_key(members[0])
            wait_until(lambda: all(member.outcome(key) == "ok" for member in members), 10, "the key on every node")
            compared(members, key, count)
            print("resident: " + ", ".join(f"{wire.resident_bytes(member.daemon) >> 20} MiB" for member in members))
            for member in members:
                assert member.daemon.stop() == 0
        finally:
            for member in members:
                member.daemon.kill()
    report("raw connections for the nonces of several nodes", f"(numpy {numpy.__version__})", count)


if __name__ == "__main__":
    main()
