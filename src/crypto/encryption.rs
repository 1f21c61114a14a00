//! Public-key encryption: RSAES-OAEP, and SM2 in the China Regions.

use crate::crypto::entropy::Probed;
use crate::crypto::oaep::{self, OaepHash};
use crate::crypto::pair::{PairSpec, Parsed, PrivateKey};
use crate::crypto::secret::SecretBytes;
use crate::crypto::sm2;
use std::str::FromStr;

/// An algorithm of public-key encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionAlgorithm {
    /// RSAES-OAEP with this hash.
    Oaep(OaepHash),
    /// The encryption of SM2, with SM3.
    Sm2Pke,
}

/// The text does not name an algorithm of public-key encryption.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an algorithm of public-key encryption")]
pub struct InvalidEncryptionAlgorithm;

/// The plaintext cannot be encrypted or the ciphertext does not open. One error for all reasons.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext does not open")]
pub struct EncryptionError;

impl EncryptionAlgorithm {
    /// All algorithms, in the order in which AWS KMS lists those of a key.
    pub const ALL: [Self; 3] = [
        Self::Oaep(OaepHash::Sha1),
        Self::Oaep(OaepHash::Sha256),
        Self::Sm2Pke,
    ];

    /// Its name in the API, a value of `EncryptionAlgorithm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Oaep(OaepHash::Sha1) => "RSAES_OAEP_SHA_1",
            Self::Oaep(OaepHash::Sha256) => "RSAES_OAEP_SHA_256",
            Self::Sm2Pke => "SM2PKE",
        }
    }

    /// The algorithms that keys of `spec` encrypt with, in the order of [`Self::ALL`].
    pub fn of(spec: PairSpec) -> impl Iterator<Item = Self> {
        let fits = move |one: &Self| one.plaintext_bytes_max(spec).is_some();
        Self::ALL.into_iter().filter(fits)
    }

    /// The longest plaintext in bytes under a key of `spec`; `None` when the algorithm is not one
    /// of such keys.
    #[must_use]
    pub fn plaintext_bytes_max(self, spec: PairSpec) -> Option<usize> {
        match self {
            Self::Oaep(hash) => hash.plaintext_bytes_max(spec),
            Self::Sm2Pke => (spec == PairSpec::Sm2).then_some(sm2::PLAINTEXT_BYTES_MAX),
        }
    }

    /// Encrypts under the public key of a pair.
    ///
    /// # Errors
    /// [`EncryptionError`] when the plaintext is longer than [`Self::plaintext_bytes_max`] or the
    /// key is not one of this algorithm.
    pub fn encrypt(
        self,
        key: &PrivateKey,
        plaintext: &[u8],
        probed: Probed,
    ) -> Result<Vec<u8>, EncryptionError> {
        match self {
            Self::Oaep(hash) => {
                oaep::encrypt(key, hash, plaintext, probed).map_err(|_| EncryptionError)
            }
            Self::Sm2Pke => sm2::encrypt(key.public_der(), plaintext).map_err(|_| EncryptionError),
        }
    }

    /// Decrypts.
    ///
    /// # Errors
    /// [`EncryptionError`], whatever the reason.
    pub fn decrypt(
        self,
        key: &PrivateKey,
        ciphertext: &[u8],
        probed: Probed,
    ) -> Result<SecretBytes, EncryptionError> {
        match (self, &key.parsed) {
            (Self::Oaep(hash), _) => {
                oaep::decrypt(key, hash, ciphertext, probed).map_err(|_| EncryptionError)
            }
            (Self::Sm2Pke, Parsed::Sm2(key)) => {
                key.decrypt(ciphertext).map_err(|_| EncryptionError)
            }
            (Self::Sm2Pke, _) => Err(EncryptionError),
        }
    }
}

impl FromStr for EncryptionAlgorithm {
    type Err = InvalidEncryptionAlgorithm;

    fn from_str(text: &str) -> Result<Self, InvalidEncryptionAlgorithm> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or(InvalidEncryptionAlgorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::probed;

    #[test]
    fn what_is_encrypted_opens_by_the_same_algorithm_alone() {
        for spec in PairSpec::quick() {
            let key = PrivateKey::generate(spec, probed()).unwrap();
            let of: Vec<_> = EncryptionAlgorithm::of(spec).collect();
            for algorithm in EncryptionAlgorithm::ALL {
                assert_eq!(algorithm.name().parse(), Ok(algorithm));
                let sealed = algorithm.encrypt(&key, b"text", probed());
                let Some(max) = algorithm.plaintext_bytes_max(spec) else {
                    assert_eq!(sealed, Err(EncryptionError), "{spec:?}");
                    assert!(algorithm.decrypt(&key, b"text", probed()).is_err());
                    continue;
                };
                assert!(of.contains(&algorithm));
                let sealed = sealed.unwrap();
                for other in EncryptionAlgorithm::ALL {
                    let opened = other.decrypt(&key, &sealed, probed());
                    assert_eq!(
                        opened.is_ok(),
                        other == algorithm,
                        "{algorithm:?} {other:?}"
                    );
                }
                let longer = vec![7; max + 1];
                assert!(algorithm.encrypt(&key, &longer[1..], probed()).is_ok());
                assert!(algorithm.encrypt(&key, &longer, probed()).is_err());
            }
        }
        assert!("SYMMETRIC_DEFAULT".parse::<EncryptionAlgorithm>().is_err());
    }
}
