//! `AssumeRole` against a real store.

use super::*;
use crate::api::tests::{ACCOUNT, Bench, NOW, OTHER};
use crate::policy::principal::Tag;
use crate::policy::{Principal, SessionParameters};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::111122223333:role/batch";
const USER: &str = "arn:aws:iam::111122223333:user/alice";
const REFUSED: (&str, &str) = (
    "AccessDenied",
    "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: sts:AssumeRole on resource: \
     arn:aws:iam::111122223333:role/batch because no identity-based policy allows the sts:AssumeRole action",
);

type Told = Result<String, (&'static str, String)>;

/// Members of a request, and the code and the message of its refusal.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, String);

fn trusting(principal: &str, action: &str, condition: &Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Principal": {"AWS": principal}, "Action": action, "Condition": condition,
    }})
}

impl Bench {
    /// A role with this trust policy, in the operator's account.
    pub(super) async fn role_trusting(&self, name: &str, trust: Value) {
        let policy = json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
        let body = json!({
            "Name": name, "Kind": "role", "Policies": [policy.to_string()],
            "Tags": [{"Key": "team", "Value": "storage"}], "TrustPolicy": trust.to_string(),
        });
        self.administer("CreatePrincipal", body).await.unwrap();
    }

    /// A role that this user may assume without any condition.
    async fn role_of(&self, user: &str) {
        self.role_trusting("batch", trusting(user, "sts:*", &json!({})))
            .await;
    }

    async fn assume(&self, who: &Arc<Principal>, members: &[(&str, &str)]) -> Told {
        let first = [("RoleArn", ROLE), ("RoleSessionName", "nightly")];
        let given = |name: &str| members.iter().any(|(member, _)| *member == name);
        let first = first.iter().filter(|(name, _)| !given(name));
        let pairs = first.chain(members).map(|(name, value)| {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            format!("{name}={value}")
        });
        let form = pairs.collect::<Vec<_>>().join("&");
        let form = Form::parse("", form.as_bytes()).unwrap();
        let requester = Requester::local(Arc::clone(who));
        let operation = StsOperation::AssumeRole;
        let answer = self.api.call_sts(operation, &requester, &form).await;
        answer
            .map(|reply| String::from_utf8(reply.body().to_vec()).unwrap())
            .map_err(|error| (error.code().name(), error.message().to_owned()))
    }

    /// A session of the role, with these parameters, as the verifier would make it.
    fn session_with(&self, parameters: SessionParameters) -> Arc<Principal> {
        let snapshot = self.api.keystore.snapshot();
        let now = self.api.clock.now();
        let made = snapshot.principals[ROLE].principal.session("first", now);
        let made = made.unwrap().with_parameters(&Arc::new(parameters));
        Arc::new(made.with_expiration(now.after(std::time::Duration::from_hours(1))))
    }
}

#[track_caller]
fn is(told: &Told, expected: (&str, &str)) {
    let (code, message) = told.as_ref().unwrap_err();
    assert_eq!((*code, message.as_str()), expected);
}

pub(super) fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let start = xml.split_once(&format!("<{name}>"));
    let end = start.and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    end.map_or("", |(text, _)| text)
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

#[tokio::test]
async fn a_user_whom_the_trust_policy_names_assumes_the_role() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    bench.role_of(USER).await;
    let answer = bench.assume(&alice, &[]).await.unwrap();
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/batch/nightly");
    assert_eq!(element(&answer, "Arn"), arn);
    let id = element(&answer, "AssumedRoleId");
    assert!(id.starts_with("AROA") && id.ends_with(":nightly"), "{id}");
    let key_id = element(&answer, "AccessKeyId");
    assert!(key_id.starts_with("ASIA") && key_id.len() == 20);
    assert_eq!(element(&answer, "SecretAccessKey").len(), 40);
    // NOW, without its fraction, and an hour.
    assert_eq!(element(&answer, "Expiration"), "2023-11-14T23:13:20Z");
    assert!(!answer.contains("PackedPolicySize"));
    let short = bench
        .assume(&alice, &[("DurationSeconds", "900")])
        .await
        .unwrap();
    assert_eq!(element(&short, "Expiration"), "2023-11-14T22:28:20Z");
    assert_ne!(key_id, element(&short, "AccessKeyId"));
    let records = bench.records();
    let record = records
        .iter()
        .find(|one| one["eventName"] == "AssumeRole")
        .unwrap();
    assert_eq!(record["eventSource"], "sts.amazonaws.com");
    let resource = json!([{"ARN": ROLE, "accountId": ACCOUNT, "type": "AWS::IAM::Role"}]);
    assert_eq!(record["resources"], resource);
    let elements = json!({
        "credentials": {"accessKeyId": key_id, "expiration": "2023-11-14T23:13:20Z"},
        "assumedRoleUser": {"assumedRoleId": id, "arn": arn},
    });
    assert_eq!(record["responseElements"], elements);
    let asked = json!({"RoleArn": ROLE, "RoleSessionName": "nightly"});
    assert_eq!(record["requestParameters"]["roleArn"], asked["RoleArn"]);
}

