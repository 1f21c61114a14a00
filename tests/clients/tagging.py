"""boto3 and the AWS CLI tag keys by the Resource Groups Tagging API beside KMS, on the same endpoint, as tools of governance do."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
from daemon import Daemon, Tally, environment, new_key, refused, step
from sessions import operator, policy
from sts import client as service_client

AWS = Path(sys.executable).with_name("aws")
SERVICE = "resourcegroupstaggingapi"
PER_PAGE_MAX = 100
KEYS = 7


def client(mill: Daemon, tally: Tally, told: dict, service: str = SERVICE):
    """A boto3 client of a service, whose calls are counted."""
    made = service_client(mill, tally, told, service)
    made.meta.events.register("after-call.resource-groups-tagging-api", tally.count)
    return made


def keys_by_tags(mill: Daemon, tally: Tally, told: dict) -> list[str]:
    """Keys are tagged, found by their tags, page by page, and untagged."""
    tagging = client(mill, tally, told)
    arns = sorted(new_key(mill, f"alias/tagged-{number}", tally)[1] for number in range(KEYS))
    for number, arn in enumerate(arns):
        answer = tagging.tag_resources(ResourceARNList=[arn], Tags={"Team": "storage", "Number": str(number % 2), "Empty": ""})
        assert answer["FailedResourcesMap"] == {}, answer
    listed = mill.client("admin", tally).list_resource_tags(KeyId=arns[1])["Tags"]
    assert {tag["TagKey"]: tag["TagValue"] for tag in listed} == {"Team": "storage", "Number": "1", "Empty": ""}, listed

    def found(**asked) -> list[str]:
        pages = tagging.get_paginator("get_resources").paginate(**asked)
        return [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]

    team, odd = {"Key": "Team", "Values": ["storage", "other"]}, {"Key": "Number", "Values": ["1"]}
    assert found() == arns
    for size in [1, 3, PER_PAGE_MAX]:
        assert found(ResourcesPerPage=size, TagFilters=[team]) == arns, size
    assert found(TagFilters=[team, odd]) == arns[1::2]
    assert found(TagFilters=[{"Key": "Number"}], ResourceTypeFilters=["kms:key"]) == arns
    assert found(TagFilters=[{"Key": "team"}]) == found(ResourceTypeFilters=["s3"]) == []
    first = tagging.get_resources(ResourcesPerPage=KEYS - 1)
    assert first["PaginationToken"], first
    last = tagging.get_resources(ResourcesPerPage=KEYS - 1, PaginationToken=first["PaginationToken"])
    assert last["PaginationToken"] == "" and len(last["ResourceTagMappingList"]) == 1, last
    unknown = f"{arns[0][:-4]}0000"
    named = tagging.get_resources(ResourceARNList=[arns[2], unknown, "arn:aws:s3:::bucket"])
    assert [one["ResourceARN"] for one in named["ResourceTagMappingList"]] == [arns[2]], named
    assert named["ResourceTagMappingList"][0]["Tags"][0] == {"Key": "Empty", "Value": ""}, named
    assert tagging.get_tag_keys()["TagKeys"] == ["Empty", "Number", "Team"]
    assert tagging.get_tag_values(Key="Number")["TagValues"] == ["0", "1"]
    assert tagging.get_tag_values(Key="none")["TagValues"] == []
    answer = tagging.untag_resources(ResourceARNList=arns[1:], TagKeys=["Team", "Number", "Empty", "none"])
    assert answer["FailedResourcesMap"] == {} and found() == arns[:1], answer
    return arns


def command_line(mill: Daemon, tally: Tally, told: dict, arns: list[str]) -> None:
    """The AWS CLI, with one endpoint for every service, as Cloud Custodian has it too."""
    variables = {
        "AWS_ACCESS_KEY_ID": told["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": told["SecretAccessKey"],
        "AWS_DEFAULT_REGION": mill.facts["region"], "AWS_ENDPOINT_URL": mill.endpoint,
    }

    def call(*arguments: str) -> dict:
        done = subprocess.run([AWS, *arguments, "--output", "json"], env=environment(**variables), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        tally.calls += 1
        return json.loads(done.stdout)

    assert call("sts", "get-caller-identity")["Arn"] == told["Arn"]
    assert call(SERVICE, "tag-resources", "--resource-arn-list", *arns[:2], "--tags", "Owner=cli")["FailedResourcesMap"] == {}
    mapped = call(SERVICE, "get-resources", "--tag-filters", "Key=Owner,Values=cli")["ResourceTagMappingList"]
    assert [one["ResourceARN"] for one in mapped] == arns[:2], mapped


def refusals(mill: Daemon, tally: Tally, told: dict, arns: list[str]) -> None:
    """A right to the API is none to a key, and a refused key does not keep the others from being tagged."""
    tagging = client(mill, tally, told)
    alone = operator(mill, "principal", "create", "alone", "--policy", policy(mill, "tag:*"))
    limited = client(mill, tally, alone)
    answer = limited.tag_resources(ResourceARNList=arns[:2], Tags={"a": "b"})["FailedResourcesMap"]
    assert sorted(answer) == arns[:2], answer
    for arn, failure in answer.items():
        said = f"User: {alone['Arn']} is not authorized to perform: kms:TagResource on resource: {arn} "
        assert failure["StatusCode"] == 400 and failure["ErrorCode"] == "AccessDeniedException", failure
        assert failure["ErrorMessage"].startswith(said), failure
    assert limited.get_resources(TagFilters=[{"Key": "a"}])["ResourceTagMappingList"] == []
    # It sees the tags of all keys of its account: no key policy is asked.
    assert limited.get_resources(ResourceARNList=arns[:1])["ResourceTagMappingList"]
    keys_alone = operator(mill, "principal", "create", "keys-alone", "--policy", policy(mill, "kms:*"))
    for call, arguments in [
        ("get_resources", {}), ("get_tag_keys", {}), ("get_tag_values", {"Key": "a"}),
        ("tag_resources", {"ResourceARNList": arns[:1], "Tags": {"a": "b"}}),
        ("untag_resources", {"ResourceARNList": arns[:1], "TagKeys": ["a"]}),
    ]:
        refused("AccessDeniedException", None, getattr(client(mill, tally, keys_alone), call), **arguments)
    mixed = [arns[0], f"{arns[0][:-4]}0000", "arn:aws:s3:::bucket", mill.arn("alias/tagged-1")]
    answer = tagging.tag_resources(ResourceARNList=mixed, Tags={"mixed": "yes"})["FailedResourcesMap"]
    codes = {arn: failure["ErrorCode"] for arn, failure in answer.items()}
    assert codes == dict(zip(mixed[1:], ["NotFoundException", "InvalidArnException", "InvalidArnException"])), answer
    tagged = tagging.get_resources(TagFilters=[{"Key": "mixed"}])["ResourceTagMappingList"]
    assert [one["ResourceARN"] for one in tagged] == arns[:1], tagged
    answer = tagging.tag_resources(ResourceARNList=arns[:1], Tags={"aws:a": "b"})["FailedResourcesMap"]
    assert answer[arns[0]]["ErrorCode"] == "TagException", answer
    mill.client("admin", tally).schedule_key_deletion(KeyId=arns[3], PendingWindowInDays=7)
    answer = tagging.untag_resources(ResourceARNList=[arns[3]], TagKeys=["a"])["FailedResourcesMap"]
    assert answer[arns[3]]["ErrorCode"] == "KMSInvalidStateException", answer
    invalid = "InvalidParameterException"
    refused(invalid, "bucket is not a valid AmazonResourceName (ARN)", tagging.tag_resources, ResourceARNList=[arns[0], "bucket"], Tags={"a": "b"})
    refused(invalid, "bucket is not a valid AmazonResourceName (ARN)", tagging.get_resources, ResourceARNList=["bucket"])
    refused(invalid, None, tagging.get_resources, ResourceARNList=arns[:1], TagFilters=[{"Key": "a"}])
    refused(invalid, None, tagging.get_resources, ResourcesPerPage=PER_PAGE_MAX + 1)
    refused(invalid, "PaginationToken was not issued for this request.", tagging.get_tag_keys, PaginationToken="x")
    refused("ConstraintViolationException", None, tagging.get_compliance_summary)
    refused("ConstraintViolationException", None, tagging.describe_report_creation)
    refused("UnrecognizedClientException", None, client(mill, tally, told | {"AccessKeyId": "AKIAUNKNOWN"}).get_tag_keys)


def main() -> None:
    with step("boto3 (AWS Resource Groups Tagging API)", boto3.__version__) as (mill, tally):
        told = operator(mill, "principal", "create", "governor", "--policy", policy(mill, "tag:*", "kms:*"))
        arns = keys_by_tags(mill, tally, told)
        command_line(mill, tally, told, arns)
        refusals(mill, tally, told, arns)


if __name__ == "__main__":
    main()
