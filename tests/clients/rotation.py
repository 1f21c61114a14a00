"""boto3 against a running daemon: keys that are rotated, before and under load; blobs that move; schedules, tags and descriptions that outlive a kill."""

import base64
import json
import threading
from datetime import datetime, timedelta, timezone

import boto3
import daemon
from daemon import Tally, new_key, refused
from unix_socket import UnixConnection

ALIAS = "alias/rotation"
ROTATIONS = 5


def generation_of(blob: bytes) -> int:
    return int.from_bytes(blob[20:24], "big")


def on_demand(mill: daemon.Daemon, names: list[str], tally: Tally) -> None:
    """Blobs of every generation open, new ones are under the newest, and ReEncrypt brings the old ones there."""
    admin, provisioner, consumer = (mill.client(role, tally) for role in ("admin", "provisioner", "consumer"))
    key, arn = names[0], names[1]
    made = []
    for generation in range(1, ROTATIONS + 1):
        blob = provisioner.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
        current = admin.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
        assert blob["KeyMaterialId"] == current and generation_of(blob["CiphertextBlob"]) == generation, blob
        made.append(blob)
        assert admin.rotate_key_on_demand(KeyId=key)["KeyId"] == arn
    newest = admin.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    for blob in made:
        opened = consumer.decrypt(CiphertextBlob=blob["CiphertextBlob"])
        assert opened["KeyMaterialId"] == blob["KeyMaterialId"], opened
        moved = admin.re_encrypt(
            CiphertextBlob=blob["CiphertextBlob"], DestinationKeyId=arn, DestinationEncryptionContext={"tenant": "7"},
        )
        assert moved["SourceKeyMaterialId"] == blob["KeyMaterialId"] and moved["DestinationKeyMaterialId"] == newest, moved
        again = consumer.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"tenant": "7"})
        assert again["Plaintext"] == opened["Plaintext"] and again["KeyMaterialId"] == newest
        refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=moved["CiphertextBlob"])
        refused("AccessDeniedException", None, consumer.re_encrypt, CiphertextBlob=blob["CiphertextBlob"], DestinationKeyId=arn)
    pages = admin.get_paginator("list_key_rotations").paginate(KeyId=key, PaginationConfig={"PageSize": 2})
    listed = [entry for page in pages for entry in page["Rotations"]]
    assert len(listed) == ROTATIONS and {entry["RotationType"] for entry in listed} == {"ON_DEMAND"}, listed
    assert [entry["KeyMaterialState"] for entry in listed] == ["NON_CURRENT"] * (ROTATIONS - 1) + ["CURRENT"], listed
    assert listed[-1]["KeyMaterialId"] == newest and listed[-1]["RotationDate"].tzinfo is not None, listed
    everything = admin.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert {entry["KeyId"] for entry in everything} == {arn}, everything
    assert len(everything) == ROTATIONS + 1 and "RotationDate" not in everything[0], everything


def under_load(mill: daemon.Daemon, arn: str, tally: Tally) -> None:
    """When a rotation has been answered, whatever is asked for from then on is under the new material, pooled or not."""
    admin = mill.client("admin", tally)
    answered, stop, faults = [1], threading.Event(), []

    def ask() -> None:
        provisioner = mill.client("provisioner", tally)
        while not stop.is_set():
            at_least = answered[0]
            blob = provisioner.generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256")["CiphertextBlob"]
            if generation_of(blob) < at_least:
                faults.append((generation_of(blob), at_least))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(2, 27):
        admin.rotate_key_on_demand(KeyId=arn)
        answered[0] = generation
        # So that the pool fills and has something to drop.
        stop.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults, faults
    hits = mill.metric("keymill_data_keys_total", operation="GenerateDataKeyWithoutPlaintext", result="hit")
    purged = mill.metric("keymill_pool_purged_total", reason="fence")
    assert hits > 0 and purged > 0, f"{hits} from the pool, {purged} dropped from it: nothing was shown"
    message = (
        "The on-demand rotations limit has been reached for the given keyId. "
        f"No more on-demand rotations can be performed for this key: {arn}"
    )
    error = refused("LimitExceededException", message, admin.rotate_key_on_demand, KeyId=arn)
    assert isinstance(error, admin.exceptions.LimitExceededException), type(error)


