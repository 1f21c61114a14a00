use super::*;
use crate::crypto::entropy::probed;

const MESSAGE: &[u8] = b"message";

/// The hash of the message that an algorithm takes in its place; empty if it takes none.
fn hashed(algorithm: SigningAlgorithm) -> Vec<u8> {
    let hash = match algorithm {
        Ed25519ph => Some(&digest::SHA512),
        other => other.hash(),
    };
    hash.map_or(Vec::new(), |hash| {
        digest::digest(hash, MESSAGE).as_ref().to_vec()
    })
}

/// Bytes of no message in particular, as long as a hash of SHA-512 and as a representative.
const BYTES: &[u8] = &[7; 64];

/// What an algorithm takes of one message, all with the same signature; and what it refuses.
type Forms<'a> = (Vec<Message<'a>>, Vec<(Message<'a>, SignatureError)>);

fn forms(algorithm: SigningAlgorithm, hash: &[u8]) -> Forms<'_> {
    let (raw, digest) = (Message::Raw(MESSAGE), Message::Digest(hash));
    let short = (Message::Digest(b"short"), SignatureError::Length);
    match algorithm {
        Ed25519ph => (vec![digest], vec![(raw, SignatureError::Algorithm), short]),
        Ed25519 => {
            let digest = Message::Digest(BYTES);
            (vec![raw], vec![(digest, SignatureError::Algorithm)])
        }
        Sm2Dsa => {
            // The hash that is signed is not that of the message alone: the tests of `sm2` sign it.
            let mu = Message::ExternalMu(BYTES);
            (vec![raw], vec![short, (mu, SignatureError::Algorithm)])
        }
        MlDsa => {
            let digest = Message::Digest(BYTES);
            let short = Message::ExternalMu(b"short");
            let refused = vec![
                (digest, SignatureError::Algorithm),
                (short, SignatureError::Length),
            ];
            (vec![raw], refused)
        }
        _ => {
            let mu = Message::ExternalMu(BYTES);
            let refused = vec![short, (mu, SignatureError::Algorithm)];
            (vec![raw, digest], refused)
        }
    }
}

#[test]
fn what_is_signed_verifies_and_nothing_else_does() {
    for spec in PairSpec::quick() {
        let key = PrivateKey::generate(spec, probed()).unwrap();
        let signs = SigningAlgorithm::of(spec).count() > 0;
        assert_eq!(signs, spec.family() != Family::MlKem, "{spec:?}");
        for algorithm in SigningAlgorithm::ALL {
            let what = format!("{spec:?} {algorithm:?}");
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            let hash = hashed(algorithm);
            let (taken, refused) = forms(algorithm, &hash);
            if !algorithm.fits(spec) {
                let signed = sign(&key, algorithm, taken[0], probed());
                assert_eq!(signed, Err(SignatureError::Algorithm), "{what}");
                let verified = verify(&key, algorithm, taken[0], b"x");
                assert_eq!(verified, Err(SignatureError::Algorithm), "{what}");
                continue;
            }
            let invalid = Err(SignatureError::Invalid);
            for &message in &taken {
                assert_eq!(algorithm.check(message), Ok(()), "{what}");
                let mut signature = sign(&key, algorithm, message, probed()).unwrap();
                for &other in &taken {
                    assert_eq!(verify(&key, algorithm, other, &signature), Ok(()), "{what}");
                }
                let of_another = match message {
                    Message::Raw(_) => Message::Raw(b"massage"),
                    _ => Message::Digest(&BYTES[..hash.len()]),
                };
                let verified = verify(&key, algorithm, of_another, &signature);
                assert_eq!(verified, invalid, "{what}");
                let last = signature.len() - 1;
                signature[last] ^= 1;
                let changed = verify(&key, algorithm, message, &signature);
                assert_eq!(changed, invalid, "{what}");
                let none = verify(&key, algorithm, message, b"");
                assert_eq!(none, invalid, "{what}");
            }
            for (message, error) in refused {
                let signed = sign(&key, algorithm, message, probed());
                assert_eq!(signed.as_ref(), Err(&error), "{what}");
                let verified = verify(&key, algorithm, message, b"x");
                assert_eq!(verified.as_ref(), Err(&error), "{what}");
                assert_eq!(algorithm.check(message), Err(error), "{what}");
            }
        }
    }
    assert!("SM3DSA".parse::<SigningAlgorithm>().is_err());
}
