"""The AWS Encryption SDK for Python and for JavaScript on a running daemon: each opens what the other wrote. A KMS keyring, cached materials, and branch keys.

Branch keys of the hierarchical keyring are made by `GenerateDataKeyWithoutPlaintext` and moved between contexts by `ReEncrypt`; moto's DynamoDB holds them. Messages
between the two languages are files in a folder: `<language>-<kind>`, all of `TEXT` under `CONTEXT`.
"""

import importlib.metadata
import json
import logging
import subprocess
import tempfile
from pathlib import Path

import aws_encryption_sdk
import boto3
import daemon
from aws_cryptographic_material_providers.keystore import KeyStore
from aws_cryptographic_material_providers.keystore.config import KeyStoreConfig
from aws_cryptographic_material_providers.keystore.models import (
    CreateKeyInput,
    CreateKeyStoreInput,
    KMSConfigurationKmsKeyArn,
    VersionKeyInput,
)
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    CacheTypeDefault,
    CreateAwsKmsHierarchicalKeyringInput,
    CreateAwsKmsKeyringInput,
    CreateMultiKeyringInput,
    DefaultCache,
)
from aws_encryption_sdk import CommitmentPolicy
from aws_encryption_sdk.caches.local import LocalCryptoMaterialsCache
from aws_encryption_sdk.key_providers.kms import KMSMasterKey
from aws_encryption_sdk.materials_managers.caching import CachingCryptoMaterialsManager
from daemon import Daemon, Tally, new_key, running
from moto.server import ThreadedMotoServer

TEXT = "what a container holds, Zoë\n".encode() * 1000
CONTEXT = {"container": "container-000000000042", "tenant": "Zoë"}
TABLE = "branch-keys"
# The hierarchical keyring keeps a branch key for as long.
TTL_SECONDS = 600
CACHED_MESSAGES = 50

sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
providers = AwsCryptographicMaterialProviders(MaterialProvidersConfig())


class Operations(Tally):
    """Counts answered calls by operation, and remembers the last refusal: what the SDK makes of one has another text in each of its parts."""

    def __init__(self):
        super().__init__()
        self.of: dict[str, int] = {}
        self.refusal: str | None = None

    def count(self, model, parsed, **_) -> None:
        super().count()
        self.of[model.name] = self.of.get(model.name, 0) + 1
        self.refusal = parsed.get("Error", {}).get("Code", self.refusal)

    def since(self, before: dict[str, int]) -> dict[str, int]:
        return {name: calls - before.get(name, 0) for name, calls in self.of.items() if calls != before.get(name, 0)}

    def fails(self, code: str | None, call, /, **arguments) -> None:
        """Calls, and holds the failure to the refusal that was its cause; `None` if nobody was asked."""
        self.refusal = None
        try:
            call(**arguments)
        except Exception as error:  # There is no class for all of them.
            assert self.refusal == code, f"{error!r} after {self.refusal} instead of {code}"
            return
        raise AssertionError(f"no failure by {code}")


def keyring(mill: Daemon, role: str, arn: str, tally: Tally):
    return providers.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=arn, kms_client=mill.client(role, tally)))


def opened(message: bytes, ring) -> bytes:
    """Opens a message, and looks at the context in its header."""
    text, header = sdk.decrypt(source=message, keyring=ring, encryption_context=CONTEXT)
    assert CONTEXT.items() <= header.encryption_context.items(), header.encryption_context
    return text


