//! The audit log: one JSON line per call, in CloudTrail's form, written before the key leaves.
//!
//! A call copies its record into the journal, a ring in memory that outlives a killed process. That
//! takes no system call and wakes no thread. The writer, one thread, moves the records to the log
//! in groups that are chained by HMAC-SHA-256 under a key derived from the root key, and syncs the
//! log every 25 ms. The head of the chain is sealed into the store every [`SEAL_INTERVAL`] and at
//! each start, so that [`verify`] also finds an end that was cut off.
//!
//! The guarantees (AUDIT-1), each with a test:
//!
//! - A killed process loses no record of a key that left: the next start moves each record in the
//!   journal to the log, once.
//! - A power cut loses the records that were not synced yet, at most those of the last 100 ms:
//!   where the disk is slower, [`Audit::durable`] waits for it. With [`Durability::Disk`] every
//!   call waits, and nothing is lost.
//! - A full disk, or any other failure to write, stops issuing before a record is taken that has no
//!   room. It is logged once at error level and counted, and it ends by itself when there is room
//!   again.
//!
//! This module does not decide which facts of a call are recorded, and does not ship the log
//! elsewhere. Until the writer has taken them, records in the journal are protected by the file's
//! mode alone. The chain does not protect against a holder of the root key, who can forge one.

use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::EntropyError;
use crate::crypto::secret::Secret;
use crate::key::regions::RegionalId;
use crate::keystore::last_use::{LastUse, UsesShard};
use crate::keystore::{AuditHead, Change, Keystore, KeystoreError, RootKey, Snapshot};
use journal::{Full, Journal};
use metrics::Counter;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use uses::Uses;

mod chain;
mod disk;
mod journal;
mod mapping;
mod parameters;
mod reader;
mod record;
mod start;
mod uses;
mod verify;
mod writer;

pub use record::{
    AuditRecord, Batch, CALL, Identity, KEYMILL, KMS, Refusal, Resource, ResourceKind, RowsDigest,
    SERVICE_EVENT, STS, Source, TAGGING, WebUser, XKS,
};
pub use verify::{
    ANCHOR_BYTES_MAX, Fault, Finding, NodeReport, Report, anchor, anchor_key, read_anchor, verify,
    verify_from, verify_node,
};

/// The most bytes of a record: the longest policy or encryption context with every character
/// escaped, and the other members.
pub const LINE_BYTES_MAX: usize = 256 * 1024;
/// The interval between two sealings of the head: a cut-off end can hide at most this much.
pub const SEAL_INTERVAL: Duration = Duration::from_secs(60);
/// The most changes of one sealing: those that write the last uses of all keys once, and the last
/// one, which finds nothing to write.
const SEAL_CHANGES_MAX: usize = UsesShard::COUNT / uses::SHARDS_MAX + 1;
/// The greatest age of a record that is not durable, before calls wait for the disk.
const LAG_MAX: Duration = Duration::from_millis(100);

/// Where and how the log is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of the log and its journal.
    pub path: PathBuf,
    /// What a record survives from the moment at which its key leaves.
    pub durability: Durability,
    /// Bytes after which the next log file begins.
    pub file_bytes_max: u64,
    /// Seconds after which the next log file begins.
    pub file_seconds_max: u64,
    /// The most bytes of records that wait for the disk; as many bytes are kept free on the disk.
    pub journal_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "audit".into(),
            durability: Durability::Process,
            file_bytes_max: 128 << 20,
            file_seconds_max: 86_400,
            journal_bytes: 32 << 20,
        }
    }
}

/// What the store holds of a log.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The head that was sealed; `None` before the first log.
    pub sealed: Option<AuditHead>,
    /// The name of the node, where the headers of its files have it.
    pub node: Option<String>,
}

/// What a record survives from the moment at which its key leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of the process; a power cut loses the last 100 ms.
    Process,
    /// A power cut: every call waits for the sync of its group.
    Disk,
}

/// The record was not stored, so the key must not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be written; the cause was logged.
    #[error("the audit log cannot be written")]
    Unwritable,
    /// Records arrive faster than the disk takes them.
    #[error("the audit journal is full")]
    Full,
    /// The record is longer than [`LINE_BYTES_MAX`].
    #[error("an audit record of {0} bytes is too long")]
    TooLong(usize),
    /// The bytes are not the output of [`AuditRecord::append`].
    #[error("not one audit record")]
    Malformed,
}

/// Why the log could not be opened. Each error prints as one line with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("audit log {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process has the log.
    #[error("audit log {path} is in use by another process: stop it, or name another folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The log is not as it was written, or not the one whose head the store has sealed.
    #[error(
        "audit log {path}: {finding}; examine it with keymill audit verify; to begin a new log, move the old log's files elsewhere"
    )]
    Broken {
        /// The folder.
        path: PathBuf,
        /// The fault that was found.
        finding: Finding,
    },
    /// The entropy source failed while a new log's id was drawn.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The key of the chain, a sub-key of the root key.
#[must_use]
pub fn key(root: &RootKey) -> Secret<32> {
    root.subkey("audit chain")
}

