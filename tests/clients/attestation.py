"""Attestation documents as AWS Nitro's hypervisor makes them, under a root of this machine: certificates by `cryptography`, COSE_Sign1 (RFC 9052) over `cbor2`."""

import datetime
import time
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.x509.oid import NameOID

# {1: -35}: ES384.
PROTECTED = cbor2.dumps({1: -35})
COSE_SIGN1 = 18
COORDINATE_BYTES = 48


def key_usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )
    return x509.KeyUsage(**dict.fromkeys(names, False) | allowed)


class Hypervisor:
    """A root, an authority below it, and the certificate of a module, which signs documents."""

    def __init__(self, folder: Path, name: str):
        self.names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{part}.{name}")]) for part in ("root", "zonal", "module")]
        self.keys = [ec.generate_private_key(ec.SECP384R1()) for _ in self.names]
        authority = [(x509.BasicConstraints(True, None), True), (key_usage(key_cert_sign=True, crl_sign=True), True)]
        module = [(x509.BasicConstraints(False, None), True), (key_usage(digital_signature=True), True)]
        self.chain = [self.issue(0, 0, authority), self.issue(0, 1, authority), self.issue(1, 2, module)]
        self.root = folder / f"{name}.pem"
        self.root.write_bytes(self.chain[0].public_bytes(serialization.Encoding.PEM))

    def issue(self, issuer: int, subject: int, extensions: list) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self.names[issuer], self.names[subject], self.keys[subject].public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=3))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.keys[issuer], hashes.SHA384())

    def document(self, recipient: "Recipient", **changes) -> bytes:
        """A signed document for the recipient; `changes` of its members, `None` to leave one out."""
        *bundle, certificate = [one.public_bytes(serialization.Encoding.DER) for one in self.chain]
        members = {
            "module_id": "i-1234567890abcdef0-enc0123456789abcdef", "digest": "SHA384", "timestamp": int(time.time() * 1000),
            "pcrs": {index: bytes([index]) * 48 for index in range(16)}, "certificate": certificate, "cabundle": bundle,
            "public_key": recipient.public_key(), "user_data": None, "nonce": None,
        }
        members = {name: value for name, value in (members | changes).items() if value is not None or name not in changes}
        return self.signed(cbor2.dumps(members))

    def signed(self, payload: bytes) -> bytes:
        text = cbor2.dumps(["Signature1", PROTECTED, b"", payload])
        der = self.keys[-1].sign(text, ec.ECDSA(hashes.SHA384()))
        signature = b"".join(number.to_bytes(COORDINATE_BYTES, "big") for number in utils.decode_dss_signature(der))
        return cbor2.dumps(cbor2.CBORTag(COSE_SIGN1, [PROTECTED, {}, payload, signature]))


class Recipient:
    """Code with a key of its own, whose private half never leaves it."""

    def __init__(self, bits: int = 2048):
        self.key = rsa.generate_private_key(65537, bits)

    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def private_pem(self) -> bytes:
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
