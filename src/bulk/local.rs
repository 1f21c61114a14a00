//! Keys of the opened store: what this process makes of rows by itself, and its records in the
//! audit log.

use crate::api::{Api, Requester};
use crate::audit::RowsDigest;
use crate::bulk::keys::{KeySource, KeyWorker, Operation, RowsError, RowsOf};
use crate::bulk::source::{KeyIdentity, SourceError};
use crate::context::ContextRef;
use crate::crypto::entropy::Entropy;
use crate::envelope;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::pool::CloneWord;
use serde_json::Value;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Times that the same rows are bound: a machine that is cloned more often is not one to mint on.
const BINDS_MAX: usize = 3;

/// What a job does with rows in this process.
pub trait LocalWork: Clone + Send + Sync {
    /// What it is.
    type Operation: Operation<Done = KeyIdentity>;

    /// The request for so many rows under the key of this ARN, as the audit log has it.
    fn asked(&self, arn: &str, rows: u64) -> Value;

    /// Works on rows, and adds the blobs that were made to `made`. The state of the key allows it.
    ///
    /// # Errors
    /// [`RowsError`]; the part is then not to be kept.
    fn perform(
        &self,
        keys: &Keys,
        rows: RowsOf<'_, Self::Operation>,
        out: &mut <Self::Operation as Operation>::Out,
        made: &mut RowsDigest,
    ) -> Result<(), RowsError>;
}

/// A job's keys from the opened store. The caller holds the store's exclusive lock, so that the key
/// cannot change meanwhile.
pub struct Local<W> {
    /// What is done.
    pub work: W,
    /// The key, and what is needed to make keys under it.
    pub keys: Keys,
    /// Where parts are recorded; `None` keeps no record, for measurements and tests.
    pub recorder: Option<Recorder>,
}

impl<W: LocalWork> KeySource for Local<W> {
    type Operation = W::Operation;
    type Worker = LocalWorker<W>;

    fn key_arn(&self) -> Option<&str> {
        Some(&self.keys.entry.arn)
    }

    fn worker(&self) -> Result<LocalWorker<W>, SourceError> {
        Ok(LocalWorker {
            work: self.work.clone(),
            keys: self.keys.clone(),
            recorder: self.recorder.clone(),
            asked: String::new(),
            made: RowsDigest::default(),
        })
    }

    fn rehearse(&self, _row: RowsOf<'_, W::Operation>) -> Result<(), RowsError> {
        self.keys.usable()?;
        Ok(())
    }
}

/// Works in epochs of its own, and sums up what it hands out.
pub struct LocalWorker<W> {
    work: W,
    keys: Keys,
    recorder: Option<Recorder>,
    asked: String,
    made: RowsDigest,
}

impl<W: LocalWork> KeyWorker for LocalWorker<W> {
    type Operation = W::Operation;

    fn begin(&mut self, rows: u64) -> Result<(), SourceError> {
        self.asked = self.work.asked(&self.keys.entry.arn, rows).to_string();
        self.made = RowsDigest::default();
        self.keys.usable().map(drop)
    }

    fn work(
        &mut self,
        rows: RowsOf<'_, W::Operation>,
        out: &mut <W::Operation as Operation>::Out,
    ) -> Result<KeyIdentity, RowsError> {
        let key = self.keys.usable()?;
        self.work.perform(&self.keys, rows, out, &mut self.made)?;
        Ok(key)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        let entry = &self.keys.entry;
        match &self.recorder {
            Some(recorder) => recorder.record(&self.asked, entry, &self.made),
            None => Ok(()),
        }
    }
}

/// A key of the store, and what is needed to make data keys under it.
#[derive(Clone)]
pub struct Keys {
    /// The key.
    pub entry: Arc<KeyEntry>,
    /// Where epochs and nonces are drawn.
    pub entropy: Arc<Entropy>,
    /// Whether the machine may have a twin.
    pub clone_word: Arc<CloneWord>,
}

