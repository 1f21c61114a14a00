"""boto3 exchanges tokens of issuers on this machine for the credentials of a role, and is refused whatever the issuer, the role or the times do not allow."""

import contextlib
import datetime
import json
import tempfile
import time
from pathlib import Path

import boto3
import botocore
import botocore.config
import botocore.exceptions
from daemon import Daemon, Tally, report, running, wait_until
from issuer import ALGORITHMS, AUDIENCE, MADE, SUBJECT, Issuer, Key, Server, by_hand
from sessions import make_and_open, operator, policy
from sts import client
from tls import Authority

SESSION_SECONDS = 3600
# By how much the clocks of an issuer and the daemon may differ; how old a token may be.
GRACE_SECONDS, AGE_SECONDS = 300, 86_400
TOKEN_CHARACTERS_MAX = 20_000
# More than the daemon's pauses after the first failures: 2, 4 and 8 seconds.
FETCHED_SECONDS = 20
NOT_VALIDATED = "The web identity token could not be validated: "
NO_KEY = "Couldn't retrieve verification key from your identity provider,"


class World:
    """Issuers, and the settings of a daemon that takes their tokens."""

    def __init__(self, folder: Path):
        authority, stranger = Authority(folder, "issuers"), Authority(folder, "strangers")
        self.server, self.late = Server(authority.server("host")), Server(authority.server("late-host"))
        # Each comes by its keys in another way.
        self.cluster, self.other = self.server.issuer("cluster"), self.server.issuer("other")
        self.guarded, self.filed = self.server.issuer("guarded"), self.server.issuer("filed", "ES256")
        self.sleeping, self.impostor = self.late.issuer("sleeping"), self.server.issuer("impostor")
        self.guarded.bearer = "reader.of.keys"
        self.key_set, bearer = folder / "keys.json", folder / "reader"
        bearer.write_text(f"{self.guarded.bearer}\n")
        self.write_key_set()
        ca = f"ca_file = '{authority.bundle}'"
        self.settings = "".join(
            f"[issuers.{issuer.name}]\nurl = '{issuer.url}'\naudiences = ['{AUDIENCE}', 'keymill']\n{keys}\n" for issuer, keys in [
                (self.cluster, ca), (self.other, ca), (self.sleeping, ca), (self.filed, f"jwks_file = '{self.key_set}'"),
                (self.guarded, f"{ca}\njwks_url = '{self.guarded.url}/keys'\nbearer_token_file = '{bearer}'"),
                (self.impostor, f"ca_file = '{stranger.bundle}'"),
            ]
        )

    def write_key_set(self) -> None:
        """Replaces the file with the keys of `filed` as a whole."""
        new = self.key_set.with_suffix(".new")
        new.write_text(self.filed.key_set())
        new.replace(self.key_set)


def federated(mill: Daemon, name: str, issuers: list[Issuer], subject: str = SUBJECT, more: tuple[str, ...] = (), **conditions: str) -> dict:
    """A role that mints and opens, and trusts these issuers' word on `subject`; `more` are further actions of its trust policy."""
    provider = "arn:aws:iam::{}:oidc-provider/{}"
    statements = [
        {
            "Effect": "Allow", "Principal": {"Federated": provider.format(mill.facts["account"], issuer.provider)},
            "Action": ["sts:AssumeRoleWithWebIdentity", *more],
            "Condition": {"StringEquals": {f"{issuer.provider}:sub": subject} | {f"{issuer.provider}:{key}": value for key, value in conditions.items()}},
        } for issuer in issuers
    ]
    trust = mill.state / f"{name}-trust.json"
    trust.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    rights = policy(mill, "kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt")
    return operator(mill, "principal", "create", name, "--kind", "role", "--policy", rights, "--trust-policy", str(trust))


def anonymous(mill: Daemon, tally: Tally, attempts: int = 1):
    """An STS client without credentials, as the one inside an SDK."""
    config = botocore.config.Config(signature_version=botocore.UNSIGNED, retries={"total_max_attempts": attempts})
    sts = boto3.session.Session(region_name=mill.facts["region"]).client("sts", endpoint_url=mill.endpoint, config=config)
    sts.meta.events.register("after-call.sts", tally.count)
    return sts


def asked(role: dict, token: str) -> dict:
    return {"RoleArn": role["Arn"], "RoleSessionName": "minter-7d4b9", "WebIdentityToken": token}


def refused(sts, error: str, message: str, role: dict, token: str) -> None:
    """Is refused with the class that boto3 has for the error, and with a message that begins so."""
    try:
        answer = sts.assume_role_with_web_identity(**asked(role, token))
    except botocore.exceptions.ClientError as refusal:
        told = refusal.response["Error"]
        modelled = getattr(sts.exceptions, error, None)
        # boto3 has no class for what every operation may answer.
        assert (type(refusal) is modelled) if modelled else (told["Code"] == error), (type(refusal), told, error)
        status = refusal.response["ResponseMetadata"]["HTTPStatusCode"]
        assert told["Message"].startswith(message) and status == (403 if error == "AccessDenied" else 400), refusal.response
        assert token[:40] not in str(refusal.response), refusal.response
        return
    raise AssertionError(f"answered {answer} instead of {error}")


