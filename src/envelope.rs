//! Seal, bind and open: the construction of a ciphertext blob, and the whole nonce argument.

use crate::context::EncryptionContext;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::key::KeyId;
use crate::key::data_key::PlaintextDataKey;
use crate::key::material::BackingKey;

pub mod blob;
pub mod epoch;

pub use blob::{BlobHeader, CiphertextBlob};
pub use epoch::{Epoch, EpochEnded, MintedKeys, PooledKey};

/// Seals up to 4,096 bytes that exist already (`Encrypt`): a fresh 24-byte nonce for each call.
///
/// # Errors
/// [`EntropyError`].
pub fn seal(
    _key_id: KeyId,
    _key: &BackingKey,
    _context: &EncryptionContext,
    _plaintext: &[u8],
    _entropy: &Entropy,
) -> Result<Vec<u8>, EntropyError> {
    todo!()
}

/// What does not open: damaged, under another context, or under other material. One error for all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext blob does not open")]
pub struct OpenError;

/// Opens a blob under the material that its header names; `key` must be of that key id and generation.
///
/// # Errors
/// [`OpenError`], whatever the reason.
pub fn open(
    _key_id: KeyId,
    _key: &BackingKey,
    _context: &EncryptionContext,
    _blob: &CiphertextBlob<'_>,
) -> Result<PlaintextDataKey, OpenError> {
    todo!()
}
