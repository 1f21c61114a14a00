"""An external key store proxy, called as AWS KMS calls it: over TLS, signed by botocore for `kms-xks-proxy`. Every case of the specification (version 1.0.3), each
refusal with its status and name; ciphertexts are opened here by an implementation that shares nothing with the daemon. Then damaged requests, 300 or as many as
the first argument says."""

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import shlex
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import botocore
import botocore.auth
import botocore.awsrequest
import botocore.credentials
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from daemon import BINARY, ROOT, Daemon, Tally, environment, report, running
from import_key import create, import_material
from open_blobs import derive
from tls import Authority

PREFIX = "/orders/kms/xks/v1"
REGION = "eu-central-1"
CKS = f"cks.kms.{REGION}.amazonaws.com"
ACCOUNT, OPERATOR = "111122223333", "arn:aws:iam::111122223333:user"
ALICE = "arn:aws:iam::123456789012:user/Alice"
# As AWS's own test client sends it, with a slash too many.
KEY_ARN = "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab"
# The examples of the specification.
PLAINTEXT, ADDITIONAL = b"Hello World!", b"project=nile,department=marketing"
RIGHTS = {"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"], "Resource": "*"}
# As docs/xks.md has it: for one key alone, by its alias.
FOR_ONE_KEY = RIGHTS | {"Condition": {"StringEquals": {"kms:RequestAlias": "alias/orders"}}}
MEMBERS = ("ciphertext", "ciphertextMetadata", "initializationVector", "authenticationTag")
# What AWS KMS waits for an answer.
WAITS_SECONDS = 0.25

SETTINGS = f"""
[tls]
certificate = "{{certificate}}"
key = "{{key}}"
client_ca = "{{ca}}"
{{names}}
[rates.principals]
"{OPERATOR}/aws-kms-slow" = 3
[xks.orders]
uri_path = "{PREFIX}"
principal = "{OPERATOR}/aws-kms"
regions = ["{REGION}", "us-east-1"]
[xks.guarded]
uri_path = "/guarded/kms/xks/v1"
principal = "{OPERATOR}/aws-kms"
regions = ["{REGION}"]
client_common_names = ["{CKS}"]
[xks.slow]
uri_path = "/slow/kms/xks/v1"
principal = "{OPERATOR}/aws-kms-slow"
regions = ["{REGION}"]
"""


def settings(certificate: str, key: str, ca: Path, names: list[str]) -> str:
    """The daemon's whole configuration, with its external keys."""
    common_names = f"client_common_names = {json.dumps(names)}" if names else ""
    text = SETTINGS.format(certificate=certificate, key=key, ca=ca, names=common_names)
    keys = [
        ("main", "orders", "main.1", ""),
        ("imported", "orders", "imported", ""),
        ("disabled", "orders", "disabled", ""),
        ("pair", "orders", "pair", ""),
        ("missing", "orders", "missing", ""),
        ("encrypts", "orders", "encrypt_only_key", 'usage = ["ENCRYPT"]'),
        ("decrypts", "orders", "decrypt_only_key", 'usage = ["DECRYPT"]'),
        ("neither", "orders", "impotent_key", "usage = []"),
        ("lists", "orders", "lists", f'aws_principals = ["{ALICE}"]\nkms_operations = ["Encrypt"]\nkms_key_arns = ["*:123456789012:*"]'),
        ("guarded", "guarded", "main.1", ""),
        ("slow", "slow", "main.1", ""),
        ("slow-other", "slow", "disabled", ""),
    ]
    targets = {"imported": "alias/imported", "disabled": "alias/disabled", "slow-other": "alias/disabled", "pair": "alias/pair", "missing": "alias/missing"}
    for name, store, external, rest in keys:
        text += f'[xks_keys.{name}]\nstore = "{store}"\nid = "{external}"\nkey = "{targets.get(name, "alias/orders")}"\n{rest}\n'
    return text


def keymill(mill: Daemon, *arguments: str) -> str:
    """What a command of the operator prints."""
    command = [BINARY, *arguments, "--endpoint", f"unix:{mill.socket}"]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout


