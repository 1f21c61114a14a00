use super::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ALIAS: &str = "arn:aws:kms:us-east-1:111122223333:alias/containers";
/// Somebody else's alias, named to look like one of ours to a pattern over whole strings.
const LURE: &str = "arn:aws:kms:us-east-1:999999999999:alias/a:111122223333:alias/containers";

/// Statements as `effect actions resources`, lists with commas, and `;` between statements.
fn policy(statements: &str) -> PolicyDocument {
    let list = |text: &str| {
        let quoted: Vec<_> = text.split(',').map(|item| format!("\"{item}\"")).collect();
        format!("[{}]", quoted.join(","))
    };
    let json = statements.split("; ").map(|statement| {
        let words: Vec<_> = statement.split(' ').collect();
        let [effect, actions, resources] = words[..] else {
            panic!("{statement}");
        };
        let (actions, resources) = (list(actions), list(resources));
        format!(r#"{{"Effect":"{effect}","Action":{actions},"Resource":{resources}}}"#)
    });
    let json: Vec<_> = json.collect();
    PolicyDocument::parse(&format!(r#"{{"Statement":[{}]}}"#, json.join(","))).unwrap()
}

#[test]
#[rustfmt::skip] // a table
fn auth_1_deny_wins_and_no_allow_is_a_deny() {
    const YES: Result<(), Denied> = Ok(());
    const NO: Result<(), Denied> = Err(Denied::NoAllow);
    const NEVER: Result<(), Denied> = Err(Denied::ExplicitDeny);
    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    let this_key = format!("Allow * {KEY}");
    let this_key_shouted = this_key.replace(ID, &ID.to_uppercase());
    let table = [
        // Nothing that speaks of it.
        ("Allow s3:* *", "kms:Decrypt", KEY, NO),
        ("Deny s3:* *", "kms:Decrypt", KEY, NO),
        ("Deny kms:Encrypt *", "kms:Decrypt", KEY, NO),
        // A deny alone, before, after and between allows, wider and narrower than they.
        ("Deny * *", "kms:Decrypt", KEY, NEVER),
        ("Allow * *; Deny * *", "kms:Decrypt", KEY, NEVER),
        ("Deny * *; Allow * *", "kms:Decrypt", KEY, NEVER),
        ("Allow * *; Deny kms:Decrypt *; Allow kms:Decrypt *", "kms:Decrypt", KEY, NEVER),
        ("Allow kms:* *; Deny kms:decrypt *", "kms:Decrypt", KEY, NEVER),
        ("Allow kms:* *; Deny kms:Decrypt *", "kms:Encrypt", KEY, YES),
        ("Allow kms:* *; Deny kms:* arn:aws:kms:*:*:key/*", "kms:Decrypt", KEY, NEVER),
        ("Allow kms:* *; Deny kms:* arn:aws:kms:*:*:key/*", "kms:DeleteAlias", ALIAS, YES),
        ("Allow kms:* *; Deny kms:Encrypt,kms:De* arn:aws:kms:*:*:key/x,*", "kms:Decrypt", KEY, NEVER),
        ("Allow kms:Decrypt *; Deny * arn:aws:kms:*:444455556666:*", "kms:Decrypt", KEY, YES),
        // Actions.
        ("Allow * *", "kms:Decrypt", KEY, YES),
        ("Allow kms:* *", "kms:Decrypt", KEY, YES),
        ("Allow kms:Decrypt *", "kms:Decrypt", KEY, YES),
        ("Allow KMS:DECRYPT *", "kms:Decrypt", KEY, YES),
        ("Allow Kms:d?crYpt *", "kms:Decrypt", KEY, YES),
        ("Allow kms:Decryp *", "kms:Decrypt", KEY, NO),
        ("Allow kms:Decrypt? *", "kms:Decrypt", KEY, NO),
        ("Allow kms:Decrypt* *", "kms:Decrypt", KEY, YES),
        ("Allow kms:ecrypt *", "kms:Decrypt", KEY, NO),
        ("Allow kms:*crypt *", "kms:Encrypt", KEY, YES),
        ("Allow kms:*crypt *", "kms:ReEncryptFrom", KEY, NO),
        ("Allow kms:GenerateDataKey *", "kms:GenerateDataKeyWithoutPlaintext", KEY, NO),
        ("Allow kms:GenerateDataKey* *", "kms:GenerateDataKeyWithoutPlaintext", KEY, YES),
        ("Allow kms:GenerateDataKeyWithoutPlaintext *", "kms:GenerateDataKey", KEY, NO),
        ("Allow kms:GenerateDataKeyWithoutPlaintext *", "kms:Decrypt", KEY, NO),
        ("Allow kms2:* *", "kms:Decrypt", KEY, NO),
        ("Allow km:* *", "kms:Decrypt", KEY, NO),
        ("Allow s3:Get*,kms:Encrypt,kms:Decrypt *", "kms:Decrypt", KEY, YES),
        ("Allow s3:Get*,kms:Encrypt *", "kms:Decrypt", KEY, NO),
        // Resources.
        (&this_key, "kms:Decrypt", KEY, YES),
        (&this_key_shouted, "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws:kms:us-east-1:111122223333:key/*", "kms:Decrypt", KEY, YES),
        ("Allow * arn:aws:kms:us-east-1:111122223333:key/1234abcd-????-*", "kms:Decrypt", KEY, YES),
        ("Allow * arn:aws:kms:us-east-1:111122223333:key/???", "kms:Decrypt", KEY, NO),
        ("Allow * arn:*:*:*:*:*", "kms:Decrypt", KEY, YES),
        ("Allow * arn:aws:kms:us-west-2:111122223333:key/*", "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws:kms:us-east-1:444455556666:key/*", "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws-cn:kms:*:*:*", "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws:s3:*:*:*", "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws:kms:::key/*", "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws:kms:*:*:alias/*", "kms:Decrypt", KEY, NO),
        ("Allow * arn:aws:kms:*:*:alias/cont*", "kms:CreateAlias", ALIAS, YES),
        // A wildcard stays in its part, and the resource is one part.
        ("Allow * arn:aws:kms:*:111122223333:alias/containers", "kms:CreateAlias", LURE, NO),
        ("Allow * arn:aws:kms:us-east-1:999999999999:alias/*containers", "kms:CreateAlias", LURE, YES),
        // What is about no key at all is covered by * alone.
        ("Allow kms:ListKeys *", "kms:ListKeys", "*", YES),
        ("Allow kms:ListKeys arn:aws:kms:*:*:*", "kms:ListKeys", "*", NO),
        ("Allow * *; Deny * arn:*:*:*:*:*", "kms:ListKeys", "*", YES),
    ];
    assert!(table.len() >= 40);
    for (statements, action, resource, decision) in table {
        let row = format!("{statements}: {action} on {resource}");
        assert_eq!(decide(&[policy(statements)], Action(action), resource), decision, "{row}");
        // The same statements in policies of their own.
        let split: Vec<_> = statements.split("; ").map(policy).collect();
        assert_eq!(decide(&split, Action(action), resource), decision, "{row}, split");
    }
    let none: [PolicyDocument; 0] = [];
    assert_eq!(decide(&none, Action("kms:Decrypt"), KEY), NO);
}

#[test]
fn wildcards_cost_no_more_than_the_product_of_the_lengths() {
    use std::cell::Cell;
    let (pattern, text) = ("*a".repeat(1000) + "b", "a".repeat(2000));
    let steps = Cell::new(0_usize);
    let counted = |a, b| {
        steps.set(steps.get() + 1);
        a == b
    };
    assert!(!matches(&pattern, &text, counted));
    assert!(steps.get() <= pattern.len() * text.len(), "{}", steps.get());
}

/// What the wildcards mean, in the plainest words.
fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some((b'*', rest)), _) => {
            (0..=text.len()).any(|skipped| matches_by_definition(rest, &text[skipped..]))
        }
        (Some((b'?', rest)), Some((_, tail))) => matches_by_definition(rest, tail),
        (Some((byte, rest)), Some((other, tail))) => {
            byte == other && matches_by_definition(rest, tail)
        }
        (Some(_), None) => false,
    }
}

