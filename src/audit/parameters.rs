//! The request parameters of a record: those members of a call's JSON body that its operation
//! records, with the values that were sent.
//!
//! The operation's list keeps secrets out: a member that is not on it (a plaintext, a blob, a grant
//! token, a signature, a member that only a newer client sends) is never recorded. The name of a
//! member begins with a lower-case letter, as in CloudTrail; its value is copied.

use crate::operation::words::Facts;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The most bytes of all members. Longer ones are left out, as CloudTrail does it.
pub(super) const BYTES_MAX: usize = 100 * 1024;

/// The most bytes of all members of a call that was refused, and of one of them: a caller without
/// rights causes only short records.
pub(super) const REFUSED_BYTES_MAX: usize = 1024;
const REFUSED_MEMBER_BYTES_MAX: usize = 256;

/// Members of the requests of Keymill's own operations, batches and streams.
pub(super) const OWN: [&str; 25] = [
    "AccessKeyId",
    "Account",
    "Action",
    "ContextColumns",
    "Count",
    "DestinationContextColumns",
    "DestinationEncryptionContext",
    "DestinationKeyId",
    "DurationSeconds",
    "EncryptionContext",
    "Group",
    "KeySpec",
    "Kind",
    "Log",
    "Name",
    "NumberOfBytes",
    "Policies",
    "Principal",
    "SecureTransport",
    "ServiceName",
    "SessionName",
    "SourceEncryptionContext",
    "SourceIp",
    "Status",
    "Tags",
];

/// Appends the members of `body` as a JSON object; `null` when there are none, or when `body` is
/// not a JSON object. The members of a refused call are short: a longer one is replaced by its
/// size.
pub(super) fn append(
    body: &[u8],
    recorded: &'static [&'static str],
    is_refused: bool,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let (most, member_most) = if is_refused {
        (REFUSED_BYTES_MAX, REFUSED_MEMBER_BYTES_MAX)
    } else {
        (BYTES_MAX, usize::MAX)
    };
    let object = Members {
        out,
        recorded,
        seen: 0,
        member_most,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_map(object);
    let bytes = out.len() - start;
    if read.is_err() || bytes == 0 {
        out.truncate(start);
        out.extend_from_slice(b"null");
    } else if bytes > most {
        out.truncate(start);
        let omitted = format!(
            "{{\"reason\":\"requestParameters too large\",\"omitted\":true,\"originalSize\":{bytes}}}"
        );
        out.extend_from_slice(omitted.as_bytes());
    } else {
        out.push(b'}');
    }
}

/// Copies the members that may be recorded.
struct Members<'a> {
    out: &'a mut Vec<u8>,
    /// The members that may be recorded, besides [`Facts::RECORDED`].
    recorded: &'static [&'static str],
    /// One bit for each of these, the common ones first, so that a record has no name twice.
    seen: u64,
    /// The most bytes of a member's value.
    member_most: usize,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(found) = map.next_key_seed(Recorded(self.recorded))? {
            match found {
                Some((place, name)) if self.seen & (1 << place) == 0 => {
                    let value: &RawValue = map.next_value()?;
                    self.seen |= 1 << place;
                    self.member(name, value.get());
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl Members<'_> {
    /// Copies a member. A member that is null counts as absent.
    fn member(&mut self, name: &str, value: &str) {
        let Some(value) = one_line(value).filter(|value| &**value != "null") else {
            return;
        };
        let separator = if self.out.last() == Some(&b':') {
            b'{'
        } else {
            b','
        };
        self.out.push(separator);
        self.out.push(b'"');
        self.out.push(name.as_bytes()[0].to_ascii_lowercase());
        self.out.extend_from_slice(&name.as_bytes()[1..]);
        self.out.extend_from_slice(b"\":");
        if value.len() > self.member_most {
            let omitted = format!("{{\"omitted\":true,\"originalSize\":{}}}", value.len());
            self.out.extend_from_slice(omitted.as_bytes());
        } else {
            self.out.extend_from_slice(value.as_bytes());
        }
    }
}

/// The value without line feeds. `None` when it has half of a surrogate pair, which is not text and
/// which readers of the log could not parse.
fn one_line(value: &str) -> Option<std::borrow::Cow<'_, str>> {
    // No branch for each byte (bench `audit`, "make a record in a kept buffer").
    let is_other = |byte: u8| (byte < b' ') | (byte == b'\\');
    if !value.bytes().fold(false, |any, byte| any | is_other(byte)) {
        return Some(value.into());
    }
    let value: serde_json::Value = serde_json::from_str(value).ok()?;
    Some(value.to_string().into())
}

/// The members that may be recorded; finds a name among them, with its index.
struct Recorded(&'static [&'static str]);

