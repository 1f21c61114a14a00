"""A node in a network namespace of its own, whose packets to and from the database vanish: nothing is refused and no connection ends, as when a network breaks.

    python3 tests/clients/fleet_network.py

Needs root and `ip`, `tc` and `nsenter` (Debian's iproute2 and util-linux). The node reaches the database over TCP with TLS. Lost are the packets of both directions, those to the
database alone, or those from it alone; then they pass again.
"""

import contextlib
import ipaddress
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
import wire
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from daemon import Tally, admin_address, report, wait_until
from fleet_load import Member, Questions, made_key
from postgres import Server
from tls import Authority

DATABASE = "fleet"
STALENESS_SECONDS = 3.0
SLACK_SECONDS = 0.7
# For so long, longer than the node waits for anything.
CUT_SECONDS = (8.0, 25.0)
BACK_SECONDS = 15
# Of the addresses that are kept for tests (RFC 2544).
HERE, THERE, BITS = "198.18.77.1", "198.18.77.2", 30
DIRECTIONS = {"both directions": (True, True), "to the database": (False, True), "from the database": (True, False)}


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Namespace:
    """A network of one process, and a pair of interfaces between it and this one."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        try:
            self.join()
        except BaseException:
            self.close()
            raise

    def join(self) -> None:
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, 10, "a network namespace")
        self.enter = ("nsenter", "--target", str(self.holder.pid), "--net")
        self.here, self.there = f"km{os.getpid()}a", f"km{os.getpid()}b"
        run("ip", "link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", str(self.holder.pid))
        for prefix, interface, address in ((), self.here, HERE), (self.enter, self.there, THERE):
            run(*prefix, "ip", "address", "add", f"{address}/{BITS}", "dev", interface)
            run(*prefix, "ip", "link", "set", interface, "up")
        run(*self.enter, "ip", "link", "set", "lo", "up")
        # Else a node would hear that the address has no answer.
        self.know((), self.here, THERE, self.address(self.enter, self.there))
        self.know(self.enter, self.there, HERE, self.address((), self.here))

    @staticmethod
    def address(prefix: tuple[str, ...], interface: str) -> str:
        found = subprocess.run([*prefix, "ip", "-json", "link", "show", "dev", interface], check=True, capture_output=True, text=True).stdout
        return json.loads(found)[0]["address"]

    @staticmethod
    def know(prefix: tuple[str, ...], interface: str, address: str, link: str) -> None:
        run(*prefix, "ip", "neighbour", "replace", address, "lladdr", link, "dev", interface, "nud", "permanent")

    def lose(self, answers: bool, questions: bool) -> None:
        """A queue without room takes no packet."""
        for is_lost, prefix, interface in (answers, (), self.here), (questions, self.enter, self.there):
            if is_lost:
                run(*prefix, "tc", "qdisc", "add", "dev", interface, "root", "pfifo", "limit", "0")

    def mend(self) -> None:
        for prefix, interface in ((), self.here), (self.enter, self.there):
            subprocess.run([*prefix, "tc", "qdisc", "delete", "dev", interface, "root"], check=False, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        # The interfaces go with it.
        self.holder.kill()
        self.holder.wait()


class Apart(Member):
    """A node in the namespace, reached over its Unix sockets."""

    def outcome(self, key: str) -> str:
        connection = wire.Connection(self.daemon.socket)
        body = json.dumps({"KeyId": key, "KeySpec": "AES_256"}).encode()
        connection.send(wire.operation("GenerateDataKeyWithoutPlaintext", body))
        answer = connection.receive()
        connection.close()
        return answer.code or "ok"

    def ready(self) -> str:
        command = [*self.daemon.wrapper, "curl", "--silent", "--noproxy", "*", "--max-time", "30", f"{admin_address(self.daemon.facts)}/ready"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return "" if said.startswith("ready") else said

    def create_alias(self, name: str, key: str) -> str:
        connection = wire.Connection(wire.admin_socket(self.daemon), 60)
        connection.send(wire.operation("CreateAlias", json.dumps({"AliasName": name, "TargetKeyId": key}).encode()))
        return connection.receive().code or "ok"


def encrypted(database: Server, folder: Path) -> Path:
    """The server has TLS on an address of its own. Returns the file of the authority."""
    authority = Authority(folder, "database")
    address = x509.IPAddress(ipaddress.ip_address(HERE))
    files = authority.issue("server", "database", ExtendedKeyUsageOID.SERVER_AUTH, address)
    own = pwd.getpwnam("nobody")
    for name, file in zip(("server.crt", "server.key"), files, strict=True):
        copy = database.folder / name
        shutil.copy(file, copy)
        copy.chmod(0o600)
        os.chown(copy, own.pw_uid, own.pw_gid)
    with (database.folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(f"hostssl all all {HERE}/{BITS} trust\n")
    database.options = (
        f"listen_addresses=127.0.0.1,{HERE}", "ssl=on", f"ssl_cert_file={database.folder}/server.crt", f"ssl_key_file={database.folder}/server.key",
    )
    return authority.bundle


def cut(space: Namespace, alone: Apart, beside: Member, how: str, seconds: float) -> tuple[float, float]:
    """Returns when the last key left under a KMS key that was disabled elsewhere, and how long the way back took."""
    disabled, other = made_key(beside), made_key(beside)
    for key in (disabled, other):
        wait_until(lambda: alone.outcome(key) == "ok", 5, "the keys to arrive")
    outcomes: list[str] = []
    alias = f"alias/{how.replace(' ', '-')}-{int(seconds)}"
    began = time.monotonic()
    space.lose(*DIRECTIONS[how])
    changing = threading.Thread(target=lambda: outcomes.append(alone.create_alias(alias, other)))
    changing.start()
    beside.admin.disable_key(KeyId=disabled)
    answered, last = time.monotonic(), 0.0
    while time.monotonic() - began < seconds:
        before = time.monotonic()
        if alone.outcome(disabled) == "ok":
            last = before - answered
        time.sleep(0.02)
    assert last <= STALENESS_SECONDS, f"{how}: a key left {last:.2f} s after its key was disabled"
    assert alone.outcome(other) == "KMSInternalException" and "has not confirmed for" in alone.ready(), alone.ready()
    space.mend()
    mended = time.monotonic()
    wait_until(lambda: alone.outcome(other) == "ok", BACK_SECONDS, f"{how}: back by itself")
    back = time.monotonic() - mended
    assert alone.outcome(disabled) == "DisabledException"
    wait_until(lambda: not alone.ready(), 5, "ready again")
    changing.join()
    # What the node said of its change is so: made if it said so; else it may be.
    found = Questions(beside, made_key(beside)).find(("alias", alias))
    assert outcomes[0] == "KMSInternalException" or outcomes[0] == "ok" and found == other, (how, outcomes, found)
    print(f"{how}, for {seconds:.0f} s: the last key left {last:.2f} s after its key was disabled; back {back:.2f} s after packets passed again; a change meanwhile: {outcomes[0]}, {'made' if found else 'not made'}", flush=True)
    return last, back


def main() -> None:
    assert os.geteuid() == 0, "network namespaces need root"
    with tempfile.TemporaryDirectory(prefix="fleet-network-", ignore_cleanup_errors=True) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "pg").mkdir()
        space = Namespace()
        stack.callback(space.close)
        database = Server(folder / "pg")
        database.make()
        bundle = encrypted(database, folder)
        stack.callback(database.kill)
        database.start()
        database.ask("postgres", f"CREATE DATABASE {DATABASE}")
        direct = database.url(DATABASE)
        beside = Member("beside", folder, direct, direct, folder / "root.key", Tally(), STALENESS_SECONDS)
        url = f"postgres://keymill@{HERE}:{database.port}/{DATABASE}"
        alone = Apart("alone", folder, url, url, folder / "root.key", Tally(), STALENESS_SECONDS)
        alone.daemon.wrapper = space.enter
        alone.daemon.overrides["KEYMILL_STORE__CA_FILE"] = str(bundle)
        try:
            for member in (beside, alone):
                stack.callback(member.daemon.kill)
                member.start()
            found = [cut(space, alone, beside, how, seconds) for seconds in CUT_SECONDS for how in DIRECTIONS]
            for member in (alone, beside):
                assert member.daemon.stop() == 0, f"{member.name} did not end cleanly"
        except BaseException:
            for member in (beside, alone):
                print(f"{member.name}:\n{member.daemon.tail() if member.daemon.log.exists() else ''}", file=sys.stderr)
            raise
    lasts, backs = zip(*found, strict=True)
    print(f"{len(found)} cuts: the last key at most {max(lasts):.2f} s after its key was disabled elsewhere, of {STALENESS_SECONDS:.0f} s that are promised; back at most {max(backs):.2f} s after the end of the cut")
    report("boto3 beside a node without a network", boto3.__version__, beside.tally.calls)


if __name__ == "__main__":
    main()
