"""Cloud Custodian on a running daemon, with one endpoint for every service: it finds keys by tags, aliases, rotation, policies, grants and last uses, and tags, untags, rotates, closes and schedules them for deletion. boto3 sees what it has done."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from daemon import Daemon, environment, new_key, report, running
from sessions import operator, policy

# It asks for other versions of boto3 and cryptography than the other clients have.
PROGRAM = Path(sys.executable).parents[1] / "custodian" / "bin" / "custodian"
OPERATIONS = ["ListKeys", "ListAliases", "DescribeKey", "GetResources", "TagResources", "UntagResources", "GetKeyRotationStatus", "GetKeyPolicy", "ListGrants", "GetKeyLastUsage"]
ELSEWHERE = "arn:aws:iam::444455556666:root"


class Custodian:
    """Runs policies with the credentials of one principal."""

    def __init__(self, mill: Daemon, key_id: str, secret: str, folder: Path):
        self.folder = folder
        self.variables = environment(
            AWS_ENDPOINT_URL=mill.endpoint, AWS_DEFAULT_REGION=mill.facts["region"], HOME=str(folder), PYTHONUTF8="1",
            AWS_ACCESS_KEY_ID=key_id, AWS_SECRET_ACCESS_KEY=secret,
        )

    def run(self, *policies: tuple[list, list], resource: str = "aws.kms-key", fails: str | None = None) -> list[list[dict]]:
        """What each policy, its filters and its actions, has matched; `fails` is what must be said when one has to fail."""
        named = [{"name": f"policy-{number}", "resource": resource, "filters": filters, "actions": actions} for number, (filters, actions) in enumerate(policies)]
        (self.folder / "policies.json").write_text(json.dumps({"policies": named}))
        command = [PROGRAM, "run", "--cache-period", "0", "-s", self.folder / "out", self.folder / "policies.json"]
        ran = subprocess.run(command, cwd=self.folder, env=self.variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert (ran.returncode != 0) == bool(fails), ran.stderr
        assert not fails or fails in ran.stderr, ran.stderr
        return [] if fails else [json.loads((self.folder / "out" / policy["name"] / "resources.json").read_text()) for policy in named]


def ids(resources: list[dict]) -> list[str]:
    return sorted(resource["KeyId"] for resource in resources)


def tags(admin, key: str) -> dict[str, str]:
    return {tag["TagKey"]: tag["TagValue"] for tag in admin.list_resource_tags(KeyId=key)["Tags"]}


def tagged(mill: Daemon, custodian: Custodian, keys: list[str]) -> None:
    """Found by tags and by their absence, tagged and untagged, twice: the second time there is nothing to do."""
    admin = mill.client("admin")
    admin.tag_resource(KeyId=keys[0], Tags=[{"TagKey": "team", "TagValue": "Zoë"}, {"TagKey": "old", "TagValue": "x"}])
    everyone = sorted(entry["KeyId"] for entry in admin.list_keys()["Keys"])
    wanted = ([{"tag:owner": "absent"}, {"tag:team": "Zoë"}], [{"type": "tag", "tags": {"owner": "custodian", "state": "seen"}}, {"type": "remove-tag", "tags": ["old"]}])
    listed, matched, again = custodian.run(([], []), wanted, wanted)
    assert ids(listed) == everyone, listed
    assert ids(matched) == [keys[0]] and again == [], (matched, again)
    assert {tag["Key"]: tag["Value"] for tag in matched[0]["Tags"]} == {"team": "Zoë", "old": "x"}, matched
    assert tags(admin, keys[0]) == {"team": "Zoë", "owner": "custodian", "state": "seen"}
    assert [tags(admin, key) for key in keys[1:]] == [{}] * len(keys[1:])


def looked_at(mill: Daemon, custodian: Custodian, keys: list[str]) -> None:
    """Filters that ask KMS about every key; what each finds is one key of ours."""
    admin = mill.client("admin")
    rotates, open_, used, granted = keys
    admin.enable_key_rotation(KeyId=rotates)
    document = json.loads(admin.get_key_policy(KeyId=open_)["Policy"])
    shared = {"Sid": "Shared", "Effect": "Allow", "Principal": {"AWS": ELSEWHERE}, "Action": "kms:Decrypt", "Resource": "*"}
    admin.put_key_policy(KeyId=open_, Policy=json.dumps(document | {"Statement": [*document["Statement"], shared]}))
    admin.generate_mac(KeyId=used, Message=b"text", MacAlgorithm="HMAC_SHA_256")
    for _ in range(3):
        admin.create_grant(KeyId=granted, GranteePrincipal=mill.principal("consumer")["arn"], Operations=["Decrypt"])
    rotating = [{"type": "key-rotation-status", "key": "KeyRotationEnabled", "value": True}]
    macs = [{"type": "last-usage", "attrs": [{"type": "value", "key": "KeyLastUsage.Operation", "value": "GenerateMac"}]}]
    crossing = ([{"type": "cross-account"}], [{"type": "remove-statements", "statement_ids": "matched"}])
    found = custodian.run((rotating, []), (macs, []), crossing, crossing)
    assert [ids(keys) for keys in found] == [[rotates], [used], [open_], []], found
    assert json.loads(admin.get_key_policy(KeyId=open_)["Policy"])["Statement"] == document["Statement"]
    [aliases] = custodian.run(([{"type": "grant-count", "min": 3}], []), resource="aws.kms")
    assert [(alias["TargetKeyId"], alias["GrantCount"]) for alias in aliases] == [(granted, 3)], aliases


def changed(mill: Daemon, custodian: Custodian, key: str) -> None:
    admin = mill.client("admin")
    custodian.run(([{"KeyId": key}], [{"type": "set-rotation", "state": True}, {"type": "schedule-deletion", "days": 7}]))
    metadata = admin.describe_key(KeyId=key)["KeyMetadata"]
    assert metadata["KeyState"] == "PendingDeletion" and 6 < (metadata["DeletionDate"] - metadata["CreationDate"]).days < 8, metadata
    admin.cancel_key_deletion(KeyId=key)
    assert admin.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-custodian-") as folder:
        keys = [new_key(mill, f"alias/custodian-{number}")[0] for number in range(4)]
        keys[2] = mill.client("admin").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
        admin = mill.principal("admin")
        custodian = Custodian(mill, admin["access_key_id"], admin["secret_access_key"], Path(folder))
        tagged(mill, custodian, keys)
        looked_at(mill, custodian, keys)
        changed(mill, custodian, keys[3])
        without_tags = operator(mill, "principal", "create", "keys-alone", "--policy", policy(mill, "kms:*"))
        limited = Custodian(mill, without_tags["AccessKeyId"], without_tags["SecretAccessKey"], Path(folder))
        limited.run(([], []), fails="not authorized to perform: tag:GetResources")
        calls = sum(mill.metric("keymill_requests_total", operation=operation) for operation in OPERATIONS)
    version = subprocess.run([PROGRAM, "version"], capture_output=True, text=True, check=True).stdout.strip()
    report("Cloud Custodian", version, int(calls))


if __name__ == "__main__":
    main()
