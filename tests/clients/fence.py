"""The fence (POOL-4) from the outside: 64 connections stay busy while the admin disables and enables their key.

Everything is sent and received by one thread, so that "after" is a fact and not a guess. Failures are

* late: a success whose request was sent after the answer of DisableKey had arrived, and that came before EnableKey was sent (one that
  was still under way then may have been judged under the enabled key),
* stale: a success whose request was sent after the answer of DisableKey had arrived, from an epoch that had shown itself before that
  DisableKey was sent: a pooled key that was made before a change and left after it,
* twice: a nonce that was handed out before.

    python3 tests/clients/fence.py [FLIPS]
"""

import base64
import json
import selectors
import socket
import sys
from collections import Counter

import botocore
import botocore.auth
import botocore.awsrequest
import botocore.credentials
from daemon import Daemon, new_key, report, running

FLIPS = 1_000
CONNECTIONS = 64
# Requests that each state is held for, counted from when the change was answered.
REQUESTS_DISABLED = 64
SUCCESSES_ENABLED = 192
NONCE, EPOCH = slice(24, 48), slice(24, 44)
SILENCE_SECONDS = 60
ENABLED, DISABLING, DISABLED, ENABLING = "enabled", "disabling", "disabled", "enabling"


class Connection:
    """HTTP/1.1 over the Unix socket: one request at a time, its answer in pieces."""

    def __init__(self, path: str):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.received = bytearray()
        self.sent_under = (0, ENABLED)
        self.answers = 0

    def send(self, request: bytes, under: tuple[int, str]) -> None:
        self.sent_under = under
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body once the answer is whole."""
        piece = self.socket.recv(65536)
        assert piece, "the daemon closed a connection"
        self.received += piece
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(rest) < length:
            return None
        assert len(rest) == length, "more than one answer"
        self.received.clear()
        self.answers += 1
        return int(head[9:12]), bytes(rest)


class Flipper:
    """The admin, on a connection of the same thread: disables, waits, enables, waits."""

    def __init__(self, mill: Daemon, key: str):
        self.connection = Connection(mill.socket)
        self.key = key
        self.region = mill.facts["region"]
        principal = mill.principal("admin")
        self.credentials = botocore.credentials.Credentials(principal["access_key_id"], principal["secret_access_key"])

    def request(self, operation: str) -> bytes:
        body = json.dumps({"KeyId": self.key}).encode()
        head = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"TrentService.{operation}", "Host": "localhost"}
        request = botocore.awsrequest.AWSRequest("POST", "http://localhost/", head, body)
        botocore.auth.SigV4Auth(self.credentials, "kms", self.region).add_auth(request)
        lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        return f"POST / HTTP/1.1\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Trial:
    """The key's state as it was told, and what the answers were.

    `under` is what a request is sent under: how many DisableKey have been sent, and the state as far as it was answered.
    """

    def __init__(self):
        self.under: tuple[int, str] = (0, ENABLED)
        self.epochs: dict[bytes, int] = {}
        self.nonces: set[bytes] = set()
        self.counts: Counter = Counter()
        self.answered_in_state = 0

    def judge(self, sent_under: tuple[int, str], status: int, body: bytes) -> None:
        if status == 200:
            self.succeeded(sent_under, base64.b64decode(json.loads(body)["CiphertextBlob"]))
        elif json.loads(body)["__type"] == "DisabledException":
            self.counts["disabled"] += 1
            # A request that was sent to an enabled key may be refused only by a change that came
            # after it.
            self.counts["refused while enabled"] += sent_under[1] == ENABLED and self.under == sent_under
        else:
            self.counts[f"unexpected: {body[:200]!r}"] += 1
        self.answered_in_state += sent_under == self.under

    def succeeded(self, sent_under: tuple[int, str], blob: bytes) -> None:
        flips, state = sent_under
        self.counts["succeeded"] += 1
        self.counts["late"] += state == DISABLED and self.under == sent_under
        self.counts["twice"] += blob[NONCE] in self.nonces
        self.nonces.add(blob[NONCE])
        first_seen_under = self.epochs.setdefault(blob[EPOCH], self.under[0])
        self.counts["stale"] += state != DISABLING and first_seen_under < flips


def ask(alias: str, number: int) -> bytes:
    """A data key of either spec, so that there are two lanes."""
    members = {"KeyId": alias, "KeySpec": ("AES_256", "AES_128")[number % 2], "EncryptionContext": {"connection": str(number)}}
    body = json.dumps(members).encode()
    head = (
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n"
        f"X-Amz-Target: TrentService.GenerateDataKeyWithoutPlaintext\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(mill: Daemon, alias: str, key: str, flips: int) -> tuple[Trial, list[Connection]]:
    trial, flipper = Trial(), Flipper(mill, key)
    connections = [Connection(mill.socket) for _ in range(CONNECTIONS)]
    requests = [ask(alias, number) for number in range(CONNECTIONS)]
    selector = selectors.DefaultSelector()
    selector.register(flipper.connection.socket, selectors.EVENT_READ, (flipper.connection, None))
    for connection, request in zip(connections, requests):
        selector.register(connection.socket, selectors.EVENT_READ, (connection, request))
        connection.send(request, trial.under)
    while trial.under != (flips, ENABLED) or trial.answered_in_state < SUCCESSES_ENABLED:
        ready = selector.select(SILENCE_SECONDS)
        assert ready, f"no answer for {SILENCE_SECONDS} s"
        for event, _ in ready:
            connection, request = event.data
            answer = connection.receive()
            if answer is None:
                continue
            if request is None:
                assert answer[0] == 200, f"the admin was refused: {answer}"
                # The change is answered: what is sent from here on is sent after it.
                trial.under = (trial.under[0], connection.sent_under[1])
                trial.answered_in_state = 0
            else:
                trial.judge(connection.sent_under, *answer)
                connection.send(request, trial.under)
        number, state = trial.under
        if state == ENABLED and number < flips and trial.answered_in_state >= SUCCESSES_ENABLED:
            flipper.connection.send(flipper.request("DisableKey"), (number + 1, DISABLED))
            trial.under = (number + 1, DISABLING)
        elif state == DISABLED and trial.answered_in_state >= REQUESTS_DISABLED:
            flipper.connection.send(flipper.request("EnableKey"), (number, ENABLED))
            trial.under = (number, ENABLING)
    return trial, connections


def main() -> None:
    flips = int(sys.argv[1]) if len(sys.argv) > 1 else FLIPS
    with running() as mill:
        key, _, alias, _ = new_key(mill, "alias/fence")
        trial, connections = run(mill, alias, key, flips)
        hits = mill.metric("keymill_data_keys_total", result="hit")
        purged = mill.metric("keymill_pool_purged_total", reason="fence")
    print(f"{flips} flips under {CONNECTIONS} connections: " + ", ".join(f"{name} {count}" for name, count in sorted(trial.counts.items()) if count))
    print(f"{hits:.0f} of them from the pool, {purged:.0f} pooled keys dropped by the fence; every connection had {min(c.answers for c in connections)} answers or more")
    bad = {name: count for name, count in trial.counts.items() if count and name not in ("succeeded", "disabled")}
    assert not bad, f"the fence let through: {bad}"
    assert trial.counts["succeeded"] >= flips * SUCCESSES_ENABLED // 2 and trial.counts["disabled"] >= flips * REQUESTS_DISABLED
    assert hits > flips and purged > 0, "the pool had no part in it"
    assert min(connection.answers for connection in connections) >= flips // 4, "a connection was not busy"
    report(f"{CONNECTIONS} raw connections over {flips} flips", f"botocore {botocore.__version__} signing", sum(c.answers for c in connections))


if __name__ == "__main__":
    main()
