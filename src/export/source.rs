//! Where an export's blobs come from: minted here, under a key of the opened store, or streamed
//! from a daemon.

use crate::bulk::minting::Minter;
use crate::bulk::{KeyIdentity, SourceError};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::pool::CloneWord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A supply of blobs under one key, of one length, bound to one context.
pub trait Workers: Sync {
    /// What one thread draws from.
    type Worker: Worker;

    /// The key's ARN, where it is known before the first part.
    fn key_arn(&self) -> Option<&str>;

    /// A supply for the calling thread.
    ///
    /// # Errors
    /// [`SourceError`], when the connection to the daemon cannot be set up.
    fn worker(&self) -> Result<Self::Worker, SourceError>;
}

/// One thread's supply.
pub trait Worker {
    /// Begins a part of `rows` rows, and returns the key that they will be under.
    ///
    /// # Errors
    /// [`SourceError`], when the key cannot be used, or the daemon refuses.
    fn begin(&mut self, rows: u64) -> Result<KeyIdentity, SourceError>;

    /// Appends the next `count` blobs of the part.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SourceError>;

    /// Ends the part: checks that all its rows have come, and no more.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn end(&mut self) -> Result<(), SourceError>;
}

/// Blobs minted in this process. The caller holds the store's exclusive lock, so the key cannot
/// change meanwhile.
pub struct Local {
    /// The key.
    pub entry: Arc<KeyEntry>,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// The context that every blob is bound to.
    pub context: EncryptionContext,
    /// Where epochs are drawn.
    pub entropy: Arc<Entropy>,
    /// Whether the machine may have a twin.
    pub clone_word: Arc<CloneWord>,
}

impl Workers for Local {
    type Worker = LocalWorker;

    fn key_arn(&self) -> Option<&str> {
        Some(&self.entry.arn)
    }

    fn worker(&self) -> Result<LocalWorker, SourceError> {
        let (entry, entropy) = (Arc::clone(&self.entry), Arc::clone(&self.entropy));
        let word = Arc::clone(&self.clone_word);
        Ok(LocalWorker {
            minter: Minter::new(entry, self.length, entropy, word),
            context: self.context.clone(),
        })
    }
}

/// Mints in epochs of its own.
pub struct LocalWorker {
    minter: Minter,
    context: EncryptionContext,
}

impl LocalWorker {
    /// The request for a part of `rows` rows, as a caller of the batch endpoint would write it.
    pub(super) fn asked(&self, rows: u64) -> String {
        let pairs = self.context.pairs().collect::<BTreeMap<_, _>>();
        serde_json::json!({
            "KeyId": self.minter.entry.arn,
            "NumberOfBytes": self.minter.length.bytes(),
            "EncryptionContext": pairs,
            "Count": rows,
        })
        .to_string()
    }
}

impl Worker for LocalWorker {
    fn begin(&mut self, _rows: u64) -> Result<KeyIdentity, SourceError> {
        self.minter.usable()
    }

    fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SourceError> {
        self.minter.bind([(&self.context, count)], out)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}
