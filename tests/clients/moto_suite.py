"""moto's own tests of KMS, in its server mode, against daemons: what is in front of them is a proxy that stands for the server.

moto's server has every Region and forgets everything when it is told to; so does the proxy, with a daemon for each Region that starts anew on a store without keys.
moto checks no signature: the proxy takes it away and calls over the Unix socket, as the root of moto's account. Cases that fail are in moto_suite.toml, each with
its reason; one that fails and is not there fails this test, and so does one that is there and passes.
"""

import contextlib
import gzip
import html
import http.server
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path

import botocore
import daemon
from daemon import BINARY, Tally, environment, wait_until
from unix_socket import UnixConnection

ACCOUNT = "123456789012"
HERE = Path(__file__).resolve().parent
SOURCES = HERE / ".venv" / "moto"
LIST = HERE / "moto_suite.toml"
READY_SECONDS = 60
# Of what pytest says of a failure, its end.
REASON_CHARACTERS_MAX = 300
KEPT_HEADERS = ("Content-Type", "X-Amz-Target")


class Region:
    """A daemon that serves one Region, on a copy of a store that has a caller and nothing else."""

    def __init__(self, folder: Path, name: str):
        self.fresh, self.state = folder / f"{name}-fresh", folder / name
        self.used = False
        self.fresh.mkdir(mode=0o700)
        me = os.getuid() or "root"
        (self.fresh / "keymill.toml").write_text(
            f'account = "{ACCOUNT}"\nregion = "{name}"\n[listen]\ntcp = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n'
            f'[pool]\nenabled = false\n[peers.users]\n{me} = "arn:aws:iam::{ACCOUNT}:root"\n'
        )
        self.start(self.fresh)
        command = [BINARY, "principal", "create", "--kind", "root", "--config", self.fresh / "keymill.toml", "--json"]
        subprocess.run(command, env=environment(), check=True, capture_output=True)
        self.process.terminate()
        assert self.process.wait(READY_SECONDS) == 0
        self.renew()

    def start(self, state: Path) -> None:
        with (state / "daemon.log").open("wb") as log:
            command = [BINARY, "serve", "--config", state / "keymill.toml"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment())
        socket = state / "keymill.sock"

        def answers() -> bool:
            assert self.process.poll() is None, (state / "daemon.log").read_text()
            with contextlib.suppress(OSError):
                return UnixConnection(str(socket)).post("/", b"", {})[0] == 400
            return False

        wait_until(answers, READY_SECONDS, "the daemon did not become ready")

    def renew(self) -> None:
        """Forgets everything."""
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.fresh, self.state, ignore=shutil.ignore_patterns("*.sock"))
        self.start(self.state)
        self.used = False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Regions:
    """Every Region that was asked for."""

    def __init__(self, folder: Path, dropped_policies: list[str]):
        self.folder = folder
        self.dropped_policies = dropped_policies
        self.all: dict[str, Region] = {}
        self.lock = threading.Lock()
        self.tally = Tally()

    def forward(self, name: str, headers: dict[str, str], body: bytes):
        with self.lock:
            if name not in self.all:
                self.all[name] = Region(self.folder, name)
            region = self.all[name]
            region.used = True
        if headers.get("X-Amz-Target") == "TrentService.CreateKey":
            members = json.loads(body)
            if members.get("Policy") in self.dropped_policies:
                del members["Policy"]
                body = json.dumps(members).encode()
        self.tally.count()
        return UnixConnection(str(region.state / "keymill.sock")).post("/", body, headers)

    def reset(self) -> None:
        with self.lock:
            for region in self.all.values():
                if region.used:
                    region.renew()

    def stop(self) -> None:
        for region in self.all.values():
            region.stop()


def proxy(regions: Regions) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/moto-api/reset":
                regions.reset()
                return self.answer(200, {}, b"")
            # …Credential=FOOBARKEY/20260101/us-east-1/kms/aws4_request…
            scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/kms/", self.headers.get("Authorization", ""))
            if not scope:
                return self.answer(501, {}, b"")
            kept = {name: self.headers[name] for name in KEPT_HEADERS if name in self.headers}
            status, headers, answer = regions.forward(scope[1], kept, body)
            self.answer(status, headers, answer)

        def answer(self, status: int, headers, body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Outcomes:
    """What pytest says of each case."""

    def __init__(self):
        self.failed: dict[str, str] = {}
        self.passed: set[str] = set()
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report) -> None:
        case = report.nodeid.removeprefix("tests/test_kms/")
        if report.failed:
            self.failed[case] = " ".join(report.longreprtext.split())[-REASON_CHARACTERS_MAX:]
        elif report.skipped:
            self.skipped.add(case)
        elif report.when == "call":
            self.passed.add(case)


def quotations(groups: list[dict]) -> list[str]:
    """What is said to stand in AWS's service model, and does not."""
    folder = Path(botocore.__file__).parent / "data" / "kms" / "2014-11-01"
    model = gzip.decompress((folder / "service-2.json.gz").read_bytes()).decode()
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", model)).split())
    quoted = [words for group in groups for words in group.get("documented", [])]
    return [f"not in the service model: {words}" for words in quoted if words not in text]


def judge(outcomes: Outcomes, excused: dict[str, str]) -> list[str]:
    """What is wrong. An entry without parameters stands for all of a case's parameters."""
    faults = [f"{case} was skipped" for case in sorted(outcomes.skipped)]
    used = set()
    for case, why in sorted(outcomes.failed.items()):
        entry = next((name for name in (case, case.split("[")[0]) if name in excused), None)
        if entry is None:
            faults.append(f"{case} failed: {why}")
        else:
            used.add(entry)
    for case in sorted(outcomes.passed - outcomes.failed.keys()):
        faults += [f"{case} passed, and {name} is listed" for name in {case, case.split("[")[0]} if name in excused]
    return faults + [f"{entry} is listed, and there is no such case" for entry in sorted(excused.keys() - used)]


def main() -> None:
    listed = tomllib.loads(LIST.read_text())
    groups = listed["differs"] + listed["apart"]
    excused = {case: group["reason"] for group in groups for case in group["cases"]}
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix="keymill-moto-", ignore_cleanup_errors=True) as folder:
        regions = Regions(Path(folder), listed["dropped_policies"])
        server = proxy(regions)
        # Read by moto when it is imported.
        os.environ |= {"TEST_SERVER_MODE": "true", "TEST_SERVER_MODE_ENDPOINT": "http://{}:{}".format(*server.server_address)}
        import pytest

        os.chdir(SOURCES)
        try:
            arguments = ["-q", "-p", "no:cacheprovider", "--tb=line", "--disable-warnings", *listed["files"], *sys.argv[1:]]
            ended = pytest.main(arguments, plugins=[outcomes])
        finally:
            regions.stop()
            server.shutdown()
    assert ended in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), ended
    faults = quotations(groups) + judge(outcomes, excused)
    print(*faults, sep="\n")
    print(f"{len(outcomes.passed)} cases passed, {len(outcomes.failed)} are listed with their reasons")
    assert not faults, f"{len(faults)} faults"
    daemon.report("moto's tests of KMS", importlib.metadata.version("moto"), regions.tally.calls)


if __name__ == "__main__":
    main()
