"""One connection to a daemon: over its Unix socket, where the kernel says who asks, or over HTTP, signed as AWS clients sign."""

import http.client
import json
import os
import socket
import ssl
import time
import urllib.parse

import pyarrow
import pyarrow.ipc

BIND_PATH = "/v1/data-keys/bind"
MEDIA_TYPE = "application/vnd.apache.arrow.stream"
# A daemon that sends nothing for so long is taken for dead.
SILENCE_SECONDS = 60
# How long a throttled call is made again, and the longest pause between.
PATIENCE_SECONDS = 120
PAUSE_SECONDS_MAX = 2.0


class KeymillError(Exception):
    """The daemon refused. `code` is the KMS error code; `row` the number of the row that is at fault, if one is."""

    def __init__(self, code: str, message: str, row: int | None = None):
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.message, self.row = code, message, row


class _OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str):
        super().__init__("localhost", timeout=SILENCE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """A connection to the daemon at `endpoint`: unix:PATH, http://HOST:PORT or https://HOST:PORT; without one, the variable KEYMILL_ENDPOINT or AWS_ENDPOINT_URL_KMS.

    Over HTTP the calls are signed with `credentials` (anything with access_key, secret_key and token, such as botocore's), or those that botocore finds. Not for several threads.
    """

    def __init__(self, endpoint: str | None = None, credentials=None, region: str | None = None, ca_bundle: str | None = None):
        endpoint = endpoint or os.environ.get("KEYMILL_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL_KMS")
        if not endpoint:
            raise ValueError("name the daemon: endpoint=, KEYMILL_ENDPOINT or AWS_ENDPOINT_URL_KMS")
        self._signer = None
        if endpoint.startswith("unix:"):
            self._host, self._connection = "localhost", _OverSocket(endpoint.removeprefix("unix:"))
            return
        parsed = urllib.parse.urlsplit(endpoint)
        if parsed.scheme not in ("http", "https") or not parsed.hostname or parsed.path not in ("", "/"):
            raise ValueError(f"an endpoint is unix:PATH, http://HOST:PORT or https://HOST:PORT, not {endpoint!r}")
        self._host = parsed.netloc
        if parsed.scheme == "https":
            context = ssl.create_default_context(cafile=ca_bundle or os.environ.get("AWS_CA_BUNDLE"))
            self._connection = http.client.HTTPSConnection(parsed.netloc, timeout=SILENCE_SECONDS, context=context)
        else:
            self._connection = http.client.HTTPConnection(parsed.netloc, timeout=SILENCE_SECONDS)
        self._signer = _signer(credentials, region)
        self._base = f"{parsed.scheme}://{parsed.netloc}"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def bind(self, contexts: pyarrow.RecordBatch, query: dict[str, str | list[str]]) -> pyarrow.Table:
        """One call of the bind endpoint: the rows of `contexts` with ciphertext_blob, key_arn and key_material_id."""
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, contexts.schema) as writer:
            writer.write_batch(contexts)
        body = sink.getvalue().to_pybytes()
        encoded = urllib.parse.urlencode(query, doseq=True, quote_via=urllib.parse.quote, safe="")
        answer = self._call(f"{BIND_PATH}?{encoded}", body)
        table = pyarrow.ipc.open_stream(answer).read_all()
        if table.num_rows != contexts.num_rows:
            raise KeymillError("InvalidAnswer", f"{table.num_rows} rows to {contexts.num_rows}")
        return table

    def _call(self, target: str, body: bytes) -> bytes:
        pause, waited = 0.05, 0.0
        while True:
            status, answer = self._exchange(target, body)
            if status == 200:
                return answer
            error = _error(status, answer)
            if error.code != "ThrottlingException" or waited >= PATIENCE_SECONDS:
                raise error
            time.sleep(pause)
            waited += pause
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _exchange(self, target: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Host": self._host, "Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
        if self._signer is not None:
            headers = self._signer(self._base + target, body, headers)
        reused = self._connection.sock is not None
        try:
            return self._send(target, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # An idle connection that the daemon has closed; whatever it had made of the request
            # went nowhere.
            self._connection.close()
            if not reused:
                raise
            return self._send(target, body, headers)

    def _send(self, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", target, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self._connection.close()
            raise


def _error(status: int, answer: bytes) -> KeymillError:
    try:
        said = json.loads(answer)
        code, message = said["__type"], said.get("message") or said.get("Message") or ""
    except (ValueError, KeyError, TypeError):
        return KeymillError("InvalidAnswer", f"status {status}; is it a keymill daemon of this version?")
    number, colon, rest = message.removeprefix("Row ").partition(": ")
    if message.startswith("Row ") and colon and number.isdigit():
        return KeymillError(code, rest, int(number))
    return KeymillError(code, message)


def _signer(credentials, region: str | None):
    try:
        import botocore.auth
        import botocore.awsrequest
        import botocore.session
    except ImportError as error:
        raise ImportError("calls over HTTP are signed by botocore: pip install 'keymill[http]', or use endpoint='unix:PATH'") from error
    session = botocore.session.get_session()
    credentials = credentials or session.get_credentials()
    region = region or session.get_config_variable("region") or os.environ.get("AWS_REGION")
    if credentials is None or not region:
        raise ValueError("calls over HTTP are signed: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or use endpoint='unix:PATH'")

    def sign(url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        current = credentials.get_frozen_credentials() if hasattr(credentials, "get_frozen_credentials") else credentials
        request = botocore.awsrequest.AWSRequest("POST", url, headers, body)
        botocore.auth.SigV4Auth(current, "kms", region).add_auth(request)
        return dict(request.headers.items())

    return sign
