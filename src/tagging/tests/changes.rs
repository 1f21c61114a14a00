//! `TagResources` and `UntagResources`.

use super::*;

impl Bench {
    async fn tags_of(&self, arn: &str) -> Value {
        let listed = self.done("ListResourceTags", json!({"KeyId": arn})).await;
        let tags = listed["Tags"].as_array().unwrap();
        let pair = |tag: &Value| {
            let key = tag["TagKey"].as_str().unwrap().to_owned();
            (key, tag["TagValue"].clone())
        };
        tags.iter().map(pair).collect()
    }
}

fn failure(code: &str, message: &str) -> Value {
    json!({"StatusCode": 400, "ErrorCode": code, "ErrorMessage": message})
}

#[tokio::test]
async fn tags_of_several_keys_are_put_and_removed() {
    let bench = Bench::new().await;
    let arns = bench.tagged(2, &[("a", "1"), ("b", "2")]).await;
    let body = json!({"ResourceARNList": arns, "Tags": {"b": "3", "\"é": ""}});
    let none = json!({"FailedResourcesMap": {}});
    assert_eq!(bench.tagging("TagResources", body).await, none);
    for arn in &arns {
        let tags = json!({"a": "1", "b": "3", "\"é": ""});
        assert_eq!(bench.tags_of(arn).await, tags);
    }
    let body = json!({"ResourceARNList": arns, "TagKeys": ["b", "\"é", "none"]});
    assert_eq!(bench.tagging("UntagResources", body).await, none);
    assert_eq!(bench.tags_of(&arns[1]).await, json!({"a": "1"}));
}

#[tokio::test]
async fn a_key_that_is_refused_has_the_refusal_of_kms_and_the_others_are_tagged() {
    let bench = Bench::new().await;
    let arns = bench.tagged(3, &[]).await;
    let (own, doomed) = (&arns[0], &arns[1]);
    bench
        .done("ScheduleKeyDeletion", json!({"KeyId": doomed}))
        .await;
    let id = own.rsplit('/').next().unwrap();
    bench.alias("alias/own", id).await;
    let missing = &key_arn(UNKNOWN);
    let alias = &own.replace(&format!("key/{id}"), "alias/own");
    let elsewhere = &own.replace("us-east-1", "eu-west-1");
    let bucket = "arn:aws:s3:::bucket";
    let all = [doomed, missing, alias, elsewhere, bucket, own, own];
    let body = json!({"ResourceARNList": all, "Tags": {"a": "1"}});
    let answer = bench.tagging("TagResources", body).await;
    let expected = json!({"FailedResourcesMap": {
        doomed: failure("KMSInvalidStateException", &format!("{doomed} is pending deletion.")),
        missing: failure("NotFoundException", &format!("Key '{missing}' does not exist")),
        alias: failure("InvalidArnException", "Key Aliases are not supported for this operation."),
        elsewhere: failure("NotFoundException", "Invalid arn eu-west-1"),
        bucket: failure("InvalidArnException", "ARN 'arn:aws:s3:::bucket' is not that of a key or an alias of KMS"),
    }});
    assert_eq!(answer, expected);
    assert_eq!(bench.tags_of(own).await, json!({"a": "1"}));
    let reserved = json!({"ResourceARNList": [own], "Tags": {"aws:a": "1"}});
    let answer = bench.tagging("TagResources", reserved).await;
    let expected = failure("TagException", "Tags beginning with aws: are reserved");
    assert_eq!(answer, json!({"FailedResourcesMap": {own: expected}}));
}

#[tokio::test]
async fn auth_1_a_right_to_the_api_is_none_to_a_key() {
    let bench = Bench::new().await;
    let arns = bench.tagged(2, &[("a", "1")]).await;
    // The condition is that of the KMS call: the tags that it brings, on the key that it names.
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": "tag:*", "Resource": "*"},
        {"Effect": "Allow", "Action": ["kms:TagResource", "kms:UntagResource"], "Resource": arns[0],
         "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}},
    ]});
    let who = bench.principal("governor", policy).await;
    let denied = |action: &str, arn: &str| {
        let message = format!(
            "User: {} is not authorized to perform: kms:{action} on resource: {arn} because no identity-based policy allows the kms:{action} action",
            who.arn
        );
        failure("AccessDeniedException", &message)
    };
    let body = json!({"ResourceARNList": arns, "Tags": {"team": "x"}});
    let answer = bench.tagging_as(&who, "TagResources", body).await.unwrap();
    let failed = json!({arns[1].clone(): denied("TagResource", &arns[1])});
    assert_eq!(answer["FailedResourcesMap"], failed);
    let body = json!({"ResourceARNList": [arns[0]], "TagKeys": ["a"]});
    let answer = bench.tagging_as(&who, "UntagResources", body).await;
    let failed = json!({arns[0].clone(): denied("UntagResource", &arns[0])});
    assert_eq!(answer.unwrap()["FailedResourcesMap"], failed);
    let both = json!({"a": "1", "team": "x"});
    assert_eq!(bench.tags_of(&arns[0]).await, both);
    // A key of another account is never tagged, whatever its policies say.
    let operator = Principal::operator(0, OTHER.parse().unwrap());
    let stranger = bench
        .principal_of(&operator, "stranger", allowing(&["tag:*", "kms:*"]))
        .await;
    let body = json!({"ResourceARNList": [arns[0]], "Tags": {"a": "2"}});
    let answer = bench.tagging_as(&stranger, "TagResources", body).await;
    let failed = &answer.unwrap()["FailedResourcesMap"][&arns[0]];
    assert_eq!(failed["ErrorCode"], "AccessDeniedException");
    assert_eq!(bench.tags_of(&arns[0]).await, both);
}

