"""Sound requests and sound Arrow streams, altered at random by the ten thousand, against one running daemon.

    python3 tests/clients/mutations.py [REQUESTS STREAMS [SEED [KIND NUMBER]]]

What is altered of requests: the bodies of all operations, raw bytes of heads, chunked bodies, signatures, queries, types. Of streams to `bind`, `rewrap` and `verify`:
bytes, flatbuffers, lengths, ends, the order of messages. There must be no failure on the daemon's side, no panic, no hang; every request is answered, every stream ends
as docs/interfaces.md says; and the daemon's memory stays. Number NUMBER of KIND (`request`, `stream`) and SEED is the same each time; given it, that one alone is
sent, and shown.
"""

import concurrent.futures
import itertools
import json
import random
import re
import sys
import time
import urllib.parse
from collections import Counter

import arrow_streams
import daemon
import wire
from arrow_streams import ARROW
from daemon import ALIAS, BLOB_BYTES, Daemon, running
from service_model import MODEL, OPERATIONS, SHAPES, Maker, world
from wire import JSON, Answer, Closed, Connection

REQUESTS, STREAMS = 3_000, 3_000
# Threads wait together for the time limit of a body that does not come. They are fewer than the
# streams that one listener has at once.
PROCESSES, THREADS = 2, 6
# For so many the same keys: later on hardly one would be enabled.
BLOCK = 10_000
# Altered at first, so that code and tables that are used once are in memory when it is measured.
WARM_UP = 500
MEMORY_BYTES = 64 << 20
# Of a batch that has become endless no more is read.
READ_BYTES_MAX = 4 << 20
FAULTS_SHOWN, SENT_SHOWN = 20, 200
BLOCKS = itertools.count()
# Short times: many of the requests are not whole.
SETTINGS = """
[limits]
head_timeout_ms = 1000
body_timeout_ms = 300
"""
TOKENS = [
    b'"', b"\\u0000", b"\\ud800", b"null", b"-1", b"1e400", b"9" * 40, b"[]", b"{}", b"[" * 200, b"\0", b"\xff\xfe", b"\r\n", b"\r\n\r\n", b"\n", b" ", b",", b":", b"=", b"&",
    b"%", b"%00", b"+", b"chunked", b"gzip", b"0\r\n\r\n", b"f" * 16, b"10000000000000000", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"AWS4-HMAC-SHA256", b"*", b"alias/", b"arn:aws:kms:", "\u00e9\u4e2d".encode(), b"A" * 3000,
]
# A pair of these takes a core for a second: one in twenty of those that are asked for stays.
COSTLY = re.compile(rb"RSA_[234](?:072|048|096)")
TYPES = [JSON, ARROW, "application/json", "application/octet-stream", "application/x-ndjson", "text/plain", "*/*", ""]
# By kind, and how often in a hundred.
KINDS = {"body": 40, "head": 16, "chunks": 10, "signature": 14, "query": 8, "type": 6, "batch": 3, "admin": 3}

MAY_BE_NO_HTTP = {"head", "chunks", "query", "signature", "type"}


