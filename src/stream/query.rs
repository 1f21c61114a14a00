//! The query of a stream of containers.

use crate::api::generate::{check_length, no_length};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::{ApiError, ErrorCode};
use crate::columns::names::listed;
use crate::columns::{ContextPairs, ContextSource, Shown};
use crate::context::EncryptionContext;
use crate::key::data_key::DataKeyLength;
use crate::stream::purpose::Purpose;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The column of maps that contexts are in where the query names none.
const MAPS: &str = "encryption_context";

/// The parameters of a request: form-encoded, each but those of contexts once.
#[derive(Debug, Default)]
pub(super) struct Query {
    key: Option<String>,
    spec: Option<String>,
    bytes: Option<String>,
    /// Any number of `context=column,column` and `constant=name=value`.
    pub(super) pairs: ContextPairs,
    /// Whether there was one of them: `context=` alone is a context without pairs.
    has_pairs: bool,
    /// `map=column`.
    map: Option<String>,
    /// The same of the contexts to come.
    new_pairs: ContextPairs,
    has_new_pairs: bool,
    new_map: Option<String>,
}

impl Query {
    pub(super) fn parse(purpose: Purpose, query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            // Each endpoint has parameters of its own; all but those of contexts come once.
            let place = match (name.as_str(), purpose) {
                ("key", Purpose::Bind | Purpose::Rewrap) => &mut parsed.key,
                ("spec", Purpose::Bind) => &mut parsed.spec,
                ("bytes", Purpose::Bind) => &mut parsed.bytes,
                ("context", _) => {
                    parsed.has_pairs = true;
                    add_columns(&mut parsed.pairs, &name, &value)?;
                    continue;
                }
                ("map", Purpose::Rewrap | Purpose::Verify) => &mut parsed.map,
                ("new-context", Purpose::Rewrap) => {
                    parsed.has_new_pairs = true;
                    add_columns(&mut parsed.new_pairs, &name, &value)?;
                    continue;
                }
                ("new-map", Purpose::Rewrap) => &mut parsed.new_map,
                ("constant", _) | ("new-constant", Purpose::Rewrap) => {
                    let pair = value.split_once('=');
                    let (of_pair, value) =
                        pair.ok_or_else(|| invalid(format!("{name} must be name=value.")))?;
                    let (pairs, has_pairs) = match name.as_str() {
                        "constant" => (&mut parsed.pairs, &mut parsed.has_pairs),
                        _ => (&mut parsed.new_pairs, &mut parsed.has_new_pairs),
                    };
                    *has_pairs = true;
                    let pair = (of_pair.to_owned(), value.to_owned());
                    pairs.constants.push(pair);
                    continue;
                }
                _ => return Err(invalid(format!("There is no parameter {}.", Shown(&name)))),
            };
            if place.replace(value).is_some() {
                return Err(invalid(format!("{name} is given twice.")));
            }
        }
        Ok(parsed)
    }

    /// The key and the length of data keys, and the query as a JSON object, for the audit log.
    pub(super) fn data_keys(&self) -> Result<(String, DataKeyLength, Vec<u8>), ApiError> {
        let bytes = self
            .bytes
            .as_ref()
            .map(|bytes| bytes.parse::<i64>())
            .transpose()
            .map_err(|_| invalid("bytes must be a number.".to_owned()))?;
        let mut violations = Violations::default();
        let (key, max) = (self.key.as_deref(), KEY_ID_CHARACTERS_MAX);
        let key = violations.required_text("keyId", key, max, Some(&ASCII));
        let length = check_length(self.spec.as_deref(), bytes, &mut violations);
        let key = violations.check(key)?.to_owned();
        check_names(&self.pairs)?;
        let record = json!({
            "KeyId": self.key,
            "KeySpec": self.spec,
            "NumberOfBytes": bytes,
            "ContextColumns": self.pairs.columns,
            "EncryptionContext": constants(&self.pairs),
        });
        let length = length.ok_or_else(no_length)?;
        Ok((key, length, record.to_string().into_bytes()))
    }

    /// The key that blobs are to be under.
    pub(super) fn destination(&self) -> Result<String, ApiError> {
        let mut violations = Violations::default();
        let (key, max) = (self.key.as_deref(), KEY_ID_CHARACTERS_MAX);
        let key = violations.required_text("destinationKeyId", key, max, Some(&ASCII));
        violations.check(key).map(ToOwned::to_owned)
    }

    /// What blobs are bound to.
    pub(super) fn contexts(&self) -> Result<ContextSource, ApiError> {
        let pairs = self.has_pairs.then_some(&self.pairs);
        let source = source(pairs, self.map.as_ref())?;
        Ok(source.unwrap_or_else(|| ContextSource::Map(MAPS.to_owned())))
    }

    /// What they are to be bound to; `None` is the same.
    pub(super) fn new_contexts(&self) -> Result<Option<ContextSource>, ApiError> {
        let pairs = self.has_new_pairs.then_some(&self.new_pairs);
        source(pairs, self.new_map.as_ref())
    }
}