#[tokio::test]
async fn auth_1_whoever_may_not_assume_a_role_does_not_learn_whether_it_exists() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    is(&bench.assume(&alice, &[]).await, REFUSED);
    bench
        .role_trusting(
            "batch",
            trusting("arn:aws:iam::111122223333:user/bob", "sts:*", &json!({})),
        )
        .await;
    is(&bench.assume(&alice, &[]).await, REFUSED);
    // The account lets its own policies decide.
    let put = async |trust: Value| {
        let body = json!({"Name": "batch", "TrustPolicy": trust.to_string()});
        bench.administer("PutTrustPolicy", body).await.unwrap();
    };
    put(trusting(ACCOUNT, "sts:AssumeRole", &json!({}))).await;
    is(&bench.assume(&alice, &[]).await, REFUSED);
    let carol = bench.allowed("carol", &["sts:AssumeRole"]).await;
    assert!(bench.assume(&carol, &[]).await.is_ok());
    // Nor does a deny tell.
    let mut both = trusting(ACCOUNT, "sts:AssumeRole", &json!({}));
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"});
    both["Statement"] = json!([both["Statement"], deny]);
    put(both).await;
    is(&bench.assume(&alice, &[]).await, REFUSED);
    let told = bench.assume(&carol, &[]).await.unwrap_err().1;
    assert_eq!(told, REFUSED.1.replace("alice", "carol"));
    put(trusting(ACCOUNT, "sts:AssumeRole", &json!({}))).await;
    // The operator's own rights are those of KMS.
    let operator = bench.assume(&bench.admin, &[]).await.unwrap_err();
    assert_eq!(operator.0, "AccessDenied");
    bench
        .administer("DisablePrincipal", json!({"Name": ROLE}))
        .await
        .unwrap();
    let disabled = bench.assume(&carol, &[]).await.unwrap_err().1;
    let reason = "because no identity-based policy allows the sts:AssumeRole action";
    assert!(disabled.ends_with(reason), "{disabled}");
}

