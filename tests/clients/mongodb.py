"""MongoDB's driver on a running daemon over TLS, with a key vault in a real collection: encrypted fields that it opens by itself. The server is FerretDB, which speaks MongoDB's protocol; tests/long has Go build it.

    tests/clients/.venv/bin/python tests/clients/mongodb.py FERRETDB
"""

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pymongo
from bson.codec_options import CodecOptions
from daemon import Daemon, Tally, environment, report, running
from mongocrypt import ALIAS, DATA_KEY_BLOB_BYTES, RANDOM, master_key
from pymongo.encryption import ClientEncryption
from pymongo.encryption_options import AutoEncryptionOpts
from pymongo.errors import EncryptionError
from tls import Authority, client

VAULT = "keys.vault"
# The subtype of BSON's binary values that encrypted fields have.
ENCRYPTED = 6
SECRET = "container-000000000042"


@contextmanager
def server(program: str, folder: Path):
    """FerretDB on a port that the kernel picks, with its tables in a folder; its address."""
    process = subprocess.Popen([Path(program).absolute(), folder], env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=folder, text=True)
    try:
        # One line, once it listens.
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


class Driver:
    """The driver as one of the daemon's principals: what it seals on demand, and opens by itself."""

    def __init__(self, mill: Daemon, role: str, address: str, bundle: Path):
        principal = mill.principal(role)
        providers = {"aws": {"accessKeyId": principal["access_key_id"], "secretAccessKey": principal["secret_access_key"]}}
        trust = {"aws": {"tlsCAFile": str(bundle)}}
        opening = AutoEncryptionOpts(providers, VAULT, bypass_auto_encryption=True, kms_tls_options=trust)
        self.client = pymongo.MongoClient(address, auto_encryption_opts=opening)
        self.encryption = ClientEncryption(providers, VAULT, self.client, CodecOptions(), kms_tls_options=trust)
        self.volumes = self.client["storage"]["volumes"]

    def read(self) -> list[str]:
        return [volume["secret"] for volume in self.volumes.find().sort("_id")]


def rows(address: str, database: str, collection: str) -> list[dict]:
    """A collection as a client sees it that opens nothing."""
    return list(pymongo.MongoClient(address)[database][collection].find())


def fields(mill: Daemon, address: str, bundle: Path, other: str) -> None:
    """The admin has made the data key, the consumer seals and opens, the provisioner does neither; a data key moves to another KMS key."""
    admin, consumer, provisioner = (Driver(mill, role, address, bundle) for role in ("admin", "consumer", "provisioner"))
    key = admin.encryption.create_data_key("aws", master_key(mill, ALIAS), key_alt_names=["volumes"])
    [kept] = rows(address, "keys", "vault")
    assert len(kept["keyMaterial"]) == DATA_KEY_BLOB_BYTES, kept
    secrets = [f"{SECRET}-{number}" for number in range(3)]
    for number, secret in enumerate(secrets):
        consumer.volumes.insert_one({"_id": number, "secret": consumer.encryption.encrypt(secret, RANDOM, key_alt_name="volumes")})
    assert consumer.read() == secrets
    sealed = [row["secret"] for row in rows(address, "storage", "volumes")]
    assert all(value.subtype == ENCRYPTED and SECRET.encode() not in value for value in sealed), sealed
    try:
        provisioner.read()
    except EncryptionError as refused:
        assert "AccessDeniedException" in str(refused), refused
    else:
        raise AssertionError("the provisioner has opened a field")
    moved = admin.encryption.rewrap_many_data_key({}, "aws", master_key(mill, other))
    assert moved.bulk_write_result.modified_count == 1, moved
    assert rows(address, "keys", "vault")[0]["keyMaterial"] != kept["keyMaterial"]
    assert Driver(mill, "consumer", address, bundle).read() == secrets


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="keymill-mongodb-") as name:
        folder, servers = Path(name), Authority(Path(name), "servers")
        certificate, key = servers.server("server")
        with running(settings=f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n') as mill, server(sys.argv[1], folder) as address:
            admin = client(mill, servers.bundle, Tally(), "admin")
            first, second = (admin.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
            admin.create_alias(AliasName=ALIAS, TargetKeyId=first)
            before = mill.metric("keymill_requests_total")
            fields(mill, address, servers.bundle, second)
            report("pymongo", pymongo.version, int(mill.metric("keymill_requests_total") - before))


if __name__ == "__main__":
    main()
