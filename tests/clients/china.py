"""boto3 against a daemon of a China Region: SM4 blobs opened by open_blobs.py, which shares nothing with the daemon, out of the pool, of imported material and of a bulk job;
SM2 signatures, ciphertexts, pairs, shared secrets and wrapped material, each crossed with OpenSSL and with gmssl, and by sm_crypto.mjs with sm-crypto."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import boto3
import daemon
from Cryptodome.Util.asn1 import DerInteger, DerOctetString, DerSequence
from daemon import ALIAS, BINARY, ROOT, Tally, refused, wait_until
from gmssl import sm2, sm3
from import_key import CONTEXT, FOREVER, create, import_material
from open_blobs import open_blob

REGION, PARTITION = "cn-north-1", "arn:aws-cn"
MESSAGE = b"a message"
IDENTIFIER = b"1234567812345678"


def openssl(*arguments: str | Path, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout


class Pair:
    """A private key that OpenSSL and gmssl have, in PKCS #8."""

    def __init__(self, folder: Path, der: bytes | None = None):
        der = der or openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", given=openssl("genpkey", "-algorithm", "SM2"))
        self.folder, self.der = folder, der
        self.private, self.public = folder / "private.pem", folder / "public.pem"
        self.private.write_bytes(openssl("pkey", "-inform", "DER", given=der))
        self.public.write_bytes(openssl("pkey", "-inform", "DER", "-pubout", given=der))
        # The scalar follows the version of the inner structure, as OpenSSL and the daemon write it.
        at = der.index(bytes.fromhex("0201010420"), 20) + 5
        self.scalar = der[at:at + 32].hex()
        self.spki = openssl("pkey", "-pubin", "-pubout", "-outform", "DER", given=self.public.read_bytes())

    def gmssl(self) -> sm2.CryptSM2:
        return of_point(self.spki, self.scalar)


def of_point(spki: bytes, scalar: str = "") -> sm2.CryptSM2:
    assert len(spki) == 91 and spki[26] == 4, spki.hex()
    made = sm2.CryptSM2(scalar, "", mode=1)
    # Given to the constructor, a point that begins with 04 loses its first digits.
    made.public_key = spki[27:].hex()
    return made


def hashed(spki: bytes, message: bytes) -> bytes:
    """The hash that is signed: of identifier, curve, public key and message."""
    table = sm2.default_ecc_table
    curve = bytes.fromhex(table["a"] + table["b"] + table["g"])
    z = sm3.sm3_hash(list((8 * len(IDENTIFIER)).to_bytes(2) + IDENTIFIER + curve + spki[27:]))
    return bytes.fromhex(sm3.sm3_hash(list(bytes.fromhex(z) + message)))


def raw(signature: bytes) -> str:
    """r and s side by side, as gmssl has them."""
    return "".join(f"{number:064x}" for number in DerSequence().decode(signature))


def sequence(raw: str) -> bytes:
    """A ciphertext of gmssl, C1 C3 C2, as AWS has it."""
    parts = bytes.fromhex(raw)
    point = [DerInteger(int.from_bytes(parts[at:at + 32])) for at in (0, 32)]
    return DerSequence([*point, DerOctetString(parts[64:96]), DerOctetString(parts[96:])]).encode()


def joined(ciphertext: bytes) -> str:
    x, y, *rest = DerSequence().decode(ciphertext)
    hash_, text = (DerOctetString().decode(part).payload for part in rest)
    return f"{x:064x}{y:064x}" + hash_.hex() + text.hex()


def verify_outside(spki: bytes, signature: bytes, folder: Path) -> None:
    """Raises where either program refuses it."""
    files = {"public.der": spki, "signature": signature, "message": MESSAGE}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    said = openssl(
        "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", folder / "public.der", "-rawin", "-digest", "sm3",
        "-pkeyopt", f"distid:{IDENTIFIER.decode()}", "-sigfile", folder / "signature", "-in", folder / "message",
    )
    assert b"Successfully" in said, said
    assert of_point(spki).verify(raw(signature), hashed(spki, MESSAGE))


