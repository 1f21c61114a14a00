"""A fleet on hosts with systemd, as docs/fleet-operations.md has it: its install commands and
config/keymill-fleet.toml, on two folders that stand for `/`, and a PostgreSQL server.

systemd itself is not run: what `LoadCredential` makes is put where it would be.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import boto3
import botocore
import botocore.config
from daemon import BINARY, ROOT, environment, report, wait_until
from postgres import free_port, server
from systemd_unit import UID, Host
from tls import Authority

PAGE = ROOT / "docs" / "fleet-operations.md"
SAMPLE = ROOT / "config" / "keymill-fleet.toml"
READY_SECONDS_MAX = 60


def commands() -> list[str]:
    """What the page has its reader run on each host, but for systemctl."""
    section = PAGE.read_text().split("## On hosts with systemd")[1]
    [block] = re.findall(r"```sh\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    return [line.split("  #")[0] for line in block.splitlines() if not line.startswith("systemctl")]


class Node(Host):
    """A host of the fleet."""

    def __init__(self, root: Path, url: str, given: Path):
        super().__init__(root)
        self.url, self.given = url, given
        self.ports = {"KEYMILL_LISTEN__TCP": f"0.0.0.0:{free_port()}", "KEYMILL_LISTEN__ADMIN": f"127.0.0.1:{free_port()}"}
        self.process: subprocess.Popen | None = None

    @property
    def variables(self) -> dict[str, str]:
        credentials = self.root / "run/credentials/keymill.service"
        return environment(**self.ports, CREDENTIALS_DIRECTORY=str(credentials))

    def prepare(self, is_first: bool) -> int:
        """The page's commands; how many were run."""
        self.make_folders()
        for folder in ("etc/keymill", "usr/bin", "run/credentials/keymill.service"):
            (self.root / folder).mkdir(parents=True)
        # The unit's user may not reach where it was built.
        self.program = shutil.copy(BINARY, self.root / "usr/bin/keymill")
        done = 0
        for command in commands():
            if is_first and "root.key" in command:
                continue
            command = self.below(f"{command} ").strip()
            # The user of the unit stands for keymill, where there are other users.
            command = command.replace("-o keymill -g keymill", f"-o {UID} -g {UID}" if self.user else "").replace("-g keymill", f"-g {UID}" if self.user else "")
            subprocess.run(command, shell=True, cwd=self.given, check=True)
            done += 1
        credential = self.root / "run/credentials/keymill.service/database"
        credential.write_bytes((self.root / "etc/keymill/database-password").read_bytes())
        credential.chmod(0o400)
        if self.user:
            os.chown(credential, UID, UID)
        text = SAMPLE.read_text()
        assert text.count("postgres://keymill@db.example.com/keymill") == 1
        config = self.root / "etc/keymill/keymill.toml"
        config.write_text(self.below(text).replace("postgres://keymill@db.example.com/keymill", self.url))
        return done

    def keymill(self, *arguments: str) -> str:
        ran = subprocess.run([self.program, *arguments], env=self.variables, cwd="/", capture_output=True, text=True, check=False, **self.user)
        assert ran.returncode == 0, (arguments, ran.stderr)
        return ran.stdout

    def start(self) -> None:
        config = str(self.root / "etc/keymill/keymill.toml")
        said = self.keymill("config", "check", "--config", config)
        assert "is sound" in said, said
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen([self.program, "serve", "--config", config], env=self.variables, cwd="/", stdout=log, stderr=log, **self.user)
        wait_until(self.is_ready, READY_SECONDS_MAX, f"a node that is ready: {self.log()}")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"http://{self.ports['KEYMILL_LISTEN__ADMIN']}/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def log(self) -> str:
        return (self.root / "log").read_text()[-3000:]

    def operator(self, *arguments: str) -> str:
        return self.keymill(*arguments, "--endpoint", f"unix:{self.root}/run/keymill/keymill.sock")

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def main() -> None:
    with server() as database, tempfile.TemporaryDirectory(prefix="hosts-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        database.ask("postgres", "CREATE DATABASE keymill")
        given = folder / "given"
        given.mkdir()
        authority = Authority(folder, "authority")
        certificate, key = authority.server("server")
        for name, content in {
            "tls.crt": Path(certificate).read_bytes(), "tls.key": Path(key).read_bytes(), "database-ca.pem": authority.bundle.read_bytes(), "database-password": b"secret\n",
        }.items():
            (given / name).write_bytes(content)
        hosts = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            hosts.append(Node(folder / name, database.url("keymill"), given))
        first, second = hosts
        try:
            done = first.prepare(is_first=True)
            first.start()
            assert "copy" in first.log() and "root.key" in first.log(), first.log()
            # The first start has made the root key.
            (given / "root.key").write_bytes((first.root / "var/lib/keymill/root.key").read_bytes())
            done += second.prepare(is_first=False)
            second.start()
            made = re.search(r'"KeyId": ?"([^"]+)"', first.operator("key", "create", "--json"))
            policy = folder / "policy.json"
            policy.write_text('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:GenerateDataKeyWithoutPlaintext","Resource":"*"}]}')
            told = first.operator("principal", "create", "minter", "--policy", str(policy), "--json")
            secrets = dict(re.findall(r'"(AccessKeyId|SecretAccessKey)": ?"([^"]+)"', told))
            kms = boto3.client(
                "kms", endpoint_url=f"https://127.0.0.1:{second.ports['KEYMILL_LISTEN__TCP'].rsplit(':', 1)[1]}", region_name="us-east-1", verify=str(authority.bundle),
                aws_access_key_id=secrets["AccessKeyId"], aws_secret_access_key=secrets["SecretAccessKey"], config=botocore.config.Config(retries={"total_max_attempts": 1}),
            )
            deadline = time.monotonic() + 5
            while True:
                try:
                    blob = kms.generate_data_key_without_plaintext(KeyId=made[1], KeySpec="AES_256")["CiphertextBlob"]
                    break
                except botocore.exceptions.ClientError:
                    assert time.monotonic() < deadline, second.log()
                    time.sleep(0.1)
            assert blob
        except BaseException:
            for host in hosts:
                print(host.log() if (host.root / "log").exists() else "", file=sys.stderr)
            raise
        finally:
            for host in hosts:
                host.kill()
    report("keymill on the hosts of a fleet", "0.1.0", done)


if __name__ == "__main__":
    main()