fn about() -> impl Strategy<Value = String> {
    let actions = select(vec![
        "*",
        "kms:*",
        "kms:De*",
        "kms:Decrypt",
        "kms:Encrypt",
        "s3:*",
    ]);
    let resources = select(vec![
        "*",
        "arn:aws:kms:*:*:key/*",
        "arn:aws:kms:*:*:alias/*",
        "arn:aws:kms:*:444455556666:*",
    ]);
    (actions, resources).prop_map(|(action, resource)| format!("{action} {resource}"))
}

fn statements() -> impl Strategy<Value = Vec<String>> {
    let one = (select(vec!["Allow", "Allow", "Deny"]), about());
    prop::collection::vec(
        one.prop_map(|(effect, about)| format!("{effect} {about}")),
        1..6,
    )
}

fn request() -> impl Strategy<Value = (Action, &'static str)> {
    let actions = select(vec![
        Action("kms:Decrypt"),
        Action("kms:Encrypt"),
        Action("kms:ListKeys"),
    ]);
    (actions, select(vec![KEY, ALIAS, LURE, "*"]))
}

proptest! {
    #[test]
    fn adding_a_deny_never_allows_more(
        statements in statements(),
        denied in about(),
        at: Index,
        (action, resource) in request(),
    ) {
        let before = decide(&[policy(&statements.join("; "))], action, resource);
        let mut more = statements;
        more.insert(at.index(more.len() + 1), format!("Deny {denied}"));
        let after = decide(&[policy(&more.join("; "))], action, resource);
        prop_assert!(after.is_err() || before.is_ok());
    }

    #[test]
    fn removing_an_allow_never_allows_more(
        statements in statements(),
        allowed in about(),
        at: Index,
        (action, resource) in request(),
    ) {
        let after = decide(&[policy(&statements.join("; "))], action, resource);
        let mut more = statements;
        more.insert(at.index(more.len() + 1), format!("Allow {allowed}"));
        let before = decide(&[policy(&more.join("; "))], action, resource);
        prop_assert!(after.is_err() || before.is_ok());
    }

    #[test]
    fn the_order_of_statements_is_irrelevant(
        (one, other) in statements()
            .prop_flat_map(|one| (Just(one.clone()), Just(one).prop_shuffle())),
        (action, resource) in request(),
    ) {
        let one = decide(&[policy(&one.join("; "))], action, resource);
        prop_assert_eq!(one, decide(&[policy(&other.join("; "))], action, resource));
    }

    #[test]
    fn wildcards_mean_what_their_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(matches(&pattern, &text, |a, b| a == b), expected);
    }
}
