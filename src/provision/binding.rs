//! Rows bound by one thread, whatever the table's format.

use crate::bulk::parquet::properties::ContextsBuilder;
use crate::bulk::{JobError, KeyIdentity, SourceError};
use crate::columns::{ColumnError, Rows};
use crate::context::EncryptionContext;
use crate::envelope::blob_bytes;
use crate::provision::Plan;
use crate::provision::binder::{BindError, Binder, Contexts};
use crate::splice::{Wrapped, Wrapper};
use crate::table::rows::Batch;
use crate::table::{Object, TableError};
use arrow_array::ArrayRef;
use bytes::Bytes;
use parquet::data_type::ByteArray;

/// What one thread binds with.
pub(super) struct Binding<'a, B> {
    pub(super) plan: &'a Plan,
    pub(super) objects: &'a [Object],
    pub(super) binder: B,
}

impl<B: Binder> Binding<'_, B> {
    /// The blobs of these rows, end to end, and their key.
    pub(super) fn bind(
        &mut self,
        file: usize,
        batch: &Batch,
    ) -> Result<(KeyIdentity, Vec<u8>), JobError> {
        let name = &self.objects[file].name;
        let unusable = |error: ColumnError| unusable(name, error);
        let pairs = &self.plan.pairs;
        let places = pairs.places(&batch.rows.schema()).map_err(unusable)?;
        let rows = pairs.rows(&batch.rows, &places).map_err(unusable)?;
        // Neighbours with the same context are bound in one step.
        let runs = runs(&rows, batch.rows.num_rows()).map_err(unusable)?;
        let contexts = Contexts {
            rows: &rows,
            runs: &runs,
        };
        let mut blobs = Vec::new();
        let bound = self.binder.bind(&contexts, &mut blobs);
        let key = bound.map_err(|error| match error {
            BindError::Source(error) => error.into(),
            BindError::Row { at, code, message } => JobError::Row {
                name: name.clone(),
                row: batch.numbers.get(at).copied().unwrap_or_default(),
                code,
                message,
            },
        })?;
        Ok((key, blobs))
    }

    /// The column of contexts.
    pub(super) fn contexts(&self, file: usize, batch: &Batch) -> Result<ArrayRef, JobError> {
        let name = &self.objects[file].name;
        let unusable = |error: ColumnError| unusable(name, error);
        let pairs = &self.plan.pairs;
        let places = pairs.places(&batch.rows.schema()).map_err(unusable)?;
        let rows = pairs.rows(&batch.rows, &places).map_err(unusable)?;
        let mut made = ContextsBuilder::default();
        for row in 0..batch.rows.num_rows() {
            let appended = made.append(rows.pairs(row));
            appended.map_err(|error| TableError::Column {
                name: name.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(made.finish())
    }
}

impl<B: Binder> Wrapper for Binding<'_, B> {
    fn begin(&mut self, rows: u64) -> Result<(), SourceError> {
        self.binder.begin(rows)
    }

    fn wrap(&mut self, file: usize, batch: &Batch) -> Result<Wrapped, JobError> {
        let (key, blobs) = self.bind(file, batch)?;
        let (blobs, length) = (Bytes::from(blobs), blob_bytes(self.plan.length));
        let rows = 0..batch.numbers.len();
        let blobs = rows.map(|row| ByteArray::from(blobs.slice(row * length..(row + 1) * length)));
        Ok(Wrapped {
            key,
            blobs: blobs.collect(),
        })
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.binder.end()
    }
}

fn unusable(name: &str, error: ColumnError) -> JobError {
    let reason = error.to_string();
    let name = name.to_owned();
    TableError::Column { name, reason }.into()
}

/// The contexts of `count` rows, those in a row that are alike as one.
fn runs(rows: &Rows<'_>, count: usize) -> Result<Vec<(EncryptionContext, usize)>, ColumnError> {
    let mut runs: Vec<(EncryptionContext, usize)> = Vec::new();
    for row in 0..count {
        match runs.last_mut() {
            Some((_, length)) if rows.are_alike(row - 1, row) => *length += 1,
            _ => runs.push((rows.context(row)?, 1)),
        }
    }
    Ok(runs)
}
