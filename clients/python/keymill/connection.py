"""One HTTP connection to a daemon, kept from call to call: a Unix socket, TCP or TLS."""

import email.utils
import http.client
import os
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from keymill.errors import ConnectionLost, InvalidAnswer, KeymillError
from keymill.signing import Credentials, signer

# A daemon that sends nothing for so long is taken for dead.
SILENCE_SECONDS = 60
# What is read from the connection at once.
READ_BYTES = 256 * 1024
# A refusal is a short JSON document.
REFUSAL_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back. `cut` says why the body ended before its end, or is None."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: str | None

    @property
    def retry_after_seconds(self) -> float | None:
        """The header `Retry-After`: seconds, or a date."""
        asked = self.headers.get("retry-after", "")
        if asked.isdecimal():
            return float(asked)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
        except (TypeError, ValueError, OverflowError):
            return None


class _OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str):
        super().__init__("localhost", timeout=SILENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Connection:
    """A connection to one endpoint, made when it is needed. Not for several threads."""

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials | None,
        region: str | None,
        ca_bundle: str | None,
    ):
        self.endpoint = endpoint
        self._sign = None
        self._host = "localhost"
        self._http: http.client.HTTPConnection
        if endpoint.startswith("unix:"):
            self._http = _OverSocket(endpoint.removeprefix("unix:"))
            return
        parsed = urllib.parse.urlsplit(endpoint)
        known = parsed.scheme in ("http", "https") and parsed.hostname
        if not known or parsed.path not in ("", "/"):
            raise ValueError(
                f"an endpoint is unix:PATH, http://HOST:PORT or https://HOST:PORT, not {endpoint!r}"
            )
        self._host = parsed.netloc
        self._base = f"{parsed.scheme}://{parsed.netloc}"
        if parsed.scheme == "https":
            authorities = ca_bundle or os.environ.get("AWS_CA_BUNDLE")
            context = ssl.create_default_context(cafile=authorities)
            self._http = http.client.HTTPSConnection(
                parsed.netloc, timeout=SILENCE_SECONDS, context=context
            )
        else:
            self._http = http.client.HTTPConnection(parsed.netloc, timeout=SILENCE_SECONDS)
        self._sign = signer(credentials, region)

    def close(self) -> None:
        """Closes the connection; the next call makes a new one."""
        self._http.close()

    def post(self, target: str, body: bytes, headers: dict[str, str], bytes_max: int) -> Answer:
        """One request and its answer, with at most so many bytes of body.

        Raises ConnectionLost where no head of an answer came, and KeymillError, with the code
        `Untrusted`, where the daemon's certificate does not hold. A body that breaks off is an
        answer that is cut.
        """
        headers = {"Host": self._host, **headers}
        if self._sign is not None:
            headers = self._sign(self._base + target, body, headers)
        kept = self._http.sock is not None
        try:
            try:
                answer = self._head(target, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._http.close()
                if not kept:
                    raise
                # An idle connection that the daemon has closed: whatever was made of the request
                # reached no caller.
                answer = self._head(target, body, headers)
            if answer.status != http.client.OK:
                bytes_max = REFUSAL_BYTES_MAX
            return self._body(answer, bytes_max)
        except ssl.SSLCertVerificationError as error:
            # It would be no other after a while.
            self._http.close()
            raise KeymillError("Untrusted", self._told(error)) from error
        except OSError as error:
            self._http.close()
            raise ConnectionLost("ConnectionLost", self._told(error)) from error
        except http.client.HTTPException as error:
            self._http.close()
            raise InvalidAnswer("InvalidAnswer", self._told(error)) from error
        except BaseException:
            # A connection with half of a call on it is good for nothing.
            self._http.close()
            raise

    def _told(self, error: Exception) -> str:
        return f"{self.endpoint}: {str(error) or type(error).__name__}"

    def _head(self, target: str, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        try:
            self._http.request("POST", target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A daemon that refuses a call need not read all of it: the refusal is there already.
            if self._http.sock is None:
                raise
        return self._http.getresponse()

    def _body(self, answer: http.client.HTTPResponse, bytes_max: int) -> Answer:
        pieces, size, cut = [], 0, None
        try:
            while piece := answer.read1(READ_BYTES):
                size += len(piece)
                if size > bytes_max:
                    message = f"{self.endpoint}: more than {bytes_max} bytes"
                    raise InvalidAnswer("InvalidAnswer", message)
                pieces.append(piece)
            if answer.length:
                cut = f"{answer.length} bytes of the answer are missing"
            elif answer.length is None and not answer.chunked:
                # The daemon says in every head where the body ends: the head itself was cut.
                cut = "the answer broke off in its head"
        except (OSError, http.client.HTTPException) as error:
            cut = f"the answer broke off: {str(error) or type(error).__name__}"
        answer.close()
        if cut is not None:
            self._http.close()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, named, b"".join(pieces), cut)
