"""Requests made up from AWS's service model, thousands of them: valid ones, invalid ones and such as are no requests at all, against one running daemon.

    python3 tests/clients/model_fuzz.py [DAEMON [COUNT [SEED [NUMBER]]]]

DAEMON is `one` for one Region, `regions` for several, with requests that are signed for each, `china` for one of the China Regions, or `stores` for one that has
custom key stores, whose keys are behind the external key store proxy of a second daemon.
Every answer is held to the model: a success to its operation's output, a refusal to its operation's errors and to those that every operation has. There must be no
failure on the daemon's side, no hang, and no panic in its log. Request NUMBER of SEED is the same each time, whatever the count; given NUMBER, that one alone is
sent, and shown.
"""

import base64
import binascii
import concurrent.futures
import contextlib
import gzip
import http.client
import json
import re
import sys
import time
import urllib.request
from collections import Counter

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import daemon
from daemon import Daemon, admin_address, running
from service_model import MODEL, OPERATIONS, SHAPES, Maker, world
from stores_world import KeyStores, with_key_stores

COUNT = 5_000
DAEMONS = {"one": {}, "regions": {"KEYMILL_REGIONS": "us-east-1,us-west-2,eu-west-1"}, "china": {"KEYMILL_REGION": "cn-north-1"}}
PROCESSES, CONNECTIONS = 4, 3
KEY_STORE_OPERATIONS = {operation for operation in OPERATIONS if "CustomKeyStore" in operation}
# For so many requests the same keys: later on hardly one would be enabled and free to use.
BLOCK = 2_500
# No answer within it is a hang.
ANSWER_SECONDS = 30
FAULTS_SHOWN = 20
JSON = "application/x-amz-json-1.1"
# A longer one is refused before it is read.
BODY_BYTES_MAX = 1 << 20
# What any operation may be answered with, beside the errors that the model gives it.
COMMON = {
    "AccessDeniedException", "ExpiredTokenException", "IncompleteSignatureException", "InvalidSignatureException", "MissingAuthenticationTokenException",
    "SerializationException", "ThrottlingException", "UnknownOperationException", "UnrecognizedClientException", "UnsupportedOperationException",
    "ValidationException",
}
# As AWS answers, whatever its model says.
BESIDE_MODEL = {
    # A name under alias/aws/, which is in no operation's errors.
    "NotAuthorizedException": {"CreateAlias", "UpdateAlias", "DeleteAlias"},
    # An alias that is nothing but its prefix.
    "InvalidAliasNameException": {"UpdateAlias", "DeleteAlias"},
    # A grant token and a marker that are none, wherever there are some.
    "InvalidGrantTokenException": {"DescribeKey"}, "InvalidMarkerException": {"ListKeyPolicies"},
    # An alias where only a key may be given, and ARNs without a key or principal.
    "InvalidArnException": None,
    # A key in the wrong state, and one that is not there.
    "KMSInvalidStateException": None, "DisabledException": None, "NotFoundException": None,
}
# Answered before there is an operation: by method and path, to whom it is none of his business, by
# the size of body and head, by what is no HTTP.
BEFORE_OPERATIONS = {400, 403, 404, 405, 408, 413, 415, 431}


