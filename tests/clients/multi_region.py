"""Several Regions in one daemon, and multi-Region keys: boto3 in each Region, and the multi-Region-aware keyrings of the AWS Encryption SDK for Python and for JavaScript.

A message that was written in one Region opens in the other by the related key there; an ordinary keyring of that key compares whole ARNs, and does not call.
"""

import importlib.metadata
import json
import logging
import os
import subprocess
import tempfile
from pathlib import Path

import aws_encryption_sdk
import boto3
import daemon
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    CreateAwsKmsKeyringInput,
    CreateAwsKmsMrkDiscoveryKeyringInput,
    CreateAwsKmsMrkKeyringInput,
    DiscoveryFilter,
)
from aws_encryption_sdk import CommitmentPolicy
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from daemon import Daemon, Tally, refused, running

EAST, WEST, THIRD = REGIONS = ["us-east-1", "us-west-2", "eu-west-1"]
CONTEXT = {"container": "container-000000000042"}
TEXT = "what a container holds, Zoë\n".encode() * 100
ELSEWHERE = "Credential should be scoped to a valid region. "

sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
providers = AwsCryptographicMaterialProviders(MaterialProvidersConfig())


def clients(mill: Daemon, role: str, tally: Tally | None = None) -> dict:
    return {region: mill.client(role, tally, region=region) for region in REGIONS}


def arn(mill: Daemon, region: str, key: str) -> str:
    return f"arn:aws:kms:{region}:{mill.facts['account']}:key/{key}"


def ordinary_keys(mill: Daemon, tally: Tally) -> None:
    """Keys of one Region each: the scope of the signature chooses, and a Region that is not served is refused."""
    admin, consumer = clients(mill, "admin", tally), clients(mill, "consumer", tally)
    key = admin[WEST].create_key()["KeyMetadata"]
    assert key["Arn"] == arn(mill, WEST, key["KeyId"]) and key["MultiRegion"] is False, key
    blob = admin[WEST].generate_data_key_without_plaintext(KeyId=key["KeyId"], KeySpec="AES_256")["CiphertextBlob"]
    assert consumer[WEST].decrypt(CiphertextBlob=blob)["KeyId"] == key["Arn"]
    refused("AccessDeniedException", daemon.NOT_ALLOWED_TO_OPEN, consumer[EAST].decrypt, CiphertextBlob=blob)
    refused("NotFoundException", f"Key '{arn(mill, EAST, key['KeyId'])}' does not exist", admin[EAST].describe_key, KeyId=key["KeyId"])
    refused("NotFoundException", "Invalid arn us-west-2", admin[EAST].describe_key, KeyId=key["Arn"])
    refused("InvalidSignatureException", ELSEWHERE, mill.client("admin", tally, region="ap-south-1").list_keys)
    listed = {region: {one["KeyArn"] for one in client.list_keys()["Keys"]} for region, client in admin.items()}
    assert listed[WEST] == {key["Arn"]} and listed[THIRD] == set() and key["Arn"] not in listed[EAST], listed