def spoilt(chance: random.Random, data: bytes) -> bytes:
    """One to four places of it altered."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice([1, 1, 2, 4, 8, chance.randrange(len(data) + 1)]))
        match chance.randrange(8):
            case 0:
                data[at:to] = bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1])
            case 1:
                data[at : at + 1] = bytes([chance.choice([0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x22, chance.randrange(256)])])
            case 2:
                del data[at:to]
            case 3:
                data[at:at] = data[at:to][:4096]
            case 4:
                data[at:at] = chance.choice(TOKENS)
            case 5:
                data[at:to] = chance.choice(TOKENS)
            case 6:
                data[at:to] = bytes(reversed(data[at:to]))
            case _:
                data[at:at] = chance.randbytes(chance.choice([1, 2, 8, 300]))
    return bytes(data)


def admin_members(chance: random.Random, facts: dict) -> tuple[str, dict]:
    """What the operator may ask for, about principals that nobody else uses."""
    name = f"altered-{chance.randrange(40)}"
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": {"StringLike": {"kms:EncryptionContext:a": "b*"}}}]}
    return chance.choice([
        ("CreatePrincipal", {"Name": name, "Kind": chance.choice(["user", "role"]), "Policies": [json.dumps(policy)], "Tags": [{"Key": "a", "Value": "b"}]}),
        ("ListPrincipals", {"Limit": 3}), ("DescribeKeys", {"Limit": 3}), ("DescribePrincipal", {"Name": name}), ("DisablePrincipal", {"Name": name}), ("EnablePrincipal", {"Name": name}),
        ("DeletePrincipal", {"Name": name}), ("PutPrincipalPolicies", {"Name": name, "Policies": [json.dumps(policy)]}), ("CreateAccessKey", {"Name": name}),
        ("PutPrincipalTags", {"Name": name, "Tags": [{"Key": "a", "Value": "b"}]}), ("UpdateAccessKey", {"Name": name, "AccessKeyId": "AKIA" + "A" * 16, "Status": "Inactive"}),
        ("DeleteAccessKey", {"Name": name, "AccessKeyId": "AKIA" + "A" * 16}), ("CreateSession", {"Name": name, "SessionName": "s", "DurationSeconds": 900}),
        ("DescribeAuditLog", {}), ("CheckPolicy", {"Principal": name, "Action": "kms:Decrypt", "KeyId": chance.choice(facts["KeyId"]), "EncryptionContext": {"a": "b"}}),
    ])


def stream_target(chance: random.Random, purpose: str, spec: str = "AES_256") -> str:
    query = {"bind": {"key": ALIAS, "spec": spec}, "rewrap": {"key": ALIAS, "new-constant": "b=c"}, "verify": {}}[purpose]
    if purpose == "bind" or chance.randrange(2):
        query["context"] = "tenant"
    if purpose == "bind" and chance.randrange(4) == 0:
        query["constant"] = "purpose=volume"
    return f"/v1/data-keys/{purpose}?{urllib.parse.urlencode(query)}"


class Altered:
    """One altered request or stream: where it is sent, its bytes, and what its answer is held to."""

    def __init__(self, scene: dict, seed: str, what: str, number: int):
        self.chance = random.Random(f"{seed}-{what}-{number}")
        self.scene, self.facts, self.maker = scene, scene["facts"], Maker(seed, number, scene["world"])
        self.is_kept_open, self.is_stream, self.rows = False, what == "stream", None
        # Bytes that are no whole head of HTTP may be left without an answer.
        self.is_framed = True
        if self.is_stream:
            self.make_stream()
        else:
            self.kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
            self.address = scene["admin"]
            getattr(self, f"make_{self.kind}")()

    def sample(self, is_spoilt: bool = False) -> tuple[str, bytes]:
        """An operation with members as the service model has them, but for one of them."""
        operation = self.chance.choice(OPERATIONS)
        described = MODEL["operations"][operation]
        members = self.maker.members(SHAPES[described["input"]["shape"]]) if "input" in described else {}
        texts = [name for name, value in members.items() if isinstance(value, str)]
        if is_spoilt and texts:
            name = self.chance.choice(texts)
            members[name] = spoilt(self.chance, members[name].encode(errors="surrogatepass")).decode(errors="surrogateescape")
        body = json.dumps(members, ensure_ascii=self.chance.randrange(2) == 0).encode(errors="surrogatepass")
        return operation, body if self.chance.randrange(20) == 0 else COSTLY.sub(b"ECC_NIST_P256", body)

    def framed(self, target: str, headers: dict[str, str], body: bytes) -> None:
        self.is_kept_open = True
        self.sent = wire.request("POST", target, headers, body)

    def make_body(self) -> None:
        is_json = self.chance.randrange(2) == 0
        operation, body = self.sample(is_json)
        self.framed("/", {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}"}, body if is_json else spoilt(self.chance, body))

    def make_admin(self) -> None:
        operation, members = admin_members(self.chance, self.scene["world"])
        body = json.dumps(members).encode()
        self.address = self.facts["socket"]
        self.framed(f"/v1/admin/{operation}", {"Content-Type": JSON}, body if self.chance.randrange(3) == 0 else spoilt(self.chance, body))

    def make_batch(self) -> None:
        members = {"KeyId": self.chance.choice([ALIAS, ALIAS, *self.scene["world"]["KeyId"]]), "KeySpec": "AES_256", "Count": self.chance.choice([1, 300, 20_000])}
        self.framed("/v1/data-keys", {"Content-Type": JSON, "Accept": self.chance.choice([*TYPES[2:5], ARROW])}, spoilt(self.chance, json.dumps(members).encode()))
        self.is_kept_open = False

    def make_head(self) -> None:
        operation, body = self.sample()
        whole = wire.operation(operation, body)
        end = whole.index(b"\r\n\r\n") + 4
        self.sent, self.is_framed = spoilt(self.chance, whole[:end]) + whole[end:], False

    def make_chunks(self) -> None:
        operation, body = self.sample()
        at = sorted(self.chance.randrange(len(body) + 1) for _ in range(3))
        parts = [body[begin:end] for begin, end in zip([0, *at], [*at, len(body)])]
        headers = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}"}
        whole = wire.chunked("POST", "/", headers, parts, self.chance.choice([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0;a=b\r\n\r\n"]))
        end = whole.index(b"\r\n\r\n") + 4
        self.sent = whole[:end] + spoilt(self.chance, whole[end:])

    def make_signature(self) -> None:
        operation, body = self.sample()
        self.address = wire.tcp(self.facts)
        role, in_query = self.chance.choice(["admin", "provisioner", "consumer"]), self.chance.randrange(4) == 0
        headers = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}"}
        target, headers = wire.signed(self.facts, role, "POST", "/", headers, body, in_query)
        part = self.chance.choice(["none", "body", "target" if in_query else "authorization", "header", "header"])
        if part == "body":
            body = spoilt(self.chance, body)
        elif part == "target":
            target = "/" + re.sub(r"[^!-~]", "%20", spoilt(self.chance, target[1:].encode()).decode("latin-1"))[:8000]
        elif part != "none":
            name = "Authorization" if part == "authorization" and not in_query else self.chance.choice(list(headers))
            headers[name] = re.sub(r"[^ -~]", "?", spoilt(self.chance, headers[name].encode()).decode("latin-1"))[:8000]
        self.framed(target, headers, body)

    def make_query(self) -> None:
        purpose = self.chance.choice(["bind", "rewrap", "verify"])
        path, _, query = stream_target(self.chance, purpose).partition("?")
        query = re.sub(r"[^!-~]", "%C3", spoilt(self.chance, query.encode()).decode("latin-1"))[:8000]
        stream = self.chance.choice(self.scene["bind" if purpose == "bind" else "open"])
        self.framed(f"{path}?{query}", {"Content-Type": ARROW}, b"".join(stream))
        self.is_kept_open = False

    def make_type(self) -> None:
        operation, body = self.sample()
        headers = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}", "Accept": "*/*", "Accept-Encoding": "identity", "Content-Encoding": "identity"}
        for name in self.chance.sample(list(headers), 2):
            value = self.chance.choice(TYPES).encode() if self.chance.randrange(2) else headers[name].encode()
            headers[name] = re.sub(r"[^ -~]", "?", spoilt(self.chance, value).decode("latin-1"))[:8000]
        self.framed(self.chance.choice(["/", "/", "/v1/data-keys", "/v1/data-keys/bind"]), headers, body)
        self.is_kept_open = False

    def make_stream(self) -> None:
        purpose = self.chance.choice(["bind", "bind", "rewrap", "verify"])
        streams = self.scene["bind" if purpose == "bind" else "open"]
        own = self.chance.choice(streams[:-1] if self.chance.randrange(4) else streams)
        how, stream = arrow_streams.mutated(self.chance, own, streams + self.scene["open"], spoilt)
        self.kind = f"{purpose}, {how}"
        if how == "intact":
            self.rows = arrow_streams.rows_of(stream)[0]
        target, headers = stream_target(self.chance, purpose, self.chance.choice(["AES_256", "AES_128"])), {"Content-Type": ARROW}
        is_signed = len(stream) <= 1 << 20 and self.chance.randrange(10) == 0
        self.address = wire.tcp(self.facts) if is_signed else self.scene["admin"]
        if is_signed or self.chance.randrange(4) == 0:
            target, headers = wire.signed(self.facts, "admin", "POST", target, headers, stream) if is_signed else (target, headers)
            self.sent = wire.request("POST", target, headers, stream)
        else:
            size = self.chance.choice([7, 64, 1_000, 1 << 16]) if len(stream) < 8_000 else 1 << 16
            parts = [stream[at : at + size] for at in range(0, len(stream), size)]
            # Seldom the body itself has no end, and its time runs out.
            self.sent = wire.chunked("POST", target, headers, parts, b"0\r\n\r\n" if self.chance.randrange(100) else b"")

    def wrong(self, answer: Answer) -> str | None:
        """What is wrong with an answer, if something is."""
        if answer.status >= 500:
            return f"{answer.status} {answer.body[:200]!r}"
        if self.is_stream or answer.headers.get("content-type") == ARROW:
            return None if len(answer.body) > READ_BYTES_MAX else arrow_streams.wrong(answer, self.rows)
        # What is no HTTP, or for no path of ours, is refused before there is an operation that
        # could name its error.
        is_closing = not answer.body and answer.headers.get("connection") == "close"
        is_before = answer.status in (404, 405) or answer.status in (400, 414, 431) and is_closing
        if answer.status != 200 and not answer.code and not (is_before and self.kind in MAY_BE_NO_HTTP):
            return f"{answer.status} without an error: {answer.headers} {answer.body[:200]!r}"
        if answer.status == 200 and self.kind not in ("batch", "head") and not answer.is_whole:
            return f"an answer that was cut: {answer.headers} {answer.body[:200]!r}"
        return None


class Sender:
    """A thread's connections. Those of requests that are framed soundly are kept open."""

    def __init__(self):
        self.kept: dict = {}

    def exchange(self, altered: Altered) -> Answer:
        is_new = altered.address not in self.kept
        connection = self.kept.pop(altered.address, None) if altered.is_kept_open else None
        connection = connection or Connection(altered.address)
        is_kept = False
        try:
            connection.send(altered.sent)
            answer = connection.receive(bytes_max=READ_BYTES_MAX)
            is_kept = altered.is_kept_open and answer.is_whole and answer.headers.get("connection") != "close"
            return answer
        except Closed as closed:
            # The daemon had closed a connection that stood idle; a new one must not fare so.
            if is_new or not altered.is_kept_open or closed.received:
                raise
            return self.exchange(altered)
        finally:
            if is_kept:
                self.kept[altered.address] = connection
            else:
                connection.close()

    def send(self, altered: Altered) -> tuple[str, str | None]:
        """The answer in a word, and what is wrong with it."""
        try:
            answer = self.exchange(altered)
        except TimeoutError:
            return "hang", f"no answer in {wire.ANSWER_SECONDS} s"
        except Closed as closed:
            return "closed", None if not altered.is_framed and not closed.received else str(closed)
        said = answer.code or str(answer.status) + ("" if answer.is_whole else ", cut")
        return said, altered.wrong(answer)


