//! `Sign` and `Verify`: what each algorithm takes, and how it refuses the rest.

use super::*;
use crate::crypto::pair::{Family, PairSpec};
use crate::crypto::signature::SigningAlgorithm;
use shake::{ExtendableOutput, Shake256, Update, XofReader};

/// A message of another hash's length.
const OTHER: &[u8] = &[8; 64];

/// The type of the message that an algorithm takes, and a message of that type.
fn taken(algorithm: SigningAlgorithm) -> (&'static str, &'static [u8]) {
    match algorithm {
        SigningAlgorithm::Ed25519ph => ("DIGEST", &[7; 64]),
        _ => ("RAW", MESSAGE),
    }
}

/// The type of message that no algorithm of a spec takes.
fn foreign(spec: PairSpec) -> &'static str {
    match SigningAlgorithm::of(spec).next() {
        Some(SigningAlgorithm::MlDsa) => "DIGEST",
        _ => "EXTERNAL_MU",
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
        SigningAlgorithm::MlDsa => {
            let length = format!("External Mu is invalid length for algorithm {name}.");
            vec![("EXTERNAL_MU", length)]
        }
        _ => vec![("DIGEST", length)],
    }
}

#[tokio::test]
async fn what_is_signed_verifies_and_what_does_not_fit_is_refused() {
    let bench = Bench::new().await;
    let signing = bench
        .quick_pairs()
        .filter(|spec| spec.family() != Family::MlKem);
    for spec in signing {
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
                bench
                    .refused("Sign", ask(MESSAGE, "RAW"), code, &text)
                    .await;
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
                    verify(message, foreign(spec)),
                    "SigningAlgorithm",
                    json!("SM2DSA"),
                );
                let text = format!(
                    "Message type {} is incompatible with key spec {}.",
                    foreign(spec),
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

/// FIPS 204, algorithm 7, line 6, with an empty context.
fn representative(public: &[u8], message: &[u8]) -> [u8; 64] {
    let hash = |parts: &[&[u8]]| {
        let mut hash = Shake256::default();
        parts.iter().for_each(|part| hash.update(part));
        let mut output = [0; 64];
        hash.finalize_xof().read(&mut output);
        output
    };
    hash(&[&hash(&[public]), &[0, 0], message])
}

#[tokio::test]
async fn a_message_and_its_representative_have_the_same_signatures() {
    let bench = Bench::new().await;
    for spec in ["ML_DSA_44", "ML_DSA_65", "ML_DSA_87"] {
        let id = bench.key_of(spec, "SIGN_VERIFY").await;
        let public = bench.done_to("GetPublicKey", &id).await;
        let raw = decoded(&public["PublicKey"]).split_off(22);
        let mu = representative(&raw, MESSAGE);
        let forms = [("RAW", MESSAGE), ("EXTERNAL_MU", &mu)];
        let ask = |(kind, message): (&str, &[u8])| json!({"KeyId": id, "Message": encoded(message), "MessageType": kind, "SigningAlgorithm": "ML_DSA_SHAKE_256"});
        for form in forms {
            let signed = bench.done("Sign", ask(form)).await;
            let again = bench.done("Sign", ask(form)).await;
            assert_ne!(signed, again, "hedged");
            for form in forms {
                let verify = with(ask(form), "Signature", signed["Signature"].clone());
                bench.done("Verify", verify.clone()).await;
                for wrong in [encoded(b"short"), encoded(&[7; 6144])] {
                    let verify = with(verify.clone(), "Signature", json!(wrong));
                    let code = Code::KMSInvalidSignatureException;
                    bench.refused("Verify", verify, code, "").await;
                }
            }
        }
        let empty = "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1";
        bench.invalid("Sign", ask(("RAW", b"")), empty).await;
        let code = Code::InvalidKeyUsageException;
        let message = format!("Algorithm ECDSA_SHA_256 is incompatible with key spec {spec}.");
        let other = with(ask(forms[0]), "SigningAlgorithm", json!("ECDSA_SHA_256"));
        bench.refused("Sign", other, code, &message).await;
    }
}
