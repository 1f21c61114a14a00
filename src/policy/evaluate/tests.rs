use super::*;
use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use crate::policy::grant::Draft;
use crate::policy::principal::{Principal, Tag};
use crate::policy::tests::{Ask, CIRCUMSTANCES, KEY, Member, NOW, draft, grant, parsed};
use crate::policy::{
    Circumstances, ConditionKey, GrantParameters, KeyPolicy, PolicyDocument, PolicyKind, check,
};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

mod laws;
mod oracle;
mod sessions;
mod table;
mod worst;

/// Principals by the names that statements and cases have for them.
fn arn_of(name: &str) -> &str {
    match name {
        "root" => "arn:aws:iam::111122223333:root",
        "alice" => "arn:aws:iam::111122223333:user/alice",
        "bob" => "arn:aws:iam::111122223333:user/bob",
        "app" => "arn:aws:iam::111122223333:role/apps/App",
        "app-session" => "arn:aws:sts::111122223333:assumed-role/App/one",
        "app-session-2" => "arn:aws:sts::111122223333:assumed-role/App/two",
        "fred" => "arn:aws:sts::111122223333:federated-user/fred",
        "other-root" => "arn:aws:iam::444455556666:root",
        "carol" => "arn:aws:iam::444455556666:user/carol",
        "key" => KEY,
        other => other,
    }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

/// The principal of this name with these policies; an operator has its own.
fn caller(name: &str, policies: Vec<Arc<PolicyDocument>>) -> Arc<Principal> {
    let began = Timestamp(NOW.0 - 1_000_000);
    let new = |name| Principal::new(arn_of(name), policies.clone()).unwrap();
    let session = |name| {
        let role = new("app").with_unique_id("AROAEXAMPLE");
        role.session(name, began).unwrap()
    };
    let principal = match name {
        "operator" => return Principal::operator(0, "111122223333".parse().unwrap()),
        "carol-operator" => return Principal::operator(0, "444455556666".parse().unwrap()),
        "app-session" => session("one"),
        "app-session-2" => session("two"),
        "alice" => new(name).with_tags(vec![tag("department", "IT")]),
        _ => new(name),
    };
    Arc::new(principal)
}

/// `<Effect> <actions> [on <resources>] [to <principals>] [if <Condition>]`, or JSON.
fn statement(text: &str) -> String {
    if text.starts_with('{') {
        return text.to_owned();
    }
    let (text, condition) = match text.split_once(" if ") {
        Some((text, condition)) => (text, Some(condition)),
        None => (text, None),
    };
    let (text, principals) = match text.split_once(" to ") {
        Some((text, principals)) => (text, Some(principals)),
        None => (text, None),
    };
    let (text, resources) = text.split_once(" on ").unwrap_or((text, "*"));
    let (effect, actions) = text.split_once(' ').unwrap();
    let list = |element: &str, items: &str| {
        let (not, items) = match items.strip_prefix('!') {
            Some(items) => ("Not", items),
            None => ("", items),
        };
        let items: Vec<_> = items.split(',').map(arn_of).collect();
        format!(
            r#""{not}{element}":{}"#,
            serde_json::to_string(&items).unwrap()
        )
    };
    let mut members = vec![format!(r#""Effect":"{effect}""#), list("Action", actions)];
    members.push(list("Resource", resources));
    members.extend(principals.map(|names| format!(r#""Principal":{{{}}}"#, list("AWS", names))));
    members.extend(condition.map(|condition| format!(r#""Condition":{condition}"#)));
    format!("{{{}}}", members.join(","))
}

fn document(statements: &[String]) -> String {
    let statements: Vec<_> = statements.iter().map(|text| statement(text)).collect();
    let statements = statements.join(",");
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

/// No statements: a policy about nothing here, since none is not well-formed.
fn identity_policy(statements: &[String]) -> Arc<PolicyDocument> {
    let nothing = ["Allow s3:ListBucket on *".to_owned()];
    let statements = if statements.is_empty() {
        &nothing
    } else {
        statements
    };
    let [policy] = <[_; 1]>::try_from(parsed(&[&document(statements)]))
        .ok()
        .unwrap();
    policy
}

fn key_policy(statements: &[String]) -> KeyPolicy {
    let document = document(statements);
    match KeyPolicy::parse(&document) {
        Ok(policy) => policy,
        Err(error) => panic!("{document}: {error}"),
    }
}