def work(scene: dict, seed: str, what: str, numbers: range) -> tuple[Counter, list[str]]:
    """One process: its threads take what is next."""
    seen, faults, left = Counter(), [], iter(numbers)

    def run() -> None:
        sender = Sender()
        for number in left:
            altered = Altered(scene, seed, what, number)
            said, wrong = sender.send(altered)
            seen[altered.kind, said] += 1
            if wrong:
                faults.append(f"{what} {number} ({altered.kind}): {wrong}\n  to {altered.sent[:SENT_SHOWN]!r}")

    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        for thread in [threads.submit(run) for _ in range(THREADS)]:
            thread.result()
    return seen, faults


def scene_of(mill: Daemon, what: str) -> dict:
    """All that requests or streams are made from; the keys of requests are new ones."""
    body = json.dumps({"KeyId": ALIAS, "KeySpec": "AES_256", "EncryptionContext": {"tenant": "a"}, "Count": 3 * arrow_streams.ROWS}).encode()
    admin = wire.admin_socket(mill)
    connection = Connection(admin)
    connection.send(wire.request("POST", "/v1/data-keys", {"Accept": "application/octet-stream"}, body))
    rows = connection.receive().body
    connection.close()
    blobs = [rows[at : at + BLOB_BYTES] for at in range(0, len(rows), BLOB_BYTES)]
    return {
        "facts": mill.facts, "admin": admin, "world": world(mill, f"{next(BLOCKS):04}") if what == "request" else {},
        "bind": list(arrow_streams.to_bind().values()), "open": list(arrow_streams.to_open(blobs).values()),
    }


