"""The Python package as users get it: sdist and wheel, made without the network, and the wheel in an environment of its own."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

from daemon import ROOT, environment

SOURCE = ROOT / "clients" / "python"
# What a type checker and a lawyer look for.
CARRIED = {"keymill/py.typed", "keymill/__init__.py", "keymill-0.1.0.dist-info/licenses/LICENSE", "keymill-0.1.0.dist-info/METADATA"}


def run(*command: object, folder: Path) -> str:
    """Runs a tool that must end well; what it printed."""
    ran = subprocess.run([str(part) for part in command], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def checks() -> None:
    """Types and lints of the package, as pyproject.toml has them, and the repository's licence."""
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for tool in (["mypy", "--no-incremental"], ["ruff", "check", "--no-cache"], ["ruff", "format", "--check", "--no-cache"]):
        run(sys.executable, "-m", *tool, folder=SOURCE)


def build(folder: Path) -> Path:
    """The wheel that `python -m build` makes out of the sdist."""
    # A copy, because a build leaves files beside its sources.
    source = folder / "source"
    run("cp", "-r", SOURCE, source, folder=folder)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source, folder=folder)
    [sdist] = (folder / "dist").glob("*.tar.gz")
    [wheel] = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names >= CARRIED, CARRIED - names
    assert all(name.startswith(("keymill/", "keymill-0.1.0.dist-info/")) for name in names), names
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
    assert {"keymill-0.1.0/LICENSE", "keymill-0.1.0/examples/spark_provision.py"} <= names, names
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """The interpreter of a fresh environment with the wheel; its dependencies are the locked clients."""
    home = folder / "environment"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    [packages] = (home / "lib").glob("python*/site-packages")
    (packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # Without an index pip fails unless the dependencies that the wheel names are there.
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", f"{wheel}[http]", folder=folder)
    return python
