"""The root key under a key in a token: SoftHSM2, which signs by AES-CMAC, and the software token of openCryptoki, which has AES-ECB and no CMAC.

A store that was sealed with one of them opens with the other one if it holds the same key, and with no other key. What goes wrong with a token is named: no module,
no token, a wrong or locked PIN, no key or two, a key that may do neither, and a token whose daemon is away.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from daemon import ALIAS, BINARY, Daemon, Tally, environment, report

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
OPENCRYPTOKI = "/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so"
PIN, OFFICER = "82649173", "57390264"
# What openCryptoki gives to the security officer of a new token.
FIRST_OFFICER = "87654321"
# Its slot of the software token, in the configuration that Debian has.
SLOT = "3"


# openCryptoki has its tokens and its daemon in places of the whole machine: what is there is left
# alone.
APART = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
PLACES = """
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/opencryptoki
for place in /run/lock/opencryptoki /var/lib/opencryptoki; do
    for token in ccatok ep11tok icsf lite swtok tpm; do
        install -d -m 770 -g pkcs11 $place $place/$token $place/$token/TOK_OBJ
    done
done
pkcsslotd
exec "$@"
"""


def run(*command: str | Path, status: int = 0, **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**more), check=False, timeout=60)
    assert done.returncode == status, f"{command}: {done}"
    return done.stdout + done.stderr


class Token:
    """A token with a user's PIN, and what the daemon is told of it."""

    def __init__(self, folder: Path, name: str, module: str, **variables: str):
        self.name, self.module, self.variables = name, module, variables
        self.place = {"TOKEN": name}
        self.pin_file = folder / f"{name}.pin"
        self.write_pin(PIN)

    def write_pin(self, pin: str) -> None:
        self.pin_file.touch(mode=0o600)
        self.pin_file.write_text(f"{pin}\n")

    def tool(self, *words: str | Path) -> str:
        return run("pkcs11-tool", "--module", self.module, "--token-label", self.name, "--login", "--pin", PIN, *words, **self.variables)

    def put(self, key: Path, label: str, *usage: str) -> None:
        """A key of 32 bytes, which other programs of the token cannot read."""
        self.tool("--write-object", key, "--type", "secrkey", "--key-type", "AES:32", "--label", label, "--sensitive", *usage)

    def settings(self, key: str = "root", **changes: str) -> dict[str, str]:
        said = {"MODULE": self.module, **self.place, "KEY": key, "PIN_FILE": str(self.pin_file)} | changes
        return self.variables | {f"KEYMILL_PKCS11__{name}": value for name, value in said.items()}


def softhsm(folder: Path, name: str) -> Token:
    tokens = folder / name
    tokens.mkdir(mode=0o700)
    conf = folder / f"{name}.conf"
    conf.write_text(f"directories.tokendir = {tokens}\n")
    run("softhsm2-util", "--init-token", "--free", "--label", name, "--pin", PIN, "--so-pin", OFFICER, SOFTHSM2_CONF=str(conf))
    return Token(folder, name, SOFTHSM, SOFTHSM2_CONF=str(conf))


def opencryptoki(folder: Path) -> Token:
    """The software token, which is new."""
    run("pkcs11-tool", "--module", OPENCRYPTOKI, "--slot", SLOT, "--init-token", "--label", "okm", "--so-pin", FIRST_OFFICER)
    run("pkcsconf", "-c", SLOT, "-P", "-S", FIRST_OFFICER, "-n", OFFICER)
    run("pkcsconf", "-c", SLOT, "-u", "-S", OFFICER, "-n", PIN)
    token = Token(folder, "okm", OPENCRYPTOKI)
    # What it says of its clock is not of the standard's form, so its label cannot be had.
    token.place = {"SLOT": SLOT}
    return token


def opens(mill: Daemon, settings: dict[str, str], blob: bytes, tally: Tally) -> None:
    """The daemon starts with this token, and has the keys that it had."""
    mill.overrides = settings
    mill.start()
    assert len(mill.client("consumer", tally).decrypt(CiphertextBlob=blob)["Plaintext"]) == 32
    assert mill.stop() == 0


def refuses(mill: Daemon, settings: dict[str, str], *words: str) -> None:
    """The store stays closed, for this reason."""
    said = run(BINARY, "store", "check", "--dir", mill.state, status=78, **settings)
    assert len(said.splitlines()) == 1 and all(word in said for word in words), said
    assert PIN not in said, said


