//! Where an export's blobs come from: minted here, under a key of the opened store, or streamed from a daemon.

use crate::clock::Clock;
use crate::context::EncryptionContext;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::envelope::{Epoch, EpochEnded, MintedKeys};
use crate::key::InvalidState;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys minted at a time: their ciphertexts, masks and blobs together fit a core's first caches.
const MINT_KEYS: usize = 256;

/// A supply of blobs under one key, of one length, bound to one context.
pub trait Source: Sync {
    /// What one thread draws from.
    type Worker: Worker;

    /// The key's ARN, where it is known before the first part.
    fn key_arn(&self) -> Option<&str>;

    /// A supply for the calling thread.
    ///
    /// # Errors
    /// [`SourceError`].
    fn worker(&self) -> Result<Self::Worker, SourceError>;
}

/// One thread's supply.
pub trait Worker {
    /// Begins a part of `rows` rows, and says which key they will be under.
    ///
    /// # Errors
    /// [`SourceError`].
    fn begin(&mut self, rows: u64) -> Result<KeyIdentity, SourceError>;

    /// Appends the next `count` blobs of the part.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SourceError>;

    /// Ends the part: what was promised has come, and no more.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn end(&mut self) -> Result<(), SourceError>;
}

/// The key that a part's blobs are under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyIdentity {
    /// The KMS key.
    pub arn: String,
    /// The generation of its material.
    pub material_id: String,
}

/// Why there are no more blobs.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The key's state forbids it.
    #[error("{arn} {state}; no key was exported under it")]
    State {
        /// The key.
        arn: String,
        /// What forbids it.
        state: InvalidState,
    },
    /// The operating system's entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A fresh epoch could not mint: a limit of the envelope is below the number of keys that are minted at a time.
    #[error(transparent)]
    Epoch(#[from] EpochEnded),
    /// The audit log could not be written.
    #[error(
        "{reason}: a part was dropped, because nobody would know of its keys; make room, and the same command resumes the export"
    )]
    Unrecorded {
        /// Why.
        reason: String,
    },
    /// The daemon refused.
    #[error("the daemon refused: {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// The KMS error code.
        code: String,
        /// Its message, if any.
        message: String,
    },
    /// The daemon could not be reached, or the connection broke.
    #[error(
        "{endpoint}: {reason}; finished parts are kept, and the same command resumes the export"
    )]
    Connection {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// TLS has something against the daemon; nothing was asked of it.
    #[error("{endpoint}: {reason}")]
    Untrusted {
        /// Where.
        endpoint: String,
        /// What, and what to do about it.
        reason: String,
    },
    /// The answer is not that of a Keymill daemon.
    #[error("{endpoint} answered {reason}; is it a keymill daemon of this version?")]
    Answer {
        /// Where.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is of another kind.
    #[error("{0} is no symmetric encryption key, so it wraps no data keys")]
    NoMaterial(String),
    /// The key was rotated within a part.
    #[error(
        "the key's material changed within a part; the part was dropped, and the same command resumes the export"
    )]
    MaterialChanged,
}

/// Blobs minted in this process. The caller holds the store's exclusive lock, so the key cannot change meanwhile.
pub struct Local {
    /// The key.
    pub entry: Arc<KeyEntry>,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// The context that every blob is bound to.
    pub context: EncryptionContext,
    /// Where epochs are drawn.
    pub entropy: Arc<Entropy>,
    /// When they end.
    pub clock: Clock,
}

impl Source for Local {
    type Worker = LocalWorker;

    fn key_arn(&self) -> Option<&str> {
        Some(&self.entry.arn)
    }

    fn worker(&self) -> Result<LocalWorker, SourceError> {
        Ok(LocalWorker {
            entry: Arc::clone(&self.entry),
            length: self.length,
            context: self.context.clone(),
            entropy: Arc::clone(&self.entropy),
            clock: self.clock.clone(),
            minting: None,
        })
    }
}

/// Mints in an epoch of its own.
pub struct LocalWorker {
    entry: Arc<KeyEntry>,
    length: DataKeyLength,
    context: EncryptionContext,
    entropy: Arc<Entropy>,
    clock: Clock,
    minting: Option<(Epoch, MintedKeys)>,
}

impl LocalWorker {
    /// What is asked for with a part of `rows` rows, as the batch endpoint is asked.
    pub(super) fn asked(&self, rows: u64) -> String {
        let pairs = self.context.pairs().collect::<BTreeMap<_, _>>();
        serde_json::json!({
            "KeyId": self.entry.arn,
            "NumberOfBytes": self.length.bytes(),
            "EncryptionContext": pairs,
            "Count": rows,
        })
        .to_string()
    }

    /// Mints up to [`MINT_KEYS`] keys, in a new epoch when there is none or it has ended.
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

impl Worker for LocalWorker {
    fn begin(&mut self, _rows: u64) -> Result<KeyIdentity, SourceError> {
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

    fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SourceError> {
        let context = self.context.clone();
        let mut left = count;
        while left > 0 {
            let minted = self.mint(left.min(MINT_KEYS))?;
            left -= minted.bind_many(left, &context, out);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}