/// Adds the columns of one parameter. An empty one is a context of no columns, which differs from
/// none given.
fn add_columns(pairs: &mut ContextPairs, parameter: &str, value: &str) -> Result<(), ApiError> {
    if value.is_empty() {
        return Ok(());
    }
    let names = listed(value).map_err(|error| invalid(format!("{parameter}: {error}.")))?;
    let names = names.into_iter().map(|listed| listed.name);
    pairs.columns.extend(names);
    Ok(())
}

fn source(
    pairs: Option<&ContextPairs>,
    map: Option<&String>,
) -> Result<Option<ContextSource>, ApiError> {
    match (map, pairs) {
        (Some(column), None) => Ok(Some(ContextSource::Map(column.clone()))),
        (Some(_), Some(_)) => Err(invalid(
            "Contexts are in a column of maps or in others, not in both.".to_owned(),
        )),
        (None, None) => Ok(None),
        (None, Some(pairs)) => {
            check_names(pairs)?;
            Ok(Some(ContextSource::Pairs(pairs.clone())))
        }
    }
}

/// Where contexts are, as the audit log has it: columns, and the pairs of all rows.
pub(super) fn shown(source: &ContextSource) -> (Value, Value) {
    match source {
        ContextSource::Map(column) => (json!([column]), json!({})),
        ContextSource::Pairs(pairs) => (json!(pairs.columns), json!(constants(pairs))),
    }
}

