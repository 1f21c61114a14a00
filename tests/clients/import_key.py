"""boto3 against a running daemon: bring your own key. Known material goes in, and what is wrapped under it is opened here, by open_blobs.py, which shares nothing
with the daemon: data keys and private keys with their contexts, MACs, signatures; across deletion, expiry, rotation and a kill."""

import hashlib
import hmac
import os
import time
from datetime import datetime, timedelta, timezone

import boto3
import daemon
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from daemon import Tally, refused, wait_until
from open_blobs import open_blob

CONTEXT = {"tenant": "7", "volume": "é"}
FOREVER = "KEY_MATERIAL_DOES_NOT_EXPIRE"


def create(admin, **kind) -> tuple[str, str]:
    """The id and ARN of a key without material."""
    metadata = admin.create_key(Origin="EXTERNAL", **kind)["KeyMetadata"]
    assert metadata["KeyState"] == "PendingImport" and not metadata["Enabled"], metadata
    return metadata["KeyId"], metadata["Arn"]


def wrap(public: bytes, algorithm: str, material: bytes) -> bytes:
    key = serialization.load_der_public_key(public)
    by = hashes.SHA256() if algorithm.endswith("256") else hashes.SHA1()
    encrypt = lambda text: key.encrypt(text, padding.OAEP(padding.MGF1(by), by, None))
    if algorithm.startswith("RSAES"):
        return encrypt(material)
    kek = os.urandom(32)
    return encrypt(kek) + keywrap.aes_key_wrap_with_padding(kek, material)


def import_material(admin, key: str, material: bytes, algorithm="RSAES_OAEP_SHA_256", spec="RSA_2048", **more) -> str | None:
    parameters = admin.get_parameters_for_import(KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)
    ahead = parameters["ParametersValidTo"] - datetime.now(timezone.utc)
    assert abs(ahead - timedelta(days=1)) < timedelta(minutes=1), parameters
    more = {"ExpirationModel": FOREVER} | more if "ValidTo" not in more else more
    imported = admin.import_key_material(
        KeyId=key, ImportToken=parameters["ImportToken"],
        EncryptedKeyMaterial=wrap(parameters["PublicKey"], algorithm, material), **more,
    )
    return imported.get("KeyMaterialId")


def opens(material: bytes, key: str, generation: int, blob: bytes) -> bytes:
    """The bytes that the blob wraps, which no other context and no other material opens."""
    plaintext = open_blob(material, key, generation, CONTEXT, blob)
    for other in ((material, {}), (material, CONTEXT | {"a": "b"}), (bytes(32), CONTEXT)):
        try:
            open_blob(other[0], key, generation, other[1], blob)
        except InvalidTag:
            continue
        raise AssertionError("opens under something else")
    return plaintext


def data_keys(mill: daemon.Daemon, tally: Tally) -> None:
    """By every wrapping algorithm and key; every length and call; a pair's private key too."""
    admin, provisioner = mill.client("admin", tally), mill.client("provisioner", tally)
    ways = [
        (algorithm, spec)
        for algorithm in ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256")
        for spec in ("RSA_2048", "RSA_3072")
    ]
    for algorithm, spec in [*ways, ("RSAES_OAEP_SHA_256", "RSA_4096")]:
        material = os.urandom(32)
        key, _ = create(admin)
        name = import_material(admin, key, material, algorithm, spec)
        # The name is documented, and so can be computed outside.
        said = b"keymill key material id v1" + bytes.fromhex(key.replace("-", ""))
        assert name == hmac.new(material, said, hashlib.sha256).hexdigest()
        asked = {"KeyId": key, "EncryptionContext": CONTEXT}
        for length in (1, 16, 32, 1024):
            blob = admin.generate_data_key(NumberOfBytes=length, **asked)
            assert opens(material, key, 1, blob["CiphertextBlob"]) == blob["Plaintext"]
        for _ in range(20):
            blob = provisioner.generate_data_key_without_plaintext(KeySpec="AES_256", **asked)
            plaintext = opens(material, key, 1, blob["CiphertextBlob"])
            assert len(plaintext) == 32 and blob["KeyMaterialId"] == name
            opened = admin.decrypt(CiphertextBlob=blob["CiphertextBlob"], EncryptionContext=CONTEXT)
            assert opened["Plaintext"] == plaintext
        assert opens(material, key, 1, admin.encrypt(Plaintext=b"mine", **asked)["CiphertextBlob"]) == b"mine"
        pair = admin.generate_data_key_pair_without_plaintext(KeyPairSpec="ECC_NIST_P256", **asked)
        private = serialization.load_der_private_key(opens(material, key, 1, pair["PrivateKeyCiphertextBlob"]), None)
        encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert private.public_key().public_bytes(*encoding) == pair["PublicKey"]