def sent(mill: Daemon, pool, seed: str, what: str, count: int) -> tuple[Counter, list[str], int]:
    """Sends so many, block by block, and says how it goes. Returns the most memory that was seen after a block, too."""
    seen, faults, most, began = Counter(), [], 0, time.monotonic()
    for begin in range(0, count, BLOCK):
        scene, end = scene_of(mill, what), min(begin + BLOCK, count)
        for done in [pool.submit(work, scene, seed, what, range(begin + first, end, PROCESSES)) for first in range(PROCESSES)]:
            their_seen, their_faults = done.result()
            seen += their_seen
            faults += their_faults
        assert mill.process.poll() is None, f"the daemon has ended within the first {end} of seed {seed}"
        most = max(most, wire.resident_bytes(mill))
        rate = end / (time.monotonic() - began)
        print(f"{end:,} {what}s, {rate:,.0f} a second, {len(faults)} faults, memory {wire.resident_bytes(mill) >> 20} MiB", flush=True)
    return seen, faults, most


def summary(seen: Counter) -> None:
    kinds: dict[str, Counter] = {}
    for (kind, said), times in seen.items():
        kinds.setdefault(kind, Counter())[said] += times
    for kind, answers in sorted(kinds.items()):
        print(f"  {kind}: {', '.join(f'{times} {said}' for said, times in answers.most_common(12))}")


