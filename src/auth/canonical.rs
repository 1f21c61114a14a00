//! The canonical request, written into a buffer of the thread's own and hashed at once: a hash that is fed piece by piece costs as much again.
//!
//! `METHOD \n path \n query \n name:value\n … \n signed names \n payload hash`.
//!
//! - *Path*: `.`, `..` and empty segments removed, then each segment percent-encoded once more (services other than S3).
//! - *Query*: names and values percent-encoded, sorted by both.
//! - *Headers*: those that the caller signed, in the order of their names; repeated ones joined by commas; values without surrounding
//!   spaces, inner runs of spaces made one.
//!
//! Source: AWS IAM, "Create a signed AWS API request",
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use crate::auth::AuthError;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use std::cell::RefCell;

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// All but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Names that a caller may sign at most: as many header fields as hyper takes.
const NAMES_MAX: usize = 100;

/// The names that a caller signed: lower-case, ascending, different.
pub(super) struct SignedHeaders<'a> {
    /// Clients sign about half a dozen.
    names: SmallVec<[&'a str; 12]>,
}

impl<'a> SignedHeaders<'a> {
    /// The names of `list`, `;` between them, in any order. Clients sort them; so does the canonical request.
    pub(super) fn parse(list: &'a str) -> Result<Self, AuthError> {
        let mut names = SmallVec::new();
        for name in list.split(';') {
            // More names than a request has headers: some are absent from it.
            if names.len() == NAMES_MAX {
                return Err(AuthError::mismatch());
            }
            names.push(name);
        }
        if !names.is_sorted() {
            names.sort_unstable();
        }
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(AuthError::signed_twice(pair[0])),
            None => Ok(Self { names }),
        }
    }

    pub(super) fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// Refuses a request that has a header which decides what it means, or where, and which the signature does not cover.
    pub(super) fn cover(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        let must = |name: &&str| *name == "content-type" || name.starts_with("x-amz-");
        let present = headers.keys().map(|name| name.as_str()).filter(must);
        for name in ["host"].into_iter().chain(present) {
            if self.names().binary_search(&name).is_err() {
                return Err(AuthError::not_signed(name));
            }
        }
        Ok(())
    }
}

/// The hash of a canonical request up to the payload hash. `names` are lower-case, ascending and different; `None` when one of these headers is
/// absent.
pub(super) fn head(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    names: &[&str],
) -> Option<Sha256> {
    TEXT.with_borrow_mut(|text| {
        text.clear();
        append_head(text, method, path, query, headers, names)?;
        Some(Sha256::new_with_prefix(text))
    })
}

fn append_head(
    text: &mut Vec<u8>,
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    names: &[&str],
) -> Option<()> {
    text.extend_from_slice(method.as_str().as_bytes());
    text.push(b'\n');
    append_path(text, path);
    text.push(b'\n');
    append_query(text, query.unwrap_or_default());
    text.push(b'\n');
    for name in names {
        append_header(text, name, headers)?;
    }
    text.push(b'\n');
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            text.push(b';');
        }
        text.extend_from_slice(name.as_bytes());
    }
    text.push(b'\n');
    Some(())
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
    hex::encode_to_slice(bytes, &mut text).expect("two digits for each byte");
    text
}

fn append_path(text: &mut Vec<u8>, path: &str) {
    // What every client of KMS asks for.
    if path == "/" {
        text.push(b'/');
        return;
    }
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
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<_> = parameters
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

/// `None` when there is no header of this name; one spelt in upper case is none, because what is hashed is the text that was signed.
fn append_header(text: &mut Vec<u8>, name: &str, headers: &HeaderMap) -> Option<()> {
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let mut values = headers.get_all(name).iter().filter(|_| lower);
    let first = values.next()?;
    text.extend_from_slice(name.as_bytes());
    text.push(b':');
    append_value(text, first.as_bytes());
    for value in values {
        text.push(b',');
        append_value(text, value.as_bytes());
    }
    text.push(b'\n');
    Some(())
}

fn append_value(text: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(|byte| *byte == b' ');
    for (at, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if at > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
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
            assert!(signed.cover(&sent).is_ok());
            let head = head(&Method::POST, "/", None, &sent, signed.names()).unwrap();
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
        let names = ["host", "x-amz-meta", "x-amz-none"];
        let head = head(&Method::GET, "/v1/a b", Some("b=2&a=1"), &sent, &names).unwrap();
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
        let of = |names: &[&str]| head(&Method::POST, "/", None, &sent, names).is_some();
        assert!(of(&["date", "host"]));
        for names in [
            &["host", "x-amz-date"][..],
            &["Host"],
            &[""],
            &["host "],
            &["hö"],
        ] {
            assert!(!of(names), "{names:?}");
        }
    }

    #[test]
    fn names_are_sorted_different_and_bounded() {
        let signed = SignedHeaders::parse("x-amz-date;host;content-type").unwrap();
        assert_eq!(signed.names(), ["content-type", "host", "x-amz-date"]);
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
