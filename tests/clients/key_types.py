"""boto3 against a running daemon, each answer checked by pyca/cryptography: signatures, OAEP both ways, MACs, shared secrets, and data key pairs
out of a pool, one by one and in a burst; and what a key was last used for."""

import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.config
import daemon
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from daemon import Tally, new_key, refused, wait_until

MESSAGE = b"a message"
ALIAS = "alias/pairs"
RSA = ["RSA_2048", "RSA_3072", "RSA_4096"]
CURVES = {
    "ECC_NIST_P256": (ec.SECP256R1, hashes.SHA256()),
    "ECC_NIST_P384": (ec.SECP384R1, hashes.SHA384()),
    "ECC_NIST_P521": (ec.SECP521R1, hashes.SHA512()),
    "ECC_SECG_P256K1": (ec.SECP256K1, hashes.SHA256()),
}
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
PAIRS = [*RSA, *CURVES, "ECC_NIST_EDWARDS25519"]


def create(admin, spec: str, usage: str) -> str:
    metadata = admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    assert (metadata["KeySpec"], metadata["KeyUsage"], metadata["KeyState"]) == (spec, usage, "Enabled"), metadata
    return metadata["Arn"]


def public_key(client, key: str):
    return serialization.load_der_public_key(client.get_public_key(KeyId=key)["PublicKey"])


def digest(algorithm: hashes.HashAlgorithm) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(MESSAGE)
    return context.finalize()


def verify_outside(public, algorithm: str, signature: bytes) -> None:
    """Raises where the signature does not verify."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, MESSAGE)
        return
    by = HASHES[algorithm[-3:]]
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, MESSAGE, ec.ECDSA(by))
    elif "PSS" in algorithm:
        public.verify(signature, MESSAGE, padding.PSS(padding.MGF1(by), by.digest_size), by)
    else:
        public.verify(signature, MESSAGE, padding.PKCS1v15(), by)


def sign_outside(private, algorithm: str) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(MESSAGE)
    by = HASHES[algorithm[-3:]]
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.sign(digest(by), ec.ECDSA(utils.Prehashed(by)))
    if "PSS" in algorithm:
        return private.sign(MESSAGE, padding.PSS(padding.MGF1(by), by.digest_size), by)
    return private.sign(MESSAGE, padding.PKCS1v15(), by)


def signatures(mill: daemon.Daemon, tally: Tally) -> list[tuple[str, str, bytes]]:
    """Every algorithm of every spec, by message and by digest. Returns a signature of each key, for after a restart."""
    admin, made = mill.client("admin", tally), []
    for spec in PAIRS:
        key = create(admin, spec, "SIGN_VERIFY")
        public = public_key(admin, key)
        algorithms = admin.describe_key(KeyId=key)["KeyMetadata"]["SigningAlgorithms"]
        # Ed25519ph, which cryptography does not have, is in post_quantum.mjs.
        for algorithm in (name for name in algorithms if name != "ED25519_PH_SHA_512"):
            signed = admin.sign(KeyId=key, Message=MESSAGE, SigningAlgorithm=algorithm)
            verify_outside(public, algorithm, signed["Signature"])
            asked = {"KeyId": key, "SigningAlgorithm": algorithm}
            assert admin.verify(Message=MESSAGE, Signature=signed["Signature"], **asked)["SignatureValid"]
            refused(
                "KMSInvalidSignatureException", "", admin.verify,
                Message=b"another", Signature=signed["Signature"], **asked,
            )
            if not algorithm.startswith("ED"):
                hashed = digest(HASHES[algorithm[-3:]])
                signed = admin.sign(Message=hashed, MessageType="DIGEST", **asked)
                verify_outside(public, algorithm, signed["Signature"])
        made.append((key, algorithm, signed["Signature"]))
    return made


def oaep(mill: daemon.Daemon, tally: Tally) -> None:
    """What one side encrypts, the other opens."""
    admin = mill.client("admin", tally)
    for spec in RSA:
        key = create(admin, spec, "ENCRYPT_DECRYPT")
        public = public_key(admin, key)
        for algorithm, by in (("RSAES_OAEP_SHA_1", hashes.SHA1()), ("RSAES_OAEP_SHA_256", hashes.SHA256())):
            longest = public.key_size // 8 - 2 * by.digest_size - 2
            plaintext = b"x" * longest
            sealed = public.encrypt(plaintext, padding.OAEP(padding.MGF1(by), by, None))
            opened = admin.decrypt(KeyId=key, CiphertextBlob=sealed, EncryptionAlgorithm=algorithm)
            assert opened["Plaintext"] == plaintext and opened["KeyId"] == key and "KeyMaterialId" not in opened, opened
            again = admin.encrypt(KeyId=key, Plaintext=plaintext, EncryptionAlgorithm=algorithm)["CiphertextBlob"]
            assert admin.decrypt(KeyId=key, CiphertextBlob=again, EncryptionAlgorithm=algorithm)["Plaintext"] == plaintext
            message = f"Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than {longest} bytes."
            refused(
                "ValidationException", message, admin.encrypt,
                KeyId=key, Plaintext=plaintext + b"x", EncryptionAlgorithm=algorithm,
            )
        refused(
            "InvalidKeyUsageException", "You cannot generate a data key with an asymmetric CMK",
            admin.generate_data_key_without_plaintext, KeyId=key, KeySpec="AES_256",
        )


def macs(mill: daemon.Daemon, tally: Tally) -> None:
    """A MAC is as long as it should be, and nobody else's; that it is HMAC, import_key.py shows, which knows the key."""
    admin = mill.client("admin", tally)
    for bits in (224, 256, 384, 512):
        key, algorithm = create(admin, f"HMAC_{bits}", "GENERATE_VERIFY_MAC"), f"HMAC_SHA_{bits}"
        mac = admin.generate_mac(KeyId=key, Message=MESSAGE, MacAlgorithm=algorithm)["Mac"]
        assert len(mac) == bits // 8
        asked = {"KeyId": key, "Message": MESSAGE, "MacAlgorithm": algorithm}
        assert admin.verify_mac(Mac=mac, **asked)["MacValid"]
        other = hmac.new(b"another key", MESSAGE, hashlib.sha256).digest()
        refused("KMSInvalidMacException", "", admin.verify_mac, Mac=other, **asked)


