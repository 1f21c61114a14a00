"""Prints envelope-v1.json or envelope-sm4.json: the frozen vectors of blob version 1, made without the daemon.

ChaCha20, AES, SM4, GCM and CMAC of pyca/cryptography; the derivations and the canonical context of open_blobs.py. Run once
and frozen: a file changes only when a version of the format is added. To see that they still say the same:

    PYTHONPATH=tests/clients python3 tests/vectors/envelope_v1.py | diff - tests/vectors/envelope-v1.json
    PYTHONPATH=tests/clients python3 tests/vectors/envelope_v1.py sm4 | diff - tests/vectors/envelope-sm4.json
"""

import hashlib
import hmac
import json
import struct
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from open_blobs import canonical, derive, derive_sm4

# The algorithm of the blobs, its block cipher, the derivation of an epoch key, the bytes of a key.
SM4 = sys.argv[1:] == ["sm4"]
ALGORITHM, CIPHER, DERIVE, KEY_BYTES = (2, algorithms.SM4, derive_sm4, 16) if SM4 else (1, algorithms.AES, derive, 32)
MATERIAL = bytes(range(KEY_BYTES))
# What the operating system is made to draw: prefix 12, start 8, seed 32; `seal` takes its 24-byte
# nonce from the front.
DRAW = bytes(200 - at for at in range(52))
KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
MULTI_REGION_KEY = "mrk-1234abcd12ab34cd56ef1234567890ab"
CONTEXTS = [{}, {"container": "c-1", "tenant": "t"}, {"é": "", "": "ü", "A": "1", "a": "1"}, {"n": "x" * 1000}]


def header(key_id: str, generation: int) -> bytes:
    flags = 1 if key_id.startswith("mrk-") else 0
    digits = bytes.fromhex(key_id.removeprefix("mrk-").replace("-", ""))
    return struct.pack(">BBH", 1, ALGORITHM, flags) + digits + struct.pack(">I", generation)


def drawn(offset: int, length: int) -> bytes:
    """Bytes of the epoch's generator: ChaCha20's keystream under the seed, counter and nonce zero."""
    stream = Cipher(algorithms.ChaCha20(DRAW[20:], bytes(16)), mode=None).encryptor()
    return stream.update(bytes(offset + length))[offset:]


def block(key: bytes, plaintext: bytes) -> bytes:
    encryptor = Cipher(CIPHER(key), modes.ECB()).encryptor()
    return encryptor.update(plaintext) + encryptor.finalize()


