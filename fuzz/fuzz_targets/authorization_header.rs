//! Signatures: whatever the head holds is refused, and whatever gets as far as its signature fails
//! there, since nobody here has the secret. AWS STS also takes them in the query.
//!
//! The input is a head: the request's target in the first line, then a field a line.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use keymill::auth::ScopeService;
use keymill::auth::sigv4::Head;
use keymill_fuzz::verifier::{NOW, SNAPSHOT, VERIFIER};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let head = Head {
        method: &Method::POST,
        uri: &uri,
        headers: &headers,
    };
    for service in [
        ScopeService::Kms,
        ScopeService::Sts,
        ScopeService::Tagging,
        ScopeService::Xks,
    ] {
        if let Ok(claim) = VERIFIER.begin(service, head, &SNAPSHOT, NOW) {
            assert!(claim.finish(b"{}").is_err(), "nobody here has the secret");
        }
    }
});
