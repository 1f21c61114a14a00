"""One machine becomes a fleet, and a fleet one machine: the lines of docs/fleet-operations.md, and a
copy that is killed at many moments. Then its drill of a restore, with pg_dump and pg_restore.

systemd itself is not run; folders stand for `/`, as in fleet_hosts.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import botocore.config
from backup_drill import answer, killed, keymill
from daemon import BINARY, ROOT, Daemon, Tally, environment, report
from fleet_hosts import PAGE, Node
from postgres import program, server
from tls import Authority

# Records of 8 KiB each, so that a copy is many batches.
MANY_PRINCIPALS = 300
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*", "Sid": "A" * 8000}]}
KILLS = 12
MINTER = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt"], "Resource": "*"}]}


def blocks(section: str) -> list[list[str]]:
    """The commands of each block of a section, without comments."""
    text = PAGE.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^ *```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return [[line.split("  #")[0].strip() for line in block.strip().replace("\\\n", " ").splitlines()] for block in found]


class Machine(Node):
    """A host, by itself or as a node."""

    def configure(self, sample: str) -> None:
        """Puts a sample of config/ in place."""
        text = (ROOT / "config" / sample).read_text().replace("postgres://keymill@db.example.com/keymill", self.url)
        (self.root / "etc/keymill/keymill.toml").write_text(self.below(text))

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(45) == 0, self.log()

    def do(self, lines: list[str]) -> str:
        """What the page has its reader run, as the unit's user; what systemctl would do is done here."""
        said = ""
        for line in lines:
            if line == "systemctl stop keymill":
                self.stop()
            elif line == "systemctl start keymill":
                self.start()
            else:
                line = self.below(line).removeprefix("runuser -u keymill -- ")
                line = re.sub(r"^keymill ", f"{self.program} ", line)
                done = subprocess.run(line, shell=True, env=self.variables, cwd="/", capture_output=True, text=True, check=False, **self.user)
                assert done.returncode == 0, (line, done.stdout, done.stderr)
                said += done.stdout
        return said


class Caller:
    """A principal of the store, on whichever machine."""

    def __init__(self, machine: Machine, policy: Path, tally: Tally):
        told = json.loads(machine.operator("principal", "create", "minter", "--policy", str(policy), "--json"))
        self.secrets, self.tally = [re.search(f'"{name}": ?"([^"]+)"', json.dumps(told))[1] for name in ("AccessKeyId", "SecretAccessKey")], tally

    def on(self, machine: Machine, scheme: str, authority: Path):
        port = machine.ports["KEYMILL_LISTEN__TCP"].rsplit(":", 1)[1]
        kms = boto3.client(
            "kms", endpoint_url=f"{scheme}://127.0.0.1:{port}", region_name="us-east-1", verify=str(authority),
            aws_access_key_id=self.secrets[0], aws_secret_access_key=self.secrets[1], config=botocore.config.Config(retries={"total_max_attempts": 1}),
        )
        kms.meta.events.register("after-call.kms", self.tally.count)
        return kms


def plaintext(kms, blob: bytes) -> bytes:
    return kms.decrypt(CiphertextBlob=blob)["Plaintext"]


