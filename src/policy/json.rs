//! A small tree of JSON values from which policies are read, and tokens of other issuers.
//!
//! It is used because derived types would accept an array for an object, `null` for an absent
//! element, and the last of two members with the same name.

use crate::policy::error::{InvalidPolicy, refuse};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A JSON value, as far as policies need it. The members of an object have different names.
pub(crate) enum Json {
    Object(Vec<(String, Self)>),
    Array(Vec<Self>),
    Text(String),
    Bool(bool),
    /// In decimal notation.
    Number(String),
    Null,
}

/// The most members of one object, which keeps the search for duplicates short. No object of a real
/// policy or token has as many.
const OBJECT_MEMBERS_MAX: usize = 256;

/// The values of an element that is one value or a list of them.
pub(super) fn one_or_more(element: &str, value: Json) -> Result<Vec<Json>, InvalidPolicy> {
    match value {
        Json::Array(values) if values.is_empty() => refuse(format!("{element}: an empty list")),
        Json::Array(values) => Ok(values),
        value => Ok(vec![value]),
    }
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

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
}
