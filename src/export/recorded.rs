//! A source whose parts have a record in the audit log before they are whole.

use crate::audit::RowsDigest;
use crate::bulk::minting::Recorder;
use crate::bulk::{KeyIdentity, SourceError};
use crate::export::source::{Local, LocalWorker, Worker, Workers};
use crate::keystore::KeyEntry;
use std::sync::Arc;

/// Blobs minted in this process, each part of them recorded.
pub struct Recorded {
    /// Where they are minted.
    pub local: Local,
    /// Where they are recorded.
    pub recorder: Recorder,
}

impl Workers for Recorded {
    type Worker = RecordedWorker;

    fn key_arn(&self) -> Option<&str> {
        self.local.key_arn()
    }

    fn worker(&self) -> Result<RecordedWorker, SourceError> {
        Ok(RecordedWorker {
            worker: self.local.worker()?,
            entry: Arc::clone(&self.local.entry),
            recorder: self.recorder.clone(),
            asked: String::new(),
            rows: RowsDigest::default(),
        })
    }
}

/// Sums up what it hands out.
pub struct RecordedWorker {
    worker: LocalWorker,
    entry: Arc<KeyEntry>,
    recorder: Recorder,
    asked: String,
    rows: RowsDigest,
}

impl Worker for RecordedWorker {
    fn begin(&mut self, rows: u64) -> Result<KeyIdentity, SourceError> {
        self.rows = RowsDigest::default();
        self.asked = self.worker.asked(rows);
        self.worker.begin(rows)
    }

    fn fill(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), SourceError> {
        let from = out.len();
        self.worker.fill(count, out)?;
        self.rows.add(count as u64, &out[from..]);
        Ok(())
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.worker.end()?;
        self.recorder.record(&self.asked, &self.entry, &self.rows)
    }
}
