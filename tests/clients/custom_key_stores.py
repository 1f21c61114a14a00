"""Custom key stores whose keys live behind another Keymill: boto3 calls one daemon, which calls the external key store proxy of a second, over TLS. A relay between
the two goes silent, or away, when it is told to."""

import contextlib
import ipaddress
import json
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from daemon import Daemon, Tally, refused, report, running, wait_until
from tls import Authority, client
from xks import keymill, user

HOST, PATH, SECOND, REGION = "vault.example", "/orders/kms/xks/v1", "/second/kms/xks/v1", "us-east-1"
STATE, STORE_STATE = "KMSInvalidStateException", "CustomKeyStoreInvalidStateException"
UNSUPPORTED, UNREACHABLE = "UnsupportedOperationException", "XksProxyUriUnreachableException"
CONTEXT = {"container": "42"}
NOT_CONNECTED = (
    "This KMS key is in a custom key store that is not connected to its external key store proxy. Connect the external key store and try the request again."
)
NOT_ENABLED = (
    "The external key associated with this KMS key in an external key store is not enabled in the external key manager. "
    "Enable the external key in the external key manager and retry the request."
)
OTHER_CONTEXT = (
    "The external key store proxy rejected the request because the specified ciphertext or encryption context is corrupted, missing, or otherwise invalid."
)
NOT_AUTHENTICATED = (
    "The external key store proxy rejected the request because it could not authenticate AWS KMS. "
    "Verify the credentials for your external key store and update if necessary."
)
TOO_LATE = (
    "AWS KMS rejected the request because the external key store proxy did not respond in time. Retry the request. "
    "If you see this error repeatedly, report it to your external key store proxy administrator."
)

VAULT = f"""
[tls]
certificate = "{{certificate}}"
key = "{{key}}"
[xks.orders]
uri_path = "{PATH}"
principal = "arn:aws:iam::111122223333:user/aws-kms"
regions = ["{REGION}"]
[xks.second]
uri_path = "{SECOND}"
principal = "arn:aws:iam::111122223333:user/aws-kms"
regions = ["{REGION}"]
"""
MILL = f"""
[xks_proxies.vault]
host = "{HOST}"
address = "127.0.0.1:{{port}}"
ca_file = "{{ca}}"
timeout_ms = {{timeout}}
[xks_proxies.nowhere]
host = "nowhere.example"
address = "127.0.0.1:1"
ca_file = "{{ca}}"
"""


class Relay:
    """Passes bytes on to an address that may change, or is silent, or is not there."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to: tuple[str, int] | None = None
        self.silent = False
        self.open: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(near)
            if self.to is None:
                self.cut()
            elif not self.silent:
                with contextlib.suppress(OSError):
                    far = socket.create_connection(self.to)
                    self.open.append(far)
                    for ends in ((near, far), (far, near)):
                        threading.Thread(target=self.copy, args=ends, daemon=True).start()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while read := source.recv(65536):
                sink.sendall(read)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Ends every connection that is open."""
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.open.clear()


def vault_settings(certificate: str, key: str) -> str:
    text = VAULT.format(certificate=certificate, key=key)
    for name in ("main", "other"):
        text += f'[xks_keys.{name}]\nstore = "orders"\nid = "{name}"\nkey = "alias/{name}"\n'
    return text + '[xks_keys.encrypts]\nstore = "orders"\nid = "encrypts"\nkey = "alias/main"\nusage = ["ENCRYPT"]\n'


def credential(vault: Daemon, path: str = PATH) -> dict[str, str]:
    """What the vault's operator gives to the administrator of the other daemon."""
    return json.loads(keymill(vault, "principal", "new-xks-credential", "aws-kms", "--uri-path", path))["XksProxyAuthenticationCredential"]


def prepared(vault: Daemon, ca: Path, tally: Tally):
    """An administrator of the vault, which has two external keys."""
    user(vault, "aws-kms")
    admin = client(vault, ca, tally, "admin")
    keys = {name: admin.create_key()["KeyMetadata"]["KeyId"] for name in ("main", "other")}
    for name, key in keys.items():
        admin.create_alias(AliasName=f"alias/{name}", TargetKeyId=key)
    return admin, keys


def members(name: str, signs: dict[str, str], **changes) -> dict:
    return {
        "CustomKeyStoreName": name, "CustomKeyStoreType": "EXTERNAL_KEY_STORE", "XksProxyConnectivity": "PUBLIC_ENDPOINT",
        "XksProxyUriEndpoint": f"https://{HOST}", "XksProxyUriPath": PATH, "XksProxyAuthenticationCredential": signs,
    } | changes


def described(kms, store: str) -> dict:
    answer = kms.describe_custom_key_stores(CustomKeyStoreId=store)
    assert not answer["Truncated"] and len(answer["CustomKeyStores"]) == 1, answer
    return answer["CustomKeyStores"][0]


