//! One run of nonces under a key derived from a backing key.

use crate::context::EncryptionContext;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::key::KeyId;
use crate::key::data_key::DataKeyLength;
use crate::key::material::BackingKey;
use std::time::Duration;

/// The owner of one run of nonces. Not `Clone`; its index only moves forward (SEAL-1).
pub struct Epoch(());

/// The epoch has reached its block or time limit: begin another.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the epoch has ended")]
pub struct EpochEnded;

impl Epoch {
    /// Draws prefix, start and seed (52 bytes) and derives the epoch key. `now` is monotonic time.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn begin(
        _key_id: KeyId,
        _key: &BackingKey,
        _entropy: &Entropy,
        _now: Duration,
    ) -> Result<Self, EntropyError> {
        todo!()
    }

    /// Mints `count` pooled keys of one length: draws their ciphertexts, computes their masks.
    ///
    /// # Errors
    /// [`EpochEnded`] when they would pass the block limit, or the time limit has passed.
    pub fn mint(
        &mut self,
        _length: DataKeyLength,
        _count: usize,
        _now: Duration,
    ) -> Result<MintedKeys, EpochEnded> {
        todo!()
    }
}

/// Consecutive pooled keys of one epoch and length: the contents of a magazine. Not `Clone`.
pub struct MintedKeys(());

impl MintedKeys {
    /// Keys left.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Takes the next key out.
    pub fn take(&mut self) -> Option<PooledKey> {
        todo!()
    }

    /// Binds the next `count` keys (or as many as are left) to one context, hashing the context once, and appends their blobs to `out`.
    /// Returns how many were bound.
    pub fn bind_many(
        &mut self,
        _count: usize,
        _context: &EncryptionContext,
        _out: &mut Vec<u8>,
    ) -> usize {
        todo!()
    }
}

/// A data key already encrypted, not yet bound to a context. Not `Clone`: POOL-1.
pub struct PooledKey(());

impl PooledKey {
    /// Finishes the tag over `context` and appends the blob to `out`.
    pub fn bind(self, _context: &EncryptionContext, _out: &mut Vec<u8>) {
        todo!()
    }
}