def operators(mill: Daemon) -> None:
    """The command line goes to any Region of a running daemon; a key's ARN has its Region."""

    def keymill(*arguments: str) -> dict:
        command = [daemon.BINARY, *arguments, "--json", "--endpoint", f"unix:{mill.socket}"]
        done = subprocess.run(command, env=daemon.environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    for region in REGIONS:
        key = keymill("key", "create", "--region", region)["KeyMetadata"]
        assert key["Arn"] == arn(mill, region, key["KeyId"]), key
        keymill("alias", "create", "alias/by-operator", key["Arn"])
        keymill("key", "disable", key["Arn"])
        client = mill.client("admin", region=region)
        metadata = client.describe_key(KeyId="alias/by-operator")["KeyMetadata"]
        assert (metadata["Arn"], metadata["KeyState"]) == (key["Arn"], "Disabled"), metadata
        listed = {one["KeyArn"]: one for one in keymill("key", "list", "--region", region)["Keys"]}
        assert listed[key["Arn"]]["Aliases"] == ["alias/by-operator"], listed
        assert all(f":{region}:" in one for one in listed), listed


def related_keys(mill: Daemon, tally: Tally) -> str:
    """A key is replicated, used, rotated, and its primary Region changed."""
    admin, consumer = clients(mill, "admin", tally), clients(mill, "consumer", tally)
    key = admin[EAST].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    assert key.startswith("mrk-"), key
    replica = admin[EAST].replicate_key(KeyId=key, ReplicaRegion=WEST, Description="the other", Tags=[{"TagKey": "a", "TagValue": "b"}])
    metadata = replica["ReplicaKeyMetadata"]
    assert metadata["Arn"] == arn(mill, WEST, key) and metadata["KeyState"] == "Creating" and replica["ReplicaTags"], replica
    refused("AlreadyExistsException", "You can create only one replica of each primary key in each AWS Region.", admin[EAST].replicate_key, KeyId=key, ReplicaRegion=WEST)
    for region, kind in ((EAST, "PRIMARY"), (WEST, "REPLICA")):
        described = admin[region].describe_key(KeyId=key)["KeyMetadata"]
        related = described["MultiRegionConfiguration"]
        assert described["KeyState"] == "Enabled" and related["MultiRegionKeyType"] == kind, described
        assert related["PrimaryKey"] == {"Arn": arn(mill, EAST, key), "Region": EAST}, related
        assert related["ReplicaKeys"] == [{"Arn": arn(mill, WEST, key), "Region": WEST}], related
    for made in (EAST, WEST):
        blob = admin[made].generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)["CiphertextBlob"]
        opened = {region: consumer[region].decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT) for region in (EAST, WEST)}
        assert opened[EAST]["Plaintext"] == opened[WEST]["Plaintext"], "another data key"
        assert all(answer["KeyId"] == arn(mill, region, key) for region, answer in opened.items()), opened
    wrong = {"CiphertextBlob": blob, "EncryptionContext": CONTEXT, "KeyId": arn(mill, EAST, key)}
    refused("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.", consumer[WEST].decrypt, **wrong)
    no_replica = f"{arn(mill, WEST, key)} is a multi-region replica key which is not valid for RotateKeyOnDemand."
    refused("UnsupportedOperationException", no_replica, admin[WEST].rotate_key_on_demand, KeyId=key)
    admin[EAST].rotate_key_on_demand(KeyId=key)
    material = {region: admin[region].describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"] for region in (EAST, WEST)}
    assert len(set(material.values())) == 1, material
    admin[EAST].update_primary_region(KeyId=key, PrimaryRegion=WEST)
    assert admin[EAST].describe_key(KeyId=key)["KeyMetadata"]["MultiRegionConfiguration"]["MultiRegionKeyType"] == "REPLICA"
    refused("KMSInvalidStateException", f"{arn(mill, EAST, key)} is not a multi-Region primary key.", admin[EAST].update_primary_region, KeyId=key, PrimaryRegion=WEST)
    admin[WEST].rotate_key_on_demand(KeyId=key)
    assert consumer[EAST].decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["KeyId"] == arn(mill, EAST, key)
    return key


def imported_key(mill: Daemon, tally: Tally) -> None:
    """The same material is imported into each Region."""
    admin = clients(mill, "admin", tally)
    key, material = admin[EAST].create_key(MultiRegion=True, Origin="EXTERNAL")["KeyMetadata"]["KeyId"], os.urandom(32)

    def bring(region: str) -> None:
        parameters = admin[region].get_parameters_for_import(KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        wrapped = serialization.load_der_public_key(parameters["PublicKey"]).encrypt(material, oaep)
        admin[region].import_key_material(KeyId=key, ImportToken=parameters["ImportToken"], EncryptedKeyMaterial=wrapped, ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE")

    bring(EAST)
    admin[EAST].replicate_key(KeyId=key, ReplicaRegion=WEST)
    blob = admin[EAST].encrypt(KeyId=key, Plaintext=TEXT)["CiphertextBlob"]
    refused("KMSInvalidStateException", f"{arn(mill, WEST, key)} is pending import.", admin[WEST].decrypt, CiphertextBlob=blob)
    bring(WEST)
    assert admin[WEST].decrypt(CiphertextBlob=blob)["Plaintext"] == TEXT


def deleted_key(mill: Daemon, tally: Tally) -> None:
    """A primary key waits for its replicas."""
    admin = clients(mill, "admin", tally)
    key = admin[EAST].create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    admin[EAST].replicate_key(KeyId=key, ReplicaRegion=WEST)
    scheduled = admin[EAST].schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert scheduled["KeyState"] == "PendingReplicaDeletion" and "DeletionDate" not in scheduled, scheduled
    pending = f"{arn(mill, EAST, key)} is pending replica deletion."
    refused("KMSInvalidStateException", pending, admin[EAST].generate_data_key, KeyId=key, KeySpec="AES_256")
    assert admin[WEST].schedule_key_deletion(KeyId=key, PendingWindowInDays=7)["KeyState"] == "PendingDeletion"
    admin[EAST].cancel_key_deletion(KeyId=key)
    assert admin[EAST].describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"


def keyrings(mill: Daemon, key: str, folder: Path, tally: Tally) -> None:
    """Messages go between Regions and languages."""
    admin, consumer = clients(mill, "admin", tally), clients(mill, "consumer", tally)

    def aware(of: dict, region: str):
        return providers.create_aws_kms_mrk_keyring(CreateAwsKmsMrkKeyringInput(kms_key_id=arn(mill, region, key), kms_client=of[region]))

    message, _ = sdk.encrypt(source=TEXT, keyring=aware(admin, EAST), encryption_context=CONTEXT)
    accounts = DiscoveryFilter(account_ids=[mill.facts["account"]], partition="aws")
    discovery = CreateAwsKmsMrkDiscoveryKeyringInput(kms_client=consumer[WEST], region=WEST, discovery_filter=accounts)
    for ring in (aware(consumer, EAST), aware(consumer, WEST), providers.create_aws_kms_mrk_discovery_keyring(discovery)):
        assert sdk.decrypt(source=message, keyring=ring, encryption_context=CONTEXT)[0] == TEXT
    before = tally.calls
    whole = providers.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=arn(mill, WEST, key), kms_client=consumer[WEST]))
    try:
        sdk.decrypt(source=message, keyring=whole, encryption_context=CONTEXT)
    except Exception as error:  # The SDK's error of a keyring that has no key of the message.
        assert tally.calls == before, error
    else:
        raise AssertionError("an ordinary keyring opened a message of another Region")
    (folder / "python").write_bytes(message)
    facts = {"DAEMON": json.dumps(mill.facts), "MESSAGES": str(folder), "HERE": arn(mill, EAST, key), "THERE": arn(mill, WEST, key)}
    script = Path(__file__).with_name("multi_region.mjs")
    subprocess.run(["node", script], env=daemon.environment(CLIENT_LINES=str(daemon.LINES), **facts), check=True, timeout=300)
    written = (folder / "javascript").read_bytes()
    assert sdk.decrypt(source=written, keyring=aware(consumer, EAST), encryption_context=CONTEXT)[0] == TEXT


def restarted(mill: Daemon, key: str, tally: Tally) -> None:
    """The keys of each Region are there after a restart."""
    admin = clients(mill, "admin", tally)
    blob = admin[WEST].encrypt(KeyId=key, Plaintext=TEXT)["CiphertextBlob"]
    mill.kill()
    mill.start()
    consumer = clients(mill, "consumer", tally)
    for region in (EAST, WEST):
        assert consumer[region].decrypt(CiphertextBlob=blob)["Plaintext"] == TEXT


def main() -> None:
    logging.getLogger("aws_encryption_sdk").setLevel(logging.CRITICAL)
    plain, rings = Tally(), Tally()
    with running({"KEYMILL_REGIONS": ",".join(REGIONS)}) as mill, tempfile.TemporaryDirectory(prefix="keymill-messages-") as name:
        assert mill.facts["regions"] == REGIONS and mill.facts["region"] == EAST, mill.facts
        (Path(name) / "text").write_bytes(TEXT)
        ordinary_keys(mill, plain)
        key = related_keys(mill, plain)
        imported_key(mill, plain)
        deleted_key(mill, plain)
        operators(mill)
        keyrings(mill, key, Path(name), rings)
        restarted(mill, key, plain)
        assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
    daemon.report("boto3 (multi-Region keys)", boto3.__version__, plain.calls)
    daemon.report("aws-encryption-sdk (multi-Region keys)", importlib.metadata.version("aws-encryption-sdk"), rings.calls)


if __name__ == "__main__":
    main()
