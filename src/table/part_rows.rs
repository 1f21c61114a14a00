//! The rows of one part of a job.

use crate::table::fields::Members;
use crate::table::reader;
use crate::table::rows::{Batch, Columns, Rows};
use crate::table::{Format, Object, Plan, RowPosition, TableError};
use arrow_schema::SchemaRef;
use std::sync::{Mutex, PoisonError};

/// A table that was looked through.
pub struct Table<'a> {
    /// Its files, in order.
    pub objects: &'a [Object],
    /// Their format.
    pub format: Format,
    /// Their columns.
    pub schema: SchemaRef,
    /// Which of their rows count.
    pub plan: &'a Plan,
    /// Readers of files that can be read from the beginning alone.
    pub left: LeftReaders,
}

/// Readers that parts have left in the midst of a file, for later parts: a file that is compressed
/// is read once by each worker, and not once for each part.
#[derive(Default)]
pub struct LeftReaders(Mutex<Vec<LeftReader>>);

struct LeftReader {
    file: usize,
    rows: Box<dyn Rows>,
    /// The rows that were read and are not of the part.
    rest: Batch,
    /// The number of the first row to come, in `rest` or behind it.
    next_row: u64,
}

impl LeftReaders {
    fn leave(&self, reader: LeftReader) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.push(reader);
    }

    /// The reader that is nearest before this place. Parts begin in the order of their rows, so
    /// those of earlier files are of no more use.
    fn take(&self, file: usize, row: u64) -> Option<LeftReader> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|reader| reader.file >= file);
        let before = left.iter().enumerate().filter(|(_, reader)| {
            // What lies between is read: a checkpoint would not be nearer.
            reader.file == file && reader.next_row <= row
        });
        let (at, _) = before.max_by_key(|(_, reader)| reader.next_row)?;
        Some(left.swap_remove(at))
    }
}

/// The rows of one part, over as many files as they are in.
pub struct PartRows<'a> {
    table: &'a Table<'a>,
    file: usize,
    /// `None` once all rows have come.
    rows: Option<Box<dyn Rows>>,
    /// Rows that another part has read and left.
    rest: Option<Batch>,
    /// Rows of the part that are still to come.
    left: u64,
}

impl<'a> PartRows<'a> {
    /// `count` rows from the one that has this number among those that are not left out.
    ///
    /// # Errors
    /// [`TableError`], when a file cannot be read, or has changed since the scan.
    pub fn new(table: &'a Table<'a>, first_row: u64, count: u64) -> Result<Self, TableError> {
        let place = table.plan.place(first_row);
        let RowPosition { file, row } = place.ok_or_else(|| changed(table, 0))?;
        if let Some(mut reader) = table.left.take(file, row) {
            reader.rows.pass_over(row);
            let rest = from_row(reader.rest, row);
            return Ok(Self {
                table,
                file,
                rows: Some(reader.rows),
                rest: Some(rest),
                left: count,
            });
        }
        Ok(Self {
            table,
            file,
            rows: Some(open(table, file, row)?),
            rest: None,
            left: count,
        })
    }

    /// Leaves the reader to a later part, if that could not begin where it begins.
    fn leave(&mut self, rest: Batch, next_row: u64) {
        let object = &self.table.objects[self.file];
        let is_sequential = object.is_sequential() && self.table.format != Format::Parquet;
        if let Some(rows) = self.rows.take().filter(|_| is_sequential) {
            self.table.left.leave(LeftReader {
                file: self.file,
                rows,
                rest,
                next_row,
            });
        }
    }

    /// Whether all rows have come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The next rows that are not left out, at least one; and their file.
    ///
    /// # Errors
    /// [`TableError`]: the table is not what it was.
    pub fn next_batch(&mut self) -> Result<(usize, Batch), TableError> {
        loop {
            let read = match (self.rest.take(), &mut self.rows) {
                (Some(rest), _) => Some(rest),
                (None, Some(rows)) => rows.next()?,
                (None, None) => None,
            };
            let Some(batch) = read else {
                // A part may span files; the plan says that there are rows left.
                self.file += 1;
                if self.file == self.table.objects.len() {
                    return Err(changed(self.table, self.file - 1));
                }
                self.rows = Some(open(self.table, self.file, 0)?);
                continue;
            };
            let kept = &self.table.plan.files()[self.file];
            // A bad row that the scan did not see means that the file has changed.
            if batch.bad.iter().any(|(row, _)| !kept.leaves_out(*row)) {
                return Err(changed(self.table, self.file));
            }
            let mut batch = batch;
            let left = kept.leave_out(&mut batch);
            left.map_err(|_| changed(self.table, self.file))?;
            // The last batch may go beyond the end of the part.
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let rest = behind(&batch, left);
            if batch.numbers.len() > left {
                batch.rows = batch.rows.slice(0, left);
                batch.numbers.truncate(left);
            }
            if let Some(last) = batch.numbers.last() {
                let next_row = last + 1;
                self.left -= batch.numbers.len() as u64;
                if self.left == 0 {
                    self.leave(rest, next_row);
                }
                return Ok((self.file, batch));
            }
        }
    }
}

/// The rows of a batch from this number of them on.
fn behind(batch: &Batch, at: usize) -> Batch {
    let at = at.min(batch.numbers.len());
    Batch {
        rows: batch.rows.slice(at, batch.numbers.len() - at),
        numbers: batch.numbers.get(at..).unwrap_or_default().to_vec(),
        bad: Vec::new(),
        members: Members::default(),
    }
}

/// The rows of a batch from this row of their file on.
fn from_row(batch: Batch, row: u64) -> Batch {
    let at = batch.numbers.partition_point(|number| *number < row);
    behind(&batch, at)
}

fn open(table: &Table<'_>, file: usize, row: u64) -> Result<Box<dyn Rows>, TableError> {
    let start = table.plan.files()[file].start(row);
    let columns = Columns::All(&table.schema);
    reader::open(table.format, &table.objects[file], start, columns)
}

fn changed(table: &Table<'_>, file: usize) -> TableError {
    TableError::Changed(table.objects[file].name.clone())
}

#[cfg(test)]
mod tests;
