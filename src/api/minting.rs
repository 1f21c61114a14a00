//! Keys for bulk: minted in an epoch of their own rather than taken from a lane, so that bulk never takes what online requests wait for.

use crate::api::ApiError;
use crate::api::usability::material;
use crate::crypto::entropy::Entropy;
use crate::envelope::{Epoch, MintedKeys};
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::pool::Stamp;
use std::time::Duration;

/// Mints for one stream, under one KMS key.
#[derive(Default)]
pub(super) struct Minting(Option<Begun>);

/// An epoch, and what it was begun under.
struct Begun {
    epoch: Epoch,
    stamp: Stamp,
    keys: MintedKeys,
}

impl Minting {
    /// Keys minted at a time: their ciphertexts, masks and blobs together fit a core's first caches.
    pub(super) const KEYS_MAX: usize = 256;

    /// Mints `count` keys, in a new epoch when there is none, it has ended, or it was begun under another stamp. What was left of those before is dropped.
    pub(super) fn mint(
        &mut self,
        entropy: &Entropy,
        entry: &KeyEntry,
        stamp: Stamp,
        length: DataKeyLength,
        count: usize,
        now: Duration,
    ) -> Result<&mut MintedKeys, ApiError> {
        if let Some(mut begun) = self.0.take()
            && begun.stamp == stamp
            && begun
                .epoch
                .mint_into(&mut begun.keys, length, count, now)
                .is_ok()
        {
            return Ok(&mut self.0.insert(begun).keys);
        }
        let mut epoch = Epoch::begin(entry.key.id, material(entry)?, entropy, now)?;
        let keys = epoch.mint(length, count, now).map_err(ApiError::internal)?;
        Ok(&mut self.0.insert(Begun { epoch, stamp, keys }).keys)
    }
}
