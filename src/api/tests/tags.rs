//! Tags of keys: their rules, their pages, and what conditions ask of them.

use super::ErrorCode as Code;
use super::*;

fn tags(pairs: &[(&str, &str)]) -> Value {
    let tag = |(key, value): &(&str, &str)| json!({"TagKey": key, "TagValue": value});
    pairs.iter().map(tag).collect()
}

fn numbered(range: std::ops::Range<usize>) -> Value {
    let tag = |number| json!({"TagKey": format!("key {number:02}"), "TagValue": ""});
    range.map(tag).collect()
}

fn invalid(entry: &str) -> String {
    format!("1 validation error detected: {entry}")
}

impl Bench {
    async fn tags(&self, id: &str) -> Value {
        let listed = self.done("ListResourceTags", json!({"KeyId": id})).await;
        assert_eq!(listed["Truncated"], false);
        assert!(listed.get("NextMarker").is_none());
        listed["Tags"].clone()
    }

    async fn fence(&self, id: &str) -> u64 {
        self.api.keystore.snapshot().keys[&id.parse().unwrap()].fence
    }
}

#[tokio::test]
async fn tags_are_put_replaced_listed_and_removed() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    assert_eq!(bench.tags(&id).await, json!([]));
    let fence = bench.fence(&id).await;
    let put = |pairs: &[(&str, &str)]| json!({"KeyId": id, "Tags": tags(pairs)});
    let answer = bench.done("TagResource", put(&[("b", "1"), ("a", "2")]));
    assert_eq!(answer.await, Value::Null);
    // Keys differ by case, values may be empty, and anything may be in either.
    let body = put(&[("A", ""), ("a", "3"), ("\"é\n", "\\ aws:")]);
    bench.done("TagResource", body).await;
    let all = [("\"é\n", "\\ aws:"), ("A", ""), ("a", "3"), ("b", "1")];
    assert_eq!(bench.tags(&id).await, tags(&all));
    let revision = bench.api.keystore.revision();
    bench.done("TagResource", put(&[("a", "3")])).await;
    bench.done("TagResource", put(&[])).await;
    let none = json!({"KeyId": id, "TagKeys": ["none", "B"]});
    bench.done("UntagResource", none).await;
    assert_eq!(bench.api.keystore.revision(), revision, "nothing to write");
    let two = json!({"KeyId": key_arn(&id), "TagKeys": ["A", "b", "b", "none"]});
    assert_eq!(bench.done("UntagResource", two).await, Value::Null);
    assert_eq!(bench.tags(&id).await, tags(&[all[0], all[2]]));
    assert_eq!(bench.fence(&id).await, fence, "what is pooled stays good");
}

