//! What binds rows: this process, under a key of the opened store, or a daemon.

use crate::audit::RowsDigest;
use crate::bulk::minting::{Minter, Recorder};
use crate::bulk::{KeyIdentity, SourceError};
use crate::columns::{ContextPairs, Rows};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::pool::CloneWord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A supply of binders for one job.
pub trait Binders: Sync {
    /// What one thread binds with.
    type Binder: Binder;

    /// The key's ARN, where it is known before the first row.
    fn key_arn(&self) -> Option<&str>;

    /// A binder for the calling thread.
    ///
    /// # Errors
    /// [`SourceError`], when the connection to the daemon cannot be set up.
    fn binder(&self) -> Result<Self::Binder, SourceError>;
}

/// Some rows, and their contexts.
pub struct Contexts<'a> {
    /// The values, by row.
    pub rows: &'a Rows<'a>,
    /// The contexts, each with the number of rows in a row that have it.
    pub runs: &'a [(EncryptionContext, usize)],
}

/// One thread's way of binding.
pub trait Binder {
    /// Begins a part of so many rows.
    ///
    /// # Errors
    /// [`SourceError`], when the key cannot be used.
    fn begin(&mut self, rows: u64) -> Result<(), SourceError>;

    /// Appends a blob for each row, all under the key that is returned.
    ///
    /// # Errors
    /// [`BindError`]; the part is then not to be kept.
    fn bind(
        &mut self,
        contexts: &Contexts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, BindError>;

    /// Ends the part.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn end(&mut self) -> Result<(), SourceError>;
}

/// Why rows were not bound.
#[derive(Debug)]
pub enum BindError {
    /// No row could be.
    Source(SourceError),
    /// This one could not.
    Row {
        /// Its number among those that were to be bound.
        at: usize,
        /// The KMS error code.
        code: String,
        /// Its message, if any.
        message: String,
    },
}

impl From<SourceError> for BindError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Binds in this process, each part recorded in the audit log. The caller holds the store's
/// exclusive lock.
pub struct Recorded {
    /// The key.
    pub entry: Arc<KeyEntry>,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// Of what contexts are made.
    pub pairs: ContextPairs,
    /// Where epochs are drawn.
    pub entropy: Arc<Entropy>,
    /// Whether the machine may have a twin.
    pub clone_word: Arc<CloneWord>,
    /// Where parts are recorded.
    pub recorder: Recorder,
}

impl Binders for Recorded {
    type Binder = RecordedBinder;

    fn key_arn(&self) -> Option<&str> {
        Some(&self.entry.arn)
    }

    fn binder(&self) -> Result<RecordedBinder, SourceError> {
        let (entry, entropy) = (Arc::clone(&self.entry), Arc::clone(&self.entropy));
        let word = Arc::clone(&self.clone_word);
        Ok(RecordedBinder {
            minter: Minter::new(entry, self.length, entropy, word),
            pairs: self.pairs.clone(),
            recorder: self.recorder.clone(),
            asked: String::new(),
            rows: RowsDigest::default(),
        })
    }
}

/// Mints in epochs of its own, and sums up what it hands out.
pub struct RecordedBinder {
    minter: Minter,
    pairs: ContextPairs,
    recorder: Recorder,
    asked: String,
    rows: RowsDigest,
}

impl Binder for RecordedBinder {
    fn begin(&mut self, rows: u64) -> Result<(), SourceError> {
        let constants = self.pairs.constants.iter().cloned();
        let asked = serde_json::json!({
            "KeyId": self.minter.entry.arn,
            "NumberOfBytes": self.minter.length.bytes(),
            "ContextColumns": self.pairs.columns,
            "EncryptionContext": constants.collect::<BTreeMap<_, _>>(),
            "Count": rows,
        });
        self.asked = asked.to_string();
        self.rows = RowsDigest::default();
        Ok(())
    }

    fn bind(
        &mut self,
        contexts: &Contexts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, BindError> {
        let key = self.minter.usable()?;
        let runs = contexts.runs.iter().map(|(context, rows)| (context, *rows));
        let count: usize = runs.clone().map(|(_, rows)| rows).sum();
        let from = out.len();
        self.minter.bind(runs, out)?;
        self.rows.add(count as u64, &out[from..]);
        Ok(key)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        let entry = &self.minter.entry;
        self.recorder.record(&self.asked, entry, &self.rows)
    }
}
