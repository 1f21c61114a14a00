"""The table of operations in docs/operations.md, held to a running daemon and to AWS's service model as botocore ships it: what is built, which members and values are refused.

Every member of every built operation is asked for, once with a value of another type, which only a member that is read can refuse, and with each of its values.
A member that is neither read nor refused fails this test: nothing is ignored silently. So does a value of the model that is said to be none. With `--write` the table in docs/operations.md is written anew.
"""

import base64
import gzip
import http.client
import json
import re
import sys
import tempfile
import tomllib
from pathlib import Path

import botocore
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import daemon
from attestation import Hypervisor
from daemon import ROOT, Daemon, running

PAGE, DEVIATIONS = ROOT / "docs" / "operations.md", ROOT / "docs" / "deviations.toml"
BEGIN, END = "<!-- operations: written by tests/clients/operations.py --write -->", "<!-- /operations -->"
UNSUPPORTED = "UnsupportedOperationException"
# What a new key is for, by the beginning of its spec; and what a request needs, though the service
# model does not require it.
USAGES = {
    "SYMMETRIC": "ENCRYPT_DECRYPT", "RSA": "SIGN_VERIFY", "ECC": "SIGN_VERIFY", "SM2": "SIGN_VERIFY", "ML_DSA": "SIGN_VERIFY", "ML_KEM": "ENCAPSULATE_DECAPSULATE", "HMAC": "GENERATE_VERIFY_MAC",
}
BESIDE_REQUIRED = {
    "CreateGrant": ["GranteePrincipal"], "ListRetirableGrants": ["RetiringPrincipal"], "Decrypt": ["CiphertextBlob"], "GenerateDataKey": ["NumberOfBytes"], "GenerateDataKeyWithoutPlaintext": ["NumberOfBytes"],
    "CreateCustomKeyStore": ["CustomKeyStoreType"], "GenerateRandom": ["NumberOfBytes"], "ReEncrypt": ["CiphertextBlob"], "RetireGrant": ["KeyId", "GrantId"],
}


def service_model() -> dict:
    folder = Path(botocore.__file__).parent / "data" / "kms" / "2014-11-01"
    return json.loads(gzip.decompress((folder / "service-2.json.gz").read_bytes()))


def operations_by_table() -> set[str]:
    """Each operation: by the table of permissions, which a Rust test writes."""
    return set(re.findall(r"^\| `(\w+)` \|(?:[^|]*\|){8}$", PAGE.read_text(), re.MULTILINE))


class Asker:
    """Asks as the admin, with whatever body."""

    def __init__(self, mill: Daemon):
        principal = mill.principal("admin")
        credentials = botocore.credentials.Credentials(principal["access_key_id"], principal["secret_access_key"])
        self.signer = botocore.auth.SigV4Auth(credentials, "kms", mill.facts["region"])
        self.endpoint = mill.endpoint
        self.connection = http.client.HTTPConnection(mill.endpoint.removeprefix("http://"), timeout=60)
        self.calls = 0

    def ask(self, operation: str, members: dict) -> tuple[str | None, str]:
        """The code and the text of the refusal; no code if there was none."""
        head = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"TrentService.{operation}"}
        request = botocore.awsrequest.AWSRequest("POST", self.endpoint, head, json.dumps(members).encode())
        self.signer.add_auth(request)
        self.connection.request("POST", "/", request.data, dict(request.headers.items()))
        self.calls += 1
        with self.connection.getresponse() as answer:
            body = json.loads(answer.read() or b"{}")
        return body.get("__type"), body.get("message", body.get("Message", ""))


