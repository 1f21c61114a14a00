//! Key material wrapped for import: RSAES-OAEP by itself, or around an AES-256 key that wraps the
//! material (RFC 5649, AES key wrap with padding); and SM2 by itself.

use crate::crypto::encryption::EncryptionAlgorithm;
use crate::crypto::entropy::Probed;
use crate::crypto::oaep::OaepHash;
use crate::crypto::pair::PrivateKey;
use crate::crypto::secret::SecretBytes;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use std::str::FromStr;
use zeroize::Zeroizing;

/// How key material is wrapped for import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrappingAlgorithm {
    /// RSA encrypts the material.
    Oaep(OaepHash),
    /// RSA encrypts an AES-256 key; behind it follows the material, wrapped by that key.
    AesKeyWrap(OaepHash),
    /// SM2 encrypts the material.
    Sm2Pke,
}

/// The text does not name a wrapping algorithm that is supported.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a wrapping algorithm")]
pub struct InvalidWrappingAlgorithm;

/// The wrapped material does not open. One error for all reasons.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the wrapped key material does not open")]
pub struct UnwrapError;

impl WrappingAlgorithm {
    /// All algorithms, in the order of the service model. Import tokens name one by its place.
    pub const ALL: [Self; 5] = [
        Self::Oaep(OaepHash::Sha1),
        Self::Oaep(OaepHash::Sha256),
        Self::AesKeyWrap(OaepHash::Sha1),
        Self::AesKeyWrap(OaepHash::Sha256),
        Self::Sm2Pke,
    ];

    /// Its name in the API, a value of `AlgorithmSpec`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Oaep(OaepHash::Sha1) => "RSAES_OAEP_SHA_1",
            Self::Oaep(OaepHash::Sha256) => "RSAES_OAEP_SHA_256",
            Self::AesKeyWrap(OaepHash::Sha1) => "RSA_AES_KEY_WRAP_SHA_1",
            Self::AesKeyWrap(OaepHash::Sha256) => "RSA_AES_KEY_WRAP_SHA_256",
            Self::Sm2Pke => "SM2PKE",
        }
    }

    /// Unwraps material that was wrapped under the public key of `key`.
    ///
    /// # Errors
    /// [`UnwrapError`], whatever the reason.
    pub fn unwrap(
        self,
        key: &PrivateKey,
        wrapped: &[u8],
        probed: Probed,
    ) -> Result<SecretBytes, UnwrapError> {
        let open = |algorithm: EncryptionAlgorithm, bytes: &[u8]| {
            let opened = algorithm.decrypt(key, bytes, probed);
            opened.map_err(|_| UnwrapError)
        };
        let oaep = match self {
            Self::Oaep(hash) => return open(EncryptionAlgorithm::Oaep(hash), wrapped),
            Self::Sm2Pke => return open(EncryptionAlgorithm::Sm2Pke, wrapped),
            Self::AesKeyWrap(hash) => EncryptionAlgorithm::Oaep(hash),
        };
        // The encrypted AES key comes first and is as long as the RSA modulus.
        let modulus = key.spec().modulus_bytes().ok_or(UnwrapError)?;
        let (sealed, wrapped) = wrapped.split_at_checked(modulus).ok_or(UnwrapError)?;
        let kek_bytes = open(oaep, sealed)?;
        let kek = AesKek::new(&AES_256, kek_bytes.expose()).map_err(|_| UnwrapError)?;
        let mut room = Zeroizing::new(vec![0; wrapped.len()]);
        let material = kek
            .unwrap_with_padding(wrapped, &mut room)
            .map_err(|_| UnwrapError)?;
        Ok(SecretBytes::copy_of(material))
    }
}

impl FromStr for WrappingAlgorithm {
    type Err = InvalidWrappingAlgorithm;

    fn from_str(text: &str) -> Result<Self, InvalidWrappingAlgorithm> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or(InvalidWrappingAlgorithm)
    }
}

/// Wraps material as a client does before it imports.
#[cfg(test)]
fn wrap(key: &PrivateKey, algorithm: WrappingAlgorithm, material: &[u8]) -> Vec<u8> {
    use crate::crypto::entropy::probed;
    let encrypt = |algorithm: EncryptionAlgorithm, material: &[u8]| {
        algorithm.encrypt(key, material, probed()).unwrap()
    };
    match algorithm {
        WrappingAlgorithm::Oaep(hash) => encrypt(EncryptionAlgorithm::Oaep(hash), material),
        WrappingAlgorithm::Sm2Pke => encrypt(EncryptionAlgorithm::Sm2Pke, material),
        WrappingAlgorithm::AesKeyWrap(hash) => {
            let kek = [9; 32];
            let mut room = vec![0; material.len() + 16];
            let wrapped = AesKek::new(&AES_256, &kek)
                .unwrap()
                .wrap_with_padding(material, &mut room);
            let sealed = encrypt(EncryptionAlgorithm::Oaep(hash), &kek);
            [sealed.as_slice(), wrapped.unwrap()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::probed;
    use crate::crypto::pair::PairSpec;

    #[test]
    fn what_is_wrapped_unwraps_by_the_same_algorithm_alone() {
        let [rsa, sm2] = [PairSpec::Rsa2048, PairSpec::Sm2]
            .map(|spec| PrivateKey::generate(spec, probed()).unwrap());
        for algorithm in WrappingAlgorithm::ALL {
            let (key, stranger) = match algorithm {
                WrappingAlgorithm::Sm2Pke => (&sm2, &rsa),
                _ => (&rsa, &sm2),
            };
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            let mut wrapped = wrap(key, algorithm, &[7; 32]);
            let unwrapped = algorithm.unwrap(key, &wrapped, probed()).unwrap();
            assert_eq!(unwrapped.expose(), [7; 32]);
            for other in WrappingAlgorithm::ALL {
                let opened = other.unwrap(key, &wrapped, probed()).is_ok();
                assert_eq!(opened, other == algorithm, "{algorithm:?} {other:?}");
            }
            assert!(algorithm.unwrap(stranger, &wrapped, probed()).is_err());
            assert!(algorithm.unwrap(key, &wrapped[1..], probed()).is_err());
            assert!(algorithm.unwrap(key, b"", probed()).is_err());
            let last = wrapped.len() - 1;
            wrapped[last] ^= 1;
            assert!(algorithm.unwrap(key, &wrapped, probed()).is_err());
        }
        assert!("RSAES_PKCS1_V1_5".parse::<WrappingAlgorithm>().is_err());
    }
}