def sm4_blobs(mill: daemon.Daemon, tally: Tally) -> None:
    """What a key of known material wraps, out of the pool and not; and what a job of the key that is there by default makes."""
    admin, provisioner, consumer = (mill.client(role, tally) for role in ("admin", "provisioner", "consumer"))
    arn = admin.describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
    assert arn.startswith(f"{PARTITION}:kms:{REGION}:"), arn
    assert mill.principal("admin")["arn"].startswith(f"{PARTITION}:iam::")
    made = provisioner.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert (made["CiphertextBlob"][:2], len(made["CiphertextBlob"])) == (b"\1\2", daemon.BLOB_BYTES), made
    assert len(consumer.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"]) == 32
    refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=made["CiphertextBlob"])

    material, (key, arn) = os.urandom(16), create(admin)
    refused("InvalidCiphertextException", "", import_material, admin=admin, key=key, material=bytes(32))
    name = import_material(admin, key, material)
    lengths = [({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 16}, 16), ({"KeySpec": "AES_256"}, 32), ({"NumberOfBytes": 100}, 100)]
    for asked, length in lengths:
        made = admin.generate_data_key(KeyId=key, EncryptionContext=CONTEXT, **asked)
        opened = open_blob(material, key, 1, CONTEXT, made["CiphertextBlob"])
        assert opened == made["Plaintext"] and len(opened) == length and made["KeyMaterialId"] == name, made
    asked = {"KeyId": key, "KeySpec": "AES_128", "EncryptionContext": CONTEXT}
    hits = lambda: mill.metric("keymill_data_keys_total", spec="AES_128", result="hit")
    before = hits()
    blobs = set()

    def hit() -> bool:
        blob = admin.generate_data_key_without_plaintext(**asked)["CiphertextBlob"]
        assert len(open_blob(material, key, 1, CONTEXT, blob)) == 16 and blob not in blobs
        blobs.add(blob)
        return hits() > before

    wait_until(hit, 60, "an SM4 key out of the pool")
    sealed = admin.encrypt(KeyId=key, Plaintext=MESSAGE, EncryptionContext=CONTEXT)["CiphertextBlob"]
    assert open_blob(material, key, 1, CONTEXT, sealed) == MESSAGE
    moved = admin.re_encrypt(CiphertextBlob=sealed, SourceEncryptionContext=CONTEXT, DestinationKeyId=ALIAS)
    assert consumer.decrypt(CiphertextBlob=moved["CiphertextBlob"])["Plaintext"] == MESSAGE


def jobs(mill: daemon.Daemon, tally: Tally, folder: Path) -> None:
    """A table gets keys, moves to another key, and is tried."""
    run = lambda *arguments: subprocess.run([BINARY, *arguments], env=daemon.environment(), cwd=folder, capture_output=True, check=True, text=True).stdout
    sockets = mill.facts["sockets"]
    run(
        "provision", mill.state / "volumes.csv", "--key", ALIAS, "--id-column", "volume", "--context", "tenant,volume",
        "--out", "provisioned", "--endpoint", f"unix:{mill.socket}",
    )
    run("rewrap", "provisioned", "--key", "alias/next", "--out", "rewrapped", "--endpoint", f"unix:{sockets['rewrapper']}")
    run("verify", "rewrapped", "--endpoint", f"unix:{sockets['consumer']}")
    key = mill.client("admin", tally).describe_key(KeyId="alias/next")["KeyMetadata"]["KeyId"]
    told = run("census", "rewrapped")
    assert key in told, told


