"""boto3 asks for each plaintext that can be sealed to attested code, and OpenSSL opens what comes; policies let attested code alone open; what is forged, old or of another machine is refused."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import boto3
from attestation import Hypervisor, Recipient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from daemon import Daemon, Tally, new_key, refused, report, running

ALGORITHM = "RSAES_OAEP_SHA_256"
CONTEXT = {"volume": "vol-7"}
# What AWS answers for a data key of 32 bytes.
SEALED_DATA_KEY_BYTES = 493
SEQUENCE_OF_INDEFINITE_LENGTH = b"\x30\x80"


class Enclave:
    """A recipient on a machine, with a folder for OpenSSL."""

    def __init__(self, folder: Path, hypervisor: Hypervisor):
        self.folder, self.hypervisor, self.recipient = folder, hypervisor, Recipient()
        (folder / "key.pem").write_bytes(self.recipient.private_pem())

    def asks(self, **changes) -> dict:
        document = self.hypervisor.document(self.recipient, **changes)
        return {"KeyEncryptionAlgorithm": ALGORITHM, "AttestationDocument": document}

    def opens(self, answer: dict, empty: str) -> bytes:
        """The plaintext, by OpenSSL. The member that would have it in the clear is empty."""
        assert answer[empty] == b"", answer
        sealed = answer["CiphertextForRecipient"]
        assert sealed.startswith(SEQUENCE_OF_INDEFINITE_LENGTH), sealed[:2].hex()
        (self.folder / "sealed.der").write_bytes(sealed)
        command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", "sealed.der", "-inkey", "key.pem", "-binary"]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True).stdout


def every_operation(mill: Daemon, tally: Tally, enclave: Enclave) -> None:
    admin = mill.client("admin", tally)
    key, *_ = new_key(mill, "alias/attested", tally)
    made = admin.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT, Recipient=enclave.asks())
    assert len(made["CiphertextForRecipient"]) == SEALED_DATA_KEY_BYTES, made
    data_key = enclave.opens(made, "Plaintext")
    blob = {"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": CONTEXT}
    assert admin.decrypt(**blob)["Plaintext"] == data_key and len(data_key) == 32
    opened = admin.decrypt(**blob, Recipient=enclave.asks())
    assert enclave.opens(opened, "Plaintext") == data_key and "KeyMaterialId" not in opened, opened
    # The document of a TPM, without a tag.
    registers = {index: bytes([index]) * 48 for index in range(24)}
    asked = enclave.asks(module_id="i-1234567890abcdef0-tpm0123456789abcdef", pcrs=None, nitrotpm_pcrs=registers)
    asked["AttestationDocument"] = asked["AttestationDocument"].removeprefix(b"\xd2")
    assert enclave.opens(admin.decrypt(**blob, Recipient=asked), "Plaintext") == data_key

    drawn = admin.generate_random(NumberOfBytes=1024, Recipient=enclave.asks())
    assert len(enclave.opens(drawn, "Plaintext")) == 1024
    for spec in ("ECC_NIST_P256", "RSA_2048"):
        pair = admin.generate_data_key_pair(KeyId=key, KeyPairSpec=spec, Recipient=enclave.asks())
        private = serialization.load_der_private_key(enclave.opens(pair, "PrivateKeyPlaintext"), None)
        public = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert public == pair["PublicKey"], spec
    agreeing = admin.create_key(KeySpec="ECC_NIST_P384", KeyUsage="KEY_AGREEMENT")["KeyMetadata"]["KeyId"]
    own = ec.generate_private_key(ec.SECP384R1())
    public = own.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    derived = admin.derive_shared_secret(KeyId=agreeing, KeyAgreementAlgorithm="ECDH", PublicKey=public, Recipient=enclave.asks())
    peer = serialization.load_der_public_key(admin.get_public_key(KeyId=agreeing)["PublicKey"])
    assert enclave.opens(derived, "SharedSecret") == own.exchange(ec.ECDH(), peer)


def rights(mill: Daemon, tally: Tally, enclave: Enclave) -> None:
    """The key's policy lets its user open for one image alone."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    key, *_ = new_key(mill, "alias/for-an-image", tally)
    blob = admin.encrypt(KeyId=key, Plaintext=b"for the image")["CiphertextBlob"]
    image = "a5" * 48
    everything = {"Effect": "Allow", "Principal": {"AWS": mill.principal("admin")["arn"]}, "Action": "kms:*", "Resource": "*"}
    deny = {
        "Effect": "Deny", "Principal": {"AWS": mill.principal("consumer")["arn"]}, "Action": "kms:Decrypt", "Resource": "*",
        "Condition": {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": image.upper()}},
    }
    allow = deny | {"Effect": "Allow", "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": image.upper()}}}
    policy = {"Version": "2012-10-17", "Statement": [everything, allow, deny]}
    admin.put_key_policy(KeyId=key, Policy=json.dumps(policy))
    measured = {0: bytes.fromhex(image)}
    opened = consumer.decrypt(CiphertextBlob=blob, Recipient=enclave.asks(pcrs=measured))
    assert enclave.opens(opened, "Plaintext") == b"for the image"
    for recipient in ({}, {"Recipient": enclave.asks()}, {"Recipient": enclave.asks(pcrs={0: bytes(48)})}):
        refused("AccessDeniedException", None, consumer.decrypt, CiphertextBlob=blob, **recipient)


