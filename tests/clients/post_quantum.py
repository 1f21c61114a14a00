"""boto3 against a running daemon, with pyca/cryptography (OpenSSL) at the other end: ML-DSA by message and by external mu, ML-KEM keys and data key pairs, also after a restart.
cryptography has no ML-KEM-512 and no Ed25519ph: post_quantum.mjs, with noble, has them."""

import boto3
import daemon
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem
from daemon import Tally, new_key, refused, wait_until

MESSAGE = b"a message"
ALIAS = "alias/post-quantum"
ML_DSA = {"ML_DSA_44": (mldsa.MLDSA44PublicKey, 2420), "ML_DSA_65": (mldsa.MLDSA65PublicKey, 3309), "ML_DSA_87": (mldsa.MLDSA87PublicKey, 4627)}
# The public key's class, where cryptography has one, and bytes of a ciphertext.
ML_KEM = {"ML_KEM_512": (None, 768), "ML_KEM_768": (mlkem.MLKEM768PublicKey, 1088), "ML_KEM_1024": (mlkem.MLKEM1024PublicKey, 1568)}
ALGORITHM = "ML_DSA_SHAKE_256"
SPKI_HEADER_BYTES = 22


def create(admin, spec: str, usage: str, member: str, algorithm: str) -> str:
    metadata = admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    assert (metadata["KeySpec"], metadata["KeyUsage"], metadata[member]) == (spec, usage, [algorithm]), metadata
    message = f"KeySpec {spec} is not supported for Origin EXTERNAL"
    refused("ValidationException", message, admin.create_key, KeySpec=spec, KeyUsage=usage, Origin="EXTERNAL")
    return metadata["Arn"]


def representative(public_key) -> bytes:
    hasher = mldsa.MLDSAMuHasher(public_key)
    hasher.update(MESSAGE)
    return hasher.finalize()


def sign_and_verify(admin, key: str, spec: str) -> None:
    """Signatures of the daemon verify outside, each by message and by representative, and no two are alike."""
    of_class, length = ML_DSA[spec]
    public_key = serialization.load_der_public_key(admin.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public_key, of_class), public_key
    mu = representative(public_key)
    forms = ({"Message": MESSAGE}, {"Message": mu, "MessageType": "EXTERNAL_MU"})
    asked = {"KeyId": key, "SigningAlgorithm": ALGORITHM}
    signatures = [admin.sign(**form, **asked)["Signature"] for form in forms for _ in range(2)]
    assert len(set(signatures)) == 4, "hedged"
    for signature in signatures:
        assert len(signature) == length
        public_key.verify(signature, MESSAGE)
        public_key.verify_mu(signature, mu)
        for form in forms:
            assert admin.verify(**form, **asked, Signature=signature)["SignatureValid"]
            wrong = form | {"Message": form["Message"][::-1]}
            refused("KMSInvalidSignatureException", "", admin.verify, **wrong, **asked, Signature=signature)


def signatures(mill: daemon.Daemon, tally: Tally) -> dict[str, str]:
    admin, keys = mill.client("admin", tally), {}
    for spec in ML_DSA:
        key = keys[spec] = create(admin, spec, "SIGN_VERIFY", "SigningAlgorithms", ALGORITHM)
        sign_and_verify(admin, key, spec)
        asked = {"KeyId": key, "SigningAlgorithm": ALGORITHM}
        for call, more in ((admin.sign, {}), (admin.verify, {"Signature": b"x"})):
            message = f"Message type DIGEST is incompatible with key spec {spec}."
            refused("ValidationException", message, call, Message=b"x" * 64, MessageType="DIGEST", **asked, **more)
            message = f"External Mu is invalid length for algorithm {ALGORITHM}."
            refused("ValidationException", message, call, Message=b"x" * 63, MessageType="EXTERNAL_MU", **asked, **more)
        message = f"Algorithm ECDSA_SHA_256 is incompatible with key spec {spec}."
        refused("InvalidKeyUsageException", message, admin.sign, KeyId=key, Message=b"x", SigningAlgorithm="ECDSA_SHA_256")
    return keys