#[tokio::test]
async fn auth_1_another_account_needs_both_sides_and_a_root_neither_helps() {
    let bench = Bench::new().await;
    let operator = Principal::operator(0, OTHER.parse().unwrap());
    let policy =
        json!({"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE}});
    let foreign = bench.principal_of(&operator, "dave", policy).await;
    let nothing =
        json!({"Statement": {"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"}});
    let powerless = bench.principal_of(&operator, "erin", nothing).await;
    bench.role_of(OTHER).await;
    assert!(bench.assume(&foreign, &[]).await.is_ok());
    assert_eq!(
        bench.assume(&powerless, &[]).await.unwrap_err().0,
        "AccessDenied"
    );
    let trust = trusting(&powerless.arn, "sts:*", &json!({})).to_string();
    let body = json!({"Name": "batch", "TrustPolicy": trust});
    bench.administer("PutTrustPolicy", body).await.unwrap();
    for who in [&foreign, &powerless] {
        assert_eq!(bench.assume(who, &[]).await.unwrap_err().0, "AccessDenied");
    }
    let body = json!({"Kind": "root", "Account": OTHER});
    bench.administer("CreatePrincipal", body).await.unwrap();
    let snapshot = bench.api.keystore.snapshot();
    let root = Arc::clone(&snapshot.principals["arn:aws:iam::444455556666:root"].principal);
    let message = "Roles may not be assumed by root accounts.";
    is(&bench.assume(&root, &[]).await, ("AccessDenied", message));
}

#[tokio::test]
async fn conditions_of_a_trust_policy_read_the_request() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    let condition = json!({
        "StringEquals": {"sts:ExternalId": "x-1", "aws:RequestTag/stage": "test", "aws:ResourceTag/team": "storage"},
        "StringLike": {"sts:RoleSessionName": "${aws:username}-*"},
        "ForAllValues:StringEquals": {"sts:TransitiveTagKeys": ["stage"], "aws:TagKeys": ["stage"]},
    });
    bench
        .role_trusting("batch", trusting(USER, "sts:*", &condition))
        .await;
    let good = [
        ("RoleSessionName", "alice-1"),
        ("ExternalId", "x-1"),
        ("Tags.member.1.Key", "stage"),
        ("Tags.member.1.Value", "test"),
        ("TransitiveTagKeys.member.1", "stage"),
    ];
    let answer = bench.assume(&alice, &good).await.unwrap();
    assert_eq!(element(&answer, "PackedPolicySize"), "1");
    for (at, bad) in [(0, "bob-1"), (1, "x-2"), (3, "live")] {
        let mut members = good;
        members[at].1 = bad;
        is(&bench.assume(&alice, &members).await, REFUSED);
    }
}

#[tokio::test]
async fn auth_1_tags_and_a_source_identity_need_rights_of_their_own() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    bench
        .role_trusting("batch", trusting(USER, "sts:AssumeRole", &json!({})))
        .await;
    let tags = [("Tags.member.1.Key", "stage"), ("Tags.member.1.Value", "")];
    for (members, action) in [
        (&tags[..], "sts:TagSession"),
        (&[("SourceIdentity", "alice")], "sts:SetSourceIdentity"),
    ] {
        let (code, message) = bench.assume(&alice, members).await.unwrap_err();
        assert_eq!(code, "AccessDenied");
        let expected =
            format!("User: {USER} is not authorized to perform: {action} on resource: {ROLE} ");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn a_session_hands_its_transitive_tags_and_its_source_identity_on() {
    let bench = Bench::new().await;
    let trust = json!({"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:*"}});
    bench.role_trusting("batch", trust).await;
    let session = bench.session_with(SessionParameters {
        tags: vec![tag("stage", "test"), tag("own", "x")],
        transitive_tag_keys: vec!["Stage".to_owned()],
        source_identity: Some("alice".to_owned()),
        ..SessionParameters::default()
    });
    let answer = bench
        .assume(&session, &[("RoleSessionName", "second")])
        .await
        .unwrap();
    assert_eq!(element(&answer, "SourceIdentity"), "alice");
    assert_eq!(element(&answer, "PackedPolicySize"), "1");
    let conflict = [
        ("Tags.member.1.Key", "STAGE"),
        ("Tags.member.1.Value", "live"),
    ];
    let message = "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.";
    is(
        &bench.assume(&session, &conflict).await,
        ("InvalidParameterValue", message),
    );
    let message = "The source identity of the calling session cannot be changed.";
    let other = [("SourceIdentity", "mallory")];
    is(
        &bench.assume(&session, &other).await,
        ("AccessDenied", message),
    );
    let message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
    let body = json!({"Name": "batch", "TrustPolicy": trusting(ROLE, "sts:*", &json!({})).to_string(), "MaxSessionDuration": 43200});
    bench.administer("PutTrustPolicy", body).await.unwrap();
    let long = [("DurationSeconds", "3601")];
    is(
        &bench.assume(&session, &long).await,
        ("ValidationError", message),
    );
    // Its rights to tag are asked for again.
    let body = json!({"Name": "batch", "TrustPolicy": trusting(ROLE, "sts:AssumeRole", &json!({})).to_string()});
    bench.administer("PutTrustPolicy", body).await.unwrap();
    let narrowed = bench.session_with(SessionParameters {
        source_identity: Some("alice".to_owned()),
        policy: Some(Arc::new(
            crate::policy::PolicyDocument::parse(
                r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}"#,
            )
            .unwrap(),
        )),
        ..SessionParameters::default()
    });
    let message = bench.assume(&narrowed, &[]).await.unwrap_err().1;
    assert!(
        message.contains("not authorized to perform: sts:SetSourceIdentity"),
        "{message}"
    );
}

#[tokio::test]
async fn a_role_bounds_the_sessions_that_are_assumed() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    bench.role_of(USER).await;
    let long = [("DurationSeconds", "7200")];
    let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    is(
        &bench.assume(&alice, &long).await,
        ("ValidationError", message),
    );
    let trust = trusting(USER, "sts:*", &json!({})).to_string();
    let body = json!({"Name": "batch", "TrustPolicy": trust, "MaxSessionDuration": 7200});
    bench.administer("PutTrustPolicy", body).await.unwrap();
    let answer = bench.assume(&alice, &long).await.unwrap();
    assert_eq!(element(&answer, "Expiration"), "2023-11-15T00:13:20Z");
    assert_eq!(NOW.0 % 1_000_000, 123_456, "the fraction is dropped");
}

