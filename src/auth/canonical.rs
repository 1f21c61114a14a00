//! The canonical request. It is written into a buffer of the thread and hashed in one call (row
//! "SigV4 verification" of benches/RESULTS.md).
//!
//! `METHOD \n path \n query \n name:value\n … \n signed names \n payload hash`.
//!
//! - *Path*: `.`, `..` and empty segments removed, then each segment percent-encoded once more
//!   (services other than S3).
//! - *Query*: names and values percent-encoded, sorted by both.
//! - *Headers*: those that the caller signed, in the order of their names; repeated fields joined
//!   by commas; values without surrounding spaces, and with inner runs of spaces reduced to one.
//!
//! Source: AWS IAM, "Create a signed AWS API request",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use crate::auth::{AuthError, ScopeService};
use hex_simd::{AsOut, AsciiCase};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use memchr::memchr;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;
use std::cell::RefCell;

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// All characters except the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The most names that a caller may sign: as many header fields as hyper accepts.
const NAMES_MAX: usize = 100;

/// The header fields that a caller signed.
pub(super) struct SignedHeaders<'a> {
    /// Their names: lower-case, ascending and different. Clients sign about half a dozen.
    names: SmallVec<[&'a str; 12]>,
}

/// The value of a signed header field.
#[derive(Clone, Copy)]
enum Signed<'a> {
    /// The request has no such field.
    Absent,
    Once(&'a HeaderValue),
    Repeated,
}

impl<'a> SignedHeaders<'a> {
    /// Parses a list of names, separated by `;`, in any order. Clients sort them, and the canonical
    /// request sorts them too.
    pub(super) fn parse(list: &'a str) -> Result<Self, AuthError> {
        let mut names = SmallVec::new();
        let mut rest = list;
        while let Some(end) = memchr(b';', rest.as_bytes()) {
            names.push(&rest[..end]);
            rest = &rest[end + 1..];
            // More names than a request can have headers: some are missing from it.
            if names.len() == NAMES_MAX {
                return Err(AuthError::mismatch());
            }
        }
        names.push(rest);
        if !names.is_sorted() {
            names.sort_unstable();
        }
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(AuthError::signed_twice(pair[0])),
            None => Ok(Self { names }),
        }
    }

    /// The names of all fields in `headers`.
    pub(super) fn all(headers: &'a HeaderMap) -> Self {
        let mut names: SmallVec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        Self { names }
    }

    /// The names, separated by `;`.
    pub(super) fn list(&self) -> String {
        self.names.join(";")
    }

    /// The hash of a canonical request to `service`, up to the payload hash.
    ///
    /// # Errors
    /// [`AuthError`] when the signature does not cover a header that decides what the request means
    /// or where it goes, or covers a header that the request lacks.
    pub(super) fn head(
        &self,
        service: ScopeService,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Sha256, AuthError> {
        let values = self.values(service, path, headers)?;
        TEXT.with_borrow_mut(|text| {
            text.clear();
            text.extend_from_slice(method.as_str().as_bytes());
            text.push(b'\n');
            append_path(text, path);
            text.push(b'\n');
            append_query(text, query.unwrap_or_default());
            text.push(b'\n');
            for (name, value) in self.names.iter().zip(values) {
                append_header(text, name, value, headers)?;
            }
            text.push(b'\n');
            for (at, name) in self.names.iter().enumerate() {
                if at > 0 {
                    text.push(b';');
                }
                text.extend_from_slice(name.as_bytes());
            }
            text.push(b'\n');
            Ok(Sha256::new_with_prefix(text))
        })
    }

    /// The value of each signed field, found in one pass over the headers.
    fn values<'h>(
        &self,
        service: ScopeService,
        path: &str,
        headers: &'h HeaderMap,
    ) -> Result<SmallVec<[Signed<'h>; 12]>, AuthError> {
        // One pass over the headers of the request, not one search per signed name.
        let mut values = smallvec![Signed::Absent; self.names.len()];
        let place = |name: &str| self.names.iter().position(|signed| *signed == name);
        // Without these headers in the signature, a request could be sent elsewhere or changed.
        if place("host").is_none() {
            return Err(AuthError::not_signed("host"));
        }
        for (name, value) in headers {
            let name = name.as_str();
            match place(name) {
                Some(at) => {
                    values[at] = match values[at] {
                        Signed::Absent => Signed::Once(value),
                        Signed::Once(_) | Signed::Repeated => Signed::Repeated,
                    }
                }
                None if service.must_sign(name, path) => {
                    return Err(AuthError::not_signed(name));
                }
                None => {}
            }
        }
        Ok(values)
    }
}

