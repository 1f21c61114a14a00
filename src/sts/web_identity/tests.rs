//! `AssumeRoleWithWebIdentity` against a real store, with an issuer whose keys are in a file.

use super::*;
use crate::api::tests::{ACCOUNT, Bench, NOW, OTHER};
use crate::operation::sts::StsOperation;
use crate::policy::Principal;
use crate::rates;
use crate::sts::tests::element;
use crate::web_identity::algorithm::Algorithm;
use crate::web_identity::tests::{Signer, config, set_of};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::task::JoinSet;

const ROLE: &str = "arn:aws:iam::111122223333:role/batch";
/// With a port, which AWS does not take.
const URL: &str = "https://issuer.example:8443/id/42";
const ISSUER: &str = "issuer.example:8443/id/42";
const ARN: &str = "arn:aws:iam::111122223333:oidc-provider/issuer.example:8443/id/42";
const SUBJECT: &str = "system:serviceaccount:payments:minter";
const NOT_AUTHORIZED: &str = "Not authorized to perform sts:AssumeRoleWithWebIdentity";

type Told = Result<String, (&'static str, String)>;

struct Federated {
    bench: Bench,
    signer: Signer,
    _stop: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Federated {
    async fn new() -> Self {
        let signer = Signer::new(Algorithm::ES256, "a");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        std::fs::write(&file, set_of(&[&signer])).unwrap();
        let issuers = BTreeMap::from([("ci".to_owned(), config(URL, &file))]);
        let rates = rates::Config {
            refused_calls_per_second: 0,
            ..rates::Config::default()
        };
        let bench = Bench::with(&rates, &issuers).await;
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        bench.api.web_identities.keep(&mut tasks, &stopped);
        let federated = Self {
            bench,
            signer,
            _stop: stop,
            _tasks: tasks,
        };
        // The keys are fetched while their file is still there.
        let refused = federated.assume(&[], &claims()).await;
        assert_eq!(refused, Err(("AccessDenied", NOT_AUTHORIZED.to_owned())));
        federated
    }

    /// A role that trusts the issuer, under this condition.
    async fn role(&self, action: Value, condition: Value) {
        let trust = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Principal": {"Federated": ARN}, "Action": action,
            "Condition": condition,
        }});
        self.bench.role_trusting("batch", trust).await;
    }

    async fn ask(&self, members: &[(&str, &str)]) -> Told {
        let pairs = members.iter().map(|(name, value)| {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            format!("{name}={value}")
        });
        let form = pairs.collect::<Vec<_>>().join("&");
        let form = Form::parse("", form.as_bytes()).unwrap();
        let told = |error: ApiError| {
            let error = crate::sts::error::in_words_of_sts(error);
            (error.code().name(), error.message().to_owned())
        };
        let api = &self.bench.api;
        let held = holder(api, &form, Some([192, 0, 2, 7].into())).await;
        let identity = held.map_err(|refused| match refused {
            NotTaken::Request(error) | NotTaken::Token(error) => told(error),
        })?;
        let principal = Principal::web_identity(&identity.provider_arn, identity.account);
        let requester = Requester {
            web_identity: Some(identity),
            ..Requester::local(principal)
        };
        let operation = StsOperation::AssumeRoleWithWebIdentity;
        let answer = api.call_sts(operation, &requester, &form).await;
        let reply = answer.map_err(told)?;
        Ok(String::from_utf8(reply.body().to_vec()).unwrap())
    }

    async fn assume(&self, members: &[(&str, &str)], claims: &Value) -> Told {
        let token = self.signer.token(claims);
        let first = [
            ("RoleArn", ROLE),
            ("RoleSessionName", "pod-1"),
            ("WebIdentityToken", token.as_str()),
        ];
        let given = |name: &str| members.iter().any(|(member, _)| *member == name);
        let first = first.into_iter().filter(|(name, _)| !given(name));
        let all: Vec<_> = first.chain(members.iter().copied()).collect();
        self.ask(&all).await
    }
}

