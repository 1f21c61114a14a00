"""Ansible's amazon.aws.kms_key and kms_key_info on a running daemon: a key's whole life by playbook. Each state is asked for twice: the second time changes nothing, and boto3 sees what was asked for."""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import ansible_collections
from daemon import Daemon, environment, report, running

PROGRAM = Path(sys.executable).parent / "ansible-playbook"
ALIAS, CONTEXT = "alias/playbook", {"tenant": "Zoë"}
OPERATIONS = ["DescribeKey", "GetKeyPolicy", "ListAliases", "ListGrants", "ListKeys", "ListResourceTags", "CreateKey", "CreateGrant", "TagResource", "ScheduleKeyDeletion", "CancelKeyDeletion"]


def collection() -> str:
    """The version of amazon.aws that the package ansible has."""
    for folder in ansible_collections.__path__:
        manifest = Path(folder) / "amazon" / "aws" / "MANIFEST.json"
        if manifest.exists():
            return json.loads(manifest.read_text())["collection_info"]["version"]
    raise AssertionError("amazon.aws is not installed")


class Player:
    """Runs tasks as one playbook, with the credentials of a principal."""

    def __init__(self, mill: Daemon, role: str, folder: Path):
        home = {"HOME": str(folder), "ANSIBLE_LOCAL_TEMP": f"{folder}/tmp", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
        self.folder, self.variables = folder, environment(**mill.credentials(role), **home)

    def play(self, tasks: list[tuple[str, dict]], *options: str, fails: str | None = None) -> list[dict]:
        """What each task has returned; `fails` is what must be said when the last one has to fail."""
        results, playbook = self.folder / "results.json", self.folder / "playbook.json"
        steps = [{module: arguments, "register": f"result_{number}"} for number, (module, arguments) in enumerate(tasks)]
        written = "{{ [" + ", ".join(step["register"] for step in steps) + "] | to_json }}"
        steps.append({"ansible.builtin.copy": {"content": written, "dest": str(results)}, "check_mode": False})
        local = {"ansible_python_interpreter": sys.executable}
        playbook.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": local, "tasks": steps}]))
        ran = subprocess.run([PROGRAM, "-i", "localhost,", *options, playbook], env=self.variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        said = ran.stdout + ran.stderr
        assert (ran.returncode != 0) == bool(fails), said
        assert not fails or fails in said, said
        return [] if fails else json.loads(results.read_text())

    def reach(self, wanted: dict, *, at_once: bool = False) -> dict:
        """Asks for a state of the key, twice; `at_once` if the key has it before. The second result."""
        first, second = self.play([("amazon.aws.kms_key", wanted)] * 2)
        assert first["changed"] != at_once and not second["changed"], (first, second)
        assert {**first, "changed": None} == {**second, "changed": None}, (first, second)
        return second


def grant(principal: str, name: str, constraint: str) -> dict:
    return {"name": name, "grantee_principal": principal, "operations": ["Decrypt", "DescribeKey"], "constraints": {constraint: CONTEXT}}


def life(mill: Daemon, player: Player) -> None:
    """Made, changed, disabled, scheduled for deletion, and kept after all."""
    admin, consumer = mill.client("admin"), mill.principal("consumer")["arn"]
    policy = json.loads(admin.get_key_policy(KeyId=admin.list_aliases()["Aliases"][0]["TargetKeyId"])["Policy"])
    policy["Statement"].append({"Sid": "Extra", "Effect": "Allow", "Principal": {"AWS": consumer}, "Action": ["kms:Verify", "kms:DescribeKey"], "Resource": "*"})
    wanted = {
        "alias": ALIAS, "description": "by playbook", "tags": {"purpose": "volumes", "team": "Zoë"}, "policy": policy,
        "enable_key_rotation": True, "grants": [grant(consumer, "opens", "encryption_context_subset")],
    }
    player.play([("amazon.aws.kms_key", wanted)], "--check")
    assert ALIAS not in [entry["AliasName"] for entry in admin.list_aliases()["Aliases"]], "--check made it"
    made = player.reach(wanted)
    key = made["key_id"]
    assert made["aliases"] == [ALIAS.removeprefix("alias/")] and made["key_policies"] == [policy], made
    metadata = admin.describe_key(KeyId=ALIAS)["KeyMetadata"]
    assert (metadata["KeyId"], metadata["Description"], metadata["KeyState"]) == (key, "by playbook", "Enabled"), metadata
    assert tags(admin, key) == wanted["tags"] and admin.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    assert json.loads(admin.get_key_policy(KeyId=key)["Policy"]) == policy
    kept = admin.list_grants(KeyId=key)["Grants"]
    assert [(entry["Name"], entry["GranteePrincipal"], entry["Constraints"]) for entry in kept] == [("opens", consumer, {"EncryptionContextSubset": CONTEXT})], kept
    assert sorted(kept[0]["Operations"]) == ["Decrypt", "DescribeKey"], kept

    wanted |= {"tags": {"purpose": "buckets"}, "enable_key_rotation": False, "grants": [grant(consumer, "reads", "encryption_context_equals")], "purge_grants": True}
    player.reach(wanted)
    assert tags(admin, key) == {"purpose": "buckets"} and not admin.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    kept = admin.list_grants(KeyId=key)["Grants"]
    assert [(entry["Name"], entry["Constraints"]) for entry in kept] == [("reads", {"EncryptionContextEquals": CONTEXT})], kept

    assert player.reach(wanted | {"enabled": False})["key_state"] == "Disabled"
    assert admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"
    assert player.reach({"alias": ALIAS, "state": "absent", "pending_window": 7})["key_state"] == "PendingDeletion"
    assert admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"
    assert player.reach(wanted)["key_state"] == "Enabled"
    assert admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    found = player.play([("amazon.aws.kms_key_info", {"filters": {"tag:purpose": "buckets"}}), ("amazon.aws.kms_key_info", {"filters": {"tag:purpose": "volumes"}})])
    assert [[entry["key_id"] for entry in result["kms_keys"]] for result in found] == [[key], []], found


def tags(admin, key: str) -> dict[str, str]:
    return {tag["TagKey"]: tag["TagValue"] for tag in admin.list_resource_tags(KeyId=key)["Tags"]}


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-ansible-") as folder:
        player = Player(mill, "admin", Path(folder))
        life(mill, player)
        signs = player.reach({"alias": "alias/signs", "key_spec": "ECC_NIST_P256", "key_usage": "SIGN_VERIFY"})
        assert mill.client("admin").describe_key(KeyId=signs["key_id"])["KeyMetadata"]["KeySpec"] == "ECC_NIST_P256"
        Player(mill, "consumer", Path(folder)).play([("amazon.aws.kms_key", {"alias": "alias/refused"})], fails="AccessDeniedException")
        calls = sum(mill.metric("keymill_requests_total", operation=operation) for operation in OPERATIONS)
    report("amazon.aws of ansible", f"{collection()} of {version('ansible')}", int(calls))


if __name__ == "__main__":
    main()
