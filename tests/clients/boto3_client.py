"""boto3 against a running daemon, over TCP: keys and aliases by the admin, data keys by the provisioner, opened by the consumer."""

import boto3
import daemon
from daemon import NOT_ALLOWED_TO_OPEN, Tally, new_key, refused

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def ask_and_open(mill: daemon.Daemon, names: list[str], rounds: int, tally: Tally) -> None:
    """Asks by every name of a key, with and without context, and opens each answer as the consumer."""
    provisioner, consumer = mill.client("provisioner", tally), mill.client("consumer", tally)
    arn, blobs, opened = names[1], set(), set()
    for number in range(rounds):
        for name in names:
            for context in ({}, {"container": f"container-{number:012}", "tenant": "Zoë"}):
                made = provisioner.generate_data_key_without_plaintext(KeyId=name, KeySpec="AES_256", EncryptionContext=context)
                assert made["KeyId"] == arn and "Plaintext" not in made, made
                assert len(made["CiphertextBlob"]) == daemon.BLOB_BYTES, made
                back = consumer.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
                assert len(back["Plaintext"]) == 32 and back["KeyId"] == arn, back
                assert back["KeyMaterialId"] == made["KeyMaterialId"], back
                assert back["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT", back
                blobs.add(made["CiphertextBlob"])
                opened.add(back["Plaintext"])
    assert len(blobs) == len(opened) == rounds * len(names) * 2, "a data key came twice"


def lengths(mill: daemon.Daemon, arn: str, tally: Tally) -> None:
    """Every length and both specs."""
    provisioner, consumer = mill.client("provisioner", tally), mill.client("consumer", tally)
    cases = [({"NumberOfBytes": length}, length) for length in (1, 7, 16, 32, 64, 1024)]
    cases += [({"KeySpec": "AES_128"}, 16), ({"KeySpec": "AES_256"}, 32)]
    for asked, length in cases:
        blob = provisioner.generate_data_key_without_plaintext(KeyId=arn, **asked)["CiphertextBlob"]
        again = [consumer.decrypt(CiphertextBlob=blob, KeyId=arn)["Plaintext"] for _ in range(2)]
        assert len(again[0]) == length and again[0] == again[1], again


def contexts(mill: daemon.Daemon, arn: str, tally: Tally) -> None:
    """A context binds: the same pairs in any order open, anything else is one refusal without a message."""
    provisioner, consumer = mill.client("provisioner", tally), mill.client("consumer", tally)
    right = {"a": "1", "b": "2"}
    blob = provisioner.generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256", EncryptionContext=right)["CiphertextBlob"]
    consumer.decrypt(CiphertextBlob=blob, EncryptionContext={"b": "2", "a": "1"})
    for wrong in ({}, {"a": "1"}, right | {"c": "3"}, {"a": "2", "b": "1"}, {"A": "1", "b": "2"}, {"a": "1b", "": "2"}):
        error = refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=blob, EncryptionContext=wrong)
        assert isinstance(error, consumer.exceptions.InvalidCiphertextException), type(error)
    for damaged in (blob[:-1], blob[:40], blob + b"\0", blob[:60] + bytes([blob[60] ^ 1]) + blob[61:], b"abc"):
        refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=damaged, EncryptionContext=right)


def rights(mill: daemon.Daemon, names: list[str], tally: Tally) -> None:
    """Who makes keys cannot open them, and who opens them cannot make them."""
    provisioner, consumer, admin = (mill.client(role, tally) for role in ("provisioner", "consumer", "admin"))
    arn = names[1]
    blob = provisioner.generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256")["CiphertextBlob"]

    def not_allowed(role: str, operation: str) -> str:
        return (
            f"User: {mill.principal(role)['arn']} is not authorized to perform: kms:{operation} on resource: {arn} "
            f"because no identity-based policy allows the kms:{operation} action"
        )

    refused("AccessDeniedException", NOT_ALLOWED_TO_OPEN, provisioner.decrypt, CiphertextBlob=blob)
    refused("AccessDeniedException", not_allowed("provisioner", "Decrypt"), provisioner.decrypt, CiphertextBlob=blob, KeyId=arn)
    for name in names:
        refused(
            "AccessDeniedException", not_allowed("provisioner", "GenerateDataKey"),
            provisioner.generate_data_key, KeyId=name, KeySpec="AES_256",
        )
    refused("AccessDeniedException", not_allowed("provisioner", "DisableKey"), provisioner.disable_key, KeyId=arn)
    refused(
        "AccessDeniedException", not_allowed("consumer", "GenerateDataKeyWithoutPlaintext"),
        consumer.generate_data_key_without_plaintext, KeyId=arn, KeySpec="AES_256",
    )
    refused("AccessDeniedException", None, consumer.create_key)
    assert provisioner.describe_key(KeyId=names[2])["KeyMetadata"]["Arn"] == arn
    assert admin.decrypt(CiphertextBlob=blob)["KeyId"] == arn


