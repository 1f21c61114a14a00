"""boto3 and plain requests ask AWS STS beside KMS, on the same endpoint, who they are; so do presigned URLs, as logins hand them out."""

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import botocore.exceptions
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from daemon import Daemon, Tally, environment, report, running
from sessions import operator, policy

FORM = "application/x-www-form-urlencoded; charset=utf-8"
# The AWS CLI of the same environment as boto3.
AWS = Path(sys.executable).with_name("aws")
WHO = "Action=GetCallerIdentity&Version=2011-06-15"


def client(mill: Daemon, tally: Tally, told: dict, service: str = "sts"):
    """A boto3 client of a service with credentials as the command line tells them."""
    session = boto3.session.Session(
        told["AccessKeyId"], told["SecretAccessKey"], told.get("SessionToken"), region_name=mill.facts["region"],
    )
    made = session.client(service, endpoint_url=mill.endpoint)
    made.meta.events.register(f"after-call.{service}", tally.count)
    return made


def raw(mill: Daemon, told: dict | None, body: str, headers: dict | None = None, service: str = "sts", method: str = "POST", query: str = "") -> tuple[int, dict, str]:
    """Sends a form that is signed for a service, or not at all; returns status, headers, body."""
    headers = {"Content-Type": FORM} if headers is None else headers
    request = AWSRequest(method, f"{mill.endpoint}/{query}", data=body.encode(), headers=headers)
    if told is not None:
        credentials = Credentials(told["AccessKeyId"], told["SecretAccessKey"], told.get("SessionToken"))
        SigV4Auth(credentials, service, mill.facts["region"]).add_auth(request)
    sent = urllib.request.Request(request.url, body.encode() or None, dict(request.headers), method=method)
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read().decode()