def credential(mill: Daemon, principal: str = "aws-kms", path: str = PREFIX) -> botocore.credentials.Credentials:
    """A new credential, from the file for the console of AWS KMS."""
    file = json.loads(keymill(mill, "principal", "new-xks-credential", principal, "--uri-path", path))
    assert file.keys() == {"XksProxyUriPath", "XksProxyAuthenticationCredential"} and file["XksProxyUriPath"] == path, file
    pair = file["XksProxyAuthenticationCredential"]
    assert len(pair["AccessKeyId"]) == 20 and set(pair["AccessKeyId"]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), pair
    assert len(pair["RawSecretAccessKey"]) == 43, "not 43 characters"
    return botocore.credentials.Credentials(pair["AccessKeyId"], pair["RawSecretAccessKey"])


class Kms:
    """AWS KMS, as a proxy sees it."""

    def __init__(self, mill: Daemon, ca: Path, signs: botocore.credentials.Credentials, tally: Tally, certificate: tuple[str, str] | None = None):
        self.host, port = mill.endpoint.removeprefix("https://").split(":")
        self.port, self.signs, self.tally = int(port), signs, tally
        self.context = ssl.create_default_context(cafile=ca)
        if certificate:
            self.context.load_cert_chain(*certificate)
        self.connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=10)

    def head(self, path: str, body: bytes, region: str = REGION, service: str = "kms-xks-proxy", signs=None) -> dict[str, str]:
        """The header fields of a request: `host` and `x-amz-date` are signed, and nothing else."""
        request = botocore.awsrequest.AWSRequest("POST", f"https://{self.host}:{self.port}{path}", data=body)
        botocore.auth.SigV4Auth(signs or self.signs, service, region).add_auth(request)
        assert "SignedHeaders=host;x-amz-date," in request.headers["Authorization"]
        return dict(request.headers) | {"Content-Type": "application/json"}

    def send(self, path: str, body: bytes, head: dict[str, str], method: str = "POST") -> tuple[int, dict[str, str], bytes]:
        self.connection.request(method, path, body, head)
        answer = self.connection.getresponse()
        self.tally.count()
        head = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, head, answer.read()

    def raw(self, path: str, body: bytes, **signing) -> tuple[int, dict]:
        status, head, text = self.send(path, body, self.head(path, body, **signing))
        assert head["content-type"] == "application/json", head
        answer = json.loads(text)
        if status != 200:
            assert answer.keys() <= {"errorName", "errorMessage"}, answer
            assert len(answer.get("errorMessage", "")) < 512 and answer.get("errorMessage", "").isascii(), answer
        return status, answer

    def call(self, path: str, body: dict, **signing) -> dict:
        status, answer = self.raw(path, json.dumps(body).encode(), **signing)
        assert status == 200, f"{path}: {status} {answer}"
        return answer

    def refused(self, status: int, name: str, path: str, body: dict | bytes, **signing) -> str:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = self.raw(path, text, **signing)
        assert (found[0], found[1].get("errorName")) == (status, name), f"{path}: {found} instead of {status} {name}"
        return found[1].get("errorMessage", "")


def said(operation: str, **more: str) -> dict[str, str]:
    """What AWS KMS says of the call that it serves."""
    of = {"awsPrincipalArn": ALICE, "kmsKeyArn": KEY_ARN, "kmsOperation": operation, "kmsRequestId": str(uuid.uuid4()), "kmsViaService": "ebs"}
    return of | more


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def to_encrypt(plaintext: bytes = PLAINTEXT, additional: bytes | None = ADDITIONAL, value: bool = True, **more: str) -> dict:
    body = {"requestMetadata": said("Encrypt", **more), "plaintext": text(plaintext), "encryptionAlgorithm": "AES_GCM"}
    if additional is not None:
        body["additionalAuthenticatedData"] = text(additional)
    if value:
        body["ciphertextDataIntegrityValueAlgorithm"] = "SHA_256"
    return body


def to_decrypt(sealed: dict, additional: bytes | None = ADDITIONAL, **more: str) -> dict:
    body = {"requestMetadata": said("Decrypt", **more), "encryptionAlgorithm": "AES_GCM"} | {member: sealed[member] for member in MEMBERS}
    if additional is not None:
        body["additionalAuthenticatedData"] = text(additional)
    return body


def key(name: str, operation: str, prefix: str = PREFIX) -> str:
    return f"{prefix}/keys/{name}/{operation}"


def opens(kms: Kms, name: str, sealed: dict, plaintext: bytes = PLAINTEXT, additional: bytes | None = ADDITIONAL) -> None:
    answer = kms.call(key(name, "decrypt"), to_decrypt(sealed, additional))
    assert answer == {"plaintext": text(plaintext)}, answer


