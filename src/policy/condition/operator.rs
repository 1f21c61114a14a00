//! Condition operators: the operands of a comparison, and the comparison itself.

use crate::key::arn::Arn;
use crate::policy::arn_pattern::ArnPattern;
use crate::policy::condition::date::{self, Micros};
use crate::policy::condition::network::Network;
use crate::policy::error::{InvalidPolicy, refuse};
use crate::policy::facts::{Facts, Value};
use crate::policy::json::Json;
use crate::policy::template::{Match, Syntax, Template};
use crate::policy::wildcard::Case;

/// The operands of a policy. One of them must match, or none of them if the operator is negated.
pub(super) enum Operands {
    Texts(Case, Box<[Template]>),
    Arns(Box<[ArnPattern]>),
    Numbers(Relation, Box<[f64]>),
    Dates(Relation, Box<[Micros]>),
    Bools(Box<[bool]>),
    Binaries(Box<[Box<[u8]>]>),
    Networks(Box<[Network]>),
}

/// The required relation of a value to an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An operator by its name, without set prefix and `IfExists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    kind: Kind,
    /// Whether it holds when nothing matches.
    pub(super) negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text { case: bool, wildcards: bool },
    Arn,
    Number(Relation),
    Date(Relation),
    Bool,
    Binary,
    Network,
}

impl Operator {
    /// Source: AWS IAM, "IAM JSON policy elements: Condition operators",
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let text = |case, wildcards| Kind::Text { case, wildcards };
        let (kind, negated) = match name {
            "StringEquals" => (text(true, false), false),
            "StringNotEquals" => (text(true, false), true),
            "StringEqualsIgnoreCase" => (text(false, false), false),
            "StringNotEqualsIgnoreCase" => (text(false, false), true),
            "StringLike" => (text(true, true), false),
            "StringNotLike" => (text(true, true), true),
            // The two names are synonyms.
            "ArnEquals" | "ArnLike" => (Kind::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Kind::Arn, true),
            "Bool" => (Kind::Bool, false),
            "BinaryEquals" => (Kind::Binary, false),
            "IpAddress" => (Kind::Network, false),
            "NotIpAddress" => (Kind::Network, true),
            _ => {
                let (kind, relation): (fn(Relation) -> Kind, _) =
                    match (name.strip_prefix("Numeric"), name.strip_prefix("Date")) {
                        (Some(relation), _) => (Kind::Number, relation),
                        (_, Some(relation)) => (Kind::Date, relation),
                        _ => return None,
                    };
                let (relation, negated) = match relation {
                    "Equals" => (Relation::Equal, false),
                    "NotEquals" => (Relation::Equal, true),
                    "LessThan" => (Relation::Less, false),
                    "LessThanEquals" => (Relation::LessOrEqual, false),
                    "GreaterThan" => (Relation::Greater, false),
                    "GreaterThanEquals" => (Relation::GreaterOrEqual, false),
                    _ => return None,
                };
                (kind(relation), negated)
            }
        };
        Some(Self { kind, negated })
    }

    pub(super) fn operands(
        self,
        values: Vec<Json>,
        variables: bool,
    ) -> Result<Operands, InvalidPolicy> {
        let texts = values.into_iter().map(text);
        let plain = |text: Result<String, InvalidPolicy>| text.and_then(no_variable);
        Ok(match self.kind {
            Kind::Text { case, wildcards } => {
                let syntax = Syntax {
                    wildcards,
                    variables,
                };
                let case = if case {
                    Case::Sensitive
                } else {
                    Case::Insensitive
                };
                Operands::Texts(case, all(texts, |text| Template::compile(&text, syntax))?)
            }
            Kind::Arn => Operands::Arns(all(texts, |text| ArnPattern::compile(&text, variables))?),
            Kind::Number(relation) => {
                Operands::Numbers(relation, each(texts.map(plain), "a number", number)?)
            }
            Kind::Date(relation) => {
                Operands::Dates(relation, each(texts.map(plain), "a time", date::parse)?)
            }
            Kind::Bool => {
                Operands::Bools(each(texts.map(plain), "\"true\" or \"false\"", boolean)?)
            }
            Kind::Binary => Operands::Binaries(each(texts.map(plain), "base64", |text| {
                let bytes = base64_simd::STANDARD.decode_to_vec(text).ok()?;
                Some(bytes.into_boxed_slice())
            })?),
            Kind::Network => Operands::Networks(each(
                texts.map(plain),
                "an address or a range of addresses",
                Network::parse,
            )?),
        })
    }
}

fn text(value: Json) -> Result<String, InvalidPolicy> {
    match value {
        Json::Text(text) | Json::Number(text) => Ok(text),
        Json::Bool(value) => Ok(value.to_string()),
        _ => refuse("neither a value nor a list of values"),
    }
}