#[tokio::test]
async fn each_constraint_is_refused_in_the_words_of_aws() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    bench.role_of(USER).await;
    let one = "1 validation error detected: ";
    let arn_pattern = "Member must satisfy regular expression pattern: [\\u0009\\u000A\\u000D\\u0020-\\u007E\\u0085\\u00A0-\\uD7FF\\uE000-\\uFFFD\\u10000-\\u10FFFF]+";
    let long_name: &'static str = "s".repeat(65).leak();
    let long_policy: &'static str = format!("{:2049}", "{}").leak();
    let (policy, name) = ([("Policy", long_policy)], [("RoleSessionName", long_name)]);
    let cases: Vec<Case<'_>> = vec![
        (
            &[("RoleSessionName", "Session1:2")],
            "ValidationError",
            format!(
                "{one}Value 'Session1:2' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"
            ),
        ),
        (
            &[("RoleArn", "")],
            "ValidationError",
            format!(
                "2 validation errors detected: Value '' at 'roleArn' failed to satisfy constraint: {arn_pattern}; Value '' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20"
            ),
        ),
        (
            &[("RoleArn", "arn:a:a::aaaaaaaaaa:")],
            "ValidationError",
            "arn:a:a::aaaaaaaaaa: is invalid".to_owned(),
        ),
        (
            &[("RoleArn", "nothing-valid-in-here")],
            "ValidationError",
            "nothing-valid-in-here is invalid".to_owned(),
        ),
        (
            &[("RoleArn", USER)],
            "ValidationError",
            format!("{USER} is invalid"),
        ),
        (
            &[("DurationSeconds", "43201")],
            "ValidationError",
            format!(
                "{one}Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200"
            ),
        ),
        (
            &[("DurationSeconds", "x")],
            "ValidationError",
            format!(
                "{one}Value 'x' at 'durationSeconds' failed to satisfy constraint: Member must be an integer"
            ),
        ),
        (
            &[("TransitiveTagKeys.member.1", "stage")],
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.".to_owned(),
        ),
        (
            &[
                ("Tags.member.1.Key", "a"),
                ("Tags.member.1.Value", ""),
                ("Tags.member.2.Key", "A"),
                ("Tags.member.2.Value", ""),
            ],
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.".to_owned(),
        ),
        (
            &[("Tags.member.1.Key", "AWS:x"), ("Tags.member.1.Value", "")],
            "InvalidParameterValue",
            "Tag keys beginning with aws: are reserved.".to_owned(),
        ),
        (
            &[("Tags.member.1.Key", "a")],
            "ValidationError",
            format!(
                "{one}Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null"
            ),
        ),
        (
            &[("Policy", "{}")],
            "MalformedPolicyDocument",
            "Statement: missing".to_owned(),
        ),
        (
            &policy,
            "ValidationError",
            format!(
                "{one}Value '{long_policy}' at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048"
            ),
        ),
        (
            &[(
                "PolicyArns.member.1.arn",
                "arn:aws:iam::aws:policy/ReadOnlyAccess",
            )],
            "ValidationError",
            "Keymill does not take PolicyArns: there are no managed policies.".to_owned(),
        ),
        (
            &[("SerialNumber", "x")],
            "ValidationError",
            "Keymill does not take SerialNumber: there are no MFA devices.".to_owned(),
        ),
        (
            &[("ProvidedContexts.member.1.ProviderArn", "x")],
            "InvalidContextAssertion",
            "Keymill does not take ProvidedContexts: it trusts no context provider.".to_owned(),
        ),
        (
            &name,
            "ValidationError",
            format!(
                "{one}Value '{long_name}' at 'roleSessionName' failed to satisfy constraint: Member must have length less than or equal to 64"
            ),
        ),
    ];
    for (members, code, message) in &cases {
        is(&bench.assume(&alice, members).await, (code, message));
    }
    // Empty lists are lists of nothing.
    let empty = [("Tags", ""), ("PolicyArns", ""), ("TransitiveTagKeys", "")];
    assert!(bench.assume(&alice, &empty).await.is_ok());
}

#[tokio::test]
async fn hold_1_what_does_not_fit_into_a_token_is_refused() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    bench.role_of(USER).await;
    let names: Vec<_> = (1..=10)
        .map(|at| {
            (
                format!("Tags.member.{at}.Key"),
                format!("Tags.member.{at}.Value"),
                at.to_string().repeat(64),
            )
        })
        .collect();
    let value = "v".repeat(256);
    let mut members = Vec::new();
    for (key, name, text) in &names {
        members.extend([
            (key.as_str(), text.as_str()),
            (name.as_str(), value.as_str()),
        ]);
    }
    let message = "Packed size of session tags consumes 116% of allotted space.";
    is(
        &bench.assume(&alice, &members).await,
        ("PackedPolicyTooLarge", message),
    );
    let answer = bench.assume(&alice, &members[..16]).await.unwrap();
    assert_eq!(element(&answer, "PackedPolicySize"), "91");
    assert!(element(&answer, "SessionToken").len() <= 4096);
}