class Request(Maker):
    """A request with all that is around it, sound or not."""

    def spoil(self, members: dict) -> dict:
        """Members that the model does not have so."""
        name = self.random.choice(sorted(members)) if members else "KeyId"
        other = self.random.choice([
            None, 7, -1.5, True, [], {}, "", "x", [None], {"a": None}, {"a": {"a": 1}}, ["a", 1], "AA", "A_==", "AA==\n", "\ud800", self.text(5_000), "x" * 100_000,
            [["a"]] * 100, {str(number): "x" for number in range(2_000)}, 1e400,
        ])
        match self.random.randrange(4):
            case 0:
                return {key: value for key, value in members.items() if key != name}
            case 1:
                return members | {self.random.choice(["Unknown", "keyId", "KEYID", "", "__type", "KeyId\x00"]): other}
            case _:
                return members | {name: other}

    def garble(self, body: bytes) -> bytes:
        """A body that is no JSON, or no JSON of ours."""
        at = self.random.randrange(len(body) + 1)
        deep = self.random.choice([100, 200_000])
        return self.random.choice([
            body[:at], body + b"x", body + body, b"", b" " * at, b"null", b"[]", b"7", b"[" + body + b"]", b"\xef\xbb\xbf" + body, body[:at] + b"\xff" + body[at:],
            body[:at] + b"\x00" + body[at:], body.replace(b'"', b"'"), body.replace(b":", b":NaN,", 1), body[:1] + b'"KeyId":"a","KeyId":"b",' + body[1:],
            body[:1] + b'"EncryptionContext":{"a":"1","a":"2"},' + body[1:], body[:1] + b'"X":' + b"[" * deep + b"]" * deep + b"," + body[1:],
            body[:1] + b'"X":' + b'{"a":' * 100 + b"," + body[1:], body[:1] + b'"KeyId":"\\ud800",' + body[1:], b'{"KeyId":"' + b"a" * self.random.choice([2_048, 1_100_000]),
            body.decode(errors="replace").encode("utf-16"), self.random.randbytes(at), gzip.compress(body),
        ])

    def request(self) -> tuple[str, str, str, str, dict[str, str], bytes, str]:
        """Kind, operation, method, path, headers to sign, body, and what is done to the signature."""
        operation = self.random.choice(OPERATIONS)
        described = MODEL["operations"][operation]
        members = self.members(SHAPES[described["input"]["shape"]]) if "input" in described else {}
        # What the members of some operations must be together hardly comes by chance.
        if (sound := self.world.get("Sound", {}).get(operation)) and self.one_in(2):
            members = dict(self.random.choice(sound))
        kind = self.random.choices(["valid", "spoilt", "garbled", "target", "headers", "signature", "route"], [40, 25, 15, 5, 7, 5, 3])[0]
        if kind == "spoilt":
            members = self.spoil(members)
        body = json.dumps(members, ensure_ascii=self.one_in(2)).encode(errors="surrogatepass")
        headers = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}"}
        method, path, tampering = "POST", "/", "none"
        match kind:
            case "garbled":
                body = self.garble(body)
            case "target":
                operation = ""
                headers["X-Amz-Target"] = self.random.choice([
                    "", "TrentService", "TrentService.", "trentservice.Encrypt", "TrentService.encrypt", "TrentService.Encrypt.", "DynamoDB_20120810.GetItem",
                    "TrentService.Nothing", "." * 5_000, "TrentService.\u00e9", "TrentService.Encrypt,TrentService.Decrypt",
                ])
                if self.one_in(5):
                    del headers["X-Amz-Target"]
            case "headers":
                headers |= self.random.choice([
                    {"Content-Type": self.random.choice(["", "text/plain", "application/json", "application/x-amz-json-1.0", JSON + "; charset=utf-8"])},
                    {"X-Amz-Security-Token": self.random.choice(["x", "a b", "A" * 5_000, "=="])}, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"},
                    {"X-Amz-Content-SHA256": "0" * 64}, {"X-Filler": "x" * self.random.choice([100, 40_000])}, {f"X-{number}": "x" for number in range(150)},
                    {"Expect": "100-continue"}, {"Expect": "something"}, {"Accept-Encoding": "gzip", "User-Agent": "\u00e9" * 9}, {"Connection": "close"},
                    {"Content-Encoding": "gzip"}, {"Range": "bytes=0-1", "If-None-Match": "*"}, {"Host": "example.org"}, {"Upgrade": "h2c", "Connection": "upgrade"},
                ])
            case "signature":
                tampering = self.random.choice(["absent", "garbage", "bit", "key", "body", "late", "scheme", "truncated"])
            case "route":
                operation = ""
                method = self.random.choice(["GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "POST", "TRACE"])
                path = self.random.choice(["/", "//", "/x", "/?a=b", "/v1/data-keys", "/v1/data-keys/bind", "/v1/admin/ListPrincipals", "/%2e%2e", "/" + "x" * 9_000, "*"])
        # A text of the model's greatest length may have twelve bytes for a character.
        if len(body) > BODY_BYTES_MAX and kind in ("valid", "target", "signature"):
            kind = "garbled"
        return kind, operation, method, path, headers, body, tampering

    def signed(self, mill: dict, headers: dict[str, str], body: bytes, method: str, path: str, tampering: str) -> dict[str, str]:
        """With a signature, or what has become of one."""
        who = mill["principals"][self.random.choice(["admin", "admin", "admin", "provisioner", "consumer"])]
        secret = who["secret_access_key"] if tampering != "key" else "not the secret"
        # Most of the keys are in the home Region. Some requests are for a Region that is not
        # served.
        region = self.random.choice(3 * mill["regions"][:1] + mill["regions"]) if not self.one_in(50) else "ap-south-1"
        signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(who["access_key_id"], secret), "kms", region)
        signed = body + b" " if tampering == "body" else body
        request = botocore.awsrequest.AWSRequest(method, mill["endpoint"] + (path if path != "*" else "/"), headers, signed)
        signer.add_auth(request)
        headers = dict(request.headers.items())
        authorization = headers["Authorization"]
        match tampering:
            case "absent":
                del headers["Authorization"]
            case "garbage":
                headers["Authorization"] = self.random.choice(["", "x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 a=b, c", "Bearer x", "AWS4-HMAC-SHA256 " + "=," * 500])
            case "bit":
                headers["Authorization"] = authorization[:-1] + ("0" if authorization[-1] != "0" else "1")
            case "late":
                headers["X-Amz-Date"] = self.random.choice(["20200101T000000Z", "99991231T235959Z", "20201301T000000Z", "x", ""])
            case "scheme":
                headers["Authorization"] = authorization.replace("AWS4", "AWS5").replace("kms", self.random.choice(["kms", "s3"]))
            case "truncated":
                headers["Authorization"] = authorization[: self.random.randrange(len(authorization))]
        return headers


def conforms(shape_name: str, value) -> str | None:
    """What of an answer is not as the model says."""
    shape = SHAPES[shape_name]
    match shape["type"]:
        case "structure":
            if not isinstance(value, dict):
                return f"{value!r} is no {shape_name}"
            unknown = value.keys() - shape.get("members", {}).keys()
            missing = set(shape.get("required", [])) - value.keys()
            if unknown or missing:
                return f"{shape_name} has {sorted(unknown)}, lacks {sorted(missing)}"
            return next((said for name, inner in value.items() if (said := conforms(shape["members"][name]["shape"], inner))), None)
        case "list":
            return next((said for inner in value if (said := conforms(shape["member"]["shape"], inner))), None) if isinstance(value, list) else f"{value!r} is no list"
        case "map":
            return None if isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values()) else f"{value!r} is no map"
        case "blob":
            try:
                length = len(base64.b64decode(value, validate=True))
            except (TypeError, binascii.Error):
                return f"{value!r} is no base64"
        case "string":
            # The deprecated name of a key's spec repeats the new one, its newer values too.
            enumeration = SHAPES["KeySpec" if shape_name == "CustomerMasterKeySpec" else shape_name].get("enum", [value])
            if not isinstance(value, str) or value not in enumeration:
                return f"{value!r} is no {shape_name}"
            length = len(value)
        case "boolean":
            return None if isinstance(value, bool) else f"{value!r} is no boolean"
        case "timestamp":
            return None if isinstance(value, int | float) and not isinstance(value, bool) else f"{value!r} is no time"
        case _:
            return None if isinstance(value, int) and not isinstance(value, bool) else f"{value!r} is no integer"
    # The least and the most of an ARN and of a name are about what is asked with.
    return None if shape["type"] == "string" or shape.get("min", 0) <= length <= shape.get("max", length) else f"{length} bytes for {shape_name}"