/// The audit log of one process.
pub struct Audit {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    uses: Arc<Uses>,
    durability: Durability,
    clock: Clock,
    failures: Counter,
    /// Taken by the caller that closes the log; nothing is awaited while it is locked.
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The state that requests and the writer share.
struct Shared {
    journal: Journal,
    /// True while the log cannot be written. It orders no other memory: a request that misses a
    /// change for a moment still has room in the journal.
    unwritable: AtomicBool,
    /// Set by a request that found the journal full; the writer then logs it.
    full: AtomicBool,
    /// Makes the writer end.
    stopped: AtomicBool,
    /// Microseconds of the monotonic clock: all records that are older are durable. It orders no
    /// other memory.
    durable_since: AtomicU64,
}

impl Shared {
    fn durable_since(&self, monotonic: Duration) {
        self.durable_since
            .store(microseconds(monotonic), Ordering::Relaxed);
    }
}

/// How far the log is durable.
#[derive(Clone, Copy)]
struct Progress {
    head: AuditHead,
    position: u64,
    is_unwritable: bool,
}

/// A record that is stored in the journal. The key may leave once [`Audit::durable`] has returned.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a key may leave only after `Audit::durable`"]
pub struct Recorded {
    position: u64,
    waits: bool,
}

impl Audit {
    /// Stores `line`, the output of [`AuditRecord::append`], before the key leaves. Usually this
    /// makes no system call; it never makes one that waits for a disk.
    ///
    /// # Errors
    /// [`AuditError`]: it is counted, and the key must not leave.
    pub fn record(&self, line: &[u8]) -> Result<Recorded, AuditError> {
        self.try_record(line)
            .inspect_err(|_| self.failures.increment(1))
    }

    fn try_record(&self, line: &[u8]) -> Result<Recorded, AuditError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(AuditError::TooLong(line.len()));
        }
        if !chain::is_record(line) {
            return Err(AuditError::Malformed);
        }
        if self.shared.unwritable.load(Ordering::Acquire) {
            return Err(AuditError::Unwritable);
        }
        let position = self.shared.journal.append(line).map_err(|Full| {
            self.shared.full.store(true, Ordering::Relaxed);
            AuditError::Full
        })?;
        Ok(Recorded {
            position,
            waits: self.durability == Durability::Disk || self.lags(),
        })
    }

    /// Whether there may be records older than [`LAG_MAX`] that are not durable.
    fn lags(&self) -> bool {
        let since = self.shared.durable_since.load(Ordering::Relaxed);
        microseconds(self.clock.monotonic()).saturating_sub(since) > microseconds(LAG_MAX)
    }

    /// Whether the log can be written. This state ends by itself.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.shared.unwritable.load(Ordering::Acquire)
    }

    /// The head of the durable part of the log.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        self.progress.borrow().head
    }

    /// The last use of the key by a call that was answered before this one, and the time since
    /// which uses are recorded. Waits for the disk.
    ///
    /// # Errors
    /// [`AuditError::Unwritable`], which is counted.
    pub async fn last_use(
        &self,
        key: RegionalId,
        keystore: &Keystore,
    ) -> Result<(Timestamp, Option<LastUse>), AuditError> {
        let position = self.shared.journal.tail();
        let waits = true;
        self.durable(Recorded { position, waits }).await?;
        Ok(self.uses.of(key, || keystore.snapshot()))
    }

    /// Seals the head into the store and writes the last uses of the keys, if they have changed
    /// since. Called at each start, every [`SEAL_INTERVAL`], and after [`Self::close`].
    ///
    /// # Errors
    /// [`KeystoreError`]; the store then still has an earlier head.
    pub async fn seal_head(&self, keystore: &Keystore) -> Result<(), KeystoreError> {
        let head = self.head();
        // Many uses take several changes, and others are let in between them. The uses of meanwhile
        // are written the next time.
        for _ in 0..SEAL_CHANGES_MAX {
            let decide = |snapshot: &Snapshot| {
                let node = keystore.node();
                let is_sealed = snapshot.audit_head(node) == Some(head);
                let put = (!is_sealed).then(|| Change::PutAuditHead(node.to_owned(), head));
                let gone = snapshot.node_to_forget(node).map(Change::RemoveAuditHead);
                let uses = self.uses.next_changes(snapshot);
                let is_last = uses.is_empty();
                Ok::<_, KeystoreError>((put.into_iter().chain(gone).chain(uses).collect(), is_last))
            };
            if keystore.apply(decide).await? {
                break;
            }
        }
        Ok(())
    }

    /// Writes the remaining records and ends the writer; waits for the disk. Records are refused
    /// from then on. Records that cannot be written stay in the journal.
    pub fn close(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            writer.thread().unpark();
            if writer.join().is_err() {
                tracing::error!("the audit writer ended in a panic");
            }
        }
    }

    /// Returns when the key of `recorded` may leave: at once, unless every call waits for the disk,
    /// or the disk is more than 100 ms behind.
    ///
    /// # Errors
    /// [`AuditError::Unwritable`]: it is counted, and the key must not leave. The record stays and
    /// may still reach the log.
    pub async fn durable(&self, recorded: Recorded) -> Result<(), AuditError> {
        let Recorded { position, waits } = recorded;
        if !waits {
            return Ok(());
        }
        let mut progress = self.progress.clone();
        self.wake_writer();
        let settled = |progress: &Progress| progress.position >= position || progress.is_unwritable;
        // An error means that the writer has ended.
        let progress = progress.wait_for(settled).await;
        if progress.is_ok_and(|progress| progress.position >= position) {
            return Ok(());
        }
        self.failures.increment(1);
        Err(AuditError::Unwritable)
    }

    fn wake_writer(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.as_ref() {
            writer.thread().unpark();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
