"""Kill -9 under mixed load, again and again on one folder: no change that was acknowledged is lost, no key leaves twice, none without its record.

    python3 tests/clients/kills.py [KILLS [SEED]]

Changes of all that a store keeps, single keys, batches and streams of containers run at once while audit files follow each other. Each kill waits for a moment of that
work: the n-th answer, a change that was just sent or just answered, a piece of a batch or stream, the first bytes of an audit file, a start that is under way.
"""

import base64
import contextlib
import functools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import daemon
import pyarrow
import wire
from audit import whole
from changes import Asker, Writer
from daemon import ALIAS, Daemon, environment, running
from issued import BATCH, STREAM, Issued, Trail, of_arrow, of_json, of_octets
from wire import ARROW, Closed, Connection

KILLS = 15
WRITERS, SINGLES = 3, 2
# After so many, everything is asked for, and the whole of the log verified.
CHECKED_KILLS = 100
# A moment that does not come within it is a fault of this test.
MOMENT_SECONDS = 60
CLOSING_SECONDS = 5
OPENED = 5
BATCH_KEYS = (500, 20_000)
STREAM_ROWS, STREAM_BATCHES = 300, 4
# Makes records long, so that files follow each other.
PADDING = 2_000
# Moments, how often of a hundred, and up to which count of them it is waited.
MOMENTS = {"answer": (20, 400), "change sent": (25, 25), "change answered": (15, 25), BATCH: (10, 12), STREAM: (10, 12), "audit file": (12, 1), "start": (8, 1)}
# A change that has been sent is killed within it: while it is read, judged, written, synced or
# answered.
CHANGE_SECONDS = 0.004
SETTINGS = """
[audit]
file_bytes_max = 1048576
"""


class Moment:
    """When the daemon is killed: at the n-th time that this comes to pass."""

    def __init__(self, mill: Daemon, kind: str, count: int, delay: float):
        self.mill, self.kind, self.left, self.delay = mill, kind, count, delay
        self.lock = threading.Lock()
        self.is_over = threading.Event()

    def comes(self, kind: str) -> None:
        if kind != self.kind:
            return
        with self.lock:
            self.left -= 1
            if self.left == 0:
                time.sleep(self.delay)
                os.kill(self.mill.process.pid, signal.SIGKILL)
                self.is_over.set()


def until_killed(work: Callable[[Moment], None], moment: Moment) -> None:
    """Works until the daemon is gone."""
    with contextlib.suppress(OSError, Closed):
        work(moment)


class Load:
    """All that goes on at once. Every worker ends when the daemon does."""

    def __init__(self, mill: Daemon, writers: list[Writer], issued: Issued, chance: random.Random):
        self.mill, self.writers, self.issued, self.chance = mill, writers, issued, chance

    def run(self, moment: Moment) -> None:
        """Returns after the kill, when everybody has noticed."""
        work = [functools.partial(self.change, writer) for writer in self.writers] + [self.single] * SINGLES + [self.batch, self.stream]
        with ThreadPoolExecutor(len(work)) as threads:
            jobs = [threads.submit(until_killed, one, moment) for one in work]
            try:
                self.wait(moment, jobs)
            finally:
                self.mill.kill()
        for job in jobs:
            job.result()

    def wait(self, moment: Moment, jobs: list) -> None:
        files, deadline = self.files(), time.monotonic() + MOMENT_SECONDS
        while not moment.is_over.wait(0.0005 if moment.kind == "audit file" else 0.05):
            for job in jobs:
                if job.done():
                    job.result()
                    # A daemon closes its connections a little before it is gone.
                    deadline = min(deadline, time.monotonic() + CLOSING_SECONDS)
            assert time.monotonic() < deadline, f"no {moment.kind} came, or a connection was closed before the kill"
            if moment.kind == "audit file" and self.files() != files:
                moment.comes("audit file")

    def files(self) -> int:
        return sum(entry.name.endswith(".jsonl") for entry in os.scandir(self.mill.state / "audit"))

    def change(self, writer: Writer, moment: Moment) -> None:
        asker = Asker(self.mill)
        while True:
            change = writer.next()
            writer.sent(change)
            connection = asker.send(change.operation, change.members, change.is_of_operator)
            moment.comes("change sent")
            answer = connection.receive()
            if not answer.is_whole:
                return
            writer.answered(answer)
            self.issued.answered.append(answer.headers["x-amzn-requestid"])
            moment.comes("change answered")
            moment.comes("answer")

    def single(self, moment: Moment) -> None:
        connection = Connection(self.mill.socket)
        body = json.dumps({"KeyId": ALIAS, "KeySpec": "AES_256", "EncryptionContext": {"padding": "x" * PADDING}}).encode()
        request = wire.operation("GenerateDataKeyWithoutPlaintext", body)
        while True:
            connection.send(request)
            answer = connection.receive()
            if not answer.is_whole:
                return
            assert answer.status == 200, answer
            self.issued.single(answer.headers["x-amzn-requestid"], of_json(answer.body))
            moment.comes("answer")

    def batch(self, moment: Moment) -> None:
        while True:
            members = {"KeyId": ALIAS, "KeySpec": "AES_256", "Count": self.chance.choice(BATCH_KEYS), "EncryptionContext": {}}
            self.taken(BATCH, wire.request("POST", "/v1/data-keys", {"Accept": "application/octet-stream"}, json.dumps(members).encode()), moment)

    def stream(self, moment: Moment) -> None:
        sink = pyarrow.BufferOutputStream()
        rows = pyarrow.record_batch({"tenant": pyarrow.array(["t"] * STREAM_ROWS)})
        with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
            for _ in range(STREAM_BATCHES):
                writer.write_batch(rows)
        target = f"/v1/data-keys/bind?key={ALIAS}&spec=AES_256&context=tenant"
        request = wire.request("POST", target, {"Content-Type": ARROW}, sink.getvalue().to_pybytes())
        while True:
            self.taken(STREAM, request, moment)

    def taken(self, kind: str, request: bytes, moment: Moment) -> None:
        """Keeps what comes of a batch or a stream, whole or not."""
        connection = Connection(self.mill.socket)
        connection.send(request)
        head, body = connection.head(), bytearray()
        for piece in connection.pieces(head):
            body += piece
            moment.comes(kind)
        connection.close()
        assert head.status == 200, (head, body)
        self.issued.stream(kind, head.headers["x-amzn-requestid"], (of_octets if kind == BATCH else of_arrow)(bytes(body)))


