"""boto3 against a running daemon, over TCP: key policies and grants, each refusal with its code and message."""

import json

import boto3
import daemon
from daemon import Tally, new_key, refused

UNKNOWN_GRANT = "0" * 64
SIGN_ON_SYMMETRIC = (
    "Operations [Sign] are not supported when creating a grant for a symmetric KMS key with key usage ENCRYPT_DECRYPT. Valid operations are [Decrypt, Encrypt, "
    "GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, CreateGrant, RetireGrant, DescribeKey, GenerateDataKeyPair, "
    "GenerateDataKeyPairWithoutPlaintext]"
)
DRY_RUN = "The request would have succeeded, but the DryRun option is set."


def document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(principal: str, *actions: str, effect: str = "Allow", **more) -> dict:
    return {"Effect": effect, "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"} | more


def denied(arn: str, operation: str, key: str, reason: str) -> str:
    reason = f"because no {reason}-based policy allows the kms:{operation} action" if len(reason.split()) == 1 else reason
    return f"User: {arn} is not authorized to perform: kms:{operation} on resource: {key} {reason}"


def key_policies(mill: daemon.Daemon, tally: Tally) -> None:
    """Put, read, refused, and what they decide."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    me, other = mill.principal("admin")["arn"], mill.principal("consumer")["arn"]
    root = f"arn:aws:iam::{mill.facts['account']}:root"
    key, arn, alias, _ = new_key(mill, "alias/policies", tally)
    assert admin.list_key_policies(KeyId=key)["PolicyNames"] == ["default"]
    default = json.loads(admin.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])
    assert default["Statement"][0]["Principal"] == {"AWS": root}, default

    invalid = "Policy contains a statement with one or more invalid principals."
    lockout = "The new key policy will not allow you to update the key policy in the future."
    everybody = allow(root, "kms:*")
    for policy, message in [
        ("{}", "Statement: missing"),
        (document(everybody | {"Principle": "*"}), 'Statement 1: unknown element "Principle"'),
        (document(everybody, allow(f"{root[:-4]}user/nobody", "kms:Decrypt")), invalid),
        (document(everybody, allow("alice", "kms:Decrypt")), invalid),
        (document(allow(other, "kms:*")), lockout),
        (document(everybody, allow("*", "kms:PutKeyPolicy", effect="Deny")), lockout),
    ]:
        error = refused("MalformedPolicyDocumentException", message, admin.put_key_policy, KeyId=key, PolicyName="default", Policy=policy)
        assert isinstance(error, admin.exceptions.MalformedPolicyDocumentException), type(error)
        refused("MalformedPolicyDocumentException", message, admin.create_key, Policy=policy)
    refused("NotFoundException", "No such policy exists", admin.get_key_policy, KeyId=key, PolicyName="other")
    refused("InvalidArnException", "Key Aliases are not supported for this operation.", admin.get_key_policy, KeyId=alias)

    blob = admin.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    consumer.decrypt(CiphertextBlob=blob)
    # Identity policies are not enough when the key's policy does not delegate to them.
    closed = document(allow(me, "kms:*"))
    admin.put_key_policy(KeyId=key, PolicyName="default", Policy=closed)
    assert admin.get_key_policy(KeyId=key)["Policy"] == closed
    message = denied(other, "Decrypt", arn, "resource")
    refused("AccessDeniedException", message, consumer.decrypt, CiphertextBlob=blob, KeyId=key)
    refused("AccessDeniedException", daemon.NOT_ALLOWED_TO_OPEN, consumer.decrypt, CiphertextBlob=blob)
    admin.put_key_policy(KeyId=key, PolicyName="default", Policy=document(allow(me, "kms:*"), allow(other, "kms:Decrypt", effect="Deny")))
    message = denied(other, "Decrypt", arn, "with an explicit deny in a resource-based policy")
    refused("AccessDeniedException", message, consumer.decrypt, CiphertextBlob=blob, KeyId=arn)
    # Who asks for it is locked out.
    admin.put_key_policy(KeyId=key, PolicyName="default", Policy=document(allow(other, "kms:Decrypt")), BypassPolicyLockoutSafetyCheck=True)
    message = denied(me, "PutKeyPolicy", arn, "resource")
    refused("AccessDeniedException", message, admin.put_key_policy, KeyId=key, PolicyName="default", Policy=closed)
    consumer.decrypt(CiphertextBlob=blob)
    made = admin.create_key(Policy=closed)["KeyMetadata"]["KeyId"]
    assert admin.get_key_policy(KeyId=made)["Policy"] == closed


def grants(mill: daemon.Daemon, tally: Tally) -> None:
    """Made, used within their constraint, listed, retired and revoked."""
    admin, consumer, provisioner = (mill.client(role, tally) for role in ("admin", "consumer", "provisioner"))
    grantee, retiring = mill.principal("consumer")["arn"], mill.principal("provisioner")["arn"]
    key, arn, _, _ = new_key(mill, "alias/grants", tally)
    asked = {"KeyId": key, "GranteePrincipal": grantee, "RetiringPrincipal": retiring, "Operations": ["Encrypt", "DescribeKey"], "Name": "one"}
    constraint = {"EncryptionContextSubset": {"tenant": "Zoë"}}
    for change, code, message in [
        ({"GranteePrincipal": f"{grantee}-not"}, "InvalidArnException", f"ARN does not refer to a valid principal: {grantee}-not"),
        ({"Operations": ["CreateGrant"]}, "ValidationException", "Grants must not contain only the CreateGrant operation."),
        ({"Operations": ["Sign"]}, "ValidationException", SIGN_ON_SYMMETRIC),
        ({"Constraints": constraint | {"EncryptionContextEquals": {"a": "b"}}}, "ValidationException", "More than one constraint supplied"),
        ({"GrantTokens": ["token"]}, "InvalidGrantTokenException", ""),
        ({"DryRun": True}, "DryRunOperationException", DRY_RUN),
    ]:
        refused(code, message, admin.create_grant, **asked | change)
    refused("AccessDeniedException", denied(grantee, "CreateGrant", arn, "identity"), consumer.create_grant, **asked)
    assert admin.list_grants(KeyId=key)["Grants"] == []

    refused("AccessDeniedException", denied(grantee, "Encrypt", arn, "identity"), consumer.encrypt, KeyId=key, Plaintext=b"x")
    made = admin.create_grant(**asked, Constraints=constraint)
    # As Terraform sends it, with the other map empty.
    again = admin.create_grant(**asked, Constraints=constraint | {"EncryptionContextEquals": {}})
    assert again["GrantId"] == made["GrantId"] and again["GrantToken"] != made["GrantToken"], again
    for context in ({"tenant": "Zoë"}, {"tenant": "Zoë", "container": "7"}):
        sealed = consumer.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context, GrantTokens=[made["GrantToken"]])
        assert consumer.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)["Plaintext"] == b"x"
    for context in ({}, {"container": "7"}, {"tenant": "Zoe"}):
        message = denied(grantee, "Encrypt", arn, "identity")
        refused("AccessDeniedException", message, consumer.encrypt, KeyId=key, Plaintext=b"x", EncryptionContext=context)
    # A token of another grantee gives nothing and hurts nothing.
    admin.describe_key(KeyId=key, GrantTokens=[made["GrantToken"]])
    error = refused("InvalidGrantTokenException", "", admin.encrypt, KeyId=key, Plaintext=b"x", GrantTokens=["token"])
    assert isinstance(error, admin.exceptions.InvalidGrantTokenException), type(error)

    (entry,) = admin.list_grants(KeyId=arn)["Grants"]
    told = {name: entry[name] for name in ("KeyId", "GrantId", "Name", "GranteePrincipal", "RetiringPrincipal", "Operations", "Constraints")}
    assert told == {
        "KeyId": arn, "GrantId": made["GrantId"], "Name": "one", "GranteePrincipal": grantee, "RetiringPrincipal": retiring,
        "Operations": ["Encrypt", "DescribeKey"], "Constraints": constraint,
    }, entry
    assert entry["IssuingAccount"] == f"arn:aws:iam::{mill.facts['account']}:root", entry
    ids = {admin.create_grant(KeyId=key, GranteePrincipal=grantee, Operations=["Encrypt"])["GrantId"] for _ in range(4)}
    pages = list(admin.get_paginator("list_grants").paginate(KeyId=key, PaginationConfig={"PageSize": 2}))
    assert len(pages) == 3 and {grant["GrantId"] for page in pages for grant in page["Grants"]} == ids | {made["GrantId"]}
    retirable = admin.list_retirable_grants(RetiringPrincipal=retiring)["Grants"]
    assert [grant["GrantId"] for grant in retirable] == [made["GrantId"]], retirable
    refused("InvalidMarkerException", "", admin.list_retirable_grants, RetiringPrincipal=retiring, Marker=pages[0]["NextMarker"])
    refused("InvalidGrantIdException", "", admin.list_grants, KeyId=key, GrantId="x")

    refused("AccessDeniedException", denied(grantee, "RetireGrant", arn, "identity"), consumer.retire_grant, KeyId=arn, GrantId=made["GrantId"])
    refused("AccessDeniedException", denied(grantee, "RevokeGrant", arn, "identity"), consumer.revoke_grant, KeyId=arn, GrantId=made["GrantId"])
    refused("ValidationException", "Please specify either a grant token, or a key ARN and a grant ID.", provisioner.retire_grant)
    refused("InvalidGrantTokenException", "", provisioner.retire_grant, GrantToken="token")
    refused("DryRunOperationException", DRY_RUN, provisioner.retire_grant, GrantToken=made["GrantToken"], DryRun=True)
    provisioner.retire_grant(GrantToken=made["GrantToken"])
    # The other grants still let him encrypt, and the retired one's token is ignored.
    consumer.encrypt(KeyId=key, Plaintext=b"x", GrantTokens=[made["GrantToken"]])
    for grant in ids:
        admin.revoke_grant(KeyId=key, GrantId=grant)
    refused("NotFoundException", f"Grant {UNKNOWN_GRANT} is not found.", admin.revoke_grant, KeyId=key, GrantId=UNKNOWN_GRANT)
    refused("AccessDeniedException", denied(grantee, "Encrypt", arn, "identity"), consumer.encrypt, KeyId=key, Plaintext=b"x")
    assert admin.list_grants(KeyId=key)["Grants"] == []


def services(mill: daemon.Daemon, tally: Tally) -> None:
    """A grant to a service of AWS, kept over a kill, listed and retired by the account that made it."""
    admin = mill.client("admin", tally)
    key = admin.create_key()["KeyMetadata"]["KeyId"]
    source, service = "arn:aws:rds:us-east-1:111122223333:db:one", "rds.amazonaws.com"
    asked = {"KeyId": key, "GranteeServicePrincipal": service, "RetiringServicePrincipal": service, "Operations": ["Decrypt"], "Constraints": {"SourceArn": source}}
    made = admin.create_grant(**asked)
    mill.kill()
    mill.start()
    admin = mill.client("admin", tally)
    (entry,) = admin.list_grants(KeyId=key)["Grants"]
    assert {name: entry.get(name) for name in asked} == asked | {"KeyId": entry["KeyId"]}, entry
    assert "GranteePrincipal" not in entry and "RetiringPrincipal" not in entry, entry
    admin.retire_grant(KeyId=entry["KeyId"], GrantId=made["GrantId"])
    assert admin.list_grants(KeyId=key)["Grants"] == []
    refused("ValidationException", "The AWS_RAM policy can only be managed by the RAM service", admin.put_key_policy, KeyId=key, PolicyName="AWS_RAM", Policy="{}")
    refused("NotFoundException", "No such policy exists", admin.get_key_policy, KeyId=key, PolicyName="AWS_RAM")
    assert admin.list_keys(ResourceOwners=["OTHER_ACCOUNTS_VIA_RAM"])["Keys"] == []


def over_a_restart(mill: daemon.Daemon, tally: Tally) -> None:
    """Policies, grants and tokens survive a kill."""
    admin, grantee = mill.client("admin", tally), mill.principal("consumer")["arn"]
    key = admin.create_key()["KeyMetadata"]["KeyId"]
    policy = document(allow(mill.principal("admin")["arn"], "kms:*"))
    admin.put_key_policy(KeyId=key, PolicyName="default", Policy=policy)
    token = admin.create_grant(KeyId=key, GranteePrincipal=grantee, Operations=["Encrypt"])["GrantToken"]
    mill.kill()
    mill.start()
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    assert admin.get_key_policy(KeyId=key)["Policy"] == policy
    consumer.encrypt(KeyId=key, Plaintext=b"x", GrantTokens=[token])


def main() -> None:
    with daemon.step("boto3 grants", boto3.__version__) as (mill, tally):
        key_policies(mill, tally)
        grants(mill, tally)
        over_a_restart(mill, tally)
        services(mill, tally)


if __name__ == "__main__":
    main()
