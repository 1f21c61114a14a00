//! Elliptic-curve Diffie-Hellman on the NIST curves and that of SM2 (SP 800-56A, the raw shared
//! secret).

use crate::crypto::pair::{PairSpec, Parsed, PrivateKey};
use crate::crypto::secret::SecretBytes;
use aws_lc_rs::agreement::{self, Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, UnparsedPublicKey};

/// There is no shared secret: the other public key is not on the same curve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the public key is not of the same curve")]
pub struct AgreementError;

/// Whether keys of a spec can agree on a secret.
#[must_use]
pub fn fits(spec: PairSpec) -> bool {
    spec == PairSpec::Sm2 || algorithm(spec).is_some()
}

fn algorithm(spec: PairSpec) -> Option<&'static Algorithm> {
    match spec {
        PairSpec::EccNistP256 => Some(&ECDH_P256),
        PairSpec::EccNistP384 => Some(&ECDH_P384),
        PairSpec::EccNistP521 => Some(&ECDH_P521),
        _ => None,
    }
}

/// The secret that `key` shares with the holder of the private key of `public`, which is a
/// `SubjectPublicKeyInfo` in DER.
///
/// # Errors
/// [`AgreementError`].
pub fn agree(key: &PrivateKey, public: &[u8]) -> Result<SecretBytes, AgreementError> {
    if let Parsed::Sm2(key) = &key.parsed {
        return key.agree(public).map_err(|_| AgreementError);
    }
    let algorithm = algorithm(key.spec()).ok_or(AgreementError)?;
    let private = agreement::PrivateKey::from_private_key_der(algorithm, key.expose_der())
        .map_err(|_| AgreementError)?;
    let public = UnparsedPublicKey::new(algorithm, public);
    agreement::agree(&private, public, AgreementError, |secret| {
        Ok(SecretBytes::copy_of(secret))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::probed;

    #[test]
    fn both_ends_agree_and_other_curves_do_not() {
        for spec in PairSpec::quick() {
            let one = PrivateKey::generate(spec, probed()).unwrap();
            let other = PrivateKey::generate(spec, probed()).unwrap();
            let secret = agree(&one, other.public_der());
            if !fits(spec) {
                assert_eq!(secret.err(), Some(AgreementError), "{spec:?}");
                continue;
            }
            let secret = secret.unwrap();
            let same = agree(&other, one.public_der()).unwrap();
            assert_eq!(secret.expose(), same.expose());
            for curve in [PairSpec::EccNistP256, PairSpec::EccNistP384, PairSpec::Sm2] {
                let stranger = PrivateKey::generate(curve, probed()).unwrap();
                let agreed = agree(&one, stranger.public_der());
                assert_eq!(agreed.is_ok(), curve == spec, "{spec:?} {curve:?}");
            }
            assert!(agree(&one, b"").is_err());
            assert!(agree(&one, &one.public_der()[1..]).is_err());
        }
    }
}
