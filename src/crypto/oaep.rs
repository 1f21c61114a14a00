//! RSAES-OAEP (RFC 8017, section 7.1) with an empty label, its mask made with the same hash.

use crate::crypto::entropy::Probed;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::crypto::secret::SecretBytes;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use zeroize::Zeroizing;

/// The hash of the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OaepHash {
    /// SHA-1, which is sound here: OAEP does not depend on collision resistance.
    Sha1,
    /// SHA-256
    Sha256,
}

/// The plaintext cannot be encrypted or the ciphertext does not open. One error for all reasons.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the RSA ciphertext does not open")]
pub struct OaepError;

impl OaepHash {
    /// Both hashes.
    pub const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    fn algorithm(self) -> &'static OaepAlgorithm {
        match self {
            Self::Sha1 => &OAEP_SHA1_MGF1SHA1,
            Self::Sha256 => &OAEP_SHA256_MGF1SHA256,
        }
    }

    /// The longest plaintext in bytes that a key of `spec` encrypts: the length of its modulus less
    /// two hashes and two bytes. `None` when `spec` is not RSA.
    #[must_use]
    pub fn plaintext_bytes_max(self, spec: PairSpec) -> Option<usize> {
        let hash = match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        };
        spec.modulus_bytes().map(|modulus| modulus - 2 * hash - 2)
    }
}

/// Encrypts under the public key of a pair.
///
/// # Errors
/// [`OaepError`] when the plaintext is longer than [`OaepHash::plaintext_bytes_max`] or the key is
/// not an RSA key.
pub fn encrypt(
    key: &PrivateKey,
    hash: OaepHash,
    plaintext: &[u8],
    probed: Probed,
) -> Result<Vec<u8>, OaepError> {
    let public_key = PublicEncryptingKey::from_der(key.public_der()).map_err(|_| OaepError)?;
    let public = OaepPublicEncryptingKey::new(public_key).map_err(|_| OaepError)?;
    encrypt_to(&public, hash, plaintext, probed)
}

/// Encrypts under a public key that has been parsed.
///
/// # Errors
/// [`OaepError`] when the plaintext is too long for the key.
pub fn encrypt_to(
    public: &OaepPublicEncryptingKey,
    hash: OaepHash,
    plaintext: &[u8],
    _probed: Probed,
) -> Result<Vec<u8>, OaepError> {
    let mut ciphertext = vec![0; public.ciphertext_size()];
    let written = public
        .encrypt(hash.algorithm(), plaintext, &mut ciphertext, None)
        .map_err(|_| OaepError)?
        .len();
    ciphertext.truncate(written);
    Ok(ciphertext)
}

/// Decrypts: up to some milliseconds of arithmetic, blinded by numbers that aws-lc draws.
///
/// # Errors
/// [`OaepError`], whatever the reason.
pub fn decrypt(
    key: &PrivateKey,
    hash: OaepHash,
    ciphertext: &[u8],
    _probed: Probed,
) -> Result<SecretBytes, OaepError> {
    let private_key = PrivateDecryptingKey::from_pkcs8(key.expose_der()).map_err(|_| OaepError)?;
    let private = OaepPrivateDecryptingKey::new(private_key).map_err(|_| OaepError)?;
    if ciphertext.len() != private.key_size_bytes() {
        return Err(OaepError);
    }
    let mut room = Zeroizing::new(vec![0; private.min_output_size()]);
    let plaintext = private
        .decrypt(hash.algorithm(), ciphertext, &mut room, None)
        .map_err(|_| OaepError)?;
    Ok(SecretBytes::copy_of(plaintext))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::probed;

    #[test]
    fn what_fits_goes_there_and_back() {
        let key = PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap();
        for (hash, max) in [(OaepHash::Sha1, 214), (OaepHash::Sha256, 190)] {
            assert_eq!(hash.plaintext_bytes_max(PairSpec::Rsa2048), Some(max));
            for length in [0, 1, max] {
                let plaintext = vec![7; length];
                let mut ciphertext = encrypt(&key, hash, &plaintext, probed()).unwrap();
                assert_eq!(ciphertext.len(), 256);
                let opened = decrypt(&key, hash, &ciphertext, probed()).unwrap();
                assert_eq!(opened.expose(), plaintext);
                for other in OaepHash::ALL.into_iter().filter(|other| *other != hash) {
                    assert!(decrypt(&key, other, &ciphertext, probed()).is_err());
                }
                assert!(decrypt(&key, hash, &ciphertext[1..], probed()).is_err());
                ciphertext[9] ^= 1;
                assert!(decrypt(&key, hash, &ciphertext, probed()).is_err());
            }
            assert_eq!(
                encrypt(&key, hash, &vec![7; max + 1], probed()),
                Err(OaepError)
            );
        }
        let maxima = [PairSpec::Rsa3072, PairSpec::Rsa4096, PairSpec::EccNistP256]
            .map(|spec| OaepHash::ALL.map(|hash| hash.plaintext_bytes_max(spec)));
        let expected = [[Some(342), Some(318)], [Some(470), Some(446)], [None, None]];
        assert_eq!(maxima, expected);
        let curve = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
        assert!(encrypt(&curve, OaepHash::Sha256, b"x", probed()).is_err());
        assert!(decrypt(&curve, OaepHash::Sha256, b"x", probed()).is_err());
    }
}
