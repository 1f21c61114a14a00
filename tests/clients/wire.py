"""HTTP/1.1 as bytes, over a Unix socket or TCP: it sends what a client library refuses to send, and shows how an answer ends.

    connection = Connection(mill.socket)
    connection.send(request("POST", "/", {"X-Amz-Target": "TrentService.ListKeys"}, b"{}"))
    answer = connection.receive()
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from daemon import Daemon

JSON = "application/x-amz-json-1.1"
ARROW = "application/vnd.apache.arrow.stream"
# An answer that takes longer is a hang.
ANSWER_SECONDS = 30
PIECE_BYTES = 1 << 16
HEAD_BYTES_MAX = 1 << 16
# Whoever is on the daemon's own socket is the provisioner, as with `keymill dev`, and the operator;
# on the further one, the admin.
SETTINGS = """
[peers.users]
{user} = "arn:aws:iam::111122223333:user/provisioner"
[sockets.admin]
path = "admin.sock"
principal = "arn:aws:iam::111122223333:user/admin"
"""


class Closed(Exception):
    """The daemon closed the connection before the head of an answer was whole; `received` is what had come of it."""

    def __init__(self, received: bytes):
        super().__init__(f"closed after {received!r}")
        self.received = received


@dataclass
class Answer:
    """Header names are in lower case. `is_whole` says whether the body had the end that its framing promised."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def code(self) -> str:
        """The error that an answer which is whole names in its body, or nothing."""
        if self.status == 200 or not self.is_whole or self.headers.get("content-type") != JSON:
            return ""
        return json.loads(self.body).get("__type", "")


class Connection:
    """One connection, on which requests follow each other. `address` is a socket's path, or a host with its port."""

    def __init__(self, address: str | tuple[str, int], seconds: float = ANSWER_SECONDS):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(seconds)
        self.socket.connect(address)
        self.seconds = seconds
        self.received = bytearray()
        self.is_whole = False

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Whether all of it could be sent: a daemon that has refused a request need not read the rest."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def more(self) -> bool:
        """Waits for more bytes. False at the end of the connection."""
        if time.monotonic() > self.deadline:
            raise TimeoutError
        try:
            piece = self.socket.recv(PIECE_BYTES)
        except ConnectionResetError:
            return False
        self.received += piece
        return bool(piece)

    def head(self) -> Answer:
        """The head of the next answer that is not an interim one. Raises Closed, and TimeoutError."""
        self.deadline = time.monotonic() + self.seconds
        while True:
            while (end := self.received.find(b"\r\n\r\n")) < 0:
                if len(self.received) > HEAD_BYTES_MAX or not self.more():
                    raise Closed(bytes(self.received))
            first, *lines = self.received[:end].decode("latin-1").split("\r\n")
            del self.received[: end + 4]
            if not first.startswith("HTTP/1.1 1"):
                break
        pairs = (line.partition(":") for line in lines)
        return Answer(int(first[9:12]), {name.lower(): value.strip() for name, _, value in pairs}, b"", False)

    def pieces(self, head: Answer, is_head_request: bool = False) -> Iterator[bytes]:
        """The body as it comes, without its framing; afterwards `is_whole` is known."""
        self.is_whole = False
        if is_head_request or head.status in (204, 304):
            self.is_whole = True
        elif "content-length" in head.headers:
            yield from self.sized(int(head.headers["content-length"]))
        elif "chunked" in head.headers.get("transfer-encoding", ""):
            yield from self.chunks()
        else:
            while self.received or self.more():
                yield self.take(len(self.received))
            self.is_whole = True

    def take(self, count: int) -> bytes:
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def sized(self, left: int) -> Iterator[bytes]:
        while left:
            if not self.received and not self.more():
                return
            piece = self.take(left)
            left -= len(piece)
            yield piece
        self.is_whole = True

    def chunks(self) -> Iterator[bytes]:
        while True:
            while (end := self.received.find(b"\r\n")) < 0:
                if not self.more():
                    return
            size = int(self.received[:end].split(b";")[0], 16)
            # Half a chunk is given too: it is for whoever reads it to say what it is worth.
            while len(self.received) < end + 2 + size + 2:
                if not self.more():
                    yield bytes(self.received[end + 2 : end + 2 + size])
                    return
            chunk = self.take(end + 2 + size + 2)[end + 2 : -2]
            if not size:
                self.is_whole = True
                return
            yield chunk

    def receive(self, is_head_request: bool = False, bytes_max: int = 1 << 30) -> Answer:
        """The next answer, of which no more than about `bytes_max` are read; after that, only closing is left."""
        answer = self.head()
        body = bytearray()
        for piece in self.pieces(answer, is_head_request):
            body += piece
            if len(body) > bytes_max:
                break
        answer.body, answer.is_whole = bytes(body), self.is_whole
        return answer


def request(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    """A request with its body's length; with `Host` and what else is given."""
    fields = {"Host": "localhost"} | headers | {"Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body


def operation(name: str, body: bytes) -> bytes:
    """A request for an operation of AWS KMS, without a signature."""
    return request("POST", "/", {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{name}"}, body)


def chunked(method: str, target: str, headers: dict[str, str], parts: list[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    """A request whose body comes in these chunks."""
    fields = {"Host": "localhost"} | headers | {"Transfer-Encoding": "chunked"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + framed + end


def signed(facts: dict, role: str, method: str, target: str, headers: dict[str, str], body: bytes, in_query: bool = False) -> tuple[str, dict[str, str]]:
    """Target and headers of a request that botocore has signed, in its headers or its query. `facts` are the daemon's."""
    principal = facts["principals"][role]
    credentials = botocore.credentials.Credentials(principal["access_key_id"], principal["secret_access_key"])
    given = botocore.awsrequest.AWSRequest(method, facts["endpoint"] + target, headers, body)
    signer = botocore.auth.SigV4QueryAuth(credentials, "kms", facts["region"]) if in_query else botocore.auth.SigV4Auth(credentials, "kms", facts["region"])
    signer.add_auth(given)
    host = facts["endpoint"].removeprefix("http://")
    return given.url.removeprefix(facts["endpoint"]), {"Host": host, **dict(given.headers.items())}


def settings(more: str) -> str:
    """A keymill.toml with both sockets, and what else is given."""
    return SETTINGS.format(user="root" if os.getuid() == 0 else os.getuid()) + more


def admin_socket(mill: Daemon) -> str:
    """Where unsigned requests are the admin's."""
    return str(mill.state / "admin.sock")


def tcp(facts: dict) -> tuple[str, int]:
    """The address of the daemon's TCP listener, in the clear."""
    host, port = facts["endpoint"].removeprefix("http://").rsplit(":", 1)
    return host, int(port)


def resident_bytes(mill: Daemon) -> int:
    """What the daemon has in memory now."""
    with open(f"/proc/{mill.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) * 1024
