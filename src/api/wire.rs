//! AWS JSON 1.1: request bodies to values, and values to response bodies. No other module knows the
//! wire format.
//!
//! A body that is not one JSON object of the right types is a `SerializationException`: duplicate
//! members, duplicate names of an encryption context, lone surrogates, a null inside a map and line
//! breaks inside base64 among them. A member that is `null` is absent; an unknown member is
//! ignored, because newer clients send newer members.

use crate::api::Reply;
use crate::clock::Timestamp;
use crate::key::material::KeyMaterialId;
use std::fmt;
use std::io::Write;
use zeroize::Zeroizing;

mod input;

pub(crate) use input::{Blob, ContextMember, CowText, SecretText, Text, TextMap, decode, input};

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

    /// Texts that may need escapes.
    pub(crate) fn text_list<'t>(&mut self, name: &str, texts: impl Iterator<Item = &'t str>) {
        let out = self.member(name);
        out.push(b'[');
        for (number, text) in texts.enumerate() {
            if number > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, text).expect("writing text to a vector cannot fail");
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
