//! Policy JSON to typed statements; strict.
//!
//! The grammar is a subset of the IAM policy language of 2012-10-17: what is not understood is refused with its place, because an element
//! that is skipped changes what a policy means. Parsing goes through a small tree of values rather than derived types: those would take an
//! array for an object, `null` for an absent element, and the last of two members of one name.
//!
//! Source: AWS IAM, "Grammar of the IAM JSON policy language",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>.

use crate::key::arn::Arn;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A parsed identity policy.
pub struct PolicyDocument {
    source: Box<str>,
    pub(super) statements: Box<[Statement]>,
}

/// A policy that is refused, with the place and the reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPolicy(pub String);

/// One statement: it speaks of the requests of which one pattern of each list matches.
pub(super) struct Statement {
    pub(super) effect: Effect,
    pub(super) actions: Box<[Box<str>]>,
    pub(super) resources: Box<[ResourcePattern]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// What a statement is about.
pub(super) enum ResourcePattern {
    /// `*`: every key and alias, and what is about none.
    Any,
    /// An ARN whose parts are patterns: text that [`Arn::split`] splits.
    Arn(Box<str>),
}

impl PolicyDocument {
    /// Bytes of a document at most: the quota of AWS KMS for a key policy.
    pub const BYTES_MAX: usize = 32_768;
    /// Statements of a document at most: every decision may walk them all.
    pub const STATEMENTS_MAX: usize = 128;

    /// Parses and compiles the JSON text; an unknown element is an error.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn parse(json: &str) -> Result<Self, InvalidPolicy> {
        if json.len() > Self::BYTES_MAX {
            return refuse(format!(
                "a policy has at most {} bytes, this one {}",
                Self::BYTES_MAX,
                json.len()
            ));
        }
        let tree =
            serde_json::from_str(json).map_err(|error| InvalidPolicy(format!("JSON: {error}")))?;
        Ok(Self {
            source: json.into(),
            statements: statements(tree)?,
        })
    }

