"""The systemd recipe: the install commands of config/keymill.service, then what the unit does, below a folder that stands for `/`.

As root, `ExecStart` runs as an unprivileged user, and what `ProtectSystem=strict` would make
read-only belongs to root; otherwise the folders outside of `StateDirectory` and `RuntimeDirectory`
are closed for writing. `useradd` and `systemctl` are not run, and neither is systemd's sandbox;
`systemd-analyze verify` looks at the unit where it is installed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from daemon import BINARY, ROOT, environment, report

UNIT = ROOT / "config" / "keymill.service"
# Any user that is not root and has no files.
UID = 12345
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 45
PORTS = {"KEYMILL_LISTEN__TCP": "127.0.0.1:0", "KEYMILL_LISTEN__ADMIN": "127.0.0.1:0"}
NOTICE = "root key"
# What the recipe does outside of files.
NOT_RUN = ("useradd", "systemctl", "sudo")


def recipe() -> list[str]:
    """The commands of the unit's first comment, in order."""
    head = UNIT.read_text().split("[Unit]")[0]
    commands = re.findall(r"^#     (\S.*)$", head, re.M)
    page = (ROOT / "docs" / "operator.md").read_text()
    for command in commands:
        assert command in page or command.startswith("sudo"), f"docs/operator.md does not have: {command}"
    return commands


class Host:
    """A folder that stands for `/`."""

    def __init__(self, root: Path):
        self.root = root
        self.user = {"user": UID, "group": UID, "extra_groups": []} if os.geteuid() == 0 else {}
        self.settings = dict(re.findall(r"^(\w+)=(.+)$", UNIT.read_text(), re.M))

    def below(self, text: str) -> str:
        """The text with the folders of the recipe below the root."""
        return re.sub(r"(?<![\w/])/(etc|var|run|usr)/", rf"{self.root}/\1/", text)

    def install(self) -> int:
        """Does the recipe's commands; how many were run."""
        done = 0
        for command in recipe():
            if command.split()[0] in NOT_RUN:
                continue
            command = self.below(command).replace("target/release/keymill", str(BINARY))
            subprocess.run(command, shell=True, cwd=ROOT, check=True)
            done += 1
        file = self.root / "etc/keymill/keymill.toml"
        file.write_text(self.below(file.read_text()))
        return done

    def make_folders(self) -> None:
        """What systemd makes before it starts the unit."""
        for kind, parent in (("State", "var/lib"), ("Runtime", "run")):
            folder = self.root / parent / self.settings[f"{kind}Directory"]
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(int(self.settings[f"{kind}DirectoryMode"], 8))
            if self.user:
                os.chown(folder, UID, UID)

    def close(self) -> None:
        """Nothing but the unit's two folders may be written."""
        for folder in ("etc", "etc/keymill", "var", "var/lib", "run", "usr", "usr/local", "usr/local/bin"):
            (self.root / folder).chmod(0o555)

    def reopen(self) -> None:
        for folder, _, _ in os.walk(self.root):
            Path(folder).chmod(0o755)

    def start(self, log: Path) -> subprocess.Popen:
        """`ExecStart`, until the daemon is ready."""
        command = self.below(self.settings["ExecStart"]).split()
        umask = int(self.settings["UMask"], 8)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, **self.user, umask=umask, cwd="/", env=environment(**PORTS), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while " ready endpoint=" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"{command} did not start (status {process.wait()}):\n{log.read_text()}")
            time.sleep(0.02)
        return process

    def stop(self, process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS_MAX) == 0, "the daemon did not drain"

    def keymill(self, *arguments: str) -> subprocess.CompletedProcess:
        """A command of the operator, who is the unit's user."""
        command = [self.root / "usr/local/bin/keymill", *map(self.below, arguments)]
        return subprocess.run(command, **self.user, cwd="/", env=environment(), capture_output=True, text=True, check=False)


def must_be_set(host: Host, folder: Path) -> None:
    """Without the recipe's audit folder the start is refused: the setting is needed."""
    file = host.root / "etc/keymill/keymill.toml"
    whole = file.read_text()
    file.write_text(whole.split("[audit]")[0])
    host.close()
    checked = host.keymill("config", "check", "--config", "/etc/keymill/keymill.toml")
    assert f"audit.path: this user (uid {host.user.get('user', os.geteuid())}) may not write in {host.root}/etc/keymill" in checked.stderr, checked
    try:
        host.start(folder / "refused.log")
    except AssertionError as refused:
        assert "audit" in str(refused), refused
    else:
        raise AssertionError("the daemon started without audit.path, with /etc closed")
    finally:
        host.reopen()
        file.write_text(whole)
        shutil.rmtree(host.root / "var/lib/keymill")
        host.make_folders()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="keymill-systemd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        host = Host(folder / "host")
        host.root.mkdir()
        process = None
        try:
            installed = host.install()
            assert installed == 3, recipe()
            host.make_folders()
            must_be_set(host, folder)
            host.close()
            checked = host.keymill("config", "check", "--config", "/etc/keymill/keymill.toml")
            assert checked.returncode == 0, checked
            for start in (1, 2):
                log = folder / f"start-{start}.log"
                process = host.start(log)
                assert (NOTICE in log.read_text()) == (start == 1), log.read_text()
                listed = host.keymill("principal", "list", "--endpoint", "unix:/run/keymill/keymill.sock", "--json")
                assert listed.returncode == 0, listed
                host.stop(process)
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            host.reopen()
        mode = (host.root / "var/lib/keymill/root.key").stat().st_mode & 0o777
        assert mode == 0o600, oct(mode)
    if analyze := shutil.which("systemd-analyze"):
        verify(analyze)
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    report("the systemd recipe", version, installed)


def verify(analyze: str) -> None:
    """What systemd itself says of the unit; that the program and its user are not installed here is no finding."""
    done = subprocess.run([analyze, "verify", "--man=no", UNIT], capture_output=True, text=True, check=False)
    findings = [line for line in done.stderr.splitlines() if UNIT.name in line and "/usr/local/bin/keymill" not in line]
    assert not findings, done.stderr


if __name__ == "__main__":
    main()
