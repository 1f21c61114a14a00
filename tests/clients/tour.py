"""The commands of README.md and of the pages in docs, run from top to bottom as a reader would.

    tests/clients/.venv/bin/python tests/clients/tour.py README.md docs/operator.md

Each page starts in an empty folder and in a clean shell, whose variables and folder last from one
command to the next. In a page

- an indented block is commands, each of which must end well;
- `# SomeException` or `# SomeError` after a command says that it must fail, with that in what it prints;
- `# → text` after a command says that this is in what it prints;
- a fenced block whose first line is a comment with the name of a file is written there;
- `keymill dev`, `keymill serve` and what ends with `&` go on in a terminal of their own, until the
  page is done;
- `export …=…` with dots is replaced by what `keymill dev` has printed for the principal that the
  comment names.

`PAGE --self` runs what `keymill dev` itself prints. Three things are not done to the letter: the
daemon listens on ports that the kernel picks, so the two of the documents are replaced; lines of
SETUP, which build Keymill, are done by putting what is built already on the path; and DuckDB's
command line is its Python package, behind the same arguments.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from daemon import BINARY, ROOT, environment, report

CLIENTS = Path(__file__).resolve().parent
COMMAND_SECONDS_MAX = 300
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 40
# The ports of the documents, by the setting that moves them.
PORTS = {"KEYMILL_LISTEN__TCP": "127.0.0.1:5645", "KEYMILL_LISTEN__ADMIN": "127.0.0.1:5646"}
INSTALL = "cargo install --path . --locked --profile quick"
# What a reader does once to have the programs, by the folder that has what it would install.
SETUP = {
    INSTALL: BINARY.parent,
    f"{INSTALL} --example storage_backend": BINARY.parent / "examples",
    "pip install ./clients/python": ROOT / "clients" / "python",
}
DUCKDB = """#!{python}
import sys, duckdb
for flag, sql in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    assert flag == "-c", flag
    print(duckdb.sql(sql) or "")
