"""boto3 and the AWS CLI assume roles as their users do: from a profile with a role, and by the call itself."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.exceptions
from daemon import ALIAS, Daemon, Tally, environment, report, running
from sessions import make_and_open, operator, policy
from sts import client, denied

# What a user of boto3 writes; the credentials are the profile's business.
USER = """
import sys, boto3
kms = boto3.client("kms")
blob = kms.generate_data_key_without_plaintext(KeyId=sys.argv[1], KeySpec="AES_256")["CiphertextBlob"]
print(len(kms.decrypt(CiphertextBlob=blob)["Plaintext"]))
"""
AWS = Path(sys.executable).with_name("aws")
PROFILES = """[profile minter]
role_arn = {role}
source_profile = base
role_session_name = nightly
external_id = ticket-7
duration_seconds = 3600
region = {region}

[profile base]
aws_access_key_id = {AccessKeyId}
aws_secret_access_key = {SecretAccessKey}
region = {region}
"""


def file(mill: Daemon, name: str, statement: dict) -> str:
    """A file with a policy of one statement."""
    path = mill.state / f"{name}.json"
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", **statement}}))
    return str(path)


def profiles(mill: Daemon, tally: Tally) -> None:
    """A profile with a role is all that the CLI and boto3 need; the endpoint is the one for all services."""
    user = operator(mill, "principal", "create", "base")
    trust = file(mill, "trust", {
        "Principal": {"AWS": user["Arn"]}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "ticket-7"}},
    })
    role = operator(mill, "principal", "create", "minter", "--kind", "role", "--policy", policy(mill, "kms:*"), "--trust-policy", trust)
    config = mill.state / "profiles"
    config.write_text(PROFILES.format(role=role["Arn"], region=mill.facts["region"], **user))
    # The CLI keeps the credentials of roles in the caller's home.
    settings = {"HOME": str(mill.state), "AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "minter", "AWS_ENDPOINT_URL": mill.endpoint}
    asked = [AWS, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"]
    done = subprocess.run(asked, env=environment(**settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip().endswith(":assumed-role/minter/nightly"), done
    made = [AWS, "kms", "generate-data-key-without-plaintext", "--key-id", ALIAS, "--key-spec", "AES_256"]
    done = subprocess.run(made, env=environment(**settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "CiphertextBlob" in done.stdout, done
    asked = [sys.executable, "-c", USER, ALIAS]
    done = subprocess.run(asked, env=environment(**settings), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "32\n"), done
    tally.calls += 4


def parameters(mill: Daemon, tally: Tally) -> None:
    """A session policy narrows, tags decide, and a source identity stays."""
    user = operator(mill, "principal", "create", "caller")
    trust = file(mill, "trust-all", {"Principal": {"AWS": user["Arn"]}, "Action": "sts:*"})
    tagged = file(mill, "tagged", {
        "Action": "kms:*", "Resource": "*", "Condition": {"StringEquals": {"aws:PrincipalTag/stage": "test", "aws:SourceIdentity": "alice"}},
    })
    role = operator(mill, "principal", "create", "tagged", "--kind", "role", "--policy", tagged, "--tag", "stage=live", "--trust-policy", trust)
    sts = client(mill, tally, user)
    asked = {"RoleArn": role["Arn"], "RoleSessionName": "narrow"}
    tags = [{"Key": "stage", "Value": "test"}]

    def kms(**more):
        answer = sts.assume_role(**asked, **more)
        assert answer["AssumedRoleUser"]["AssumedRoleId"] == f"{role['UniqueId']}:narrow", answer
        assert answer["Credentials"]["AccessKeyId"].startswith("ASIA"), answer
        assert ("PackedPolicySize" in answer) == ("Tags" in more or "Policy" in more), answer
        return client(mill, tally, answer["Credentials"], "kms")

    make_and_open(kms(Tags=tags, SourceIdentity="alice"))
    for more in ({}, {"Tags": tags}, {"Tags": tags, "SourceIdentity": "mallory"}, {"SourceIdentity": "alice"}):
        refuses(kms(**more), "because no identity-based policy allows the kms:GenerateDataKeyWithoutPlaintext action")
    only = json.dumps({"Statement": {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}})
    refuses(kms(Tags=tags, SourceIdentity="alice", Policy=only), "because no session policy allows the kms:GenerateDataKeyWithoutPlaintext action")
    told = sts.get_access_key_info(AccessKeyId=user["AccessKeyId"])
    assert told["Account"] == user["Arn"].split(":")[4], told
    denied(403, "InvalidClientTokenId", "The security token included in the request is invalid", sts.get_access_key_info, AccessKeyId="AKIAIOSFODNN7EXAMPLE")


def refuses(kms, reason: str) -> None:
    """Asks for a key and is denied for this reason."""
    try:
        kms.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException" and error.response["Error"]["Message"].endswith(reason), error.response
        return
    raise AssertionError("a key was made")


def refusals(mill: Daemon, tally: Tally) -> None:
    """Codes, statuses and texts; a role that trusts others is told apart from none by nothing."""
    user = operator(mill, "principal", "create", "stranger")
    role = operator(mill, "principal", "create", "closed", "--kind", "role")
    sts = client(mill, tally, user)
    for arn in (role["Arn"], role["Arn"].replace("closed", "absent")):
        message = f"User: {user['Arn']} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        denied(403, "AccessDenied", message, sts.assume_role, RoleArn=arn, RoleSessionName="nightly")
    denied(400, "ValidationError", "1 validation error detected: Value 'a:b' at 'roleSessionName'", sts.assume_role, RoleArn=role["Arn"], RoleSessionName="a:b")


def main() -> None:
    with running() as mill:
        tally = Tally()
        profiles(mill, tally)
        parameters(mill, tally)
        refusals(mill, tally)
        report("boto3 (AWS STS, roles)", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