def kms_keyring(mill: Daemon, arns: list[str], tally: Operations) -> bytes:
    """Messages under one key and under two; opened by the consumer, not by the provisioner, and by nobody once they are changed."""
    writes, reads = keyring(mill, "admin", arns[0], tally), keyring(mill, "consumer", arns[0], tally)
    before = dict(tally.of)
    message, _ = sdk.encrypt(source=TEXT, keyring=writes, encryption_context=CONTEXT)
    assert opened(message, reads) == TEXT
    assert tally.since(before) == {"GenerateDataKey": 1, "Decrypt": 1}, tally.since(before)
    with_two = CreateMultiKeyringInput(generator=writes, child_keyrings=[keyring(mill, "admin", arns[1], tally)])
    before = dict(tally.of)
    both, header = sdk.encrypt(source=TEXT, keyring=providers.create_multi_keyring(with_two), encryption_context=CONTEXT)
    assert tally.since(before) == {"GenerateDataKey": 1, "Encrypt": 1} and len(header.encrypted_data_keys) == 2
    for arn in arns:
        assert opened(both, keyring(mill, "consumer", arn, tally)) == TEXT
    tally.fails("AccessDeniedException", opened, message=message, ring=keyring(mill, "provisioner", arns[0], tally))
    tally.fails("AccessDeniedException", sdk.encrypt, source=TEXT, keyring=reads)
    tally.fails(None, opened, message=message, ring=keyring(mill, "consumer", arns[1], tally))
    changed = message.replace(CONTEXT["container"].encode(), b"container-000000000043")
    assert changed != message
    tally.fails("InvalidCiphertextException", sdk.decrypt, source=changed, keyring=reads)
    mill.client("admin", tally).disable_key(KeyId=arns[1])
    tally.fails("DisabledException", opened, message=both, ring=keyring(mill, "consumer", arns[1], tally))
    mill.client("admin", tally).enable_key(KeyId=arns[1])
    return message


def caching(mill: Daemon, arn: str, tally: Operations) -> bytes:
    """Many messages, one data key."""

    def manager(role: str) -> CachingCryptoMaterialsManager:
        return CachingCryptoMaterialsManager(
            master_key_provider=KMSMasterKey(key_id=arn, client=mill.client(role, tally)),
            cache=LocalCryptoMaterialsCache(capacity=10), max_age=600.0, max_messages_encrypted=CACHED_MESSAGES,
        )

    writer, reader = manager("admin"), manager("consumer")
    before = dict(tally.of)
    messages = {sdk.encrypt(source=TEXT, materials_manager=writer, encryption_context=CONTEXT)[0] for _ in range(CACHED_MESSAGES)}
    assert len(messages) == CACHED_MESSAGES and tally.since(before) == {"GenerateDataKey": 1}, tally.since(before)
    for message in messages:
        assert sdk.decrypt(source=message, materials_manager=reader)[0] == TEXT
    assert tally.since(before) == {"GenerateDataKey": 1, "Decrypt": 1}, tally.since(before)
    message, _ = sdk.encrypt(source=TEXT, materials_manager=writer, encryption_context=CONTEXT)
    assert tally.since(before)["GenerateDataKey"] == 2, "one data key for more messages than allowed"
    # A master key and a keyring of the same KMS key open the same messages.
    assert opened(message, keyring(mill, "consumer", arn, tally)) == TEXT
    return message


def key_store(mill: Daemon, role: str, arn: str, tables, tally: Tally) -> KeyStore:
    return KeyStore(KeyStoreConfig(
        ddb_table_name=TABLE, logical_key_store_name=TABLE, kms_configuration=KMSConfigurationKmsKeyArn(arn),
        ddb_client=tables, kms_client=mill.client(role, tally),
    ))


def hierarchical_keyring(mill: Daemon, role: str, arn: str, branch: str, tables, tally: Tally):
    return providers.create_aws_kms_hierarchical_keyring(CreateAwsKmsHierarchicalKeyringInput(
        key_store=key_store(mill, role, arn, tables, tally), branch_key_id=branch, ttl_seconds=TTL_SECONDS,
        cache=CacheTypeDefault(DefaultCache(entry_capacity=10)),
    ))


