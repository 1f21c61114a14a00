"""AWS's service model of KMS, as botocore has it, and requests made up from it on a daemon that has something for each of them."""

import base64
import gzip
import json
import random
import time
from pathlib import Path

import botocore
from daemon import Daemon, new_key


def service_model() -> dict:
    folder = Path(botocore.__file__).parent / "data" / "kms" / "2014-11-01"
    return json.loads(gzip.decompress((folder / "service-2.json.gz").read_bytes()))


MODEL = service_model()
SHAPES, OPERATIONS = MODEL["shapes"], sorted(MODEL["operations"])


# Keys of other kinds than most; and those that are in the China Regions alone, and in the others.
KINDS = [("ECC_NIST_P256", "SIGN_VERIFY"), ("ECC_NIST_P256", "KEY_AGREEMENT"), ("RSA_2048", "ENCRYPT_DECRYPT"), ("HMAC_256", "GENERATE_VERIFY_MAC")]
IN_CHINA = [("SM2", "SIGN_VERIFY"), ("SM2", "ENCRYPT_DECRYPT"), ("SM2", "KEY_AGREEMENT")]
ELSEWHERE = [("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"), ("ML_DSA_44", "SIGN_VERIFY"), ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")]


def related(mill: Daemon) -> list[str]:
    """Multi-Region keys in the daemon's Regions, in their states: each by its id and its ARNs."""
    home, *others = mill.facts["regions"]
    in_region = {region: mill.client("admin", region=region) for region in mill.facts["regions"]}
    keys = []
    for state in ["Enabled", "Disabled", "PendingReplicaDeletion", "PendingDeletion", "PendingImport"]:
        made = in_region[home].create_key(MultiRegion=True, Origin="EXTERNAL" if state == "PendingImport" else "AWS_KMS")["KeyMetadata"]
        name = {"KeyId": made["KeyId"]}
        if state != "PendingImport":
            for region in others[:1]:
                in_region[home].replicate_key(**name, ReplicaRegion=region)
                match state:
                    case "Disabled":
                        in_region[region].disable_key(**name)
                    case "PendingReplicaDeletion":
                        in_region[home].schedule_key_deletion(**name, PendingWindowInDays=7)
                    case "PendingDeletion":
                        in_region[region].schedule_key_deletion(**name, PendingWindowInDays=7)
        keys += [made["KeyId"], *(made["Arn"].replace(home, region) for region in mill.facts["regions"][:2])]
    return keys


def elsewhere(mill: Daemon, block: str) -> tuple[list[str], list[str], list[bytes]]:
    """Keys, aliases and blobs of the daemon's further Regions."""
    keys, aliases, blobs = [], [], []
    for region in mill.facts["regions"][1:]:
        client = mill.client("admin", region=region)
        made = client.create_key()["KeyMetadata"]
        name = {"KeyId": made["KeyId"]}
        alias = f"alias/fuzz-{block}-there"
        client.create_alias(AliasName=alias, TargetKeyId=made["KeyId"])
        keys += [made["KeyId"], made["Arn"]]
        aliases += [alias, made["Arn"].replace(f"key/{made['KeyId']}", alias)]
        blobs.append(client.encrypt(**name, Plaintext=b"x")["CiphertextBlob"])
    return keys, aliases, blobs


def world(mill: Daemon, block: str) -> dict:
    """Keys in every state there is, in each Region of the daemon, and what belongs to them, by the names of the members that take it."""
    admin, consumer = mill.client("admin"), mill.principal("consumer")["arn"]
    home, account, partition = mill.facts["region"], mill.facts["account"], consumer.split(":")[1]
    is_in_china = partition == "aws-cn"
    keys, aliases, blobs, grants, tokens, markers = [], [], [], [], [], []
    for number in range(8):
        names = new_key(mill, f"alias/fuzz-{block}-{number}")
        keys += names[:2]
        aliases += names[2:]
        admin.enable_key_rotation(KeyId=names[0])
        admin.rotate_key_on_demand(KeyId=names[0])
        blobs.append(admin.encrypt(KeyId=names[0], Plaintext=b"x" * (number + 1))["CiphertextBlob"])
        blobs.append(admin.generate_data_key_without_plaintext(KeyId=names[0], KeySpec="AES_256", EncryptionContext={"a": "b"})["CiphertextBlob"])
        for constraint in ({}, {"Constraints": {"EncryptionContextSubset": {"a": "b"}}}):
            made = admin.create_grant(KeyId=names[0], GranteePrincipal=consumer, RetiringPrincipal=consumer, Operations=["Decrypt", "Encrypt"], **constraint)
            grants.append(made["GrantId"])
            tokens.append(made["GrantToken"])
        if number % 4 == 2:
            admin.disable_key(KeyId=names[0])
        if number % 4 == 3:
            admin.schedule_key_deletion(KeyId=names[0], PendingWindowInDays=7)
    keys.append(admin.create_key(Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]["KeyId"])
    kinds = (IN_CHINA if is_in_china else ELSEWHERE) + KINDS
    of_kinds = [admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"] for spec, usage in kinds]
    # In China no key is of ML-KEM, whose ciphertexts have no form of their own.
    secrets = [b"x" * 768] if is_in_china else [admin.encapsulate(KeyId=of_kinds[0], EncapsulationAlgorithm="ML_KEM")["SharedSecretCiphertextBlob"] for _ in range(2)]
    there = elsewhere(mill, block)
    keys, aliases, blobs = keys + related(mill) + there[0], aliases + there[1], blobs + there[2]
    markers += [admin.list_keys(Limit=1)["NextMarker"], admin.list_aliases(Limit=1)["NextMarker"], "x", "AAAA"]
    policy = admin.get_key_policy(KeyId=keys[0])["Policy"]
    nowhere = ["00000000-0000-4000-8000-000000000000", "foo", "alias/nobody", mill.arn("key/foo"), mill.arn("alias/nobody"), "mrk-" + "0" * 32]
    foreign = [keys[1].replace(account, "444455556666"), keys[1].replace(home, "ap-south-1"), f"arn:{partition}:s3:::bucket", "arn:", ":" * 9]
    principals = [principal["arn"] for principal in mill.facts["principals"].values()] + [f"arn:{partition}:iam::{account}:root", account, "*"]
    return {
        # Most often what is there, and mostly what every operation takes.
        "KeyId": keys * 4 + of_kinds * 2 + aliases + nowhere + foreign, "AliasName": aliases[::2] + ["alias/fuzz-new", "alias/aws/ebs", "alias/a:b", "alias/", "no-alias"],
        "SharedSecretCiphertextBlob": [base64.b64encode(secret).decode() for secret in secrets],
        "CiphertextBlob": [base64.b64encode(blob).decode() for blob in blobs], "GrantId": grants + ["0" * 64], "GrantToken": tokens,
        "Marker": markers, "Policy": [policy, policy.replace("Allow", "Deny"), "{}", "[]", "my policy", policy[:-1]], "PolicyName": ["default", "other"],
        "Principal": principals, "Region": mill.facts["regions"] * 2 + ["ap-south-1", "cn-northwest-1"],
        # No proxy is configured: key stores are asked for, and never there.
        "CustomKeyStoreId": ["cks-1234567890abcdef0", "cks-0"], "CustomKeyStoreName": ["orders"], "XksKeyId": ["orders-main-1", "a/b"],
        "XksProxyUriEndpoint": ["https://proxy.example", "https://192.0.2.1"], "XksProxyUriPath": ["/kms/xks/v1", "/a/kms/xks/v2"],
        "AccessKeyId": ["ABCDEFGHIJKLMNOPQR27"], "RawSecretAccessKey": ["a" * 43],
    }


class Maker:
    """Makes one request: the same for the same seed and number on the same world."""

    def __init__(self, seed: str, number: int, facts: dict):
        self.random = random.Random(f"{seed}-{number}")
        self.world = facts

    def one_in(self, chances: int) -> bool:
        return self.random.randrange(chances) == 0

    def text(self, length: int) -> str:
        letters = self.random.choice(["abc", "aZ0-_/:", "é\u4e2d\U0001f511", " \t\n\"\\", "\x00\x7f"])
        return "".join(self.random.choices(letters, k=length))

    def length(self, shape: dict) -> int:
        low, high = shape.get("min", 0), shape.get("max", 300)
        edges = [low, low + 1, min(high, 300), self.random.randint(low, min(high, low + 300))]
        return self.random.choice(edges + [max(low - 1, 0), high + 1] if self.one_in(6) else edges)

    def known(self, name: str, shape_name: str) -> list:
        """Values of the world that are good for a member."""
        kind = "KeyId" if name.endswith("KeyId") else "Principal" if name.endswith("Principal") else shape_name.removesuffix("Type")
        return self.world.get(name) or self.world.get(kind) or self.world.get("CiphertextBlob" if shape_name == "CiphertextType" else "", [])

    def value(self, shape_name: str, name: str, depth: int = 0):
        shape = SHAPES[shape_name]
        known = self.known(name, shape_name)
        if known and not self.one_in(8):
            return self.random.choice(known)
        match shape["type"]:
            case "string":
                if "enum" in shape and not self.one_in(10):
                    return self.random.choice(shape["enum"])
                return self.text(self.length(shape))
            case "blob":
                return base64.b64encode(self.random.randbytes(self.length(shape))).decode()
            case "integer" | "long":
                low, high = shape.get("min", 1), shape.get("max", 1024)
                odd = [low - 1, high + 1, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30]
                return self.random.choice(odd) if self.one_in(5) else self.random.randint(low, high)
            case "boolean":
                return self.random.choice([True, False, False])
            case "timestamp":
                return self.random.choice([time.time() + 86_400, 0, -1, 4e9, 1.5, 1e18, 1e300, 253402300800])
            case "list":
                member = shape["member"]["shape"]
                return [self.value(member, name.removesuffix("s"), depth + 1) for _ in range(self.random.choice([0, 1, 1, 2, 3, self.length(shape) % 60]))]
            case "map":
                return {self.text(self.random.randrange(9)): self.text(self.random.randrange(9)) for _ in range(self.random.randrange(5))} | self.random.choice([{}, {"a": "b"}])
            case "structure":
                return self.members(shape, depth + 1) if depth < 4 else {}
        return None

    def members(self, shape: dict, depth: int = 0) -> dict:
        required = shape.get("required", [])
        return {
            name: self.value(member["shape"], name, depth)
            for name, member in shape.get("members", {}).items()
            if (not self.one_in(25) if name in required else self.one_in(3) and (name != "DryRun" or self.one_in(3)))
        }
