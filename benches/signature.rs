//! A signed request and the verifier that knows its access key, in this process.

#![allow(
    clippy::unwrap_used,
    reason = "a bench fails by panicking, and so does a test"
)]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use keymill::auth::{Credentials, Head, ScopeService, Verifier};
use keymill::clock::Timestamp;
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::key::regions::Regions;
use keymill::keystore::{AccessKey, PrincipalEntry, Snapshot};
use keymill::policy::Principal;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_BYTES: usize = 40;
const NOW: Timestamp = Timestamp(1_768_478_400_000_000);
/// 141 bytes, as boto3 sends them.
pub(crate) const BODY: &[u8] = br#"{"KeyId":"alias/containers","KeySpec":"AES_256","EncryptionContext":{"container":"container-000000000042","tenant":"tenant-000000000007xyz"}}"#;

/// The request with [`BODY`], and what verifies its signature.
pub(crate) struct Signature {
    verifier: Verifier,
    snapshot: Snapshot,
    headers: HeaderMap,
    uri: Uri,
}

impl Signature {
    pub(crate) fn new() -> Self {
        let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
        let access_key = AccessKey::new(ACCESS_KEY_ID.to_owned(), secret());
        let principal = Principal::new("arn:aws:iam::111122223333:user/provisioner", Vec::new());
        let entry = PrincipalEntry::new(principal.unwrap(), vec![Arc::new(access_key)]);
        let mut snapshot = Snapshot::default();
        snapshot
            .access_keys
            .insert(ACCESS_KEY_ID.to_owned(), Arc::new(entry));
        Self {
            verifier: Verifier::new(
                &Regions::one("aws", "us-east-1"),
                Duration::from_secs(300),
                token_key,
            ),
            snapshot,
            headers: headers(),
            uri: Uri::from_static("/"),
        }
    }

    /// Verifies it once.
    pub(crate) fn verify(&self) {
        let head = Head {
            method: &Method::POST,
            uri: &self.uri,
            headers: black_box(&self.headers),
        };
        let claim = self
            .verifier
            .begin(ScopeService::Kms, head, &self.snapshot, NOW)
            .ok()
            .unwrap();
        drop(black_box(claim.finish(black_box(BODY)).ok().unwrap()));
    }
}

fn secret() -> SecretBytes {
    SecretBytes::filled(SECRET_BYTES, |bytes| bytes.fill(b'x'))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1:5645"),
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
