"""Opens ciphertext blobs by an implementation that shares nothing with the daemon.

XAES-256-GCM (https://c2sp.org/XAES-256-GCM) and SM4-GCM over pyca/cryptography, blob version 1 and the canonical
encryption context. Reads JSON lines {"key_id", "generation", "material" in hex, "context", "blob" in base64, "plaintext" in hex or "length"},
opens every one, also checks that each refuses a context that lacks or adds a pair, and exits 1 if any line fails.

    python3 tests/clients/open_blobs.py target/tmp/blobs.jsonl
"""

import base64
import json
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import cmac
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


def derive_sm4(key: bytes, prefix: bytes) -> bytes:
    """SM4-CMAC of one block: the derivation above, for a key of one block."""
    mac = cmac.CMAC(algorithms.SM4(key))
    mac.update(bytes([0, 1, ord("S"), 0]) + prefix)
    return mac.finalize()


def sm4_gcm_open(key: bytes, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
    decryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce, sealed[-16:])).decryptor()
    decryptor.authenticate_additional_data(additional)
    return decryptor.update(sealed[:-16]) + decryptor.finalize()


def canonical(context: dict[str, str]) -> bytes:
    if not context:
        return b""
    pairs = sorted((name.encode(), value.encode()) for name, value in context.items())
    texts = b"".join(struct.pack(">H", len(text)) + text for pair in pairs for text in pair)
    return struct.pack(">H", len(pairs)) + texts


def open_blob(material: bytes, key_id: str, generation: int, context: dict[str, str], blob: bytes) -> bytes:
    version, algorithm, flags = struct.unpack(">BBH", blob[:4])
    # The algorithm is the key's: AES-256 keys have 32 bytes and SM4 keys 16.
    if (version, algorithm) != (1, {32: 1, 16: 2}[len(material)]) or flags & ~1:
        raise ValueError("not a version 1 blob of the key's algorithm")
    digits = key_id.removeprefix("mrk-").replace("-", "")
    if (blob[4:20].hex(), flags) != (digits, int(key_id.startswith("mrk-"))):
        raise ValueError("names another key")
    if struct.unpack(">I", blob[20:24])[0] != generation:
        raise ValueError("names another generation")
    nonce, sealed = blob[24:48], blob[48:]
    if algorithm == 2:
        return sm4_gcm_open(derive_sm4(material, nonce[:12]), nonce[12:], sealed, blob[:24] + canonical(context))
    return AESGCM(derive(material, nonce[:12])).decrypt(nonce[12:], sealed, blob[:24] + canonical(context))


def check(case: dict) -> None:
    key = bytes.fromhex(case["material"]), case["key_id"], case["generation"]
    blob, context = base64.b64decode(case["blob"], validate=True), case["context"]
    plaintext = open_blob(*key, context, blob)
    if len(plaintext) != case.get("length", len(plaintext)) or plaintext.hex() != case.get("plaintext", plaintext.hex()):
        raise ValueError("opens to something else")
    others = [context | {"one name": "more"}]
    if context:
        others.append({name: context[name] for name in list(context)[1:]})
    for other in others:
        try:
            open_blob(*key, other, blob)
        except InvalidTag:
            continue
        raise ValueError("opens under another context")


def main() -> int:
    opened = failed = 0
    with open(sys.argv[1], encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                check(json.loads(line))
                opened += 1
            except (InvalidTag, ValueError, KeyError) as error:
                print(f"line {number}: {error!r}", file=sys.stderr)
                failed += 1
    print(f"{opened} blobs opened, {failed} failed")
    return 0 if opened and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