def check_value(sealed: dict, additional: bytes) -> None:
    """The integrity value, as AWS KMS computes it (appendix C)."""
    of = {member: base64.b64decode(sealed[member]) for member in MEMBERS}
    parts = additional + of["ciphertextMetadata"] + of["initializationVector"] + of["ciphertext"] + of["authenticationTag"]
    assert base64.b64decode(sealed["ciphertextDataIntegrityValue"]) == hashlib.sha256(parts).digest()


def health(kms: Kms) -> None:
    asked = {"requestMetadata": {"kmsOperation": "KmsHealthCheck", "kmsRequestId": str(uuid.uuid4())}}
    answer = kms.call(f"{PREFIX}/health", asked)
    assert answer["xksProxyFleetSize"] == 1 and answer["xksProxyVendor"] == answer["ekmVendor"] == "Keymill", answer
    assert [(one["id"], one["healthStatus"]) for one in answer["ekmFleetDetails"]] == [("orders", "ACTIVE")], answer
    kms.refused(400, "ValidationException", f"{PREFIX}/health", {})
    kms.refused(400, "ValidationException", f"{PREFIX}/health", {"requestMetadata": {}})
    # For load balancers, which sign nothing; the API itself takes no GET.
    assert kms.send("/ping", b"", {}, "GET")[0] == 200
    for path in (f"{PREFIX}/health", key("main.1", "encrypt"), key("main.1", "metadata"), key("main.1", "decrypt")):
        status, head, _ = kms.send(path, b"", {}, "GET")
        assert (status, head["allow"]) == (405, "POST"), (path, status)


def metadata(kms: Kms) -> None:
    both, asked = ["ENCRYPT", "DECRYPT"], {"requestMetadata": said("CreateKey")}
    for name, usage in (("main.1", both), ("encrypt_only_key", both[:1]), ("decrypt_only_key", both[1:]), ("impotent_key", [])):
        answer = kms.call(key(name, "metadata"), asked)
        assert answer == {"keySpec": "AES_256", "keyUsage": usage, "keyStatus": "ENABLED"}, answer
    # KMS does not know the ARN of a key that it creates.
    del asked["requestMetadata"]["kmsKeyArn"]
    kms.call(key("main.1", "metadata"), asked)
    kms.refused(404, "KeyNotFoundException", key("gone", "metadata"), asked)
    kms.refused(404, "KeyNotFoundException", key("missing", "metadata"), asked)


def round_trips(kms: Kms) -> None:
    sealed = kms.call(key("main.1", "encrypt"), to_encrypt())
    assert sealed.keys() == {*MEMBERS, "ciphertextDataIntegrityValue"}, sealed
    check_value(sealed, ADDITIONAL)
    opens(kms, "main.1", sealed)
    # A later specification, and a later KMS.
    body = to_encrypt(kmsOperation="BulkEncrypt", sourceIdentity="x") | {"later": [{}]}
    opens(kms, "main.1", kms.call(key("main.1", "encrypt"), body))
    for plaintext, additional in ((b"", None), (b"\0", b""), (os.urandom(4300), os.urandom(8192))):
        sealed = kms.call(key("main.1", "encrypt"), to_encrypt(plaintext, additional, value=False))
        assert sealed.keys() == set(MEMBERS) and len(base64.b64decode(sealed["ciphertext"])) == len(plaintext), sealed
        opens(kms, "main.1", sealed, plaintext, additional)
    long = said("Encrypt", awsPrincipalArn="arn:aws:iam::123456789012:user/".ljust(2048, "a"))
    kms.call(key("main.1", "encrypt"), to_encrypt() | {"requestMetadata": long})
    # The same scope, from the other Region that may call.
    opens(kms, "main.1", kms.call(key("main.1", "encrypt"), to_encrypt(), region="us-east-1"))
    nonces = set()
    for _ in range(200):
        sealed = kms.call(key("main.1", "encrypt"), to_encrypt(value=False))
        nonces.add(sealed["ciphertextMetadata"])
        nonces.add(sealed["initializationVector"])
    assert len(nonces) == 400, "half of a nonce came twice"