fn no_variable(text: String) -> Result<String, InvalidPolicy> {
    if text.contains("${") {
        return refuse(format!(
            "{text:?}: policy variables stand in string and ARN conditions only"
        ));
    }
    Ok(text)
}

fn all<T>(
    texts: impl Iterator<Item = Result<String, InvalidPolicy>>,
    compile: impl Fn(String) -> Result<T, InvalidPolicy>,
) -> Result<Box<[T]>, InvalidPolicy> {
    texts.map(|text| compile(text?)).collect()
}

fn each<T>(
    texts: impl Iterator<Item = Result<String, InvalidPolicy>>,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Box<[T]>, InvalidPolicy> {
    let mut parsed = Vec::new();
    for text in texts {
        let text = text?;
        match parse(&text) {
            Some(value) => parsed.push(value),
            None => return refuse(format!("{text:?}: not {what}")),
        }
    }
    Ok(parsed.into())
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find_map(|(name, value)| text.eq_ignore_ascii_case(name).then_some(value))
}

/// Decimal notation without exponent.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let formed = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits.len() <= NUMBER_CHARACTERS_MAX;
    formed.then(|| text.parse().ok())?
}

/// Characters of a number, sign aside.
const NUMBER_CHARACTERS_MAX: usize = 32;

impl Relation {
    fn holds<T: PartialOrd>(self, value: T, operand: T) -> bool {
        match self {
            Self::Equal => value == operand,
            Self::Less => value < operand,
            Self::LessOrEqual => value <= operand,
            Self::Greater => value > operand,
            Self::GreaterOrEqual => value >= operand,
        }
    }
}

/// The steps of reading a value as text, a number, a time or an address.
const VALUE_STEPS: usize = 32;

impl Operands {
    /// The steps of comparing a value with all operands; patterns count their own.
    fn steps(&self) -> usize {
        match self {
            Self::Texts(..) | Self::Arns(_) => 0,
            Self::Numbers(_, operands) => operands.len(),
            Self::Dates(_, operands) => operands.len(),
            Self::Bools(operands) => operands.len(),
            Self::Binaries(operands) => operands.len(),
            Self::Networks(operands) => operands.len(),
        }
    }

    /// Whether one of the operands matches the value.
    pub(super) fn any(&self, value: Value<'_>, facts: &Facts<'_>) -> Match {
        if facts.steps.are_spent() {
            return Match::Unknown;
        }
        facts.steps.spend(VALUE_STEPS + self.steps());
        match self {
            Self::Texts(case, templates) => {
                let text = value.text();
                let matched = |template: &Template| template.matches(text.as_str(), facts, *case);
                Match::any(templates.iter().map(matched))
            }
            Self::Arns(patterns) => {
                let text = value.text();
                // A value that is not an ARN is of another type.
                let Some(arn) = Arn::split(text.as_str()) else {
                    return Match::Unknown;
                };
                Match::any(patterns.iter().map(|pattern| pattern.matches(arn, facts)))
            }
            Self::Numbers(relation, operands) => {
                known(as_number(value), operands, |value, operand| {
                    relation.holds(value, *operand)
                })
            }
            Self::Dates(relation, operands) => {
                known(as_micros(value), operands, |value, operand| {
                    relation.holds(value, *operand)
                })
            }
            Self::Bools(operands) => {
                known(as_bool(value), operands, |value, operand| value == *operand)
            }
            Self::Binaries(operands) => {
                let text = value.text();
                known(Some(text.as_str()), operands, |value, operand| {
                    *value.as_bytes() == **operand
                })
            }
            Self::Networks(operands) => known(as_address(value), operands, |value, operand| {
                operand.contains(value)
            }),
        }
    }
}

/// A value of another type neither matches nor fails to match.
fn known<V: Copy, T>(value: Option<V>, operands: &[T], matches: impl Fn(V, &T) -> bool) -> Match {
    match value {
        None => Match::Unknown,
        Some(value) if operands.iter().any(|operand| matches(value, operand)) => Match::Yes,
        Some(_) => Match::No,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of requests are far below 2^53"
)]
fn as_number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(value) => Some(value as f64),
        Value::Text(text) => number(text),
        _ => None,
    }
}

fn as_micros(value: Value<'_>) -> Option<Micros> {
    match value {
        Value::Time(time) => i64::try_from(time.0).ok(),
        Value::Number(seconds) => seconds.checked_mul(1_000_000),
        Value::Text(text) => date::parse(text),
        _ => None,
    }
}

fn as_bool(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        Value::Text(text) => boolean(text),
        _ => None,
    }
}

fn as_address(value: Value<'_>) -> Option<std::net::IpAddr> {
    match value {
        Value::Address(address) => Some(address),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}
