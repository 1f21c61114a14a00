//! The worst policies that are accepted, with the worst requests.

use crate::context::EncryptionContext;
use crate::policy::steps::{STEPS_MAX, briefly};
use crate::policy::tests::{ACCOUNT, Ask, CIRCUMSTANCES, draft, grant, user};
use crate::policy::{
    Denied, GrantParameters, KeyPolicy, Principal, authorize, check, facts::Facts, grant::GrantId,
};
use std::sync::Arc;

const MINT: &str = "kms:GenerateDataKeyWithoutPlaintext";

/// A document of one statement that fills a policy with texts made by `one`.
fn full(head: &str, one: impl Fn(usize) -> String, tail: &str) -> String {
    let (mut texts, mut bytes) = (Vec::new(), head.len() + tail.len() + 40);
    for number in 0.. {
        let text = one(number);
        bytes += text.len() + 1;
        if bytes > KeyPolicy::BYTES_MAX {
            break;
        }
        texts.push(text);
    }
    let texts = texts.join(",");
    format!(r#"{{"Version":"2012-10-17","Statement":[{head}{texts}{tail}]}}"#)
}

/// Policies that each make another part of a decision as long as it can be.
fn policies() -> Vec<(&'static str, String)> {
    let head = |condition: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{{{condition}"#
        )
    };
    let like = head(r#""ForAnyValue:StringLike":{"kms:EncryptionContextKeys":["#);
    let one = head(r#""StringLike":{"kms:EncryptionContext:a":["#);
    vec![
        (
            "many short patterns",
            full(&like, |at| format!("\"*{at}\""), "]}}}"),
        ),
        (
            "patterns with ?",
            full(&like, |at| format!("\"*?{at}*\""), "]}}}"),
        ),
        (
            "variables",
            full(&like, |at| format!("\"${{aws:CurrentTime}}{at}\""), "]}}}"),
        ),
        (
            "one long pattern",
            full(
                &one,
                |at| {
                    if at == 0 {
                        format!("\"*{}b*\"", "?a".repeat(4000))
                    } else {
                        "\"b\"".into()
                    }
                },
                "]}}}",
            ),
        ),
        (
            "as many of them as there is room for",
            full(&one, |_| format!("\"*{}b*\"", "?a".repeat(2000)), "]}}}"),
        ),
        (
            "without regard to case",
            full(
                &head(r#""ForAnyValue:StringEqualsIgnoreCase":{"kms:EncryptionContextKeys":["#),
                |at| format!("\"İ{at}\""),
                "]}}}",
            ),
        ),
        (
            "many conditions",
            full(
                "",
                |at| {
                    let keys: Vec<_> = (0..100)
                        .map(|key| format!(r#""kms:EncryptionContext:{at}-{key}":"x""#))
                        .collect();
                    let condition = head(r#""StringNotLike":{"#);
                    format!("{condition}{}}}}}}}", keys.join(","))
                },
                "",
            ),
        ),
        (
            "numbers",
            full(
                &head(r#""ForAnyValue:NumericEquals":{"kms:EncryptionContextKeys":["#),
                |at| format!("\"{at}\""),
                "]}}}",
            ),
        ),
    ]
}

/// Contexts of as many bytes as one may have: one value, and as many pairs as there can be.
fn contexts() -> [EncryptionContext; 2] {
    let value = "a".repeat(EncryptionContext::BYTES_MAX - 7);
    let one = EncryptionContext::from_pairs([("a", &*value)]);
    let names = (0..).map(|number| format!("{number:04}"));
    let names: Vec<_> = names.take((EncryptionContext::BYTES_MAX - 2) / 8).collect();
    let many = EncryptionContext::from_pairs(names.iter().map(|name| (name, "")));
    [one.unwrap(), many.unwrap()]
}

fn steps(principal: &Principal, ask: &Ask) -> u64 {
    let facts = Facts::new(principal, ask, &CIRCUMSTANCES);
    let _found = super::super::decide(&facts);
    STEPS_MAX - facts.steps.left()
}

#[test]
fn auth_1_no_policy_and_request_take_more_steps_than_a_decision_has() {
    let alice = user("alice", &[]);
    let mut most = 0;
    for (what, policy) in policies() {
        for context in contexts() {
            let mut ask = Ask::key(MINT).with_key_policy(&policy);
            ask.context = Some(context);
            let taken = steps(&alice, &ask);
            most = most.max(taken);
            let answer = authorize(&alice, ask, &CIRCUMSTANCES).err();
            let is_denied = answer == Some(Denied::TooManySteps);
            assert_eq!(is_denied, taken == STEPS_MAX, "{what}: {taken}");
        }
    }
    assert_eq!(
        most, STEPS_MAX,
        "none of them is bad enough to show anything"
    );
}

#[test]
fn auth_1_what_is_found_before_the_steps_end_decides_nothing() {
    // The allow comes first and the deny last: to stop in between would be to allow.
    let head = r#"{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},
        {"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*",
        "Condition":{"ForAnyValue:StringLike":{"kms:EncryptionContextKeys":["#;
    let policy = full(head, |at| format!("\"*a{at}*\""), "]}}}");
    let alice = user("alice", &[]);
    let ask = |context| {
        let mut ask = Ask::key(MINT).with_key_policy(&policy);
        ask.context = Some(context);
        ask
    };
    let [_, many] = contexts();
    let denied = authorize(&alice, ask(many), &CIRCUMSTANCES).err();
    assert_eq!(denied, Some(Denied::TooManySteps));
    let few = EncryptionContext::from_pairs([("tenant", "7")]).unwrap();
    assert!(authorize(&alice, ask(few), &CIRCUMSTANCES).is_ok());
    // The same is allowed at length and not decided in brief.
    let some = (0..40).map(|number| (format!("{number:04}"), ""));
    let some = EncryptionContext::from_pairs(some).unwrap();
    assert!(check(&alice, &ask(some.clone()), &CIRCUMSTANCES).is_ok());
    let brief = briefly(|| check(&alice, &ask(some), &CIRCUMSTANCES).err());
    assert_eq!(brief, Some(Denied::TooManySteps));
}

#[test]
fn auth_1_grants_are_counted_too() {
    let alice = user("alice", &[]);
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/alice");
    let names: Vec<_> = (0..8).map(|number| format!("{number:04}")).collect();
    let subset = EncryptionContext::from_pairs(names.iter().map(|name| (name, "")));
    let subset = subset.unwrap();
    let ask = |context: EncryptionContext| {
        let mut ask = Ask::key(MINT);
        let grants = &mut ask.key.as_mut().unwrap().grants;
        let parameters = GrantParameters::check(crate::policy::grant::Draft {
            subset: Some(&subset),
            ..draft(&arn, &["GenerateDataKeyWithoutPlaintext"])
        });
        let parameters = parameters.unwrap();
        for number in 0..2000_u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let mut one = grant(0, parameters.clone());
            one.id = GrantId(id);
            grants.put(Arc::new(one));
        }
        ask.context = Some(context);
        ask
    };
    let other = |spoilt: &str| {
        let pairs = names
            .iter()
            .map(|name| (name, if name == spoilt { "x" } else { "" }));
        EncryptionContext::from_pairs(pairs).unwrap()
    };
    // The pair by which they are found, the last of several that are as long, has another value.
    let taken = steps(&alice, &ask(other("0007")));
    assert!(taken < 2000, "{taken}");
    // They are found by it, and each looks for seven pairs among eight, of which the last has
    // another value.
    let taken = steps(&alice, &ask(other("0006")));
    assert!((2000 * 57..2000 * 60).contains(&taken), "{taken}");
    // Fifty thousand of them fit into a decision.
    assert!(taken * 25 < STEPS_MAX);
    // Among a thousand and more pairs they do not, and no caller is allowed.
    let [_, many] = contexts();
    let pairs = many
        .pairs()
        .map(|(name, value)| (name, if name == "0006" { "x" } else { value }));
    let many = EncryptionContext::from_pairs(pairs).unwrap();
    let denied = authorize(&alice, ask(many), &CIRCUMSTANCES).err();
    assert_eq!(denied, Some(Denied::TooManySteps));
}
