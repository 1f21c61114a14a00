"""Starts a Keymill daemon in a folder of its own, and always kills it; beside that, what the client tests share.

As a program it runs a client that is not written in Python, with the daemon's facts in DAEMON (its JSON line):

    python3 tests/clients/daemon.py node tests/clients/sdk_js.mjs
"""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("DAEMON_BINARY", ROOT / "target" / "release" / "keymill")).absolute()
# Each client leaves one file here: the line that names it.
LINES = Path(os.environ.get("CLIENT_LINES", BINARY.parents[1] / "tmp" / "clients")).absolute()
READY_SECONDS = 60
# Clients that try what is refused do so hundreds of times a second.
UNLIMITED = {"KEYMILL_RATES__REFUSED_CALLS_PER_SECOND": "0"}
STOP_SECONDS = 40
ALIAS = "alias/containers"
# Blob version 1 of a 32-byte data key: header, nonce, ciphertext, tag.
BLOB_BYTES = 24 + 24 + 32 + 16
NOT_ALLOWED_TO_OPEN = (
    "The ciphertext refers to a customer master key that does not exist, "
    "does not exist in this region, or you are not allowed to access."
)


def environment(**more: str) -> dict[str, str]:
    """The caller's environment without anything that configures a client or the daemon, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not re.match("AWS_|KEYMILL_|https?_proxy", name, re.I)}
    nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
    return kept | nothing | more


class Daemon:
    """One `keymill dev` on a folder that outlives it: it can be killed and started again."""

    def __init__(
        self, folder: Path, overrides: dict[str, str] | None = None, wrapper: tuple[str, ...] = (), arguments: tuple[str, ...] = (),
        listen: str = "127.0.0.1:0",
    ):
        self.state = folder / "state"
        self.log = folder / "daemon.log"
        self.overrides = overrides or {}
        self.wrapper = wrapper
        self.arguments = arguments
        self.listen = listen
        self.process: subprocess.Popen | None = None
        self.facts: dict = {}

    def start(self) -> None:
        """Returns once the daemon has said that it is ready."""
        command = [*self.wrapper, BINARY, "dev", "--json", "--dir", self.state, "--listen", self.listen, *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env=environment(**UNLIMITED | self.overrides), start_new_session=True,
            )
        said = select.select([self.process.stdout], [], [], READY_SECONDS)[0] and self.process.stdout.readline()
        if not said:
            self.kill()
            raise RuntimeError(f"the daemon did not become ready:\n{self.tail()}")
        self.facts = json.loads(said)

    def kill(self) -> None:
        """Kill -9 of the daemon and of whatever wraps it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def stop(self) -> int:
        """Ends the daemon as an operator would, and returns its exit status."""
        os.killpg(self.process.pid, signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS)
        self.kill()
        return status

    def tail(self) -> str:
        """The end of what the daemon has logged."""
        return self.log.read_text(errors="replace")[-4000:]

    @property
    def endpoint(self) -> str:
        return self.facts["endpoint"]

    @property
    def socket(self) -> str:
        return self.facts["socket"]

    def principal(self, role: str) -> dict[str, str]:
        return self.facts["principals"][role]

    def arn(self, resource: str) -> str:
        partition = self.principal("admin")["arn"].split(":")[1]
        return f"arn:{partition}:kms:{self.facts['region']}:{self.facts['account']}:{resource}"

    def credentials(self, role: str) -> dict[str, str]:
        """What an AWS client reads from its environment."""
        principal = self.principal(role)
        return {
            "AWS_ACCESS_KEY_ID": principal["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": principal["secret_access_key"],
            "AWS_DEFAULT_REGION": self.facts["region"],
            "AWS_REGION": self.facts["region"],
            "AWS_ENDPOINT_URL_KMS": self.endpoint,
        }

    def client(self, role: str, tally: "Tally | None" = None, **changes: str):
        """A boto3 client of one of the daemon's principals."""
        principal = self.principal(role) | changes
        session = boto3.session.Session(
            aws_access_key_id=principal["access_key_id"],
            aws_secret_access_key=principal["secret_access_key"],
            region_name=principal.get("region", self.facts["region"]),
        )
        config = botocore.config.Config(max_pool_connections=64, read_timeout=120)
        client = session.client("kms", endpoint_url=self.endpoint, config=config)
        if tally is not None:
            client.meta.events.register("after-call.kms", tally.count)
        return client

    def metrics(self) -> dict[str, float]:
        """Every series of /metrics by its text."""
        with urllib.request.urlopen(f"{admin_address(self.facts)}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a family's series that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value for series, value in self.metrics().items()
            if series.split("{")[0] == name and all(label in series for label in wanted)
        )


class Tally:
    """Counts answered calls."""

    def __init__(self):
        self.calls = 0

    def count(self, **_) -> None:
        self.calls += 1


def admin_address(facts: dict) -> str:
    """The admin endpoint as a URL."""
    address = facts["admin_endpoint"]
    return address if address.startswith("http") else f"http://{address}"


@contextlib.contextmanager
def running(overrides: dict[str, str] | None = None, wrapper: tuple[str, ...] = (), settings: str | None = None):
    """A daemon that has started, in a folder that goes with it; its log is shown when the test fails. `settings` is its whole keymill.toml."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="keymill-", ignore_cleanup_errors=True) as folder:
        daemon = Daemon(Path(folder), overrides, wrapper)
        if settings is not None:
            daemon.state.mkdir(mode=0o700)
            (daemon.state / "keymill.toml").write_text(settings)
        try:
            daemon.start()
            yield daemon
        except BaseException:
            print(f"the daemon's log ends with:\n{daemon.tail() if daemon.log.exists() else ''}", file=sys.stderr)
            raise
        finally:
            daemon.kill()


def new_key(daemon: Daemon, alias: str, tally: Tally | None = None) -> list[str]:
    """Creates a KMS key with an alias, as the admin, and returns the four names of it."""
    admin = daemon.client("admin", tally)
    metadata = admin.create_key(Description=f"made for {alias}")["KeyMetadata"]
    assert metadata["KeyState"] == "Enabled" and metadata["KeySpec"] == "SYMMETRIC_DEFAULT", metadata
    admin.create_alias(AliasName=alias, TargetKeyId=metadata["KeyId"])
    return [metadata["KeyId"], metadata["Arn"], alias, daemon.arn(alias)]


def refused(code: str, message: str | None, call, /, **arguments) -> Exception:
    """Calls, and holds the refusal to its code and message; `None` compares no message."""
    try:
        answer = call(**arguments)
    except botocore.exceptions.ClientError as error:
        said = error.response["Error"]
        assert said["Code"] == code, f"{said} instead of {code}"
        assert message is None or said.get("Message", "") == message, f"{said} instead of {message!r}"
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400, error.response
        return error
    raise AssertionError(f"{call} was answered {answer} instead of {code}")


def wait_until(condition, seconds: float, what: str):
    """Polls until `condition` holds, and returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (held := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return held


def report(name: str, version: str, calls: int) -> None:
    """Leaves the line that names a client. A client that made no call fails."""
    assert calls > 0, f"{name} made no call"
    LINES.mkdir(parents=True, exist_ok=True)
    line = f"{name} {version}: {calls} calls"
    (LINES / re.sub(r"\W+", "-", name.lower()).strip("-")).write_text(line + "\n")
    print(line)


@contextlib.contextmanager
def step(name: str, version: str, overrides: dict[str, str] | None = None):
    """A client step from its start to its line: a daemon, and the count of the calls to it. The daemon is ended as an operator would."""
    tally = Tally()
    with running(overrides) as daemon:
        yield daemon, tally
        assert daemon.stop() == 0, "SIGTERM did not end the daemon cleanly"
    report(name, version, tally.calls)


def main() -> int:
    with running() as daemon:
        facts = {"DAEMON": json.dumps(daemon.facts), "DAEMON_DIR": str(daemon.state), "DAEMON_BINARY": str(BINARY), "CLIENT_LINES": str(LINES)}
        return subprocess.run(sys.argv[1:], env=environment(**facts), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
