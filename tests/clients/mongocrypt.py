"""libmongocrypt, which MongoDB's drivers encrypt fields with, on a running daemon over TLS: data keys, fields, and data keys that move to another KMS key.

It signs and reads HTTP by itself and leaves only the socket to its caller. The key vault, a collection in MongoDB, is a dictionary here.
"""

import socket
import ssl
import tempfile
from pathlib import Path

import bson
import daemon
import pymongocrypt
from bson.binary import STANDARD
from daemon import Daemon, Tally, refused, running
from pymongocrypt.errors import MongoCryptError
from pymongocrypt.options import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback
from tls import Authority, client

ALIAS = "alias/mongo"
DETERMINISTIC = "AEAD_AES_256_CBC_HMAC_SHA_512-Deterministic"
RANDOM = "AEAD_AES_256_CBC_HMAC_SHA_512-Random"
OPTIONS = bson.CodecOptions(uuid_representation=STANDARD)
# What libmongocrypt makes and wraps for a field: 96 bytes.
DATA_KEY_BLOB_BYTES = daemon.BLOB_BYTES - 32 + 96
VALUES = [f"container-{number:012}" for number in range(10)] + [7, {"tenant": "Zoë", "sizes": [1, 2, 3]}]


class Driver(MongoCryptCallback):
    """What a driver does for libmongocrypt: sockets, BSON and the key vault."""

    def __init__(self, bundle: Path, vault: dict[bytes, bytes], tally: Tally):
        self.tls = ssl.create_default_context(cafile=bundle)
        self.vault = vault
        self.tally = tally

    def kms_request(self, kms_context) -> None:
        host, port = kms_context.endpoint.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw, self.tls.wrap_socket(raw, server_hostname=host) as wrapped:
            wrapped.sendall(kms_context.message)
            self.tally.count()
            while (needed := kms_context.bytes_needed) > 0:
                data = wrapped.recv(needed)
                assert data, "the daemon closed the connection inside of an answer"
                kms_context.feed(data)

    def fetch_keys(self, filter):
        wanted = bson.decode(filter, OPTIONS)["$or"][0]["_id"]["$in"] if filter != bson.encode({}) else []
        for name, key in self.vault.items():
            if not wanted or name in [identifier.bytes for identifier in wanted]:
                yield key

    def insert_data_key(self, data_key: bytes) -> bytes:
        name = bson.decode(data_key, OPTIONS)["_id"].bytes
        self.vault[name] = data_key
        return name

    def bson_encode(self, doc) -> bytes:
        return bson.encode(doc)

    def collection_info(self, database, filter):
        raise AssertionError("explicit encryption asks for no collection")

    def mark_command(self, database, cmd):
        raise AssertionError("explicit encryption marks no command")

    def close(self) -> None:
        pass


def encrypter(mill: Daemon, role: str, driver: Driver, **changes: str) -> ExplicitEncrypter:
    principal = mill.principal(role) | changes
    credentials = {"accessKeyId": principal["access_key_id"], "secretAccessKey": principal["secret_access_key"]}
    return ExplicitEncrypter(driver, MongoCryptOptions({"aws": credentials}))


def fails(says: str, call, /, *arguments, **named) -> None:
    try:
        call(*arguments, **named)
    except MongoCryptError as error:
        assert says in str(error), f"{error} instead of {says}"
        return
    raise AssertionError(f"no failure that says {says}")


def master_key(mill: Daemon, key: str) -> dict[str, str]:
    return {"region": mill.facts["region"], "key": key, "endpoint": mill.endpoint.removeprefix("https://")}


def wrapped_of(vault: dict[bytes, bytes], name: bytes) -> bytes:
    return bson.decode(vault[name], OPTIONS)["keyMaterial"]


