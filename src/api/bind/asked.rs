//! The query of a stream of containers.

use crate::api::bind::columns::ContextPairs;
use crate::api::generate::Asked as Length;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::{ApiError, KmsErrorCode};
use crate::context::EncryptionContext;
use crate::key::data_key::DataKeyLength;
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::collections::BTreeMap;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) key_id: String,
    pub(super) length: DataKeyLength,
    pub(super) pairs: ContextPairs,
    /// The same as a JSON object, for the audit log.
    pub(super) record: Vec<u8>,
}

impl Asked {
    /// Reads `key=…&spec=AES_256|AES_128` or `bytes=…`, `&context=column,column` and any number of `&pair=name=value`: form-encoded, each but `pair` once.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let (mut key, mut spec, mut bytes, mut columns) = (None, None, None, None);
        let mut constants = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let place = match name.as_str() {
                "key" => &mut key,
                "spec" => &mut spec,
                "bytes" => &mut bytes,
                "context" => &mut columns,
                "pair" => {
                    let pair = value.split_once('=');
                    let (name, value) =
                        pair.ok_or_else(|| invalid("pair must be name=value.".to_owned()))?;
                    constants.push((name.to_owned(), value.to_owned()));
                    continue;
                }
                _ => return Err(invalid(format!("There is no parameter {name:?}."))),
            };
            if place.replace(value).is_some() {
                return Err(invalid(format!("{name} is given twice.")));
            }
        }
        let number = match &bytes {
            Some(bytes) => Some(
                bytes
                    .parse::<i64>()
                    .map_err(|_| invalid("bytes must be a number.".to_owned()))?,
            ),
            None => None,
        };
        let mut violations = Violations::default();
        let key_id = key.as_deref();
        violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
        let length = Length::check(spec.as_deref(), number, &mut violations);
        violations.check()?;
        let columns = columns.filter(|names| !names.is_empty());
        let columns = columns.iter().flat_map(|names| names.split(','));
        let pairs = ContextPairs {
            columns: columns.map(ToOwned::to_owned).collect(),
            constants,
        };
        check_names(&pairs)?;
        let constants = pairs.constants.iter().cloned();
        let record = json!({
            "KeyId": key,
            "KeySpec": spec,
            "NumberOfBytes": number,
            "ContextColumns": pairs.columns,
            "EncryptionContext": constants.collect::<BTreeMap<_, _>>(),
        });
        Ok(Self {
            key_id: key.unwrap_or_default(),
            length: length.length()?,
            pairs,
            record: record.to_string().into_bytes(),
        })
    }
}

/// No name twice, and no more than one context can hold.
fn check_names(pairs: &ContextPairs) -> Result<(), ApiError> {
    let columns = pairs.columns.iter().map(|name| (name.as_str(), ""));
    let constants = pairs.constants.iter();
    let constants = constants.map(|(name, value)| (name.as_str(), value.as_str()));
    let sound = EncryptionContext::from_pairs(columns.chain(constants));
    sound
        .map(drop)
        .map_err(|error| invalid(format!("context and pair: {error}.")))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(KmsErrorCode::ValidationException, message)
}

fn decoded(text: &str) -> Result<String, ApiError> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    let decoded = decoded.map_err(|_| invalid("The query is no UTF-8 text.".to_owned()))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        let asked = Asked::parse(
            "key=alias%2Fa&spec=AES_128&context=tenant%2Ccontainer+id&pair=purpose%3Dvolume&pair=a=b=c",
        )
        .unwrap();
        assert_eq!(asked.key_id, "alias/a");
        assert_eq!(asked.length, DataKeyLength::AES_128);
        assert_eq!(asked.pairs.columns, ["tenant", "container id"]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            asked.pairs.constants,
            [pair("purpose", "volume"), pair("a", "b=c")]
        );
        let record: serde_json::Value = serde_json::from_slice(&asked.record).unwrap();
        assert_eq!(record["EncryptionContext"]["a"], "b=c");
        let asked = Asked::parse("bytes=7&key=k").unwrap();
        assert_eq!(
            (asked.length.bytes(), asked.pairs),
            (7, ContextPairs::default())
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let large = format!("key=k&spec=AES_256&pair=a={}", "x".repeat(8192));
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
            ("key=k&spec=AES_256&pair=a", "name=value"),
            ("key=k&spec=AES_256&context=a,a", "names each pair once"),
            (
                "key=k&spec=AES_256&context=a&pair=a=1",
                "names each pair once",
            ),
            ("key=k&spec=AES_256&context=%ff", "no UTF-8"),
            (&large, "at most 8192 bytes"),
        ] {
            let error = Asked::parse(query).unwrap_err();
            assert_eq!(error.code(), KmsErrorCode::ValidationException, "{query}");
            assert!(
                error.message().contains(said),
                "{query}: {}",
                error.message()
            );
        }
    }
}
