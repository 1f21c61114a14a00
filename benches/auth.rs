//! The cost of verifying a signature with a cached signing key, beside the three hashes that every
//! verifier needs: of the body, of the canonical request, and the HMAC of the string to sign.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use keymill::auth::{Credentials, Head, Verifier};
use keymill::clock::{Clock, Timestamp};
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::keystore::{AccessKey, PrincipalEntry, Snapshot};
use keymill::policy::Principal;
use sha2::{Digest, Sha256};
use side_by_side::rows::Goal;
use side_by_side::{Question, Side};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_BYTES: usize = 40;
const NOW: Timestamp = Timestamp(1_768_478_400_000_000);
/// 141 bytes, as boto3 sends them.
const BODY: &[u8] = br#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"container":"container-000000000042","tenant":"tenant-000000000007xyz"}}"#;
/// Bytes of the canonical request of such a request, and of its string to sign.
const CANONICAL_BYTES: usize = 350;
const STRING_TO_SIGN_BYTES: usize = 140;

fn main() {
    let mut questions = vec![
        Question::new(
            "verify a signature, 141 bytes of body",
            1,
            vec![
                Side::new("verify", verified()),
                Side::new("its three hashes", hashed()),
            ],
        )
        .row(
            "SigV4 verification, signing key cached, 141-byte body",
            ["verify", "its three hashes"],
            Goal::AtMost(1.8),
        ),
    ];
    side_by_side::criterion(&mut questions);
    if side_by_side::ratios_are_wanted() {
        side_by_side::ratios(&mut questions);
    }
}

fn secret() -> SecretBytes {
    SecretBytes::filled(SECRET_BYTES, |bytes| bytes.fill(b'x'))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:5645"));
    for (name, value) in [
        (
            "x-amz-target",
            "TrentService.GenerateDataKeyWithoutPlaintext",
        ),
        ("content-type", "application/x-amz-json-1.1"),
    ] {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
    let credentials = Credentials {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: secret(),
        session_token: None,
        region: "us-east-1".to_owned(),
    };
    credentials
        .sign(&Method::POST, "/", &mut headers, BODY, NOW)
        .unwrap();
    // Headers that clients do not sign.
    let agent =
        "Boto3/1.43.11 md/Botocore#1.43.11 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.11.2";
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    headers.insert(header::CONTENT_LENGTH, BODY.len().into());
    headers
}

fn verified() -> impl FnMut(u64) -> Duration {
    let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
    let verifier = Verifier::new("us-east-1".to_owned(), Duration::from_secs(300), token_key);
    let access_key = AccessKey::new(ACCESS_KEY_ID.to_owned(), secret());
    let principal = Principal::new("arn:aws:iam::111122223333:user/provisioner", Vec::new());
    let entry = PrincipalEntry::new(principal.unwrap(), vec![Arc::new(access_key)]);
    let mut snapshot = Snapshot::default();
    snapshot
        .access_keys
        .insert(ACCESS_KEY_ID.to_owned(), Arc::new(entry));
    let (headers, uri) = (headers(), Uri::from_static("/"));
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            let head = Head {
                method: &Method::POST,
                uri: &uri,
                headers: black_box(&headers),
            };
            let claim = verifier.begin(head, &snapshot, NOW).ok().unwrap();
            assert!(black_box(claim.finish(black_box(BODY))).is_ok());
        }
        clock.monotonic()
    }
}

fn hashed() -> impl FnMut(u64) -> Duration {
    let canonical = [b'c'; CANONICAL_BYTES];
    let string_to_sign = [b's'; STRING_TO_SIGN_BYTES];
    let keyed = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            black_box(Sha256::digest(black_box(BODY)));
            black_box(Sha256::digest(black_box(&canonical)));
            let mut hmac = keyed.clone();
            hmac.update(black_box(&string_to_sign));
            black_box(hmac.finalize());
        }
        clock.monotonic()
    }
}