/// The hash of a whole canonical request, in hex.
pub(super) fn request(mut head: Sha256, payload_hash: &[u8; 64]) -> [u8; 64] {
    head.update(payload_hash);
    hex(&head.finalize().into())
}

/// The hash of a body, in hex.
pub(super) fn payload(body: &[u8]) -> [u8; 64] {
    hex(&Sha256::digest(body).into())
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    let _written = hex_simd::encode(bytes, text.as_mut_slice().as_out(), AsciiCase::Lower);
    text
}

fn append_path(text: &mut Vec<u8>, path: &str) {
    // The path of every KMS client.
    if path == "/" {
        text.push(b'/');
        return;
    }
    // Dot segments are removed as in RFC 3986, section 5.2.4.
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    for segment in &segments {
        text.push(b'/');
        for piece in percent_encode(segment.as_bytes(), ENCODED) {
            text.extend_from_slice(piece.as_bytes());
        }
    }
    if segments.is_empty() || path.ends_with('/') {
        text.push(b'/');
    }
}

fn append_query(text: &mut Vec<u8>, query: &str) {
    let encode = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&bytes, ENCODED).to_string()
    };
    let mut parameters: Vec<_> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (encode(name), encode(value))
        })
        .collect();
    parameters.sort_unstable();
    for (at, (name, value)) in parameters.iter().enumerate() {
        if at > 0 {
            text.push(b'&');
        }
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
    }
}

fn append_header(
    text: &mut Vec<u8>,
    name: &str,
    value: Signed<'_>,
    headers: &HeaderMap,
) -> Result<(), AuthError> {
    text.extend_from_slice(name.as_bytes());
    text.push(b':');
    match value {
        Signed::Absent => return Err(AuthError::mismatch()),
        Signed::Once(value) => append_value(text, value.as_bytes()),
        Signed::Repeated => {
            for (at, value) in headers.get_all(name).iter().enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                append_value(text, value.as_bytes());
            }
        }
    }
    text.push(b'\n');
    Ok(())
}

fn append_value(text: &mut Vec<u8>, value: &[u8]) {
    if memchr(b' ', value).is_none() {
        text.extend_from_slice(value);
        return;
    }
    let words = value.split(|byte| *byte == b' ');
    for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if at > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(word);
    }
}

