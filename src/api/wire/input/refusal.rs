//! Which member of a body is not of its type.
//!
//! The refusal names the member and nothing of its value, which may be a plaintext.

use crate::api::wire::input::CowText;
use crate::api::{ApiError, ErrorCode};
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The refusal of a body that a parser stopped at.
pub(super) fn refusal(body: &[u8], stopped: &serde_json::Error) -> ApiError {
    let before = offset(body, stopped);
    let Some(member) = (Members { body, before }).find() else {
        return no_object();
    };
    let message = format!(
        "{} is not of the type or form that this operation takes.",
        &*member
    );
    ApiError::new(ErrorCode::SerializationException, message)
}

/// The refusal of a body that is not one JSON object.
pub(super) fn no_object() -> ApiError {
    let message = "The body is not a JSON object.";
    ApiError::new(ErrorCode::SerializationException, message)
}

/// How many bytes the parser had read.
fn offset(body: &[u8], stopped: &serde_json::Error) -> usize {
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.take(stopped.line().saturating_sub(1));
    whole.map(<[u8]>::len).sum::<usize>() + stopped.column()
}

/// Looks for the first member that does not end before an offset, or else for the last: of a value
/// that was read and then refused, the parser is past the end.
#[derive(Clone, Copy)]
struct Members<'a> {
    body: &'a [u8],
    before: usize,
}

impl<'a> Members<'a> {
    /// `None` when the body is not one JSON object at all.
    fn find(self) -> Option<CowText<'a>> {
        let mut parser = serde_json::Deserializer::from_slice(self.body);
        let found = self.deserialize(&mut parser).ok()?;
        parser.end().ok()?;
        found
    }
}

impl<'a> DeserializeSeed<'a> for Members<'a> {
    type Value = Option<CowText<'a>>;

    fn deserialize<D: Deserializer<'a>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = Option<CowText<'a>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut is_past) = (None, true);
        while let Some((name, value)) = map.next_entry::<CowText<'a>, &'a RawValue>()? {
            let start = value.get().as_ptr().addr() - self.body.as_ptr().addr();
            if is_past {
                found = Some(name);
                is_past = start + value.get().len() < self.before;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::wire::input::{Blob, ContextMember, Text, decode};
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'a"))]
    #[expect(dead_code, reason = "read for the refusals alone")]
    struct Input<'a> {
        key_id: Text<'a>,
        number_of_bytes: Option<i64>,
        grant_tokens: Option<Vec<String>>,
        #[serde(default)]
        encryption_context: ContextMember,
        plaintext: Option<Blob>,
    }

    fn message(body: &str) -> String {
        let refused = decode::<Input<'_>>(body.as_bytes()).err();
        refused.expect(body).message().to_owned()
    }

    #[test]
    fn the_member_is_named_and_its_value_is_not() {
        for (body, member) in [
            (r#"{"KeyId":7}"#, "KeyId"),
            (r#"{"NumberOfBytes":"secret"}"#, "NumberOfBytes"),
            (
                r#"{"A":{"b":1},"NumberOfBytes": 3.5 ,"Z":1}"#,
                "NumberOfBytes",
            ),
            (
                "{\n\"A\": \"x\",\n \"GrantTokens\": [\"secret\",\n 7],\n\"Z\": []}",
                "GrantTokens",
            ),
            (r#"{"KeyId":"a","KeyId":"secret"}"#, "KeyId"),
            (
                r#"{"KeyId":"a","EncryptionContext":{"secret":1}}"#,
                "EncryptionContext",
            ),
            (
                r#"{"EncryptionContext":{"secret":"1","secret":"2"},"KeyId":"a"}"#,
                "EncryptionContext",
            ),
            (r#"{"Plaintext":"secret!","KeyId":"a"}"#, "Plaintext"),
            (r#"{"Plaintext":["secret"],"KeyId":"a"}"#, "Plaintext"),
            ("{\"KeyId\":\"a\",\"Plaintext\":\"secret!\"\n}", "Plaintext"),
        ] {
            let expected =
                format!("{member} is not of the type or form that this operation takes.");
            assert_eq!(message(body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_object_has_no_member_to_name() {
        for body in ["", "[]", "{", r#"{"KeyId":}"#, r#"{"KeyId":7} x"#] {
            assert_eq!(message(body), "The body is not a JSON object.", "{body}");
        }
    }
}
