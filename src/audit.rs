//! The audit log: one JSON line per call, in CloudTrail's shape, before the key leaves.
//!
//! A call's record is copied into the journal, a ring in memory that a killed process leaves
//! behind: no system call, no wake-up. The writer, one thread, moves what is there to the log, as
//! groups that are chained by HMAC-SHA-256 under a key derived from the root key, and syncs it
//! every 25 ms. The head of the chain is sealed into the store every [`SEAL_INTERVAL`] and at each
//! start, so that a cut-off end is found by [`verify`] too.
//!
//! What that holds (AUDIT-1), each with a test:
//!
//! - A killed process loses no record of a key that left: the next start moves what the journal has
//!   to the log, each record once.
//! - A power cut loses what was not synced yet: the last 100 ms. Where the disk is slower than
//!   that, [`Audit::durable`] waits for it; so it never loses more than 100 ms of records. With
//!   [`Durability::Disk`] every call waits, and nothing is lost.
//! - A full disk, or any other failure to write, stops issuing before a record is taken that has no
//!   room, is said once at error level and counted, and ends by itself when there is room again.
//!
//! What this module does not do: decide what is recorded of a call, or ship the log elsewhere.
//! Until the writer has taken them, records in the journal are protected by the file's mode alone;
//! and whoever has the root key can forge a chain.

use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::EntropyError;
use crate::crypto::secret::Secret;
use crate::key::KeyId;
use crate::key::last_use::LastUse;
use crate::keystore::{AuditHead, Change, Keystore, KeystoreError, RootKey};
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
    SERVICE_EVENT, Source,
};
pub use verify::{
    ANCHOR_BYTES_MAX, Fault, Finding, Report, anchor, anchor_key, read_anchor, verify, verify_from,
};

/// A record at most, in bytes: the longest policy or encryption context with every character
/// escaped, and the rest.
pub const LINE_BYTES_MAX: usize = 256 * 1024;
/// Between two sealings of the head: what a cut-off end can hide at most.
pub const SEAL_INTERVAL: Duration = Duration::from_secs(60);
/// How old a record may get that is not durable, before calls wait for the disk.
const LAG_MAX: Duration = Duration::from_millis(100);

/// Where and how the log is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The folder of the log and its journal.
    pub path: PathBuf,
    /// What a record has survived when its key leaves.
    pub durability: Durability,
    /// Bytes after which the next log file begins.
    pub file_bytes_max: u64,
    /// Seconds after which the next log file begins.
    pub file_seconds_max: u64,
    /// Bytes of records that wait for the disk at most; as much is kept free on the disk.
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

/// What a record has survived when its key leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of the process; a power cut takes the last 100 ms.
    Process,
    /// A power cut: every call waits for the sync of its group.
    Disk,
}

/// The record was not kept, so the key must not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be written: the cause was logged.
    #[error("the audit log cannot be written")]
    Unwritable,
    /// More is recorded than the disk takes.
    #[error("the audit journal is full")]
    Full,
    /// More than [`LINE_BYTES_MAX`].
    #[error("an audit record of {0} bytes is too long")]
    TooLong(usize),
    /// Not what [`AuditRecord::append`] writes.
    #[error("not one audit record")]
    Malformed,
}

/// The log could not be opened. Each prints as one line that says what to do.
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
    /// The log is not what was written, or not what the store has sealed.
    #[error(
        "audit log {path}: {finding}; look into it with keymill audit verify; to begin a new log, move the old one's files elsewhere"
    )]
    Broken {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        finding: Finding,
    },
    /// No random bytes for a new log's id.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The key of the chain.
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
    /// Taken by whoever closes; nothing awaits under it.
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What requests and the writer have in common.
struct Shared {
    journal: Journal,
    /// Set while the log cannot be written. Carries no data: whoever misses it for a moment still
    /// has room in the journal.
    unwritable: AtomicBool,
    /// Set by a request that found the journal full, for the writer to say so.
    full: AtomicBool,
    /// Tells the writer to end.
    stopped: AtomicBool,
    /// Microseconds of the monotonic clock: all that was recorded before is durable. A lone number
    /// that publishes nothing.
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

/// A record that is kept. The key may leave once [`Audit::durable`] has returned.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a key may leave only after `Audit::durable`"]
pub struct Recorded {
    position: u64,
    waits: bool,
}

impl Audit {
    /// Keeps `line`, what [`AuditRecord::append`] wrote, before the key leaves. No system call in
    /// the ordinary case, and never one that waits for a disk.
    ///
    /// # Errors
    /// [`AuditError`]; counted, and the key must not leave.
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

    /// Whether the log can be written: a readiness that ends by itself.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.shared.unwritable.load(Ordering::Acquire)
    }

    /// The head of what is durable.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        self.progress.borrow().head
    }

    /// The key's last use among all whose answers have left when this is called, and from when on
    /// uses are known. Waits for the disk.
    ///
    /// # Errors
    /// [`AuditError::Unwritable`]; counted.
    pub async fn last_use(&self, key: KeyId) -> Result<(Timestamp, Option<LastUse>), AuditError> {
        let position = self.shared.journal.tail();
        let waits = true;
        self.durable(Recorded { position, waits }).await?;
        Ok(self.uses.of(key))
    }

    /// Seals the head into the store, and writes the last uses of the keys beside it, if they have
    /// moved since. To be called at each start, every [`SEAL_INTERVAL`], and after [`Self::close`].
    ///
    /// # Errors
    /// [`KeystoreError`]; the store still has an earlier head.
    pub async fn seal_head(&self, keystore: &Keystore) -> Result<(), KeystoreError> {
        let head = self.head();
        keystore
            .apply(|snapshot| {
                let is_sealed = snapshot.audit_head == Some(head);
                let change = (!is_sealed).then_some(Change::PutAuditHead(head));
                let uses = self.uses.unwritten(snapshot).map(Change::PutLastUses);
                Ok((change.into_iter().chain(uses).collect(), ()))
            })
            .await
    }

    /// Writes what is left and ends the writer; waits for the disk. Records are refused from then
    /// on. What cannot be written stays in the journal.
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
                tracing::error!("audit writer ended in a panic");
            }
        }
    }

    /// Returns when the key of `recorded` may leave: at once, unless every call waits for the disk,
    /// or the disk is behind by more than 100 ms.
    ///
    /// # Errors
    /// [`AuditError::Unwritable`]; counted, and the key must not leave. The record stays and may
    /// still reach the log.
    pub async fn durable(&self, recorded: Recorded) -> Result<(), AuditError> {
        let Recorded { position, waits } = recorded;
        if !waits {
            return Ok(());
        }
        let mut progress = self.progress.clone();
        self.wake_writer();
        let settled = |progress: &Progress| progress.position >= position || progress.is_unwritable;
        // An error is a writer that is gone.
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
