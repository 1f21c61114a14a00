"""A service manager that does what systemd does for config/keymill.service and config/keymill.socket: it makes the sockets and keeps them, hears the notices, watches, hands over credentials.

The daemon is started, reloaded, hung, restarted under callers, and stopped. systemd itself runs
where it can without being process 1: its systemd-socket-activate, and its looks at the units.
"""

import contextlib
import ctypes
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from daemon import BINARY, ROOT, environment, report
from systemd_unit import READY_SECONDS_MAX, STOP_SECONDS_MAX, UID, UNIT, Host
from unix_socket import JSON, UnixConnection

SOCKETS = ROOT / "config" / "keymill.socket"
# In the place of the unit's 30 s, so that a hang is noticed in the time of a test.
WATCHDOG_SECONDS = 2.0
RESTARTS = 8
# What a caller may wait beyond the time in which there is no daemon: for its turn among the others.
TURN_SECONDS_MAX = 1.0
CONFIGURATION_STATUS = 78
REGION = "us-east-1"
POLICY = {"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}


def settings(unit: Path) -> dict[str, list[str]]:
    """The settings of a unit; one may be there more than once."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.+)$", unit.read_text(), re.M):
        found.setdefault(name, []).append(value)
    return found


class Notices:
    """The socket of NOTIFY_SOCKET, and what arrived there: time, sender and lines."""

    def __init__(self, path: Path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.arrived: list[tuple[float, int, dict[str, str]]] = []
        threading.Thread(target=self.receive, daemon=True).start()

    def receive(self) -> None:
        while True:
            text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
            pid = struct.unpack("iII", ancillary[0][2])[0]
            lines = dict(line.split("=", 1) for line in text.decode().splitlines())
            self.arrived.append((time.monotonic(), pid, lines))

    def of(self, process: subprocess.Popen, name: str) -> list[tuple[float, dict[str, str]]]:
        """What the service's main process has sent, as NotifyAccess=main has it."""
        return [(at, lines) for at, pid, lines in list(self.arrived) if pid == process.pid and name in lines]

    def wait(self, process: subprocess.Popen, name: str, count: int, seconds: float) -> list[tuple[float, dict[str, str]]]:
        deadline = time.monotonic() + seconds
        while len(found := self.of(process, name)) < count:
            assert time.monotonic() < deadline, f"{name}: {len(found)} notices in {seconds} s, of {self.arrived[-9:]}"
            time.sleep(0.01)
        return found


class Manager:
    """The two units, below a folder that stands for `/`."""

    def __init__(self, folder: Path):
        self.host = Host(folder / "host")
        self.host.root.mkdir()
        self.host.install()
        self.host.make_folders()
        self.notices = Notices(folder / "notify")
        self.service, self.unit = settings(UNIT), settings(SOCKETS)
        self.log = folder / "log"
        self.process: subprocess.Popen | None = None
        self.file = self.host.root / "etc/keymill/keymill.toml"
        self.sockets = [self.listen(self.host.below(address)) for address in self.unit["ListenStream"]]
        [self.path] = [one.getsockname() for one in self.sockets if one.family == socket.AF_UNIX]
        [self.tcp] = [one.getsockname() for one in self.sockets if one.family == socket.AF_INET]
        me = "root" if os.geteuid() == 0 else str(os.geteuid())
        self.file.write_text(f"{self.file.read_text()}\n[peers.users]\n{me} = 'arn:aws:iam::111122223333:user/caller'\n")

    def listen(self, address: str) -> socket.socket:
        """A socket of the unit, on a free port."""
        backlog = int(self.unit["Backlog"][0])
        if not address.startswith("/"):
            return socket.create_server((address.rsplit(":", 1)[0], 0), backlog=backlog)
        made = socket.socket(socket.AF_UNIX)
        made.bind(address)
        os.chmod(address, int(self.unit["SocketMode"][0], 8))
        if self.host.user:
            os.chown(address, UID, UID)
        made.listen(backlog)
        return made

    def start(self, sockets: list[socket.socket] | None = None, **variables: str) -> None:
        """`ExecStart`, with the sockets as descriptors from 3 on, until the first notice is awaited."""
        sockets = self.sockets if sockets is None else sockets
        high = [os.dup2(one.fileno(), 100 + at) for at, one in enumerate(sockets)]
        moves = "".join(f"exec {3 + at}<&{fd} {fd}<&-; " for at, fd in enumerate(high))
        given = {
            "KEYMILL_LISTEN__TCP": "{}:{}".format(*self.tcp), "KEYMILL_LISTEN__ADMIN": "127.0.0.1:0",
            "NOTIFY_SOCKET": str(self.notices.path), "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
        }
        if sockets:
            names = ":".join(self.unit.get("FileDescriptorName", [SOCKETS.name]) * len(sockets))
            given |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
        # Both must be the daemon's own, which takes the place of this shell.
        shell = f"{moves}export LISTEN_PID=${{LISTEN_PID:-$$}} WATCHDOG_PID=${{WATCHDOG_PID:-$$}}; exec \"$@\""
        command = self.host.below(self.service["ExecStart"][0]).split()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", shell, "bash", *command], **self.host.user, umask=int(self.service["UMask"][0], 8), cwd="/",
                env=environment(**given | variables), pass_fds=high, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )
        for fd in high:
            os.close(fd)

    def ready(self) -> float:
        """When the daemon said that it is started."""
        return self.notices.wait(self.process, "READY", 1, READY_SECONDS_MAX)[0][0]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS_MAX) == 0, self.tail()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def refused(self, expected: str, sockets: list[socket.socket] | None = None, **variables: str) -> None:
        """A start that fails with a line, and without a notice that it serves."""
        before = len(self.tail(None))
        self.start(sockets, **variables)
        status = self.process.wait(READY_SECONDS_MAX)
        said = self.tail(None)[before:]
        assert status == CONFIGURATION_STATUS and expected in said.splitlines()[-1], (status, expected, said)
        assert not self.notices.of(self.process, "READY"), said

    def tail(self, characters: int | None = 4000) -> str:
        text = self.log.read_text()
        return text if characters is None else text[-characters:]

    def operator(self, *arguments: str) -> dict:
        done = self.host.keymill(*arguments, "--endpoint", f"unix:{self.path}", "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)


class TcpConnection(http.client.HTTPConnection):
    """HTTP over TCP, with requests that are signed one by one."""

    def __init__(self, address: tuple[str, int], credentials: botocore.credentials.Credentials):
        super().__init__(*address, timeout=READY_SECONDS_MAX)
        self.credentials = credentials

    def call(self, operation: str, members: dict) -> tuple[int, dict]:
        head = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}", "Host": f"{self.host}:{self.port}"}
        body = json.dumps(members).encode()
        request = botocore.awsrequest.AWSRequest("POST", f"http://{self.host}:{self.port}/", head, body)
        botocore.auth.SigV4Auth(self.credentials, "kms", REGION).add_auth(request)
        self.request("POST", "/", body, dict(request.headers.items()))
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())


