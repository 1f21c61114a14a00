use super::*;
use crate::operation::Action;
use crate::policy::principal::Tag;
use crate::policy::tests::{ACCOUNT, Ask, CIRCUMSTANCES};
use crate::policy::{AuthorizationRequest, Principal};
use proptest::prelude::*;

const LIKE: Syntax = Syntax {
    wildcards: true,
    variables: true,
};
const EXACT: Syntax = Syntax {
    wildcards: false,
    variables: true,
};

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
    assert_eq!(ask.action(), Action::ListKeys);
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
        // Two values count as none.
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

/// What the wildcards mean, in the plainest words: for each beginning of the pattern, which
/// beginnings of the text it stands for.
fn matches_by_definition(pattern: &str, text: &str, same: impl Fn(char, char) -> bool) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for element in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match element {
                '*' => reached[at] || at > 0 && next[at - 1],
                '?' => at > 0 && reached[at - 1],
                one => at > 0 && reached[at - 1] && same(one, text[at - 1]),
            };
        }
        reached = next;
    }
    reached[text.len()]
}

fn folded(one: char, other: char) -> bool {
    one.to_lowercase().eq(other.to_lowercase())
}

/// A text, and a pattern that often stands for it: some of its characters have become wildcards,
/// and some others.
fn pattern_of_a_text() -> impl Strategy<Value = (String, String)> {
    let letters = prop::sample::select(vec!['a', 'b', 'é', '語', '🦀']);
    let text = prop::collection::vec(letters, 0..300);
    (text, any::<u64>(), 0_u64..40, 0_u64..100).prop_map(|(text, seed, stars, marks)| {
        let mut state = seed | 1;
        let mut chance = move |out_of: u64| {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % out_of
        };
        let mut pattern = String::new();
        for letter in &text {
            match chance(400) {
                draw if draw < stars => pattern.push('*'),
                draw if draw < stars + marks => pattern.push('?'),
                399 => pattern.push('b'),
                _ => pattern.push(*letter),
            }
        }
        (pattern, text.into_iter().collect())
    })
}

proptest! {
    #[test]
    fn auth_1_wildcards_mean_what_their_definition_says(pattern in "[aé*?]{0,8}", text in "[aé]{0,8}") {
        let expected = matches_by_definition(&pattern, &text, |a, b| a == b);
        prop_assert_eq!(matched(&pattern, LIKE, &text, Case::Sensitive) == Match::Yes, expected);
    }

    #[test]
    fn auth_1_wildcards_without_regard_to_case_too(pattern in "[aAéÉK*?]{0,8}", text in "[aAéÉkK]{0,8}") {
        let expected = matches_by_definition(&pattern, &text, folded);
        prop_assert_eq!(matched(&pattern, LIKE, &text, Case::Insensitive) == Match::Yes, expected);
    }

    #[test]
    fn auth_1_long_segments_too((pattern, text) in pattern_of_a_text()) {
        let expected = matches_by_definition(&pattern, &text, |a, b| a == b);
        prop_assert_eq!(matched(&pattern, LIKE, &text, Case::Sensitive) == Match::Yes, expected);
    }
}

/// `a*a*…b` against `aaa…`, and what else makes a search go back.
#[test]
fn auth_1_no_pattern_costs_more_than_its_words() {
    let text = "a".repeat(8000);
    for pattern in [
        "*a".repeat(4000) + "b",
        "*a".repeat(4000) + "*b*",
        "*?a".repeat(2000) + "*b*",
        "*".to_owned() + &"a".repeat(4000) + "b*",
        "*".to_owned() + &"?a".repeat(2000) + "?b*",
        "*".to_owned() + &"?".repeat(4000) + "b*",
        "*".to_owned() + &("?".repeat(100) + "b").repeat(40) + "*",
        "*?é?é?*b?*".repeat(400),
    ] {
        let alice = Principal::new(&format!("arn:aws:iam::{ACCOUNT}:user/alice"), Vec::new());
        let (alice, ask) = (alice.unwrap(), Ask::about("*", "kms:ListKeys"));
        let facts = Facts::new(&alice, &ask, &CIRCUMSTANCES);
        let (before, template) = (facts.steps.left(), compiled(&pattern, LIKE));
        let found = template.matches(&text, &facts, Case::Sensitive);
        assert_eq!(found, Match::No, "{pattern:.20}");
        let steps = before - facts.steps.left();
        // Two steps of a word for each 64 elements and byte, and the tables of segments.
        let words = 2 * pattern.len().div_ceil(64) * text.len() + 256 * pattern.len() / 2;
        assert!(
            steps <= words as u64,
            "{pattern:.20}: {steps} steps of {words}"
        );
    }
}
