//! Keys minted in this process for a job, and their records in the audit log.

use crate::api::{Api, Requester};
use crate::audit::RowsDigest;
use crate::bulk::source::{KeyIdentity, SourceError};
use crate::clock::Clock;
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::envelope::{Epoch, EpochEnded, MintedKeys, blob_bytes};
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Keys minted at a time: their ciphertexts, masks and blobs together fit a core's first caches.
const MINT_KEYS: usize = 256;

/// Mints in an epoch of its own. The caller holds the store's exclusive lock, so the key cannot change meanwhile.
pub struct Minter {
    /// The key.
    pub entry: Arc<KeyEntry>,
    /// The length of every data key.
    pub length: DataKeyLength,
    entropy: Arc<Entropy>,
    clock: Clock,
    minting: Option<(Epoch, MintedKeys)>,
}

impl Minter {
    /// Mints keys of this length under `entry`, in epochs drawn from `entropy`.
    #[must_use]
    pub fn new(
        entry: Arc<KeyEntry>,
        length: DataKeyLength,
        entropy: Arc<Entropy>,
        clock: Clock,
    ) -> Self {
        Self {
            entry,
            length,
            entropy,
            clock,
            minting: None,
        }
    }

    /// The key, if its state lets it be used.
    ///
    /// # Errors
    /// [`SourceError::State`].
    pub fn usable(&self) -> Result<KeyIdentity, SourceError> {
        usable(&self.entry)
    }

    /// Appends a blob for each row: `runs` are contexts, each with the number of rows that have it. No minted key is left over.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn bind<'a>(
        &mut self,
        runs: impl IntoIterator<Item = (&'a EncryptionContext, usize), IntoIter: Clone>,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let mut runs = runs.into_iter();
        let mut unminted: usize = runs.clone().map(|(_, rows)| rows).sum();
        out.reserve(unminted * blob_bytes(self.length));
        let mut run = runs.next();
        while unminted > 0 {
            let count = unminted.min(MINT_KEYS);
            let minted = self.mint(count)?;
            unminted -= count;
            while let Some((context, rows)) = run.filter(|_| !minted.is_empty()) {
                let left = rows - minted.bind_many(rows, context, out);
                run = match left {
                    0 => runs.next(),
                    left => Some((context, left)),
                };
            }
        }
        Ok(())
    }

    /// Mints `count` keys, in a new epoch when there is none or it has ended.
    fn mint(&mut self, count: usize) -> Result<&mut MintedKeys, SourceError> {
        let now = self.clock.monotonic();
        let minting = match self.minting.take() {
            Some((mut epoch, mut minted)) => {
                match epoch.mint_into(&mut minted, self.length, count, now) {
                    Ok(()) => Some((epoch, minted)),
                    Err(EpochEnded) => None,
                }
            }
            None => None,
        };
        let (_, minted) = match minting {
            Some(minting) => self.minting.insert(minting),
            None => {
                let key = &self.entry.key;
                let current = self.entry.current();
                let current =
                    current.ok_or_else(|| SourceError::NoMaterial(self.entry.arn.clone()))?;
                let mut epoch = Epoch::begin(key.id, current, &self.entropy, now)?;
                let minted = epoch.mint(self.length, count, now)?;
                self.minting.insert((epoch, minted))
            }
        };
        Ok(minted)
    }
}

/// The key's names, if its state lets it be used.
///
/// # Errors
/// [`SourceError::State`].
pub fn usable(entry: &KeyEntry) -> Result<KeyIdentity, SourceError> {
    let arn = entry.arn.clone();
    match (entry.key.state.usable(), entry.current()) {
        (Ok(()), Some(current)) => Ok(KeyIdentity {
            arn,
            material_id: current.id().to_string(),
        }),
        (Ok(()), None) => Err(SourceError::NoMaterial(arn)),
        (Err(state), _) => Err(SourceError::State { arn, state }),
    }
}

/// Records the parts that this process has made, each before it is whole.
#[derive(Clone)]
pub struct Recorder {
    /// Where they are recorded.
    pub api: Arc<Api>,
    /// Who runs the job.
    pub requester: Requester,
    /// What waits for the disk; the workers' own threads are not its.
    pub runtime: Handle,
    /// `eventName` of the records.
    pub event: &'static str,
}

impl Recorder {
    /// Returns when the record of a job that only reads is as durable as the log is set to be.
    ///
    /// # Errors
    /// [`SourceError::Unrecorded`]: it must not begin.
    pub fn begin(&self, asked: &str) -> Result<(), SourceError> {
        let Self { api, requester, .. } = self;
        let recorded = api.tell_begun(self.event, requester, asked.as_bytes());
        let durable = recorded.and_then(|recorded| self.runtime.block_on(api.durable(recorded)));
        durable.map_err(|error| SourceError::Unrecorded {
            reason: error.source().map_or_else(String::new, ToString::to_string),
        })
    }

    /// Returns when the record of these rows is as durable as the log is set to be.
    ///
    /// # Errors
    /// [`SourceError::Unrecorded`]: the part must not be kept.
    pub fn record(
        &self,
        asked: &str,
        entry: &Arc<KeyEntry>,
        rows: &RowsDigest,
    ) -> Result<(), SourceError> {
        let Self { api, requester, .. } = self;
        let recorded = api.tell_part(self.event, requester, asked.as_bytes(), entry, rows.batch());
        let durable = recorded.and_then(|recorded| self.runtime.block_on(api.durable(recorded)));
        durable.map_err(|error| SourceError::Unrecorded {
            reason: error.source().map_or_else(String::new, ToString::to_string),
        })
    }
}