#[tokio::test]
async fn members_are_checked_before_rights() {
    let bench = Bench::new().await;
    let arns = |count: usize| vec!["arn:aws:s3:::b"; count];
    let tags = |count: usize| -> Value {
        let tag = |number: usize| (format!("k{number}"), json!(""));
        Value::Object((0..count).map(tag).collect())
    };
    let keys = |count: usize| -> Vec<_> { (0..count).map(|at| at.to_string()).collect() };
    let constraint = |member: &str, must: &str| {
        violation(&format!(
            "{member} failed to satisfy constraint: Member must {must}"
        ))
    };
    let long = "x".repeat(1012);
    let key = "k".repeat(129);
    for (name, body, member, must) in [
        (
            "TagResources",
            json!({"Tags": {"a": "b"}}),
            "Value null at 'resourceARNList'".to_owned(),
            "not be null",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": [], "Tags": {"a": "b"}}),
            "Value at 'resourceARNList'".to_owned(),
            "have length greater than or equal to 1",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": arns(21), "Tags": {"a": "b"}}),
            "Value at 'resourceARNList'".to_owned(),
            "have length less than or equal to 20",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": [long], "Tags": {"a": "b"}}),
            format!("Value '{long}' at 'resourceARNList.1.member'"),
            "have length less than or equal to 1011",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": arns(1)}),
            "Value null at 'tags'".to_owned(),
            "not be null",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": arns(1), "Tags": {}}),
            "Value at 'tags'".to_owned(),
            "have length greater than or equal to 1",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": arns(1), "Tags": tags(51)}),
            "Value at 'tags'".to_owned(),
            "have length less than or equal to 50",
        ),
        (
            "TagResources",
            json!({"ResourceARNList": arns(1), "Tags": {&key: ""}}),
            format!("Value '{key}' at 'tags.key'"),
            "have length less than or equal to 128",
        ),
        (
            "UntagResources",
            json!({"ResourceARNList": arns(1)}),
            "Value null at 'tagKeys'".to_owned(),
            "not be null",
        ),
        (
            "UntagResources",
            json!({"ResourceARNList": arns(1), "TagKeys": []}),
            "Value at 'tagKeys'".to_owned(),
            "have length greater than or equal to 1",
        ),
        (
            "UntagResources",
            json!({"ResourceARNList": arns(1), "TagKeys": keys(51)}),
            "Value at 'tagKeys'".to_owned(),
            "have length less than or equal to 50",
        ),
        (
            "UntagResources",
            json!({"ResourceARNList": arns(1), "TagKeys": ["a", ""]}),
            "Value '' at 'tagKeys.2.member'".to_owned(),
            "have length greater than or equal to 1",
        ),
    ] {
        let message = constraint(&member, must);
        bench.tagging_invalid(name, body, &message).await;
    }
    let most = json!({"ResourceARNList": arns(20), "Tags": tags(50)});
    let answer = bench.tagging("TagResources", most).await;
    assert_eq!(answer["FailedResourcesMap"].as_object().unwrap().len(), 1);
    for name in ["bucket", "", "arn:aws:kms:us-east-1"] {
        let body = json!({"ResourceARNList": ["arn:aws:s3:::b", name], "Tags": {"a": "b"}});
        let message = if name.is_empty() {
            constraint(
                "Value '' at 'resourceARNList.2.member'",
                "have length greater than or equal to 1",
            )
        } else {
            format!("{name} is not a valid AmazonResourceName (ARN)")
        };
        bench.tagging_invalid("TagResources", body, &message).await;
    }
}

#[tokio::test]
async fn audit_1_a_change_has_a_record_of_its_own_and_one_for_each_key() {
    let bench = Bench::new().await;
    let arns = bench.tagged(1, &[]).await;
    let missing = key_arn(UNKNOWN);
    let body = json!({"ResourceARNList": [arns[0], missing], "Tags": {"a": "1"}});
    bench.tagging("TagResources", body.clone()).await;
    bench.tagging("GetTagKeys", json!({})).await;
    let refused = json!({"ResourceARNList": ["x"], "TagKeys": ["a"]});
    let answer = bench.tagging_as(&bench.admin, "UntagResources", refused);
    assert!(answer.await.is_err());
    let records = bench.records();
    let [.., tagged, untagged, whole, read, invalid] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(tagged["eventSource"], "kms.amazonaws.com");
    assert_eq!(tagged["eventName"], "TagResource");
    assert_eq!(tagged["resources"][0]["ARN"], arns[0]);
    assert_eq!(untagged["errorCode"], "NotFoundException");
    for record in [whole, read, invalid] {
        assert_eq!(record["eventSource"], "tagging.amazonaws.com");
    }
    assert_eq!(whole["eventName"], "TagResources");
    assert_eq!(whole["readOnly"], false);
    assert_eq!(whole["requestID"], tagged["requestID"]);
    let parameters = json!({"resourceARNList": body["ResourceARNList"], "tags": body["Tags"]});
    assert_eq!(whole["requestParameters"], parameters);
    assert_eq!(
        (&read["readOnly"], &read["errorCode"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(invalid["errorCode"], "InvalidParameterException");
}