def by_others(kms: Kms, material: bytes, key_id: str) -> None:
    """Ciphertexts of a key whose material is known, opened as docs/formats.md has it."""
    for additional in (ADDITIONAL, b""):
        sealed = kms.call(key("imported", "encrypt"), to_encrypt(additional=additional))
        check_value(sealed, additional)
        of = {member: base64.b64decode(sealed[member]) for member in MEMBERS}
        said_of_key = of["ciphertextMetadata"]
        assert len(said_of_key) == 17 and said_of_key[:5] == bytes([1, 0, 0, 0, 1]), said_of_key
        own = hmac.digest(material, b"keymill external key v1" + bytes.fromhex(key_id.replace("-", "")) + b"imported", "sha256")
        aes_key = derive(own, said_of_key[5:])
        data = len(additional).to_bytes(2, "big") + additional + bytes([17]) + said_of_key
        plaintext = AESGCM(aes_key).decrypt(of["initializationVector"], of["ciphertext"] + of["authenticationTag"], data)
        assert plaintext == PLAINTEXT
        # And the other way round: what was made here opens there.
        vector = os.urandom(12)
        made = AESGCM(aes_key).encrypt(vector, b"made here", data)
        theirs = sealed | {"initializationVector": text(vector), "ciphertext": text(made[:-16]), "authenticationTag": text(made[-16:])}
        opens(kms, "imported", theirs, b"made here", additional)


def malformed(kms: Kms) -> None:
    encrypt, decrypt = key("main.1", "encrypt"), key("main.1", "decrypt")
    sealed = kms.call(encrypt, to_encrypt())
    for path, body, needed in (
        (encrypt, to_encrypt(), ("requestMetadata", "plaintext", "encryptionAlgorithm")),
        (decrypt, to_decrypt(sealed), ("requestMetadata", "ciphertext", "initializationVector", "authenticationTag", "encryptionAlgorithm")),
    ):
        for member in needed:
            kms.refused(400, "ValidationException", path, {name: value for name, value in body.items() if name != member})
        for member in ("awsPrincipalArn", "kmsKeyArn", "kmsOperation", "kmsRequestId"):
            less = {name: value for name, value in body["requestMetadata"].items() if name != member}
            kms.refused(400, "ValidationException", path, body | {"requestMetadata": less})
    wrong = {"encryptionAlgorithm": "AES_CBC", "plaintext": "=", "ciphertextDataIntegrityValueAlgorithm": "MD5", "requestMetadata": []}
    for member, value in wrong.items():
        kms.refused(400, "ValidationException", encrypt, to_encrypt() | {member: value})
    for member, size in (("initializationVector", 13), ("authenticationTag", 12), ("ciphertextMetadata", 21)):
        kms.refused(400, "ValidationException", decrypt, to_decrypt(sealed) | {member: text(bytes(size))})
    for body in (b"", b"null", b"[]", b"{", b'{"requestMetadata":', b"\xff"):
        kms.refused(400, "ValidationException", encrypt, body)
    kms.refused(501, "UnsupportedOperationException", encrypt, to_encrypt(bytes(4301)))
    kms.refused(501, "UnsupportedOperationException", encrypt, to_encrypt(additional=bytes(8193)))
    kms.refused(501, "UnsupportedOperationException", decrypt, to_decrypt(sealed) | {"ciphertext": text(bytes(4301))})
    kms.refused(501, "UnsupportedOperationException", encrypt, to_encrypt() | {"later": "x" * 70_000})
    for change in (
        {"additionalAuthenticatedData": text(b"project=blue")}, {"ciphertext": text(b"another text")}, {"initializationVector": text(bytes(12))},
        {"initializationVector": text(bytes(16))}, {"authenticationTag": text(bytes(16))}, {"ciphertextMetadata": text(b"key_version=1")},
        {"ciphertextMetadata": text(bytes([1, 0, 0, 0, 9]) + bytes(12))},
    ):
        kms.refused(400, "InvalidCiphertextException", decrypt, to_decrypt(sealed) | change)
    kms.refused(400, "InvalidCiphertextException", decrypt, to_decrypt(sealed, additional=None))
    # A ciphertext is of one external key, even of one KMS key.
    kms.refused(400, "InvalidCiphertextException", key("decrypt_only_key", "decrypt"), to_decrypt(sealed))


