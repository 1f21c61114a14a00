//! Rows bound by one thread, whatever the table's format.

use crate::bulk::encoded::{MadeRows, Sink};
use crate::bulk::keys::KeyWorker;
use crate::bulk::parquet::properties::{self, ContextsBuilder, column};
use crate::bulk::{JobError, KeyIdentity, Runtime, SourceError, Task};
use crate::columns::ColumnError;
use crate::provision::Plan;
use crate::provision::bind::{Bind, Contexts, runs};
use crate::splice::{Blobs, Wrapper};
use crate::table::part_rows::{PartRows, Table};
use crate::table::rows::Batch;
use crate::table::{Object, TableError};
use arrow_array::ArrayRef;
use arrow_buffer::Buffer;
use std::path::Path;

/// What one thread binds with.
pub(super) struct Binding<'a, W> {
    pub(super) plan: &'a Plan,
    pub(super) objects: &'a [Object],
    pub(super) worker: W,
}

impl<W: KeyWorker<Operation = Bind>> Binding<'_, W> {
    /// Appends the blobs of these rows, end to end; returns their key.
    fn bind(
        &mut self,
        file: usize,
        batch: &Batch,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, JobError> {
        let name = &self.objects[file].name;
        let unusable = |error: ColumnError| unusable(name, &error);
        let pairs = &self.plan.pairs;
        let places = pairs.places(&batch.rows.schema()).map_err(unusable)?;
        let rows = pairs.rows(&batch.rows, &places).map_err(unusable)?;
        // Neighbours with the same context are bound in one step.
        let runs = runs(&rows, batch.rows.num_rows());
        let runs = runs.map_err(|(_, error)| unusable(error))?;
        let contexts = Contexts {
            rows: &rows,
            runs: &runs,
        };
        let bound = self.worker.work(contexts, out);
        bound.map_err(|error| error.of_file(name, &batch.numbers))
    }

    /// The column of contexts.
    fn contexts(&self, file: usize, batch: &Batch) -> Result<ArrayRef, JobError> {
        let name = &self.objects[file].name;
        let pairs = &self.plan.pairs;
        let places = pairs.places(&batch.rows.schema());
        let rows = places.and_then(|places| pairs.rows(&batch.rows, &places));
        let rows = rows.map_err(|error| unusable(name, &error))?;
        let mut made = ContextsBuilder::default();
        for row in 0..batch.rows.num_rows() {
            let appended = made.append(rows.pairs(row));
            appended.map_err(|error| unusable(name, &error))?;
        }
        Ok(made.finish())
    }
}

/// Of Parquet, whose columns are copied.
impl<W: KeyWorker<Operation = Bind>> Wrapper for Binding<'_, W> {
    fn worker(&mut self) -> &mut impl KeyWorker {
        &mut self.worker
    }

    fn wrap(
        &mut self,
        file: usize,
        batch: &Batch,
        out: &mut Blobs,
    ) -> Result<KeyIdentity, JobError> {
        out.append(batch.numbers.len(), |out| self.bind(file, batch, out))
    }
}

/// Of a table of text, of which every column is encoded.
pub(super) struct BoundRows<'a, W> {
    pub(super) binding: Binding<'a, W>,
    pub(super) runtime: &'a Runtime<'a>,
    pub(super) table: &'a Table<'a>,
    /// The rows of the part.
    pub(super) rows: Option<PartRows<'a>>,
}

impl<W: KeyWorker<Operation = Bind>> MadeRows for BoundRows<'_, W> {
    fn begin(&mut self, task: &Task) -> Result<(), JobError> {
        self.rows = Some(PartRows::new(self.table, task.first_row, task.rows)?);
        Ok(self.binding.worker.begin(task.rows)?)
    }

    fn next(&mut self, write: &mut Sink<'_>) -> Result<bool, JobError> {
        let rows = self.rows.as_mut().filter(|rows| !rows.is_over());
        let Some(rows) = rows else {
            return Ok(false);
        };
        let (file, batch) = rows.next_batch()?;
        let mut blobs = Vec::new();
        let key = self.binding.bind(file, &batch, &mut blobs)?;
        let plan = self.binding.plan;
        // Columns of folders are not written, and come last.
        let mut columns = batch.rows.columns().to_vec();
        let folders = self.table.objects[file].folders.names();
        columns.truncate(columns.len().saturating_sub(folders.count()));
        if plan.id_column != column::CONTAINER_ID {
            columns.extend(batch.rows.column_by_name(&plan.id_column).cloned());
        }
        if plan.context_map {
            columns.push(self.binding.contexts(file, &batch)?);
        }
        let count = batch.rows.num_rows();
        let blobs = properties::blobs(count, Buffer::from_vec(blobs));
        let name = Path::new(&self.table.objects[file].name);
        columns.push(blobs.map_err(|error| JobError::write(name, error.into()))?);
        columns.push(properties::created_at(self.runtime.clock.now(), count));
        write(&key, &columns).map(|()| true)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.binding.worker.end()
    }
}

fn unusable(name: &str, error: &dyn std::error::Error) -> JobError {
    let reason = error.to_string();
    let name = name.to_owned();
    TableError::Column { name, reason }.into()
}