def still_right(mill: Daemon) -> None:
    """It serves on, and what it says is right."""
    made = mill.client("provisioner").generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256", EncryptionContext={"a": "b"})
    opened = mill.client("consumer").decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
    assert len(opened["Plaintext"]) == 32
    daemon.refused("InvalidCiphertextException", None, mill.client("consumer").decrypt, CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "c"})
    failures = {series: count for series, count in mill.metrics().items() if "KMSInternal" in series and count}
    assert not failures, failures
    loud = [line for line in mill.log.read_text(errors="replace").splitlines() if re.search(r"panick| ERROR ", line)]
    assert not loud, loud[:5]


def main() -> None:
    requests, streams = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (REQUESTS, STREAMS)
    seed = sys.argv[3] if len(sys.argv) > 3 else f"{time.time_ns():x}"
    print(f"seed {seed}", flush=True)
    with running(settings=wire.settings(SETTINGS)) as mill, concurrent.futures.ProcessPoolExecutor(PROCESSES) as pool:
        if len(sys.argv) > 5:
            altered = Altered(scene_of(mill, sys.argv[4]), seed, sys.argv[4], int(sys.argv[5]))
            print(altered.kind, altered.address, altered.sent, Sender().exchange(altered), Sender().send(altered), sep="\n")
            return
        for what in ("request", "stream"):
            sent(mill, pool, f"warm-{seed}", what, WARM_UP)
        before = wire.resident_bytes(mill)
        faults, most = [], 0
        for what, count in (("request", requests), ("stream", streams)):
            seen, theirs, memory = sent(mill, pool, seed, what, count)
            faults += theirs
            most = max(most, memory)
            summary(seen)
        # One of each kind.
        kinds = {re.sub(r"\d+|'.*|b\".*", "", fault.split("\n")[0]): fault for fault in faults}
        print(*list(kinds.values())[:FAULTS_SHOWN], sep="\n\n")
        print(f"memory: {before >> 20} MiB after the first {2 * WARM_UP}, at most {most >> 20} MiB after a block")
        assert not faults, f"{len(faults)} faults with seed {seed}"
        assert most - before < MEMORY_BYTES, f"the daemon has grown by {(most - before) >> 20} MiB"
        still_right(mill)
        assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
    print(f"{requests:,} altered requests and {streams:,} altered streams: no failure, no panic, no hang")
    daemon.report("altered requests and Arrow streams", f"(seed {seed})", requests + streams)


if __name__ == "__main__":
    main()