def connected(kms, store: str) -> None:
    kms.connect_custom_key_store(CustomKeyStoreId=store)
    wait_until(lambda: described(kms, store)["ConnectionState"] == "CONNECTED", 30, "the key store to be connected")


def created(kms, signs: dict[str, str], relay: Relay, address: tuple[str, int]) -> str:
    """The key store, after every way in which it cannot be made."""
    wrong = signs | {"RawSecretAccessKey": "a" * 43}
    create = kms.create_custom_key_store
    refused("XksProxyIncorrectAuthenticationCredentialException", NOT_AUTHENTICATED, create, **members("orders", wrong))
    refused("XksProxyInvalidConfigurationException", None, create, **members("orders", signs, XksProxyUriPath="/other/kms/xks/v1"))
    refused("XksProxyInvalidConfigurationException", None, create, **members("orders", signs, XksProxyUriPath="/orders/kms/xks/v2"))
    refused(UNREACHABLE, None, create, **members("orders", signs, XksProxyUriEndpoint="https://nowhere.example"))
    # Deny by default: a host that the configuration does not name is not called.
    refused(UNREACHABLE, None, create, **members("orders", signs, XksProxyUriEndpoint="https://other.example"))
    refused(UNSUPPORTED, None, create, CustomKeyStoreName="orders", CloudHsmClusterId="cluster-1a23b4cdefg", KeyStorePassword="kmsPswd", TrustAnchorCertificate="x")
    relay.silent = True
    relay.cut()
    refused(UNREACHABLE, TOO_LATE, create, **members("orders", signs))
    relay.silent, relay.to = False, address
    relay.cut()
    store = create(**members("orders", signs))["CustomKeyStoreId"]
    assert store.startswith("cks-") and len(store) == 21, store
    entry = described(kms, store)
    assert entry.pop("CreationDate")
    proxy = {"Connectivity": "PUBLIC_ENDPOINT", "AccessKeyId": signs["AccessKeyId"], "UriEndpoint": f"https://{HOST}", "UriPath": PATH}
    assert entry == {
        "CustomKeyStoreId": store, "CustomKeyStoreName": "orders", "CustomKeyStoreType": "EXTERNAL_KEY_STORE", "ConnectionState": "DISCONNECTED",
        "XksProxyConfiguration": proxy,
    }, entry
    refused("CustomKeyStoreNameInUseException", None, create, **members("orders", signs))
    refused("XksProxyUriInUseException", None, create, **members("more", signs))
    return store