def refusals(mill: Daemon, tally: Tally, enclave: Enclave, stranger: Hypervisor) -> None:
    admin = mill.client("admin", tally)

    def is_refused(document: bytes, message: str) -> None:
        recipient = {"KeyEncryptionAlgorithm": ALGORITHM, "AttestationDocument": document}
        refused("ValidationException", message, admin.generate_random, NumberOfBytes=32, Recipient=recipient)

    def of(**changes) -> bytes:
        return enclave.hypervisor.document(enclave.recipient, **changes)

    now, sound = int(time.time() * 1000), of()
    forged = stranger.document(enclave.recipient, cabundle=[one.public_bytes(serialization.Encoding.DER) for one in enclave.hypervisor.chain[:-1]])
    for document, message in [
        (b"x", "The attestation document is malformed: it is not a COSE_Sign1."),
        (of() + b"\x00", "The attestation document is malformed: it is not a COSE_Sign1."),
        (of(pcrs=None), "The attestation document is malformed: neither pcrs nor nitrotpm_pcrs, or both."),
        (stranger.document(enclave.recipient), "The attestation document is not of a trusted root."),
        (forged, "Certificate 2 of the attestation document is not of the authority before it."),
        (sound[:-1] + bytes([sound[-1] ^ 1]), "The signature of the attestation document does not verify."),
        (of(timestamp=now - 310_000), "The attestation document is more than 300 seconds old."),
        (of(timestamp=now + 330_000), "The attestation document is from more than 300 seconds ahead."),
        (of(public_key=None), "The attestation document has no public_key."),
        (
            of(public_key=Recipient(3072).public_key()),
            "The public_key of the attestation document is not an RSA key of 2048 bits in DER (SubjectPublicKeyInfo).",
        ),
    ]:
        is_refused(document, message)
    assert mill.metric("keymill_attestation_documents_total", result="malformed") == 3
    assert mill.metric("keymill_attestation_documents_total", result="unknown_root") == 1


def audited(mill: Daemon) -> None:
    """Records name the module and its measurements, as CloudTrail's do."""
    lines = "".join(path.read_text() for path in sorted((mill.state / "audit").glob("*.jsonl"))).splitlines()
    events = [json.loads(line) for line in lines]
    sealed = [event for event in events if "recipient" in event.get("additionalEventData", {})]
    assert {event["eventName"] for event in sealed} == {"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom"}
    recipient = sealed[0]["additionalEventData"]["recipient"]
    assert recipient["attestationDocumentModuleId"].startswith("i-1234567890abcdef0-enc"), recipient
    assert recipient["attestationDocumentEnclaveImageDigest"] == "00" * 48, recipient


def main() -> None:
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hypervisor, stranger = Hypervisor(folder, "believed"), Hypervisor(folder, "stranger")
        enclave = Enclave(folder, hypervisor)
        with running() as mill:
            message = "Recipient is not supported."
            random = mill.client("admin", tally).generate_random
            refused("UnsupportedOperationException", message, random, NumberOfBytes=32, Recipient=enclave.asks())
        with running(settings=f"[attestation]\nroots = ['{hypervisor.root}']\n") as mill:
            every_operation(mill, tally, enclave)
            rights(mill, tally, enclave)
            refusals(mill, tally, enclave, stranger)
            assert mill.stop() == 0
            audited(mill)
    report("boto3 for attested code", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