#[tokio::test]
async fn the_rules_of_tags_hold_for_new_keys_and_old_ones() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let at = |member: &str, value: &str, must: &str| {
        invalid(&format!(
            "Value {value} at '{member}' failed to satisfy constraint: Member must {must}"
        ))
    };
    let (key, value) = ("k".repeat(129), "v".repeat(257));
    let most = [("é".repeat(128), "é".repeat(256))];
    let most = tags(&most.each_ref().map(|(key, value)| (&**key, &**value)));
    let long_key = at(
        "tags.1.member.tagKey",
        &format!("'{key}'"),
        "have length less than or equal to 128",
    );
    let long_value = at(
        "tags.2.member.tagValue",
        &format!("'{value}'"),
        "have length less than or equal to 256",
    );
    let reserved = "Tags beginning with aws: are reserved";
    let cases = [
        (tags(&[(&key, "")]), Code::ValidationException, long_key),
        (
            tags(&[("a", ""), ("b", &value)]),
            Code::ValidationException,
            long_value,
        ),
        (
            tags(&[("", "")]),
            Code::ValidationException,
            at(
                "tags.1.member.tagKey",
                "''",
                "have length greater than or equal to 1",
            ),
        ),
        (
            json!([{"TagKey": "a"}]),
            Code::ValidationException,
            at("tags.1.member.tagValue", "null", "not be null"),
        ),
        (
            json!([{"TagValue": "a"}]),
            Code::ValidationException,
            at("tags.1.member.tagKey", "null", "not be null"),
        ),
        (
            json!([null]),
            Code::SerializationException,
            "Tags is not of the type or form that this operation takes.".to_owned(),
        ),
        (
            json!(["a"]),
            Code::SerializationException,
            "Tags is not of the type or form that this operation takes.".to_owned(),
        ),
        (
            json!({"a": "b"}),
            Code::SerializationException,
            "Tags is not of the type or form that this operation takes.".to_owned(),
        ),
        (
            tags(&[("a", "1"), ("b", ""), ("a", "1")]),
            Code::TagException,
            "Duplicate tag keys".to_owned(),
        ),
        (
            numbered(0..51),
            Code::TagException,
            "Too many tags".to_owned(),
        ),
        (
            tags(&[("aws:x", "")]),
            Code::TagException,
            reserved.to_owned(),
        ),
        (
            tags(&[("AwS:", "")]),
            Code::TagException,
            reserved.to_owned(),
        ),
    ];
    let revision = bench.api.keystore.revision();
    for (tags, code, message) in cases {
        let body = json!({"KeyId": id, "Tags": tags});
        bench.refused("TagResource", body, code, &message).await;
        let body = json!({"Tags": tags});
        bench.refused("CreateKey", body, code, &message).await;
    }
    let null = at("tags", "null", "not be null");
    let body = json!({"KeyId": UNKNOWN});
    bench.invalid("TagResource", body, &null).await;
    assert_eq!(bench.api.keystore.revision(), revision);
    let body = json!({"KeyId": id, "Tags": most});
    bench.done("TagResource", body).await;
    // The fifty-first does not come by itself either; another value of one that is there does.
    for count in [20..40, 40..69] {
        let body = json!({"KeyId": id, "Tags": numbered(count)});
        bench.done("TagResource", body).await;
    }
    let body = json!({"KeyId": id, "Tags": numbered(0..1)});
    let many = "Too many tags";
    bench
        .refused("TagResource", body, Code::TagException, many)
        .await;
    let body = json!({"KeyId": id, "Tags": tags(&[("key 68", "new")])});
    bench.done("TagResource", body).await;
    let created = bench.done("CreateKey", json!({"Tags": numbered(0..50)}));
    let created = created.await["KeyMetadata"].clone();
    assert!(created.get("Tags").is_none(), "metadata have no tags");
    let new = created["KeyId"].as_str().unwrap();
    assert_eq!(bench.tags(new).await, numbered(0..50));
}

#[tokio::test]
async fn keys_of_tags_to_remove_are_checked() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let long = "k".repeat(129);
    let at = |member: &str, value: &str, must: &str| {
        format!("Value {value} at '{member}' failed to satisfy constraint: Member must {must}")
    };
    let null = invalid(&at("tagKeys", "null", "not be null"));
    let two = format!(
        "2 validation errors detected: {}; {}",
        at(
            "tagKeys.2.member",
            "''",
            "have length greater than or equal to 1"
        ),
        at(
            "tagKeys.3.member",
            &format!("'{long}'"),
            "have length less than or equal to 128"
        ),
    );
    let unknown = format!("Key '{}' does not exist", key_arn(UNKNOWN));
    for (body, code, message) in [
        (json!({"KeyId": UNKNOWN}), Code::ValidationException, &*null),
        (
            json!({"KeyId": UNKNOWN, "TagKeys": ["a", "", long]}),
            Code::ValidationException,
            &two,
        ),
        (
            json!({"KeyId": id, "TagKeys": [7]}),
            Code::SerializationException,
            "TagKeys is not of the type or form that this operation takes.",
        ),
        (
            json!({"KeyId": UNKNOWN, "TagKeys": ["a"]}),
            Code::NotFoundException,
            &unknown,
        ),
    ] {
        bench.refused("UntagResource", body, code, message).await;
    }
    let many = vec![""; 1000];
    let body = json!({"KeyId": id, "TagKeys": many});
    let (_, message) = bench.call("UntagResource", body).await.unwrap_err();
    assert!(message.starts_with("50 validation errors detected: "));
}

#[tokio::test]
async fn tags_wait_for_nothing_but_a_deletion() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let calls = [
        (
            "TagResource",
            json!({"KeyId": id, "Tags": tags(&[("a", "")])}),
        ),
        ("UntagResource", json!({"KeyId": id, "TagKeys": ["a"]})),
    ];
    bench.done_to("DisableKey", &id).await;
    for (name, body) in calls.clone() {
        bench.done(name, body).await;
    }
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let pending = format!("{} is pending deletion.", key_arn(&id));
    let aliases = "Key Aliases are not supported for this operation.";
    for (name, mut body) in calls {
        let code = Code::KMSInvalidStateException;
        bench.refused(name, body.clone(), code, &pending).await;
        body["KeyId"] = json!("alias/none");
        let code = Code::InvalidArnException;
        bench.refused(name, body, code, aliases).await;
    }
    assert_eq!(bench.tags(&id).await, json!([]));
    let body = json!({"KeyId": "alias/none"});
    let code = Code::InvalidArnException;
    bench.refused("ListResourceTags", body, code, aliases).await;
}