def misplaced(kms: Kms) -> None:
    for path in (
        f"{PREFIX}/healthy", f"{PREFIX}/keys/main.1", f"{PREFIX}/keys/main.1/rotate", f"{PREFIX}/keys/a%20b/encrypt", f"{PREFIX}/keys/{'a' * 129}/encrypt",
        "/orders/invalid/kms/xks/v1/health", "/kms/xks/v1/health", "/orders/kms/xks/v2/health", f"{PREFIX}/health?x=1",
    ):
        kms.refused(404, "InvalidUriPathException", path, to_encrypt())
    kms.refused(404, "KeyNotFoundException", key("gone", "encrypt"), to_encrypt())
    kms.refused(404, "KeyNotFoundException", key("missing", "encrypt"), to_encrypt())
    # A path that is not of the API is not answered in its words.
    assert kms.send("/orders", b"{}", {})[0] == 404


def usages(kms: Kms) -> None:
    """The keys of AWS's own test client."""
    for additional in (None, ADDITIONAL):
        sealed = kms.call(key("encrypt_only_key", "encrypt"), to_encrypt(additional=additional, value=False))
        kms.refused(400, "InvalidKeyUsageException", key("encrypt_only_key", "decrypt"), to_decrypt(sealed, additional))
        kms.refused(400, "InvalidKeyUsageException", key("encrypt_only_key", "encrypt"), to_encrypt(additional=additional))
        for name in ("decrypt_only_key", "impotent_key"):
            for value in (False, True):
                kms.refused(400, "InvalidKeyUsageException", key(name, "encrypt"), to_encrypt(additional=additional, value=value))
        kms.refused(400, "InvalidKeyUsageException", key("impotent_key", "decrypt"), to_decrypt(sealed, additional))
    kms.refused(400, "InvalidKeyUsageException", key("pair", "encrypt"), to_encrypt())


def callers_in_aws(kms: Kms) -> None:
    path = key("lists", "encrypt")
    kms.call(path, to_encrypt())
    for change in ({"awsPrincipalArn": "ec2.amazonaws.com"}, {"kmsOperation": "GenerateDataKey"}, {"kmsKeyArn": "arn:aws:kms:us-east-2:999999999999:key/a"}):
        kms.refused(403, "AccessDeniedException", path, to_encrypt(**change))


def strangers(mill: Daemon, kms: Kms, other: botocore.credentials.Credentials) -> None:
    path, body = key("main.1", "encrypt"), to_encrypt()
    data = json.dumps(body).encode()
    own = kms.signs
    name = "AuthenticationFailedException"
    for signs in (
        botocore.credentials.Credentials("Invalid" + own.access_key, own.secret_key), botocore.credentials.Credentials(own.access_key, "Invalid" + own.secret_key),
        # Of another key store, and of KMS itself.
        other, botocore.credentials.Credentials(*(mill.principal("admin")[part] for part in ("access_key_id", "secret_access_key"))),
    ):
        kms.refused(401, name, path, body, signs=signs)
    kms.refused(401, name, path, body, region="eu-west-1")
    kms.refused(401, name, path, body, service="kms")
    head = kms.head(path, data)
    for wrong in (
        {part: value for part, value in head.items() if part != "Authorization"},
        head | {"Authorization": head["Authorization"].replace("host;x-amz-date", "host")},
        head | {"X-Amz-Date": (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=6)).strftime("%Y%m%dT%H%M%SZ")},
    ):
        status, _, answer = kms.send(path, data, wrong)
        assert (status, json.loads(answer)["errorName"]) == (401, name), (status, answer)
    # A request is for one path and one body.
    assert kms.send(key("main.1", "decrypt"), data, head)[0] == 401
    assert kms.send(path, data.replace(b"AES", b"aes"), head)[0] == 401
    assert kms.send(path, data, head)[0] == 200
    # The credential opens no other door: neither KMS nor STS.
    for service, action in (("kms", "TrentService.ListKeys"), ("sts", "")):
        head = kms.head("/", b"{}", service=service) | ({"X-Amz-Target": action} if action else {})
        assert kms.send("/", b"{}", head)[0] in (400, 403)


