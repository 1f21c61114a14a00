//! Keys minted in this process for a job, and their records in the audit log.

use crate::api::{Api, Requester};
use crate::audit::RowsDigest;
use crate::bulk::source::{KeyIdentity, SourceError};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::envelope;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::pool::CloneWord;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Times that the same rows are bound: a machine that is cloned more often is not one to mint on.
const BINDS_MAX: usize = 3;

/// Mints in epochs of its own. The caller holds the store's exclusive lock, so the key cannot
/// change meanwhile.
pub struct Minter {
    /// The key.
    pub entry: Arc<KeyEntry>,
    /// The length of every data key.
    pub length: DataKeyLength,
    entropy: Arc<Entropy>,
    clone_word: Arc<CloneWord>,
}

impl Minter {
    /// Mints keys of this length under `entry`, in epochs drawn from `entropy`.
    #[must_use]
    pub fn new(
        entry: Arc<KeyEntry>,
        length: DataKeyLength,
        entropy: Arc<Entropy>,
        clone_word: Arc<CloneWord>,
    ) -> Self {
        Self {
            entry,
            length,
            entropy,
            clone_word,
        }
    }

    /// The key, if its state lets it be used.
    ///
    /// # Errors
    /// [`SourceError::State`], when the key's state forbids to use it.
    pub fn usable(&self) -> Result<KeyIdentity, SourceError> {
        usable(&self.entry)
    }

    /// Appends a blob for each row: `runs` are contexts, each with the number of rows that have it.
    /// Where the machine is cloned meanwhile, they are minted anew (POOL-5).
    ///
    /// # Errors
    /// [`SourceError`]; `out` is then as it was.
    pub fn bind<'a>(
        &self,
        runs: impl IntoIterator<Item = (&'a EncryptionContext, usize), IntoIter: Clone>,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let (runs, from) = (runs.into_iter(), out.len());
        let (id, length, entropy) = (self.entry.key.id, self.length, &self.entropy);
        let none = || SourceError::NoMaterial(self.entry.arn.clone());
        let current = self.entry.current().ok_or_else(none)?;
        for _ in 0..BINDS_MAX {
            let word = self.clone_word.read();
            let bound = envelope::mint_rows(id, current, length, entropy, runs.clone(), out);
            if bound.is_ok() && self.clone_word.read() == word {
                return Ok(());
            }
            out.truncate(from);
            bound?;
        }
        Err(SourceError::Cloned)
    }
}

/// The key's names, if its state lets it be used.
///
/// # Errors
/// [`SourceError::State`], when the key's state forbids to use it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::crypto::entropy::{EntropyError, EntropySource, OsEntropy};
    use crate::envelope::{CiphertextBlob, blob_bytes, open};
    use crate::key::material::BackingKey;
    use crate::key::{KeyId, KmsKey};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    /// Counts draws: one for each epoch.
    struct Counted(Arc<AtomicUsize>);

    impl EntropySource for Counted {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            OsEntropy.fill(buffer)
        }
    }

    /// A minter, the number of its epochs, and a handle on its clone word.
    fn minter() -> (Minter, Arc<AtomicUsize>, Arc<AtomicU64>) {
        let id = KeyId::from_random([7; 16]);
        let material = BackingKey::draw(id, 1, Timestamp(0), &Entropy::os()).unwrap();
        let entry = KeyEntry {
            key: KmsKey::new(id, "111122223333".parse().unwrap(), Timestamp(0)),
            arn: String::new(),
            materials: vec![Arc::new(material)],
            secret: None,
            fence: 1,
        };
        let epochs = Arc::new(AtomicUsize::new(0));
        let counted = Box::new(Counted(Arc::clone(&epochs)));
        let entropy = Arc::new(Entropy::new(counted, metrics::Counter::noop()));
        let word = Arc::new(CloneWord::new());
        let handle = word.handle();
        let length = DataKeyLength::AES_256;
        (
            Minter::new(Arc::new(entry), length, entropy, word),
            epochs,
            handle,
        )
    }

    fn contexts() -> [EncryptionContext; 3] {
        ["a", "b", "c"].map(|tenant| EncryptionContext::from_pairs([("tenant", tenant)]).unwrap())
    }

    /// What was minted before an event is cut back, and the same rows are minted anew: each is
    /// there once, in order, and opens.
    #[test]
    fn pool_5_a_job_that_is_cloned_in_mid_chunk_binds_its_rows_anew() {
        let (minter, epochs, handle) = minter();
        let contexts = contexts();
        let mut out = b"before".to_vec();
        let runs = contexts.iter().map(|context| (context, 300));
        // The last run is reached when two thirds are bound.
        let cloned = std::cell::Cell::new(false);
        let events = runs.clone().inspect(|(context, _)| {
            let is_bound_to = **context == contexts[2] && epochs.load(Ordering::SeqCst) == 1;
            if is_bound_to && !cloned.replace(true) {
                handle.fetch_add(1, Ordering::SeqCst);
            }
        });
        minter.bind(events, &mut out).unwrap();
        assert_eq!(
            epochs.load(Ordering::SeqCst),
            2,
            "an epoch before, one after"
        );
        let blobs = out.strip_prefix(b"before").unwrap();
        let blobs: Vec<_> = blobs.chunks(blob_bytes(DataKeyLength::AES_256)).collect();
        assert_eq!(blobs.len(), 900);
        let (id, current) = (minter.entry.key.id, minter.entry.current().unwrap());
        for (row, blob) in blobs.iter().enumerate() {
            let parsed = CiphertextBlob::parse(blob).unwrap();
            assert!(
                open(id, current, &contexts[row / 300], &parsed).is_ok(),
                "{row}"
            );
            assert_eq!(blob[24..44], blobs[0][24..44], "one epoch, the later");
        }
    }

    #[test]
    fn pool_5_a_job_that_is_cloned_again_and_again_ends_and_leaves_nothing() {
        let (minter, epochs, handle) = minter();
        let contexts = contexts();
        let events = contexts.iter().map(|context| {
            handle.fetch_add(1, Ordering::SeqCst);
            (context, 1)
        });
        let mut out = b"before".to_vec();
        let error = minter.bind(events, &mut out).unwrap_err();
        assert!(matches!(error, SourceError::Cloned), "{error}");
        assert_eq!(out, b"before");
        assert_eq!(epochs.load(Ordering::SeqCst), BINDS_MAX);
    }

    /// A twin that no source sees has no epoch to go on with: each chunk begins its own.
    #[test]
    fn pool_5_no_epoch_of_a_job_outlives_its_chunk() {
        let (minter, epochs, _) = minter();
        let context = EncryptionContext::default();
        for chunk in 1..=3 {
            minter.bind([(&context, 10)], &mut Vec::new()).unwrap();
            assert_eq!(epochs.load(Ordering::SeqCst), chunk);
        }
    }
}