#[tokio::test]
async fn tags_are_listed_in_pages_that_stay_while_tags_come_and_go() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id, "Tags": numbered(0..5)});
    bench.done("TagResource", body).await;
    let first = bench.done("ListResourceTags", json!({"KeyId": id, "Limit": 2}));
    let first = first.await;
    assert_eq!(first["Tags"], numbered(0..2));
    assert_eq!(first["Truncated"], true);
    let marker = &first["NextMarker"];
    // The tag that the marker names goes, and one comes before it.
    let gone = json!({"KeyId": id, "TagKeys": ["key 01"]});
    bench.done("UntagResource", gone).await;
    let come = json!({"KeyId": id, "Tags": tags(&[("a", "")])});
    bench.done("TagResource", come).await;
    let rest = json!({"KeyId": id, "Limit": 3, "Marker": marker});
    let rest = bench.done("ListResourceTags", rest).await;
    assert_eq!(rest["Tags"], numbered(2..5));
    assert_eq!(rest["Truncated"], false);
    let other = bench.key().await;
    for body in [
        json!({"KeyId": other, "Marker": marker}),
        json!({"KeyId": id, "Marker": "x"}),
        json!({"KeyId": id, "Marker": "AAAA"}),
    ] {
        bench
            .refused("ListResourceTags", body, Code::InvalidMarkerException, "")
            .await;
    }
    for (limit, must) in [
        (0, "greater than or equal to 1"),
        (51, "less than or equal to 50"),
    ] {
        let message = invalid(&format!(
            "Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value {must}"
        ));
        let body = json!({"KeyId": UNKNOWN, "Limit": limit});
        bench.invalid("ListResourceTags", body, &message).await;
    }
    // The longest key has a marker that the next request may bring.
    let longest = "\u{10348}".repeat(128);
    let body = json!({"KeyId": other, "Tags": tags(&[(&longest, ""), ("\u{10349}", "")])});
    bench.done("TagResource", body).await;
    let first = json!({"KeyId": other, "Limit": 1});
    let first = bench.done("ListResourceTags", first).await;
    let rest = json!({"KeyId": other, "Marker": first["NextMarker"]});
    let rest = bench.done("ListResourceTags", rest).await;
    assert_eq!(rest["Tags"][0]["TagKey"], "\u{10349}");
}

#[tokio::test]
async fn conditions_know_a_keys_tags() {
    let bench = Bench::new().await;
    let (red, blue) = (bench.key().await, bench.key().await);
    let body = json!({"KeyId": red, "Tags": tags(&[("Team", "red")])});
    bench.done("TagResource", body).await;
    let own = json!({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}}});
    let member = bench.principal("member", own).await;
    let name = "GenerateDataKeyWithoutPlaintext";
    let ask = |id: &str| json!({"KeyId": id, "KeySpec": "AES_256"});
    assert!(bench.call_as(&member, name, ask(&red)).await.is_ok());
    let refused = not_allowed(&member, name, &key_arn(&blue), "identity");
    assert_eq!(bench.call_as(&member, name, ask(&blue)).await, Err(refused));
    // From the moment that the call returns, either way.
    let body = json!({"KeyId": blue, "Tags": tags(&[("Team", "red")])});
    bench.done("TagResource", body).await;
    assert!(bench.call_as(&member, name, ask(&blue)).await.is_ok());
    let body = json!({"KeyId": red, "TagKeys": ["Team"]});
    bench.done("UntagResource", body).await;
    let refused = not_allowed(&member, name, &key_arn(&red), "identity");
    assert_eq!(bench.call_as(&member, name, ask(&red)).await, Err(refused));
    // Two values of what is one to a condition are neither.
    let body = json!({"KeyId": blue, "Tags": tags(&[("team", "blue")])});
    bench.done("TagResource", body).await;
    let key_policy = json!({"Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/Team": "blue"}}});
    let everybody = to(&root_of(ACCOUNT), &["kms:*"]);
    bench
        .put_policy(&blue, json!([key_policy, everybody]))
        .await;
    let all = bench.allowed("all", &["kms:*"]).await;
    let seal = json!({"KeyId": blue, "Plaintext": "AA=="});
    let denied = bench.call_as(&all, "Encrypt", seal.clone()).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    let body = json!({"KeyId": blue, "TagKeys": ["team", "Team"]});
    bench.done("UntagResource", body).await;
    assert!(bench.call_as(&all, "Encrypt", seal).await.is_ok());
}