def batch(mill: daemon.Daemon, arn: str, tally: Tally) -> None:
    """A batch says that it ended early, and what came before that is good."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    body = json.dumps({"KeyId": arn, "KeySpec": "AES_256", "Count": 50_000_000}).encode()
    connection = UnixConnection(mill.socket)
    connection.request("POST", "/v1/data-keys", body, {"Accept": "application/x-ndjson"})
    with connection.getresponse() as answer:
        lines = [json.loads(answer.readline()) for _ in range(100)]
        admin.rotate_key_on_demand(KeyId=arn)
        last = None
        for line in answer:
            last = json.loads(line)
    connection.close()
    assert "ConflictException" in json.dumps(last), last
    for line in lines[::33]:
        consumer.decrypt(CiphertextBlob=base64.b64decode(line["CiphertextBlob"]))


def schedules(mill: daemon.Daemon, arn: str, tally: Tally) -> None:
    """Dates are a period ahead; another period moves them, the same one or none does not, until rotation was off."""
    admin = mill.client("admin", tally)
    assert admin.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"] is False
    for days in (None, 90, 2560):
        admin.enable_key_rotation(KeyId=arn, **({} if days is None else {"RotationPeriodInDays": days}))
        status = admin.get_key_rotation_status(KeyId=arn)
        assert status["KeyRotationEnabled"] and status["KeyId"] == arn, status
        assert status["RotationPeriodInDays"] == (days or 365), status
        ahead = status["NextRotationDate"] - datetime.now(timezone.utc)
        assert abs(ahead - timedelta(days=days or 365)) < timedelta(minutes=1), status
    for same in ({"RotationPeriodInDays": 2560}, {}):
        admin.enable_key_rotation(KeyId=arn, **same)
        kept = admin.get_key_rotation_status(KeyId=arn)
        assert [kept[name] for name in ("RotationPeriodInDays", "NextRotationDate")] == [2560, status["NextRotationDate"]], kept
    admin.disable_key_rotation(KeyId=arn)
    admin.enable_key_rotation(KeyId=arn)
    assert admin.get_key_rotation_status(KeyId=arn)["RotationPeriodInDays"] == 365
    refused("InvalidArnException", None, admin.enable_key_rotation, KeyId=ALIAS)
    admin.disable_key(KeyId=arn)
    for call in (admin.enable_key_rotation, admin.disable_key_rotation, admin.rotate_key_on_demand):
        refused("DisabledException", f"{arn} is disabled.", call, KeyId=arn)
    admin.enable_key(KeyId=arn)


def tags(mill: daemon.Daemon, arn: str, tally: Tally) -> None:
    """Tags and descriptions."""
    admin = mill.client("admin", tally)
    refused(
        "TagException", "Tags beginning with aws: are reserved",
        admin.tag_resource, KeyId=arn, Tags=[{"TagKey": "AWS:x", "TagValue": ""}],
    )
    admin.tag_resource(KeyId=arn, Tags=[{"TagKey": f"key-{number:02}", "TagValue": "Zoë"} for number in range(50)])
    refused("TagException", "Too many tags", admin.tag_resource, KeyId=arn, Tags=[{"TagKey": "one more", "TagValue": ""}])
    twice = [{"TagKey": "a", "TagValue": "1"}, {"TagKey": "a", "TagValue": "1"}]
    refused("TagException", "Duplicate tag keys", admin.create_key, Tags=twice)
    admin.untag_resource(KeyId=arn, TagKeys=[f"key-{number:02}" for number in range(3, 50)] + ["none"])
    pages = admin.get_paginator("list_resource_tags").paginate(KeyId=arn, PaginationConfig={"PageSize": 2})
    listed = [tag for page in pages for tag in page["Tags"]]
    assert [tag["TagKey"] for tag in listed] == ["key-00", "key-01", "key-02"], listed
    made = admin.create_key(Tags=[{"TagKey": "Team", "TagValue": "storage"}])["KeyMetadata"]["KeyId"]
    assert admin.list_resource_tags(KeyId=made)["Tags"] == [{"TagKey": "Team", "TagValue": "storage"}]
    admin.update_key_description(KeyId=arn, Description="for \"volumes\"")


def kept(mill: daemon.Daemon, arn: str, tally: Tally) -> dict:
    """What a restart must not change."""
    admin = mill.client("admin", tally)
    facts = {
        "key": admin.describe_key(KeyId=arn)["KeyMetadata"],
        "rotations": admin.list_key_rotations(KeyId=arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"],
        "status": admin.get_key_rotation_status(KeyId=arn),
        "tags": admin.list_resource_tags(KeyId=arn)["Tags"],
    }
    facts["status"].pop("ResponseMetadata")
    return facts


def main() -> None:
    with daemon.step("rotation", boto3.__version__) as (mill, tally):
        names = new_key(mill, ALIAS, tally)
        on_demand(mill, names, tally)
        batch(mill, names[1], tally)
        schedules(mill, names[1], tally)
        tags(mill, names[1], tally)
        under_load(mill, new_key(mill, "alias/load", tally)[1], tally)
        before = kept(mill, names[1], tally)
        assert before["key"]["Description"] == "for \"volumes\"" and len(before["tags"]) == 3, before
        mill.kill()
        mill.start()
        assert kept(mill, names[1], tally) == before, "a restart changed something"


if __name__ == "__main__":
    main()
