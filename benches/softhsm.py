"""What a data key is to an HSM: SoftHSM2 generates an AES-256 key and wraps it, C_GenerateKey and C_WrapKey, in this process.

    python3 softhsm.py FOLDER

FOLDER is where the token goes. For each line on standard input, a number of threads, keys are made for a while by that many threads with a session each; how many a second is
printed.
"""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

LIBRARIES = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"]
SECONDS = 0.4
PIN = "1234"


class Arguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS, which asks for the operating system's locks."""

    _fields_ = [("mutexes", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_void_p)]

    def __init__(self) -> None:
        super().__init__(flags=2)


def main() -> None:
    folder = Path(sys.argv[1])
    tokens, configuration = folder / "tokens", folder / "softhsm2.conf"
    tokens.mkdir()
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    initialise = ["softhsm2-util", "--init-token", "--free", "--label", "peers", "--pin", PIN, "--so-pin", PIN]
    subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL)

    # After the configuration is there: it is read as the library is loaded.
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism

    path = next(path for path in LIBRARIES if os.path.exists(path))
    library = pkcs11.lib(path)
    # python-pkcs11 initialises without locks, and several threads then fail: once more, with them.
    functions = ctypes.CDLL(path)
    assert functions.C_Finalize(None) == 0
    assert functions.C_Initialize(ctypes.byref(Arguments())) == 0
    token = library.get_token(token_label="peers")
    wrapped = {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False}

    # Whoever is logged in is so in every session of the process.
    first = token.open(user_pin=PIN)

    def make(number: int, end: float, counts: list[int]) -> None:
        with token.open() as session:
            wrapping = session.generate_key(KeyType.AES, 256, store=False)
            while time.monotonic() < end:
                key = session.generate_key(KeyType.AES, 256, store=False, template=wrapped)
                wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP)
                key.destroy()
                counts[number] += 1

    print("ready", flush=True)
    for line in sys.stdin:
        counts = [0] * int(line)
        began = time.monotonic()
        threads = [threading.Thread(target=make, args=(number, began + SECONDS, counts)) for number in range(len(counts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sum(counts) / (time.monotonic() - began), flush=True)
    first.close()


if __name__ == "__main__":
    main()