impl Keys {
    /// The key's names, if its state lets it be used.
    ///
    /// # Errors
    /// [`SourceError::State`], when the key's state forbids to use it.
    pub fn usable(&self) -> Result<KeyIdentity, SourceError> {
        let arn = self.entry.arn.clone();
        match (self.entry.key.state.usable(), self.entry.current()) {
            (Ok(()), Some(current)) => Ok(KeyIdentity {
                arn,
                material_id: current.id().to_string(),
            }),
            (Ok(()), None) => Err(SourceError::NoMaterial(arn)),
            (Err(state), _) => Err(SourceError::State { arn, state }),
        }
    }

    /// Appends the blob of a new data key for each row: `runs` are contexts, each with the number
    /// of rows that have it. Where the machine is cloned meanwhile, they are minted anew (POOL-5).
    ///
    /// # Errors
    /// [`SourceError`]; `out` is then as it was.
    pub fn mint<'a, C: Into<ContextRef<'a>>>(
        &self,
        length: DataKeyLength,
        runs: impl IntoIterator<Item = (C, usize), IntoIter: Clone>,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let (runs, from) = (runs.into_iter(), out.len());
        let (id, entropy) = (self.entry.key.id, &self.entropy);
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
    use crate::context::EncryptionContext;
    use crate::crypto::block_cipher::BlockCipher;
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

    /// Keys, the number of their epochs, and a handle on their clone word.
    fn keys() -> (Keys, Arc<AtomicUsize>, Arc<AtomicU64>) {
        let id = KeyId::from_random([7; 16]);
        let material =
            BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(0), &Entropy::os()).unwrap();
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
        let keys = Keys {
            entry: Arc::new(entry),
            entropy,
            clone_word: word,
        };
        (keys, epochs, handle)
    }

    fn contexts() -> [EncryptionContext; 3] {
        ["a", "b", "c"].map(|tenant| EncryptionContext::from_pairs([("tenant", tenant)]).unwrap())
    }

    /// What was minted before an event is cut back, and the same rows are minted anew: each is
    /// there once, in order, and opens.
    #[test]
    fn pool_5_a_job_that_is_cloned_in_mid_chunk_binds_its_rows_anew() {
        let (keys, epochs, handle) = keys();
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
        keys.mint(DataKeyLength::AES_256, events, &mut out).unwrap();
        assert_eq!(
            epochs.load(Ordering::SeqCst),
            2,
            "an epoch before, one after"
        );
        let blobs = out.strip_prefix(b"before").unwrap();
        let blobs: Vec<_> = blobs.chunks(blob_bytes(DataKeyLength::AES_256)).collect();
        assert_eq!(blobs.len(), 900);
        let (id, current) = (keys.entry.key.id, keys.entry.current().unwrap());
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
        let (keys, epochs, handle) = keys();
        let contexts = contexts();
        let events = contexts.iter().map(|context| {
            handle.fetch_add(1, Ordering::SeqCst);
            (context, 1)
        });
        let mut out = b"before".to_vec();
        let error = keys
            .mint(DataKeyLength::AES_256, events, &mut out)
            .unwrap_err();
        assert!(matches!(error, SourceError::Cloned), "{error}");
        assert_eq!(out, b"before");
        assert_eq!(epochs.load(Ordering::SeqCst), BINDS_MAX);
    }

    /// A twin that no source sees has no epoch to go on with: each chunk begins its own.
    #[test]
    fn pool_5_no_epoch_of_a_job_outlives_its_chunk() {
        let (keys, epochs, _) = keys();
        let context = EncryptionContext::default();
        for chunk in 1..=3 {
            keys.mint(DataKeyLength::AES_256, [(&context, 10)], &mut Vec::new())
                .unwrap();
            assert_eq!(epochs.load(Ordering::SeqCst), chunk);
        }
    }
}