def comes_and_goes(mill: daemon.Daemon, tally: Tally) -> None:
    """Deleted, refused, imported again; other material by rotation; a kill in between changes nothing."""
    admin = mill.client("admin", tally)
    first, second = os.urandom(32), os.urandom(32)
    key, arn = create(admin)
    name = import_material(admin, key, first)
    asked = {"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}
    old = admin.generate_data_key_without_plaintext(**asked)["CiphertextBlob"]
    assert admin.delete_imported_key_material(KeyId=key)["KeyMaterialId"] == name
    pending = f"{arn} is pending import."
    refused("KMSInvalidStateException", pending, admin.generate_data_key_without_plaintext, **asked)
    refused("KMSInvalidStateException", pending, admin.decrypt, CiphertextBlob=old, EncryptionContext=CONTEXT)
    mill.kill()
    mill.start()
    admin = mill.client("admin", tally)
    assert admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingImport"
    error = None
    try:
        import_material(admin, key, second)
    except admin.exceptions.IncorrectKeyMaterialException as raised:
        error = raised
    assert error is not None, "other material was taken for the same"
    assert import_material(admin, key, first) == name
    assert opens(first, key, 1, old) == admin.decrypt(CiphertextBlob=old, EncryptionContext=CONTEXT)["Plaintext"]
    other = import_material(admin, key, second, ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription="the second")
    admin.rotate_key_on_demand(KeyId=key)
    new = admin.generate_data_key_without_plaintext(**asked)
    assert new["KeyMaterialId"] == other != name
    opens(second, key, 2, new["CiphertextBlob"])
    listed = admin.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [entry["KeyMaterialState"] for entry in listed] == ["NON_CURRENT", "CURRENT"], listed
    assert [entry["ImportState"] for entry in listed] == ["IMPORTED"] * 2 and listed[1]["KeyMaterialDescription"] == "the second"
    mill.kill()
    mill.start()
    admin = mill.client("admin", tally)
    for blob, material, generation in ((old, first, 1), (new["CiphertextBlob"], second, 2)):
        opened = admin.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
        assert opened["Plaintext"] == opens(material, key, generation, blob)


def expires(mill: daemon.Daemon, tally: Tally) -> None:
    """Material whose date passes while the daemon is down is gone when it is back; so is material whose date passes while it runs."""
    admin = mill.client("admin", tally)
    material, (key, _) = os.urandom(32), create(admin)
    import_material(admin, key, material, ValidTo=datetime.now(timezone.utc) + timedelta(seconds=4))
    metadata = admin.describe_key(KeyId=key)["KeyMetadata"]
    assert metadata["ExpirationModel"] == "KEY_MATERIAL_EXPIRES" and metadata["ValidTo"] > datetime.now(timezone.utc), metadata
    mill.kill()
    time.sleep(5)
    mill.start()
    admin = mill.client("admin", tally)
    state = lambda: admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
    assert state() == "PendingImport", "there before the first request"
    import_material(admin, key, material, ValidTo=datetime.now(timezone.utc) + timedelta(seconds=4))
    assert state() == "Enabled"
    wait_until(lambda: state() == "PendingImport", 80, "expiry while it runs")


def other_kinds(mill: daemon.Daemon, tally: Tally) -> None:
    """An HMAC key makes the MACs that Python makes; a private key signs as it did before it was imported."""
    admin = mill.client("admin", tally)
    for bits, length in ((224, 28), (256, 32), (256, 64), (384, 48), (512, 64), (512, 128)):
        material, (key, _) = os.urandom(length), create(admin, KeySpec=f"HMAC_{bits}", KeyUsage="GENERATE_VERIFY_MAC")
        import_material(admin, key, material)
        mac = admin.generate_mac(KeyId=key, Message=b"message", MacAlgorithm=f"HMAC_SHA_{bits}")["Mac"]
        assert mac == hmac.new(material, b"message", f"sha{bits}").digest(), bits
    for spec, private in (("ECC_SECG_P256K1", ec.generate_private_key(ec.SECP256K1())), ("RSA_3072", rsa.generate_private_key(65537, 3072))):
        key, _ = create(admin, KeySpec=spec, KeyUsage="SIGN_VERIFY")
        der = private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption(),
        )
        import_material(admin, key, der, "RSA_AES_KEY_WRAP_SHA_256", "RSA_4096")
        if spec.startswith("RSA"):
            signed = admin.sign(KeyId=key, Message=b"message", SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256")["Signature"]
            assert signed == private.sign(b"message", padding.PKCS1v15(), hashes.SHA256())
        else:
            signed = admin.sign(KeyId=key, Message=b"message", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
            private.public_key().verify(signed, b"message", ec.ECDSA(hashes.SHA256()))


def forms(mill: daemon.Daemon, tally: Tally) -> None:
    """A private key is the same as every program writes it, in PKCS #8; what else programs write is refused with what is wanted."""
    admin = mill.client("admin", tally)
    private, key = ec.generate_private_key(ec.SECP256R1()), create(admin, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")[0]
    der = private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    scalar = private.private_numbers().private_value.to_bytes(32)
    point = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    start, curve = bytes.fromhex("020100301306072a8648ce3d020106082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030107")
    bits = bytes.fromhex("034200") + point
    for form, written in (
        ("Python, OpenSSL", der),
        ("Java: without the public key", b"\x30\x41" + start + b"\x04\x27\x30\x25\x02\x01\x01\x04\x20" + scalar),
        ("AWS KMS: with the curve again", b"\x30\x81\x93" + start + b"\x04\x79\x30\x77\x02\x01\x01\x04\x20" + scalar + b"\xa0\x0a" + curve + b"\xa1\x44" + bits),
        ("BER", b"\x30\x80" + der[3:] + b"\0\0"),
    ):
        import_material(admin, key, written)
        signed = admin.sign(KeyId=key, Message=b"message", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
        private.public_key().verify(signed, b"message", ec.ECDSA(hashes.SHA256()))
        admin.delete_imported_key_material(KeyId=key)
        print(f"{form}: {len(written)} bytes")
    long, rsa_key = rsa.generate_private_key(65537, 2048), create(admin, KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")[0]
    for spec, name, other in (("ECC_NIST_P256", key, private), ("RSA_2048", rsa_key, long)):
        # SEC 1 and PKCS #1
        written = other.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        wanted = f"The key material is not a PKCS #8 private key of key spec {spec} in DER."
        refused("InvalidCiphertextException", wanted, import_material, admin=admin, key=name, material=written, algorithm="RSA_AES_KEY_WRAP_SHA_256")


def main() -> None:
    with daemon.step("import key", boto3.__version__) as (mill, tally):
        data_keys(mill, tally)
        other_kinds(mill, tally)
        forms(mill, tally)
        comes_and_goes(mill, tally)
        expires(mill, tally)


if __name__ == "__main__":
    main()
