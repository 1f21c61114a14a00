"""Three daemons on one PostgreSQL: what one of them has answered holds on all of them, whatever happens between.

One reaches the database over its Unix socket, the others through proxies of ours on loopback that cut, delay, and fall silent. One of
them has no notifications.
"""

import base64
import contextlib
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import botocore
import botocore.config
import botocore.exceptions
from daemon import Daemon, Tally, admin_address, report, wait_until
from postgres import Proxy, Server, server

# A change that one node has answered is in force on the others after one look at most: a second,
# and a fifth of it.
BOUND_SECONDS = 2.0
STALENESS_SECONDS = 3.0
# For a thread of this program that is not run at once.
SLACK_SECONDS = 0.7
ROUNDS = 12
DATABASE = "fleet"


class Node:
    """A daemon, and boto3 clients of it that repeat nothing unless they are told to."""

    def __init__(self, name: str, folder: Path, url: str, notify: str, root_key: Path, tally: Tally, attempts: int = 1):
        overrides = {"KEYMILL_STORE__MAX_STALENESS_MS": str(int(STALENESS_SECONDS * 1000)), "KEYMILL_LOG__LEVEL": "info"}
        if notify:
            overrides["KEYMILL_STORE__NOTIFY_URL"] = notify
        (folder / name).mkdir()
        self.name, self.tally, self.attempts = name, tally, attempts
        self.daemon = Daemon(folder / name, overrides, arguments=("--store", url, "--root-key", str(root_key)))

    def start(self) -> None:
        self.daemon.start()
        self.admin, self.provisioner, self.consumer = (self.client(role) for role in ("admin", "provisioner", "consumer"))

    def client(self, role: str):
        principal = self.daemon.principal(role)
        session = boto3.session.Session(principal["access_key_id"], principal["secret_access_key"], region_name=self.daemon.facts["region"])
        config = botocore.config.Config(max_pool_connections=16, read_timeout=60, retries={"mode": "standard", "total_max_attempts": self.attempts})
        client = session.client("kms", endpoint_url=self.daemon.endpoint, config=config)
        client.meta.events.register("after-call.kms", self.tally.count)
        return client

    def mint(self, key: str) -> bytes:
        return self.provisioner.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")["CiphertextBlob"]

    def outcome(self, key: str) -> str:
        """`ok`, or the code of the refusal."""
        try:
            self.mint(key)
            return "ok"
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]

    def ready(self) -> str:
        """Nothing, or why it is not ready."""
        try:
            urllib.request.urlopen(f"{admin_address(self.daemon.facts)}/ready", timeout=30)
            return ""
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def status(self) -> dict:
        with urllib.request.urlopen(f"{admin_address(self.daemon.facts)}/status", timeout=30) as answer:
            return json.load(answer)


def new_key(node: Node) -> str:
    return node.admin.create_key()["KeyMetadata"]["KeyId"]


def known(nodes: list[Node], key: str) -> None:
    """Returns once every node has the key."""
    for node in nodes:
        wait_until(lambda: node.outcome(key) == "ok", BOUND_SECONDS, f"{key} on {node.name}")


def changes_arrive(nodes: list[Node]) -> None:
    """Disabled on one node, refused on the others within the bound; what is minted on one is opened on all."""
    key = new_key(nodes[0])
    known(nodes, key)
    blobs = [node.mint(key) for node in nodes]
    plain = {base64.b64encode(nodes[0].consumer.decrypt(CiphertextBlob=blob)["Plaintext"]) for blob in blobs}
    assert len(plain) == len(nodes)
    for node in nodes:
        opened = {base64.b64encode(node.consumer.decrypt(CiphertextBlob=blob)["Plaintext"]) for blob in blobs}
        assert opened == plain, node.name
    latest: dict[str, float] = {}
    for number in range(ROUNDS):
        changer = nodes[number % len(nodes)]
        changer.admin.disable_key(KeyId=key)
        answered = time.monotonic()
        assert changer.outcome(key) == "DisabledException"
        for node in nodes:
            wait_until(lambda: node.outcome(key) == "DisabledException", BOUND_SECONDS + SLACK_SECONDS, f"round {number}: {node.name}")
            latest[node.name] = max(latest.get(node.name, 0), time.monotonic() - answered)
        changer.admin.enable_key(KeyId=key)
        known(nodes, key)
    print("a disabled key was refused everywhere after at most", {name: f"{seconds:.2f} s" for name, seconds in latest.items()})
    assert max(latest.values()) <= BOUND_SECONDS + SLACK_SECONDS
    for node in nodes[:2]:
        assert node.daemon.metric("keymill_keystore_hints") == 1, f"no notifications on {node.name}"
    assert nodes[2].daemon.metric("keymill_keystore_hints") == 0


