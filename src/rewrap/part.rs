//! How a worker opens blobs and seals them anew.

use crate::bulk::keys::KeyWorker;
use crate::bulk::parquet::properties::column;
use crate::bulk::{JobError, KeyIdentity};
use crate::columns::{self, ContextSource};
use crate::rewrap::reseal::{Reseal, Row};
use crate::splice::{Blobs, Wrapper};
use crate::table::rows::Batch;
use crate::table::{Object, TableError};

/// One worker's way of sealing the rows of a table.
pub(super) struct Sealing<'a, W> {
    pub(super) objects: &'a [Object],
    pub(super) context: &'a ContextSource,
    pub(super) new_context: Option<&'a ContextSource>,
    pub(super) worker: W,
}

impl<W: KeyWorker<Operation = Reseal>> Wrapper for Sealing<'_, W> {
    fn worker(&mut self) -> &mut impl KeyWorker {
        &mut self.worker
    }

    fn wrap(
        &mut self,
        file: usize,
        batch: &Batch,
        out: &mut Blobs,
    ) -> Result<KeyIdentity, JobError> {
        let name = &self.objects[file].name;
        let rows = rows(name, batch, self.context, self.new_context)?;
        let sealed = self.worker.work(&rows, out);
        sealed.map_err(|error| error.of_file(name, &batch.numbers))
    }
}

/// The rows of a batch of the file `name`: blobs, and the contexts before and after. A row that
/// cannot be read is an error before a key is opened.
///
/// # Errors
/// [`TableError`], which names the column or the row.
pub(super) fn rows<'a>(
    name: &str,
    batch: &'a Batch,
    context: &ContextSource,
    new_context: Option<&ContextSource>,
) -> Result<Vec<Row<'a>>, TableError> {
    let unusable = |reason: String| TableError::Column {
        name: name.to_owned(),
        reason,
    };
    let bad_row = |at: usize, reason: String| TableError::Row {
        name: name.to_owned(),
        row: batch.numbers.get(at).copied().unwrap_or_default(),
        reason,
        is_skippable: false,
    };
    let blobs = batch
        .rows
        .column_by_name(column::CIPHERTEXT_BLOB)
        .and_then(columns::Blobs::of)
        .ok_or_else(|| unusable("its blobs are not binary".to_owned()))?;
    let old = context.of(&batch.rows).map_err(unusable)?;
    let new = new_context.map(|source| source.of(&batch.rows));
    let new = new.transpose().map_err(unusable)?;
    let row = |at: usize| {
        let none = || bad_row(at, "its blob is null".to_owned());
        let told = |reason| bad_row(at, reason);
        let new = new.as_ref().map(|new| new.of(at));
        Ok(Row {
            blob: blobs.get(at).ok_or_else(none)?,
            context: old.of(at).map_err(told)?,
            new_context: new.transpose().map_err(told)?,
        })
    };
    (0..batch.rows.num_rows()).map(row).collect()
}
