"""A PostgreSQL server in a folder of its own, on a Unix socket and on loopback, as an ordinary user; and a proxy before it.

The server is the one that is installed (Debian's package `postgresql`). It is asked over `psql`.
"""

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

START_SECONDS = 120


def program(name: str) -> str:
    """A program of the newest PostgreSQL here."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return str(folders[-1] / name) if folders else name


def as_user(command: list[str]) -> list[str]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return command
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *command]


class Server:
    """One cluster of databases."""

    def __init__(self, folder: Path, *options: str):
        self.folder = folder
        self.port = free_port()
        # Settings of this server alone, which a copy of its cluster does not have.
        self.options = options
        self.process: subprocess.Popen | None = None
        self.version = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]

    def make(self) -> None:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self.folder.chmod(0o755)
        command = [program("initdb"), "-D", str(self.folder / "data"), "-U", "keymill", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(as_user(command), cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        command = [
            program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", *(part for option in self.options for part in ("-c", option)),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(as_user(command), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while self.ask("postgres", "SELECT 1", check=False) != "1":
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """All of its processes at once, as after a crash: SIGQUIT, which it has handlers for."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    def kill_postmaster(self) -> None:
        """Kill -9 of the first process. The others notice, and end by themselves."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def kill_backend(self) -> None:
        """Kill -9 of one of the processes that serve connections, if there are any: the server ends the others, and recovers."""
        kinds = "('client backend', 'walwriter')"
        query = f"SELECT pid FROM pg_stat_activity WHERE backend_type IN {kinds} AND pid <> pg_backend_pid() ORDER BY backend_type, random() LIMIT 1"
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self.ask("postgres", query)), signal.SIGKILL)

    def start_again(self) -> None:
        """A start that what is left of the server before may be in the way of."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.start()
            except AssertionError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-4000:]
                time.sleep(0.1)

    def ask(self, database: str, query: str, check: bool = True) -> str:
        """What psql prints, fields divided by |."""
        command = [shutil.which("psql") or program("psql"), "-h", str(self.folder), "-p", str(self.port), "-U", "keymill", "-d", database, "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", query]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{query}: {done.stderr}"
        return done.stdout.strip()

    def url(self, database: str) -> str:
        """Over the Unix socket."""
        return f"postgres://keymill@/{database}?host={self.folder}&port={self.port}"


@contextlib.contextmanager
def server():
    """A server that has started, in a folder that goes with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        running = Server(Path(folder))
        running.make()
        try:
            running.start()
            yield running
        finally:
            running.kill()


class Pooler:
    """PgBouncer in transaction mode before a server, with the settings that docs/fleet.md asks for."""

    SETTINGS = """
[databases]
* = host={folder} port={to} user=keymill
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
query_wait_timeout = 5
server_login_retry = 1
"""

    def __init__(self, folder: Path, of: Server):
        self.port = free_port()
        self.folder = folder / "pgbouncer"
        self.process: subprocess.Popen | None = None
        self.folder.mkdir()
        (self.folder / "pgbouncer.ini").write_text(self.SETTINGS.format(folder=of.folder, to=of.port, port=self.port))
        said = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True, check=True).stdout
        self.version = said.split()[1]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                as_user(["pgbouncer", str(self.folder / "pgbouncer.ini")]), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def url(self, database: str) -> str:
        return f"postgres://keymill@127.0.0.1:{self.port}/{database}"


class Proxy:
    """Passes TCP connections on to a server: until it is told to cut them, to be silent, or to be slow."""

    def __init__(self, to: int):
        self.to = to
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections: list[tuple[socket.socket, socket.socket]] = []
        self.passing = threading.Event()
        self.passing.set()
        self.delay = 0.0
        self.refuses = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            if self.refuses:
                client.close()
                continue
            try:
                pair = (client, socket.create_connection(("127.0.0.1", self.to)))
            except OSError:
                client.close()
                continue
            self.connections.append(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                select.select([source], [], [])
                self.passing.wait()
                data = source.recv(65536)
                if not data:
                    break
                if self.delay:
                    time.sleep(self.delay)
                self.passing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """Takes everything and passes nothing on, as a network that has lost its way does."""
        self.passing.clear()

    def cut(self) -> None:
        """Closes every connection, and refuses others."""
        self.refuses = True
        for pair in self.connections:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def mend(self) -> None:
        self.refuses = False
        self.delay = 0.0
        self.passing.set()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