def cut_off(nodes: list[Node], proxy: Proxy, how: str) -> None:
    """The last node loses the database: it stops in time, says so, and comes back by itself."""
    alone, changer = nodes[2], nodes[0]
    key, other = new_key(changer), new_key(changer)
    known(nodes, key)
    known(nodes, other)
    proxy.silence() if how == "silent" else proxy.cut()
    changer.admin.disable_key(KeyId=key)
    answered = time.monotonic()
    last = 0.0
    while time.monotonic() - answered < STALENESS_SECONDS + 3:
        before = time.monotonic()
        if alone.outcome(key) == "ok":
            last = before - answered
        time.sleep(0.02)
    assert last <= STALENESS_SECONDS + SLACK_SECONDS, f"{how}: a key left {last:.1f} s after its key was disabled"
    assert last > 0.5, f"{how}: it stopped at once, and had no reason to"
    assert alone.outcome(other) == "KMSInternalException", "a retryable error"
    assert "has not confirmed for" in alone.ready(), alone.ready()
    status = alone.status()["shared_store"]
    assert status["stale"] and status["confirmed_seconds_ago"] > STALENESS_SECONDS and status["problem"], status
    assert alone.daemon.metric("keymill_keystore_stale") == 1
    assert alone.daemon.metric("keymill_keystore_failed_looks_total") > 0
    with contextlib.suppress(botocore.exceptions.ClientError):
        alone.admin.create_key()
        raise AssertionError("a change was answered without the database")
    proxy.mend()
    wait_until(lambda: alone.outcome(other) == "ok", 15, f"{how}: back by itself")
    assert alone.outcome(key) == "DisabledException"
    wait_until(lambda: not alone.ready(), 5, "ready again")
    print(f"{how}: the last key left {last:.2f} s after its key was disabled elsewhere")


def at_once(nodes: list[Node]) -> None:
    """Administration from all nodes at the same time loses nothing."""
    shared_alias = "alias/only-one"
    keys: list[str] = []

    def administer(number: int) -> str:
        node = nodes[number % len(nodes)]
        key = new_key(node)
        node.admin.create_alias(AliasName=f"alias/at-once-{number}", TargetKeyId=key)
        policy = {"Version": "2012-10-17", "Statement": [{
            "Sid": f"of-{number}", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{node.daemon.facts['account']}:root"}, "Action": "kms:*", "Resource": "*",
        }]}
        node.admin.put_key_policy(KeyId=key, Policy=json.dumps(policy))
        node.admin.tag_resource(KeyId=key, Tags=[{"TagKey": "number", "TagValue": str(number)}])
        keys.append(key)
        try:
            node.admin.create_alias(AliasName=shared_alias, TargetKeyId=key)
            return "made"
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]

    count = 15
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(administer, range(count)))
    assert sorted(outcomes) == ["AlreadyExistsException"] * (count - 1) + ["made"], outcomes
    assert len(set(keys)) == count
    time.sleep(BOUND_SECONDS)
    for node in nodes:
        names = {alias["AliasName"] for page in node.admin.get_paginator("list_aliases").paginate() for alias in page["Aliases"]}
        assert {f"alias/at-once-{number}" for number in range(count)} | {shared_alias} <= names, node.name
        for number in range(count):
            key = f"alias/at-once-{number}"
            arn = node.admin.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
            policy = json.loads(node.admin.get_key_policy(KeyId=arn)["Policy"])
            assert policy["Statement"][0]["Sid"] == f"of-{number}"
            assert node.admin.list_resource_tags(KeyId=arn)["Tags"] == [{"TagKey": "number", "TagValue": str(number)}]
    print("races lost and decided again:", {node.name: node.daemon.metric("keymill_keystore_lost_races_total") for node in nodes})


def kills(nodes: list[Node]) -> None:
    """kill -9 of a node in the middle of its changes: what it has answered is there, and it locks nobody out."""
    victim, other = nodes[1], nodes[0]
    made: list[str] = []

    def work() -> None:
        with contextlib.suppress(Exception):
            while True:
                made.append(new_key(victim))

    for _ in range(3):
        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.7)
        victim.daemon.kill()
        worker.join()
        began = time.monotonic()
        new_key(other)
        assert time.monotonic() - began < 5, "a dead node held a lock"
        victim.start()
    assert made
    for key in made:
        other.admin.describe_key(KeyId=key)
        victim.admin.describe_key(KeyId=key)
    print(f"{len(made)} keys made by a node that was killed three times, all there")


def crash(database: Server, nodes: list[Node]) -> None:
    """The database crashes and comes back: what was answered is there, and every node goes on."""
    key = new_key(nodes[0])
    database.kill()
    time.sleep(1)
    database.start()
    for node in nodes:
        wait_until(lambda: node.outcome(key) == "ok", 15, f"{node.name} after a crash of the database")
    known(nodes, new_key(nodes[2]))