def hierarchical(mill: Daemon, arn: str, tables, tally: Operations) -> tuple[str, list[bytes]]:
    """Branch keys by who administers, messages by who may open: the latter calls the daemon once for each version of a branch key."""
    administers = key_store(mill, "admin", arn, tables, tally)
    administers.create_key_store(CreateKeyStoreInput())
    before = dict(tally.of)
    made = CreateKeyInput(branch_key_identifier="tenant-zoe", encryption_context={"team": "storage"})
    branch = administers.create_key(made).branch_key_identifier
    called = tally.since(before)
    assert called["GenerateDataKeyWithoutPlaintext"] >= 1 and called["ReEncrypt"] >= 1 and "GenerateDataKey" not in called, called
    messages = []
    for _ in range(2):
        ring = hierarchical_keyring(mill, "consumer", arn, branch, tables, tally)
        before = dict(tally.of)
        wrote = [sdk.encrypt(source=TEXT, keyring=ring, encryption_context=CONTEXT)[0] for _ in range(10)]
        assert tally.since(before) == {"Decrypt": 1}, tally.since(before)
        messages.append(wrote[0])
        reader = hierarchical_keyring(mill, "consumer", arn, branch, tables, tally)
        assert {opened(message, reader) for message in wrote + messages} == {TEXT}
        before = dict(tally.of)
        administers.version_key(VersionKeyInput(branch_key_identifier=branch))
        called = tally.since(before)
        assert called["GenerateDataKeyWithoutPlaintext"] >= 1 and called["ReEncrypt"] >= 1, called
    may_not = hierarchical_keyring(mill, "provisioner", arn, branch, tables, tally)
    tally.fails("AccessDeniedException", opened, message=messages[0], ring=may_not)
    # A branch key's attributes are its context: who edits the table edits what no longer opens.
    row = next(item for item in tables.scan(TableName=TABLE)["Items"] if item["type"]["S"] == "branch:ACTIVE")
    tables.put_item(TableName=TABLE, Item=row | {"aws-crypto-ec:team": {"S": "another"}})
    edited = hierarchical_keyring(mill, "consumer", arn, branch, tables, tally)
    tally.fails("InvalidCiphertextException", sdk.encrypt, source=TEXT, keyring=edited)
    tables.put_item(TableName=TABLE, Item=row)
    return branch, messages


def javascript(mill: Daemon, folder: Path, arn: str, branch: str, dynamodb: str) -> None:
    """Opens what is in the folder, and writes messages of its own to it."""
    facts = {
        "DAEMON": json.dumps(mill.facts), "CLIENT_LINES": str(daemon.LINES), "MESSAGES": str(folder), "KEY_ARN": arn,
        "BRANCH_KEY": branch, "BRANCH_KEY_TABLE": TABLE, "DYNAMODB": dynamodb,
    }
    script = Path(__file__).with_name("encryption_sdk.mjs")
    subprocess.run(["node", script], env=daemon.environment(**facts), check=True, timeout=300)


def main() -> None:
    # They would tell of every refusal, and of every call to the table.
    for talkative in ("aws_encryption_sdk", "werkzeug"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    tally = Operations()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-messages-") as name:
        folder = Path(name)
        (folder / "text").write_bytes(TEXT)
        (folder / "context").write_text(json.dumps(CONTEXT))
        tables = boto3.session.Session("none", "none", region_name=mill.facts["region"]).client("dynamodb", endpoint_url=address)
        arn, other = new_key(mill, "alias/encryption-sdk", tally)[1], new_key(mill, "alias/second", tally)[1]
        (folder / "python-kms").write_bytes(kms_keyring(mill, [arn, other], tally))
        (folder / "python-caching").write_bytes(caching(mill, arn, tally))
        branch, messages = hierarchical(mill, arn, tables, tally)
        for version, message in enumerate(messages):
            (folder / f"python-hierarchical-{version}").write_bytes(message)
        # What was wrapped before a rotation opens after it.
        mill.client("admin", tally).rotate_key_on_demand(KeyId=arn)
        javascript(mill, folder, arn, branch, address)
        reader = hierarchical_keyring(mill, "consumer", arn, branch, tables, tally)
        rings = {"kms": keyring(mill, "consumer", arn, tally), "caching": keyring(mill, "consumer", arn, tally), "hierarchical": reader}
        for kind, ring in rings.items():
            assert opened((folder / f"javascript-{kind}").read_bytes(), ring) == TEXT, kind
        assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
    server.stop()
    daemon.report("aws-encryption-sdk", importlib.metadata.version("aws-encryption-sdk"), tally.calls)


if __name__ == "__main__":
    main()