/// The value of a header field. Bytes that are not text become replacement characters, which no
/// name contains.
pub(super) fn text(value: &HeaderValue) -> Cow<'_, str> {
    // Nearly every value is text, which is checked in one go before anything is replaced.
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn sha256(text: impl AsRef<[u8]>) -> [u8; 64] {
        payload(text.as_ref())
    }

    fn appends(append: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut text = Vec::new();
        append(&mut text);
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn the_published_cases_hash_to_the_published_values() {
        let body = br#"{"KeyId": "alias/test", "KeySpec": "AES_256"}"#;
        let body = payload(body);
        assert_eq!(
            &body,
            b"2833fe2f680557ab7621b080d418e09bd9cafe2498a6628d85588730ed833c19"
        );
        let mut sent = headers(&[
            (
                "x-amz-target",
                "TrentService.GenerateDataKeyWithoutPlaintext",
            ),
            ("x-amz-date", "20260115T120000Z"),
            ("host", "kms.us-east-1.amazonaws.com"),
            ("content-type", "application/x-amz-json-1.1"),
            ("user-agent", "not signed"),
        ]);
        let cases = [
            (
                "content-type;host;x-amz-date;x-amz-target",
                b"9251a27542115a35286ca9452a841b8cee0cede5a64eb4f543dcb66f6e607e45",
            ),
            (
                "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
                b"85035e1b8517e5703e1f032d2dd9bb4fd3f6473f6f14c5f09960f2fa1f0edcff",
            ),
        ];
        for (names, expected) in cases {
            let signed = SignedHeaders::parse(names).unwrap();
            let head = signed
                .head(ScopeService::Kms, &Method::POST, "/", None, &sent)
                .unwrap();
            assert_eq!(&request(head, &body), expected);
            let token = HeaderValue::from_static("SESSIONTOKENEXAMPLE");
            sent.insert("x-amz-security-token", token);
        }
    }

    #[test]
    fn a_whole_request_is_laid_out_line_by_line() {
        let sent = headers(&[
            ("host", "  localhost:5645 "),
            ("x-amz-meta", "a   b"),
            ("x-amz-meta", " c"),
            ("x-amz-none", ""),
        ]);
        let signed = SignedHeaders::all(&sent);
        assert_eq!(signed.list(), "host;x-amz-meta;x-amz-none");
        let head = signed.head(
            ScopeService::Kms,
            &Method::GET,
            "/v1/a b",
            Some("b=2&a=1"),
            &sent,
        );
        let head = head.unwrap();
        let text = format!(
            "GET\n/v1/a%20b\na=1&b=2\nhost:localhost:5645\nx-amz-meta:a b,c\nx-amz-none:\n\nhost;x-amz-meta;x-amz-none\n{}",
            "0".repeat(64)
        );
        assert_eq!(request(head, &[b'0'; 64]), sha256(text));
    }

    #[test]
    fn paths_are_normalized_and_encoded_a_second_time() {
        let cases = [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/v1/data-keys", "/v1/data-keys"),
            ("/v1//data-keys/", "/v1/data-keys/"),
            ("/./a/../b/.", "/b"),
            ("/a/b/..", "/a"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a%20b/~x_y-z.", "/a%2520b/~x_y-z."),
            ("/a+b:c", "/a%2Bb%3Ac"),
            ("/é", "/%C3%A9"),
        ];
        for (path, canonical) in cases {
            appends(|text| append_path(text, path), canonical);
        }
    }

    #[test]
    fn queries_are_encoded_and_sorted() {
        let cases = [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1&a", "a=&a=1&a=2"),
            ("a=b=c", "a=b%3Dc"),
            ("a=%7e%2f%zz&&b=+", "a=~%2F%25zz&b=%2B"),
            // Names are compared whole: the separator has no part in it.
            ("a-=1&a=2", "a=2&a-=1"),
        ];
        for (query, canonical) in cases {
            appends(|text| append_query(text, query), canonical);
        }
    }

    #[test]
    fn absent_headers_and_upper_case_names_have_no_canonical_form() {
        let sent = headers(&[("host", "x"), ("date", "y")]);
        let of = |list: &str| {
            let signed = SignedHeaders::parse(list).unwrap();
            signed
                .head(ScopeService::Kms, &Method::POST, "/", None, &sent)
                .err()
        };
        assert_eq!(of("date;host"), None);
        for list in [
            "host;x-amz-date",
            "host;Date",
            "host;",
            "host;date ",
            "host;hö",
        ] {
            assert_eq!(of(list), Some(AuthError::mismatch()), "{list}");
        }
    }

    #[test]
    fn names_are_sorted_different_and_bounded() {
        let signed = SignedHeaders::parse("x-amz-date;host;content-type").unwrap();
        assert_eq!(signed.list(), "content-type;host;x-amz-date");
        let twice = SignedHeaders::parse("host;date;host").err().unwrap();
        assert_eq!(twice, AuthError::signed_twice("host"));
        let list = |count: usize| {
            let names: Vec<_> = (0..count).map(|at| at.to_string()).collect();
            names.join(";")
        };
        assert!(SignedHeaders::parse(&list(NAMES_MAX)).is_ok());
        let many = list(NAMES_MAX + 1);
        assert_eq!(
            SignedHeaders::parse(&many).err(),
            Some(AuthError::mismatch())
        );
    }

    proptest! {
        #[test]
        fn spaces_within_and_around_a_value_are_one_and_none(value in "[a ]{0,12}") {
            let mut text = Vec::new();
            append_value(&mut text, value.as_bytes());
            let words: Vec<_> = value.split_whitespace().collect();
            prop_assert_eq!(text, words.join(" ").into_bytes());
        }
    }
}