def signatures(mill: daemon.Daemon, tally: Tally, folder: Path) -> None:
    """Of a message and of its hash, by a key that was made here; and by a key that was brought, whose private key the others have."""
    admin = mill.client("admin", tally)
    brought, (key, _) = Pair(folder), create(admin, KeySpec="SM2", KeyUsage="SIGN_VERIFY")
    import_material(admin, key, brought.der)
    made = admin.create_key(KeySpec="SM2", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    assert made["SigningAlgorithms"] == ["SM2DSA"] and made["Arn"].startswith(PARTITION), made
    for name in (key, made["Arn"]):
        asked = {"KeyId": name, "SigningAlgorithm": "SM2DSA"}
        spki = admin.get_public_key(KeyId=name)["PublicKey"]
        by_message = admin.sign(Message=MESSAGE, **asked)["Signature"]
        by_hash = admin.sign(Message=hashed(spki, MESSAGE), MessageType="DIGEST", **asked)["Signature"]
        for signature in (by_message, by_hash):
            verify_outside(spki, signature, folder)
            assert admin.verify(Message=MESSAGE, Signature=signature, **asked)["SignatureValid"]
            refused("KMSInvalidSignatureException", "", admin.verify, Message=b"another", Signature=signature, **asked)
        refused(
            "ValidationException", "Digest is invalid length for algorithm SM2DSA.", admin.sign,
            Message=bytes(31), MessageType="DIGEST", **asked,
        )
    assert admin.get_public_key(KeyId=key)["PublicKey"] == brought.spki
    (folder / "message").write_bytes(MESSAGE)
    theirs = [
        openssl(
            "pkeyutl", "-sign", "-inkey", brought.private, "-rawin", "-digest", "sm3", "-pkeyopt", f"distid:{IDENTIFIER.decode()}",
            "-in", folder / "message",
        ),
    ]
    by_gmssl = brought.gmssl().sign(hashed(brought.spki, MESSAGE), os.urandom(31).hex())
    theirs.append(DerSequence([DerInteger(int(by_gmssl[at:at + 64], 16)) for at in (0, 64)]).encode())
    for signature in theirs:
        assert admin.verify(KeyId=key, Message=MESSAGE, Signature=signature, SigningAlgorithm="SM2DSA")["SignatureValid"]


def encryption(mill: daemon.Daemon, tally: Tally, folder: Path) -> None:
    """What each of the three encrypts, the others open."""
    admin = mill.client("admin", tally)
    brought, (key, _) = Pair(folder), create(admin, KeySpec="SM2", KeyUsage="ENCRYPT_DECRYPT")
    import_material(admin, key, brought.der)
    asked = {"KeyId": key, "EncryptionAlgorithm": "SM2PKE"}
    for length in (1, 32, 1000, 1024):
        plaintext = os.urandom(length)
        sealed = admin.encrypt(Plaintext=plaintext, **asked)["CiphertextBlob"]
        (folder / "sealed").write_bytes(sealed)
        assert openssl("pkeyutl", "-decrypt", "-inkey", brought.private, "-in", folder / "sealed") == plaintext
        assert brought.gmssl().decrypt(bytes.fromhex(joined(sealed))) == plaintext
        (folder / "plaintext").write_bytes(plaintext)
        theirs = [
            openssl("pkeyutl", "-encrypt", "-inkey", brought.private, "-in", folder / "plaintext"),
            sequence(brought.gmssl().encrypt(plaintext).hex()),
        ]
        for ciphertext in theirs:
            opened = admin.decrypt(CiphertextBlob=ciphertext, **asked)
            assert opened["Plaintext"] == plaintext and opened["EncryptionAlgorithm"] == "SM2PKE", opened
            refused("InvalidCiphertextException", "", admin.decrypt, CiphertextBlob=ciphertext[:-1] + bytes([ciphertext[-1] ^ 1]), **asked)
    refused(
        "ValidationException", "Algorithm SM2PKE and key spec SM2 cannot encrypt data larger than 1024 bytes.", admin.encrypt,
        Plaintext=bytes(1025), **asked,
    )


def agreement(mill: daemon.Daemon, tally: Tally, folder: Path) -> None:
    """The x coordinate that gmssl computes."""
    admin = mill.client("admin", tally)
    key = admin.create_key(KeySpec="SM2", KeyUsage="KEY_AGREEMENT")["KeyMetadata"]["KeyId"]
    spki, peer = admin.get_public_key(KeyId=key)["PublicKey"], Pair(folder)
    derived = admin.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=peer.spki)["SharedSecret"]
    point = peer.gmssl()._kg(int(peer.scalar, 16), spki[27:].hex())
    assert derived.hex() == point[:64].lower(), (derived.hex(), point)


