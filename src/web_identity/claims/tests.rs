//! Claims with one fault each, the edges of their times, and those that a session takes over.

use super::*;
use crate::web_identity::tests::{NOW, at, claims};
use serde_json::{Value, json};

fn read(claims: &Value) -> Result<Claims, TokenError> {
    let Ok(Json::Object(members)) = serde_json::from_str(&claims.to_string()) else {
        panic!("{claims}");
    };
    Claims::read(members, at(NOW))
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn refusal(claims: &Value) -> String {
    read(claims)
        .err()
        .map_or_else(|| "taken".to_owned(), |error| error.to_string())
}

#[test]
fn claims_that_a_token_must_have_are_missed() {
    for name in ["aud", "sub", "exp", "iat"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(
            refusal(&claims),
            format!("Missing a required claim: {name}")
        );
    }
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("nbf");
    assert_eq!(refusal(&claims), "taken");
}

#[test]
fn claims_of_another_type_are_refused() {
    let invalid = "The web identity token could not be validated: ";
    for (name, value) in [
        ("aud", json!([])),
        ("aud", json!(["a", 1])),
        ("aud", json!(1)),
        ("aud", json!(null)),
        ("aud", json!(vec!["a"; AUDIENCES_MAX + 1])),
        ("sub", json!("")),
        ("sub", json!("x".repeat(256))),
        ("sub", json!(["a"])),
        ("exp", json!("1800000000")),
        ("exp", json!(1.5)),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("iat", json!(null)),
        ("iat", json!(true)),
        ("nbf", json!("now")),
        (SOURCE_IDENTITY, json!(["a"])),
        (TAGS, json!("a")),
        (TAGS, json!({"principal_tags": ["a"]})),
        (TAGS, json!({"principal_tags": {"a": "b"}})),
        (TAGS, json!({"principal_tags": {"a": ["b", "c"]}})),
        (TAGS, json!({"principal_tags": {"a": [1]}})),
        (TAGS, json!({"transitive_tag_keys": "a"})),
    ] {
        let refused = refusal(&with(name, value.clone()));
        assert!(refused.starts_with(invalid), "{name} {value}: {refused}");
    }
}

#[test]
fn a_token_is_valid_within_its_time_and_five_minutes() {
    let early = |begins: u64| {
        format!("Token not yet valid: current date/time {NOW} must be after the date/time {begins}")
    };
    let late = |expires: u64| {
        format!(
            "Token expired: current date/time {NOW} must be before the expiration date/time {expires}"
        )
    };
    let taken = || "taken".to_owned();
    for (name, seconds, expected) in [
        ("exp", NOW - 299, taken()),
        ("exp", NOW - 300, late(NOW - 300)),
        ("exp", 0, late(0)),
        ("exp", u64::MAX, taken()),
        ("nbf", NOW + 300, taken()),
        ("nbf", NOW + 301, early(NOW + 301)),
        ("nbf", u64::MAX, early(u64::MAX)),
        ("iat", NOW + 300, taken()),
        ("iat", NOW + 301, early(NOW + 301)),
        ("iat", NOW - 86_400, taken()),
        ("iat", NOW - 86_401, "Token too old: 86401".to_owned()),
        ("iat", 0, format!("Token too old: {NOW}")),
    ] {
        assert_eq!(
            refusal(&with(name, seconds.into())),
            expected,
            "{name} {seconds}"
        );
    }
    // API servers of Kubernetes stretch a token to a year.
    let mut year = with("exp", (NOW + 31_000_000).into());
    year["iat"] = (NOW - 500_000).into();
    assert_eq!(refusal(&year), "Token too old: 500000");
}

#[test]
fn a_session_takes_over_tags_and_a_source_identity() {
    let plain = read(&claims()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((plain.tags.len(), plain.source_identity), (0, None));
    let mut tagged = with(
        TAGS,
        json!({
            "principal_tags": {"Team": ["payments"], "Cost": [""]},
            "transitive_tag_keys": ["Team"],
        }),
    );
    tagged[SOURCE_IDENTITY] = "alice".into();
    let claims = read(&tagged).unwrap_or_else(|error| panic!("{error}"));
    let tags: BTreeMap<_, _> = claims.tags.into_iter().collect();
    assert_eq!(
        (tags["Team"].as_str(), tags["Cost"].as_str()),
        ("payments", "")
    );
    assert_eq!(claims.transitive_tag_keys, ["Team"]);
    assert_eq!(claims.source_identity.as_deref(), Some("alice"));
}

#[test]
fn claims_are_values_for_conditions() {
    let mut claims = with("amr", json!(["authenticated", "example.com"]));
    claims["repository"] = "org/repo".into();
    claims["actor_id"] = 42.into();
    claims["email_verified"] = true.into();
    claims["mixed"] = json!(["a", 1, false]);
    claims["empty"] = json!([]);
    claims["nothing"] = json!(null);
    claims["nested"] = json!([["a"]]);
    claims["kubernetes.io"] = json!({"namespace": "payments"});
    let read = read(&claims).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.audiences, ["other", "sts.amazonaws.com"]);
    assert_eq!((read.issued, read.expires), (NOW - 60, NOW + 3600));
    for (name, values) in [
        ("sub", &["system:serviceaccount:payments:minter"][..]),
        ("amr", &["authenticated", "example.com"]),
        ("repository", &["org/repo"]),
        ("actor_id", &["42"]),
        ("email_verified", &["true"]),
        ("mixed", &["a", "1", "false"]),
    ] {
        assert_eq!(read.values[name], values, "{name}");
    }
    for absent in ["aud", "empty", "nothing", "nested", "kubernetes.io", TAGS] {
        assert!(!read.values.contains_key(absent), "{absent}");
    }
}