def keys_made(kms, store: str) -> str:
    """The KMS key in the key store, after every way in which it cannot be made."""
    def make(**changes):
        return kms.create_key(**{"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": store, "XksKeyId": "main"} | changes)

    refused(STORE_STATE, NOT_CONNECTED, make)
    connected(kms, store)
    refused("CustomKeyStoreNotFoundException", None, make, CustomKeyStoreId="cks-1234567890abcdef0")
    refused("XksKeyNotFoundException", None, make, XksKeyId="none")
    refused("XksKeyInvalidConfigurationException", None, make, XksKeyId="encrypts")
    refused("ValidationException", None, make, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    refused(UNSUPPORTED, None, make, MultiRegion=True)
    metadata = make()["KeyMetadata"]
    for one in (metadata, kms.describe_key(KeyId=metadata["KeyId"])["KeyMetadata"]):
        assert one["Origin"] == "EXTERNAL_KEY_STORE" and one["CustomKeyStoreId"] == store, one
        assert one["XksKeyConfiguration"] == {"Id": "main"} and one["KeyState"] == "Enabled" and "CurrentKeyMaterialId" not in one, one
    refused("XksKeyAlreadyInUseException", None, make)
    kms.create_alias(AliasName="alias/there", TargetKeyId=metadata["KeyId"])
    return metadata["KeyId"]


def used(kms, key: str, beside: str) -> list[bytes]:
    """Every operation that such a key has, and those that it does not have. Returns blobs."""
    sealed = kms.encrypt(KeyId="alias/there", Plaintext=b"text", EncryptionContext=CONTEXT)
    blob = sealed["CiphertextBlob"]
    assert blob[1] == 4, "not the form of an external key"
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == b"text" and opened["KeyId"] == sealed["KeyId"] and opened["KeyMaterialId"], opened
    assert kms.encrypt(KeyId=key, Plaintext=b"x" * 4096)["CiphertextBlob"], "the longest plaintext"
    refused(STATE, OTHER_CONTEXT, kms.decrypt, CiphertextBlob=blob, EncryptionContext={"container": "43"})
    damaged = blob[:-1] + bytes([blob[-1] ^ 1])
    refused(STATE, OTHER_CONTEXT, kms.decrypt, CiphertextBlob=damaged, EncryptionContext=CONTEXT)
    refused("InvalidCiphertextException", None, kms.decrypt, CiphertextBlob=blob[:40], KeyId=key)
    blobs = [blob]
    for spec in ({"KeySpec": "AES_256"}, {"NumberOfBytes": 7}):
        made = kms.generate_data_key(KeyId=key, EncryptionContext=CONTEXT, **spec)
        assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"] == made["Plaintext"]
        alone = kms.generate_data_key_without_plaintext(KeyId=key, EncryptionContext=CONTEXT, **spec)
        assert "Plaintext" not in alone
        assert len(kms.decrypt(CiphertextBlob=alone["CiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"]) == len(made["Plaintext"])
        blobs += [made["CiphertextBlob"], alone["CiphertextBlob"]]
    # From it, to it, and from it to it.
    moved = kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=CONTEXT, DestinationKeyId=beside)["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=moved, KeyId=beside)["Plaintext"] == b"text"
    back = kms.re_encrypt(CiphertextBlob=moved, DestinationKeyId=key, DestinationEncryptionContext=CONTEXT)["CiphertextBlob"]
    again = kms.re_encrypt(CiphertextBlob=back, SourceEncryptionContext=CONTEXT, DestinationKeyId=key, DestinationEncryptionContext=CONTEXT)["CiphertextBlob"]
    for one in (back, again):
        assert kms.decrypt(CiphertextBlob=one, EncryptionContext=CONTEXT)["Plaintext"] == b"text"
    for call, arguments in (
        (kms.generate_data_key_pair, {"KeyPairSpec": "ECC_NIST_P256"}), (kms.enable_key_rotation, {}), (kms.rotate_key_on_demand, {}),
        (kms.get_parameters_for_import, {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}),
        (kms.replicate_key, {"ReplicaRegion": "us-west-2"}),
    ):
        refused(UNSUPPORTED, None, call, KeyId=key, **arguments)
    refused("DryRunOperationException", None, kms.encrypt, KeyId=key, Plaintext=b"text", DryRun=True)
    return blobs


def failures(kms, vault_admin, keys: dict[str, str], key: str, blob: bytes, relay: Relay) -> None:
    """What a caller is told when the other side does not serve."""
    opening = {"CiphertextBlob": blob, "EncryptionContext": CONTEXT}
    vault_admin.disable_key(KeyId=keys["main"])
    refused(STATE, NOT_ENABLED, kms.encrypt, KeyId=key, Plaintext=b"text")
    refused(STATE, NOT_ENABLED, kms.decrypt, **opening)
    vault_admin.enable_key(KeyId=keys["main"])
    address, relay.to = relay.to, None
    relay.cut()
    refused(STATE, None, kms.decrypt, **opening)
    relay.to, relay.silent = address, True
    began = time.monotonic()
    refused(STATE, TOO_LATE, kms.decrypt, **opening)
    assert time.monotonic() - began < 10, "a silent proxy was waited for too long"
    relay.silent = False
    relay.cut()
    assert kms.decrypt(**opening)["Plaintext"] == b"text"


def changed(kms, vault: Daemon, store: str, signs: dict[str, str], key: str, blob: bytes) -> None:
    """Changes while it is connected, and a credential that the proxy does not know any more."""
    update = kms.update_custom_key_store
    update(CustomKeyStoreId=store, NewCustomKeyStoreName="renamed")
    assert kms.describe_custom_key_stores(CustomKeyStoreName="renamed")["CustomKeyStores"][0]["CustomKeyStoreId"] == store
    refused("CustomKeyStoreNotFoundException", None, kms.describe_custom_key_stores, CustomKeyStoreName="orders")
    refused(STORE_STATE, None, update, CustomKeyStoreId=store, XksProxyUriEndpoint="https://nowhere.example")
    wrong = signs | {"RawSecretAccessKey": "b" * 43}
    refused("XksProxyIncorrectAuthenticationCredentialException", NOT_AUTHENTICATED, update, CustomKeyStoreId=store, XksProxyAuthenticationCredential=wrong)
    second = credential(vault)
    update(CustomKeyStoreId=store, XksProxyAuthenticationCredential=second)
    keymill(vault, "principal", "delete-access-key", "aws-kms", signs["AccessKeyId"], "--yes")
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"text"
    keymill(vault, "principal", "deactivate-access-key", "aws-kms", second["AccessKeyId"])
    refused(STATE, NOT_AUTHENTICATED, kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT)
    # A connection that fails says why.
    kms.disconnect_custom_key_store(CustomKeyStoreId=store)
    kms.connect_custom_key_store(CustomKeyStoreId=store)
    wait_until(lambda: described(kms, store)["ConnectionState"] == "FAILED", 30, "the connection to fail")
    assert described(kms, store)["ConnectionErrorCode"] == "INVALID_CREDENTIALS"
    refused(STORE_STATE, None, kms.connect_custom_key_store, CustomKeyStoreId=store)
    kms.disconnect_custom_key_store(CustomKeyStoreId=store)
    keymill(vault, "principal", "activate-access-key", "aws-kms", second["AccessKeyId"])
    connected(kms, store)


def cut_off(kms, store: str, key: str, blobs: list[bytes]) -> None:
    """A key store that is disconnected, and what can be done with its key all the same."""
    kms.disconnect_custom_key_store(CustomKeyStoreId=store)
    refused(STORE_STATE, None, kms.disconnect_custom_key_store, CustomKeyStoreId=store)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Unavailable"
    assert not kms.describe_key(KeyId=key)["KeyMetadata"]["Enabled"]
    for blob in blobs:
        refused(STATE, NOT_CONNECTED, kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT)
    refused(STATE, NOT_CONNECTED, kms.generate_data_key_without_plaintext, KeyId=key, KeySpec="AES_256")
    kms.update_key_description(KeyId=key, Description="elsewhere")
    kms.disable_key(KeyId=key)
    kms.enable_key(KeyId=key)
    refused("CustomKeyStoreHasCMKsException", None, kms.delete_custom_key_store, CustomKeyStoreId=store)
    connected(kms, store)
    refused(STORE_STATE, None, kms.delete_custom_key_store, CustomKeyStoreId=store)


def main() -> None:
    tally, relay = Tally(), Relay()
    with tempfile.TemporaryDirectory(prefix="keymill-cks-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        authority = Authority(folder, "servers")
        names = x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate, private = authority.issue("server", "server", ExtendedKeyUsageOID.SERVER_AUTH, *names)
        vault = stack.enter_context(running(settings=vault_settings(certificate, private)))
        vault_admin, vault_keys = prepared(vault, authority.bundle, tally)
        host, port = vault.endpoint.removeprefix("https://").split(":")
        address = relay.to = (host, int(port))
        signs = credential(vault)
        # On a machine that is busy with other tests, AWS KMS's 250 ms would be a test of it.
        settings = MILL.format(port=relay.port, ca=authority.bundle, timeout=2000)
        mill = stack.enter_context(running(settings=settings))
        kms = mill.client("admin", tally)
        store = created(kms, signs, relay, address)
        key = keys_made(kms, store)
        beside = kms.create_key()["KeyMetadata"]["KeyId"]
        blobs = used(kms, key, beside)
        failures(kms, vault_admin, vault_keys, key, blobs[0], relay)
        # A KMS key that is disabled here is not asked for there.
        kms.disable_key(KeyId=key)
        refused("DisabledException", None, kms.encrypt, KeyId=key, Plaintext=b"text")
        kms.enable_key(KeyId=key)
        changed(kms, vault, store, signs, key, blobs[0])
        cut_off(kms, store, key, blobs)
        # It is as it was after the daemon's end, by kill -9 too.
        mill.kill()
        mill.start()
        kms = mill.client("admin", tally)
        assert described(kms, store)["ConnectionState"] == "CONNECTED"
        for blob in blobs:
            assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        refused(STATE, None, kms.decrypt, CiphertextBlob=blobs[0], EncryptionContext=CONTEXT)
        kms.disconnect_custom_key_store(CustomKeyStoreId=store)
        assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"
        refused("CustomKeyStoreHasCMKsException", None, kms.delete_custom_key_store, CustomKeyStoreId=store)
        update = {"XksProxyUriEndpoint": f"https://{HOST.upper()}", "XksProxyUriPath": PATH, "XksProxyConnectivity": "PUBLIC_ENDPOINT"}
        kms.update_custom_key_store(CustomKeyStoreId=store, **update)
        gone = kms.create_custom_key_store(**members("gone", credential(vault), XksProxyUriPath=SECOND))["CustomKeyStoreId"]
        kms.delete_custom_key_store(CustomKeyStoreId=gone)
        refused("CustomKeyStoreNotFoundException", None, kms.describe_custom_key_stores, CustomKeyStoreId=gone)
        assert [one["CustomKeyStoreId"] for one in kms.describe_custom_key_stores()["CustomKeyStores"]] == [store]
        assert mill.stop() == 0 and vault.stop() == 0, "SIGTERM did not end a daemon cleanly"
        log = "".join(file.read_text() for file in (mill.state / "audit").glob("*.jsonl"))
        assert "CreateCustomKeyStore" in log and signs["RawSecretAccessKey"] not in log + mill.log.read_text(), "the secret of a credential is in a log"
    report("boto3 with an external key store", boto3.__version__, tally.calls)


if __name__ == "__main__":
    sys.exit(main())
