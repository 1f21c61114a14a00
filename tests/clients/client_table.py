"""The table of clients in docs/clients.md, made of docs/clients.toml and of the versions in the lock files. With `--write` it is written anew.

With a file, `tests/run` or `tests/long`, the clients that the rows say are run by it must have reported, and what has reported must have a row.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

from daemon import LINES, ROOT

CLIENTS = Path(__file__).resolve().parent
PAGE, ROWS = ROOT / "docs" / "clients.md", tomllib.loads((ROOT / "docs" / "clients.toml").read_text())
BEGIN, END = "<!-- clients: written by tests/clients/client_table.py --write -->", "<!-- /clients -->"
# Lock files that are not in the folder of the clients; a page says what its reader installs.
OF_THE_ROOT = {"Cargo.lock", "docs/integrations.md"}
PLACES = ["tests/run", "tests/long"]
MEMBERS = {"name", "reports", "lock", "ran", "result", "long"}


def version(file: str, package: str) -> str:
    """The version of a package that a lock file has."""
    path = ROOT / file if file in OF_THE_ROOT else CLIENTS / file
    text, name = path.read_text(), re.escape(package)
    if file == "package-lock.json":
        return json.loads(text)["packages"][f"node_modules/{package}"]["version"]
    patterns = {
        ".txt": rf"^{name}==([^ ]+) ", ".mod": rf"^\s*{name} v(\S+)", ".xml": rf"<artifactId>{name}</artifactId>\s*<version>([^<]+)<",
        ".lock": rf'^name = "{name}"\nversion = "([^"]+)"', ".md": rf"{name}@v(\S+)",
    }
    found = re.findall(patterns[path.suffix], text, re.MULTILINE)
    assert len(found) == 1, f"{file} has {package} {len(found)} times"
    return found[0]


def table() -> list[str]:
    lines = ["| client | version | what is run | by | result |", "|---|---|---|---|---|"]
    for row in ROWS["clients"]:
        assert row.keys() <= MEMBERS, f"{row['name']}: {row.keys() - MEMBERS}"
        of = version(*row["lock"]) if "lock" in row else "as installed"
        lines.append(f"| {row['name']} | {of} | {row['ran']} | `{place(row)}` | {row.get('result', 'as it is')} |")
    return lines


def place(row: dict) -> str:
    return PLACES[row.get("long", False)]


def faults_of(ran: str) -> list[str]:
    """What the lines that the steps of a script have left, as "NAME VERSION: N calls", say otherwise."""
    lines = [file.read_text() for file in LINES.iterdir()]
    named = {name: row for row in ROWS["clients"] for name in row["reports"]}

    def of(line: str) -> str | None:
        """The row's name that the line begins with; the longest, since names begin with others."""
        return max((name for name in named if line.startswith(f"{name} ")), key=len, default=None)

    reported = {of(line) for line in lines}
    others = [re.compile(pattern) for pattern in ROWS["others"]["reports"]]
    missing = [f"{name} has a row in docs/clients.toml, and did not report" for name, row in named.items() if place(row) == ran and name not in reported]
    unknown = [f"docs/clients.toml has no row for {line.strip()}" for line in lines if of(line) is None and not any(other.match(line) for other in others)]
    return missing + unknown


def main() -> None:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    lines = table()
    new = "\n".join([before + BEGIN, *lines, END + after])
    faults = [fault for ran in sys.argv[1:] if ran in PLACES for fault in faults_of(ran)]
    if "--write" in sys.argv:
        PAGE.write_text(new)
    elif new != text:
        faults.append("docs/clients.md does not say so; tests/clients/client_table.py --write writes the table:\n" + "\n".join(lines))
    print(*faults, sep="\n")
    assert not faults, f"{len(faults)} faults"


if __name__ == "__main__":
    main()
