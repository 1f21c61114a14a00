//! Request bodies to values.

use crate::api::{ApiError, ErrorCode};
use crate::context::{EncryptionContext, InvalidContext};
use crate::crypto::secret::SecretBytes;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use zeroize::Zeroize;

mod refusal;

/// Declares the input of an operation: a struct whose members are read from a body under their
/// names in AWS's spelling, and borrow from it. A member is an option, or has a default of its own
/// as [`ContextMember`] has, because a member that is missing is a matter of validation.
///
/// Operations that are not AWS's add `#[serde(deny_unknown_fields)]`: no client of theirs is newer
/// than the daemon.
macro_rules! input {
    ($($item:tt)+) => {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'a"))]
        $($item)+
    };
}
pub(crate) use input;

/// Text that is borrowed from the body where it has no escapes.
pub(crate) type Text<'a> = Option<CowText<'a>>;

/// Parses a body.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    // An array would be taken for the members in order.
    if first != Some(&b'{') {
        return Err(refusal::no_object());
    }
    serde_json::from_slice(body).map_err(|stopped| refusal::refusal(body, &stopped))
}

/// An encryption context, or one that is too large, which is refused after the other members were
/// checked.
pub(crate) enum ContextMember {
    Sound(EncryptionContext),
    TooLarge,
}

impl ContextMember {
    /// The context, unless it is too large. A request that gives none has the empty one.
    pub(crate) fn sound(&self) -> Result<&EncryptionContext, ApiError> {
        match self {
            Self::Sound(context) => Ok(context),
            Self::TooLarge => Err(ApiError::new(
                ErrorCode::ValidationException,
                "EncryptionContext is larger than 8192 bytes in canonical form.",
            )),
        }
    }
}

impl Default for ContextMember {
    fn default() -> Self {
        Self::Sound(EncryptionContext::default())
    }
}

impl<'de> Deserialize<'de> for ContextMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = ContextMember;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map of strings to strings")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<ContextMember, E> {
        Ok(ContextMember::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<ContextMember, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ContextMember, A::Error> {
        let mut pairs = SmallVec::<[(CowText<'de>, CowText<'de>); 4]>::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        let pairs = pairs.iter().map(|(name, value)| (&*name.0, &*value.0));
        match EncryptionContext::from_pairs(pairs) {
            Ok(context) => Ok(ContextMember::Sound(context)),
            Err(InvalidContext::TooLarge) => Ok(ContextMember::TooLarge),
            Err(error @ InvalidContext::DuplicateName) => Err(A::Error::custom(error)),
        }
    }
}

/// A borrowed `Cow`. Serde borrows one only with this attribute, which the element of an option, a
/// list or a map cannot have.
/// An input that holds one says once that it borrows: `bound(deserialize = "'de: 'a")`.
#[derive(Deserialize)]
pub(crate) struct CowText<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for CowText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A map of texts to texts, in the order of the request. Without it, one of two equal names would
/// win.
pub(crate) struct TextMap<'a>(Vec<(CowText<'a>, CowText<'a>)>);

