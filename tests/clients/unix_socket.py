"""Plain HTTP over the Unix socket: Python's http.client and curl. The kernel says who asks; a signature is judged by itself."""

import base64
import http.client
import json
import re
import socket
import subprocess
import sys

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from daemon import ALIAS, BLOB_BYTES, NOT_ALLOWED_TO_OPEN, Daemon, report, running

JSON = "application/x-amz-json-1.1"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    calls = 0

    def __init__(self, path: str):
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        UnixConnection.calls += 1
        self.request("POST", path, body, headers)
        answer = self.getresponse()
        return answer.status, answer.headers, answer.read()

    def call(self, operation: str, members: dict, **headers: str) -> tuple[int, dict]:
        head = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}"} | headers
        status, _, body = self.post("/", json.dumps(members).encode(), head)
        return status, json.loads(body or b"{}")


def signed(mill: Daemon, role: str, operation: str, members: dict) -> tuple[bytes, dict[str, str]]:
    """A request as botocore signs it."""
    principal = mill.principal(role)
    body = json.dumps(members).encode()
    head = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}", "Host": "localhost"}
    request = botocore.awsrequest.AWSRequest("POST", "http://localhost/", head, body)
    credentials = botocore.credentials.Credentials(principal["access_key_id"], principal["secret_access_key"])
    botocore.auth.SigV4Auth(credentials, "kms", mill.facts["region"]).add_auth(request)
    return body, dict(request.headers.items())


def unsigned_is_the_provisioner(mill: Daemon, connection: UnixConnection) -> None:
    made = set()
    for number in range(200):
        members = {"KeyId": ALIAS, "KeySpec": "AES_256", "EncryptionContext": {"container": f"container-{number}"}}
        status, answer = connection.call("GenerateDataKeyWithoutPlaintext", members)
        assert status == 200 and "Plaintext" not in answer, answer
        blob = base64.b64decode(answer["CiphertextBlob"], validate=True)
        made.add(blob)
        assert len(blob) == BLOB_BYTES
        opened = mill.client("consumer").decrypt(CiphertextBlob=blob, EncryptionContext=members["EncryptionContext"]) if number < 5 else None
        assert opened is None or len(opened["Plaintext"]) == 32
    assert len(made) == 200, "a data key came twice"
    status, answer = connection.call("Decrypt", {"CiphertextBlob": answer["CiphertextBlob"]})
    assert (status, answer["__type"]) == (400, "AccessDeniedException"), answer
    assert answer.get("Message", answer.get("message")) == NOT_ALLOWED_TO_OPEN, answer
    for operation, members in (("CreateKey", {}), ("GenerateDataKey", {"KeyId": ALIAS, "KeySpec": "AES_256"})):
        status, answer = connection.call(operation, members)
        assert (status, answer["__type"]) == (400, "AccessDeniedException"), answer


def a_signature_is_judged_alone(mill: Daemon, connection: UnixConnection) -> None:
    body, head = signed(mill, "consumer", "DescribeKey", {"KeyId": ALIAS})
    status, _, said = connection.post("/", body, head)
    arn = json.loads(said)["KeyMetadata"]["Arn"]
    assert status == 200, said
    body, head = signed(mill, "consumer", "GenerateDataKeyWithoutPlaintext", {"KeyId": ALIAS, "KeySpec": "AES_256"})
    status, _, said = connection.post("/", body, head)
    assert status == 400 and json.loads(said)["__type"] == "AccessDeniedException", f"the consumer fell back to the peer: {said}"
    body, head = signed(mill, "admin", "GenerateDataKey", {"KeyId": arn, "KeySpec": "AES_256"})
    status, _, said = connection.post("/", body, head)
    assert status == 200 and "Plaintext" in json.loads(said)
    broken = head["Authorization"][:-1] + ("0" if head["Authorization"][-1] != "0" else "1")
    cases = [
        (broken, "InvalidSignatureException"),
        (re.sub("Credential=[^/]*", "Credential=AKIDNOBODY", head["Authorization"]), "UnrecognizedClientException"),
        ("AWS4-HMAC-SHA256 nonsense", "IncompleteSignatureException"),
    ]
    for authorization, code in cases:
        status, _, said = connection.post("/", body, head | {"Authorization": authorization})
        assert status == 400 and json.loads(said)["__type"] == code, f"{said} instead of {code}"


def batches(connection: UnixConnection) -> None:
    """The batch endpoint in both forms."""
    members = json.dumps({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": 20_000, "EncryptionContext": {"batch": "1"}}).encode()
    head = {"Content-Type": "application/json", "Accept": "application/octet-stream"}
    status, headers, body = connection.post("/v1/data-keys", members, head)
    assert status == 200 and headers["Keymill-Blob-Bytes"] == str(BLOB_BYTES), (status, headers.items())
    assert headers["Content-Length"] == str(len(body)) == str(20_000 * BLOB_BYTES)
    assert len({body[at : at + BLOB_BYTES] for at in range(0, len(body), BLOB_BYTES)}) == 20_000
    status, _, body = connection.post("/v1/data-keys", members, head | {"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in body.splitlines()]
    assert status == 200 and lines[-1] == {"End": {"Count": 20_000}}, lines[-1]
    assert len({line["CiphertextBlob"] for line in lines[:-1]}) == len(lines) - 1 == 20_000
    assert set(lines[0]) == {"CiphertextBlob", "KeyId", "KeyMaterialId"}, lines[0]


class Curl:
    """curl, unsigned and with its own SigV4."""

    calls = 0

    @classmethod
    def call(cls, mill: Daemon, operation: str, members: dict, *more: str) -> dict:
        cls.calls += 1
        command = ["curl", "--silent", "--show-error", "--unix-socket", mill.socket, "http://localhost/"]
        command += ["-H", f"Content-Type: {JSON}", "-H", f"X-Amz-Target: TrentService.{operation}", "-d", json.dumps(members), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def curl(mill: Daemon) -> None:
    ask = {"KeyId": ALIAS, "KeySpec": "AES_256"}
    made = {Curl.call(mill, "GenerateDataKeyWithoutPlaintext", ask)["CiphertextBlob"] for _ in range(20)}
    assert len(made) == 20
    refused = Curl.call(mill, "Decrypt", {"CiphertextBlob": made.pop()})
    assert refused["__type"] == "AccessDeniedException", refused
    refused = Curl.call(mill, "GenerateDataKeyWithoutPlaintext", ask, "-H", "Authorization: AWS4-HMAC-SHA256 Credential=a/b/c/d/e")
    assert refused["__type"] == "IncompleteSignatureException", refused


def main() -> None:
    with running() as mill:
        connection = UnixConnection(mill.socket)
        unsigned_is_the_provisioner(mill, connection)
        a_signature_is_judged_alone(mill, connection)
        batches(connection)
        curl(mill)
        connection.close()
    report("Python http.client over the Unix socket", sys.version.split()[0], UnixConnection.calls)
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    report("curl over the Unix socket", version, Curl.calls)


if __name__ == "__main__":
    main()
