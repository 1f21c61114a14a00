"""Prometheus scrapes the loaded daemon; every expression of the dashboards and the alerts returns a series.

promtool checks the rules, tests that each alert fires on what it is about, and lints the daemon's exposition.
"""

import base64
import contextlib
import json
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import botocore.exceptions
import yaml
from container_list import exported
from cryptography.hazmat.primitives.asymmetric import ec
from daemon import ALIAS, ROOT, Daemon, Tally, admin_address, environment, new_key, report, running, wait_until
from tls import Authority
from unix_socket import UnixConnection

DASHBOARDS = ROOT / "dashboards"
RULES = DASHBOARDS / "alerts.yml"
SAMPLE = ROOT / "config" / "prometheus.yml"
TESTS = Path(__file__).with_name("alerts_test.yml")
# What the dashboards' variables stand for.
VARIABLES = {"$job": "keymill", "$instance": ".*", "$__rate_interval": "15s"}
SERIES_SECONDS = 60
COMPARISON = re.compile(r" (==|!=|>=|<=|>|<) ")
# An external key store proxy that does not answer, and a custom key store that asks for it.
PROXY = {"KEYMILL_XKS_PROXIES__VAULT__HOST": "vault.example.com", "KEYMILL_XKS_PROXIES__VAULT__ADDRESS": "127.0.0.1:9"}
KEY_STORE = {
    "CustomKeyStoreName": "vault",
    "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
    "XksProxyConnectivity": "PUBLIC_ENDPOINT",
    "XksProxyUriEndpoint": "https://vault.example.com",
    "XksProxyUriPath": "/orders/kms/xks/v1",
    "XksProxyAuthenticationCredential": {"AccessKeyId": "A" * 20, "RawSecretAccessKey": "a" * 43},
}


def promtool(*arguments: str, text: str | None = None) -> None:
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"promtool {' '.join(arguments)}: {done.stdout}{done.stderr}"


def load(mill: Daemon, stop: threading.Event, tally: Tally) -> None:
    """Some of everything: hits, misses, refusals, strangers, batches, changes."""
    roles = ("admin", "provisioner", "consumer")
    admin, provisioner, consumer = (mill.client(role, tally) for role in roles)
    stranger = mill.client("provisioner", tally, access_key_id="AKIDNOBODY")
    key, arn, alias, _ = new_key(mill, "alias/load", tally)
    connection = UnixConnection(mill.socket)
    batch = json.dumps({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": 10_000}).encode()
    while not stop.is_set():
        for asked in ({"KeySpec": "AES_256"}, {"KeySpec": "AES_128"}, {"NumberOfBytes": 64}):
            for name in (ALIAS, alias):
                blob = provisioner.generate_data_key_without_plaintext(KeyId=name, **asked)["CiphertextBlob"]
                consumer.decrypt(CiphertextBlob=blob)
        for refused, arguments in (
            (provisioner.decrypt, {"CiphertextBlob": blob}),
            (admin.describe_key, {"KeyId": "alias/nobody"}),
            (stranger.describe_key, {"KeyId": arn}),
        ):
            with contextlib.suppress(botocore.exceptions.ClientError):
                refused(**arguments)
        connection.post("/v1/data-keys", batch, {"Content-Type": "application/json", "Accept": "application/octet-stream"})
        admin.disable_key(KeyId=key)
        admin.enable_key(KeyId=key)
        with contextlib.suppress(admin.exceptions.XksProxyUriUnreachableException):
            admin.create_custom_key_store(**KEY_STORE)


def expressions() -> list[tuple[str, str]]:
    """Every expression with where it stands; a comparison that filters is asked for its truth instead."""
    found = []
    for board in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel.get("targets", []):
                text = target["expr"]
                for variable, value in VARIABLES.items():
                    text = text.replace(variable, value)
                assert "$" not in text.replace('"$1"', ""), f"{board.name}: a variable that this test does not know in {text}"
                found.append((f"{board.name}: {panel['title']} {target['refId']}", COMPARISON.sub(r" \1 bool ", text)))
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            found.append((f"alerts.yml: {rule['alert']}", COMPARISON.sub(r" \1 bool ", rule["expr"])))
    return found


class Prometheus:
    """Debian's Prometheus on a port of its own, with its data in `folder`."""

    def __init__(self, folder: Path, targets: list[str]):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "keymill", "static_configs": [{"targets": targets}]}],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        promtool("check", "config", str(path))
        self.log = (folder / "prometheus.log").open("wb")
        command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self.address}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment())
        self.queries = 0

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def get(self, path: str, **arguments: str) -> dict:
        self.queries += 1
        with urllib.request.urlopen(f"http://{self.address}{path}?{urllib.parse.urlencode(arguments)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def ready(self) -> bool:
        assert self.process.poll() is None, "Prometheus has ended"
        try:
            urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5).close()
        except urllib.error.URLError:
            return False
        return True

    def series(self, expression: str) -> list[dict]:
        return self.get("/api/v1/query", query=expression)["result"]


def every_expression(prometheus: Prometheus) -> int:
    """Asks until each has returned a series."""
    missing = dict(expressions())
    count, deadline = len(expressions()), time.monotonic() + SERIES_SECONDS
    assert len(missing) == count, "two panels of one board have one title"
    while missing:
        missing = {place: text for place, text in missing.items() if not prometheus.series(text)}
        assert time.monotonic() < deadline or not missing, "no series from\n" + "\n".join(f"{place}: {text}" for place, text in missing.items())
        time.sleep(0.5)
    return count


def settings_of_second(folder: Path) -> str:
    """The settings of a second daemon, which has what TLS and another issuer of identities alone have to tell."""
    certificate, key = Authority(folder, "servers").server("server")
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode() for number in (numbers.x, numbers.y))
    keys = folder / "issuer-keys.json"
    keys.write_text(json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": x, "y": y}]}))
    issuer = f'[issuers.by-hand]\nurl = "https://issuer.example"\naudiences = ["keymill"]\njwks_file = "{keys}"\n'
    return f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n{issuer}'


def speak_plainly(secured: Daemon) -> None:
    """A handshake that fails."""
    host, port = secured.endpoint.removeprefix("https://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while stranger.recv(4096):
            pass


def main() -> None:
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(TESTS))
    promtool("check", "config", str(SAMPLE))
    tally, stop = Tally(), threading.Event()
    with tempfile.TemporaryDirectory() as temporary, running(PROXY) as mill, running(settings=settings_of_second(Path(temporary))) as secured:
        address = admin_address(mill.facts)
        speak_plainly(secured)
        targets = [admin_address(one.facts).removeprefix("http://").rstrip("/") for one in (mill, secured)]
        exported(["--endpoint", f"unix:{mill.socket}"], Path(temporary) / "export", 100_000)
        loader = threading.Thread(target=load, args=(mill, stop, tally), daemon=True)
        loader.start()
        with Prometheus(Path(temporary), targets) as prometheus:
            wait_until(prometheus.ready, 30, "a ready Prometheus")
            count = every_expression(prometheus)
            rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
            assert rules and all(rule["health"] in ("ok", "unknown") for rule in rules), rules
            assert loader.is_alive(), "the load has ended early"
        stop.set()
        loader.join()
        with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
            promtool("check", "metrics", text=answer.read().decode())
        queries = prometheus.queries
    print(f"{count} expressions return series")
    version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    report("Prometheus", (version.stdout + version.stderr).split()[2], queries)


if __name__ == "__main__":
    main()