impl<'a> TextMap<'a> {
    pub(crate) fn pairs(&self) -> &[(CowText<'a>, CowText<'a>)] {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TextMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Texts).map(TextMap)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<(CowText<'de>, CowText<'de>)>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map of strings to strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Self::Value = Vec::new();
        let mut names = BTreeSet::new();
        while let Some((name, value)) = map.next_entry::<CowText<'de>, CowText<'de>>()? {
            if !names.insert(name.to_string()) {
                return Err(A::Error::custom("a name is there twice"));
            }
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

/// A blob member: standard base64 with padding and without line breaks, decoded; wiped when
/// dropped, because it may be a plaintext.
pub(crate) struct Blob(SecretBytes);

impl Blob {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let CowText(text) = CowText::deserialize(deserializer)?;
        let mut decoded = base64_simd::STANDARD
            .decode_to_vec(text.as_bytes())
            .map_err(|_| D::Error::custom("not base64"))?;
        if let Cow::Owned(mut text) = text {
            text.zeroize();
        }
        let blob = SecretBytes::copy_of(&decoded);
        decoded.zeroize();
        Ok(Self(blob))
    }
}

/// A text that is secret: wiped when dropped.
pub(crate) struct SecretText(SecretBytes);

impl SecretText {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// The same text once more, wiped apart.
    pub(crate) fn copied(&self) -> SecretBytes {
        SecretBytes::copy_of(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let CowText(text) = CowText::deserialize(deserializer)?;
        let secret = SecretBytes::copy_of(text.as_bytes());
        if let Cow::Owned(mut text) = text {
            text.zeroize();
        }
        Ok(Self(secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    input! {
        struct Input<'a> {
            key_id: Text<'a>,
            number_of_bytes: Option<i64>,
            encryption_context: ContextMember,
            plaintext: Option<Blob>,
        }
    }

    input! {
        #[serde(deny_unknown_fields)]
        struct ClosedInput<'a> {
            key_id: Text<'a>,
        }
    }

    #[test]
    fn bodies_of_other_shapes_are_refused() {
        for body in [
            "",
            "null",
            "[]",
            r#"["alias/a"]"#,
            r#""text""#,
            r#"{"KeyId":7}"#,
            r#"{"KeyId":["a"]}"#,
            r#"{"NumberOfBytes":"32"}"#,
            r#"{"NumberOfBytes":32.5}"#,
            r#"{"NumberOfBytes":99999999999999999999}"#,
            r#"{"KeyId":"a","KeyId":"b"}"#,
            r#"{"EncryptionContext":{"a":"1","a":"2"}}"#,
            r#"{"EncryptionContext":{"a":null}}"#,
            r#"{"EncryptionContext":{"a":1}}"#,
            r#"{"EncryptionContext":[]}"#,
            r#"{"EncryptionContext":{"a":"\ud800"}}"#,
            r#"{"Plaintext":"AA="}"#,
            r#"{"Plaintext":"AA"}"#,
            r#"{"Plaintext":"AA\n=="}"#,
            r#"{"Plaintext":"A_=="}"#,
            r#"{"KeyId":"a"} trailing"#,
            r#"{"KeyId":"a""#,
            "{\"KeyId\":\"\u{1}\"}",
        ] {
            let error = decode::<Input<'_>>(body.as_bytes()).err();
            let code = error.map(|error| error.code());
            assert_eq!(code, Some(ErrorCode::SerializationException), "{body}");
        }
        // Skipped without recursion: no depth of nesting exhausts the stack.
        let nested = format!(
            "{{\"Other\":{}{}}}",
            "[".repeat(200_000),
            "]".repeat(200_000)
        );
        assert!(decode::<Input<'_>>(nested.as_bytes()).is_ok());
    }

    #[test]
    fn members_are_read_and_unknown_ones_are_ignored() {
        let body = br#" {"KeyId":"a\u00e9","NumberOfBytes":32,"EncryptionContext":{"b":"2","a":"1"},"Plaintext":"AAE=","New":{"x":[1]}}"#;
        let input = decode::<Input<'_>>(body).unwrap();
        assert_eq!(input.key_id.as_deref(), Some("a\u{e9}"));
        assert_eq!(input.number_of_bytes, Some(32));
        assert_eq!(input.plaintext.unwrap().bytes(), [0, 1]);
        let context = input.encryption_context.sound().unwrap();
        assert_eq!(
            context.pairs().collect::<Vec<_>>(),
            [("a", "1"), ("b", "2")]
        );
        let input = decode::<Input<'_>>(br#"{"KeyId":null,"EncryptionContext":null}"#).unwrap();
        assert!(input.key_id.is_none());
        assert_eq!(input.encryption_context.sound().unwrap().len(), 0);
    }

    #[test]
    fn a_context_that_is_missing_is_empty() {
        let input = decode::<Input<'_>>(b"{}").unwrap();
        assert_eq!(input.encryption_context.sound().unwrap().len(), 0);
    }

    #[test]
    fn an_input_can_refuse_unknown_members() {
        let input = decode::<ClosedInput<'_>>(br#"{"KeyId":"a\u00e9"}"#).unwrap();
        assert_eq!(input.key_id.as_deref(), Some("a\u{e9}"));
        let error = decode::<ClosedInput<'_>>(br#"{"KeyId":"a","New":1}"#).err();
        let code = error.map(|error| error.code());
        assert_eq!(code, Some(ErrorCode::SerializationException));
    }
}