class Caller(threading.Thread):
    """Calls again and again, on one connection as long as it is kept, or on a new one for each call."""

    def __init__(self, connect, key: str, keeps: bool):
        super().__init__(daemon=True)
        self.connect, self.key, self.keeps = connect, key, keeps
        self.done, self.waits, self.failures = threading.Event(), [0.0], []
        self.start()

    def run(self) -> None:
        connection = self.connect()
        while not self.done.is_set():
            began = time.monotonic()
            try:
                status, answer = connection.call("GenerateDataKeyWithoutPlaintext", {"KeyId": self.key, "KeySpec": "AES_256"})
                assert status == 200, answer
            except (OSError, http.client.HTTPException, AssertionError) as failure:
                self.failures.append(repr(failure))
                connection.close()
            self.waits.append(time.monotonic() - began)
            if not self.keeps:
                connection.close()
            time.sleep(0.002)
        connection.close()

    def end(self) -> None:
        self.done.set()
        self.join(READY_SECONDS_MAX)
        assert not self.is_alive(), "a caller was not answered"


def callers(manager: Manager) -> Iterator[Caller]:
    """One of each kind: over the socket and over TCP, with one connection and with new ones."""
    policy = manager.log.parent / "policy.json"
    policy.write_text(json.dumps(POLICY))
    keys = manager.operator("principal", "create", "caller", "--policy", str(policy))
    credentials = botocore.credentials.Credentials(keys["AccessKeyId"], keys["SecretAccessKey"])
    key = manager.operator("key", "create")["KeyMetadata"]["KeyId"]
    for keeps in (True, False):
        yield Caller(lambda: UnixConnection(manager.path), key, keeps)
        yield Caller(lambda: TcpConnection(manager.tcp, credentials), key, keeps)