def gcm(key: bytes, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
    encryptor = Cipher(CIPHER(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(additional)
    return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag


def finish(head: bytes, nonce: bytes, context: dict[str, str], plaintext: bytes) -> bytes:
    key = DERIVE(MATERIAL, nonce[:12])
    return head + nonce + gcm(key, nonce[12:], plaintext, head + canonical(context))


def minted(how: str, key_id: str, generation: int, index: int, length: int, context: dict[str, str]) -> dict:
    """The blob of the epoch's key `index`, all its keys having one length; the ciphertext comes first."""
    nonce = DRAW[:20] + struct.pack(">I", index)
    ciphertext = drawn(index * length, length)
    counter_mode = Cipher(CIPHER(DERIVE(MATERIAL, nonce[:12])), modes.CTR(nonce[12:] + struct.pack(">I", 2))).encryptor()
    plaintext = counter_mode.update(ciphertext)
    blob = finish(header(key_id, generation), nonce, context, plaintext)
    assert blob[48:-16] == ciphertext
    return case(how, key_id, generation, context, plaintext, blob, index=index, drawn=ciphertext.hex())


def case(how, key_id, generation, context, plaintext, blob, **more) -> dict:
    return {
        "how": how,
        "key_id": key_id,
        "generation": generation,
        **more,
        "context": context,
        "plaintext": plaintext.hex(),
        "blob": blob.hex(),
    }


def sealed(context: dict[str, str], plaintext: bytes) -> dict:
    return case("sealed", KEY, 3, context, plaintext, finish(header(KEY, 3), DRAW[:24], context, plaintext))


def refusals() -> list[dict]:
    nonce, plaintext, context = DRAW[:24], bytes(range(32)), {"container": "c-1", "tenant": "t"}
    head = header(KEY, 3)
    good = finish(head, nonce, context, plaintext)

    def edited(at: int, value: int) -> bytes:
        return good[:at] + bytes([value]) + good[at + 1 :]

    swapped_nonce = finish(head, nonce[12:] + nonce[:12], context, plaintext)
    plain_gcm = head + nonce + gcm(MATERIAL, nonce[12:], plaintext, head + canonical(context))
    unbound_header = head + nonce + gcm(DERIVE(MATERIAL, nonce[:12]), nonce[12:], plaintext, canonical(context))
    cases = [
        ("version 0", edited(0, 0), context),
        ("version 2", edited(0, 2), context),
        ("algorithm 0", edited(1, 0), context),
        ("XAES-256-GCM's algorithm" if SM4 else "SM4's algorithm", edited(1, 3 - ALGORITHM), context),
        ("a flag that means nothing", edited(2, 0x80), context),
        ("the multi-Region flag of a key that is none", edited(3, 1), context),
        ("another key id", edited(4, good[4] ^ 1), context),
        ("another generation", edited(23, 4), context),
        ("generation 0", edited(23, 0), context),
        ("sealed under that generation, whose number the key does not have", finish(header(KEY, 4), nonce, context, plaintext), context),
        ("another prefix", edited(24, good[24] ^ 1), context),
        ("another start", edited(36, good[36] ^ 1), context),
        ("another index", edited(47, good[47] ^ 1), context),
        ("another ciphertext", edited(48, good[48] ^ 1), context),
        ("another tag", edited(len(good) - 1, good[-1] ^ 1), context),
        ("tag of zeros", good[:-16] + bytes(16), context),
        ("nothing", b"", context),
        ("a header alone", head, context),
        ("no ciphertext", finish(head, nonce, context, b""), context),
        ("a byte too few", good[:-1], context),
        ("a byte too many", good + b"\0", context),
        ("4,097 bytes", finish(head, nonce, context, bytes(4097)), context),
        ("the halves of the nonce swapped after sealing", good[:24] + swapped_nonce[24:48] + good[48:], context),
        (f"{'SM4' if SM4 else 'AES-256'}-GCM under the backing key itself", plain_gcm, context),
        ("a header that is not authenticated", unbound_header, context),
        ("no context", good, {}),
        ("a pair missing", good, {"container": "c-1"}),
        ("a pair added", good, context | {"": ""}),
        ("another value", good, context | {"tenant": "T"}),
        ("another case of a name", good, {"Container": "c-1", "tenant": "t"}),
        ("values exchanged", good, {"container": "t", "tenant": "c-1"}),
        ("a boundary moved", good, {"containerc": "-1", "tenant": "t"}),
    ]
    return [{"why": why, "context": context, "blob": blob.hex()} for why, blob, context in cases]


def main() -> None:
    label = b"keymill key material id v1" + header(KEY, 1)[4:20]
    cases = []
    for context in CONTEXTS:
        for how, index in [("hit", 0), ("hit", 5), ("miss", 0), ("batch", 3)]:
            cases.append(minted(how, KEY, 3, index, 32, context))
    for length in [16, 64, 128, 1024]:
        cases.append(minted("hit", KEY, 3, 2, length, CONTEXTS[1]))
        cases.append(minted("batch", KEY, 3, 2, length, CONTEXTS[1]))
    for length in [1, 17, 100]:
        cases.append(minted("miss", KEY, 3, 0, length, CONTEXTS[1]))
    cases.append(minted("miss", MULTI_REGION_KEY, 0x01020304, 0, 32, CONTEXTS[1]))
    for length in [1, 15, 16, 4096]:
        cases.append(sealed(CONTEXTS[1], (bytes(range(256)) * 16)[:length]))
    document = {
        "material": MATERIAL.hex(),
        "key_material_id": hmac.digest(MATERIAL, label, hashlib.sha256).hex(),
        "draw": DRAW.hex(),
        "epoch_key": DERIVE(MATERIAL, DRAW[:12]).hex(),
        "ghash_key": block(DERIVE(MATERIAL, DRAW[:12]), bytes(16)).hex(),
        "cases": cases,
        "refusals": refusals(),
    }
    print(json.dumps(document, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
