//! The work on the rows of a stream, chunk by chunk.

use crate::api::attempt::Attempt;
use crate::api::{Api, ApiError, Requester};
use crate::key::regions::RegionalId;
use crate::rates::{Exceeded, Paid, Urgency};
use crate::stream::chunk::OutputChunk;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;

/// A chunk, no chunk yet, or why there is none.
pub(super) type Advance = Result<Progress, ApiError>;

/// One purpose of a stream.
pub(super) trait Transform: Send + Sync {
    /// Looks for the columns that it needs; returns those of the answer.
    fn begin(&mut self, schema: &Schema) -> Result<SchemaRef, ApiError>;

    /// Does it for the first of these rows, at least one; asked again with the rows that had to
    /// wait.
    fn chunk(&mut self, cursor: &Cursor<'_>, rows: &RecordBatch, paid: &mut Paid) -> Advance;

    /// Counts rows that were made.
    fn count(&self, _api: &Api, _rows: u64) {}
}

/// Where a chunk is made.
pub(super) struct Cursor<'a> {
    pub(super) api: &'a Arc<Api>,
    pub(super) requester: &'a Requester,
    /// Rows handed out before.
    pub(super) rows: u64,
}

impl Cursor<'_> {
    /// `row` is counted within the chunk.
    pub(super) fn at_row(&self, row: usize, error: ApiError) -> ApiError {
        let row = self.rows + row as u64;
        error.about(format_args!("Row {row}"))
    }

    /// Rows of a chunk under this key at most, less than `most` where a limit is in force.
    pub(super) fn most(&self, key: Option<RegionalId>, most: usize) -> usize {
        let (principal, rates) = (&self.requester.principal.arn, &self.api.rates);
        key.map_or(most, |key| rates.bulk_keys(principal, key, most))
    }

    /// Takes `rows` from the caller's limit and from those of these keys.
    pub(super) fn take(
        &self,
        under: &Attempt<'_>,
        keys: impl IntoIterator<Item = Option<RegionalId>>,
        rows: usize,
        paid: &mut Paid,
    ) -> Result<(), Exceeded> {
        let take = |key| {
            let (api, rows) = (self.api, rows as u64);
            api.take(&under.principal, key, rows, Urgency::Bulk, paid)
        };
        keys.into_iter().try_for_each(take)
    }
}

/// A chunk, or none yet.
pub(super) enum Progress {
    /// Boxed: the other is small.
    Done(Box<OutputChunk>),
    /// So many rows wait for a limit.
    Throttled(usize, Exceeded),
}