def fault(kind: str, operation: str, status: int, headers, body: bytes) -> tuple[str, str | None]:
    """The answer in a word, and what is wrong with it."""
    if status >= 500:
        return str(status), f"{status} {body[:300]!r}"
    if kind == "route" or status not in (200, 400) or headers.get("Content-Type") != JSON:
        allowed = BEFORE_OPERATIONS | {200} if kind == "route" else BEFORE_OPERATIONS if kind in ("headers", "garbled", "spoilt") else set()
        return str(status), None if status in allowed else f"{status} {headers.items()} {body[:300]!r}"
    try:
        answer = json.loads(body or b"{}")
    except ValueError:
        return str(status), f"no JSON: {body[:300]!r}"
    if status == 200:
        described = MODEL["operations"].get(operation)
        if described is None:
            return "200", f"answered without an operation: {body[:300]!r}"
        return "200", conforms(described["output"]["shape"], answer) if "output" in described else None if not body else f"{body[:300]!r}, where there is no output"
    code = answer.get("__type")
    errors = {error["shape"] for error in MODEL["operations"].get(operation, {}).get("errors", [])} | COMMON
    errors |= {name for name, operations in BESIDE_MODEL.items() if operations is None or operation in operations}
    if code not in errors or headers.get("X-Amzn-Errortype") != code:
        return str(code), f"{code} is none of {operation}'s errors: {body[:300]!r}"
    if answer.keys() - {"__type", "message", "Message"} or not headers.get("X-Amzn-Requestid"):
        return str(code), f"{headers.items()} {body[:300]!r}"
    return str(code), None