def moves(database, folder: Path, tally: Tally) -> int:
    """The page's section, from one machine to two nodes and back. How many lines were run."""
    database.ask("postgres", "CREATE DATABASE keymill")
    url = database.url("keymill")
    given = folder / "given"
    given.mkdir()
    authority = Authority(folder, "authority")
    certificate, key = authority.server("server")
    (given / "tls.crt").write_bytes(Path(certificate).read_bytes())
    (given / "tls.key").write_bytes(Path(key).read_bytes())
    (given / "database-ca.pem").write_bytes(authority.bundle.read_bytes())
    (given / "database-password").write_bytes(b"secret\n")
    machines = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        machines.append(Machine(folder / name, url, given))
    first, second = machines
    there, back = blocks("From one machine to a fleet")
    policy = folder / "minter.json"
    policy.write_text(json.dumps(MINTER))
    try:
        first.prepare(is_first=True)
        first.configure("keymill-systemd.toml")
        # Over loopback alone, without TLS.
        first.ports["KEYMILL_LISTEN__TCP"] = first.ports["KEYMILL_LISTEN__TCP"].replace("0.0.0.0", "127.0.0.1")
        first.start()
        made = json.loads(first.operator("key", "create", "--json"))["KeyMetadata"]["KeyId"]
        caller = Caller(first, policy, tally)
        alone = caller.on(first, "http", authority.bundle)
        blob = alone.generate_data_key_without_plaintext(KeyId=made, KeySpec="AES_256")["CiphertextBlob"]
        known = plaintext(alone, blob)

        first.configure("keymill-fleet.toml")
        said = first.do(there)
        assert "copied: " in said and "whole: store postgres://" in said, said
        (given / "root.key").write_bytes((first.root / "var/lib/keymill/root.key").read_bytes())
        second.prepare(is_first=False)
        second.start()
        for machine in machines:
            assert plaintext(caller.on(machine, "https", authority.bundle), blob) == known
        since = caller.on(second, "https", authority.bundle).generate_data_key_without_plaintext(KeyId=made, KeySpec="AES_256")["CiphertextBlob"]
        [raising] = blocks("Upgrading node by node")
        assert "is of format 3 already" in first.do(raising)
        assert json.loads(first.operator("status", "--json"))["store"]["format"] == 3
        # Its audit log is one, from before the copy on.
        first.stop()
        for machine in (first, second):
            config = str(machine.root / "etc/keymill/keymill.toml")
            verified = json.loads(machine.keymill("audit", "verify", "--config", config, "--json"))
            assert verified["whole"] is True, verified
        logs = {f"logs/{machine.root.name}": str(machine.root / "var/lib/keymill/audit") for machine in machines}
        [verifying] = blocks("The audit logs")
        said = first.do([re.sub(r"logs/\w", lambda name: logs[name[0]], line) for line in verifying])
        names = [(machine.root / "var/lib/keymill/keystore.node").read_text().strip() for machine in machines]
        assert all(f"whole: {folder} of node {name}, " in said for folder, name in zip(logs.values(), names)), said
        [header] = [file.read_text().splitlines()[0] for file in Path(logs["logs/b"]).glob("*.jsonl")]
        assert json.loads(header)["keymillLog"]["node"] == names[1], header
        log = "".join(file.read_text() for file in (first.root / "var/lib/keymill/audit").glob("*.jsonl"))
        assert log.count('"keymillLog"') == 1 and "GenerateDataKeyWithoutPlaintext" in log, "one log, from the first start on"

        second.stop()
        first.process = second.process = None
        said = first.do([line for line in back if not line.startswith("systemctl")])
        assert "copied: " in said, said
        first.configure("keymill-systemd.toml")
        first.start()
        again = caller.on(first, "http", authority.bundle)
        assert plaintext(again, blob) == known and len(plaintext(again, since)) == 32
        first.stop()
        verified = json.loads(first.keymill("audit", "verify", "--config", str(first.root / "etc/keymill/keymill.toml"), "--json"))
        assert verified["whole"] is True, verified
        # As a node it would be behind what it has seen.
        first.configure("keymill-fleet.toml")
        refused = subprocess.run([first.program, "config", "check", "--config", first.root / "etc/keymill/keymill.toml"], env=first.variables, capture_output=True, text=True, check=False, cwd="/", **first.user)
        assert refused.returncode != 0 and "this host has seen revision" in refused.stderr, refused
    except BaseException:
        for machine in machines:
            print(machine.log() if (machine.root / "log").exists() else "", file=sys.stderr)
        raise
    finally:
        for machine in machines:
            machine.kill()
    return len(there) + len(back) + len(raising) + len(verifying)