def denied(status: int, code: str, message: str, call, **arguments) -> None:
    """Calls, and holds the refusal to its status, its code and the beginning of its message."""
    try:
        answer = call(**arguments)
    except botocore.exceptions.ClientError as error:
        told = error.response["Error"]
        assert (told["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), error.response
        assert told["Message"].startswith(message), told
        return
    raise AssertionError(f"{call} was answered {answer} instead of {code}")


def identities(mill: Daemon, tally: Tally) -> None:
    """A user, a root and a session learn who they are; no policy forbids it."""
    user = operator(mill, "principal", "create", "asker", "--policy", policy(mill, "kms:Nothing"))
    told = client(mill, tally, user).get_caller_identity()
    assert (told["Arn"], told["UserId"], told["Account"]) == (user["Arn"], user["UniqueId"], user["Arn"].split(":")[4]), told
    assert told["UserId"].startswith("AIDA"), told
    root = operator(mill, "principal", "create", "--kind", "root", "--account", "444455556666")
    told = client(mill, tally, root).get_caller_identity()
    assert (told["Arn"], told["UserId"]) == ("arn:aws:iam::444455556666:root", "444455556666"), told
    role = operator(mill, "principal", "create", "asked", "--kind", "role")
    session = operator(mill, "principal", "create-session", "asked", "--session-name", "nightly")
    told = client(mill, tally, session).get_caller_identity()
    assert told["Arn"].endswith(":assumed-role/asked/nightly"), told
    assert told["UserId"] == f"{role['UniqueId']}:nightly", told
    forbidden = mill.state / "forbidden.json"
    forbidden.write_text(json.dumps({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}))
    denied = operator(mill, "principal", "create", "denied", "--policy", str(forbidden))
    assert client(mill, tally, denied).get_caller_identity()["Arn"] == denied["Arn"]


def refusals(mill: Daemon, tally: Tally) -> None:
    """Codes, statuses and texts of the query protocol."""
    user = operator(mill, "principal", "create", "refused")
    wrong = user | {"SecretAccessKey": "x" * 40}
    for told, code, message in [
        (wrong, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."),
        (user | {"AccessKeyId": "AKIAUNKNOWN"}, "InvalidClientTokenId", "The security token included in the request is invalid"),
        (user | {"SessionToken": "x"}, "InvalidClientTokenId", "The security token included in the request is invalid"),
    ]:
        denied(403, code, message, client(mill, tally, told).get_caller_identity)
    status, headers, body = raw(mill, user, WHO)
    assert status == 200 and headers["Content-Type"] == "text/xml", (status, headers)
    assert f"<RequestId>{headers['x-amzn-requestid']}</RequestId>" in body, body
    assert body.startswith('<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n  <GetCallerIdentityResult>\n    <Arn>'), body
    # The operation may be in the query, and then a GET will do.
    assert raw(mill, user, "", {}, method="GET", query=f"?{WHO}")[0] == 200
    assert raw(mill, user, "", {}, query=f"?{WHO}")[0] == 200
    for told, service, form, expected in [
        (None, "sts", WHO, (403, "MissingAuthenticationToken", "Request is missing Authentication Token")),
        # Who asks comes before what is asked.
        (None, "sts", f"{WHO}&a=%G0", (403, "MissingAuthenticationToken", "Request is missing Authentication Token")),
        (None, "sts", "{}", (403, "MissingAuthenticationToken", "Request is missing Authentication Token")),
        (user, "kms", WHO, (403, "SignatureDoesNotMatch", "Credential should be scoped to correct service: 'sts'. ")),
        (user, "sts", "Action=Dance&Version=2011-06-15", (400, "InvalidAction", "Could not find operation Dance for version 2011-06-15")),
        (user, "sts", "Action=GetCallerIdentity&Version=1", (400, "InvalidAction", "Could not find operation GetCallerIdentity for version 1")),
        (user, "sts", "Version=2011-06-15", (400, "MissingAction", "The request names no Action.")),
        (user, "sts", f"{WHO}&a=%G0", (400, "ValidationError", "A % must be followed by two hex digits.")),
        (user, "sts", "Action=GetSessionToken&Version=2011-06-15", (400, "InvalidAction", "Keymill does not have the operation GetSessionToken.")),
        (user, "sts", "Action=GetWebIdentityToken&Version=2011-06-15", (403, "OutboundWebIdentityFederationDisabledException", "Keymill issues no tokens for other services.")),
    ]:
        status, headers, body = raw(mill, told, form, service=service)
        code = body.partition("<Code>")[2].partition("</Code>")[0]
        message = body.partition("<Message>")[2].partition("</Message>")[0]
        assert (status, code, message) == expected, (form, status, body)
        assert headers["Content-Type"] == "text/xml", headers
        tally.calls += 1


def presigned(sts, header: str | None, method: str = "GET") -> str:
    """A URL of GetCallerIdentity, with a header that is signed as `aws eks get-token` signs it."""
    def add(request, **_) -> None:
        if header is not None:
            request.headers["x-k8s-aws-id"] = header
    sts.meta.events.register("before-sign.sts.GetCallerIdentity", add)
    try:
        return sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod=method)
    finally:
        sts.meta.events.unregister("before-sign.sts.GetCallerIdentity", add)


def cluster_token(mill: Daemon, told: dict) -> str:
    """The URL in the token that the AWS CLI makes for a cluster."""
    variables = {
        "AWS_ACCESS_KEY_ID": told["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": told["SecretAccessKey"], "AWS_REGION": mill.facts["region"],
        "AWS_DEFAULT_REGION": mill.facts["region"], "AWS_ENDPOINT_URL_STS": mill.endpoint,
    } | ({"AWS_SESSION_TOKEN": told["SessionToken"]} if "SessionToken" in told else {})
    command = [AWS, "eks", "get-token", "--cluster-name", "prod", "--output", "json"]
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, check=True)
    prefix, _, encoded = json.loads(done.stdout)["status"]["token"].partition(".")
    assert prefix == "k8s-aws-v1", done.stdout
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


def fetch(url: str, headers: dict | None = None, method: str = "GET") -> tuple[int, str]:
    """Fetches a URL without any knowledge of AWS; returns its status and its body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}, method=method)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def logins(mill: Daemon, tally: Tally) -> None:
    """A presigned URL stands for its signer, as clusters and vaults use it: a user or a session."""
    user = operator(mill, "principal", "create", "clustered")
    operator(mill, "principal", "create", "cluster-role", "--kind", "role")
    session = operator(mill, "principal", "create-session", "cluster-role", "--session-name", "pod")
    for told, arn in [(user, user["Arn"]), (session, session["Arn"])]:
        sts = client(mill, tally, told)
        for url in [cluster_token(mill, told), presigned(sts, "prod")]:
            assert "x-k8s-aws-id" in url and ("X-Amz-Security-Token" in url) == ("SessionToken" in told), url
            status, body = fetch(url, {"x-k8s-aws-id": "prod"})
            assert status == 200 and f"<Arn>{arn}</Arn>" in body, (url, status, body)
            tally.calls += 1
        for changed, headers, code in [
            (url, {"x-k8s-aws-id": "other"}, "SignatureDoesNotMatch"),
            (url, {}, "SignatureDoesNotMatch"),
            (url.replace("GetCallerIdentity", "GetSessionToken"), {"x-k8s-aws-id": "prod"}, "SignatureDoesNotMatch"),
            (url.partition("&X-Amz-Signature=")[0], {"x-k8s-aws-id": "prod"}, "IncompleteSignature"),
        ]:
            status, body = fetch(changed, headers)
            assert status in (400, 403) and f"<Code>{code}</Code>" in body, (changed, status, body)
            tally.calls += 1
        # Without a header of its own, and as POST with an empty body, which botocore signs by
        # default.
        assert fetch(presigned(sts, None))[0] == 200
        assert fetch(presigned(sts, None, "POST"), method="POST")[0] == 200
        assert fetch(presigned(sts, None, "POST"))[0] == 403
        tally.calls += 4
    # KMS takes none.
    kms = client(mill, tally, user, "kms")
    status, body = fetch(kms.generate_presigned_url("list_keys", HttpMethod="GET"))
    assert status in (403, 405), (status, body)


def main() -> None:
    with running() as mill:
        tally = Tally()
        identities(mill, tally)
        refusals(mill, tally)
        logins(mill, tally)
        report("boto3 (AWS STS)", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