def states(mill: Daemon, kms: Kms, tally: Tally, disabled: str) -> None:
    admin = signed_client(mill, kms, tally)
    path = key("disabled", "encrypt")
    sealed = kms.call(path, to_encrypt())
    admin.disable_key(KeyId=disabled)
    kms.refused(400, "InvalidStateException", path, to_encrypt())
    kms.refused(400, "InvalidStateException", key("disabled", "decrypt"), to_decrypt(sealed))
    assert kms.call(key("disabled", "metadata"), {"requestMetadata": said("DescribeKey")})["keyStatus"] == "DISABLED"
    admin.enable_key(KeyId=disabled)
    # What was encrypted before a rotation stays readable.
    admin.rotate_key_on_demand(KeyId=disabled)
    later = kms.call(path, to_encrypt())
    generations = [base64.b64decode(one["ciphertextMetadata"])[1:5] for one in (sealed, later)]
    assert generations == [bytes([0, 0, 0, 1]), bytes([0, 0, 0, 2])], generations
    for one in (sealed, later):
        opens(kms, "disabled", one)
    admin.schedule_key_deletion(KeyId=disabled, PendingWindowInDays=7)
    kms.refused(400, "InvalidStateException", path, to_encrypt())


def signed_client(mill: Daemon, kms: Kms, tally: Tally):
    """A boto3 client of the daemon's admin, over TLS."""
    import tls
    return tls.client(mill, kms.ca, tally, "admin")


def late(kms: Kms) -> None:
    """A body that does not come: KMS has its answer before it gives up."""
    path, body = key("main.1", "encrypt"), json.dumps(to_encrypt()).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in kms.head(path, body).items())
    with socket.create_connection((kms.host, kms.port)) as raw, kms.context.wrap_socket(raw, server_hostname=kms.host) as stream:
        stream.settimeout(5)
        began = time.monotonic()
        stream.sendall(f"POST {path} HTTP/1.1\r\nHost: {kms.host}:{kms.port}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        answer = stream.recv(65536)
        took = time.monotonic() - began
    kms.tally.count()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"DependencyTimeoutException" in answer, answer
    assert took < WAITS_SECONDS, took


def rotated(mill: Daemon, kms: Kms, ca: Path, tally: Tally) -> Kms:
    """Credentials change without a restart, and two of them hold at a time."""
    second = Kms(mill, ca, credential(mill), tally)
    second.ca = ca
    for one in (kms, second):
        one.call(key("main.1", "encrypt"), to_encrypt())
    command = [BINARY, "principal", "new-xks-credential", "aws-kms", "--uri-path", PREFIX, "--endpoint", f"unix:{mill.socket}"]
    third = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert third.returncode == 1 and "has 2 access keys for kms-xks-proxy: delete one first" in third.stderr, third
    keymill(mill, "principal", "deactivate-access-key", "aws-kms", kms.signs.access_key)
    kms.refused(401, "AuthenticationFailedException", key("main.1", "encrypt"), to_encrypt())
    keymill(mill, "principal", "delete-access-key", "aws-kms", kms.signs.access_key, "--yes")
    kms.refused(401, "AuthenticationFailedException", key("main.1", "encrypt"), to_encrypt())
    second.call(key("main.1", "encrypt"), to_encrypt())
    return second


def throttled(mill: Daemon, ca: Path, tally: Tally) -> botocore.credentials.Credentials:
    """A key store has a limit of its own."""
    prefix = "/slow/kms/xks/v1"
    slow = Kms(mill, ca, credential(mill, "aws-kms-slow", prefix), tally)
    slow.refused(403, "AccessDeniedException", key("disabled", "encrypt", prefix), to_encrypt())
    for _ in range(3):
        slow.call(key("main.1", "encrypt", prefix), to_encrypt())
    slow.refused(429, "ThrottlingException", key("main.1", "encrypt", prefix), to_encrypt())
    return slow.signs


def altered(kms: Kms, count: int, seed: int) -> None:
    """Requests that are damaged and signed all the same: each is answered or refused in the words of the API, and never fails."""
    chance = random.Random(seed)
    sealed = kms.call(key("main.1", "encrypt"), to_encrypt())
    sound = [(key("main.1", "encrypt"), to_encrypt()), (key("main.1", "decrypt"), to_decrypt(sealed)), (key("main.1", "metadata"), {"requestMetadata": said("CreateKey")})]
    for number in range(count):
        path, body = chance.choice(sound)
        data = bytearray(json.dumps(body).encode())
        for _ in range(chance.randint(1, 4)):
            at, kind = chance.randrange(len(data)), chance.randrange(4)
            if kind == 0:
                data[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del data[at:at + chance.randint(1, 40)]
            elif kind == 2:
                data[at:at] = chance.choice([b'"', b"{", b"}", b",", b"\\u0000", b"null", b"[" * 400, bytes(chance.randbytes(8)), b'"x":1,'])
            else:
                data[at:at] = data[at:at + chance.randint(1, 200)]
            if not data:
                break
        status, answer = kms.raw(path, bytes(data))
        assert status in (200, 400, 403, 501) and (status == 200 or "errorName" in answer), f"seed {seed}, request {number}: {status} {answer} to {bytes(data)!r}"


def by_certificate(mill: Daemon, ca: Path, clients: Authority, signs: botocore.credentials.Credentials, tally: Tally) -> None:
    """A key store may ask for the certificate that AWS KMS shows."""
    path = key("main.1", "encrypt", "/guarded/kms/xks/v1")
    for certificate, status in ((None, 401), (clients.client("other", "other"), 401), (clients.client("cks", CKS), 200)):
        kms = Kms(mill, ca, signs, tally, certificate)
        assert kms.raw(path, json.dumps(to_encrypt()).encode())[0] == status, certificate
        # The other key store does not ask.
        kms.call(key("main.1", "encrypt"), to_encrypt())


def in_the_handshake(ca: Path, clients: Authority, text_of_settings: str) -> int:
    """A listener for AWS KMS alone ends the handshake of every other client."""
    tally = Tally()
    with running(settings=text_of_settings) as mill:
        user(mill, "aws-kms")
        signs = credential(mill)
        made_key(mill, ca, clients.client("admin", CKS), tally)
        kms = Kms(mill, ca, signs, tally, clients.client("cks", CKS))
        kms.call(key("main.1", "encrypt"), to_encrypt())
        foreign = Authority(clients.folder, "foreign")
        for certificate in (clients.client("other", "other"), foreign.client("foreign", CKS)):
            kms = Kms(mill, ca, signs, tally, certificate)
            with contextlib.suppress(ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
                kms.raw(key("main.1", "encrypt"), json.dumps(to_encrypt()).encode())
                raise AssertionError(f"answered a client with {certificate}")
        assert mill.metric("keymill_tls_handshake_failures_total", reason="certificate_invalid") == 2
    return tally.calls


def user(mill: Daemon, name: str, rights: dict = RIGHTS) -> None:
    """A principal for AWS KMS. It needs no access key but those for its key store."""
    policy = mill.state / "xks.json"
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [rights]}))
    made = json.loads(keymill(mill, "principal", "create", name, "--policy", str(policy), "--json"))
    keymill(mill, "principal", "delete-access-key", name, made["AccessKeyId"], "--yes")