def taken(mill: Daemon, tally: Tally, world: World) -> dict:
    """Tokens of every algorithm, from issuers whose keys come in every way, are worth an hour of the role's rights."""
    role = federated(mill, "minter", [world.cluster, world.guarded, world.filed, world.sleeping, world.impostor])
    sts = anonymous(mill, tally)
    world.cluster.keys += [Key(algorithm) for algorithm in ALGORITHMS]
    # The set is fetched again for the first token whose key it did not have.
    for key in world.cluster.keys:
        answer = sts.assume_role_with_web_identity(**asked(role, key.sign(world.cluster.claims())))
        left = answer["Credentials"]["Expiration"] - datetime.datetime.now(datetime.UTC)
        assert SESSION_SECONDS - 60 < left.total_seconds() <= SESSION_SECONDS, left
        told = [answer[name] for name in ("SubjectFromWebIdentityToken", "Audience", "Provider")]
        assert told == [SUBJECT, AUDIENCE, world.cluster.url], told
        assert answer["AssumedRoleUser"]["Arn"].endswith(":assumed-role/minter/minter-7d4b9"), answer
        make_and_open(client(mill, tally, answer["Credentials"], "kms"))
    now = int(time.time())
    for issuer, changes in [
        (world.guarded, {}), (world.filed, {}), (world.filed, {"aud": "keymill"}), (world.filed, {"aud": ["vault", "keymill"]}), (world.filed, {"nbf": None}),
        # Within the difference of the clocks; from an API server that stretches its tokens.
        (world.filed, {"exp": now - GRACE_SECONDS + 60}), (world.filed, {"nbf": now + GRACE_SECONDS - 60}),
        (world.filed, {"iat": now - AGE_SECONDS + 60, "nbf": now - AGE_SECONDS + 60, "exp": now + 365 * AGE_SECONDS}),
    ]:
        sts.assume_role_with_web_identity(**asked(role, issuer.token(**changes)))
    # The key of an issuer is replaced, in its file and behind its URL; the old one is gone with it.
    for issuer, replace in [(world.guarded, lambda: None), (world.filed, world.write_key_set)]:
        old = issuer.token()
        issuer.rotate()
        replace()
        sts.assume_role_with_web_identity(**asked(role, issuer.token()))
        refused(sts, "InvalidIdentityTokenException", NO_KEY, role, old)
    return role


def forged(world: World) -> list[tuple[str, str, str]]:
    """Tokens that the issuer has not made, or not so, each with its error."""
    issuer, now = world.cluster, int(time.time())
    key, stranger = issuer.keys[0], Key("RS256")
    algorithms = NOT_VALIDATED + "it must be signed with RS256, "
    signature = NOT_VALIDATED + "its signature is not of its issuer"
    invalid, expired = "InvalidIdentityTokenException", "ExpiredTokenException"
    whole = issuer.token()
    header, claims, signed = whole.split(".")
    other = issuer.token(sub="system:serviceaccount:payments:admin").split(".")
    return [
        (invalid, f"No OpenIDConnect provider found in your account for {issuer.url}/", issuer.token(iss=f"{issuer.url}/")),
        (invalid, "No OpenIDConnect provider found in your account for https://kubernetes.default.svc", issuer.token(iss="https://kubernetes.default.svc")),
        (invalid, "Missing a required claim: iss", issuer.token(iss=None)),
        (invalid, "Missing a required claim: sub", issuer.token(sub=None)),
        (invalid, "Missing a required claim: aud", issuer.token(aud=None)),
        (invalid, "Missing a required claim: exp", issuer.token(exp=None)),
        (invalid, "Incorrect token audience", issuer.token(aud=["https://kubernetes.default.svc"])),
        (expired, "Token expired: current date/time ", issuer.token(exp=now - GRACE_SECONDS)),
        (expired, "Token too old: ", issuer.token(iat=now - AGE_SECONDS - 60, nbf=None)),
        (invalid, "Token not yet valid: current date/time ", issuer.token(nbf=now + GRACE_SECONDS + 60)),
        (invalid, algorithms, by_hand({"alg": "none", "typ": "JWT"}, issuer.claims(), None)),
        (invalid, algorithms, by_hand({"alg": "none", "kid": key.id}, issuer.claims(), None)),
        (invalid, algorithms, by_hand({"alg": "HS256", "kid": key.id}, issuer.claims(), key.pem())),
        (invalid, algorithms, by_hand({"alg": "HS256", "kid": key.id}, issuer.claims(), json.dumps(key.public()).encode())),
        (invalid, NOT_VALIDATED + "its key is for another algorithm", by_hand({"alg": "ES256", "kid": key.id}, issuer.claims(), key.pem())),
        (invalid, NO_KEY, stranger.sign(issuer.claims())),
        (invalid, NO_KEY, world.other.keys[0].sign(issuer.claims())),
        (invalid, signature, world.other.keys[0].sign(issuer.claims(), kid=key.id)),
        (invalid, signature, stranger.sign(issuer.claims(), kid=key.id, jwk=stranger.public(), jku=f"{world.other.url}/keys")),
        (invalid, signature, ".".join([header, other[1], signed])),
        (invalid, NOT_VALIDATED + "it is not a JSON Web Token", ".".join([header, claims])),
        (invalid, NOT_VALIDATED + "it is not a JSON Web Token", f"{whole}.{whole}"),
        (invalid, NOT_VALIDATED + "its header has \"crit\"", key.sign(issuer.claims(), crit=["exp"])),
    ]


