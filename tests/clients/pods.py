"""SDKs in pods, as their users have them: a role's ARN, the file of a token, a region and an endpoint in the environment, and nothing else."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import awscli
import boto3
from audit import records
from aws_cli import AWS
from daemon import ALIAS, BLOB_BYTES, ROOT, Daemon, environment, report, wait_until
from issuer import AUDIENCE, SUBJECT, Issuer
from web_identity import World, federated, world_and_daemon

ASSUMED = "AssumeRoleWithWebIdentity"
# What a user of boto3 writes.
USER = """
import sys, boto3
kms = boto3.client("kms")
for _ in range(3):
    blob = kms.generate_data_key_without_plaintext(KeyId=sys.argv[1], KeySpec="AES_256")["CiphertextBlob"]
    print(len(kms.decrypt(CiphertextBlob=blob)["Plaintext"]))
"""
# A process that makes a key for each line. botocore asks for a new session 15 minutes before the
# old one ends; here it takes that to be at once.
WORKER = """
import sys, boto3, botocore.credentials as of
of.CachedCredentialFetcher.DEFAULT_EXPIRY_WINDOW_SECONDS = of.RefreshableCredentials._advisory_refresh_timeout = 3600
kms = boto3.client("kms")
for _ in sys.stdin:
    print(len(kms.generate_data_key_without_plaintext(KeyId=sys.argv[1], KeySpec="AES_256")["CiphertextBlob"]), flush=True)
"""
MODELLED = {
    "ExpiredTokenException": "ExpiredTokenException", "InvalidIdentityToken": "InvalidIdentityTokenException",
    "IDPCommunicationError": "IDPCommunicationErrorException",
}
KMS_CALLS = 6
RECORD_SECONDS = 10


class Pod:
    """The volume with a pod's token, and its environment."""

    def __init__(self, mill: Daemon, folder: Path, name: str, role: dict, issuer: Issuer):
        self.mill, self.name, self.issuer = mill, name, issuer
        self.file = folder / f"{name}-token"
        self.settings = {
            "AWS_ROLE_ARN": role["Arn"], "AWS_WEB_IDENTITY_TOKEN_FILE": str(self.file), "AWS_ROLE_SESSION_NAME": name,
            "AWS_REGION": mill.facts["region"], "AWS_DEFAULT_REGION": mill.facts["region"], "AWS_ENDPOINT_URL": mill.endpoint,
        }
        self.mount(issuer.token())

    def mount(self, token: str) -> "Pod":
        """Replaces the token as a kubelet does: the whole file at once."""
        new = self.file.with_suffix(".new")
        # Some issuers end the file with a line, and clients send that along.
        new.write_text(f"{token}\n")
        new.replace(self.file)
        return self

    def run(self, *command, **changes: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=environment(**self.settings | changes), capture_output=True, text=True, check=False)

    def assumed(self) -> list[dict]:
        """The records of the role that was assumed for this pod."""
        return [record for record in self.records() if record["eventName"] == ASSUMED]

    def records(self) -> list[dict]:
        session = f":assumed-role/minter/{self.name}"
        return [record for record in records(self.mill.state / "audit") if session in json.dumps(record)]


def python(pod: Pod) -> int:
    """Six calls of boto3 ask for the role once, and once for another client; returns the calls."""
    endpoints = {"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_STS": pod.mill.endpoint, "AWS_ENDPOINT_URL_KMS": pod.mill.endpoint}
    for clients, changes in enumerate([{}, endpoints], 1):
        done = pod.run(sys.executable, "-c", USER, ALIAS, **changes)
        assert (done.returncode, done.stdout) == (0, "32\n" * 3), done
        wanted = clients * (KMS_CALLS + 1)
        wait_until(lambda wanted=wanted: len(pod.records()) >= wanted, RECORD_SECONDS, "every record")
        assert (len(pod.records()), len(pod.assumed())) == (wanted, clients), pod.records()
    return len(pod.records())


def recorded(pod: Pod) -> None:
    """The audit log says who assumed the role, and after it whose session each call was."""
    first, call, *_ = pod.records()
    account, issuer = pod.mill.facts["account"], pod.issuer
    provider = f"arn:aws:iam::{account}:oidc-provider/{issuer.provider}"
    assert first["eventName"] == ASSUMED and first["eventSource"] == "sts.amazonaws.com" and "errorCode" not in first, first
    assert first["userIdentity"] == {
        "type": "WebIdentityUser", "principalId": f"{provider}:{AUDIENCE}:{SUBJECT}", "userName": SUBJECT, "identityProvider": provider,
    }, first["userIdentity"]
    parameters, answer = first["requestParameters"], first["responseElements"]
    assert parameters["roleSessionName"] == pod.name and "webIdentityToken" not in parameters, parameters
    assert (answer["subjectFromWebIdentityToken"], answer["audience"], answer["provider"]) == (SUBJECT, AUDIENCE, issuer.url), answer
    session = f"arn:aws:sts::{account}:assumed-role/minter/{pod.name}"
    assert (answer["assumedRoleUser"]["arn"], answer["sourceIdentity"]) == (session, "build-77"), answer
    assert answer["credentials"].keys() == {"accessKeyId", "expiration"}, answer
    who = call["userIdentity"]
    assert (call["eventName"], who["type"], who["arn"]) == ("GenerateDataKeyWithoutPlaintext", "AssumedRole", session), call
    assert who["accessKeyId"] == answer["credentials"]["accessKeyId"], (who, answer)
    assert who["sessionContext"]["sourceIdentity"] == "build-77", who