def made_key(mill: Daemon, ca: Path, certificate: tuple[str, str] | None, tally: Tally) -> None:
    import tls
    admin = tls.client(mill, ca, tally, "admin", certificate)
    made = admin.create_key()["KeyMetadata"]["KeyId"]
    admin.create_alias(AliasName="alias/orders", TargetKeyId=made)


def administrators_commands() -> int:
    """Those of docs/xks.md, held to the AWS command line: it checks what a command is given before it calls."""
    # Against AWS, and against Keymill: the first begins with how to set up the command line.
    first_half, second_half = re.findall(r"```sh\n(aws .*?)```", (ROOT / "docs" / "xks.md").read_text(), re.S)
    block = first_half + second_half
    given = {"XKSP…": "XKSP" + "A" * 16, "RawSecretAccessKey=…": "RawSecretAccessKey=" + "a" * 43, "cks-…": "cks-1234567890abcdef0"}
    for dots, value in given.items():
        assert dots in block, dots
        block = block.replace(dots, value)
    assert "…" not in block, block
    # What it finds sound, it would send, but where no server listens.
    nowhere = ["--region", REGION, "--no-sign-request", "--endpoint-url", "http://127.0.0.1:9"]
    first, *commands = block.replace("\\\n", " ").strip().splitlines()
    with tempfile.TemporaryDirectory(prefix="keymill-aws-") as name:
        variables = environment(AWS_CONFIG_FILE=f"{name}/config", AWS_MAX_ATTEMPTS="1", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        subprocess.run(shlex.split(first), env=variables, check=True, timeout=60)
        for command in commands:
            done = subprocess.run(shlex.split(command) + nowhere, env=variables, capture_output=True, text=True, timeout=60)
            assert 'Could not connect to the endpoint URL: "http://127.0.0.1:9/"' in done.stderr, f"{command}\n{done.stderr}"
    return 1 + len(commands)


def records(mill: Daemon) -> list[dict]:
    lines = [line for file in sorted((mill.state / "audit").glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record.get("eventSource") == "kms-xks-proxy"]


def recorded(mill: Daemon, sealed: dict, request_id: str) -> None:
    """After the daemon has ended: what AWS said of each call is in the audit log, and nothing secret."""
    found = records(mill)
    [one] = [record for record in found if (record["requestParameters"] or {}).get("kmsRequestId") == request_id]
    assert one["eventName"] == "XksEncrypt" and one["userIdentity"]["arn"] == f"{OPERATOR}/aws-kms", one
    parameters = one["requestParameters"]
    assert (parameters["externalKeyId"], parameters["awsPrincipalArn"], parameters["kmsKeyArn"]) == ("main.1", ALICE, KEY_ARN), parameters
    names = {record["eventName"] for record in found}
    assert names == {"XksEncrypt", "XksDecrypt", "XksGetHealthStatus", "XksGetKeyMetadata"}, names
    refusals = {record["errorCode"] for record in found if "errorCode" in record}
    assert refusals >= {"InvalidCiphertextException", "AccessDeniedException", "InvalidStateException", "KeyNotFoundException"}, refusals
    everything = json.dumps(found)
    for secret in (text(PLAINTEXT), PLAINTEXT.decode(), text(ADDITIONAL), sealed["ciphertext"], sealed["authenticationTag"]):
        assert secret not in everything, secret


def main() -> None:
    tally = Tally()
    assert administrators_commands() == 8
    with tempfile.TemporaryDirectory(prefix="keymill-xks-") as name:
        folder = Path(name)
        servers, clients = Authority(folder, "servers"), Authority(folder, "clients")
        certificate, private = servers.server("server")
        ca = servers.bundle
        with running(settings=settings(certificate, private, clients.bundle, [])) as mill:
            user(mill, "aws-kms")
            user(mill, "aws-kms-slow", FOR_ONE_KEY)
            kms = Kms(mill, ca, credential(mill), tally)
            kms.ca = ca
            admin = signed_client(mill, kms, tally)
            made_key(mill, ca, None, tally)
            disabled = admin.create_key()["KeyMetadata"]["KeyId"]
            material, (imported, _) = os.urandom(32), create(admin)
            import_material(admin, imported, material)
            pair = admin.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
            for alias, target in (("disabled", disabled), ("imported", imported), ("pair", pair)):
                admin.create_alias(AliasName=f"alias/{alias}", TargetKeyId=target)
            for case in (health, metadata, round_trips, malformed, misplaced, usages, callers_in_aws, late):
                case(kms)
            by_others(kms, material, imported)
            altered(kms, int(sys.argv[1]) if len(sys.argv) > 1 else 300, int(time.time()))
            states(mill, kms, tally, disabled)
            strangers(mill, kms, throttled(mill, ca, tally))
            by_certificate(mill, ca, clients, kms.signs, tally)
            kms = rotated(mill, kms, ca, tally)
            asked = to_encrypt()
            sealed = kms.call(key("main.1", "encrypt"), asked)
            for operation, code in (
                ("XksEncrypt", "OK"), ("XksDecrypt", "InvalidCiphertextException"), ("XksGetKeyMetadata", "KeyNotFoundException"),
                ("XksGetHealthStatus", "ValidationException"), ("XksEncrypt", "ThrottlingException"), ("XksEncrypt", "DependencyTimeoutException"),
                ("XksEncrypt", "AuthenticationFailedException"), ("none", "InvalidUriPathException"),
            ):
                assert mill.metric("keymill_requests_total", operation=operation, code=code) > 0, (operation, code)
            # What was encrypted survives the daemon's end, by kill -9 too.
            mill.kill()
            mill.start()
            kms = Kms(mill, ca, kms.signs, tally)
            opens(kms, "main.1", sealed)
            assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
            recorded(mill, sealed, asked["requestMetadata"]["kmsRequestId"])
        alone = settings(certificate, private, clients.bundle, [CKS])
        tally.calls += in_the_handshake(ca, clients, alone)
    report("AWS KMS as the caller of an external key store", botocore.__version__, tally.calls)


if __name__ == "__main__":
    main()
