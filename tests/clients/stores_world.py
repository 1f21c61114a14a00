"""A daemon whose custom key stores are those of a second daemon's external key store proxy, and what made-up requests may name of them."""

import base64
import contextlib
import ipaddress
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from custom_key_stores import HOST, MILL, credential, described, members
from daemon import Daemon, Tally, running, wait_until
from tls import Authority, client
from xks import user

REGION = "us-east-1"
# The key stores that every block of requests has keys in, and paths that any key store may take.
LASTING = {"there": "/there/kms/xks/v1", "beside": "/beside/kms/xks/v1"}
FREE = [f"/free-{number}/kms/xks/v1" for number in range(8)]
SPARE = 3
# An external key is for one KMS key: those of each block's keys, and those for made-up ones.
KEYS_OF_BLOCK, BLOCKS_MAX, MADE_UP_KEYS = 3, 40, 60
VAULT = """
[tls]
certificate = "{certificate}"
key = "{key}"
"""


def external_ids(store: str) -> list[str]:
    return [f"{store}-{number}" for number in range(KEYS_OF_BLOCK * BLOCKS_MAX)]


def made_up_ids() -> list[str]:
    return [f"made-up-{number}" for number in range(MADE_UP_KEYS)]


def vault_settings(certificate: str, key: str) -> str:
    text = VAULT.format(certificate=certificate, key=key)
    paths = list(LASTING.values()) + FREE
    for path in paths:
        name = path.split("/")[1]
        text += f'[xks.{name}]\nuri_path = "{path}"\nprincipal = "arn:aws:iam::111122223333:user/aws-kms"\nregions = ["{REGION}"]\n'
    for store in LASTING:
        for external in external_ids(store) + made_up_ids():
            text += f'[xks_keys.{store}-{external}]\nstore = "{store}"\nid = "{external}"\nkey = "alias/main"\n'
        text += f'[xks_keys.{store}-encrypts]\nstore = "{store}"\nid = "encrypts"\nkey = "alias/main"\nusage = ["ENCRYPT"]\n'
    return text


