//! Single conditions, beside an implementation that is not ours: `iam-rs`, which agrees with the
//! documentation of AWS on values that have the type of their operator. It is not asked about
//! wildcards under `ArnEquals` or within values, `BinaryEquals`, variables, and values of another
//! type: there it departs from AWS or from what we promise.

use super::*;
use iam_rs::{Arn, Context, ContextValue, Decision, IAMPolicy, IAMRequest};
use proptest::prelude::*;
use proptest::sample::select;
use std::fmt::Write;

/// A condition, and what a request has for its key.
#[derive(Clone, Debug)]
struct Question {
    operator: String,
    key: &'static str,
    operands: Vec<String>,
    values: Vec<String>,
}

impl Question {
    fn policy(&self, effect: &str) -> String {
        let condition = serde_json::json!({&self.operator: {self.key: self.operands}});
        let statement = format!(r#""Action":"kms:Decrypt","Resource":"*","Condition":{condition}"#);
        let allow = r#"{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"},"#;
        let allow = if effect == "Deny" { allow } else { "" };
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{allow}{{"Effect":"{effect}",{statement}}}]}}"#
        )
    }

    fn ours(&self, effect: &str) -> bool {
        let alice = caller("alice", parsed(&[&self.policy(effect)]));
        let mut ask = Ask::key("kms:Decrypt");
        let mut circumstances = CIRCUMSTANCES;
        let first = self.values.first();
        match self.key {
            "aws:SourceIp" => circumstances.source_ip = first.map(|ip| ip.parse().unwrap()),
            "aws:SecureTransport" => circumstances.secure_transport = self.values == ["true"],
            "kms:EncryptionContextKeys" => {
                let pairs = self.values.iter().map(|name| (name, ""));
                ask.context = Some(EncryptionContext::from_pairs(pairs).unwrap());
            }
            key => {
                let name = key.strip_prefix("kms:EncryptionContext:").unwrap();
                let pairs = first.map(|value| (name, value));
                ask.context = Some(EncryptionContext::from_pairs(pairs).unwrap());
            }
        }
        check(&alice, &ask, &circumstances).is_ok()
    }

    fn theirs(&self, effect: &str) -> bool {
        let policy: IAMPolicy = serde_json::from_str(&self.policy(effect)).unwrap();
        let mut context = Context::new();
        let value = match (self.key, self.values.first()) {
            ("kms:EncryptionContextKeys", Some(_)) => {
                Some(ContextValue::StringList(self.values.clone()))
            }
            ("aws:SecureTransport", _) => Some(ContextValue::Boolean(self.values == ["true"])),
            (_, first) => first.cloned().map(ContextValue::String),
        };
        if let Some(value) = value {
            context.insert(self.key.to_owned(), value);
        }
        let alice =
            serde_json::from_str(r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#).unwrap();
        let request =
            IAMRequest::new_with_context(alice, "kms:Decrypt", Arn::parse(KEY).unwrap(), context);
        iam_rs::evaluate_policy(&policy, &request).unwrap() == Decision::Allow
    }
}

fn some(values: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(values, 1..4)
}

fn maybe(value: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(value, 0..2)
}

fn plain(
    operators: Vec<&'static str>,
    key: &'static str,
    operands: impl Strategy<Value = String> + 'static,
    values: impl Strategy<Value = String> + 'static,
) -> BoxedStrategy<Question> {
    let suffix = select(vec!["", "IfExists"]);
    let parts = (select(operators), suffix, some(operands), maybe(values));
    let question = parts.prop_map(move |(operator, suffix, operands, values)| Question {
        operator: format!("{operator}{suffix}"),
        key,
        operands,
        values,
    });
    question.boxed()
}

const CONTEXT: &str = "kms:EncryptionContext:a";
const TEXTS: [&str; 6] = [
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
];

fn relations(family: &str) -> Vec<&'static str> {
    let names = [
        "Equals",
        "NotEquals",
        "LessThan",
        "LessThanEquals",
        "GreaterThan",
        "GreaterThanEquals",
    ];
    let names = names.map(|name| &*format!("{family}{name}").leak());
    names.to_vec()
}

fn time() -> impl Strategy<Value = String> {
    let parts = (
        2025..2027,
        1..3,
        1..3,
        select(vec!["00:00:00Z", "01:00:00+01:00", "23:59:59.5Z"]),
    );
    parts.prop_map(|(year, month, day, rest)| format!("{year}-{month:02}-{day:02}T{rest}"))
}

fn address() -> impl Strategy<Value = String> {
    let v4 = (0..3, 0..3).prop_map(|(a, b)| format!("10.{a}.0.{b}"));
    let v6 = (0..3, 0..3).prop_map(|(a, b)| format!("2001:db8:{a}::{b}"));
    prop_oneof![v4, v6]
}

fn network() -> impl Strategy<Value = String> {
    (
        address(),
        select(vec![
            None,
            Some(8),
            Some(15),
            Some(16),
            Some(30),
            Some(31),
            Some(32),
        ]),
    )
        .prop_map(|(mut address, length)| {
            if let Some(length) = length {
                write!(address, "/{length}").unwrap();
            }
            address
        })
}

fn question() -> impl Strategy<Value = Question> {
    let arn = "arn:(aws|a)?:s[34]:[x]?:[0-9]?:[ab/]{1,3}";
    let arn_pattern = "arn:(aws|[*])?:(s[34]|s[?]|[*]):[x*]?:[0-9?]?:[ab/*?]{1,3}";
    let formed = |text: &String| !text.starts_with("arn::");
    let arns = plain(
        vec!["ArnLike", "ArnNotLike"],
        CONTEXT,
        arn_pattern.prop_filter("a partition", formed),
        arn.prop_filter("a partition", formed),
    );
    let set = (
        select(vec!["ForAllValues:", "ForAnyValue:"]),
        select(TEXTS.to_vec()),
        some("[abB*?]{0,2}".boxed()),
        prop::collection::hash_set("[abB]{0,2}", 0..4),
    );
    let set = set.prop_map(|(prefix, operator, operands, values)| Question {
        operator: format!("{prefix}{operator}"),
        key: "kms:EncryptionContextKeys",
        operands,
        values: values.into_iter().collect(),
    });
    let flag = (
        select(vec!["Bool", "BoolIfExists"]),
        select(vec!["true", "false"]),
        select(vec!["true", "false"]),
    );
    let flag = flag.prop_map(|(operator, operand, value)| Question {
        operator: operator.to_owned(),
        key: "aws:SecureTransport",
        operands: vec![operand.to_owned()],
        values: vec![value.to_owned()],
    });
    let null = (select(vec!["true", "false"]), maybe("[ab]".boxed()));
    let null = null.prop_map(|(operand, values)| Question {
        operator: "Null".to_owned(),
        key: CONTEXT,
        operands: vec![operand.to_owned()],
        values,
    });
    prop_oneof![
        4 => plain(TEXTS.to_vec(), CONTEXT, "[abBé*?]{0,4}", "[abBé]{0,4}"),
        2 => plain(relations("Numeric"), CONTEXT, "-?[0-3](\\.[05])?", "-?[0-3](\\.[05])?"),
        2 => plain(relations("Date"), CONTEXT, time(), time()),
        2 => plain(vec!["IpAddress", "NotIpAddress"], "aws:SourceIp", network(), address()),
        2 => arns,
        3 => set,
        1 => flag,
        1 => null,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn conditions_hold_as_the_oracle_says(question in question(), effect in select(vec!["Allow", "Deny"])) {
        prop_assert_eq!(question.ours(effect), question.theirs(effect), "{}", question.policy(effect));
    }
}