def refusals(mill: daemon.Daemon, names: list[str], tally: Tally) -> None:
    """What is not found, not valid, not enabled, or not signed by a known caller."""
    provisioner, admin = mill.client("provisioner", tally), mill.client("admin", tally)
    ask, arn = provisioner.generate_data_key_without_plaintext, names[1]
    missing = [
        (UNKNOWN, f"Key '{mill.arn('key/' + UNKNOWN)}' does not exist"),
        (mill.arn(f"key/{UNKNOWN}"), f"Key '{mill.arn('key/' + UNKNOWN)}' does not exist"),
        ("alias/nobody", f"Alias {mill.arn('alias/nobody')} is not found."),
        ("foo", "Invalid keyId 'foo'"),
        (arn.replace(mill.facts["region"], "eu-west-1"), "Invalid arn eu-west-1"),
    ]
    for name, message in missing:
        error = refused("NotFoundException", message, admin.generate_data_key_without_plaintext, KeyId=name, KeySpec="AES_256")
        assert isinstance(error, admin.exceptions.NotFoundException), type(error)
    invalid = [
        ({}, "Please specify either number of bytes or key spec."),
        ({"KeySpec": "AES_256", "NumberOfBytes": 32}, "Please specify either number of bytes or key spec."),
        (
            {"NumberOfBytes": 1025},
            "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: "
            "Member must have value less than or equal to 1024",
        ),
    ]
    for members, message in invalid:
        refused("ValidationException", message, ask, KeyId=arn, **members)
    refused(
        "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.",
        ask, KeyId=arn, KeySpec="AES_256", DryRun=True,
    )
    refused("InvalidArnException", "Key Aliases are not supported for this operation.", admin.disable_key, KeyId=names[2])
    refused("AlreadyExistsException", None, admin.create_alias, AliasName=names[2], TargetKeyId=arn)
    admin.disable_key(KeyId=arn)
    error = refused("DisabledException", f"{arn} is disabled.", ask, KeyId=names[2], KeySpec="AES_256")
    assert isinstance(error, provisioner.exceptions.DisabledException), type(error)
    admin.enable_key(KeyId=arn)
    ask(KeyId=names[2], KeySpec="AES_256")
    stranger = mill.client("provisioner", tally, access_key_id="AKIDNOBODY")
    refused(
        "UnrecognizedClientException", "The security token included in the request is invalid.",
        stranger.generate_data_key_without_plaintext, KeyId=arn, KeySpec="AES_256",
    )
    forger = mill.client("provisioner", tally, secret_access_key="not the secret")
    refused("InvalidSignatureException", None, forger.generate_data_key_without_plaintext, KeyId=arn, KeySpec="AES_256")
    lost = mill.client("provisioner", tally, region="eu-west-1")
    refused("InvalidSignatureException", None, lost.generate_data_key_without_plaintext, KeyId=arn, KeySpec="AES_256")


def administration(mill: daemon.Daemon, names: list[str], tally: Tally) -> None:
    """The rest of the operations, as the admin."""
    admin, (key, arn, alias, _) = mill.client("admin", tally), names
    assert arn in [entry["KeyArn"] for page in admin.get_paginator("list_keys").paginate() for entry in page["Keys"]]
    aliases = {entry["AliasName"]: entry.get("TargetKeyId") for entry in admin.list_aliases()["Aliases"]}
    assert aliases[alias] == key and daemon.ALIAS in aliases, aliases
    made = admin.generate_data_key(KeyId=alias, KeySpec="AES_256", EncryptionContext={"a": "b"})
    back = admin.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext={"a": "b"})
    assert made["Plaintext"] == back["Plaintext"] and len(made["Plaintext"]) == 32
    for length in (1, 4096):
        sealed = admin.encrypt(KeyId=alias, Plaintext=b"\xa5" * length)
        assert sealed["KeyId"] == arn, sealed
        assert admin.decrypt(CiphertextBlob=sealed["CiphertextBlob"], KeyId=key)["Plaintext"] == b"\xa5" * length
    assert len(admin.generate_random(NumberOfBytes=1024)["Plaintext"]) == 1024
    other = admin.create_key()["KeyMetadata"]["KeyId"]
    refused(
        "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.",
        admin.decrypt, CiphertextBlob=sealed["CiphertextBlob"], KeyId=other,
    )
    admin.update_alias(AliasName=alias, TargetKeyId=other)
    assert admin.describe_key(KeyId=alias)["KeyMetadata"]["KeyId"] == other
    admin.update_alias(AliasName=alias, TargetKeyId=key)
    scheduled = admin.schedule_key_deletion(KeyId=other, PendingWindowInDays=7)
    assert scheduled["KeyState"] == "PendingDeletion" and scheduled["PendingWindowInDays"] == 7, scheduled
    refused("KMSInvalidStateException", f"{scheduled['KeyId']} is pending deletion.", admin.encrypt, KeyId=other, Plaintext=b"x")
    admin.cancel_key_deletion(KeyId=other)
    assert admin.describe_key(KeyId=other)["KeyMetadata"]["KeyState"] == "Disabled"
    admin.create_alias(AliasName="alias/for-a-moment", TargetKeyId=other)
    admin.delete_alias(AliasName="alias/for-a-moment")
    refused("NotFoundException", None, admin.describe_key, KeyId="alias/for-a-moment")


def main() -> None:
    with daemon.step("boto3", boto3.__version__) as (mill, tally):
        names = new_key(mill, "alias/boto3", tally)
        ask_and_open(mill, names, 25, tally)
        lengths(mill, names[1], tally)
        contexts(mill, names[1], tally)
        rights(mill, names, tally)
        refusals(mill, names, tally)
        administration(mill, names, tally)


if __name__ == "__main__":
    main()