def attacks(database: Server, nodes: list[Node], root_key: Path, folder: Path) -> None:
    """Rows that are edited, deleted, swapped or put back: a start names them, and a running node does not take them."""
    ask = lambda query: database.ask(DATABASE, query)  # noqa: E731
    ask("CREATE TABLE kept_head AS TABLE keymill.head; CREATE TABLE kept AS TABLE keymill.record")
    key = new_key(nodes[0])
    known(nodes, key)
    nodes[2].daemon.stop()
    for node in nodes[:2]:
        node.daemon.stop()
    ask("CREATE TABLE last_head AS TABLE keymill.head; CREATE TABLE last AS TABLE keymill.record")
    back = "BEGIN; TRUNCATE keymill.head, keymill.record; INSERT INTO keymill.head TABLE {0}_head; INSERT INTO keymill.record TABLE {0}; COMMIT"
    a_key = f"k = 'key {key}'"
    for attack, expected in [
        (f"UPDATE keymill.record SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) WHERE {a_key}", f"edited, swapped or copied from another store: key {key}"),
        (f"DELETE FROM keymill.record WHERE {a_key}", "does not hold the set of records"),
        (f"UPDATE keymill.record SET sealed = NULL WHERE {a_key}", "does not hold the set of records"),
        (f"UPDATE keymill.record SET sealed = (SELECT sealed FROM keymill.record o WHERE o.k LIKE 'key %' AND o.k <> record.k LIMIT 1) WHERE {a_key}", f"key {key}"),
        ("UPDATE keymill.record SET revision = kept.revision, sealed = kept.sealed FROM kept WHERE kept.k = record.k AND kept.k LIKE 'audit %'", "does not hold the set of records"),
        ("UPDATE keymill.head SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)", "head that does not open"),
        (back.format("kept"), "an older copy was put in its place"),
    ]:
        ask(attack)
        try:
            nodes[0].start()
        except RuntimeError as error:
            assert expected in str(error), f"{attack}: {expected!r} is not in {error}"
        else:
            raise AssertionError(f"{attack} was not noticed")
        ask(back.format("last"))
    # A node with another root key.
    wrong = folder / "wrong.key"
    wrong.write_text("keymill-root-key-v1 " + "5a" * 32 + "\n")
    wrong.chmod(0o600)
    stranger = Node("stranger", folder, database.url(DATABASE), "", wrong, Tally())
    try:
        stranger.start()
    except RuntimeError as error:
        assert "the root key is not this store's" in str(error) and "/fleet" in str(error), error
    else:
        raise AssertionError("another root key was taken")
    # Under running nodes.
    for node in nodes:
        node.start()
    assert nodes[0].outcome(key) == "ok"
    ask(back.format("kept"))
    for node in nodes:
        wait_until(lambda: node.outcome(key) == "KMSInternalException", STALENESS_SECONDS + 3, f"{node.name} goes on with a store that went back")
        assert "went back to revision" in node.ready(), node.ready()
        assert node.status()["shared_store"]["stale"]


def main() -> None:
    tally = Tally()
    with server() as database, tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
        database.ask("postgres", f"CREATE DATABASE {DATABASE}")
        folder, root_key = Path(folder), Path(folder) / "root.key"
        proxies = [Proxy(database.port), Proxy(database.port)]
        tcp = [f"postgres://keymill@127.0.0.1:{proxy.port}/{DATABASE}" for proxy in proxies]
        direct = database.url(DATABASE)
        urls = [(direct, direct), (tcp[0], direct), (tcp[1], "")]
        nodes = [Node(f"node-{number}", folder, url, notify, root_key, tally) for number, (url, notify) in enumerate(urls)]
        try:
            for node in nodes:
                node.start()
            principals = [node.daemon.facts["principals"] for node in nodes]
            assert principals[0] == principals[1] == principals[2], "the nodes have the same principals"
            changes_arrive(nodes)
            at_once(nodes)
            proxies[1].delay = 0.1
            known(nodes, new_key(nodes[2]))
            proxies[1].mend()
            cut_off(nodes, proxies[1], "silent")
            cut_off(nodes, proxies[1], "cut")
            kills(nodes)
            crash(database, nodes)
            attacks(database, nodes, root_key, folder)
        except BaseException:
            for node in nodes:
                print(f"{node.name}:\n{node.daemon.tail() if node.daemon.log.exists() else ''}", file=sys.stderr)
            raise
        finally:
            for node in nodes:
                node.daemon.kill()
        version = database.version
    print(f"PostgreSQL {version}")
    report("boto3 against a fleet", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
