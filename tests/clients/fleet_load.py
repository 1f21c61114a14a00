"""Load on a fleet of daemons whose nodes, pooler and database are killed meanwhile, and what must be so all the same.

Writers make changes of all that a store keeps, each on a node of its choice. A change without an answer, or with an error that clients repeat, is unknown: it is looked
up on a node that has just moved the store, since whatever was under way before cannot succeed after that. Callers take data keys as SDKs do, with boto3's retries.
"""

import contextlib
import copy
import json
import math
import random
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from pathlib import Path

import botocore.exceptions
import wire
from audit import whole
from changes import Asker, Change, Writer
from daemon import NOT_ALLOWED_TO_OPEN, Tally
from fleet import Node
from issued import BATCH, Issued, Trail, of_octets
from wire import Answer, Closed

# What a caller may be told while a node or the database is away, or of a key that was changed
# elsewhere a moment ago.
ALLOWED = {"DisabledException", "KMSInvalidStateException", "NotFoundException", "KMSInternalException"}
CLOSED = (OSError, Closed, botocore.exceptions.BotoCoreError)
ATTEMPTS = 3
# For a node that answers.
ANSWER_SECONDS_MAX = 90
CHANGES_BETWEEN_QUESTIONS = 20
BATCH_KEYS = 2_000
OPENED_OF_TEN = 1
AUDIT_FILES = """
[audit]
file_bytes_max = 4194304
"""


class Again(Exception):
    """The node does not know, or is gone: another one is asked."""