def share(admin, key: str, spec: str) -> None:
    """A secret goes both ways: made here and opened by the daemon, and made by the daemon for itself."""
    of_class, length = ML_KEM[spec]
    asked = {"KeyId": key, "EncapsulationAlgorithm": "ML_KEM"}
    made = admin.encapsulate(**asked)
    secret, blob = made["SharedSecret"], made["SharedSecretCiphertextBlob"]
    assert (len(secret), len(blob), made["KeyId"]) == (32, length, key), made
    opened = admin.decapsulate(SharedSecretCiphertextBlob=blob, **asked)
    assert (opened["SharedSecret"], opened["KeyId"]) == (secret, key), opened
    if of_class is not None:
        public_key = serialization.load_der_public_key(admin.get_public_key(KeyId=key)["PublicKey"])
        assert isinstance(public_key, of_class), public_key
        secret, blob = public_key.encapsulate()
        assert admin.decapsulate(SharedSecretCiphertextBlob=blob, **asked)["SharedSecret"] == secret
    changed = bytes([blob[0] ^ 1]) + blob[1:]
    rejected = [admin.decapsulate(SharedSecretCiphertextBlob=changed, **asked)["SharedSecret"] for _ in range(2)]
    assert rejected[0] == rejected[1] != secret, "implicit rejection"
    for wrong in (blob[1:], blob + b"x"):
        for more in ({}, {"DryRun": True}):
            refused("InvalidCiphertextException", "", admin.decapsulate, SharedSecretCiphertextBlob=wrong, **asked, **more)


def secrets(mill: daemon.Daemon, tally: Tally) -> dict[str, str]:
    admin, keys = mill.client("admin", tally), {}
    for spec in ML_KEM:
        key = keys[spec] = create(admin, spec, "ENCAPSULATE_DECAPSULATE", "EncapsulationAlgorithms", "ML_KEM")
        share(admin, key, spec)
        used = admin.get_key_last_usage(KeyId=key)["KeyLastUsage"]
        assert used["Operation"] == "Decapsulate", used
    return keys


def audited(mill: daemon.Daemon) -> None:
    """What was shared is in no record."""
    log = b"".join(file.read_bytes() for file in (mill.state / "audit").glob("*.jsonl")).decode().splitlines()
    records = [line for line in log if '"eventName":"Encapsulate"' in line or '"eventName":"Decapsulate"' in line]
    assert records and not any("haredSecret" in line for line in records), records[:1]
    assert all('"encapsulationAlgorithm":"ML_KEM"' in line and '"readOnly":true' in line for line in records), records[:1]


def pairs(mill: daemon.Daemon, tally: Tally) -> None:
    """The private key of a pair is its seed in PKCS#8, and opens what is made for its public key."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    new_key(mill, ALIAS, tally)
    for number, (spec, (of_class, _)) in enumerate(ML_KEM.items(), 1):
        context = {"volume": spec}
        asked = {"KeyId": ALIAS, "KeyPairSpec": spec, "EncryptionContext": context}
        for call in (admin.generate_data_key_pair, admin.generate_data_key_pair_without_plaintext):
            made = call(**asked)
            der = consumer.decrypt(CiphertextBlob=made["PrivateKeyCiphertextBlob"], EncryptionContext=context)["Plaintext"]
            assert made.get("PrivateKeyPlaintext", der) == der and made["KeyPairSpec"] == spec, made
            head = f"3054020100300b06096086480165030404{number:02}04428040"
            assert len(der) == 86 and der.hex().startswith(head), der.hex()
            if of_class is not None:
                public_key = serialization.load_der_public_key(made["PublicKey"])
                assert isinstance(public_key, of_class), public_key
                secret, blob = public_key.encapsulate()
                private_key = serialization.load_der_private_key(der, None)
                assert private_key.decapsulate(blob) == secret
                assert private_key.private_bytes_raw() == der[-64:]
            refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=made["PrivateKeyCiphertextBlob"])
        wait_until(lambda spec=spec: mill.metric("keymill_pool_depth", lane=f"pairs/{spec}") > 0, 120, f"a pooled {spec}")
        admin.generate_data_key_pair_without_plaintext(**asked)
        assert mill.metric("keymill_data_keys_total", spec=spec, result="hit") > 0, spec


def main() -> None:
    with daemon.step("post-quantum keys", boto3.__version__) as (mill, tally):
        signing, sharing = signatures(mill, tally), secrets(mill, tally)
        audited(mill)
        pairs(mill, tally)
        mill.kill()
        mill.start()
        admin = mill.client("admin", tally)
        for spec, key in signing.items():
            sign_and_verify(admin, key, spec)
        for spec, key in sharing.items():
            share(admin, key, spec)


if __name__ == "__main__":
    main()
