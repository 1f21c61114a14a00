"""docs/integrations.md, run as tour.py runs a page. Each section stands by itself, and reports its client with the calls that the daemon has answered meanwhile.

    tests/clients/.venv/bin/python tests/clients/integrations.py       sections of what Debian and PyPI have
    tests/clients/.venv/bin/python tests/clients/integrations.py go    sections of what Go builds
"""

import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import tour
from daemon import ROOT, report

PAGE = ROOT / "docs" / "integrations.md"
# What a section's client is called in docs/clients.toml, and what prints its version; for what Go
# builds, the page says it.
CLIENTS = {
    "LUKS volumes": ("LUKS", "cryptsetup --version"),
    "restic": ("restic", "restic version"),
    "PostgreSQL": ("PostgreSQL with psycopg", "psql --version"),
    "sops": ("sops", None),
    "Vault and OpenBao": ("go-kms-wrapping", None),
    "SeaweedFS": ("SeaweedFS", None),
    "OpenTofu": ("OpenTofu", None),
}
# Building what has a few hundred packages, on two cores that others use too.
BUILD_SECONDS_MAX = 3600


def sections() -> dict[str, str]:
    """The text of each section by its heading; what is above the first has none."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.M)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def run(reader: tour.Tour, folder: Path, heading: str, text: str) -> None:
    """Runs the commands of one section. A place that is said is in a file of the section's name."""
    part = folder / f"{heading or PAGE.stem}.md"
    part.write_text(text)
    for command in tour.commands(part):
        if isinstance(command, tour.Command):
            reader.run(command)
        else:
            reader.write(*command)


def answered(reader: tour.Tour) -> int:
    """How many calls the daemon has answered."""
    with urllib.request.urlopen(f"http://{reader.ports['127.0.0.1:5646']}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("keymill_requests_total"))


def version(reader: tour.Tour, text: str, command: str | None) -> str:
    """The version of a section's client."""
    if command is None:
        said = re.search(r"@(v\S+)", text)[1]
    else:
        said = subprocess.run(command.split(), env=reader.variables, capture_output=True, text=True, check=True).stdout
    return re.search(r"\d[\w.-]*", said)[0]


def use_go(reader: tour.Tour) -> None:
    """The reader has a Go whose downloads and builds are kept, and what it installs is on the path."""
    tour.COMMAND_SECONDS_MAX = BUILD_SECONDS_MAX
    kept = ("GOMODCACHE", "GOCACHE")
    places = subprocess.run(["go", "env", *kept], capture_output=True, text=True, check=True).stdout.split()
    reader.variables |= dict(zip(kept, places, strict=True)) | {"GOBIN": reader.variables["PATH"].split(":")[0]}


def main() -> None:
    with_go = sys.argv[1:] == ["go"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="keymill-integrations-", ignore_cleanup_errors=True) as name:
        reader, texts = tour.Tour(Path(name)), sections()
        try:
            if with_go:
                use_go(reader)
            reader.set_up(tour.INSTALL)
            run(reader, Path(name), "", texts[""])
            for heading, (client, command) in CLIENTS.items():
                if with_go == bool(re.search("^    go ", texts[heading], re.M)):
                    before = answered(reader)
                    run(reader, Path(name), heading, texts[heading])
                    report(client, version(reader, texts[heading], command), answered(reader) - before)
            reader.stop()
        finally:
            reader.kill()


if __name__ == "__main__":
    main()
