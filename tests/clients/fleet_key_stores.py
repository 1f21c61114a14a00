"""A custom key store of three daemons on one PostgreSQL, whose keys live behind a fourth:
connected on one node, its keys are used on all; disconnected on one, all refuse.
"""

import contextlib
import ipaddress
import sys
import tempfile
from pathlib import Path

import boto3
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from custom_key_stores import CONTEXT, HOST, MILL, NOT_CONNECTED, STATE, STORE_STATE, connected, credential, described, members, prepared, vault_settings
from daemon import Tally, refused, report, running, wait_until
from fleet import BOUND_SECONDS, SLACK_SECONDS, Node
from postgres import server
from tls import Authority

DATABASE = "fleet"
SECONDS = BOUND_SECONDS + SLACK_SECONDS
# A connection is made by the node that was asked, and then arrives on the others.
CONNECTED_SECONDS = 10


class External(Node):
    """A node that may call the external key store proxy of the vault."""

    def __init__(self, name: str, folder: Path, url: str, notify: str, tally: Tally, proxies: str):
        super().__init__(name, folder, url, notify, folder / "root.key", tally)
        self.daemon.state.mkdir(mode=0o700)
        (self.daemon.state / "keymill.toml").write_text(f'{proxies}\n[store]\nurl = "{url}"\nroot_key = "{folder / "root.key"}"\n')
        self.daemon.arguments = ()
        self.daemon.overrides["KEYMILL_LISTEN__ADMIN"] = "127.0.0.1:0"


def state(node: Node, key: str) -> str:
    return node.admin.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]


def everywhere(nodes: list[Node], key: str, expected: str) -> None:
    for node in nodes:
        wait_until(lambda: state(node, key) == expected, SECONDS, f"{expected} on {node.name}")


def used(nodes: list[Node], key: str) -> list[bytes]:
    """What any of them seals, each of them opens."""
    blobs = []
    for node in nodes:
        made = node.admin.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
        blobs.append(made["CiphertextBlob"])
        for other in nodes:
            assert other.admin.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"] == made["Plaintext"]
    return blobs


def cut_off(nodes: list[Node], by: Node, store: str, key: str, blobs: list[bytes]) -> None:
    """Disconnected by one of them, refused by all."""
    by.admin.disconnect_custom_key_store(CustomKeyStoreId=store)
    everywhere(nodes, key, "Unavailable")
    for node in nodes:
        for blob in blobs:
            refused(STATE, NOT_CONNECTED, node.admin.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT)
        refused(STATE, NOT_CONNECTED, node.admin.generate_data_key_without_plaintext, KeyId=key, KeySpec="AES_256")
        refused(STATE, NOT_CONNECTED, node.admin.encrypt, KeyId=key, Plaintext=b"text")
        refused(STORE_STATE, None, node.admin.disconnect_custom_key_store, CustomKeyStoreId=store)
        refused("CustomKeyStoreHasCMKsException", None, node.admin.delete_custom_key_store, CustomKeyStoreId=store)
        assert described(node.admin, store)["ConnectionState"] == "DISCONNECTED", node.name


def is_connected(kms, store: str) -> bool:
    # A description on another node may be behind.
    try:
        return described(kms, store)["ConnectionState"] == "CONNECTED"
    except kms.exceptions.CustomKeyStoreNotFoundException:
        return False


def main() -> None:
    tally = Tally()
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(server())
        database.ask("postgres", f"CREATE DATABASE {DATABASE}")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-cks-", ignore_cleanup_errors=True)))
        authority = Authority(folder, "servers")
        names = x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate, private = authority.issue("server", "server", ExtendedKeyUsageOID.SERVER_AUTH, *names)
        vault = stack.enter_context(running(settings=vault_settings(certificate, private)))
        prepared(vault, authority.bundle, tally)
        port = vault.endpoint.rsplit(":", 1)[1]
        proxies = MILL.format(port=port, ca=authority.bundle, timeout=2000)
        url = database.url(DATABASE)
        # The last one has no notifications.
        nodes = [External(f"node-{number}", folder, url, url if number < 2 else "", tally, proxies) for number in range(3)]
        try:
            for node in nodes:
                stack.callback(node.daemon.kill)
                node.start()
            first, second, third = nodes
            store = first.admin.create_custom_key_store(**members("orders", credential(vault)))["CustomKeyStoreId"]
            connected(second.admin, store)
            for node in nodes:
                wait_until(lambda: is_connected(node.admin, store), CONNECTED_SECONDS, f"connected on {node.name}")
            key = third.admin.create_key(Origin="EXTERNAL_KEY_STORE", CustomKeyStoreId=store, XksKeyId="main")["KeyMetadata"]["KeyId"]
            wait_until(lambda: all(node.outcome(key) == "ok" for node in nodes), SECONDS, "the key on every node")
            refused("XksKeyAlreadyInUseException", None, first.admin.create_key, Origin="EXTERNAL_KEY_STORE", CustomKeyStoreId=store, XksKeyId="main")
            blobs = used(nodes, key)
            for number, by in enumerate(nodes):
                cut_off(nodes, by, store, key, blobs)
                connected(nodes[number - 1].admin, store)
                everywhere(nodes, key, "Enabled")
                blobs += used(nodes, key)[:1]
            # A node that was down meanwhile has it as the others do.
            third.daemon.kill()
            first.admin.disconnect_custom_key_store(CustomKeyStoreId=store)
            third.start()
            assert state(third, key) == "Unavailable"
            connected(third.admin, store)
            everywhere(nodes, key, "Enabled")
            assert all(node.admin.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] for blob in blobs for node in nodes)
            for node in nodes:
                assert node.daemon.stop() == 0, f"{node.name} did not end cleanly"
        except BaseException:
            for node in nodes:
                print(f"{node.name}:\n{node.daemon.tail() if node.daemon.log.exists() else ''}", file=sys.stderr)
            raise
    report("boto3 with an external key store of a fleet", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
