//! Answers of external key store proxies: whatever the bytes are, nothing panics, and what is taken
//! keeps its bounds. A ciphertext that is taken has its integrity value.
//!
//! The input's first byte chooses the operation, counted from `0`; the rest is the answer. For a
//! plaintext of three bytes and additional data of one, `a`.

#![no_main]

use http::StatusCode;
use keymill::xks_proxy::sealed::{METADATA_BYTES_MAX, VECTOR_BYTES};
use keymill::xks_proxy::{ProxyError, answer};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const BYTES: usize = 3;
const ADDITIONAL: &[u8] = b"a";

/// A member that is text, and must be there.
fn text(body: &[u8], member: &str) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    answer[member].as_str().unwrap_or_default().to_owned()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, body)) = bytes.split_first() else {
        return;
    };
    match which {
        b'0' => {
            if let Ok(health) = answer::health(body) {
                assert!(health.fleet_size > 0);
                assert!((1..=10).contains(&health.managers.len()));
            }
        }
        b'1' => {
            if let Ok(metadata) = answer::key_metadata(body) {
                assert!(!metadata.is_usable() || metadata.encrypts && metadata.decrypts);
            }
        }
        b'2' => {
            if let Ok(sealed) = answer::encrypted(body, BYTES, ADDITIONAL) {
                assert_eq!(sealed.ciphertext().len(), BYTES);
                assert!(VECTOR_BYTES.contains(&sealed.vector().len()));
                assert!(sealed.metadata().len() <= METADATA_BYTES_MAX);
                // It is not taken for another text, or with other data.
                assert!(answer::encrypted(body, BYTES + 1, ADDITIONAL).is_err());
                assert!(answer::encrypted(body, BYTES, b"b").is_err());
            }
        }
        b'3' => {
            if let Ok(plaintext) = answer::decrypted(body, BYTES) {
                assert_eq!(plaintext.len(), BYTES);
            }
        }
        _ => match answer::refusal(StatusCode::NOT_FOUND, body) {
            ProxyError::Refused(name) => {
                let told = text(body, "errorName");
                // Other members may hold half a surrogate, which a `Value` cannot.
                assert!(told == name.name() || told.is_empty());
            }
            ProxyError::InvalidResponse(reason) => assert!(reason.len() < 100),
            other => panic!("{other}"),
        },
    }
});