def kills(database, folder: Path, tally: Tally) -> int:
    """Copies that are killed on their way; how many."""
    mill = Daemon(folder)
    mill.start()
    try:
        policy = folder / "policy.json"
        policy.write_text(json.dumps(POLICY))
        for number in range(MANY_PRINCIPALS):
            keymill("principal", "create", f"many-{number}", "--policy", policy, "--endpoint", f"unix:{mill.socket}")
            tally.count()
        database.ask("postgres", "CREATE DATABASE busy")
        said = keymill("store", "copy", "--dir", mill.state, "--to", database.url("busy"), status=69).stderr
        assert "is in use by process" in said, said
        assert mill.stop() == 0
    finally:
        mill.kill()
    began = time.monotonic()
    whole = answer("store", "copy", "--dir", mill.state, "--to", database.url("busy"))
    lasts = time.monotonic() - began
    records, broken, spared = whole["records"], 0, 0
    print(f"{records} records took {lasts:.2f} s")
    for number in range(KILLS):
        name = f"killed{number}"
        database.ask("postgres", f"CREATE DATABASE {name}")
        url = database.url(name)
        copy = ["store", "copy", "--dir", mill.state, "--to", url]
        killed(copy, lasts * (number + 1) / (KILLS + 1))
        found = database.ask(name, "SELECT to_regclass('keymill.head')") and database.ask(name, "SELECT revision FROM keymill.head")
        if found == "0":
            broken += 1
            node = folder / f"node{number}"
            done = subprocess.run(
                [BINARY, "dev", "--json", "--dir", node, "--store", url, "--root-key", mill.state / "root.key", "--listen", "127.0.0.1:0"],
                env=environment(), capture_output=True, text=True, check=False, timeout=60,
            )
            assert done.returncode == 1 and "is a copy that was not finished" in done.stderr, done
            done = answer(*copy)
            assert done["records"] == records, done
            spared += records - done["written"]
        elif not found:
            answer(*copy)
        found = answer("store", "check", url, "--dir", mill.state)
        assert found["whole"] is True and found["records"] == records, found
        said = keymill(*copy, status=1).stderr
        assert "it has this keystore already" in said, said
    print(f"{broken} copies were killed on their way, and {spared} of their records not written again")
    assert broken and spared, (broken, spared)
    return broken


def drill(database, folder: Path) -> int:
    """The restore of a database, as the page has it. How many lines were run."""
    mill = Daemon(folder, arguments=("--store", database.url("fleet"), "--root-key", str(folder / "root.key")))
    database.ask("postgres", "CREATE DATABASE fleet")
    mill.start()
    try:
        key = json.loads(keymill("key", "create", "--json", "--endpoint", f"unix:{mill.socket}").stdout)["KeyMetadata"]["KeyId"]
        blob = mill.client("provisioner").generate_data_key_without_plaintext(KeyId="alias/containers", KeySpec="AES_256")["CiphertextBlob"]
        path = f"{Path(program('pg_dump')).parent}:{BINARY.parent}:{os.environ['PATH']}"
        host = {"PGHOST": str(database.folder), "PGPORT": str(database.port), "PGUSER": "keymill", "PATH": path}
        here = folder / "drill"
        here.mkdir()
        section = PAGE.read_text().split("**Restore.**")[1].split("**Loss of a node.**")[0]
        [dump] = re.findall(r"`(pg_dump [^`]+)`", section.replace("\n  ", ""))
        restore, check = blocks("Drills")
        shutil.copy(folder / "root.key", here / "root.key")
        (here / "drill.toml").write_text(f'[store]\nurl = "{database.url("drill")}"\n')
        for line in [dump.replace(" keymill", " fleet") if dump.endswith(" keymill") else dump, *restore, *check]:
            done = subprocess.run(line, shell=True, cwd=here, env=environment(**host), capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "whole: store" in done.stdout, done.stdout
        other = Daemon(folder / "other", arguments=("--store", database.url("drill"), "--root-key", str(here / "root.key")))
        (folder / "other").mkdir()
        other.start()
        try:
            opened = other.client("consumer").decrypt(CiphertextBlob=blob)
            assert len(opened["Plaintext"]) == 32 and opened["KeyId"].startswith("arn:"), opened
            assert json.loads(keymill("key", "describe", key, "--json", "--endpoint", f"unix:{other.socket}").stdout)
        finally:
            other.kill()
        # A node that comes back on an older database refuses to start.
        keymill("key", "create", "--endpoint", f"unix:{mill.socket}")
        assert mill.stop() == 0
        database.ask("postgres", "DROP DATABASE fleet")
        database.ask("postgres", "CREATE DATABASE fleet")
        subprocess.run(restore[1].replace("drill", "fleet"), shell=True, cwd=here, env=environment(**host), check=True)
        try:
            mill.start()
        except RuntimeError as refused:
            assert "keystore.seen" in str(refused), refused
        else:
            raise AssertionError("a node has started on an older database")
    finally:
        mill.kill()
    return len(restore) + len(check)


def main() -> None:
    tally = Tally()
    with server() as database, tempfile.TemporaryDirectory(prefix="moves-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        for part in ("moved", "killed", "drilled"):
            (folder / part).mkdir()
        lines = moves(database, folder / "moved", tally)
        lines += drill(database, folder / "drilled")
        kills(database, folder / "killed", tally)
    print(f"{lines} lines of the page were run")
    report("boto3 while a store moves to a fleet", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
