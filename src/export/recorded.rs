//! A source whose parts have a record in the audit log before they are whole.

use crate::api::{Api, Requester};
use crate::audit::RowsDigest;
use crate::export::source::{KeyIdentity, Local, LocalWorker, Source, SourceError, Worker};
use crate::keystore::KeyEntry;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Blobs minted in this process, each part of them recorded.
pub struct Recorded {
    /// Where they are minted.
    pub local: Local,
    /// Where they are recorded.
    pub api: Arc<Api>,
    /// Who exports.
    pub requester: Requester,
    /// What waits for the disk; the workers' own threads are not its.
    pub runtime: Handle,
}

impl Source for Recorded {
    type Worker = RecordedWorker;

    fn key_arn(&self) -> Option<&str> {
        self.local.key_arn()
    }

    fn worker(&self) -> Result<RecordedWorker, SourceError> {
        Ok(RecordedWorker {
            worker: self.local.worker()?,
            entry: Arc::clone(&self.local.entry),
            api: Arc::clone(&self.api),
            requester: self.requester.clone(),
            runtime: self.runtime.clone(),
            asked: String::new(),
            rows: RowsDigest::default(),
        })
    }
}

/// Sums up what it hands out.
pub struct RecordedWorker {
    worker: LocalWorker,
    entry: Arc<KeyEntry>,
    api: Arc<Api>,
    requester: Requester,
    runtime: Handle,
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
        let batch = self.rows.batch();
        let asked = self.asked.as_bytes();
        let recorded = self
            .api
            .tell_export(&self.requester, asked, &self.entry, batch);
        let durable = recorded.and_then(|recorded| {
            let durable = self.api.durable(recorded);
            self.runtime.block_on(durable)
        });
        durable.map_err(|error| SourceError::Unrecorded {
            reason: error.source().map_or_else(String::new, ToString::to_string),
        })
    }
}