def refusals(mill: Daemon, tally: Tally, world: World, role: dict) -> None:
    """Forged tokens; then good ones, for roles that do not take them."""
    sts = anonymous(mill, tally)
    for error, message, token in forged(world):
        refused(sts, error, message, role, token)
    filled = world.cluster.claims(padding="x")
    room = TOKEN_CHARACTERS_MAX - len(world.cluster.keys[0].sign(filled))
    largest = world.cluster.keys[0].sign(filled | {"padding": "x" * (room * 3 // 4 - 8)})
    assert TOKEN_CHARACTERS_MAX - 20 < len(largest) <= TOKEN_CHARACTERS_MAX
    sts.assume_role_with_web_identity(**asked(role, largest))
    oversized = world.cluster.token(padding="x" * TOKEN_CHARACTERS_MAX)
    refused(sts, "ValidationError", "1 validation error detected: Value at 'webIdentityToken' failed", role, oversized)
    # Once the signature holds, a caller does not learn what there is.
    token = world.cluster.token()
    for made in [
        role | {"Arn": role["Arn"].replace("minter", "absent")},
        operator(mill, "principal", "create", "closed", "--kind", "role"),
        federated(mill, "of-other", [world.other]),
        federated(mill, "of-another", [world.cluster], "system:serviceaccount:payments:auditor"),
        federated(mill, "of-keymill", [world.cluster], aud="keymill"),
    ]:
        refused(sts, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", made, token)
    operator(mill, "principal", "disable", role["Arn"])
    refused(sts, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", role, token)
    operator(mill, "principal", "enable", role["Arn"])
    sts.assume_role_with_web_identity(**asked(role, token))


def unreachable(mill: Daemon, tally: Tally, world: World, role: dict) -> None:
    """While an issuer cannot be asked, boto3 repeats its call by itself; when it can, the same token is taken."""
    message = "The keys of the identity provider cannot be fetched now. Try again."
    refused(anonymous(mill, tally), "IDPCommunicationErrorException", message, role, world.impostor.token())
    before = mill.metric("keymill_web_identity_tokens_total", result="unreachable")
    refused(anonymous(mill, tally, 2), "IDPCommunicationErrorException", message, role, world.sleeping.token())
    assert mill.metric("keymill_web_identity_tokens_total", result="unreachable") == before + 2
    sts, token = anonymous(mill, tally), world.sleeping.token()

    def answers() -> bool:
        with contextlib.suppress(sts.exceptions.IDPCommunicationErrorException):
            return "Credentials" in sts.assume_role_with_web_identity(**asked(role, token))
        return False

    with world.late.started():
        wait_until(answers, FETCHED_SECONDS, "the issuer was not asked again")
    # It is gone again, and its keys stay in use.
    assert answers()


@contextlib.contextmanager
def world_and_daemon(folder: str):
    """Issuers that answer, but for those that come late, and a daemon that takes their tokens and logs all that it ever logs."""
    world = World(Path(folder))
    with world.server.started(), running({"KEYMILL_LOG__LEVEL": "trace"}, settings=world.settings) as mill:
        yield world, mill
        shown = mill.metrics()
        assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
        no_token(mill, "\n".join(shown))


def no_token(mill: Daemon, metrics: str) -> None:
    """No part of a token is in the log, the audit log, the store or the metrics."""
    files = {path: path.read_bytes() for path in [mill.log, *mill.state.rglob("*")] if path.is_file()}
    told = [path for path, text in files.items() if SUBJECT.encode() in text]
    assert any(path.parent.name == "audit" for path in told), f"the audit log does not name the subject: {[*files]}"
    parts = {part.encode() for token in MADE for part in token.split(".")[1:] if part}
    for place, text in [*files.items(), ("metrics", metrics.encode())]:
        found = [part for part in parts if part in text]
        assert not found, f"{place} has parts of tokens: {found}"


def main() -> None:
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="keymill-issuers-") as folder, world_and_daemon(folder) as (world, mill):
        role = taken(mill, tally, world)
        refusals(mill, tally, world, role)
        unreachable(mill, tally, world, role)
    report("boto3 (AWS STS, web identities)", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