class Prober:
    """Finds out what a daemon makes of the service model's members."""

    def __init__(self, mill: Daemon):
        self.mill, self.asker, self.shapes = mill, Asker(mill), service_model()["shapes"]
        self.admin = mill.client("admin")
        self.keys = 0
        self.is_used = True
        self.values = {}

    def fresh(self) -> dict:
        """Good values by the member's name, about a key that nothing has been done to."""
        if self.is_used:
            self.values = self.about_new_key()
            self.is_used = False
        return self.values

    def about_new_key(self) -> dict:
        self.keys += 1
        alias, metadata = f"alias/probe-{self.keys}", self.admin.create_key()["KeyMetadata"]
        key, arn = metadata["KeyId"], metadata["Arn"]
        self.admin.create_alias(AliasName=alias, TargetKeyId=key)
        principal = self.mill.principal("consumer")["arn"]
        blob = self.admin.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
        grant = self.admin.create_grant(KeyId=key, GranteePrincipal=principal, Operations=["Decrypt"])
        return {
            "KeyId": arn, "TargetKeyId": key, "DestinationKeyId": key, "SourceKeyId": key, "AliasName": alias, "GrantId": grant["GrantId"],
            "CiphertextBlob": base64.b64encode(blob).decode(), "GrantToken": grant["GrantToken"], "PolicyName": "default",
            "Policy": self.admin.get_key_policy(KeyId=key)["Policy"], "NumberOfBytes": 32, "Description": "x", "Operations": ["Decrypt"],
            "Tags": [{"TagKey": "a", "TagValue": "b"}], "TagKeys": ["a"], "GranteePrincipal": principal, "RetiringPrincipal": principal,
            # A key store of a host that the configuration does not name is refused last.
            "XksProxyUriEndpoint": "https://proxy.example", "XksProxyUriPath": "/kms/xks/v1", "XksKeyId": "x", "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
            "XksProxyAuthenticationCredential": {"AccessKeyId": "A" * 20, "RawSecretAccessKey": "a" * 43},
        }

    def ask(self, operation: str, shape: dict, path: tuple[str, ...], value) -> tuple[str | None, str]:
        """Asks for what can be done, but for the member at the path."""
        members, fresh = {}, self.fresh()
        for name in shape.get("required", []) + BESIDE_REQUIRED.get(operation, []):
            inner = self.shapes[shape["members"][name]["shape"]]
            members[name] = fresh.get(name) or self.options(inner, name, fresh)[0]
        if operation == "CreateKey" and path == ("KeySpec",) and value in self.shapes["KeySpec"]["enum"]:
            members["KeyUsage"] = next(usage for start, usage in USAGES.items() if value.startswith(start))
        for name in reversed(path[1:]):
            value = {name: value}
        answer = self.asker.ask(operation, members | {path[0]: value})
        # What was done may not be done twice.
        self.is_used = self.is_used or answer[0] is None
        return answer

    def options(self, shape: dict, name: str, fresh: dict) -> list:
        """Every value of an enumeration, each in a list where lists are asked for; of other shapes some value."""
        if shape["type"] == "list":
            return [[value] for value in self.shapes[shape["member"]["shape"]].get("enum", [])] or [self.good(shape, name, fresh)]
        return shape.get("enum") or [self.good(shape, name, fresh)]

    def good(self, shape: dict, name: str, fresh: dict):
        """Some value of a shape."""
        if name in fresh:
            return fresh[name]
        match shape["type"]:
            case "string":
                return "x"
            case "boolean":
                return True
            case "integer":
                return shape.get("min", 1)
            case "blob":
                return "eA=="
            case "timestamp":
                return 4e9
            case "list":
                inner = self.shapes[shape["member"]["shape"]]
                return [self.good(inner, "", fresh)]
            case "map":
                return {"a": "b"}
            case "structure":
                return {}

    def paths(self, shape: dict, above: tuple[str, ...] = ()):
        """Every member, and the members of those that are structures."""
        for name, member in shape.get("members", {}).items():
            inner = self.shapes[member["shape"]]
            yield (*above, name), inner
            if inner["type"] == "structure":
                yield from self.paths(inner, (*above, name))

    def enumeration(self, shape: dict) -> dict:
        """The shape whose values a member has, one or many."""
        return self.shapes[shape["member"]["shape"]] if shape["type"] == "list" else shape

    def members(self, operation: str, shape: dict) -> tuple[list[str], dict[str, str], list[str], list[str]]:
        """Members that are refused, what is said of those of which some values are, members that are ignored, and values that are said to be none."""
        refused, values, ignored, denied = [], {}, [], []
        for path, inner in self.paths(shape):
            if ".".join(path[:-1]) in refused:
                continue
            name = ".".join(path)
            wrong = 7 if inner["type"] in ("string", "list", "map", "blob", "structure") else {"x": []}
            is_read = self.ask(operation, shape, path, wrong)[0] == "SerializationException"
            options = self.options(inner, path[-1], self.fresh())
            answers = [self.ask(operation, shape, path, option) for option in options]
            denied += [f"{name} {word_of(option)}" for option, answer in zip(options, answers) if "enum" in self.enumeration(inner) and is_denied(path[-1], *answer)]
            not_here = [option for option, answer in zip(options, answers) if is_refused(path[-1], *answer)]
            if len(not_here) == len(options):
                refused.append(name)
            elif not_here:
                values[name] = said_of(name, *([word_of(option) for option in options if (option in not_here) == missing] for missing in (False, True)))
            elif not is_read:
                ignored.append(name)
        return refused, values, ignored, denied


