//! Ed25519ph (RFC 8032, section 5.1) with an empty context, which aws-lc-rs does not offer.
//!
//! The scheme hashes its message by itself, with SHA-512. AWS KMS takes a hash of 64 bytes from its
//! caller and makes *that* the message of the scheme: what a caller hashed once is hashed once
//! more. A signature is therefore one of the hash, and not of what the caller hashed.

use crate::crypto::pair::PrivateKey;
use crate::crypto::stack::wiped;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use sha2::{Digest, Sha512};

/// Bytes of a private key, the last of its PKCS#8 (RFC 8410), and of a public key, the last of its
/// `SubjectPublicKeyInfo`.
const KEY_BYTES: usize = 32;

/// Signs these bytes; `None` when the pair is not one of Ed25519.
pub(super) fn sign(key: &PrivateKey, message: &[u8]) -> Option<Vec<u8>> {
    wiped(|| signed(key, message))
}

fn signed(key: &PrivateKey, message: &[u8]) -> Option<Vec<u8>> {
    // Not `Ed25519KeyPair::seed`, which leaves a copy of the seed in memory that was given back.
    let private = SigningKey::from_bytes(key.expose_der().last_chunk::<KEY_BYTES>()?);
    if !key
        .public_der()
        .ends_with(private.verifying_key().as_bytes())
    {
        return None;
    }
    let signature = private.sign_prehashed(Sha512::new_with_prefix(message), None);
    Some(signature.ok()?.to_bytes().to_vec())
}

/// Whether a signature is one of these bytes, by the key whose `SubjectPublicKeyInfo` is `public`.
/// Keys and commitments of a small order are refused.
pub(super) fn verifies(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let public = public.last_chunk::<KEY_BYTES>();
    let public = public.and_then(|public| VerifyingKey::from_bytes(public).ok());
    let Some((public, signature)) = public.zip(Signature::from_slice(signature).ok()) else {
        return false;
    };
    let message = Sha512::new_with_prefix(message);
    let verified = public.verify_prehashed_strict(message, None, &signature);
    verified.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::pair::PairSpec;
    use crate::crypto::secret::SecretBytes;

    fn bytes(hex: &str) -> Vec<u8> {
        hex_simd::decode_to_vec(hex).unwrap()
    }

    /// RFC 8032, section 7.3; and what AWS KMS makes of the same document, which a caller has
    /// hashed: equal in an implementation in another language.
    #[test]
    fn signatures_are_those_of_rfc_8032_and_of_the_hash_for_aws_kms() {
        let seed = "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42";
        let der = bytes(&format!("302e020100300506032b657004220420{seed}"));
        let spec = PairSpec::EccNistEdwards25519;
        let key = PrivateKey::from_der(spec, SecretBytes::copy_of(&der)).unwrap();
        let public = bytes("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
        assert!(key.public_der().ends_with(&public));
        let hashed = Sha512::digest(b"abc");
        for (message, signature) in [
            (
                b"abc".as_slice(),
                "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
            ),
            (
                hashed.as_slice(),
                "914dc6538ac512db8ffbdfbbf9c2fd2c1e5c915ff5d708751ad2d3a1425f0c9bfa3f1da6d93e5c7fc5b106b536f7263a3db68e4a285f30e4bd7e8b9f93d42f0e",
            ),
        ] {
            let expected = bytes(signature);
            assert_eq!(sign(&key, message).unwrap(), expected);
            assert!(verifies(key.public_der(), message, &expected));
            assert!(!verifies(key.public_der(), b"abd", &expected));
            for at in 0..expected.len() {
                let mut changed = expected.clone();
                changed[at] ^= 1;
                assert!(!verifies(key.public_der(), message, &changed), "{at}");
            }
            assert!(!verifies(key.public_der(), message, &expected[1..]));
        }
    }

    /// A signature that AWS KMS made (September 2026) of the SHA-512 of this text, given as a
    /// digest.
    #[test]
    fn a_signature_of_aws_kms_is_one_of_the_hash() {
        let public = b"MCowBQYDK2VwAyEAmnl5akZRr82aTm/SBYXqN0IqltQoLHdjrOKW7LIKU7A=";
        let signature = b"lRxoBfode2A1wa9SP+A30MmtzofGyeVULvcrrwOx8uYqWkic7PuGDT+ZzEJcYI6je4GNiIq29kgJTXk5kXJOAg==";
        let decoded = |text: &[u8]| base64_simd::STANDARD.decode_to_vec(text).unwrap();
        let (public, signature) = (decoded(public), decoded(signature));
        let text = b"stackd ECC interoperability";
        assert!(verifies(&public, &Sha512::digest(text), &signature));
        assert!(!verifies(&public, text, &signature), "not of the text");
        assert!(!verifies(b"short", text, &signature));
    }

    #[test]
    fn keys_of_other_kinds_do_not_sign() {
        let probed = crate::crypto::entropy::probed();
        let key = PrivateKey::generate(PairSpec::EccNistP256, probed).unwrap();
        assert!(sign(&key, &[7; 64]).is_none());
    }
}