def restarts(manager: Manager, running: list[Caller]) -> str:
    """Restarts under callers: none is refused, cut or kept waiting for longer than there is no daemon."""
    gaps, waits = [], []
    for _ in range(RESTARTS):
        time.sleep(0.3)
        for caller in running:
            caller.waits = [0.0]
        told = time.monotonic()
        manager.stop()
        manager.start()
        gaps.append(manager.ready() - told)
        time.sleep(0.3)
        waits.append(max(max(caller.waits) for caller in running))
        assert waits[-1] <= gaps[-1] + TURN_SECONDS_MAX, (waits, gaps)
    failures = [failure for caller in running for failure in caller.failures]
    assert not failures, (len(failures), failures[:5])
    return f"{RESTARTS} restarts: without a daemon for {max(gaps):.2f} s at most, the longest wait {max(waits):.2f} s, none refused"


def notices(manager: Manager) -> None:
    """What the daemon says of itself: it serves, it is alive, it reads its configuration again."""
    process, heard = manager.process, manager.notices
    [(_, started)] = heard.of(process, "READY")
    assert started["STATUS"] == "serving requests", started
    pings = heard.wait(process, "WATCHDOG", 5, 4 * WATCHDOG_SECONDS)
    gaps = [later - earlier for (earlier, _), (later, _) in zip(pings, pings[1:], strict=False)]
    assert max(gaps) < WATCHDOG_SECONDS, gaps
    whole = manager.file.read_text()
    for text, count in ((whole, 2), ("region = 7\n", 3), (whole, 4)):
        manager.file.write_text(text)
        before = time.monotonic_ns() // 1000
        process.send_signal(signal.SIGHUP)
        _, reloading = heard.wait(process, "RELOADING", count - 1, 10)[-1]
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000, reloading
        # Also where what it has read is refused: it serves as before.
        heard.wait(process, "READY", count, 10)
        order = [name for _, _, lines in heard.arrived for name in lines if name in ("RELOADING", "READY")]
        assert order[-2:] == ["RELOADING", "READY"], order


@contextlib.contextmanager
def held(process: subprocess.Popen, name: str):
    """One thread of the process stands still; the others go on."""
    tasks = Path(f"/proc/{process.pid}/task")
    [thread] = [int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

    def ptrace(request: int) -> None:
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())

    ptrace(0x4206)  # PTRACE_SEIZE
    ptrace(0x4207)  # PTRACE_INTERRUPT
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        ptrace(17)  # PTRACE_DETACH


def hangs(manager: Manager) -> None:
    """A core that hangs, and a process that hangs, are not heard of."""
    def is_silent(seconds: float = 1.5 * WATCHDOG_SECONDS) -> bool:
        # A notice may be on its way.
        time.sleep(0.2)
        before = len(manager.notices.of(manager.process, "WATCHDOG"))
        time.sleep(seconds)
        return len(manager.notices.of(manager.process, "WATCHDOG")) == before

    assert not is_silent()
    if os.geteuid() == 0:
        with held(manager.process, "core-0"):
            # One was sent when the core had had its turn.
            time.sleep(WATCHDOG_SECONDS / 2)
            assert is_silent(), "a core that hangs was not noticed"
        assert not is_silent(), "a core that goes on was not noticed"
    manager.process.send_signal(signal.SIGSTOP)
    assert is_silent(), "a process that is stopped was heard"
    # What systemd does then; callers wait for the next process.
    manager.kill()
    manager.start()
    manager.ready()