def fields(mill: Daemon, driver: Driver, key: str) -> tuple[bytes, list[bytes]]:
    """A data key by the admin, fields with it by the consumer, nothing by the provisioner."""
    name = encrypter(mill, "admin", driver).create_data_key("aws", master_key(mill, key))
    assert len(wrapped_of(driver.vault, name)) == DATA_KEY_BLOB_BYTES, driver.vault[name]
    calls = driver.tally.calls
    writer, sealed = encrypter(mill, "consumer", driver), []
    for value in VALUES:
        plain = bson.encode({"v": value})
        algorithm = RANDOM if isinstance(value, dict) else DETERMINISTIC
        field = writer.encrypt(plain, algorithm, key_id=name)
        assert not isinstance(value, str) or value.encode() not in field, field
        assert (field == writer.encrypt(plain, algorithm, key_id=name)) == (algorithm == DETERMINISTIC), value
        sealed.append(field)
    assert driver.tally.calls == calls + 1, "the opened data key was not kept"
    opens(mill, driver, sealed)
    fails("AccessDeniedException", encrypter(mill, "provisioner", driver).decrypt, sealed[0])
    fails("AccessDeniedException", encrypter(mill, "consumer", driver).create_data_key, "aws", master_key(mill, key))
    fails("InvalidSignatureException", encrypter(mill, "consumer", driver, secret_access_key="not the secret").decrypt, sealed[0])
    fails("NotFoundException", encrypter(mill, "admin", driver).create_data_key, "aws", master_key(mill, "alias/nobody"))
    return name, sealed


def opens(mill: Daemon, driver: Driver, sealed: list[bytes]) -> None:
    reader = encrypter(mill, "consumer", driver)
    assert [bson.decode(reader.decrypt(field))["v"] for field in sealed] == VALUES


def rewrapped(mill: Daemon, driver: Driver, name: bytes, sealed: list[bytes], other: str) -> None:
    """Data keys move to another KMS key; the fields stay as they are."""
    before = wrapped_of(driver.vault, name)
    answer = encrypter(mill, "admin", driver).rewrap_many_data_key({}, "aws", master_key(mill, other))
    for key in bson.decode(answer, OPTIONS)["v"]:
        document = bson.decode(driver.vault[key["_id"].bytes], OPTIONS)
        driver.vault[key["_id"].bytes] = bson.encode(document | {"keyMaterial": key["keyMaterial"], "masterKey": key["masterKey"]}, codec_options=OPTIONS)
    assert wrapped_of(driver.vault, name) != before
    opens(mill, driver, sealed)


def main() -> None:
    tally, vault = Tally(), {}
    with tempfile.TemporaryDirectory(prefix="keymill-mongo-") as folder:
        servers = Authority(Path(folder), "servers")
        certificate, key = servers.server("server")
        with running(settings=f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n') as mill:
            admin = client(mill, servers.bundle, Tally(), "admin")
            first, second = (admin.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
            admin.create_alias(AliasName=ALIAS, TargetKeyId=first)
            driver = Driver(servers.bundle, vault, tally)
            name, sealed = fields(mill, driver, ALIAS)
            admin.rotate_key_on_demand(KeyId=first)
            opens(mill, driver, sealed)
            rewrapped(mill, driver, name, sealed, second)
            admin.disable_key(KeyId=first)
            opens(mill, driver, sealed)
            admin.disable_key(KeyId=second)
            fails("DisabledException", encrypter(mill, "consumer", driver).decrypt, sealed[0])
            admin.enable_key(KeyId=second)
            # What it wrapped is an ordinary blob, without a context.
            blob = wrapped_of(vault, name)
            assert len(admin.decrypt(CiphertextBlob=blob, KeyId=second)["Plaintext"]) == 96
            refused("InvalidCiphertextException", "", admin.decrypt, CiphertextBlob=blob, EncryptionContext={"a": "b"})
            edited = bson.decode(vault[name], OPTIONS)
            material = bytearray(edited["keyMaterial"])
            material[-1] ^= 1
            vault[name] = bson.encode(edited | {"keyMaterial": bytes(material)}, codec_options=OPTIONS)
            fails("InvalidCiphertextException", encrypter(mill, "consumer", driver).decrypt, sealed[0])
            assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
    daemon.report("libmongocrypt", pymongocrypt.libmongocrypt_version(), tally.calls)


if __name__ == "__main__":
    main()
