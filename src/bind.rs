//! A stream of containers bound through a daemon: the rows of an Arrow IPC stream or file in, the
//! same rows with a wrapped data key each out, in one file or on standard output.
//!
//! Only the columns that contexts are made of are sent, a few thousand rows in a call, so that rows
//! of any type and number may come. The result is an Arrow stream with the columns that the
//! endpoint `bind` answers, and it has its end marker only if every row of the input is in it.

mod output;

pub use output::{OutputError, OutputFile};

use crate::api::ApiError;
use crate::bulk::keys::{KeyWorker, RowsError};
use crate::bulk::stream::CALL_ROWS_MAX;
use crate::bulk::{KeyIdentity, Runtime, SourceError};
use crate::columns::shown::Counted;
use crate::columns::{ColumnError, ContextPairs};
use crate::key::material::KeyMaterialId;
use crate::provision::bind::{Bind, Contexts, runs};
use crate::stream::{BoundRows, ReadError, RowReader};
use crate::table::RowNumber;
use arrow_array::RecordBatch;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A call whose key was rotated meanwhile is made again so often.
const ROTATIONS_MAX: usize = 3;

/// What was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Rows of the input, and of the output.
    pub rows: u64,
    /// Bytes of the output.
    pub bytes: u64,
    /// The KMS key; `None` where there were no rows.
    pub key_arn: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a stream was not bound to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The input cannot be read to its end.
    #[error("after {}: {source}", Counted(*rows, "row"))]
    Input {
        /// Rows that were read.
        rows: u64,
        /// Why.
        source: ReadError,
    },
    /// The columns are not those of a stream that can be bound.
    #[error("{0}")]
    Columns(String),
    /// A row was refused.
    #[error("row {}: {reason}", RowNumber(*row))]
    Row {
        /// The row's number, from 0.
        row: u64,
        /// Code and message of the refusal.
        reason: String,
    },
    /// There are no more keys.
    #[error("after {}: {source}", Counted(*rows, "row"))]
    Source {
        /// Rows that were bound.
        rows: u64,
        /// Why.
        source: SourceError,
    },
    /// The name of the key means another key than it did for the rows before.
    #[error("after {}: the key is {now}, and was {before} when the first row was bound", Counted(*rows, "row"))]
    KeyChanged {
        /// Rows that were bound.
        rows: u64,
        /// The ARN of the first rows' key.
        before: String,
        /// That of the next ones.
        now: String,
    },
    /// The output cannot be written.
    #[error("cannot be written: {0}")]
    Output(#[from] io::Error),
    /// A signal stopped it.
    #[error("stopped after {}", Counted(*rows, "row"))]
    Stopped {
        /// Rows that were bound.
        rows: u64,
    },
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
}

impl From<ApiError> for StreamError {
    fn from(error: ApiError) -> Self {
        let source = error.source().map(ToString::to_string);
        Self::Internal(source.unwrap_or_else(|| error.message().to_owned()))
    }
}

