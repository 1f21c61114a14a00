"""config/chart, rendered by Helm: every object of every variant is held to the schemas of Kubernetes, values that cannot be meant are refused, and two nodes run with what
docs/fleet-operations.md has its reader install, on a PostgreSQL server.

No cluster is here. What kubectl, the kubelet and an init container do with Secrets and volumes is done below a folder that stands for a pod's `/`, with the owners and modes
that they have there; the script of the init container is the one that was rendered.
"""

import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from daemon import BINARY, ROOT, environment, report, wait_until
from postgres import free_port, server
from tls import Authority

CHART = ROOT / "config" / "chart"
PAGE = ROOT / "docs" / "fleet-operations.md"
RENDERER = [Path(sys.executable).parents[1] / "chart" / "bin" / "python", Path(__file__).with_name("chart_rendering.py")]
# The user of the image.
UID = 10001
READY_SECONDS_MAX = 60

LEAST = {"image": {"repository": "registry.example.com/keymill"}, "region": "eu-central-1", "account": "111122223333", "store": {"url": "postgres://keymill@db/keymill"}}
TLS = LEAST | {"tls": {"secret": "keymill-tls"}}
ALL = TLS | {
    "replicas": 5, "listenAddress": "[::]", "imagePullSecrets": [{"name": "registry"}], "priorityClassName": "high",
    "image": {"repository": "registry.example.com:5000/team/keymill", "digest": "sha256:" + "ab" * 32, "pullPolicy": "Always"},
    "store": {"url": "postgres://keymill@db.example.com:5433/keymill", "passwordSecret": {"name": "database"}, "caSecret": {"name": "database", "key": "root.pem"}},
    "config": {
        "rates": {"principal_keys_per_second": 50000, "principals": {"arn:aws:iam::111122223333:user/a": 7}}, "pool": {"enabled": False},
        "sockets": {"reports": {"path": "/run/keymill/reports.sock", "mode": "0666", "principal": "arn:aws:iam::111122223333:user/a"}},
        "peers": {"users": {"1000": "arn:aws:iam::111122223333:user/a"}}, "log": {"level": "debug"}, "store": {"poll_ms": 500}, "tls": {"client_common_names": []},
    },
    "webIdentity": {"enabled": True, "audiences": ["sts.amazonaws.com", "a\"b<c"]}, "persistence": {"size": "500Mi", "storageClass": "fast"},
    "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}}, "podDisruptionBudget": {"maxUnavailable": "20%"},
    "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}}, "serviceAccount": {"name": "kms", "annotations": {"c": "d"}},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"kms": "yes"}}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}], "monitoring": [],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432, "protocol": "TCP"}]}],
    },
    "extraVolumes": [{"name": "extra", "configMap": {"name": "extra"}}], "extraVolumeMounts": [{"name": "extra", "mountPath": "/etc/extra"}],
    "podAnnotations": {"e": "f"}, "podLabels": {"g": "h"}, "nodeSelector": {"i": "j"}, "tolerations": [{"key": "k", "operator": "Exists"}], "affinity": {"nodeAffinity": {}},
}
ON_EACH_HOST = LEAST | {"kind": "DaemonSet", "hostPaths": {"state": "/srv/keymill", "run": "/run/kms"}}
VARIANTS = {
    "the least": TLS, "all": ALL, "a DaemonSet": ON_EACH_HOST, "a DaemonSet with all": ALL | ON_EACH_HOST | {"tls": {"secret": "t"}, "image": ALL["image"]},
    "nothing beside": TLS | {"podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}, "serviceAccount": {"create": False}},
    "closed": TLS | {"networkPolicy": {"clients": [], "monitoring": []}},
}

# What is set to what, in what is sound otherwise, and what is said.
BAD = [
    ("image.repository", "", "/image/repository"), ("image.repository", "Keymill image", "/image/repository"), ("image.tag", "a b", "/image/tag"),
    ("image.digest", "sha256:1", "/image/digest"), ("image.pullPolicy", "Sometimes", "/image/pullPolicy"), ("initImage.repository", "", "/initImage/repository"),
    ("kind", "Deployment", "/kind"), ("replicas", 0, "/replicas"), ("replicas", 101, "/replicas"), ("replicas", 1.5, "/replicas"), ("replicas", "3", "/replicas"),
    ("region", "EU central", "/region"), ("account", 111122223333, "/account"), ("account", "1111", "/account"),
    ("store.url", "", "/store/url"), ("store.url", "mysql://a@b/c", "/store/url"), ("store.url", "postgres://keymill:password@db/keymill", "/store/url"),
    ("store.passwordSecret", {"name": "A B"}, "/store/passwordSecret/name"), ("store.passwordSecret", {"name": "a", "key": "../key"}, "/store/passwordSecret/key"),
    ("store.password", "secret", "password"), ("rootKey.secret", "", "/rootKey/secret"), ("rootKey.key", "a/b", "/rootKey/key"), ("rootKey.value", "keymill-root-key-v1", "value"),
    ("tls.secret", "", "/tls/secret"), ("listenAddress", "10.0.0.1", "/listenAddress"),
    ("config.colour", {"a": 1}, "colour"), ("config.pool", {"keys_max": 1.5}, "/config/pool"), ("config.listen", {"admin": "127.0.0.1:1"}, "config.listen.admin"),
    ("config.store", {"url": "postgres://a@b/c"}, "config.store.url"), ("config.audit", {"path": "/tmp"}, "config.audit.path"), ("config.tls", {"key": "k"}, "config.tls.key"),
    ("webIdentity", {"enabled": True, "issuer": "http://example.com"}, "/webIdentity/issuer"), ("webIdentity", {"enabled": True, "audiences": []}, "/webIdentity/audiences"),
    ("persistence.size", "ten", "/persistence/size"), ("persistence.size", "0Gi", "/persistence/size"), ("hostPaths.run", "run", "/hostPaths/run"), ("hostPaths.state", "/", "/hostPaths/state"),
    ("service.type", "ExternalName", "/service/type"), ("service.port", 0, "/service/port"), ("service.port", 65536, "/service/port"),
    ("podDisruptionBudget.maxUnavailable", 0, "/podDisruptionBudget/maxUnavailable"), ("podDisruptionBudget.maxUnavailable", "120%", "/podDisruptionBudget/maxUnavailable"),
    ("serviceMonitor.interval", "soon", "/serviceMonitor/interval"), ("networkPolicy.clients", [{}], "/networkPolicy/clients"), ("networkPolicy.client", [], "client"),
    ("serviceAccount.name", "A", "/serviceAccount/name"), ("terminationGracePeriodSeconds", 5, "/terminationGracePeriodSeconds"), ("podLabels", {"a": 1}, "/podLabels"),
    ("nameOverride", "-a", "/nameOverride"), ("fullnameOverride", "a" * 41, "/fullnameOverride"), ("replicaCount", 3, "replicaCount"),
]


def rendered(cases: list) -> tuple[str, list[dict]]:
    asked = json.dumps({"chart": str(CHART), "cases": cases})
    ran = subprocess.run(RENDERER, input=asked, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    return said["helm"], said["results"]


def with_value(path: str, value) -> dict:
    values = copy.deepcopy(TLS)
    *above, last = path.split(".")
    at = values
    for name in above:
        at = at.setdefault(name, {})
    at[last] = value
    return values


def one(objects: list[dict], kind: str) -> dict:
    found = [obj for obj in objects if obj["kind"] == kind]
    assert len(found) == 1, f"{kind}: {len(found)}"
    return found[0]


def pod_of(objects: list[dict]) -> dict:
    [nodes] = [obj for obj in objects if obj["kind"] in ("StatefulSet", "DaemonSet")]
    return nodes["spec"]["template"]["spec"]


def confined(name: str, pod: dict) -> None:
    """No container may gain anything, and one alone is root's, with the right to give folders away."""
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == UID, name
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False, name
    for container in pod["initContainers"] + pod["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True and own["capabilities"]["drop"] == ["ALL"], (name, container["name"])
        is_root = container["name"] == "folders"
        assert own.get("runAsUser") == (0 if is_root else None) and own["capabilities"].get("add") == (["CHOWN"] if is_root else None), (name, own)
        assert container["resources"]["limits"]["memory"], name
    mounted = {mount["name"] for container in pod["initContainers"] + pod["containers"] for mount in container["volumeMounts"]}
    named = [volume["name"] for volume in pod["volumes"]]
    assert len(named) == len(set(named)) and mounted - {"state"} == set(named) - {"state"}, (name, mounted, named)
    [secrets] = [volume for volume in pod["volumes"] if volume["name"] == "secrets"]
    assert secrets["emptyDir"]["medium"] == "Memory", name


def variants() -> tuple[str, dict[str, dict]]:
    helm, results = rendered(list(VARIANTS.values()))
    kept = {}
    for name, result in zip(VARIANTS, results):
        assert "error" not in result, f"{name}: {result['error']}"
        assert not result["lint"] and not result["invalid"], (name, result["lint"], result["invalid"])
        kept[name] = result
        confined(name, pod_of(result["objects"]))
        main = pod_of(result["objects"])["containers"][0]
        probes = {kind: main[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert probes == {"startup": {"path": "/live", "port": "admin"}, "liveness": {"path": "/live", "port": "admin"}, "readiness": {"path": "/ready", "port": "admin"}}
    kinds = {name: sorted(obj["kind"] for obj in result["objects"]) for name, result in kept.items()}
    beside = ["ConfigMap", "NetworkPolicy", "Service", "Service", "ServiceAccount"]
    assert kinds["the least"] == sorted([*beside, "PodDisruptionBudget", "StatefulSet"]), kinds
    assert kinds["all"] == sorted([*beside, "PodDisruptionBudget", "StatefulSet", "ServiceMonitor"]), kinds
    assert kinds["a DaemonSet"] == sorted(["ConfigMap", "DaemonSet", "NetworkPolicy", "Service", "ServiceAccount"]), kinds
    assert kinds["a DaemonSet with all"] == sorted([*beside, "DaemonSet", "ServiceMonitor"]), kinds
    assert kinds["nothing beside"] == ["ConfigMap", "Service", "Service", "StatefulSet"], kinds
    one_by_one(kept)
    return helm, kept


def one_by_one(kept: dict[str, dict]) -> None:
    """What variants are for."""
    least, all_, host = kept["the least"]["objects"], kept["all"]["objects"], kept["a DaemonSet"]["objects"]
    nodes = one(all_, "StatefulSet")["spec"]
    [claim] = nodes["volumeClaimTemplates"]
    assert (nodes["replicas"], claim["spec"]["storageClassName"], claim["spec"]["resources"]["requests"]["storage"]) == (5, "fast", "500Mi")
    assert nodes["serviceName"] in [obj["metadata"]["name"] for obj in all_ if obj["kind"] == "Service" and obj["spec"].get("clusterIP") == "None"]
    assert pod_of(all_)["containers"][0]["image"] == f"registry.example.com:5000/team/keymill@sha256:{'ab' * 32}"
    tokens = [source for volume in pod_of(all_)["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    assert [list(source) for source in tokens] == [["serviceAccountToken"], ["configMap"]], tokens
    monitor = one(all_, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    [endpoint] = monitor["spec"]["endpoints"]
    services = [obj for obj in all_ if obj["kind"] == "Service"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    [scraped] = [service for service in services if wanted.items() <= service["metadata"]["labels"].items()]
    assert endpoint["port"] in [port["name"] for port in scraped["spec"]["ports"]] and endpoint["path"] == "/metrics"
    policy = one(all_, "NetworkPolicy")["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["kms"] and policy["policyTypes"] == ["Ingress", "Egress"], policy
    # A rule without senders would let in all of them.
    assert one(kept["closed"]["objects"], "NetworkPolicy")["spec"]["ingress"] == []
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod_of(host)["volumes"] if "hostPath" in volume}
    assert paths == {"state": "/srv/keymill", "sockets": "/run/kms"}, paths
    assert [port["name"] for port in one(host, "Service")["spec"]["ports"]] == ["admin"]
    assert [rule["ports"][0]["port"] for rule in one(host, "NetworkPolicy")["spec"]["ingress"]] == ["admin"]
    sums = {json.dumps(one(objects, kind)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]) for objects, kind in ((least, "StatefulSet"), (all_, "StatefulSet"), (host, "DaemonSet"))}
    assert len(sums) == 3, "another configuration is another pod"
    for name, said in (("the least", "exec keymill-0"), ("a DaemonSet", "exec daemonset/keymill"), ("all", "AWS_WEB_IDENTITY_TOKEN_FILE")):
        assert said in kept[name]["notes"], kept[name]["notes"]


def refused() -> int:
    _, results = rendered([with_value(path, value) for path, value, _ in BAD])
    for (path, value, says), result in zip(BAD, results):
        assert "error" in result and says in result["error"], f"{path} = {value!r}: {result.get('error', 'was taken')}"
    return len(BAD)


class Pod:
    """A folder that stands for the `/` of a pod, with the volumes that were rendered for it."""

    def __init__(self, root: Path, objects: list[dict], secrets: dict[str, dict[str, bytes]]):
        self.root, self.spec, self.secrets = root, pod_of(objects), secrets
        self.user = {"user": UID, "group": UID, "extra_groups": []} if os.geteuid() == 0 else {}
        self.config = one(objects, "ConfigMap")["data"]
        self.variables = {"KEYMILL_LISTEN__TCP": f"0.0.0.0:{free_port()}", "KEYMILL_LISTEN__ADMIN": f"0.0.0.0:{free_port()}"}
        self.process: subprocess.Popen | None = None
        self.mounted: dict[str, Path] = {}

    def below(self, text: str) -> str:
        return re.sub(r"(?<![\w/])/(etc|var|run|given|state|sockets)\b", rf"{self.root}/\1", text)

    def volume(self, volume: dict) -> Path:
        """As the kubelet makes it, with `fsGroup`: a Secret's files are root's, and the group may read them."""
        path = self.root / "volumes" / volume["name"]
        if path.exists():
            return path
        path.mkdir(parents=True)
        if "hostPath" in volume:
            path.chmod(0o755)
            return path
        path.chmod(0o2777)
        files = {}
        if "secret" in volume:
            of = self.secrets[volume["secret"]["secretName"]]
            items = volume["secret"].get("items", [{"key": key, "path": key} for key in of])
            files = {item["path"]: of[item["key"]] for item in items}
        if "configMap" in volume:
            files = {name: self.below(text).encode() for name, text in self.config.items()}
        mode = volume.get("secret", volume.get("configMap", {})).get("defaultMode", 0o644)
        for name, content in files.items():
            file = path / name
            file.write_bytes(content)
            file.chmod(mode | 0o040)
            if self.user:
                os.chown(file, 0, UID)
        if self.user and not files:
            os.chown(path, 0, UID)
        return path

    def mount(self, container: dict) -> None:
        """A mount is a link: the paths are those of the container."""
        volumes = {volume["name"]: volume for volume in [*self.spec["volumes"], {"name": "state"}]}
        for mount in container["volumeMounts"]:
            at = self.root / mount["mountPath"].lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            if not at.exists():
                at.symlink_to(self.volume(volumes[mount["name"]]) / mount.get("subPath", ""))

    def start(self) -> None:
        self.program = shutil.copy(BINARY, self.root / "keymill")
        for container in [*self.spec["initContainers"], *self.spec["containers"]]:
            self.mount(container)
        for init in self.spec["initContainers"]:
            user = {} if init["securityContext"].get("runAsUser") == 0 else self.user
            subprocess.run([self.below(argument) for argument in init["command"]], check=True, cwd="/", **user)
        key = self.root / "run/keymill-secrets/root.key"
        assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_uid == (UID if self.user else os.geteuid()), key.stat()
        arguments = [self.below(argument) for argument in self.spec["containers"][0]["args"]]
        config = arguments[-1]
        assert "is sound" in self.keymill("config", "check", "--config", config)
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen([self.program, *arguments], env=environment(**self.variables), cwd="/", stdout=log, stderr=log, **self.user)
        wait_until(lambda: self.probe("/ready") == 200, READY_SECONDS_MAX, f"a node that is ready: {self.log()}")

    def keymill(self, *arguments: str) -> str:
        ran = subprocess.run([self.program, *arguments], env=environment(**self.variables), cwd="/", capture_output=True, text=True, check=False, **self.user)
        assert ran.returncode == 0, (arguments, ran.stderr)
        return ran.stdout

    def log(self) -> str:
        return (self.root / "log").read_text()[-3000:]

    def admin(self, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
        port = self.variables["KEYMILL_LISTEN__ADMIN"].rsplit(":", 1)[1]
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def probe(self, path: str) -> int:
        assert self.process.poll() is None, self.log()
        try:
            return self.admin(path)[0]
        except OSError:
            return 0

    def operator(self, *arguments: str) -> str:
        return self.keymill(*arguments, "--endpoint", f"unix:{self.root}/run/keymill/keymill.sock")

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def chapter() -> tuple[list[str], str]:
    """The commands of the page, and its values."""
    text = PAGE.read_text().split("## On Kubernetes")[1].split("\n## ")[0]
    [commands], [values] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL), re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return commands.replace("\\\n", "").splitlines(), values


def secrets_of(commands: list[str], folder: Path) -> dict[str, dict[str, bytes]]:
    """What `kubectl create secret` of the page would make. Other commands but helm's are run."""
    made = {}
    for command in commands:
        if command.startswith(("kubectl create namespace", "helm install")):
            continue
        if "create secret" not in command:
            subprocess.run(command, shell=True, cwd=folder, check=True)
            continue
        kind, name, *flags = command.split("create secret ")[1].split()
        if kind == "tls":
            given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
            made[name] = {"tls.crt": (folder / given["cert"]).read_bytes(), "tls.key": (folder / given["key"]).read_bytes()}
        else:
            assert kind == "generic", command
            named = [flag.removeprefix("--from-file=").split("=", 1) for flag in flags]
            made[name] = {parts[0]: (folder / parts[-1]).read_bytes() for parts in named}
    return made


def beyond_loopback(pod: Pod) -> bool:
    """The kubelet's way in, from an address of this host that is not loopback; whether there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            # Nothing is sent: the kernel says which address it would send from.
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return False
        address = asking.getsockname()[0]
    if address.startswith("127."):
        return False
    assert pod.admin("/live", address) == (200, "live\n")
    assert pod.admin("/ready", address) == (200, "ready\n")
    status, text = pod.admin("/metrics", address)
    assert status == 200 and "keymill_ready 1" in text
    assert pod.admin("/status", address) == (404, "not found\n")
    return True


def runs(folder: Path) -> int:
    """The page's own installation, on two nodes of a StatefulSet and one of a DaemonSet; the number of calls."""
    with server() as database:
        database.ask("postgres", "CREATE DATABASE keymill")
        authority = Authority(folder, "authority")
        certificate, key = authority.server("server")
        for name, content in {
            "tls.crt": Path(certificate).read_bytes(), "tls.key": Path(key).read_bytes(), "database-ca.pem": authority.bundle.read_bytes(), "database-password": b"secret\n",
        }.items():
            (folder / name).write_bytes(content)
        commands, values = chapter()
        assert "helm install keymill config/chart --namespace keymill --values values.yaml" in commands
        secrets = secrets_of(commands, folder)
        url = "postgres://keymill@db.example.com/keymill"
        assert values.count(url) == 1
        given = values.replace(url, database.url("keymill"))
        _, [result, on_host] = rendered([given, f"{given}kind: DaemonSet\n"])
        for each in (result, on_host):
            assert "error" not in each and not each["invalid"] and not each["lint"], each
            named = {volume["secret"]["secretName"] for volume in pod_of(each["objects"])["volumes"] if "secret" in volume}
            assert named == set(secrets), (named, secrets.keys())
        pods = []
        try:
            for number, each in enumerate((result, result, on_host)):
                if each is on_host and os.geteuid() != 0:
                    print("without root no folder is given away: the DaemonSet is not run")
                    continue
                root = folder / f"keymill-{number}"
                root.mkdir()
                root.chmod(0o755)
                pods.append(Pod(root, each["objects"], secrets))
                pods[-1].start()
            first, second, *_ = pods
            made = re.search(r'"KeyId": ?"([^"]+)"', first.operator("key", "create", "--json"))[1]
            for pod in pods[1:]:
                wait_until(lambda: made in pod.operator("key", "list", "--json"), 10, "a key on another node")
            assert second.admin("/status")[0] == 200
            was_beyond = beyond_loopback(second)
            assert "may write it" not in first.log(), first.log()
            print(f"{len(pods)} nodes run; {'asked' if was_beyond else 'not asked, for want of an address,'} from beyond loopback")
        finally:
            for pod in pods:
                pod.kill()
    return 5


def settings_are_taken(kept: dict[str, dict], folder: Path) -> None:
    """The daemon itself reads what was rendered: without its database, a check comes as far as that."""
    for number, (name, result) in enumerate(kept.items()):
        root = folder / f"settings-{number}"
        text = re.sub(r"/(etc|var|run)/", rf"{root}/\1/", one(result["objects"], "ConfigMap")["data"]["keymill.toml"])
        for path in ("run/keymill", "etc"):
            (root / path).mkdir(parents=True)
        (root / "keymill.toml").write_text(text)
        ran = subprocess.run([BINARY, "config", "show", "--config", root / "keymill.toml", "--json"], env=environment(), capture_output=True, text=True, check=False)
        assert ran.returncode == 0, (name, ran.stderr)
        shown = {key: setting["value"] for key, setting in json.loads(ran.stdout).items()}
        assert shown["listen.admin_beyond_loopback"] is True and shown["log.format"] == "json", shown
        if name == "all":
            assert shown["listen.tcp"] == "[::]:5645" and shown["rates.principal_keys_per_second"] == 50000 and shown["pool.enabled"] is False, shown
            assert shown["rates.principals.arn:aws:iam::111122223333:user/a"] == 7 and shown["issuers.cluster.audiences"] == ["sts.amazonaws.com", "a\"b<c"], shown


def main() -> None:
    helm, kept = variants()
    count = refused()
    print(f"Helm {helm}: {len(kept)} variants, {sum(len(result['objects']) for result in kept.values())} objects, {count} bad values refused")
    with tempfile.TemporaryDirectory(prefix="chart-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        settings_are_taken(kept, folder)
        calls = runs(folder)
    report("Helm", helm.removeprefix("v"), len(kept) + count + calls)


if __name__ == "__main__":
    main()