    /// The JSON text as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A JSON value, as far as policies have any use for it. An object's members have different names.
enum Json {
    Object(Vec<(String, Self)>),
    Array(Vec<Self>),
    Text(String),
    /// A number, a boolean or null.
    Other,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, InvalidPolicy> {
    Err(InvalidPolicy(reason.into()))
}

fn statements(document: Json) -> Result<Box<[Statement]>, InvalidPolicy> {
    let Json::Object(members) = document else {
        return refuse("a policy is a JSON object");
    };
    let mut statements = None;
    for (name, value) in members {
        match (name.as_str(), value) {
            ("Version", Json::Text(version))
                if ["2012-10-17", "2008-10-17"].contains(&version.as_str()) => {}
            ("Version", _) => return refuse("Version: either 2012-10-17 or 2008-10-17"),
            ("Id", Json::Text(_)) => {}
            ("Id", _) => return refuse("Id: not a string"),
            ("Statement", value) => statements = Some(one_or_more("Statement", value)?),
            _ => return refuse(format!("unknown element {name:?}")),
        }
    }
    let Some(statements) = statements else {
        return refuse("Statement: missing");
    };
    if statements.len() > PolicyDocument::STATEMENTS_MAX {
        return refuse(format!(
            "Statement: at most {}, this policy has {}",
            PolicyDocument::STATEMENTS_MAX,
            statements.len()
        ));
    }
    let statements = statements.into_iter().enumerate().map(|(at, value)| {
        statement(value).map_err(|reason| InvalidPolicy(format!("Statement {}: {reason}", at + 1)))
    });
    statements.collect()
}

fn statement(statement: Json) -> Result<Statement, InvalidPolicy> {
    let Json::Object(members) = statement else {
        return refuse("not an object");
    };
    let (mut effect, mut actions, mut resources) = (None, None, None);
    for (name, value) in members {
        match (name.as_str(), value) {
            ("Sid", Json::Text(_)) => {}
            ("Sid", _) => return refuse("Sid: not a string"),
            ("Effect", Json::Text(text)) if text == "Allow" => effect = Some(Effect::Allow),
            ("Effect", Json::Text(text)) if text == "Deny" => effect = Some(Effect::Deny),
            ("Effect", _) => return refuse("Effect: either \"Allow\" or \"Deny\""),
            ("Action", value) => actions = Some(patterns("Action", value, action)?),
            ("Resource", value) => resources = Some(patterns("Resource", value, resource)?),
            ("Principal" | "NotPrincipal", _) => {
                return refuse(format!(
                    "{name} is not supported in identity policies: they speak of whom they are attached to"
                ));
            }
            ("NotAction" | "NotResource" | "Condition", _) => {
                return refuse(format!("{name} is not supported yet in identity policies"));
            }
            _ => return refuse(format!("unknown element {name:?}")),
        }
    }
    match (effect, actions, resources) {
        (Some(effect), Some(actions), Some(resources)) => Ok(Statement {
            effect,
            actions,
            resources,
        }),
        (None, ..) => refuse("Effect: missing"),
        (_, None, _) => refuse("Action: missing"),
        (.., None) => refuse("Resource: missing"),
    }
}

fn one_or_more(element: &str, value: Json) -> Result<Vec<Json>, InvalidPolicy> {
    match value {
        Json::Array(values) if values.is_empty() => refuse(format!("{element}: an empty list")),
        Json::Array(values) => Ok(values),
        value => Ok(vec![value]),
    }
}

fn patterns<T>(
    element: &str,
    value: Json,
    parse: impl Fn(String) -> Result<T, InvalidPolicy>,
) -> Result<Box<[T]>, InvalidPolicy> {
    let patterns = one_or_more(element, value)?
        .into_iter()
        .map(|value| match value {
            Json::Text(text) => {
                parse(text).map_err(|reason| InvalidPolicy(format!("{element}: {reason}")))
            }
            _ => refuse(format!("{element}: neither a string nor a list of strings")),
        });
    patterns.collect()
}

/// `*`, or `<service>:<name>` with wildcards in the name only. Another service's action is well-formed and matches nothing here.
fn action(text: String) -> Result<Box<str>, InvalidPolicy> {
    let service = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let name = |byte: u8| byte.is_ascii_alphanumeric() || is_wildcard(byte);
    let formed = text == "*"
        || text.split_once(':').is_some_and(|(of, to)| {
            !of.is_empty() && of.bytes().all(service) && !to.is_empty() && to.bytes().all(name)
        });
    if formed {
        return Ok(text.into());
    }
    refuse(format!("{text:?} is neither * nor <service>:<action>"))
}

/// `*`, or an ARN with wildcards in any part after `arn:`.
fn resource(text: String) -> Result<ResourcePattern, InvalidPolicy> {
    if text == "*" {
        return Ok(ResourcePattern::Any);
    }
    // Taken literally, a variable in a deny would never match.
    if text.contains('$') {
        return refuse(format!(
            "{text:?}: policy variables are not supported yet in identity policies"
        ));
    }
    // `?` stands for one character, and matching goes by bytes.
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    match Arn::split(&text) {
        Some(arn) if graphic && ![arn.partition, arn.service, arn.resource].contains(&"") => {
            Ok(ResourcePattern::Arn(text.into()))
        }
        _ => refuse(format!(
            "{text:?} is neither * nor arn:<partition>:<service>:<region>:<account>:<resource>"
        )),
    }
}

/// Whether the byte of a pattern stands for others: `*` for any number of them, `?` for one.
pub(super) fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'*' | b'?')
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if members.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(format_args!("duplicate element {name:?}")));
            }
            // Keeps the search above short: no object of a policy has more elements, unknown ones refused.
            if members.len() == OBJECT_MEMBERS_MAX {
                return Err(A::Error::custom("an object with too many elements"));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }
}

/// Members of one object at most.
const OBJECT_MEMBERS_MAX: usize = 64;

#[cfg(test)]
mod tests;
