//! The rows of one part of a job.

use crate::table::reader;
use crate::table::rows::{Batch, Columns, Rows};
use crate::table::{Format, Object, Plan, RowPosition, TableError};
use arrow_array::BooleanArray;
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;

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
}

/// The rows of one part, over as many files as they are in.
pub struct PartRows<'a> {
    table: &'a Table<'a>,
    file: usize,
    rows: Box<dyn Rows>,
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
        Ok(Self {
            table,
            file,
            rows: open(table, file, row)?,
            left: count,
        })
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
            let Some(batch) = self.rows.next()? else {
                // A part may span files; the plan says that there are rows left.
                self.file += 1;
                if self.file == self.table.objects.len() {
                    return Err(changed(self.table, self.file - 1));
                }
                self.rows = open(self.table, self.file, 0)?;
                continue;
            };
            let kept = &self.table.plan.files()[self.file];
            // A bad row that the scan did not see means that the file has changed.
            if batch.bad.iter().any(|(row, _)| !kept.leaves_out(*row)) {
                return Err(changed(self.table, self.file));
            }
            let mut batch = batch;
            if !kept.left_out.is_empty() {
                let numbers = batch.numbers.iter();
                let wanted: Vec<_> = numbers.map(|row| !kept.leaves_out(*row)).collect();
                if wanted.contains(&false) {
                    let mask = BooleanArray::from(wanted);
                    batch.rows = filter_record_batch(&batch.rows, &mask)
                        .map_err(|_| changed(self.table, self.file))?;
                    batch.numbers.retain(|row| !kept.leaves_out(*row));
                }
            }
            // The last batch may go beyond the end of the part.
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            if batch.numbers.len() > left {
                batch.rows = batch.rows.slice(0, left);
                batch.numbers.truncate(left);
            }
            if !batch.numbers.is_empty() {
                self.left -= batch.numbers.len() as u64;
                return Ok((self.file, batch));
            }
        }
    }
}

fn open(table: &Table<'_>, file: usize, row: u64) -> Result<Box<dyn Rows>, TableError> {
    let start = table.plan.files()[file].start(row);
    let columns = Columns::All(&table.schema);
    reader::open(table.format, &table.objects[file], start, columns)
}

fn changed(table: &Table<'_>, file: usize) -> TableError {
    TableError::Changed(table.objects[file].name.clone())
}
