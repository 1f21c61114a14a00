//! What opens a blob and seals it anew: this process, under keys of the opened store, or a daemon.

use crate::audit::RowsDigest;
use crate::bulk::minting::{Recorder, usable};
use crate::bulk::{KeyIdentity, SourceError};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::envelope::{self, CiphertextBlob, Nonce};
use crate::keystore::{KeyEntry, Snapshot};
use arrow_array::builder::BinaryBuilder;
use std::sync::Arc;

/// A supply of sealers for one job.
pub trait Sealers: Sync {
    /// What one thread seals with.
    type Sealer: Sealer;

    /// The destination's ARN, where it is known before the first row.
    fn key_arn(&self) -> Option<&str>;

    /// A sealer for the calling thread.
    ///
    /// # Errors
    /// [`SourceError`], when the connection to the daemon cannot be set up.
    fn sealer(&self) -> Result<Self::Sealer, SourceError>;
}

/// A blob, what it is bound to, and what it will be bound to.
pub struct Row<'a> {
    /// The blob.
    pub blob: &'a [u8],
    /// Its context.
    pub context: EncryptionContext,
    /// The one to come; `None` is the same.
    pub new_context: Option<EncryptionContext>,
}

impl Row<'_> {
    /// The context to come.
    #[must_use]
    pub fn destination(&self) -> &EncryptionContext {
        self.new_context.as_ref().unwrap_or(&self.context)
    }
}

/// Why rows were not sealed.
#[derive(Debug)]
pub enum SealError {
    /// No row could be.
    Source(SourceError),
    /// This one could not.
    Row {
        /// Its number among those that were to be sealed.
        at: usize,
        /// The KMS error code.
        code: String,
        /// Its message, if any.
        message: String,
    },
}

impl From<SourceError> for SealError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// One thread's way of sealing.
pub trait Sealer {
    /// Begins a part of so many rows.
    fn begin(&mut self, rows: u64);

    /// Appends a blob for each row, all under the key that is returned.
    ///
    /// # Errors
    /// [`SealError`]; the part is then not to be kept.
    fn seal(&mut self, rows: &[Row<'_>], out: &mut BinaryBuilder)
    -> Result<KeyIdentity, SealError>;

    /// Ends the part.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn end(&mut self) -> Result<(), SourceError>;
}

/// Opens and seals in this process, each part recorded in the audit log. The caller holds the
/// store's exclusive lock.
pub struct Recorded {
    /// The keys.
    pub snapshot: Arc<Snapshot>,
    /// The destination.
    pub entry: Arc<KeyEntry>,
    /// Where nonces are drawn.
    pub entropy: Arc<Entropy>,
    /// Where parts are recorded.
    pub recorder: Recorder,
}

impl Sealers for Recorded {
    type Sealer = RecordedSealer;

    fn key_arn(&self) -> Option<&str> {
        Some(&self.entry.arn)
    }

    fn sealer(&self) -> Result<RecordedSealer, SourceError> {
        Ok(RecordedSealer {
            snapshot: Arc::clone(&self.snapshot),
            entry: Arc::clone(&self.entry),
            entropy: Arc::clone(&self.entropy),
            recorder: self.recorder.clone(),
            asked: String::new(),
            rows: RowsDigest::default(),
        })
    }
}

/// Opens and seals, and sums up what it hands out.
pub struct RecordedSealer {
    snapshot: Arc<Snapshot>,
    entry: Arc<KeyEntry>,
    entropy: Arc<Entropy>,
    recorder: Recorder,
    asked: String,
    rows: RowsDigest,
}

impl Sealer for RecordedSealer {
    fn begin(&mut self, rows: u64) {
        let asked = serde_json::json!({"DestinationKeyId": self.entry.arn, "Count": rows});
        self.asked = asked.to_string();
        self.rows = RowsDigest::default();
    }

    fn seal(
        &mut self,
        rows: &[Row<'_>],
        out: &mut BinaryBuilder,
    ) -> Result<KeyIdentity, SealError> {
        let key = usable(&self.entry)?;
        let none = || SourceError::NoMaterial(self.entry.arn.clone());
        let current = self.entry.current().ok_or_else(none)?;
        let nonces = Nonce::draw_many(&self.entropy, rows.len()).map_err(SourceError::from)?;
        for ((at, row), nonce) in rows.iter().enumerate().zip(nonces) {
            let refused = |(code, message): (&str, String)| SealError::Row {
                at,
                code: code.to_owned(),
                message,
            };
            let opened = open(&self.snapshot, row.blob, &row.context).map_err(refused)?;
            let (id, context) = (self.entry.key.id, row.destination());
            let blob = envelope::seal_under(nonce, id, current, context, opened.expose());
            self.rows.add(1, &blob);
            out.append_value(&blob);
        }
        Ok(key)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.recorder.record(&self.asked, &self.entry, &self.rows)
    }
}

/// The data key that a blob wraps; or the KMS error code and its cause, which an operator may know.
///
/// # Errors
/// The code and the reason.
pub fn open(
    snapshot: &Snapshot,
    blob: &[u8],
    context: &EncryptionContext,
) -> Result<crate::key::data_key::PlaintextDataKey, (&'static str, String)> {
    const INVALID: &str = "InvalidCiphertextException";
    let parsed = CiphertextBlob::parse(blob)
        .map_err(|_| (INVALID, "it is not a ciphertext blob".to_owned()))?;
    let header = parsed.header();
    let entry = snapshot.keys.get(&header.key_id).ok_or_else(|| {
        let reason = format!("there is no key {}", header.key_id);
        ("NotFoundException", reason)
    })?;
    entry.key.state.usable().map_err(|state| {
        let reason = format!("{} {state}", entry.arn);
        ("KMSInvalidStateException", reason)
    })?;
    let material = entry.generation(header.generation).ok_or_else(|| {
        let reason = format!("{} has no generation {}", entry.arn, header.generation);
        (INVALID, reason)
    })?;
    envelope::open(entry.key.id, material, context, &parsed)
        .map_err(|error| (INVALID, error.to_string()))
}