def is_refused(name: str, code: str | None, text: str) -> bool:
    """Whether a member or its value is known and not built."""
    return code == UNSUPPORTED and name in text


def is_denied(name: str, code: str | None, text: str) -> bool:
    """Whether a value is said to be none of its enumeration, though the service model has it there."""
    return code == "ValidationException" and "enum value set" in text and name.lower() in text.lower()


def word_of(option: str | list[str]) -> str:
    return option if isinstance(option, str) else option[0]


def said_of(name: str, served: list[str], missing: list[str]) -> str:
    """What is said of a member of which some values are refused: whatever is shorter."""
    few = len(served) < len(missing)
    words = ", ".join(f"`{value}`" for value in (served if few else missing))
    return f"of `{name}` {words} alone" if few else f"`{name}` without {words}"


def differences(refused: list[str], values: dict[str, str]) -> list[str]:
    return [f"no {', no '.join(f'`{name}`' for name in refused)}"] * bool(refused) + list(values.values())


def table(mill: Daemon) -> tuple[list[str], list[str], int]:
    """The table's lines, what is wrong, and how many calls it took to find out."""
    prober, model, by_table = Prober(mill), service_model(), operations_by_table()
    found, faults = {}, []
    for operation, described in model["operations"].items():
        code, text = prober.asker.ask(operation, {})
        is_built = not (code == UNSUPPORTED and text == f"{operation} is not supported.")
        if code == "UnknownOperationException" or operation not in by_table or not is_built:
            faults.append(f"{operation}: answered {code}")
        shape = model["shapes"][described["input"]["shape"]] if "input" in described else {}
        refused, values, ignored, denied = prober.members(operation, shape)
        faults += [f"{operation} ignores {name}" for name in ignored]
        faults += [f"{operation} does not know {name}" for name in denied]
        found[operation] = differences(refused, values)
    faults += [f"{operation} is not in the service model" for operation in by_table - model["operations"].keys()]
    lines = ["| operation | where it differs from AWS KMS |", "|---|---|"]
    rows = tomllib.loads(DEVIATIONS.read_text())["rows"]
    placed = [operation for row in rows for operation in row["operations"]]
    faults += [f"{operation} has no row, or several" for operation in found if placed.count(operation) != 1]
    faults += [f"{operation} has a row, and is none" for operation in placed if operation not in found]
    for row in rows:
        operations = [operation for operation in row["operations"] if operation in found]
        same = {tuple(found[operation]) for operation in operations}
        if len(same) > 1:
            faults.append(f"one row, and different: {operations}")
        cell = "; ".join([*(found[operations[0]] if operations else []), *([row["text"]] if "text" in row else [])])
        lines.append(f"| {', '.join(f'`{operation}`' for operation in row['operations'])} | {cell or 'none'} |")
    return lines, faults, prober.asker.calls


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # What is not supported without a setting is asked for with it.
        roots = f"[attestation]\nroots = ['{Hypervisor(Path(folder), 'believed').root}']\n"
        with running(settings=f"[pool]\nenabled = false\n{roots}") as mill:
            lines, faults, calls = table(mill)
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = "\n".join([before + BEGIN, *lines, END + after])
    if "--write" in sys.argv:
        PAGE.write_text(new)
    elif new != text:
        faults.append("docs/operations.md does not say so; tests/clients/operations.py --write writes the table:\n" + "\n".join(lines))
    print(*faults, sep="\n")
    assert not faults, f"{len(faults)} faults"
    daemon.report("botocore's service model", botocore.__version__, calls)


if __name__ == "__main__":
    main()