fn constants(pairs: &ContextPairs) -> BTreeMap<&str, &str> {
    let constants = pairs.constants.iter();
    constants
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// No name twice, and no more than one context can hold.
fn check_names(pairs: &ContextPairs) -> Result<(), ApiError> {
    let columns = pairs.columns.iter().map(|name| (name.as_str(), ""));
    let constants = pairs
        .constants
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let sound = EncryptionContext::from_pairs(columns.chain(constants));
    sound
        .map(drop)
        .map_err(|error| invalid(format!("context and constant: {error}.")))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

fn decoded(text: &str) -> Result<String, ApiError> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text)
        .decode_utf8()
        .map_err(|_| invalid("The query is not UTF-8 text.".to_owned()))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        let parsed = Query::parse(
            Purpose::Bind,
            "key=alias%2Fa&spec=AES_128&context=tenant%2Ccontainer+id&constant=purpose%3Dvolume&constant=a=b=c",
        )
        .unwrap();
        let (key_id, length, record) = parsed.data_keys().unwrap();
        assert_eq!(
            (key_id.as_str(), length),
            ("alias/a", DataKeyLength::AES_128)
        );
        assert_eq!(parsed.pairs.columns, ["tenant", "container id"]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            parsed.pairs.constants,
            [pair("purpose", "volume"), pair("a", "b=c")]
        );
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["EncryptionContext"]["a"], "b=c");
        let query = "key=k&context=%22a,b%22,c.d&constant=a=b&context=e%3Df";
        let parsed = Query::parse(Purpose::Bind, query).unwrap();
        assert_eq!(parsed.pairs.columns, ["a,b", "c.d", "e=f"]);
        let parsed = Query::parse(Purpose::Bind, "bytes=7&key=k").unwrap();
        assert_eq!(parsed.data_keys().unwrap().1.bytes(), 7);
        assert_eq!(parsed.pairs, ContextPairs::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let large = format!("key=k&spec=AES_256&constant=a={}", "x".repeat(8192));
        for (query, said) in [
            ("", "keyId"),
            ("spec=AES_256", "keyId"),
            ("key=k", "either number of bytes or key spec"),
            (
                "key=k&spec=AES_256&bytes=32",
                "either number of bytes or key spec",
            ),
            ("key=k&spec=AES_192", "keySpec"),
            ("key=k&bytes=0", "numberOfBytes"),
            ("key=k&bytes=1025", "numberOfBytes"),
            ("key=k&bytes=x", "bytes must be a number"),
            ("key=k&spec=AES_256&key=k", "key is given twice"),
            ("key=k&spec=AES_256&count=1", "no parameter \"count\""),
            ("key=k&spec=AES_256&constant=a", "name=value"),
            ("key=k&spec=AES_256&context=a,a", "names each pair once"),
            (
                "key=k&spec=AES_256&context=a&constant=a=1",
                "names each pair once",
            ),
            (
                "key=k&spec=AES_256&context=a&context=a",
                "names each pair once",
            ),
            (
                "key=k&spec=AES_256&context=a,",
                "context: a column has no name",
            ),
            (
                "key=k&spec=AES_256&context=%22a",
                "context: a quote is not closed",
            ),
            ("key=k&spec=AES_256&context=%ff", "not UTF-8"),
            (&large, "at most 8192 bytes"),
        ] {
            let parsed = Query::parse(Purpose::Bind, query);
            let error = parsed.and_then(|parsed| parsed.data_keys()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::ValidationException, "{query}");
            assert!(
                error.message().contains(said),
                "{query}: {}",
                error.message()
            );
        }
    }
    #[test]
    fn contexts_are_maps_or_columns_and_new_ones_the_same_unless_they_are_named() {
        let rewrap = |query| Query::parse(Purpose::Rewrap, query).unwrap();
        let map = |name: &str| ContextSource::Map(name.to_owned());
        let plain = rewrap("key=k");
        assert_eq!(plain.destination().unwrap(), "k");
        assert_eq!(plain.contexts().unwrap(), map("encryption_context"));
        assert_eq!(plain.new_contexts().unwrap(), None);
        let named = rewrap("key=k&map=old&new-context=tenant&new-constant=zone%3Da");
        assert_eq!(named.contexts().unwrap(), map("old"));
        let new = ContextPairs {
            columns: vec!["tenant".to_owned()],
            constants: vec![("zone".to_owned(), "a".to_owned())],
        };
        assert_eq!(
            named.new_contexts().unwrap(),
            Some(ContextSource::Pairs(new))
        );
        let none = ContextSource::Pairs(ContextPairs::default());
        let without = rewrap("key=k&context=&new-context");
        assert_eq!(without.contexts().unwrap(), none);
        assert_eq!(without.new_contexts().unwrap(), Some(none));
        assert_eq!(rewrap("key=k&context=").new_contexts().unwrap(), None);
    }

    #[test]
    fn a_stream_takes_no_parameter_of_another() {
        let both = "context=a&map=b";
        for (purpose, query, said) in [
            (Purpose::Verify, "key=k", "no parameter \"key\""),
            (Purpose::Verify, "new-context=a", "no parameter"),
            (Purpose::Rewrap, "spec=AES_256", "no parameter \"spec\""),
            (
                Purpose::Rewrap,
                "new-constant=a",
                "new-constant must be name=value",
            ),
            (Purpose::Bind, "map=a", "no parameter \"map\""),
            (Purpose::Bind, "new-constant=a=b", "no parameter"),
            (Purpose::Rewrap, "new-map=a&new-map=b", "given twice"),
            (Purpose::Verify, both, "not in both"),
            (Purpose::Verify, "context=&map=b", "not in both"),
            (Purpose::Rewrap, "context=a,a", "names each pair once"),
        ] {
            let parsed = Query::parse(purpose, query);
            let error = parsed.and_then(|parsed| parsed.contexts()).unwrap_err();
            assert!(error.message().contains(said), "{}", error.message());
        }
        let unnamed = Query::parse(Purpose::Rewrap, "map=a").unwrap();
        assert!(
            unnamed
                .destination()
                .unwrap_err()
                .message()
                .contains("destinationKeyId")
        );
    }
}