class Sender:
    """Several connections, each kept open for as long as the daemon keeps it."""

    def __init__(self, mill: dict, facts: dict, seed: str):
        self.mill, self.facts, self.seed = mill, facts, seed
        self.connections = [self.connect() for _ in range(CONNECTIONS)]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.mill["endpoint"].removeprefix("http://"), timeout=ANSWER_SECONDS)

    def exchange(self, connection, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.encode())
        connection.putheader("Content-Length", str(len(body)))
        try:
            connection.endheaders(body)
        except (BrokenPipeError, ConnectionResetError):
            # Refused before it was read: the answer is there all the same.
            pass
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def send(self, number: int, show: bool = False) -> tuple[str, str, str | None]:
        """Kind, answer, and what is wrong, if something is."""
        maker = Request(self.seed, number, self.facts)
        kind, operation, method, path, headers, body, tampering = maker.request()
        headers = maker.signed(self.mill, headers, body, method, path, tampering)
        described = f"number {number}, {kind}: {method} {path[:80]} {({name: value[:300] for name, value in headers.items()})} {body[:2000]!r}"
        if show:
            print(described)
        for is_last in (False, True):
            connection = self.connections[number % CONNECTIONS]
            try:
                status, answered, read = self.exchange(connection, method, path, headers, body)
                break
            except TimeoutError:
                self.connections[number % CONNECTIONS] = self.connect()
                return kind, "hang", f"no answer in {ANSWER_SECONDS} s to {described}"
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # A connection that the daemon closed after the last answer; a new one must not fare
                # so.
                if is_last:
                    return kind, "closed", f"{error!r} to {described}"
        if show:
            print(status, answered.items(), read[:2000])
        said, wrong = fault(kind, operation, status, answered, read)
        return kind, f"{operation or '-'} {said}", wrong and f"{wrong}\n  to {described}"


def work(mill: dict, facts: dict, seed: str, numbers: range) -> tuple[Counter, list[str]]:
    sender, seen, faults = Sender(mill, facts, seed), Counter(), []
    for number in numbers:
        kind, said, wrong = sender.send(number)
        seen[kind, said] += 1
        if wrong:
            faults.append(wrong)
    for connection in sender.connections:
        connection.close()
    return seen, faults


