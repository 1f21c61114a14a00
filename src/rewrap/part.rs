//! How a worker opens blobs and seals them anew.

use crate::bulk::parquet::properties::column;
use crate::bulk::{JobError, SourceError};
use crate::columns::{Blobs, ContextSource};
use crate::rewrap::sealer::{Row, SealError, Sealer};
use crate::splice::{Wrapped, Wrapper};
use crate::table::rows::Batch;
use crate::table::{Object, TableError};
use arrow_array::builder::BinaryBuilder;
use bytes::Bytes;
use parquet::data_type::ByteArray;

/// One worker's way of sealing the rows of a table.
pub(super) struct Sealing<'a, S> {
    pub(super) objects: &'a [Object],
    pub(super) context: &'a ContextSource,
    pub(super) new_context: Option<&'a ContextSource>,
    pub(super) sealer: S,
}

impl<S: Sealer> Wrapper for Sealing<'_, S> {
    fn begin(&mut self, rows: u64) -> Result<(), SourceError> {
        self.sealer.begin(rows);
        Ok(())
    }

    fn wrap(&mut self, file: usize, batch: &Batch) -> Result<Wrapped, JobError> {
        let name = &self.objects[file].name;
        let unusable = |reason: String| TableError::Column {
            name: name.clone(),
            reason,
        };
        let number = |at: usize| batch.numbers.get(at).copied().unwrap_or_default();
        let bad_row = |at: usize, reason: String| TableError::Row {
            name: name.clone(),
            row: number(at),
            reason,
            is_skippable: false,
        };
        // The columns of the batch: blobs, and the contexts before and after.
        let blobs = batch
            .rows
            .column_by_name(column::CIPHERTEXT_BLOB)
            .and_then(Blobs::of)
            .ok_or_else(|| unusable("its blobs are not binary".to_owned()))?;
        let old = self.context.of(&batch.rows).map_err(unusable)?;
        let new = self.new_context.map(|source| source.of(&batch.rows));
        let new = new.transpose().map_err(unusable)?;
        // A row that cannot be read ends the part, before a key is opened.
        let rows = (0..batch.rows.num_rows())
            .map(|at| {
                let blob = blobs
                    .get(at)
                    .ok_or_else(|| bad_row(at, "its blob is null".to_owned()))?;
                let told = |reason| bad_row(at, reason);
                let new = new.as_ref().map(|new| new.of(at));
                Ok(Row {
                    blob,
                    context: old.of(at).map_err(told)?,
                    new_context: new.transpose().map_err(told)?,
                })
            })
            .collect::<Result<Vec<_>, TableError>>()?;
        let mut out = BinaryBuilder::new();
        let sealed = self.sealer.seal(&rows, &mut out);
        let key = sealed.map_err(|error| match error {
            SealError::Source(error) => error.into(),
            SealError::Row { at, code, message } => JobError::Row {
                name: name.clone(),
                row: number(at),
                code,
                message,
            },
        })?;
        let (ends, bytes, _) = out.finish().into_parts();
        let bytes = Bytes::from_owner(bytes);
        let bounds = ends.windows(2).map(|pair| match *pair {
            [from, end] => (usize::try_from(from), usize::try_from(end)),
            _ => (Ok(0), Ok(0)),
        });
        let blobs = bounds.map(|bounds| match bounds {
            (Ok(from), Ok(end)) => ByteArray::from(bytes.slice(from..end)),
            _ => ByteArray::from(Bytes::new()),
        });
        Ok(Wrapped {
            key,
            blobs: blobs.collect(),
        })
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.sealer.end()
    }
}
