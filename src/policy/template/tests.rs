use super::*;
use crate::policy::principal::Tag;
use crate::policy::tests::{ACCOUNT, Ask, CIRCUMSTANCES};
use crate::policy::{Action, AuthorizationRequest, Principal};
use proptest::prelude::*;

const LIKE: Syntax = Syntax {
    wildcards: true,
    variables: true,
};
const EXACT: Syntax = Syntax {
    wildcards: false,
    variables: true,
};

fn elements(template: &Template) -> Elements<'_> {
    Elements {
        pieces: &template.pieces,
        values: &[],
        inside: "".chars(),
    }
}

fn compiled(text: &str, syntax: Syntax) -> Template {
    match Template::compile(text, syntax) {
        Ok(template) => template,
        Err(error) => panic!("{text}: {error}"),
    }
}

/// As a user `alice` who has the tags team=red*, case=x and CASE=y.
fn matched(template: &str, syntax: Syntax, text: &str, case: Case) -> Match {
    let tag = |key: &str, value: &str| Tag {
        key: key.into(),
        value: value.into(),
    };
    let tags = vec![tag("team", "red*"), tag("case", "x"), tag("CASE", "y")];
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/dept/alice");
    let alice = Principal::new(&arn, Vec::new()).unwrap().with_tags(tags);
    let ask = Ask::about("*", "kms:ListKeys");
    assert_eq!(ask.action(), Action("kms:ListKeys"));
    let facts = Facts::new(&alice, &ask, &CIRCUMSTANCES);
    compiled(template, syntax).matches(text, &facts, case)
}

#[test]
fn variables_stand_for_their_values() {
    let (yes, no, unknown) = (Match::Yes, Match::No, Match::Unknown);
    for (template, text, expected) in [
        ("${aws:username}", "alice", yes),
        ("${AWS:UserName}", "alice", yes),
        ("${aws:username}", "Alice", no),
        ("home/${aws:username}/*", "home/alice/x", yes),
        ("home/${aws:username}/*", "home/bob/x", no),
        (
            "${aws:PrincipalAccount}-${aws:username}",
            "111122223333-alice",
            yes,
        ),
        (
            "${aws:PrincipalArn}",
            "arn:aws:iam::111122223333:user/dept/alice",
            yes,
        ),
        ("${aws:CurrentTime}", "2026-03-04T05:06:07Z", yes),
        ("${aws:EpochTime}", "1772600767", yes),
        ("${aws:SecureTransport}", "false", yes),
        // A wildcard in a value is none.
        ("${aws:PrincipalTag/team}", "red*", yes),
        ("${aws:PrincipalTag/team}", "red!", no),
        ("${aws:PrincipalTag/team}*", "red*!", yes),
        // Two values are no value.
        ("${aws:PrincipalTag/case}", "x", unknown),
        ("${aws:PrincipalTag/none}", "", unknown),
        ("${aws:PrincipalTag/none}*", "x", unknown),
        ("${aws:userid}", "alice", unknown),
        ("${aws:SourceIp}", "10.0.0.1", unknown),
        ("${saml:sub}", "alice", unknown),
        ("${aws:PrincipalTag/none, 'blue'}", "blue", yes),
        ("${aws:PrincipalTag/none,'a b}c'}", "a b}c", yes),
        ("${aws:PrincipalTag/none, ''}", "", yes),
        ("${aws:username, 'blue'}", "alice", yes),
        ("${aws:PrincipalTag/case, 'blue'}", "blue", unknown),
        ("${*}${?}${$}", "*?$", yes),
        ("${*}", "x", no),
        ("$ {aws:username}", "$ {aws:username}", yes),
        ("$", "$", yes),
    ] {
        assert_eq!(
            matched(template, LIKE, text, Case::Sensitive),
            expected,
            "{template} {text}"
        );
    }
    assert_eq!(matched("a*?", EXACT, "a*?", Case::Sensitive), yes);
    assert_eq!(matched("a*?", EXACT, "abc", Case::Sensitive), no);
    for (template, text) in [
        ("Ä?b", "äÖB"),
        ("STRASSE", "strasse"),
        ("${aws:username}", "ALICE"),
        ("é", "É"),
    ] {
        assert_eq!(
            matched(template, LIKE, text, Case::Insensitive),
            yes,
            "{template}"
        );
    }
}

#[test]
fn what_is_no_variable_is_refused() {
    let nine = "${aws:username}".repeat(Template::VARIABLES_MAX + 1);
    for text in [
        "${",
        "${aws:username",
        "${}",
        "${username}",
        "${aws:usernam}",
        "${kms:EncryptionContext:a}",
        "${kms:EncryptionContextKeys}",
        "${aws:TagKeys}",
        "${aws:username, blue}",
        "${aws:username, 'blue}",
        "${aws:username, 'b'l'}",
        "${aws:username,}",
        "${ aws:username}",
        "${aws:username }",
        "${**}",
        &nine,
    ] {
        assert!(Template::compile(text, LIKE).is_err(), "{text}");
    }
    let old = Syntax {
        wildcards: true,
        variables: false,
    };
    let reason = Template::compile("a/${aws:username}", old)
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        reason,
        "\"a/${aws:username}\": policy variables need Version 2012-10-17"
    );
    assert!(Template::compile("a/$b", old).is_ok());
}

#[test]
fn separators_within_variables_are_none() {
    for (text, parts) in [
        ("a:b:c", vec!["a", "b", "c"]),
        ("a:${aws:username}:c", vec!["a", "${aws:username}", "c"]),
        ("a:b:c:d:e", vec!["a", "b", "c:d:e"]),
        ("${aws:x", vec!["${aws", "x"]),
        ("${a:b, 'c:}d'}:e", vec!["${a:b, 'c:}d'}", "e"]),
        ("é:é", vec!["é", "é"]),
        ("", vec![""]),
    ] {
        assert_eq!(split_outside_variables(text, b':', 3), parts, "{text}");
    }
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
    assert!(!matches(
        elements(&compiled(&pattern, LIKE)),
        &text,
        counted
    ));
    assert!(steps.get() <= pattern.len() * text.len(), "{}", steps.get());
}

/// What the wildcards mean, in the plainest words.
fn matches_by_definition(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some(('*', rest)), _) => {
            (0..=text.len()).any(|skipped| matches_by_definition(rest, &text[skipped..]))
        }
        (Some(('?', rest)), Some((_, tail))) => matches_by_definition(rest, tail),
        (Some((one, rest)), Some((other, tail))) => {
            one == other && matches_by_definition(rest, tail)
        }
        (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn wildcards_mean_what_their_definition_says(pattern in "[aé*?]{0,8}", text in "[aé]{0,8}") {
        let (by_char, of_text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
        let expected = matches_by_definition(&by_char, &of_text);
        prop_assert_eq!(matches(elements(&compiled(&pattern, LIKE)), &text, |a, b| a == b), expected);
        let found = matched(&pattern, LIKE, &text, Case::Sensitive);
        prop_assert_eq!(found == Match::Yes, expected);
    }
}
