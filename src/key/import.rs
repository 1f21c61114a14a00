//! Imported material: its bytes, read once, and the facts that stay known when they have expired or
//! were deleted.

use crate::clock::Timestamp;
use crate::crypto::block_cipher::{BlockCipher, CipherKey};
use crate::crypto::mac::MacKey;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::crypto::secret::SecretBytes;
use crate::key::KeyId;
use crate::key::material::{KeyMaterialId, KeySecret};
use crate::key::rotation::RotationType;
use crate::key::spec::KeySpec;
use std::sync::Arc;

/// One material that was imported into a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// From 1; blobs under this material name it.
    pub generation: u32,
    /// Its name, by which a second import of the same material is recognised.
    pub id: KeyMaterialId,
    /// When it became current. For the first material: when it was imported first.
    pub date: Timestamp,
    /// The rotation that made it current; `None` for the first material.
    pub rotation: Option<RotationType>,
    /// Whether the store has its bytes.
    pub present: bool,
    /// Whether it waits for the rotation that will make it current. Until then it is not bound to
    /// the key permanently.
    pub pending: bool,
    /// When its bytes expire; `None` when they stay until they are deleted.
    pub valid_to: Option<Timestamp>,
    /// 0..=256 characters.
    pub description: String,
}

impl Import {
    /// Whether its bytes are still here after they have expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.present && self.valid_to.is_some_and(|date| date <= now)
    }

    /// Its name in the API, a value of `ExpirationModel`.
    #[must_use]
    pub fn expiration_model(&self) -> &'static str {
        match self.valid_to {
            Some(_) => "KEY_MATERIAL_EXPIRES",
            None => "KEY_MATERIAL_DOES_NOT_EXPIRE",
        }
    }
}

/// What an import brings, read as material of its key's spec.
pub enum ImportedMaterial {
    /// Of a symmetric encryption key.
    Symmetric(CipherKey),
    /// Of an asymmetric or HMAC key.
    Other(Arc<KeySecret>),
}

/// The bytes are not material of the spec.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMaterial {
    /// A symmetric or HMAC key of another length.
    #[error("key material of another length")]
    Length,
    /// Not a private key of this spec in PKCS#8.
    #[error("not a private key of this spec in PKCS #8")]
    PrivateKey(PairSpec),
}

impl ImportedMaterial {
    /// Reads a key of the cipher of symmetric encryption keys, an HMAC key, or a private key in
    /// PKCS#8 (RFC 5958).
    ///
    /// # Errors
    /// [`InvalidMaterial`].
    pub fn read(spec: KeySpec, cipher: BlockCipher, bytes: &[u8]) -> Result<Self, InvalidMaterial> {
        let length = InvalidMaterial::Length;
        let secret = match spec {
            KeySpec::Symmetric => {
                let key = CipherKey::copy_of(cipher, bytes);
                return key.map(Self::Symmetric).ok_or(length);
            }
            KeySpec::Pair(spec) => {
                let read = PrivateKey::import(spec, bytes);
                KeySecret::Pair(read.map_err(|_| InvalidMaterial::PrivateKey(spec))?)
            }
            KeySpec::Mac(spec) => {
                let copied = SecretBytes::copy_of(bytes);
                KeySecret::Mac(MacKey::from_bytes(spec, copied).ok_or(length)?)
            }
        };
        Ok(Self::Other(Arc::new(secret)))
    }

    /// Its name as material of this key.
    #[must_use]
    pub fn id(&self, key: KeyId) -> KeyMaterialId {
        match self {
            Self::Symmetric(secret) => KeyMaterialId::of(key, secret.expose()),
            Self::Other(secret) => secret.id(key),
        }
    }
}