def pairs(mill: daemon.Daemon, tally: Tally, folder: Path) -> None:
    """A pair out of the pool: its private key signs as OpenSSL reads it."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    asked = {"KeyId": ALIAS, "KeyPairSpec": "SM2", "EncryptionContext": CONTEXT}
    for call in (admin.generate_data_key_pair, admin.generate_data_key_pair_without_plaintext):
        made = call(**asked)
        der = consumer.decrypt(CiphertextBlob=made["PrivateKeyCiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"]
        assert made.get("PrivateKeyPlaintext", der) == der and len(der) == 138, made
        assert made["PrivateKeyCiphertextBlob"][:2] == b"\1\2"
        pair = Pair(folder, der)
        assert pair.spki == made["PublicKey"]
        (folder / "message").write_bytes(MESSAGE)
        signature = openssl(
            "pkeyutl", "-sign", "-inkey", pair.private, "-rawin", "-digest", "sm3", "-pkeyopt", f"distid:{IDENTIFIER.decode()}",
            "-in", folder / "message",
        )
        verify_outside(made["PublicKey"], signature, folder)
    wait_until(lambda: mill.metric("keymill_pool_depth", lane="pairs/SM2") > 0, 60, "a pooled SM2 pair")
    admin.generate_data_key_pair_without_plaintext(**asked)
    assert mill.metric("keymill_data_keys_total", spec="SM2", result="hit") > 0


def wrapping(mill: daemon.Daemon, tally: Tally, folder: Path) -> None:
    """Material comes in wrapped by SM2, as OpenSSL encrypts it; what AWS does not take in China is refused."""
    admin = mill.client("admin", tally)
    material, (key, _) = os.urandom(16), create(admin)
    parameters = admin.get_parameters_for_import(KeyId=key, WrappingAlgorithm="SM2PKE", WrappingKeySpec="SM2")
    (folder / "wrapping.der").write_bytes(parameters["PublicKey"])
    (folder / "material").write_bytes(material)
    wrapped = openssl("pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", folder / "wrapping.der", "-in", folder / "material")
    admin.import_key_material(
        KeyId=key, ImportToken=parameters["ImportToken"], EncryptedKeyMaterial=wrapped, ExpirationModel=FOREVER,
    )
    made = admin.generate_data_key(KeyId=key, KeySpec="AES_128", EncryptionContext=CONTEXT)
    assert open_blob(material, key, 1, CONTEXT, made["CiphertextBlob"]) == made["Plaintext"]
    mac, _ = create(admin, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    for algorithm, spec in (("RSA_AES_KEY_WRAP_SHA_256", "RSA_2048"), ("SM2PKE", "RSA_2048"), ("RSAES_OAEP_SHA_256", "SM2")):
        refused(
            "ValidationException", f"Wrapping algorithm {algorithm} and wrapping key spec {spec} cannot be used to import a HMAC_256 key.",
            admin.get_parameters_for_import, KeyId=mac, WrappingAlgorithm=algorithm, WrappingKeySpec=spec,
        )


def main() -> None:
    overrides = {"KEYMILL_REGION": REGION, "KEYMILL_POOL__PAIRS_PER_SPEC": "2"}
    with daemon.step("boto3 in a China Region", boto3.__version__, overrides) as (mill, tally), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sm4_blobs(mill, tally)
        for part in (jobs, signatures, encryption, agreement, pairs, wrapping):
            part(mill, tally, folder)
        facts = {"DAEMON": json.dumps(mill.facts), "CLIENT_LINES": str(daemon.LINES)}
        subprocess.run(["node", ROOT / "tests/clients/sm_crypto.mjs"], env=daemon.environment(**facts), check=True)


if __name__ == "__main__":
    main()