"""
# A shell that ran leaves its variables and its folder behind.
SHELL = """set -o pipefail -o allexport
{command}
status=$?
env -0 > "$TOUR/variables"; pwd > "$TOUR/folder"
exit $status
"""


class Command:
    """A command of a page, and what the page says of it."""

    def __init__(self, lines: list[str], place: str):
        self.text, self.place = "\n".join(lines), place
        last = lines[-1] if "<<" not in lines[0] else lines[0]
        bare, _, comment = last.partition(" # ")
        self.bare, self.comment = bare.strip(), comment.strip()
        named = re.match(r"\w+(?:Exception|Error)\b", self.comment)
        self.fails = named[0] if named else None
        self.prints = self.comment.removeprefix("→ ") if self.comment.startswith("→ ") else self.fails


def commands(page: Path):
    """Every command of a page, and every file that it has, in order."""
    text = page.read_text().splitlines()
    at = 0
    while at < len(text):
        line, place = text[at], f"{page.name}:{at + 1}"
        if line.startswith("```"):
            end = text.index("```", at + 1)
            named = re.match(r"(?:#|//) (\w[\w.-]*\.\w+)$", text[at + 1])
            if named:
                yield named[1], "\n".join(text[at + 1:end]) + "\n"
            at = end + 1
        elif line.startswith("    ") and not line[4:].startswith("#"):
            lines = [line[4:]]
            if heredoc := re.search(r"<<'?(\w+)'?", line):
                while lines[-1] != heredoc[1]:
                    at += 1
                    lines.append(text[at].removeprefix("    "))
            while re.search(r"\\$", lines[-1]):
                at += 1
                lines.append(text[at][4:])
            yield Command(lines, place)
            at += 1
        else:
            at += 1


class Tour:
    """One reader, in a folder of its own."""

    def __init__(self, folder: Path):
        self.state = folder / "tour"
        bin_folder, self.home = folder / "bin", folder / "home"
        for path in (self.state, bin_folder, self.home):
            path.mkdir()
        self.folder = self.home
        duckdb = bin_folder / "duckdb"
        duckdb.write_text(DUCKDB.format(python=sys.executable))
        duckdb.chmod(0o755)
        path = [bin_folder, Path(sys.executable).parent, *os.environ["PATH"].split(":")]
        node = CLIENTS / "node_modules"
        self.variables = environment(PATH=":".join(map(str, path)), HOME=str(self.home), TOUR=str(self.state), NODE_PATH=str(node))
        self.daemons: list[subprocess.Popen] = []
        self.beside: list[subprocess.Popen] = []
        self.printed = ""
        self.ports: dict[str, str] = {}
        self.done = 0

    def run(self, command: Command) -> None:
        """Runs a command, and holds it to what the page says of it."""
        if command.bare in SETUP:
            self.set_up(command.bare)
        elif re.match(r"keymill (dev|serve)\b", command.text):
            self.start(command)
        elif command.bare.endswith(" &"):
            self.leave(command)
        elif command.text.startswith("export") and "…" in command.text:
            self.paste(command)
        else:
            self.call(command)
        self.done += 1

    def set_up(self, command: str) -> None:
        folder = SETUP[command]
        if "--example" in command:
            # With the daemon's profile, whose folder has another name for `dev` alone.
            name, profile = command.split()[-1], BINARY.parent.name.replace("debug", "dev")
            build = ["cargo", "build", "--quiet", "--locked", "--profile", profile, "--example", name]
            subprocess.run(build, cwd=ROOT, check=True)
        variable = "PYTHONPATH" if command.startswith("pip") else "PATH"
        self.variables[variable] = f"{folder}:{self.variables.get(variable, '')}"

    def start(self, command: Command) -> None:
        """Starts a daemon in another terminal; returns once it serves."""
        self.stop()
        log = self.state / "daemon.log"
        listen = dict.fromkeys(PORTS, "127.0.0.1:0")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command.text}"], cwd=self.folder, env=self.variables | listen,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )
        self.daemons.append(process)
        ended = "Ctrl-C stops it" if command.text.startswith("keymill dev") else " ready endpoint="
        deadline = time.monotonic() + READY_SECONDS_MAX
        while ended not in log.read_text():
            said = f"{command.place}: {command.text}\n{log.read_text()}"
            assert process.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.02)
        self.printed = log.read_text()
        addresses = re.search(r" ready endpoint=https?://(\S+) .*admin=http://(\S+)", self.printed)
        self.ports = dict(zip(PORTS.values(), addresses.groups(), strict=True))

    def paste(self, command: Command) -> None:
        """Does the line that `keymill dev` has printed for the principal that the comment names."""
        # A heading that ends with a colon, then lines that are indented.
        sections = re.split(r"^(?=\S.*:$)", self.printed, flags=re.M)
        wanted = re.search(r"provisioner|consumer|admin", command.comment)
        assert wanted, f"{command.place}: for whom? {command.text}"
        section = next(part for part in sections if wanted[0] in part.splitlines()[0] and "AWS_ACCESS_KEY_ID" in part)
        for line in re.findall(r"^ +(export .*)$", section, re.M):
            names = re.findall(r"(\w+)=", command.text.split("#")[0])
            if all(f"{name}=" in line for name in names):
                self.call(Command([line], command.place))
                return
        raise AssertionError(f"{command.place}: `keymill dev` does not print {command.text}")

    def leave(self, command: Command) -> None:
        """Starts what goes on beside the page. It is killed when the page is done."""
        line = self.on_real_ports(command.text.rpartition("&")[0])
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=self.folder, env=self.variables, stdin=subprocess.DEVNULL, start_new_session=True,
        )
        self.beside.append(process)

    def on_real_ports(self, text: str) -> str:
        for documented, real in self.ports.items():
            text = text.replace(documented, real)
        return text

    def call(self, command: Command) -> None:
        text = self.on_real_ports(command.text)
        done = subprocess.run(
            ["bash", "-c", SHELL.format(command=text)], cwd=self.folder, env=self.variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS_MAX, check=False,
        )
        printed = done.stdout.decode(errors="replace")
        said = f"{command.place}: {text}\nended with {done.returncode} and printed\n{printed}"
        assert (done.returncode != 0) == bool(command.fails), said
        assert not command.prints or command.prints in printed, said
        print(said.splitlines()[0])
        pairs = (self.state / "variables").read_bytes().decode().split("\0")
        self.variables = dict(pair.split("=", 1) for pair in pairs if pair)
        self.folder = Path((self.state / "folder").read_text().rstrip("\n"))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(self.on_real_ports(text))

    def stop(self) -> None:
        """Ends the daemons as Ctrl-C would; each must have drained."""
        while self.daemons:
            process = self.daemons.pop()
            os.killpg(process.pid, signal.SIGINT)
            status = process.wait(STOP_SECONDS_MAX)
            assert status == 0, f"a daemon ended with {status}:\n{(self.state / 'daemon.log').read_text()}"

    def kill(self) -> None:
        for process in [*self.daemons, *self.beside]:
            process.kill()
            process.wait()


def follow(page: Path) -> int:
    """Follows a page to its end; how many commands it has."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="keymill-tour-", ignore_cleanup_errors=True) as folder:
        tour = Tour(Path(folder))
        try:
            if page != ROOT / "README.md":
                # Pages begin with `keymill` on the path, as the README has put it there.
                tour.set_up(INSTALL)
            for command in commands(page):
                if isinstance(command, Command):
                    tour.run(command)
                else:
                    tour.write(*command)
            tour.stop()
        finally:
            tour.kill()
        return tour.done


def what_dev_prints() -> int:
    """The commands that `keymill dev` prints, in order, in the folder where it was started."""
    with tempfile.TemporaryDirectory(prefix="keymill-tour-", ignore_cleanup_errors=True) as folder:
        tour = Tour(Path(folder))
        try:
            tour.set_up(INSTALL)
            tour.run(Command(["keymill dev"], "dev"))
            page = tour.state / "printed.md"
            is_command = re.compile(r"  (?:export|aws|keymill|    )")
            lines = tour.printed.splitlines()
            page.write_text("\n".join(f"  {line}" if is_command.match(line) else line.lstrip() for line in lines))
            tour.ports = {}
            for command in commands(page):
                tour.run(command)
            tour.stop()
        finally:
            tour.kill()
        return tour.done


def main() -> None:
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    for page in sys.argv[1:]:
        report(f"commands of {page}", version, follow(ROOT / page))
    if not sys.argv[1:]:
        report("commands that keymill dev prints", version, what_dev_prints())


if __name__ == "__main__":
    main()
