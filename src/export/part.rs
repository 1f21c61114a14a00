//! The rows of an export's part: ids that a pattern names, and blobs.

use crate::bulk::encoded::{MadeRows, Sink};
use crate::bulk::keys::KeyWorker;
use crate::bulk::parquet::BATCH_ROWS;
use crate::bulk::parquet::properties::column;
use crate::bulk::{JobError, Runtime, SourceError, Task};
use crate::export::Plan;
use crate::export::mint::Mint;
use crate::export::rows::Rows;
use arrow_schema::ArrowError;
use std::ops::Range;
use std::path::Path;

/// The columns, in order.
pub(super) const COLUMNS: [&str; 7] = [
    column::CONTAINER_ID,
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::ENCRYPTION_CONTEXT,
    column::CIPHERTEXT_BLOB,
    column::CREATED_AT,
];
/// Those of them that are the same in every row.
pub(super) const CONSTANT: [&str; 4] = [
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::ENCRYPTION_CONTEXT,
];

/// One worker's rows.
pub(super) struct Minting<'a, W> {
    plan: &'a Plan,
    runtime: &'a Runtime<'a>,
    worker: W,
    rows: Rows,
    /// The part's rows that are to come.
    left: Range<u64>,
    file: String,
}

impl<'a, W> Minting<'a, W> {
    pub(super) fn new(plan: &'a Plan, runtime: &'a Runtime<'a>, worker: W) -> Self {
        Self {
            plan,
            runtime,
            worker,
            rows: Rows::default(),
            left: 0..0,
            file: String::new(),
        }
    }
}

impl<W: KeyWorker<Operation = Mint>> MadeRows for Minting<'_, W> {
    fn begin(&mut self, task: &Task) -> Result<(), JobError> {
        self.rows.clear();
        self.left = task.first_row..task.first_row + task.rows;
        self.file.clone_from(&task.file);
        Ok(self.worker.begin(task.rows)?)
    }

    fn next(&mut self, write: &mut Sink<'_>) -> Result<bool, JobError> {
        if self.left.is_empty() {
            return Ok(false);
        }
        let rows = self.left.start..self.left.end.min(self.left.start + BATCH_ROWS as u64);
        self.left.start = rows.end;
        let count = usize::try_from(rows.end - rows.start).unwrap_or(BATCH_ROWS);
        let made = self.worker.work(count, self.rows.blobs());
        let key = made.map_err(|error| error.of_file(&self.file, &[rows.start]))?;
        for row in rows {
            self.rows
                .push_id(|out| self.plan.id_pattern.append(row, out));
        }
        let mut written = Ok(());
        let columns = self.rows.write(self.runtime.clock.now(), |columns| {
            written = write(&key, columns);
            Ok::<_, ArrowError>(())
        });
        columns.map_err(|error| JobError::write(Path::new(&self.file), error.into()))?;
        written.map(|()| true)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        self.worker.end()
    }
}