class Member(Node):
    """A node that keeps its address, that is killed, and that is started again until it has come up."""

    def __init__(self, name: str, folder: Path, url: str, notify: str, root_key: Path, tally: Tally, staleness: float):
        super().__init__(name, folder, url, notify, root_key, tally, ATTEMPTS)
        self.daemon.overrides |= {"KEYMILL_STORE__MAX_STALENESS_MS": str(int(staleness * 1000)), "KEYMILL_LOG__LEVEL": "warn", "KEYMILL_LISTEN__ADMIN": "127.0.0.1:0"}
        self.daemon.state.mkdir(mode=0o700)
        (self.daemon.state / "keymill.toml").write_text(settings(url, root_key))
        self.daemon.arguments = ()
        self.failed_starts = 0
        self.answered: list[str] = []
        self.batches: list[tuple[str, list[bytes]]] = []
        self.sent = threading.local()

    def start(self) -> None:
        """Until it is up, as the service manager of a host does."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            try:
                self.daemon.start()
                break
            except RuntimeError:
                self.failed_starts += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        if self.daemon.listen.endswith(":0"):
            self.daemon.listen = self.daemon.endpoint.removeprefix("http://")
            self.admin, self.provisioner, self.consumer = (self.client(role) for role in ("admin", "provisioner", "consumer"))
            # The last attempt of a call is the one that was answered.
            self.provisioner.meta.events.register("before-send.kms", self.sends)

    def sends(self, **_) -> None:
        self.sent.at = time.monotonic()


def settings(url: str, root_key: Path) -> str:
    """As `keymill dev --store --root-key` writes them, with the sockets of raw requests."""
    return wire.settings(AUDIT_FILES) + f'[store]\nurl = "{url}"\nroot_key = "{root_key}"\n'


class Timelines:
    """For each key, from when until when it is certain that it is enabled, or that it is not: from the answer to one change until the next one is sent."""

    def __init__(self, bound: float):
        self.bound, self.lock = bound, threading.Lock()
        # Begin, end, and whether keys may leave.
        self.spans: dict[str, list[list]] = defaultdict(list)
        # Key, begin of the request, end, and whether a key was issued.
        self.uses: list[tuple[str, float, float, str]] = []
        self.latest = 0.0

    def certain(self, key: str, enabled: bool) -> None:
        with self.lock:
            self.spans[key].append([time.monotonic(), math.inf, enabled])

    def uncertain(self, key: str) -> None:
        with self.lock:
            if self.spans[key]:
                self.spans[key][-1][1] = min(self.spans[key][-1][1], time.monotonic())

    def used(self, key: str, began: float, outcome: str) -> None:
        self.uses.append((key, began, time.monotonic(), outcome))

    def check(self) -> None:
        """What was issued under a key that had been disabled for longer than the bound, or refused under one that had been enabled for as long, is a fault."""
        with self.lock:
            spans = copy.deepcopy(self.spans)
        uses, self.uses = self.uses, []
        for key, began, ended, outcome in uses:
            of_key = spans.get(key, [])
            at = bisect_right([begin for begin, _, _ in of_key], began) - 1
            if at < 0:
                continue
            begin, end, enabled = of_key[at]
            if ended > end:
                continue
            if not enabled and outcome == "ok":
                self.latest = max(self.latest, began - begin)
                assert began - begin <= self.bound, f"a data key left under {key}, {began - begin:.2f} s after the call that disabled it was answered"
            if enabled and outcome in ("DisabledException", "NotFoundException", "KMSInvalidStateException"):
                assert began - begin <= self.bound, f"{outcome} for {key}, {began - begin:.2f} s after it was enabled"


class Questions(Asker):
    """Questions to a node that is at the newest state of the store."""

    def __init__(self, member: Member, barrier: str):
        try:
            super().__init__(member.daemon)
        except OSError as error:
            raise Again from error
        # Whatever another node had under way was decided on the head that this moves.
        moved = self.call("UpdateKeyDescription", {"KeyId": barrier, "Description": f"{time.monotonic_ns()}"})
        assert moved.status == 200, moved

    def call(self, operation: str, members: dict, is_of_operator: bool = False) -> Answer:
        try:
            answer = super().call(operation, members, is_of_operator)
        except CLOSED as error:
            raise Again from error
        if answer.status >= 500 or not answer.is_whole:
            raise Again
        return answer


class Switch(Writer):
    """One key that is disabled, for longer than the bound, and enabled again."""

    def next(self) -> Change:
        self.number += 1
        if not self.about("state"):
            return self.key()
        enabled = self.about("state", "Enabled")
        return Change("DisableKey", {"KeyId": enabled[0]}, lambda _: {("state", enabled[0]): "Disabled"}) if enabled else self.other_key()


class Load:
    """Everything that goes on at once on the members."""

    def __init__(self, members: list[Member], seed: str, bound: float, writers: int, switches: int, callers: int):
        self.members, self.bound = members, bound
        self.times, self.issued = Timelines(bound), Issued()
        self.over = threading.Event()
        self.faults: list[BaseException] = []
        self.outcomes: Counter = Counter()
        self.unknown: Counter = Counter()
        self.done_unanswered = self.opened = 0
        self.lock = threading.Lock()
        self.keys: list[str] = []
        account = members[0].daemon.facts["account"]
        arn = lambda resource: f"arn:aws:iam::{account}:{resource}"  # noqa: E731
        make = lambda kind, number: kind(f"{kind.__name__.lower()}-{number}", arn, random.Random(f"{seed}-{kind.__name__}-{number}"))  # noqa: E731
        self.writers = [make(Writer, number) for number in range(writers)]
        self.switches = [make(Switch, number) for number in range(switches)]
        self.barriers = {writer.name: made_key(members[0]) for writer in self.writers + self.switches}
        work = [(self.change, writer) for writer in self.writers + self.switches] + [(self.call, number) for number in range(callers)] + [(self.batch, 0)]
        self.threads = [threading.Thread(target=self.until_over, args=(*one, random.Random(f"{seed}-{number}")), daemon=True) for number, one in enumerate(work)]

    def begin(self) -> None:
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(ANSWER_SECONDS_MAX)
        self.check()

    def check(self) -> None:
        """What can be said while it goes on."""
        if self.faults:
            raise self.faults[0]
        self.times.check()

    def until_over(self, work, about, chance: random.Random) -> None:
        try:
            while not self.over.is_set():
                work(about, chance)
        except BaseException as error:
            self.faults.append(error)

    def change(self, writer: Writer, chance: random.Random) -> None:
        """Some changes, each on some node, and then questions."""
        for _ in range(1 if isinstance(writer, Switch) else CHANGES_BETWEEN_QUESTIONS):
            change = writer.next()
            key = change.members.get("KeyId", "")
            writer.sent(change)
            if change.operation in ("DisableKey", "EnableKey", "ScheduleKeyDeletion"):
                self.times.uncertain(key)
            answer = self.answer_of(change, chance)
            if answer is None:
                self.unknown[change.operation] += 1
                self.ask(writer, chance, False)
            else:
                writer.answered(answer)
                if change.operation == "CreateKey":
                    key = json.loads(answer.body)["KeyMetadata"]["KeyId"]
                    self.keys.append(key)
            state = writer.facts.get(("state", key))
            if state and change.operation in ("CreateKey", "DisableKey", "EnableKey", "ScheduleKeyDeletion"):
                self.times.certain(key, state == "Enabled")
            if isinstance(writer, Switch):
                self.over.wait(chance.uniform(1, 2) if state == "Enabled" else self.bound + chance.uniform(0.5, 2))
            if self.over.is_set():
                break
        self.ask(writer, chance, False)

    def answer_of(self, change: Change, chance: random.Random) -> Answer | None:
        """Nothing, if it is unknown what came of it."""
        member = chance.choice(self.members)
        try:
            asker = Asker(member.daemon)
            answer = asker.send(change.operation, change.members, change.is_of_operator).receive()
        except CLOSED:
            return None
        if answer.status >= 500 or not answer.is_whole:
            return None
        if answer.status == 200:
            with self.lock:
                member.answered.append(answer.headers["x-amzn-requestid"])
        return answer

    def ask(self, writer: Writer, chance: random.Random, everything: bool, members: list[Member] | None = None) -> None:
        """Holds a node to all that was acknowledged, and settles what is unknown."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            before = writer.pending, dict(writer.facts), set(writer.fresh)
            try:
                asker = Questions(chance.choice(members or self.members), self.barriers[writer.name])
                self.done_unanswered += writer.ask(asker, everything)
                return
            except Again:
                writer.pending, writer.facts, writer.fresh = before
                assert time.monotonic() < deadline, f"no node has answered for {ANSWER_SECONDS_MAX} s"
                time.sleep(0.1)

    def call(self, _number: int, chance: random.Random) -> None:
        """One data key, by boto3 with its retries."""
        member = chance.choice(self.members)
        switched = self.switched()
        keys = switched if switched and chance.random() < 0.6 else self.keys
        if not keys:
            time.sleep(0.05)
            return
        key = chance.choice(keys)
        member.sent.at = time.monotonic()
        try:
            answer = member.provisioner.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")
            outcome = "ok"
        except botocore.exceptions.ClientError as error:
            outcome = error.response["Error"]["Code"]
            assert outcome in ALLOWED, error
        except botocore.exceptions.BotoCoreError:
            outcome = "not reached"
            time.sleep(0.05)
        self.times.used(key, member.sent.at, outcome)
        with self.lock:
            self.outcomes[outcome] += 1
        if outcome == "ok":
            self.issued.single(answer["ResponseMetadata"]["RequestId"], answer["CiphertextBlob"])
            member.answered.append(answer["ResponseMetadata"]["RequestId"])
            if chance.randrange(10) < OPENED_OF_TEN:
                self.open(answer["CiphertextBlob"], chance)

    def switched(self) -> list[str]:
        return [key for switch in self.switches for kind, key in list(switch.facts) if kind == "state"]

    def open(self, blob: bytes, chance: random.Random) -> None:
        """On any node, if the key is enabled there."""
        try:
            plain = chance.choice(self.members).consumer.decrypt(CiphertextBlob=blob)["Plaintext"]
        except botocore.exceptions.ClientError as error:
            # A key that was made elsewhere a moment ago.
            unknown = error.response["Error"].get("Message") == NOT_ALLOWED_TO_OPEN
            assert unknown or error.response["Error"]["Code"] in ALLOWED, error
        except botocore.exceptions.BotoCoreError:
            pass
        else:
            assert len(plain) == 32
            with self.lock:
                self.opened += 1

    def batch(self, _number: int, chance: random.Random) -> None:
        """Many data keys in one call, whole or not."""
        self.over.wait(0.3)
        member = chance.choice(self.members)
        blobs = b""
        try:
            connection = wire.Connection(member.daemon.socket)
            body = json.dumps({"KeyId": next(iter(self.barriers.values())), "KeySpec": "AES_256", "Count": BATCH_KEYS, "EncryptionContext": {}})
            connection.send(wire.request("POST", "/v1/data-keys", {"Accept": "application/octet-stream"}, body.encode()))
            head = connection.head()
            for piece in connection.pieces(head):
                blobs += piece
        except CLOSED:
            return
        if head.status == 200:
            found = of_octets(blobs)
            self.issued.keep(BATCH, found)
            member.batches.append((head.headers["x-amzn-requestid"], found))
        else:
            assert head.status >= 500 or any(code.encode() in blobs for code in ALLOWED), blobs

    def everything(self, chance: random.Random) -> None:
        """At the end, on every node."""
        for member in self.members:
            for writer in self.writers + self.switches:
                self.ask(writer, chance, True, [member])

    def recorded(self) -> int:
        """After the daemons' end: each log is whole, and has what its node has answered. Returns how many records there are."""
        count = 0
        for member in self.members:
            whole(member.daemon)
            trail = Trail(member.daemon.state / "audit")
            records = trail.news()
            ids = {record["requestID"] for record in records}
            lost = [request for request in member.answered if request not in ids]
            assert not lost, f"{member.name}: {len(lost)} of {len(member.answered)} answered calls have no record: {lost[:3]}"
            nodes = {record["additionalEventData"]["node"] for record in records}
            assert len(nodes) == 1, f"{member.name}: records of {len(nodes)} nodes"
            digests: dict[str, dict[int, str]] = {}
            for record in records:
                data = record["additionalEventData"]
                if record["eventName"] == BATCH and "count" in data:
                    digests.setdefault(record["requestID"], {})[data["count"]] = data["rowsBlake3"]
            for request, blobs in member.batches:
                Issued.recorded(BATCH, blobs, digests.get(request, {}))
            assert "panicked" not in member.daemon.log.read_text(errors="replace"), member.name
            count += trail.records
        return count

    def figures(self) -> None:
        done: Counter = Counter()
        for writer in self.writers + self.switches:
            done += writer.done
        print(f"{done.total():,} changes acknowledged, none lost: " + ", ".join(f"{name} {count}" for name, count in sorted(done.items())))
        print(f"{self.unknown.total():,} changes of unknown outcome, looked up; {self.done_unanswered} of them were made: " + ", ".join(f"{name} {count}" for name, count in sorted(self.unknown.items())))
        print("data keys asked for one by one: " + ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items())) + f"; {self.opened:,} opened on some node")
        print(f"{self.issued.counts.total():,} data keys issued, no nonce twice")
        print(f"the last key under a KMS key that was disabled: {self.times.latest:.2f} s after the answer; {self.bound:.0f} s are promised")


def made_key(member: Member) -> str:
    answer = Asker(member.daemon).call("CreateKey", {})
    assert answer.status == 200, answer
    return json.loads(answer.body)["KeyMetadata"]["KeyId"]


def probe(member: Member, key: str) -> bool:
    """Whether the node takes a change and hands out a key now."""
    with contextlib.suppress(*CLOSED):
        asker = Asker(member.daemon)
        changed = asker.call("UpdateKeyDescription", {"KeyId": key, "Description": f"{time.monotonic_ns()}"})
        if changed.status != 200:
            return False
        body = json.dumps({"KeyId": key, "KeySpec": "AES_256"}).encode()
        asker.operator.send(wire.operation("GenerateDataKeyWithoutPlaintext", body))
        return asker.operator.receive().status == 200
    return False
