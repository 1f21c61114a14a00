//! The parts of an answer that is the whole store, as the operator reads it for a check or a
//! backup.

use crate::api::{ApiError, ErrorCode};
use crate::backup::frames::{self, Begin, Digest, End};
use crate::clock::Clock;
use crate::keystore::KeystoreError;
use crate::keystore::last_backup::StoreReading;
use crate::transport::parts::{Part, PartSource};
use bytes::Bytes;
use std::time::Duration;

/// Time for all of it. While a store is read, its log cannot be emptied of removed secrets.
const TIME_MAX: Duration = Duration::from_secs(600);

/// The records of the store, part by part.
pub(super) struct StoreParts {
    reading: StoreReading,
    begin: Option<Begin>,
    digest: Digest,
    clock: Clock,
    until: Duration,
}

impl StoreParts {
    /// Of the store of the node of this name.
    pub(super) fn new(reading: StoreReading, node: &str, clock: &Clock) -> Self {
        Self {
            reading,
            begin: Some(Begin::here(node)),
            digest: Digest::default(),
            until: clock.monotonic() + TIME_MAX,
            clock: clock.clone(),
        }
    }
}

impl PartSource for StoreParts {
    const WHAT: &'static str = "the store";

    async fn next(&mut self) -> Result<Part, ApiError> {
        if let Some(begin) = self.begin.take() {
            let head = self.reading.checked.head();
            return Ok(Part::More(frames::begin(&begin, head)));
        }
        loop {
            if self.clock.monotonic() > self.until {
                let seconds = TIME_MAX.as_secs();
                let said = format!("the store was not read within {seconds} seconds");
                return Err(ApiError::new(ErrorCode::RequestTimeoutException, said));
            }
            let checked = &mut self.reading.checked;
            let batch = checked.next().await;
            let Some(batch) = batch.map_err(|error| told(&error))? else {
                let digest = std::mem::take(&mut self.digest).end(checked.head());
                let summary = checked.summary();
                return Ok(Part::Last(frames::end(&End { summary, digest })));
            };
            self.digest.add(&batch.records);
            let part = frames::batch(&batch);
            // An empty part would be the end of the answer.
            if !part.is_empty() {
                return Ok(Part::More(part));
            }
        }
    }

    fn last_words(&self, error: &ApiError) -> Option<Bytes> {
        Some(frames::failed(error.message()))
    }

    fn handed_out(&self) -> Option<u64> {
        Some(self.reading.checked.summary().records)
    }

    fn bytes(&self) -> Option<u64> {
        None
    }
}

/// The operator is told the cause.
fn told(error: &KeystoreError) -> ApiError {
    ApiError::new(ErrorCode::KMSInternalException, error.to_string())
}