/// Binds every row of `input`, and writes the stream with the keys to `sink`.
///
/// # Errors
/// [`StreamError`]; what is in `sink` then has no end marker.
pub fn run<W: KeyWorker<Operation = Bind>>(
    pairs: &ContextPairs,
    input: impl Read,
    worker: &mut W,
    sink: &mut impl Write,
    runtime: &Runtime<'_>,
) -> Result<Outcome, StreamError> {
    let started = runtime.clock.monotonic();
    let unread = |rows| move |source| StreamError::Input { rows, source };
    let mut reader = RowReader::open(input).map_err(unread(0))?;
    let columns = |message: &str| StreamError::Columns(message.trim_end_matches('.').to_owned());
    let places = pairs
        .places(reader.schema())
        .map_err(|error| columns(&error.to_string()))?;
    let encoder = BoundRows::begin(reader.schema()).map_err(|error| columns(error.message()))?;
    let mut work = Work {
        pairs,
        places,
        worker,
        encoder,
        arn: None,
        rows: 0,
    };
    let mut bytes = 0_u64;
    let mut write = |piece: &[u8]| {
        bytes += piece.len() as u64;
        sink.write_all(piece).map(|()| bytes)
    };
    runtime.progress.begin_open();
    while let Some(batch) = reader.next_batch().map_err(unread(work.rows))? {
        if reader.has_deltas() {
            work.encoder.send_deltas()?;
        }
        let mut from = 0;
        while from < batch.num_rows() {
            if runtime.stop.load(Ordering::SeqCst) {
                return Err(StreamError::Stopped { rows: work.rows });
            }
            let count = CALL_ROWS_MAX.min(batch.num_rows() - from);
            let bound = work.bind(&batch.slice(from, count))?;
            let written = write(&bound)?;
            runtime.progress.advance(count);
            runtime.progress.written(written);
            from += count;
        }
    }
    let written = write(&work.encoder.end()?)?;
    sink.flush()?;
    runtime.progress.written_all(written);
    Ok(Outcome {
        rows: work.rows,
        bytes: written,
        key_arn: work.arn,
        elapsed: runtime.clock.monotonic().saturating_sub(started),
    })
}

/// The way through the rows.
struct Work<'a, W> {
    pairs: &'a ContextPairs,
    places: Vec<usize>,
    worker: &'a mut W,
    encoder: BoundRows,
    /// The key of the first rows.
    arn: Option<String>,
    /// Rows that are bound.
    rows: u64,
}

impl<W: KeyWorker<Operation = Bind>> Work<'_, W> {
    /// Binds these rows; returns the bytes of the output.
    fn bind(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, StreamError> {
        let internal = |error: ColumnError| StreamError::Internal(error.to_string());
        let texts = self.pairs.rows(rows, &self.places).map_err(internal)?;
        let runs = runs(&texts, rows.num_rows()).map_err(|(row, error)| StreamError::Row {
            row: self.rows + row as u64,
            reason: error.to_string().trim_end_matches('.').to_owned(),
        })?;
        let contexts = Contexts {
            rows: &texts,
            runs: &runs,
        };
        let (key, blobs) = self.blobs(contexts)?;
        let before = self.arn.get_or_insert_with(|| key.arn.clone());
        if *before != key.arn {
            return Err(StreamError::KeyChanged {
                rows: self.rows,
                before: before.clone(),
                now: key.arn,
            });
        }
        let material = KeyMaterialId::parse(&key.material_id).ok_or_else(|| {
            StreamError::Internal("the answer has an id of key material that is not one".to_owned())
        })?;
        let bytes = self.encoder.rows(rows, &key.arn, material, blobs)?;
        self.rows += rows.num_rows() as u64;
        Ok(bytes)
    }

    fn blobs(&mut self, contexts: Contexts<'_>) -> Result<(KeyIdentity, Vec<u8>), StreamError> {
        let mut rotations = 0;
        loop {
            let mut blobs = Vec::new();
            match self.worker.work(contexts, &mut blobs) {
                Ok(key) => return Ok((key, blobs)),
                // The keys that were made are dropped, and nothing was written.
                Err(RowsError::Source(SourceError::MaterialChanged))
                    if rotations < ROTATIONS_MAX =>
                {
                    rotations += 1;
                }
                Err(RowsError::Source(SourceError::Stopped)) => {
                    return Err(StreamError::Stopped { rows: self.rows });
                }
                Err(RowsError::Source(source)) => {
                    let rows = self.rows;
                    return Err(StreamError::Source { rows, source });
                }
                Err(RowsError::Row { at, code, message }) => {
                    return Err(StreamError::Row {
                        row: self.rows + at as u64,
                        reason: match message.trim_end_matches('.') {
                            "" => code,
                            message => format!("{code}: {message}"),
                        },
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
