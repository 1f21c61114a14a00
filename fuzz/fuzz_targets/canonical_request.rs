//! Canonical requests: whatever path, query, headers and body a request has, what one end signs the
//! other verifies, and not one bit of its body less.
//!
//! The input is the path and the query in the first line, then a header field a line, then an empty
//! line and the body.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use keymill::auth::{Credentials, Head, ScopeService};
use keymill_fuzz::verifier::{ACCESS_KEY_ID, NOW, SNAPSHOT, VERIFIER, secret};
use libfuzzer_sys::fuzz_target;

/// What the signer adds or the verifier reads by itself.
const SIGNATURES_OWN: [&str; 4] = [
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &b""[..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else {
        return;
    };
    let Some(target) = uri.path_and_query().map(|target| target.as_str()) else {
        return;
    };
    // A signature in the query is another matter.
    if !target.starts_with('/') || target.to_ascii_lowercase().contains("x-amz-") {
        return;
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    for line in lines.take(90) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value)
            && !SIGNATURES_OWN.contains(&name.as_str())
        {
            headers.append(name, value);
        }
    }
    let credentials = Credentials {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: secret(),
        session_token: None,
        region: "us-east-1".to_owned(),
    };
    let signed = credentials.sign(&Method::POST, target, &mut headers, body, NOW);
    if signed.is_err() {
        return;
    }
    let verify = |body: &[u8]| {
        let head = Head {
            method: &Method::POST,
            uri: &uri,
            headers: &headers,
        };
        VERIFIER
            .begin(ScopeService::Kms, head, &SNAPSHOT, NOW)
            .and_then(|claim| claim.finish(body))
            .map(drop)
    };
    assert_eq!(verify(body), Ok(()));
    let mut longer = body.to_vec();
    longer.push(0);
    assert!(verify(&longer).is_err(), "another body");
});