class KeyStores:
    """The key stores of the daemon, put in order for each block of requests."""

    def __init__(self, mill: Daemon, vault: Daemon):
        self.kms, self.vault = mill.client("admin"), vault
        self.signs = credential(vault, LASTING["there"])
        self.lasting = {name: self.made(name, path) for name, path in LASTING.items()}

    def made(self, name: str, path: str) -> str:
        return self.kms.create_custom_key_store(**members(name, self.signs, XksProxyUriPath=path))["CustomKeyStoreId"]

    def settled(self, store: str) -> str:
        """The state of its connection, once that is one."""
        wait_until(lambda: described(self.kms, store)["ConnectionState"] != "CONNECTING", 30, f"{store} stays connecting")
        return described(self.kms, store)["ConnectionState"]

    def disconnected(self, store: str) -> None:
        if self.settled(store) != "DISCONNECTED":
            self.kms.disconnect_custom_key_store(CustomKeyStoreId=store)

    def cleared(self) -> list[str]:
        """Removes what the last block has left, as far as it can be removed; the key stores that stay."""
        stay = []
        for entry in self.kms.describe_custom_key_stores()["CustomKeyStores"]:
            store = entry["CustomKeyStoreId"]
            if store in self.lasting.values():
                continue
            self.disconnected(store)
            try:
                self.kms.delete_custom_key_store(CustomKeyStoreId=store)
            except self.kms.exceptions.CustomKeyStoreHasCMKsException:
                stay.append(store)
        return stay

    def restored(self, name: str) -> str:
        """A lasting key store as it was made, and connected."""
        store, path = self.lasting[name], LASTING[name]
        self.disconnected(store)
        self.kms.update_custom_key_store(
            CustomKeyStoreId=store, NewCustomKeyStoreName=name, XksProxyUriEndpoint=f"https://{HOST}", XksProxyUriPath=path,
            XksProxyAuthenticationCredential=self.signs,
        )
        self.kms.connect_custom_key_store(CustomKeyStoreId=store)
        assert self.settled(store) == "CONNECTED", described(self.kms, store)
        return store

    def facts(self, block: int) -> dict:
        """What requests of this block may name, by the members that take it."""
        stay, keys, sealed = self.cleared(), [], []
        assert block < BLOCKS_MAX, f"there are external keys for {BLOCKS_MAX} blocks"
        for name in LASTING:
            store = self.restored(name)
            for external in external_ids(name)[KEYS_OF_BLOCK * block :][:KEYS_OF_BLOCK]:
                made = self.kms.create_key(Origin="EXTERNAL_KEY_STORE", CustomKeyStoreId=store, XksKeyId=external)["KeyMetadata"]
                keys += [made["KeyId"], made["Arn"]]
                sealed.append(self.kms.encrypt(KeyId=made["KeyId"], Plaintext=b"x")["CiphertextBlob"])
                sealed.append(self.kms.generate_data_key_without_plaintext(KeyId=made["KeyId"], KeySpec="AES_256")["CiphertextBlob"])
            self.kms.disable_key(KeyId=keys[-1])
        self.kms.disconnect_custom_key_store(CustomKeyStoreId=self.lasting["beside"])
        taken = {described(self.kms, store)["XksProxyConfiguration"]["UriPath"] for store in stay}
        free = [path for path in FREE if path not in taken]
        room = max(0, min(SPARE, 9 - len(LASTING) - len(stay)))
        spare = [self.made(f"spare {number}", path) for number, path in enumerate(free[:room])]
        stores = [*self.lasting.values(), *spare, *stay]
        blobs = [base64.b64encode(blob).decode() for blob in sealed]
        names = [*LASTING, "made up", "another"]
        sound = {
            "CreateKey": [
                {"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": store, "XksKeyId": external}
                for store in self.lasting.values() for external in [*made_up_ids(), "encrypts", "none"]
            ],
            "CreateCustomKeyStore": [members(f"{name} {path}", self.signs, XksProxyUriPath=path) for name in names for path in free],
            # One of them is connected for most of the time.
            "ConnectCustomKeyStore": [{"CustomKeyStoreId": self.lasting["there"]}],
            "DisconnectCustomKeyStore": [{"CustomKeyStoreId": store} for store in stores[1:]],
            "Decrypt": [{"CiphertextBlob": blob} for blob in blobs],
            "Encrypt": [{"KeyId": key, "Plaintext": "AAEC"} for key in keys],
            "GenerateDataKey": [{"KeyId": key, "KeySpec": "AES_256"} for key in keys],
            "GenerateDataKeyWithoutPlaintext": [{"KeyId": key, "NumberOfBytes": 7} for key in keys],
            "ReEncrypt": [{"CiphertextBlob": blob, "DestinationKeyId": key} for blob in blobs for key in keys],
            "UpdateCustomKeyStore": [{"CustomKeyStoreId": store, "NewCustomKeyStoreName": f"{name} {store}"} for store in stores for name in names],
        }
        return {
            "KeyId": keys, "CiphertextBlob": blobs, "CustomKeyStoreId": [*stores * 2, "cks-1234567890abcdef0", "cks-0"], "CustomKeyStoreName": names,
            "XksKeyId": [*made_up_ids()[:5], external_ids("there")[0], "encrypts", "none", "a/b"],
            "XksProxyUriEndpoint": [f"https://{HOST}"] * 3 + ["https://nowhere.example", "https://192.0.2.1"],
            "XksProxyUriPath": [*free, "/none/kms/xks/v1", "/free-0/kms/xks/v2"], "AccessKeyId": [self.signs["AccessKeyId"]],
            "RawSecretAccessKey": [self.signs["RawSecretAccessKey"]], "Sound": sound,
        }

    def served(self) -> int:
        """How often the proxy has encrypted or decrypted."""
        return int(sum(self.vault.metric("keymill_requests_total", operation=operation, code="OK") for operation in ("XksEncrypt", "XksDecrypt")))


@contextlib.contextmanager
def with_key_stores():
    """The daemon that is called, and its key stores."""
    with tempfile.TemporaryDirectory(prefix="keymill-stores-") as name, contextlib.ExitStack() as stack:
        authority = Authority(Path(name), "servers")
        names = x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate, private = authority.issue("server", "server", ExtendedKeyUsageOID.SERVER_AUTH, *names)
        vault = stack.enter_context(running(settings=vault_settings(certificate, private)))
        user(vault, "aws-kms")
        admin = client(vault, authority.bundle, Tally(), "admin")
        admin.create_alias(AliasName="alias/main", TargetKeyId=admin.create_key()["KeyMetadata"]["KeyId"])
        # Both daemons and the clients are on one machine: AWS KMS's 250 ms would be a test of it.
        port = vault.endpoint.rsplit(":", 1)[1]
        mill = stack.enter_context(running(settings=MILL.format(port=port, ca=authority.bundle, timeout=5_000)))
        yield mill, KeyStores(mill, vault)