def agreement(mill: daemon.Daemon, tally: Tally) -> None:
    """The secret is the one that the other end derives."""
    admin = mill.client("admin", tally)
    for spec, (curve, _) in CURVES.items():
        if spec == "ECC_SECG_P256K1":
            continue
        key, other = create(admin, spec, "KEY_AGREEMENT"), ec.generate_private_key(curve())
        theirs = other.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo,
        )
        derived = admin.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=theirs)
        assert derived["SharedSecret"] == other.exchange(ec.ECDH(), public_key(admin, key)), spec


def pairs(mill: daemon.Daemon, tally: Tally) -> None:
    """The private key that Decrypt gives is the one of the public key, and works; later pairs come from the pool."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    new_key(mill, ALIAS, tally)
    seen = set()
    for spec in PAIRS:
        context = {"volume": spec}
        asked = {"KeyId": ALIAS, "KeyPairSpec": spec, "EncryptionContext": context}
        for call in (admin.generate_data_key_pair, admin.generate_data_key_pair_without_plaintext):
            made = call(**asked)
            der = consumer.decrypt(CiphertextBlob=made["PrivateKeyCiphertextBlob"], EncryptionContext=context)["Plaintext"]
            assert made.get("PrivateKeyPlaintext", der) == der
            assert ("PrivateKeyPlaintext" in made) == (call == admin.generate_data_key_pair)
            private = serialization.load_der_private_key(der, None)
            public = serialization.load_der_public_key(made["PublicKey"])
            encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            assert private.public_key().public_bytes(*encoding) == made["PublicKey"], spec
            if isinstance(private, rsa.RSAPrivateKey):
                assert private.key_size == int(spec[4:]) and public.public_numbers().e == 65537
            algorithm = {"ECC_NIST_P384": "384", "ECC_NIST_P521": "512"}.get(spec, "256")
            verify_outside(public, algorithm, sign_outside(private, algorithm))
            assert made["PublicKey"] not in seen
            seen.add(made["PublicKey"])
            refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=made["PrivateKeyCiphertextBlob"])
        wait_until(lambda spec=spec: mill.metric("keymill_pool_depth", lane=f"pairs/{spec}") > 0, 120, f"a pooled {spec}")
        admin.generate_data_key_pair_without_plaintext(**asked)
        assert mill.metric("keymill_data_keys_total", spec=spec, result="hit") > 0, spec
    refused("DryRunOperationException", None, admin.generate_data_key_pair, DryRun=True, **asked)


def burst(mill: daemon.Daemon, tally: Tally) -> None:
    """More at once than may wait: each gets a pair of his own or is told to come again, and whoever asks for something else does not wait behind them."""
    arn = new_key(mill, "alias/burst", tally)[1]
    config = botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=100, read_timeout=120)
    principal = mill.principal("admin")
    client = boto3.client(
        "kms", endpoint_url=mill.endpoint, config=config, region_name=mill.facts["region"],
        aws_access_key_id=principal["access_key_id"], aws_secret_access_key=principal["secret_access_key"],
    )
    client.meta.events.register("after-call.kms", tally.count)

    def ask(_) -> bytes | None:
        try:
            return client.generate_data_key_pair_without_plaintext(KeyId=arn, KeyPairSpec="RSA_3072")["PublicKey"]
        except client.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "ThrottlingException", error.response
            return None

    before = mill.metric("keymill_throttled_total", scope="pairs")
    with ThreadPoolExecutor(100) as threads:
        asked = threads.map(ask, range(100))
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            client.generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256")
            slowest = max(slowest, time.monotonic() - began)
        pairs = [pair for pair in asked if pair is not None]
    throttled = mill.metric("keymill_throttled_total", scope="pairs") - before
    assert len(pairs) == len(set(pairs)) >= 32 and throttled == 100 - len(pairs) > 0, (len(pairs), throttled)
    assert slowest < 2, f"a data key took {slowest} s while pairs were made"


def last_use(mill: daemon.Daemon, tally: Tally) -> None:
    """What a key was last used for is told by the audit record of that call, to who may ask; a kill and a restart forget nothing."""
    admin = mill.client("admin", tally)
    key, arn, _, _ = new_key(mill, "alias/used", tally)
    unused = admin.get_key_last_usage(KeyId=key)
    assert (unused["KeyId"], unused["KeyLastUsage"]) == (arn, {}), unused
    assert unused["TrackingStartDate"] >= unused["KeyCreationDate"], unused
    for again in (mill.kill, mill.stop):
        encrypted = admin.encrypt(KeyId=key, Plaintext=b"x")
        refused("DryRunOperationException", None, admin.decrypt, CiphertextBlob=encrypted["CiphertextBlob"], DryRun=True)
        refused("InvalidCiphertextException", "", admin.decrypt, CiphertextBlob=b"x", KeyId=key)
        told = admin.get_key_last_usage(KeyId=key)["KeyLastUsage"]
        assert told["Operation"] == "Encrypt", told
        assert told["KmsRequestId"] == encrypted["ResponseMetadata"]["RequestId"], (told, encrypted)
        log = b"".join(file.read_bytes() for file in (mill.state / "audit").glob("*.jsonl")).decode().splitlines()
        record = next(json.loads(line) for line in log if told["CloudTrailEventId"] in line)
        assert (record["eventName"], record["requestID"]) == ("Encrypt", told["KmsRequestId"]), record
        again()
        mill.start()
        admin = mill.client("admin", tally)
        assert admin.get_key_last_usage(KeyId=key)["KeyLastUsage"] == told
    refused("AccessDeniedException", None, mill.client("provisioner", tally).get_key_last_usage, KeyId=key)


def main() -> None:
    # Small lanes: an RSA_4096 pair takes a core more than a second.
    with daemon.step("key types", boto3.__version__, {"KEYMILL_POOL__PAIRS_PER_SPEC": "2"}) as (mill, tally):
        made = signatures(mill, tally)
        oaep(mill, tally)
        macs(mill, tally)
        agreement(mill, tally)
        pairs(mill, tally)
        burst(mill, tally)
        last_use(mill, tally)
        mill.kill()
        mill.start()
        admin = mill.client("admin", tally)
        for key, algorithm, signature in made:
            verify_outside(public_key(admin, key), algorithm, signature)


if __name__ == "__main__":
    main()
