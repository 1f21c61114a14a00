"""The container image: built twice to the same digest from the Debian package, taken apart, and run in a chroot as its configuration says.

No registry and no runtime of containers is needed; buildah makes the image. Needs root, for chroot.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from daemon import BINARY, ROOT, environment, report
from debian_package import READY_SECONDS_MAX, STOP_SECONDS_MAX, build, run

IMAGE = ROOT / "config" / "container" / "build"
UID = 10001


def blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


def unpack(archive: Path, folder: Path) -> tuple[dict, str]:
    """Unpacks an OCI archive, and its layers into `root`; its configuration and its digest."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    digest = json.loads((folder / "index.json").read_text())["manifests"][0]["digest"]
    manifest = json.loads(blob(folder, digest).read_text())
    (folder / "root").mkdir()
    for layer in manifest["layers"]:
        run("tar", "--numeric-owner", "-xpf", blob(folder, layer["digest"]), "-C", folder / "root")
    return json.loads(blob(folder, manifest["config"]["digest"]).read_text())["config"], digest


def serves(root: Path, config: dict, log: Path) -> int:
    """Runs the image's command, with a socket and a store as volumes would be; the number of calls."""
    command = ["chroot", f"--userspec={config['User']}", root, *config["Entrypoint"], *config["Cmd"]]
    free = environment(KEYMILL_LISTEN__TCP="127.0.0.1:0", KEYMILL_LISTEN__ADMIN="127.0.0.1:0")
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=free, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while " ready endpoint=" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        operator = ["chroot", f"--userspec={config['User']}", root, *config["Entrypoint"]]
        endpoint = ["--endpoint", "unix:/run/keymill/keymill.sock", "--json"]
        made = run(*operator, "key", "create", *endpoint, env=environment()).stdout
        key = re.search(r'"KeyId":\s*"([^"]+)"', made)[1]
        assert key in run(*operator, "key", "list", *endpoint, env=environment()).stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS_MAX) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return 2


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    assert os.geteuid() == 0, "run this as root: the image is run by chroot"
    version = run(BINARY, "--version").stdout.split()[1]
    with tempfile.TemporaryDirectory(prefix="keymill-image-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        package = build(folder)
        images = [folder / name for name in ("a", "b")]
        digests = []
        for image in images:
            image.mkdir()
            run(IMAGE, "--package", package, "--out", image / "image.tar", env=environment())
            config, digest = unpack(image / "image.tar", image)
            digests.append(digest)
        assert digests[0] == digests[1], f"two builds of one image differ: {digests}"

        root = images[0] / "root"
        assert config["User"] == f"{UID}:{UID}" and config["StopSignal"] == "SIGTERM", config
        programs = [
            path.relative_to(root).as_posix() for path in root.rglob("*")
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & stat.S_IXUSR and ".so" not in path.name
        ]
        assert programs == ["usr/bin/keymill"], programs
        writable = [
            path.relative_to(root).as_posix() for path in root.rglob("*")
            if not path.is_symlink() and (path.stat().st_uid == UID or path.stat().st_mode & stat.S_IWOTH)
        ]
        assert sorted(writable) == ["run/keymill", "tmp", "var/lib/keymill"], writable
        assert (root / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE") > 50
        calls = serves(root, config, folder / "daemon.log")
        print(f"the image {digests[0]}: {(images[0] / 'image.tar').stat().st_size / 1e6:.0f} MB")
    report("the container image", version, calls)


if __name__ == "__main__":
    main()