def kill_while_starting(mill: Daemon, seconds: float) -> None:
    """The daemon is down, and is killed before it has come up, or as soon as it has."""
    command = [daemon.BINARY, "dev", "--json", "--dir", mill.state, "--listen", "127.0.0.1:0"]
    with mill.log.open("ab") as log, subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log) as starting:
        time.sleep(seconds)
        starting.kill()


def opened(asker: Asker, blobs: list[bytes]) -> None:
    """What had left opens, each under the context that it had."""
    contexts = [{"padding": "x" * PADDING}, {}, {"tenant": "t"}]
    for blob in blobs:
        answers = [asker.call("Decrypt", {"CiphertextBlob": base64.b64encode(blob).decode(), "EncryptionContext": context}) for context in contexts]
        assert [answer.status for answer in answers].count(200) == 1, answers


class Run:
    """All of the kills on one folder."""

    def __init__(self, mill: Daemon, seed: str):
        self.mill, self.chance = mill, random.Random(seed)
        account = mill.facts["account"]
        arn = lambda resource: f"arn:aws:iam::{account}:{resource}"
        self.writers = [Writer(f"writer-{number}", arn, random.Random(f"{seed}-{number}")) for number in range(WRITERS)]
        self.issued, self.trail = Issued(), Trail(mill.state / "audit")
        self.load = Load(mill, self.writers, self.issued, self.chance)
        self.kinds: Counter = Counter()
        self.done_unanswered = 0
        self.starts: list[float] = []

    def kill(self) -> None:
        """One life of the daemon: load, a kill, a start, and what must be so afterwards."""
        kind = self.chance.choices(list(MOMENTS), [often for often, _ in MOMENTS.values()])[0]
        self.kinds[kind] += 1
        is_start = kind == "start"
        waited = "answer" if is_start else kind
        self.load.run(Moment(self.mill, waited, self.chance.randint(1, MOMENTS[waited][1]), self.chance.uniform(0, CHANGE_SECONDS) if kind == "change sent" else 0))
        if is_start:
            kill_while_starting(self.mill, self.chance.uniform(0, 1.2 * statistics.median(self.starts or [0.05])))
            self.kinds["answer"] += 1
        began = time.monotonic()
        self.mill.start()
        self.starts.append(time.monotonic() - began)

    def check(self, is_thorough: bool) -> None:
        """Holds the daemon that came after to all that its predecessor has answered."""
        asker = Asker(self.mill)
        blobs = self.issued.end(self.trail.news())
        opened(asker, self.chance.sample(blobs, min(OPENED, len(blobs))))
        for writer in self.writers:
            self.done_unanswered += writer.ask(asker, is_thorough)
        if is_thorough:
            whole(self.mill)
        self.issued.begin()

    def figures(self) -> None:
        done: Counter = Counter()
        for writer in self.writers:
            done += writer.done
        counts, starts = self.issued.counts, sorted(self.starts)
        print(f"{self.kinds.total():,} kills: " + ", ".join(f"{count} at {kind}" for kind, count in sorted(self.kinds.items())))
        print(f"{done.total():,} changes acknowledged, none lost; {self.done_unanswered} done without an answer: " + ", ".join(f"{name} {count}" for name, count in sorted(done.items())))
        print(f"{counts.total():,} keys, none twice: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())))
        print(f"{self.trail.records:,} records in {len(self.trail.files()):,} audit files, none missing")
        print(f"restart: median {statistics.median(starts) * 1000:.0f} ms, at most {starts[-1] * 1000:.0f} ms", flush=True)


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    seed = sys.argv[2] if len(sys.argv) > 2 else f"{time.time_ns():x}"
    print(f"seed {seed}", flush=True)
    with running(settings=wire.settings(SETTINGS)) as mill:
        run, began, checked = Run(mill, seed), time.monotonic(), 0
        while run.kinds.total() < kills:
            run.kill()
            is_thorough = run.kinds.total() >= min(kills, checked + CHECKED_KILLS)
            run.check(is_thorough)
            if is_thorough:
                checked = run.kinds.total()
                print(f"{checked} kills in {time.monotonic() - began:.0f} s", flush=True)
        run.figures()
        assert mill.stop() == 0
        whole(mill)
    daemon.report("raw connections around kill -9", f"(seed {seed})", run.issued.counts.total())


if __name__ == "__main__":
    main()