def stops(manager: Manager) -> None:
    """It says that it stops, and ends; a watchdog of another process is not its own."""
    stopped = manager.process
    manager.stop()
    [(_, stopping)] = manager.notices.of(stopped, "STOPPING")
    # Its requests may take limits.drain_seconds.
    assert stopping["STATUS"] == "answering the last requests" and stopping["EXTEND_TIMEOUT_USEC"] == "45000000", stopping
    manager.start(WATCHDOG_PID="1")
    manager.ready()
    time.sleep(1.5 * WATCHDOG_SECONDS)
    assert not manager.notices.of(manager.process, "WATCHDOG")
    manager.stop()


def other_sockets(manager: Manager) -> None:
    """Sockets that do not fit the configuration are refused with a line that says so."""
    inode = os.stat(manager.path).st_ino
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = "{}:{}".format(*stranger.getsockname())
        manager.refused(f"{address} (keymill.socket), which is not an address of the configuration (listen.tcp = ", [*manager.sockets, stranger])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        manager.refused("which is not a stream socket that listens", [*manager.sockets, datagrams])
    manager.refused("LISTEN_FDNAMES cannot be used", LISTEN_FDNAMES="one")
    manager.refused("LISTEN_FDNAMES cannot be used", LISTEN_FDS="-1")
    os.chmod(manager.path, 0o666)
    manager.refused("(listen.socket) that the service manager passed has mode 0666, and 0660 is configured")
    os.chmod(manager.path, 0o660)
    # Those of another process are not taken, and neither is their place.
    manager.start(LISTEN_PID="1")
    assert manager.process.wait(READY_SECONDS_MAX) != 0
    assert "is taken by another process" in manager.tail(), manager.tail()
    manager.start([], KEYMILL_LISTEN__TCP="127.0.0.1:0")
    assert manager.process.wait(READY_SECONDS_MAX) != 0
    assert "in use: another process listens on it" in manager.tail(), manager.tail()
    assert os.stat(manager.path).st_ino == inode, "the socket is another one"


def acl(path: Path, right: int) -> bytes:
    """The ACL that gives one user a right to what belongs to root, as `fd_add_uid_acl_permission` of systemd makes it."""
    none = 0xFFFFFFFF
    entries = ((0x01, right, none), (0x02, right, UID), (0x04, 0, none), (0x10, right, none), (0x20, 0, none))
    made = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", made)


def credentials(manager: Manager) -> None:
    """Root key and TLS key as credentials of root's."""
    folder = manager.host.root / "run/credentials/keymill.service"
    folder.mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "tls.key", "-out", manager.host.root / "etc/keymill/tls.pem"],
        check=True, capture_output=True,
    )
    (manager.host.root / "etc/keymill/tls.pem").chmod(0o644)
    shutil.move(manager.host.root / "var/lib/keymill/root.key", folder / "root_key")
    for file in folder.iterdir():
        os.chown(file, 0, 0)
        file.chmod(0o400)
        acl(file, 4)
        assert stat.S_IMODE(file.stat().st_mode) == 0o440
    folder.chmod(0o500)
    acl(folder, 5)
    text, count = re.subn(r"^root_key = .*$", 'root_key = "credential:root_key"', manager.file.read_text(), flags=re.M)
    assert count == 1
    manager.file.write_text(text + "\n[tls]\ncertificate = 'tls.pem'\nkey = 'credential:tls.key'\n")
    given = {"CREDENTIALS_DIRECTORY": str(folder)}
    manager.start(**given)
    manager.ready()
    assert manager.operator("key", "list")["Keys"], "another store was opened"
    context = ssl.create_default_context(cafile=manager.host.root / "etc/keymill/tls.pem")
    connection = http.client.HTTPSConnection("localhost", manager.tcp[1], context=context, timeout=30)
    connection.request("POST", "/", b"{}", {"Content-Type": JSON})
    assert connection.getresponse().status == 400
    manager.stop()
    key = folder / "root_key"
    # What others may read, what the user may write, and what a group of users may read, are not.
    for group, right, mode in ((0, None, 0o444), (0, 6, 0o660), (4242, 4, 0o440)):
        os.removexattr(key, "system.posix_acl_access")
        os.chown(key, 0, group)
        key.chmod(mode)
        if right:
            acl(key, right)
        manager.refused(f"root key {key} has mode {mode:04o}", **given)


