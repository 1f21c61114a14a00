//! AWS JSON 1.1: request bodies to values, and values to response bodies. No other module knows the
//! wire format.
//!
//! A body that is not one JSON object of the right types is a `SerializationException`: duplicate
//! members, duplicate names of an encryption context, lone surrogates, a null inside a map and line
//! breaks inside base64 among them. A member that is `null` is absent; an unknown member is
//! ignored, because newer clients send newer members.

use crate::api::{ApiError, KmsErrorCode, Reply};
use crate::clock::Timestamp;
use crate::context::{EncryptionContext, InvalidContext};
use crate::crypto::secret::SecretBytes;
use crate::key::material::KeyMaterialId;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::ops::Deref;
use zeroize::{Zeroize, Zeroizing};

/// Text that is borrowed from the body where it has no escapes.
pub(crate) type Text<'a> = Option<CowText<'a>>;

/// Parses a body.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    // An array would be taken for the members in order.
    if first != Some(&b'{') {
        return Err(ApiError::bare(KmsErrorCode::SerializationException));
    }
    serde_json::from_slice(body).map_err(|_| ApiError::bare(KmsErrorCode::SerializationException))
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
                KmsErrorCode::ValidationException,
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
        let blob = SecretBytes::filled(decoded.len(), |bytes| bytes.copy_from_slice(&decoded));
        decoded.zeroize();
        Ok(Self(blob))
    }
}

/// Writes one JSON object. Room is made once, so that nothing secret is left behind where a buffer
/// has grown.
pub(crate) struct Object {
    text: Zeroizing<Vec<u8>>,
}

/// Room for every response without a listing: the longest blob (4,160 bytes) and the longest
/// plaintext (4,096) in base64, two ARNs, names.
const RESPONSE_BYTES: usize = 16 * 1024;

/// Characters of these bytes in base64.
pub(crate) fn base64_bytes(value: &[u8]) -> usize {
    base64_simd::STANDARD.encoded_length(value.len())
}

impl Object {
    pub(crate) fn with_room(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Self {
            text: Zeroizing::new(text),
        }
    }

    pub(crate) fn new() -> Self {
        Self::with_room(RESPONSE_BYTES)
    }

    pub(crate) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        self.text.push(b'"');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        &mut self.text
    }

    /// Text that may need escapes.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        let out = self.member(name);
        serde_json::to_writer(out, value).expect("writing text to a vector cannot fail");
    }

    /// Text under a name that is the caller's, and may need escapes as well.
    pub(crate) fn named_text(&mut self, name: &str, value: &str) {
        let quoted = serde_json::Value::from(name).to_string();
        self.text(&quoted[1..quoted.len() - 1], value);
    }

    /// Text of our own that needs no escapes: an ARN, a name of an enumeration.
    pub(crate) fn plain(&mut self, name: &str, value: &str) {
        let out = self.member(name);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    pub(crate) fn material_id(&mut self, name: &str, id: KeyMaterialId) {
        let out = self.member(name);
        out.push(b'"');
        out.extend_from_slice(&id.hex());
        out.push(b'"');
    }

    pub(crate) fn base64(&mut self, name: &str, value: &[u8]) {
        use base64_simd::{AsOut, STANDARD};
        let out = self.member(name);
        out.push(b'"');
        let at = out.len();
        out.resize(at + base64_bytes(value), 0);
        // In place: a temporary string would be one more copy of a plaintext.
        let _written = STANDARD.encode(value, out[at..].as_out());
        out.push(b'"');
    }

    /// A value of our own that prints without anything to escape.
    pub(crate) fn shown(&mut self, name: &str, value: impl fmt::Display) {
        let out = self.member(name);
        write!(out, "\"{value}\"").expect("writing to a vector cannot fail");
    }

    pub(crate) fn number(&mut self, name: &str, value: impl fmt::Display) {
        let out = self.member(name);
        write!(out, "{value}").expect("writing to a vector cannot fail");
    }

    pub(crate) fn flag(&mut self, name: &str, value: bool) {
        self.number(name, value);
    }

    /// Seconds since the epoch with milliseconds, as the service sends them.
    pub(crate) fn time(&mut self, name: &str, time: Timestamp) {
        let milliseconds = time.0 / 1000;
        self.number(
            name,
            format_args!("{}.{:03}", milliseconds / 1000, milliseconds % 1000),
        );
    }

    pub(crate) fn object(&mut self, name: &str, object: Self) {
        let reply = object.end();
        self.member(name).extend_from_slice(reply.body());
    }

    pub(crate) fn list(&mut self, name: &str, items: impl Iterator<Item = Self>) {
        let out = self.member(name);
        out.push(b'[');
        for (number, item) in items.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(item.end().body());
        }
        out.push(b']');
    }

    /// Texts of our own that need no escapes.
    pub(crate) fn plain_list(&mut self, name: &str, texts: &[&str]) {
        let out = self.member(name);
        out.push(b'[');
        for (number, text) in texts.iter().enumerate() {
            let separator: &[u8] = if number > 0 { b",\"" } else { b"\"" };
            out.extend_from_slice(separator);
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
        out.push(b']');
    }

    pub(crate) fn end(mut self) -> Reply {
        self.text.push(b'}');
        Reply::new(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Input<'a> {
        #[serde(borrow)]
        key_id: Text<'a>,
        number_of_bytes: Option<i64>,
        #[serde(default)]
        encryption_context: ContextMember,
        plaintext: Option<Blob>,
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
            assert_eq!(code, Some(KmsErrorCode::SerializationException), "{body}");
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
    fn objects_are_json() {
        let mut object = Object::new();
        object.text("Description", "a \"b\" \u{1}\n\u{e9}");
        object.plain("KeyId", "arn:x");
        object.base64("Plaintext", &[255, 254, 0]);
        object.number("PendingWindowInDays", 7);
        object.flag("Enabled", true);
        object.time("CreationDate", Timestamp(1_568_565_290_012_345));
        let mut inner = Object::new();
        inner.plain("A", "b");
        object.list("Keys", [inner].into_iter());
        object.list("None", std::iter::empty());
        object.object("Empty", Object::new());
        let reply = object.end();
        let value: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
        let expected = serde_json::json!({
            "Description": "a \"b\" \u{1}\n\u{e9}", "KeyId": "arn:x", "Plaintext": "//4A", "PendingWindowInDays": 7, "Enabled": true,
            "CreationDate": 1_568_565_290.012, "Keys": [{"A": "b"}], "None": [], "Empty": {},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn the_longest_response_never_grows_its_buffer() {
        let mut object = Object::new();
        let room = object.text.capacity();
        object.base64("CiphertextBlob", &[7; 4160]);
        object.base64("Plaintext", &[7; 4096]);
        object.plain("KeyId", &"x".repeat(256));
        assert_eq!(object.text.capacity(), room);
    }
}