def faults(mill: Daemon, token: Token, folder: Path) -> None:
    """Each with a line that says what to do."""
    refuses(mill, token.settings(MODULE=str(folder / "absent.so")), "PKCS #11 module", "absent.so cannot be used")
    refuses(mill, token.settings(MODULE=str(BINARY)), "cannot be used")
    refuses(mill, token.settings(TOKEN="other", SLOT="-1"), "has 0 tokens with the label \"other\"", "set pkcs11.slot")
    refuses(mill, token.settings(TOKEN="other", SLOT="3"), "pkcs11.slot", "stands in place of, and not beside, pkcs11.token")
    refuses(mill, token.settings(TOKEN="", SLOT="-1"), "pkcs11.token", "is needed with pkcs11.module")
    refuses(mill, token.settings(TOKEN="", SLOT="777"), "PKCS #11 token \"slot 777\": C_OpenSession has failed:")
    refuses(mill, token.settings(key="absent"), "has 0 AES keys with the label \"absent\": it must have one")
    refuses(mill, token.settings(key="another"), "does not open with the key in PKCS #11 token", "it is another one")
    refuses(mill, token.settings(PIN_FILE=str(folder / "absent.pin")), "the PIN of PKCS #11 token", "No such file")
    refuses(mill, token.settings(PIN_FILE=""), "pkcs11.pin_file", "is needed with pkcs11.module")
    refuses(mill, {}, "is sealed under a key in a PKCS #11 token: name it in [pkcs11]")
    token.pin_file.chmod(0o644)
    refuses(mill, token.settings(), "has mode 0644: allow only its owner to read it")
    token.pin_file.chmod(0o600)
    token.write_pin("11111111")
    refuses(mill, token.settings(), "refuses the PIN in", "a token locks itself after a few")
    token.write_pin(PIN)


def main() -> None:
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="hsm-") as name:
        folder = Path(name)
        key, another = folder / "key", folder / "another"
        for file in (key, another):
            file.write_bytes(os.urandom(32))
        soft, second, other = softhsm(folder, "softhsm"), opencryptoki(folder), softhsm(folder, "others")
        for token in (soft, second):
            token.put(key, "root", "--usage-sign", "--usage-decrypt")
            token.put(another, "another", "--usage-sign", "--usage-decrypt")
        mill = Daemon(folder)
        try:
            mill.start()
            blob = mill.client("provisioner", tally).generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")["CiphertextBlob"]
            assert mill.stop() == 0
            clear = (mill.state / "root.key").read_text()
            for token in (soft, second):
                said = run(BINARY, "root", "seal", "--dir", mill.state, "--pkcs11", **token.settings())
                assert "keep [pkcs11] in the configuration" in said, said
                sealed = (mill.state / "root.key").read_text()
                assert re.fullmatch(r"keymill-root-key-v2 pkcs11 [0-9a-f]{24} [0-9a-f]{144}\n", sealed), sealed
                assert clear.split()[1] not in sealed
                # By AES-CMAC in one, by AES-ECB in the other: the same key.
                opens(mill, soft.settings(), blob, tally)
                opens(mill, second.settings(), blob, tally)
            faults(mill, soft, folder)
            faults(mill, second, folder)
            refuses(mill, other.settings(TOKEN="softhsm"), "has 0 tokens with the label \"softhsm\"", "others")
            soft.put(another, "root", "--usage-sign", "--usage-decrypt")
            refuses(mill, soft.settings(), "has 2 AES keys with the label \"root\"")
            refuses(
                mill, second.settings() | {"KEYMILL_STORE__PASSPHRASE_FILE": str(key)},
                "store.passphrase_file", "stands in place of, and not beside, pkcs11.module",
            )
            # Without the token, the shares remain.
            run(BINARY, "root", "export", "--dir", mill.state, "--shares", "2/3", "--out", folder / "shares", **second.settings())
            (mill.state / "root.key").unlink()
            run(BINARY, "root", "import", folder / "shares/share-1", folder / "shares/share-3", "--out", mill.state / "root.key")
            assert (mill.state / "root.key").read_text() == clear
            opens(mill, {}, blob, tally)
            locked(mill, second)
        finally:
            mill.kill()
    version = run("pkcs11-tool", "--module", SOFTHSM, "--show-info", SOFTHSM2_CONF=os.devnull)
    version = re.search(r"Library .* \(ver ([\d.]+)\)", version)[1]
    report("SoftHSM2 and openCryptoki", version, tally.calls)


def locked(mill: Daemon, token: Token) -> None:
    """A token that has locked itself, and one whose daemon has gone."""
    run(BINARY, "root", "seal", "--dir", mill.state, "--pkcs11", **token.settings())
    token.write_pin("11111111")
    for _ in range(10):
        said = run(BINARY, "store", "check", "--dir", mill.state, status=78, **token.settings())
        if "is locked after wrong PINs" in said:
            break
        assert "refuses the PIN in" in said, said
    else:
        raise AssertionError("the token never locked itself")
    run("pkill", "-x", "pkcsslotd")
    refuses(mill, token.settings(), "PKCS #11 module", "C_Initialize has failed")


if __name__ == "__main__":
    if sys.argv[1:] == ["apart"]:
        main()
    else:
        os.execvp(APART[0], [*APART, PLACES, "sh", sys.executable, __file__, "apart"])