def under_socket_activate(manager: Manager) -> None:
    """systemd's own program passes the sockets, and starts the daemon for the first caller."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        tcp = "{}:{}".format(*free.getsockname())
    path = f"{manager.host.root}/run/keymill/activated.sock"
    command = ["systemd-socket-activate", "-l", tcp, "-l", path, "--fdname=listen.tcp:listen.socket",
               "-E", f"KEYMILL_LISTEN__TCP={tcp}", "-E", "KEYMILL_LISTEN__ADMIN=127.0.0.1:0", "-E", f"KEYMILL_LISTEN__SOCKET={path}",
               *manager.host.below(manager.service["ExecStart"][0]).split()]
    log = manager.log.with_name("activate")
    with log.open("wb") as output:
        process = subprocess.Popen(command, **manager.host.user, cwd="/", env=environment(), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not os.path.exists(path):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        # It has no SocketMode=.
        os.chmod(path, int(manager.unit["SocketMode"][0], 8))
        connection = UnixConnection(path)
        status, answer = connection.call("ListKeys", {})
        assert status == 200 and answer["Keys"], (answer, log.read_text())
        connection.close()
        assert "listen.tcp, listen.socket" in log.read_text(), log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS_MAX) == 0, log.read_text()
    except BaseException:
        print(f"under systemd-socket-activate:\n{log.read_text()}", file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def analyse(analyze: str) -> None:
    """What systemd says of the units: their exposure is 1.8 of 10 at most."""
    def run(*arguments) -> str:
        done = subprocess.run([analyze, *arguments], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if ".service" in line or ".socket" in line]
        assert done.returncode == 0 and not said, done
        return done.stdout.strip().splitlines()[-1] if done.stdout else ""

    with tempfile.TemporaryDirectory() as name:
        for unit in (UNIT, SOCKETS):
            # The program is not installed here.
            (Path(name) / unit.name).write_text(unit.read_text().replace("/usr/local/bin/keymill", "/bin/true"))
        run("verify", "--man=no", Path(name) / UNIT.name, Path(name) / SOCKETS.name)
        print(run("security", "--offline=true", "--threshold=18", Path(name) / UNIT.name))


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    with tempfile.TemporaryDirectory(prefix="keymill-manager-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        manager, running = Manager(folder), []
        try:
            manager.start()
            # A caller that comes first waits, and is answered.
            first = UnixConnection(manager.path)
            assert first.call("ListKeys", {})[0] in (200, 400)
            manager.ready()
            notices(manager)
            running = list(callers(manager))
            print(restarts(manager, running))
            hangs(manager)
            for caller in running:
                caller.end()
            calls = sum(len(caller.waits) for caller in running)
            stops(manager)
            other_sockets(manager)
            if shutil.which("systemd-socket-activate"):
                under_socket_activate(manager)
            if os.geteuid() == 0:
                credentials(manager)
        except BaseException:
            print(f"the daemon's log ends with:\n{manager.tail()}", file=sys.stderr)
            raise
        finally:
            manager.kill()
            for caller in running:
                caller.done.set()
    if analyze := shutil.which("systemd-analyze"):
        analyse(analyze)
    report("the service manager", version, calls)


if __name__ == "__main__":
    main()
