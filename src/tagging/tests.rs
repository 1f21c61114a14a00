//! The tagging API against a real store.

use super::*;
use crate::api::tests::{ACCOUNT, Bench, OTHER, UNKNOWN, allowing, key_arn, outcome};
use crate::policy::Principal;
use serde_json::{Value, json};

mod changes;
mod resources;
mod tag_texts;

type Refused = (ErrorCode, String);

impl Bench {
    /// Calls the tagging API.
    async fn tagging_as(
        &self,
        who: &Arc<Principal>,
        name: &str,
        body: Value,
    ) -> Result<Value, Refused> {
        let operation = TaggingOperation::named(name).unwrap();
        let requester = Requester::local(Arc::clone(who));
        let body = body.to_string();
        let answer = self
            .api
            .call_tagging(operation, &requester, body.as_bytes());
        outcome(answer.await)
    }

    /// A principal that may do everything. The operator does not call this API.
    async fn governor(&self) -> Arc<Principal> {
        let arn = format!("arn:aws:iam::{ACCOUNT}:user/governor");
        let found = self
            .api
            .keystore
            .snapshot()
            .principals
            .get(arn.as_str())
            .cloned();
        match found {
            Some(entry) => Arc::clone(&entry.principal),
            None => self.allowed("governor", &["tag:*", "kms:*"]).await,
        }
    }

    /// Calls the tagging API as one that may.
    async fn tagging(&self, name: &str, body: Value) -> Value {
        let governor = self.governor().await;
        self.tagging_as(&governor, name, body).await.unwrap()
    }

    /// Expects a refusal with this code and message.
    async fn tagging_refuses(&self, name: &str, body: Value, code: ErrorCode, message: &str) {
        let text = body.to_string();
        let governor = self.governor().await;
        let answer = self.tagging_as(&governor, name, body).await;
        assert_eq!(answer, Err((code, message.to_owned())), "{name} {text}");
    }

    /// Expects an `InvalidParameterException` with this message.
    async fn tagging_invalid(&self, name: &str, body: Value, message: &str) {
        let code = ErrorCode::InvalidParameterException;
        self.tagging_refuses(name, body, code, message).await;
    }

    /// So many new keys with these tags; their ARNs, in the order of a listing.
    async fn tagged(&self, count: usize, tags: &[(&str, &str)]) -> Vec<String> {
        let tag = |(key, value): &(&str, &str)| json!({"TagKey": key, "TagValue": value});
        let tags: Value = tags.iter().map(tag).collect();
        let mut arns = Vec::new();
        for _ in 0..count {
            let created = self.done("CreateKey", json!({"Tags": tags})).await;
            let arn = created["KeyMetadata"]["Arn"].as_str().unwrap();
            arns.push(arn.to_owned());
        }
        arns.sort();
        arns
    }
}

/// A violation of one constraint, in the words of the front end.
fn violation(entry: &str) -> String {
    format!("1 validation error detected: {entry}")
}

/// An operation of the API with a request that it takes.
const TAKEN: [(&str, &str); 5] = [
    ("GetResources", "{}"),
    ("GetTagKeys", "{}"),
    ("GetTagValues", r#"{"Key":"a"}"#),
    (
        "TagResources",
        r#"{"ResourceARNList":["arn:aws:s3:::b"],"Tags":{"a":"b"}}"#,
    ),
    (
        "UntagResources",
        r#"{"ResourceARNList":["arn:aws:s3:::b"],"TagKeys":["a"]}"#,
    ),
];

#[tokio::test]
async fn auth_1_each_operation_takes_its_own_permission() {
    let bench = Bench::new().await;
    for (name, body) in TAKEN {
        let body: Value = serde_json::from_str(body).unwrap();
        let action = format!("tag:{name}");
        let may = bench.allowed(&format!("may-{name}"), &[&action]).await;
        let answer = bench.tagging_as(&may, name, body.clone()).await;
        assert!(answer.is_ok(), "{answer:?}");
        let statement = json!({"Effect": "Deny", "Action": action, "Resource": "*"});
        let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        let policy = json!({"Statement": [all, statement]});
        let denied = bench.principal(&format!("denied-{name}"), policy).await;
        let others: Vec<_> = TAKEN.iter().filter(|(other, _)| *other != name).collect();
        let others: Vec<_> = others
            .iter()
            .map(|(name, _)| format!("tag:{name}"))
            .collect();
        let others: Vec<_> = others.iter().map(String::as_str).chain(["kms:*"]).collect();
        let may_not = bench.allowed(&format!("may-not-{name}"), &others).await;
        for (who, reason) in [
            (
                may_not,
                format!("because no identity-based policy allows the {action} action"),
            ),
            (
                denied,
                "with an explicit deny in an identity-based policy".to_owned(),
            ),
        ] {
            let message = format!(
                "User: {} is not authorized to perform: {action} on resource: * {reason}",
                who.arn
            );
            let refusal = (ErrorCode::AccessDeniedException, message);
            let answer = bench.tagging_as(&who, name, body.clone()).await;
            assert_eq!(answer, Err(refusal));
        }
    }
}

#[tokio::test]
async fn what_there_is_no_policy_for_is_refused_in_words_that_say_so() {
    let bench = Bench::new().await;
    for operation in TaggingOperation::ALL {
        if TAKEN.iter().any(|(name, _)| *name == operation.name()) {
            continue;
        }
        let message =
            "Keymill has no tag policies, so there is no compliance with them to report on.";
        let code = ErrorCode::ConstraintViolationException;
        bench
            .tagging_refuses(operation.name(), json!({}), code, message)
            .await;
    }
}

#[tokio::test]
async fn bodies_of_other_shapes_are_refused() {
    let bench = Bench::new().await;
    for (name, body) in [
        ("GetResources", json!({"ResourceARNList": "arn"})),
        ("GetResources", json!({"ResourcesPerPage": "1"})),
        ("GetResources", json!({"TagFilters": [{"Key": 1}]})),
        ("GetResources", json!([])),
        ("GetTagValues", json!({"Key": ["a"]})),
        ("TagResources", json!({"Tags": [{"Key": "a"}]})),
        ("TagResources", json!({"Tags": {"a": null}})),
        ("UntagResources", json!({"TagKeys": {"a": "b"}})),
    ] {
        let answer = bench.tagging_as(&bench.admin, name, body.clone()).await;
        let code = answer.map_err(|(code, _)| code);
        assert_eq!(code, Err(ErrorCode::SerializationException), "{body}");
    }
    // Of two tags with one key, neither is taken.
    let body = br#"{"ResourceARNList":["arn:aws:s3:::b"],"Tags":{"a":"1","a":"2"}}"#;
    let operator = Requester::local(Arc::clone(&bench.admin));
    let operation = TaggingOperation::TagResources;
    let answer = bench.api.call_tagging(operation, &operator, body).await;
    let code = answer.map_err(|error| error.code()).err();
    assert_eq!(code, Some(ErrorCode::SerializationException));
}

#[tokio::test]
async fn a_principal_that_is_gone_reads_nothing() {
    let bench = Bench::new().await;
    let gone = bench.allowed("gone", &["tag:*"]).await;
    let body = json!({"Name": "gone"});
    bench.administer("DeletePrincipal", body).await.unwrap();
    for (name, body) in TAKEN {
        let body = serde_json::from_str(body).unwrap();
        let answer = bench.tagging_as(&gone, name, body).await;
        let code = answer.map_err(|(code, _)| code);
        assert_eq!(code, Err(ErrorCode::UnrecognizedClientException));
    }
}
