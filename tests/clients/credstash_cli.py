"""credstash on a running daemon: secrets that are sealed under data keys of a KMS key, in a table of moto's DynamoDB. What is kept there is opened once more without credstash."""

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import boto3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from daemon import Daemon, environment, new_key, report, running
from moto.server import ThreadedMotoServer

PROGRAM = Path(sys.executable).parent / "credstash"
TABLE = "credential-store"
NAME, VALUE, CONTEXT = "database.password", "pässwörd with = and spaces", {"tenant": "Zoë", "volume": "vol-42"}


class Shell:
    """The command line of one principal, on the daemon and on moto's DynamoDB, in a folder for its log."""

    def __init__(self, mill: Daemon, role: str, table: str, folder: str):
        self.folder = folder
        self.variables = environment(**mill.credentials(role), AWS_ENDPOINT_URL_DYNAMODB=table, PYTHONUTF8="1")

    def run(self, *arguments: str, fails: str | None = None) -> str:
        """What it printed; `fails` is what it must say when it has to fail."""
        ran = subprocess.run([PROGRAM, *arguments], cwd=self.folder, env=self.variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        said = f"credstash {' '.join(arguments)}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert (ran.returncode != 0) == bool(fails), said
        assert not fails or fails in ran.stderr, said
        return ran.stdout.removesuffix("\n")


def pairs(context: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in context.items()]


def opened_by_hand(mill: Daemon, item: dict) -> str:
    """The secret of an item of the table, with the wrapped key opened by boto3: two halves, one for AES-CTR and one for the HMAC."""
    key = mill.client("consumer").decrypt(CiphertextBlob=base64.b64decode(item["key"]), EncryptionContext=CONTEXT)["Plaintext"]
    assert len(key) == 64, len(key)
    contents = base64.b64decode(item["contents"])
    held = item["hmac"].value if hasattr(item["hmac"], "value") else item["hmac"]
    assert hmac.new(key[32:], contents, hashlib.sha256).hexdigest().encode() == (held if isinstance(held, bytes) else held.encode())
    # A counter that begins at one.
    cipher = Cipher(algorithms.AES(key[:32]), modes.CTR((1).to_bytes(16, "big"))).decryptor()
    return (cipher.update(contents) + cipher.finalize()).decode()


def keep(mill: Daemon, table: str, folder: str, alias: str) -> None:
    admin, consumer, provisioner = (Shell(mill, role, table, folder) for role in ("admin", "consumer", "provisioner"))
    admin.run("setup")
    admin.run("put", "-k", alias, NAME, VALUE, *pairs(CONTEXT))
    admin.run("put", "-k", alias, "-a", NAME, VALUE + "2", *pairs(CONTEXT))
    assert consumer.run("get", NAME, *pairs(CONTEXT)) == VALUE + "2"
    assert consumer.run("get", "-v", "1".zfill(19), NAME, *pairs(dict(reversed(CONTEXT.items())))) == VALUE
    consumer.run("get", NAME, fails="Could not decrypt hmac key with KMS")
    consumer.run("get", NAME, *pairs(CONTEXT | {"volume": "vol-43"}), fails="Could not decrypt hmac key with KMS")
    provisioner.run("get", NAME, *pairs(CONTEXT), fails="AccessDeniedException")
    consumer.run("put", "-k", alias, "other", VALUE, fails="AccessDeniedException")
    admin.run("put", "-k", "alias/nobody", "other", VALUE, fails="NotFoundException")


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    table = f"http://{host}:{port}"
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-credstash-") as folder:
        key, _, alias, _ = new_key(mill, "alias/credstash")
        keep(mill, table, folder, alias)
        calls = sum(mill.metric("keymill_requests_total", operation=operation) for operation in ("GenerateDataKey", "Decrypt"))
        dynamodb = boto3.resource("dynamodb", endpoint_url=table, region_name=mill.facts["region"], aws_access_key_id="x", aws_secret_access_key="x")
        items = {item["version"].lstrip("0"): item for item in dynamodb.Table(TABLE).scan()["Items"]}
        assert {number: opened_by_hand(mill, item) for number, item in items.items()} == {"1": VALUE, "2": VALUE + "2"}
        mill.client("admin").disable_key(KeyId=key)
        Shell(mill, "consumer", table, folder).run("get", NAME, *pairs(CONTEXT), fails="DisabledException")
    server.stop()
    report("credstash", version("credstash"), int(calls))


if __name__ == "__main__":
    main()