def facts_of(mill: Daemon, stores: KeyStores | None, block: int) -> dict:
    """What requests of a block may name."""
    facts = world(mill, str(block))
    if stores is None:
        return facts
    more = stores.facts(block)
    for name, weight in (("KeyId", 6), ("CiphertextBlob", 2)):
        more[name] = facts[name] + more[name] * weight
    return facts | more


def sent(mill: Daemon, stores: KeyStores | None, seed: str, count: int) -> tuple[Counter, list[str]]:
    """Sends all of them, block by block, from several processes at once."""
    seen, faults = Counter(), []
    with concurrent.futures.ProcessPoolExecutor(PROCESSES) as pool:
        for block, begin in enumerate(range(0, count, BLOCK)):
            facts, end = facts_of(mill, stores, block), min(begin + BLOCK, count)
            parts = [range(begin + first, end, PROCESSES) for first in range(PROCESSES)]
            for done in [pool.submit(work, mill.facts, facts, seed, part) for part in parts]:
                their_seen, their_faults = done.result()
                seen += their_seen
                faults += their_faults
            assert mill.process.poll() is None, f"the daemon has ended within the first {end} requests of seed {seed}"
    return seen, faults


def main() -> None:
    of_daemon = sys.argv[1] if len(sys.argv) > 1 else "one"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else COUNT
    seed = sys.argv[3] if len(sys.argv) > 3 else f"{time.time_ns():x}"
    print(f"daemon {of_daemon}, seed {seed}")
    with contextlib.ExitStack() as stack:
        if of_daemon == "stores":
            mill, stores = stack.enter_context(with_key_stores())
        else:
            mill, stores = stack.enter_context(running(DAEMONS[of_daemon])), None
        if len(sys.argv) > 4:
            print(*Sender(mill.facts, facts_of(mill, stores, 0), seed).send(int(sys.argv[4]), show=True))
            return
        began = time.monotonic()
        seen, faults = sent(mill, stores, seed, count)
        seconds = time.monotonic() - began
        print(*faults[:FAULTS_SHOWN], sep="\n\n")
        for kind in ("valid", "spoilt", "garbled", "target", "headers", "signature", "route"):
            answers = Counter()
            for (of, said), times in seen.items():
                if of == kind:
                    answers[said.split()[-1]] += times
            print(f"{kind}: {', '.join(f'{times} {said}' for said, times in answers.most_common())}")
        done = {said.split()[0] for (_, said) in seen if said.endswith(" 200")}
        print(f"{sum(seen.values())} requests in {seconds:.0f} s; {len(done)} operations succeeded at least once")
        assert not faults, f"{len(faults)} faults with seed {seed}"
        if stores is not None:
            print(f"the proxy has encrypted or decrypted {stores.served()} times")
            # In fewer requests one of them may have failed each time by chance.
            assert count < 4 * BLOCK or done >= KEY_STORE_OPERATIONS, f"never done with seed {seed}: {KEY_STORE_OPERATIONS - done}"
        with urllib.request.urlopen(f"{admin_address(mill.facts)}/ready", timeout=30) as answer:
            assert answer.status == 200, answer.status
        log = mill.log.read_text(errors="replace")
        loud = [line for line in log.splitlines() if re.search(r"panick|ERROR", line)]
        assert not loud, loud[:5]
        assert mill.client("provisioner").generate_data_key_without_plaintext(KeyId=daemon.ALIAS, KeySpec="AES_256")["CiphertextBlob"]
        assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
    kind = {"one": "", "regions": ", several Regions", "china": ", a China Region", "stores": ", custom key stores"}[of_daemon]
    daemon.report(f"requests made up from the service model{kind}", f"(seed {seed})", sum(seen.values()))


if __name__ == "__main__":
    main()