def worker(pod: Pod) -> None:
    """A client at work reads the file anew for each session, also when the issuer has put a new key in the place of the old."""
    command = [sys.executable, "-c", WORKER, ALIAS]
    with subprocess.Popen(command, env=environment(**pod.settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def makes(sessions: int) -> None:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{BLOB_BYTES}\n"
            wait_until(lambda: len(pod.assumed()) >= sessions, RECORD_SECONDS, "the record of a session")
            assert len(pod.assumed()) == sessions, pod.assumed()

        makes(1)
        makes(2)
        pod.issuer.rotate()
        pod.mount(pod.issuer.token())
        makes(3)
        assert len({record["responseElements"]["credentials"]["accessKeyId"] for record in pod.assumed()}) == 3
        process.stdin.close()
        assert process.wait(RECORD_SECONDS) == 0


def refused_pods(mill: Daemon, folder: Path, world: World, role: dict) -> list[tuple[Pod, str, str]]:
    """Pods that get no role, with the code and the beginning of the message that their clients show."""
    def pod(name: str, token: str, asked: dict = role) -> Pod:
        return Pod(mill, folder, name, asked, world.cluster).mount(token)

    now = int(time.time())
    other = federated(mill, "auditor", [world.cluster], "system:serviceaccount:payments:auditor")
    return [
        (pod("expired", world.cluster.token(exp=now - 600)), "ExpiredTokenException", "Token expired: current date/time "),
        (pod("audience", world.cluster.token(aud=["vault"])), "InvalidIdentityToken", "Incorrect token audience"),
        (pod("foreign", world.other.keys[0].sign(world.cluster.claims())), "InvalidIdentityToken", "Couldn't retrieve verification key"),
        (pod("subject", world.cluster.token(), other), "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        (Pod(mill, folder, "sleeping", role, world.sleeping), "IDPCommunicationError", "The keys of the identity provider cannot be fetched now."),
    ]


def javascript(pod: Pod, refused: list[tuple[Pod, str, str]]) -> tuple[str, int]:
    """The default chain, and the classes of its refusals; returns the SDK's version and the calls."""
    environments = json.dumps([one.settings for one in [pod, *(one for one, _, _ in refused)]])
    command = ["node", ROOT / "tests" / "clients" / "pod.mjs", ALIAS]
    done = subprocess.run(command, env=environment(), input=environments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    made, *refusals = told["answers"]
    assert made == {"opened": [32, 32, 32]}, made
    wait_until(lambda: len(pod.records()) >= KMS_CALLS + 1, RECORD_SECONDS, "every record")
    assert (len(pod.records()), len(pod.assumed())) == (KMS_CALLS + 1, 1), pod.records()
    for (one, code, message), answer in zip(refused, refusals, strict=True):
        # The SDK has a class for each error that is the operation's own.
        name = MODELLED.get(code, code)
        assert answer["error"] == name and answer["message"].startswith(message), (one.name, answer)
        assert answer["class"] == (name if code in MODELLED else "STSServiceException"), (one.name, answer)
    return told["version"], KMS_CALLS + 1 + len(refusals)


def command_line(pod: Pod, refused: list[tuple[Pod, str, str]]) -> int:
    """The AWS CLI is its role, mints as its role, and prints why it is refused; returns the calls."""
    who = pod.run(AWS, "sts", "get-caller-identity", "--query", "Arn", "--output", "text")
    assert who.returncode == 0 and who.stdout.strip().endswith(f":assumed-role/minter/{pod.name}"), who
    mint = [AWS, "kms", "generate-data-key-without-plaintext", "--key-id", ALIAS, "--key-spec", "AES_256", "--output", "json"]
    made = pod.run(*mint)
    assert made.returncode == 0 and "CiphertextBlob" in json.loads(made.stdout), made
    for one, code, message in refused:
        done = one.run(*mint, AWS_MAX_ATTEMPTS="2")
        # It repeats a call while the issuer cannot be asked, and says so.
        said = done.stderr.strip().replace(" (reached max retries: 1)", "")
        assert done.returncode != 0 and said.startswith(f"An error occurred ({code}) when calling the {ASSUMED} operation: {message}"), done
    return 2 + len(refused)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="keymill-pods-") as name, world_and_daemon(name) as (world, mill):
        folder = Path(name)
        role = federated(mill, "minter", [world.cluster, world.sleeping], more=("sts:SetSourceIdentity",))
        first = Pod(mill, folder, "python", role, world.cluster)
        first.mount(world.cluster.token(**{"https://aws.amazon.com/source_identity": "build-77"}))
        calls = python(first)
        recorded(first)
        worker(Pod(mill, folder, "worker", role, world.cluster))
        refused = refused_pods(mill, folder, world, role)
        version, of_javascript = javascript(Pod(mill, folder, "javascript", role, world.cluster), refused)
        of_command_line = command_line(Pod(mill, folder, "command-line", role, world.cluster), refused)
        # Both have repeated their calls while the issuer could not be asked.
        assert mill.metric("keymill_web_identity_tokens_total", result="unreachable") >= 4
    report("boto3 in a pod", boto3.__version__, calls)
    report("@aws-sdk/client-kms in a pod", version, of_javascript)
    report("AWS CLI in a pod", awscli.__version__, of_command_line)


if __name__ == "__main__":
    main()