fn claims() -> Value {
    let now = NOW.unix_seconds();
    json!({
        "iss": URL, "sub": SUBJECT, "aud": ["other", "keymill"], "iat": now - 60, "exp": now + 60,
        "repository": "org/repo", "amr": ["pwd", "otp"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn of_subject() -> Value {
    let (aud, sub) = (format!("{ISSUER}:aud"), format!("{ISSUER}:sub"));
    json!({"StringEquals": {aud: "keymill", sub: SUBJECT}})
}

fn denied(message: &str) -> Told {
    Err(("AccessDenied", message.to_owned()))
}

#[tokio::test]
async fn the_holder_of_a_token_assumes_the_role_that_trusts_its_issuer() {
    let federated = Federated::new().await;
    federated
        .role("sts:AssumeRoleWithWebIdentity".into(), of_subject())
        .await;
    let answer = federated.assume(&[], &claims()).await.unwrap();
    let result = "AssumeRoleWithWebIdentityResponse xmlns=";
    assert!(answer.starts_with(&format!("<{result}")), "{answer}");
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/batch/pod-1");
    assert_eq!(element(&answer, "Arn"), arn);
    assert_eq!(element(&answer, "Provider"), URL);
    assert_eq!(element(&answer, "Audience"), "keymill");
    assert_eq!(element(&answer, "SubjectFromWebIdentityToken"), SUBJECT);
    // An hour, though the token ends in a minute.
    assert_eq!(element(&answer, "Expiration"), "2023-11-14T23:13:20Z");
    assert!(!answer.contains("PackedPolicySize") && !answer.contains("SourceIdentity"));
    let token = federated.signer.token(&claims());
    let records = federated.bench.records();
    let recorded = |record: &&Value| record["eventName"] == "AssumeRoleWithWebIdentity";
    let records: Vec<_> = records.iter().filter(recorded).collect();
    let identity = json!({
        "type": "WebIdentityUser",
        "principalId": format!("{ARN}:keymill:{SUBJECT}"),
        "userName": SUBJECT,
        "identityProvider": ARN,
    });
    // The refusal, when there was no such role, and the session.
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!(record["userIdentity"], identity);
        assert_eq!(record["eventSource"], "sts.amazonaws.com");
        let asked = json!({"roleArn": ROLE, "roleSessionName": "pod-1"});
        assert_eq!(record["requestParameters"], asked);
        let line = record.to_string();
        let signed = token.rsplit_once('.').unwrap().0;
        assert!(!line.contains(signed) && !line.contains("eyJ"), "{line}");
    }
    assert_eq!(records[0]["errorCode"], "AccessDenied");
    let elements = &records[1]["responseElements"];
    assert_eq!(elements["subjectFromWebIdentityToken"], SUBJECT);
    assert_eq!(elements["audience"], "keymill");
    assert_eq!(elements["provider"], URL);
    let key_id = element(&answer, "AccessKeyId");
    assert_eq!(elements["credentials"]["accessKeyId"], key_id);
}

#[tokio::test]
async fn auth_1_a_trust_policy_decides_by_the_claims() {
    let federated = Federated::new().await;
    let key = |claim: &str| format!("{ISSUER}:{claim}");
    let condition = json!({
        "StringLike": {key("sub"): "system:serviceaccount:payments:*"},
        "StringEquals": {key("aud"): "keymill", key("repository"): "org/repo"},
        "ForAnyValue:StringEquals": {key("amr"): "otp"},
    });
    federated
        .role("sts:AssumeRoleWithWebIdentity".into(), condition)
        .await;
    assert!(federated.assume(&[], &claims()).await.is_ok());
    let refused = denied(NOT_AUTHORIZED);
    for claims in [
        with("sub", "system:serviceaccount:other:minter".into()),
        with("repository", "org/other".into()),
        with("repository", json!(null)),
        with("repository", json!({"a": "org/repo"})),
        with("amr", json!(["pwd"])),
        with("amr", json!([])),
    ] {
        assert_eq!(federated.assume(&[], &claims).await, refused, "{claims}");
    }
    // A role that is not there, and one of a user's, are refused alike.
    let other = [("RoleArn", "arn:aws:iam::111122223333:role/other")];
    assert_eq!(federated.assume(&other, &claims()).await, refused);
    let users = json!({"Statement": {
        "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:*",
    }});
    federated.bench.role_trusting("other", users).await;
    assert_eq!(federated.assume(&other, &claims()).await, refused);
    // The same issuer is nothing to another account.
    let role = format!("arn:aws:iam::{OTHER}:role/batch");
    let (code, message) = federated
        .assume(&[("RoleArn", &role)], &claims())
        .await
        .unwrap_err();
    let unknown = format!("No OpenIDConnect provider found in your account for {URL}");
    assert_eq!((code, message), ("InvalidIdentityToken", unknown));
}

#[tokio::test]
async fn auth_1_the_case_of_a_claim_in_a_condition_does_not_count() {
    let federated = Federated::new().await;
    let key = |claim: &str| format!("{ISSUER}:{claim}");
    let provider = json!({"Federated": ARN});
    let action = "sts:AssumeRoleWithWebIdentity";
    let trust = json!({"Statement": [
        {"Effect": "Allow", "Principal": provider, "Action": action,
         "Condition": {"StringEquals": {key("SUB"): SUBJECT, key("AUD"): "keymill"}}},
        {"Effect": "Deny", "Principal": provider, "Action": action,
         "Condition": {"StringEquals": {key("Repository"): "org/evil"}}},
    ]});
    federated.bench.role_trusting("batch", trust).await;
    assert!(federated.assume(&[], &claims()).await.is_ok());
    let refused = denied(NOT_AUTHORIZED);
    let evil = with("repository", "org/evil".into());
    assert_eq!(federated.assume(&[], &evil).await, refused);
    // Two claims of one name: an allow needs both, and for a deny one is enough.
    for other in ["Repository", "REPOSITORY", "rePository"] {
        let evil = with(other, "org/evil".into());
        assert_eq!(federated.assume(&[], &evil).await, refused, "{other}");
    }
    assert_eq!(
        federated.assume(&[], &with("Sub", "x".into())).await,
        refused
    );
    assert_eq!(
        federated.assume(&[], &with("AUD", "x".into())).await,
        refused
    );
}

#[tokio::test]
async fn auth_1_tags_of_a_token_need_rights_of_their_own() {
    let federated = Federated::new().await;
    federated
        .role("sts:AssumeRoleWithWebIdentity".into(), of_subject())
        .await;
    let tags = |tags: Value| with("https://aws.amazon.com/tags", tags);
    let tagged = tags(json!({
        "principal_tags": {"Team": ["payments"]}, "transitive_tag_keys": ["Team"],
    }));
    let named = with("https://aws.amazon.com/source_identity", "alice".into());
    for (claims, action) in [
        (&tagged, "sts:TagSession"),
        (&named, "sts:SetSourceIdentity"),
    ] {
        let refused = denied(&format!("Not authorized to perform {action}"));
        assert_eq!(federated.assume(&[], claims).await, refused);
    }
    let operator = json!({"Name": ROLE});
    federated
        .bench
        .administer("DeletePrincipal", operator)
        .await
        .unwrap();
    let mut condition = of_subject();
    condition["StringEqualsIfExists"] = json!({"aws:RequestTag/Team": "payments"});
    federated.role("sts:*".into(), condition).await;
    let answer = federated.assume(&[], &tagged).await.unwrap();
    assert!(answer.contains("<PackedPolicySize>"), "{answer}");
    let answer = federated.assume(&[], &named).await.unwrap();
    assert_eq!(element(&answer, "SourceIdentity"), "alice");
    let other = tags(json!({"principal_tags": {"Team": ["storage"]}}));
    assert_eq!(federated.assume(&[], &other).await, denied(NOT_AUTHORIZED));
    // What a form could not have either.
    let unfit = "The tags or the source identity of the web identity token are not such as a session may have.";
    for claims in [
        tags(json!({"principal_tags": {"": ["x"]}})),
        tags(json!({"principal_tags": {"a": ["x".repeat(257)]}})),
        tags(json!({"principal_tags": {"a<b": ["x"]}})),
        with("https://aws.amazon.com/source_identity", "a b".into()),
        with("https://aws.amazon.com/source_identity", "a".into()),
    ] {
        let refused = federated.assume(&[], &claims).await.unwrap_err();
        assert_eq!(refused, ("InvalidIdentityToken", unfit.to_owned()));
    }
    let reserved = tags(json!({"principal_tags": {"aws:x": ["y"]}}));
    let refused = federated.assume(&[], &reserved).await.unwrap_err();
    assert_eq!(refused.0, "InvalidParameterValue");
    let records = federated.bench.records();
    let elements = records.iter().map(|record| &record["responseElements"]);
    let named = elements.filter(|elements| elements["sourceIdentity"] == "alice");
    assert_eq!(named.count(), 1);
}

#[tokio::test]
async fn a_form_with_a_fault_is_refused_before_its_token_is_looked_at() {
    let federated = Federated::new().await;
    let null = |member: &str| {
        format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        )
    };
    let token = federated.signer.token(&claims());
    let (role, session) = (("RoleArn", ROLE), ("RoleSessionName", "pod-1"));
    let token = ("WebIdentityToken", token.as_str());
    let long = "x".repeat(20_001);
    let at = "1 validation error detected: Value at 'webIdentityToken' failed to satisfy constraint: Member must have length";
    let of_token = "it comes with the token, if at all.";
    for (members, message) in [
        (vec![role, session], null("webIdentityToken")),
        (vec![session, token], null("roleArn")),
        (vec![role, token], null("roleSessionName")),
        (
            vec![role, session, ("WebIdentityToken", "abc")],
            format!("{at} greater than or equal to 4"),
        ),
        (
            vec![role, session, ("WebIdentityToken", &long)],
            format!("{at} less than or equal to 20000"),
        ),
        (
            vec![role, session, token, ("ProviderId", "www.amazon.com")],
            "Keymill does not take ProviderId: it is for OAuth 2.0 access tokens.".to_owned(),
        ),
        (
            vec![role, session, token, ("SourceIdentity", "alice")],
            format!("AssumeRoleWithWebIdentity does not take SourceIdentity: {of_token}"),
        ),
        (
            vec![role, session, token, ("ExternalId", "xy")],
            format!("AssumeRoleWithWebIdentity does not take ExternalId: {of_token}"),
        ),
        (
            vec![
                role,
                session,
                token,
                ("Tags.member.1.Key", "a"),
                ("Tags.member.1.Value", "b"),
            ],
            format!("AssumeRoleWithWebIdentity does not take Tags: {of_token}"),
        ),
    ] {
        let refused = federated.ask(&members).await.unwrap_err();
        assert_eq!(refused, ("ValidationError", message));
    }
    // Only the first request of the bench had a record: what is refused before its token holds has
    // none.
    let refused = federated
        .assume(&[("WebIdentityToken", "a.b.c")], &claims())
        .await;
    assert_eq!(refused.unwrap_err().0, "InvalidIdentityToken");
    let expired = with("exp", (NOW.unix_seconds() - 300).into());
    let refused = federated.assume(&[], &expired).await.unwrap_err();
    assert_eq!(refused.0, "ExpiredTokenException");
    let records = federated.bench.records();
    let of_sts = |record: &&Value| record["eventSource"] == "sts.amazonaws.com";
    assert_eq!(records.iter().filter(of_sts).count(), 1);
}

#[tokio::test]
async fn a_role_bounds_the_sessions_of_tokens_too() {
    let federated = Federated::new().await;
    federated
        .role("sts:AssumeRoleWithWebIdentity".into(), of_subject())
        .await;
    let long = federated
        .assume(&[("DurationSeconds", "3601")], &claims())
        .await;
    let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    assert_eq!(long, Err(("ValidationError", message.to_owned())));
    // What would narrow the session is not passed over, however it is spelt.
    let arn = "arn:aws:iam::aws:policy/ReadOnlyAccess";
    for member in ["PolicyArns.1.arn", "policyArns.member.1.arn"] {
        let (code, _) = federated
            .assume(&[(member, arn)], &claims())
            .await
            .unwrap_err();
        assert_eq!(code, "ValidationError", "{member}");
    }
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}"#;
    let members = [("DurationSeconds", "900"), ("Policy", policy)];
    let answer = federated.assume(&members, &claims()).await.unwrap();
    assert_eq!(element(&answer, "Expiration"), "2023-11-14T22:28:20Z");
    assert!(answer.contains("<PackedPolicySize>"), "{answer}");
}

#[tokio::test]
async fn a_trust_policy_with_an_issuer_that_is_not_configured_is_refused() {
    let federated = Federated::new().await;
    federated
        .role("sts:AssumeRoleWithWebIdentity".into(), of_subject())
        .await;
    let trusting = |issuer: &str, account: &str| {
        let condition = json!({"StringEquals": {format!("{issuer}:sub"): SUBJECT}});
        json!({"Statement": {
            "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Condition": condition,
            "Principal": {"Federated": format!("arn:aws:iam::{account}:oidc-provider/{issuer}")},
        }})
    };
    let other_claim = json!({"StringEquals": {
        format!("{ISSUER}:sub"): SUBJECT, "other.example:sub": "x",
    }});
    let mut two = trusting(ISSUER, ACCOUNT);
    two["Statement"]["Condition"] = other_claim;
    for (trust, unknown) in [
        (
            trusting("issuer.example", ACCOUNT),
            "arn:aws:iam::111122223333:oidc-provider/issuer.example",
        ),
        (
            trusting(ISSUER, OTHER),
            "arn:aws:iam::444455556666:oidc-provider/issuer.example:8443/id/42",
        ),
        (two, "other.example"),
    ] {
        let body = json!({"Name": "batch", "TrustPolicy": trust.to_string()});
        let refused = federated.bench.administer("PutTrustPolicy", body).await;
        let (code, message) = refused.unwrap_err();
        assert_eq!(code, ErrorCode::MalformedPolicyDocumentException);
        let expected = format!(
            "{unknown} is not an issuer that the daemon's configuration has for account {ACCOUNT}; [issuers.NAME] names them."
        );
        assert_eq!(message, expected);
    }
    assert!(federated.assume(&[], &claims()).await.is_ok());
}
