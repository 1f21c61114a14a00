"""Opens ciphertext blobs by an implementation that shares nothing with the daemon.

XAES-256-GCM (https://c2sp.org/XAES-256-GCM) over pyca/cryptography, blob version 1 and the canonical encryption
context. Reads JSON lines {"material", "context", "blob", "plaintext"}, byte strings in hex; exits 1 at the first that fails.
"""

import json
import struct
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def aes_block(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def derive(key: bytes, prefix: bytes) -> bytes:
    """Kx of the specification, from the first 12 bytes of the nonce."""
    doubled = int.from_bytes(aes_block(key, bytes(16)), "big") << 1
    if doubled >> 128:
        doubled = (doubled & ((1 << 128) - 1)) ^ 0b10000111
    halves = []
    for counter in (1, 2):
        message = int.from_bytes(bytes([0, counter, ord("X"), 0]) + prefix, "big")
        halves.append(aes_block(key, (message ^ doubled).to_bytes(16, "big")))
    return b"".join(halves)


def canonical(context: dict[str, str]) -> bytes:
    if not context:
        return b""
    pairs = sorted((name.encode(), value.encode()) for name, value in context.items())
    texts = b"".join(struct.pack(">H", len(text)) + text for pair in pairs for text in pair)
    return struct.pack(">H", len(pairs)) + texts


def open_blob(material: bytes, context: dict[str, str], blob: bytes) -> bytes:
    version, algorithm, flags = blob[0], blob[1], struct.unpack(">H", blob[2:4])[0]
    if (version, algorithm) != (1, 1) or flags & ~1:
        raise ValueError("not a version 1 blob of XAES-256-GCM")
    nonce = blob[24:48]
    return AESGCM(derive(material, nonce[:12])).decrypt(
        nonce[12:], blob[48:], blob[:24] + canonical(context)
    )


def main() -> int:
    opened = 0
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            material, blob = bytes.fromhex(case["material"]), bytes.fromhex(case["blob"])
            plaintext = open_blob(material, case["context"], blob)
            if plaintext.hex() != case["plaintext"]:
                print(f"line {opened + 1}: opens to something else")
                return 1
            opened += 1
    print(f"{opened} blobs opened")
    return 0 if opened else 1


if __name__ == "__main__":
    sys.exit(main())
