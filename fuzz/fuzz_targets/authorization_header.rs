//! Signatures: whatever the head holds is refused, and whatever gets as far as its signature fails
//! there, since nobody here has the secret.
//!
//! The input is a head: the request's target in the first line, then a field a line.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use keymill::auth::Verifier;
use keymill::auth::sigv4::Head;
use keymill::clock::Timestamp;
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::keystore::{AccessKey, PrincipalEntry, Snapshot};
use keymill::policy::Principal;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The one that AWS's documentation uses, so that dictionaries and corpora from there get past the
/// first check.
const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
/// 2026-01-15T12:00:00Z
const NOW: Timestamp = Timestamp(1_768_478_400_000_000);

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
    Verifier::new("us-east-1".to_owned(), Duration::from_secs(300), token_key)
});
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let secret = SecretBytes::filled(40, |bytes| bytes.fill(b'x'));
    let access_key = AccessKey::new(ACCESS_KEY_ID.to_owned(), secret);
    let principal = Principal::new("arn:aws:iam::111122223333:user/fuzz", Vec::new());
    let principal = principal.expect("a user's ARN");
    let entry = Arc::new(PrincipalEntry::new(principal, vec![Arc::new(access_key)]));
    let mut snapshot = Snapshot::default();
    snapshot.access_keys.insert(ACCESS_KEY_ID.to_owned(), entry);
    snapshot
});

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
    if let Ok(claim) = VERIFIER.begin(head, &SNAPSHOT, NOW) {
        assert!(claim.finish(b"{}").is_err(), "nobody here has the secret");
    }
});