#[tokio::test]
async fn conditions_know_a_requests_tags() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": ["kms:TagResource", "kms:CreateKey"], "Resource": "*",
            "Condition": {"StringEquals": {"aws:RequestTag/Team": ["red", "blue"]}, "ForAllValues:StringEquals": {"aws:TagKeys": ["Team", "cost"]}}},
        {"Effect": "Allow", "Action": "kms:UntagResource", "Resource": "*",
            "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": "cost"}, "Null": {"aws:TagKeys": "false", "aws:RequestTag/cost": "true"}}},
    ]});
    let member = bench.principal("member", policy).await;
    let as_member = async |name, body| {
        let answer = bench.call_as(&member, name, body).await;
        answer.map(|_| ()).map_err(|(code, _)| code)
    };
    let denied = Err(Code::AccessDeniedException);
    for (pairs, expected) in [
        (&[("Team", "red")][..], Ok(())),
        (&[("Team", "blue"), ("cost", "7")], Ok(())),
        (&[("Team", "green")], denied),
        (&[("cost", "7")], denied),
        (&[("Team", "red"), ("other", "")], denied),
        (&[], denied),
    ] {
        let body = json!({"KeyId": id, "Tags": tags(pairs)});
        assert_eq!(as_member("TagResource", body).await, expected, "{pairs:?}");
        let body = json!({"Tags": tags(pairs)});
        assert_eq!(as_member("CreateKey", body).await, expected, "{pairs:?}");
    }
    for (keys, expected) in [
        (json!(["cost"]), Ok(())),
        (json!(["Team"]), denied),
        (json!(["cost", "Team"]), denied),
        (json!([]), denied),
    ] {
        let body = json!({"KeyId": id, "TagKeys": keys});
        assert_eq!(as_member("UntagResource", body).await, expected, "{keys}");
    }
}

#[tokio::test]
async fn a_new_keys_tags_take_a_right_of_their_own() {
    let bench = Bench::new().await;
    let creator = bench.allowed("creator", &["kms:CreateKey"]).await;
    let body = json!({"Tags": tags(&[("a", "")])});
    let denied = bench.call_as(&creator, "CreateKey", body.clone()).await;
    let (code, message) = denied.unwrap_err();
    assert_eq!(code, Code::AccessDeniedException);
    assert!(
        message.contains(
            "perform: kms:TagResource on resource: arn:aws:kms:us-east-1:111122223333:key/"
        )
    );
    assert!(
        message.ends_with("because no identity-based policy allows the kms:TagResource action")
    );
    for untagged in [json!({}), json!({"Tags": []})] {
        assert!(bench.call_as(&creator, "CreateKey", untagged).await.is_ok());
    }
    let tagger = bench.allowed("tagger", &["kms:CreateKey", "kms:TagResource"]);
    let tagger = tagger.await;
    assert!(bench.call_as(&tagger, "CreateKey", body).await.is_ok());
    // A caller that may not make keys learns nothing about its tags.
    let nobody = bench.powerless("nobody").await;
    let wrong = json!({"Tags": tags(&[("a", ""), ("a", "")])});
    let denied = bench.call_as(&nobody, "CreateKey", wrong).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
}

#[tokio::test]
async fn the_lockout_check_knows_the_tags() {
    let bench = Bench::new().await;
    let all = bench.allowed("all", &["kms:*"]).await;
    let statement = json!({"Effect": "Allow", "Principal": {"AWS": all.arn}, "Action": "kms:*", "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}});
    let policy = json!({"Statement": statement}).to_string();
    let locked_out =
        "The new key policy will not allow you to update the key policy in the future.";
    let code = Code::MalformedPolicyDocumentException;
    let body = json!({"Policy": policy});
    bench
        .refused_as(&all, "CreateKey", body, code, locked_out)
        .await;
    let body = json!({"Policy": policy, "Tags": tags(&[("team", "red")])});
    let created = bench.done_as(&all, "CreateKey", body).await;
    let put = json!({"KeyId": created["KeyMetadata"]["KeyId"], "Policy": policy});
    assert!(bench.call_as(&all, "PutKeyPolicy", put).await.is_ok());
    let id = bench.key().await;
    let put = json!({"KeyId": id, "Policy": policy});
    bench
        .refused_as(&all, "PutKeyPolicy", put, code, locked_out)
        .await;
}
