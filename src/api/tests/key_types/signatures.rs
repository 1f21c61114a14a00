//! `Sign` and `Verify`: what each algorithm takes, and how it refuses the rest.

use super::*;
use crate::crypto::pair::PairSpec;
use crate::crypto::signature::SigningAlgorithm;

/// A message of another hash's length.
const OTHER: &[u8] = &[8; 64];

/// The type of the message that an algorithm takes, and a message of that type.
fn taken(algorithm: SigningAlgorithm) -> (&'static str, &'static [u8]) {
    match algorithm {
        SigningAlgorithm::Ed25519ph => ("DIGEST", &[7; 64]),
        _ => ("RAW", MESSAGE),
    }
}

/// How an algorithm refuses the digest `short`, or a message that it does not hash.
fn refusals(algorithm: SigningAlgorithm) -> Vec<(&'static str, String)> {
    let name = algorithm.name();
    let length = format!("Digest is invalid length for algorithm {name}.");
    let kind = |kind: &str| format!("Message type {kind} is incompatible with algorithm {name}.");
    match algorithm {
        SigningAlgorithm::Ed25519 => vec![("DIGEST", kind("DIGEST"))],
        SigningAlgorithm::Ed25519ph => vec![("DIGEST", length), ("RAW", kind("RAW"))],
        _ => vec![("DIGEST", length)],
    }
}

#[tokio::test]
async fn what_is_signed_verifies_and_what_does_not_fit_is_refused() {
    let bench = Bench::new().await;
    for spec in PairSpec::quick() {
        let id = bench.key_of(spec.name(), "SIGN_VERIFY").await;
        for algorithm in SigningAlgorithm::ALL {
            let name = algorithm.name();
            let (kind, message) = taken(algorithm);
            let ask = |message: &[u8], kind: &str| json!({"KeyId": id, "Message": encoded(message), "MessageType": kind, "SigningAlgorithm": name});
            if !algorithm.fits(spec) {
                let text = format!(
                    "Algorithm {name} is incompatible with key spec {}.",
                    spec.name()
                );
                let code = Code::InvalidKeyUsageException;
                bench.refused("Sign", ask(message, kind), code, &text).await;
                continue;
            }
            let signed = bench.done("Sign", ask(message, kind)).await;
            let (arn, signature) = (key_arn(&id), &signed["Signature"]);
            let expected = json!({"KeyId": arn, "Signature": signature, "SigningAlgorithm": name});
            assert_eq!(signed, expected);
            let verify = |message: &[u8], kind: &str| {
                with(ask(message, kind), "Signature", signature.clone())
            };
            let verified = bench.done("Verify", verify(message, kind)).await;
            let expected = json!({"KeyId": arn, "SignatureValid": true, "SigningAlgorithm": name});
            assert_eq!(verified, expected);
            // The check is done in a dry run too.
            for dry_run in [false, true] {
                let wrong = with(verify(OTHER, kind), "DryRun", json!(dry_run));
                bench
                    .refused("Verify", wrong, Code::KMSInvalidSignatureException, "")
                    .await;
            }
            for operation in ["Sign", "Verify"] {
                for (kind, text) in refusals(algorithm) {
                    let body = verify(b"short", kind);
                    bench.invalid(operation, body, &text).await;
                }
                // The type of the message is compared with the key before the algorithm is.
                let body = with(
                    verify(message, "EXTERNAL_MU"),
                    "SigningAlgorithm",
                    json!("SM2DSA"),
                );
                let text = format!(
                    "Message type EXTERNAL_MU is incompatible with key spec {}.",
                    spec.name()
                );
                bench.invalid(operation, body, &text).await;
                // Not in the list of signing algorithms, and yet said to be of another key.
                let body = with(
                    verify(message, kind),
                    "SigningAlgorithm",
                    json!("SYMMETRIC_DEFAULT"),
                );
                let text = format!(
                    "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec {}.",
                    spec.name()
                );
                let code = Code::InvalidKeyUsageException;
                bench.refused(operation, body, code, &text).await;
            }
            let dry = with(ask(message, kind), "DryRun", json!(true));
            let dry = bench.call("Sign", dry).await.unwrap_err();
            assert_eq!(dry.0, Code::DryRunOperationException);
        }
    }
}
