//! The block cipher of a symmetric encryption key: AES-256 (FIPS 197), and SM4 (GB/T 32907) in the
//! China Regions.
//!
//! With either, the first 12 bytes of a blob's nonce derive a GCM key from the long-lived key, and
//! the last 12 are that key's GCM nonce: [`xaes`] and [`sm4`].

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::gcm::GcmKey;
use crate::crypto::secret::Secret;
use crate::crypto::sm4;
use crate::crypto::xaes::{self, NONCE_BYTES, OpenError, PREFIX_BYTES, TAG_BYTES};

/// A block cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockCipher {
    /// AES with keys of 256 bits.
    Aes256,
    /// SM4, whose keys have 128 bits.
    Sm4,
}

impl BlockCipher {
    /// Bytes of a key.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes256 => 32,
            Self::Sm4 => sm4::KEY_BYTES,
        }
    }
}

/// A key of a block cipher. No `Debug` and no `Clone`: see WIPE-1.
pub enum CipherKey {
    /// 32 bytes.
    Aes256(Secret<32>),
    /// 16 bytes.
    Sm4(Secret<{ sm4::KEY_BYTES }>),
}

impl From<Secret<32>> for CipherKey {
    fn from(key: Secret<32>) -> Self {
        Self::Aes256(key)
    }
}

impl From<Secret<{ sm4::KEY_BYTES }>> for CipherKey {
    fn from(key: Secret<{ sm4::KEY_BYTES }>) -> Self {
        Self::Sm4(key)
    }
}

impl CipherKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw(cipher: BlockCipher, entropy: &Entropy) -> Result<Self, EntropyError> {
        Ok(match cipher {
            BlockCipher::Aes256 => Self::Aes256(entropy.draw_secret()?),
            BlockCipher::Sm4 => Self::Sm4(entropy.draw_secret()?),
        })
    }

    /// Copies the bytes of a key, which are not wiped where they are. `None` when they do not have
    /// the length of the cipher's keys.
    #[must_use]
    pub fn copy_of(cipher: BlockCipher, bytes: &[u8]) -> Option<Self> {
        match cipher {
            BlockCipher::Aes256 => copied(bytes).map(Self::Aes256),
            BlockCipher::Sm4 => copied(bytes).map(Self::Sm4),
        }
    }

    /// The same key once more: of the same bytes, wiped apart.
    #[must_use]
    pub fn copied(&self) -> Self {
        match self {
            Self::Aes256(key) => Self::Aes256(Secret::filled(|copy| *copy = *key.expose())),
            Self::Sm4(key) => Self::Sm4(Secret::filled(|copy| *copy = *key.expose())),
        }
    }

    /// The cipher that the key is for.
    #[must_use]
    pub fn cipher(&self) -> BlockCipher {
        match self {
            Self::Aes256(_) => BlockCipher::Aes256,
            Self::Sm4(_) => BlockCipher::Sm4,
        }
    }

    /// The key in the clear: for sealing it at rest.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match self {
            Self::Aes256(key) => key.expose(),
            Self::Sm4(key) => key.expose(),
        }
    }

    /// The GCM key of all nonces that begin with `prefix`.
    #[must_use]
    pub fn derive(&self, prefix: &[u8; PREFIX_BYTES]) -> GcmKey {
        match self {
            Self::Aes256(key) => GcmKey::aes_256(&xaes::derive_key(key.expose(), prefix)),
            Self::Sm4(key) => GcmKey::sm4(&sm4::derive_key(key.expose(), prefix)),
        }
    }

    /// Encrypts `text` in place and returns the tag.
    ///
    /// # Panics
    /// Never for texts of less than 2^36 bytes, which is above every caller's bound.
    pub(crate) fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        match self {
            Self::Aes256(key) => xaes::seal_in_place(key.expose(), nonce, associated, text),
            Self::Sm4(key) => sm4::seal_in_place(key.expose(), nonce, associated, text),
        }
    }

    /// Compares the tag in constant time, then decrypts `text` in place.
    pub(crate) fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), OpenError> {
        match self {
            Self::Aes256(key) => xaes::open_in_place(key.expose(), nonce, associated, text, tag),
            Self::Sm4(key) => sm4::open_in_place(key.expose(), nonce, associated, text, tag),
        }
    }
}

fn copied<const N: usize>(bytes: &[u8]) -> Option<Secret<N>> {
    let bytes: &[u8; N] = bytes.try_into().ok()?;
    Some(Secret::filled(|copy| *copy = *bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_length_of_its_cipher_alone() {
        for (cipher, length) in [(BlockCipher::Aes256, 32), (BlockCipher::Sm4, 16)] {
            assert_eq!(cipher.key_bytes(), length);
            let drawn = CipherKey::draw(cipher, &Entropy::os()).unwrap();
            assert_eq!((drawn.cipher(), drawn.expose().len()), (cipher, length));
            let copy = CipherKey::copy_of(cipher, drawn.expose()).unwrap();
            for copy in [&copy, &drawn.copied()] {
                assert_eq!((copy.cipher(), copy.expose()), (cipher, drawn.expose()));
            }
            for other in [0, length - 1, length + 1, 48 - length] {
                assert!(CipherKey::copy_of(cipher, &vec![0; other]).is_none());
            }
        }
    }
}
