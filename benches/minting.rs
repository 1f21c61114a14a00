//! Data keys of one KMS key, minted and bound in this process: the floor of other figures.

use keymill::context::EncryptionContext;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{Epoch, MintedKeys};
use keymill::key::data_key::DataKeyLength;
use keymill::keystore::KeyEntry;
use std::hint::black_box;
use std::time::Duration;

pub(crate) const LENGTH: DataKeyLength = DataKeyLength::AES_256;
/// Keys minted at a time, as an export does.
const MINT: usize = 256;

pub(crate) fn context() -> EncryptionContext {
    EncryptionContext::from_pairs([("container", "container-000000000042")]).unwrap()
}

/// What minting keeps from one call to the next: its epoch and its buffers.
pub(crate) struct Minting<'a> {
    entry: &'a KeyEntry,
    entropy: Entropy,
    context: EncryptionContext,
    epoch: Epoch,
    minted: MintedKeys,
    out: Vec<u8>,
}

impl<'a> Minting<'a> {
    pub(crate) fn under(entry: &'a KeyEntry) -> Self {
        let entropy = Entropy::os();
        Self {
            epoch: begin(entry, &entropy),
            entry,
            entropy,
            context: context(),
            minted: MintedKeys::new(),
            out: Vec::new(),
        }
    }

    /// Mints and binds `keys` keys, into buffers that are kept.
    pub(crate) fn mint_and_bind(&mut self, keys: u64) {
        let mut left = usize::try_from(keys).unwrap();
        while left > 0 {
            let count = left.min(MINT);
            while self
                .epoch
                .mint_into(&mut self.minted, LENGTH, count, Duration::ZERO)
                .is_err()
            {
                self.epoch = begin(self.entry, &self.entropy);
            }
            self.out.clear();
            self.minted.bind_many(count, &self.context, &mut self.out);
            black_box(&self.out);
            left -= count;
        }
    }
}

/// A new epoch of the entry's newest material.
fn begin(entry: &KeyEntry, entropy: &Entropy) -> Epoch {
    let material = entry.current().unwrap();
    Epoch::begin(entry.key.id, material, entropy, Duration::ZERO).unwrap()
}