type Found = Option<(usize, &'static str)>;

impl<'de> DeserializeSeed<'de> for Recorded {
    type Value = Found;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Recorded {
    type Value = Found;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Found, E> {
        let mut all = Facts::RECORDED.iter().chain(self.0).enumerate();
        Ok(all
            .find(|(_, one)| **one == name)
            .map(|(place, one)| (place, *one)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;
    use crate::operation::xks::XksOperation;

    /// Members that an operation may record.
    const ALL: [&str; 10] = [
        "EncryptionContext",
        "KeySpec",
        "NumberOfBytes",
        "Constraints",
        "Description",
        "Policy",
        "Tags",
        "Name",
        "Origin",
        "ValidTo",
    ];

    fn parameters(body: &str) -> String {
        let mut out = b"\"requestParameters\":".to_vec();
        append(body.as_bytes(), &ALL, false, &mut out);
        String::from_utf8(out[20..].to_vec()).unwrap()
    }

    #[test]
    fn audit_1_of_refused_calls_parameters_are_short() {
        let refused = |body: &str| {
            let mut out = b"\"requestParameters\":".to_vec();
            append(body.as_bytes(), &ALL, true, &mut out);
            String::from_utf8(out[20..].to_vec()).unwrap()
        };
        let short = r#"{"KeyId":"alias/a","EncryptionContext":{"tenant":"7"}}"#;
        let expected = r#"{"keyId":"alias/a","encryptionContext":{"tenant":"7"}}"#;
        assert_eq!(refused(short), expected);
        let long = format!(
            r#"{{"KeyId":"alias/a","EncryptionContext":{{"tenant":"{}"}}}}"#,
            "x".repeat(100_000)
        );
        let expected =
            r#"{"keyId":"alias/a","encryptionContext":{"omitted":true,"originalSize":100013}}"#;
        assert_eq!(refused(&long), expected);
        let members = ALL.map(|name| format!("\"{name}\":\"{}\"", "x".repeat(200)));
        let many = format!("{{{}}}", members.join(","));
        let told = refused(&many);
        assert!(
            told.starts_with(r#"{"reason":"requestParameters too large","omitted":true"#),
            "{told}"
        );
        assert!(told.len() < REFUSED_BYTES_MAX);
    }

    #[test]
    fn members_on_the_list_are_copied_in_their_order() {
        let body = r#"{"KeySpec":"AES_256","KeyId":"alias/a","EncryptionContext":{"tenant":"7"},"NumberOfBytes":null,"DryRun":false}"#;
        let expected = r#"{"keySpec":"AES_256","keyId":"alias/a","encryptionContext":{"tenant":"7"},"dryRun":false}"#;
        assert_eq!(parameters(body), expected);
        let body = "{ \"KeyId\" : \"a\" ,\n\"Constraints\":{\n \"EncryptionContextSubset\": {\"a\":\"b\"}}}";
        let expected = r#"{"keyId":"a","constraints":{"EncryptionContextSubset":{"a":"b"}}}"#;
        assert_eq!(parameters(body), expected);
    }

    #[test]
    fn audit_1_no_operation_records_a_secret() {
        for name in [
            "Plaintext",
            "CiphertextBlob",
            "GrantToken",
            "GrantTokens",
            "EncryptedKeyMaterial",
            "ImportToken",
            "Message",
            "Signature",
            "Mac",
            "Recipient",
            "PublicKey",
            "Marker",
            "KeyStorePassword",
            "XksProxyAuthenticationCredential",
            "SecretAccessKey",
        ] {
            let body = format!("{{\"{name}\":\"x\"}}");
            let kms = Operation::ALL.iter().map(|one| one.facts().records);
            for recorded in kms.chain([OWN.as_slice(), &XksOperation::RECORDS]) {
                let mut out = Vec::new();
                append(body.as_bytes(), recorded, false, &mut out);
                assert_eq!(out, b"null", "{name}");
            }
        }
    }

    #[test]
    fn whatever_is_sent_stays_one_value_of_one_line() {
        for (body, expected) in [
            ("", "null"),
            ("{}", "null"),
            ("[\"KeyId\"]", "null"),
            ("{\"KeyId\":\"a\"", "null"),
            ("{\"KeyId\":\"a\",\"x\":}", "null"),
            ("{\"keyId\":\"a\"}", "null"),
            ("{\"KeyId\":\"\\ud800\"}", "null"),
            (
                "{\"KeyId\":\"a\\ud800\",\"Name\":\"n\"}",
                "{\"name\":\"n\"}",
            ),
            ("{\"KeyId\":\"a\",\"KeyId\":\"b\"}", "{\"keyId\":\"a\"}"),
            ("{\"K\\u0065yId\":\"a\"}", "{\"keyId\":\"a\"}"),
            (
                "{\"KeyId\":\"\\u000a\\\"}\\u2028\"}",
                "{\"keyId\":\"\\n\\\"}\u{2028}\"}",
            ),
        ] {
            assert_eq!(parameters(body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_out_with_its_size() {
        let value = "x".repeat(BYTES_MAX);
        let size = value.len() + r#"{"policy":"""#.len();
        let body = format!("{{\"Policy\":\"{value}\"}}");
        let expected = format!(
            r#"{{"reason":"requestParameters too large","omitted":true,"originalSize":{size}}}"#
        );
        assert_eq!(parameters(&body), expected);
    }
}
