"""The Debian package: built twice to the same bytes, looked at by lintian, and installed, run, upgraded, removed and purged in a Debian of its own below a folder.

The daemon runs there as the package's user, in the folders that systemd would make. Needs root, for
chroot. What is packed is the build that is tested, not the one that is released.
"""

import contextlib
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

BUILD = ROOT / "config" / "debian" / "build"
SUITE = "bookworm"
# Made once: the packages come from Debian's servers.
BASE = BINARY.parents[1] / "tmp" / f"debian-{SUITE}.tar"
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 45
CONFIGURATION = "etc/keymill/keymill.toml"
STORE = "var/lib/keymill"


def run(*command, **options) -> subprocess.CompletedProcess:
    """Runs a command to its good end."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def build(out: Path, **variables: str) -> Path:
    done = run(BUILD, "--binary", BINARY, "--out", out, "--level", "0", env=environment(**variables), cwd=out)
    return Path(done.stdout.strip())


def base() -> Path:
    """A Debian of its essential packages, as an archive."""
    if not BASE.exists():
        BASE.parent.mkdir(parents=True, exist_ok=True)
        unfinished = BASE.with_suffix(f".{os.getpid()}.tar")
        run("mmdebstrap", "--quiet", "--variant=essential", "--include=adduser", SUITE, unfinished)
        unfinished.rename(BASE)
    return BASE


class Debian:
    """A Debian below a folder."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir()
        run("tar", "--numeric-owner", "-xpf", base(), "-C", root, "--exclude=./dev/*")
        self.log = root.parent / "daemon.log"
        self.process: subprocess.Popen | None = None

    def __call__(self, *command: str, user: str | None = None) -> str:
        """Runs a command in it, and returns what it has printed."""
        whose = [f"--userspec={user}:{user}"] if user else []
        variables = environment(DEBIAN_FRONTEND="noninteractive", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
        done = run("chroot", *whose, self.root, *command, env=variables)
        return done.stdout + done.stderr

    def dpkg(self, package: Path, *options: str) -> str:
        shutil.copy(package, self.root / "tmp" / package.name)
        return self("dpkg", *options, "-i", f"/tmp/{package.name}")

    def keymill(self, *arguments: str) -> str:
        """A command of the operator, who is the daemon's user."""
        return self("keymill", *arguments, "--endpoint", "unix:/run/keymill/keymill.sock", user="keymill")

    def unit(self) -> dict[str, str]:
        text = (self.root / "lib/systemd/system/keymill.service").read_text()
        return dict(re.findall(r"^(\w+)=(.+)$", text, re.M))

    @contextlib.contextmanager
    def running(self):
        """The service, with the folders that systemd makes for it."""
        unit = self.unit()
        uid, gid = (int(self("id", flag, unit["User"])) for flag in ("-u", "-g"))
        for folder, mode in ((STORE, unit["StateDirectoryMode"]), ("run/keymill", unit["RuntimeDirectoryMode"])):
            path = self.root / folder
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(int(mode, 8))
            os.chown(path, uid, gid)
        free = environment(KEYMILL_LISTEN__TCP="127.0.0.1:0", KEYMILL_LISTEN__ADMIN="127.0.0.1:0")
        whose = f"--userspec={unit['User']}:{unit['Group']}"
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                ["chroot", whose, self.root, *unit["ExecStart"].split()], env=free, umask=int(unit["UMask"], 8),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        try:
            deadline = time.monotonic() + READY_SECONDS_MAX
            while " ready endpoint=" not in self.log.read_text():
                assert process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS_MAX) == 0, self.log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def same_bytes(folder: Path) -> Path:
    """Two builds, from two folders and under two time zones and file modes."""
    packages = []
    for name, variables, mask in (("a", {}, 0o022), ("b", {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"}, 0o077)):
        out = folder / name
        out.mkdir()
        before = os.umask(mask)
        packages.append(build(out, **variables))
        os.umask(before)
    first, second = (package.read_bytes() for package in packages)
    assert first == second, "two builds of one program differ"
    return packages[0]


def of_newer_version(package: Path, folder: Path) -> Path:
    """The next package, of the same files."""
    tree = folder / "newer"
    run("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: (.+)-1$", r"Version: \1-2", control.read_text(), flags=re.M))
    newer = folder / "newer.deb"
    run("dpkg-deb", "--root-owner-group", "-z0", "--build", tree, newer)
    return newer


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    assert os.geteuid() == 0, "run this as root: it installs the package below a folder, by chroot"
    version = run(BINARY, "--version").stdout.split()[1]
    commands = 0
    with tempfile.TemporaryDirectory(prefix="keymill-debian-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        package = same_bytes(folder)
        found = run("lintian", "--allow-root", "--fail-on", "error,warning", package)
        assert not found.stdout.strip(), found.stdout

        debian = Debian(folder / "root")
        told = debian.dpkg(package)
        assert "set region and account in /etc/keymill/keymill.toml" in told, told
        assert not debian("dpkg", "--verify", "keymill").strip(), "installed files differ from the package"
        assert debian("keymill", "--version").split()[1] == version
        user = debian("getent", "passwd", "keymill").split(":")
        assert user[5:] == ["/var/lib/keymill", "/usr/sbin/nologin\n"] and int(user[2]) < 1000, user
        for page in ("keymill.1.gz", "keymill-serve.1.gz", "keymill-key-create.1.gz"):
            assert (debian.root / "usr/share/man/man1" / page).exists(), page
        debian("bash", "-n", "/usr/share/bash-completion/completions/keymill")
        installed = set(debian("dpkg", "-L", "keymill").split())
        for unit in ("keymill.service", "keymill.socket"):
            assert f"/lib/systemd/system/{unit}" in installed, installed

        file = debian.root / CONFIGURATION
        file.write_text(file.read_text().replace("us-east-1", "eu-central-1"))
        with debian.running():
            assert "created root key /var/lib/keymill/root.key" in debian.log.read_text()
            made = debian.keymill("key", "create", "--json")
            key = re.search(r'"KeyId":\s*"([^"]+)"', made)[1]
            assert "arn:aws:kms:eu-central-1:" in made, made
            commands += 1

        # What its administrator has changed is kept, and the store is opened.
        debian.dpkg(of_newer_version(package, folder))
        assert "eu-central-1" in file.read_text()
        for removal in (None, "--remove", "--purge"):
            if removal:
                told = debian("dpkg", removal, "keymill")
                assert file.exists() == (removal == "--remove"), removal
                assert ("/var/lib/keymill, with the store and its root key, is left" in told) == (removal == "--purge"), told
                assert (debian.root / STORE / "root.key").exists() and not (debian.root / "usr/bin/keymill").exists()
                debian.dpkg(package, "--force-confmiss")
                if removal == "--purge":
                    file.write_text(file.read_text().replace("us-east-1", "eu-central-1"))
            with debian.running():
                assert key in debian.keymill("key", "list", "--json")
                commands += 1
    report("the Debian package", version, commands)


if __name__ == "__main__":
    main()
