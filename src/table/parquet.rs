//! A Parquet file: its footer, and the rows of its row groups.

use crate::table::fields::Members;
use crate::table::hive::{FolderColumns, Joined};
use crate::table::object::Opened;
use crate::table::rows::{BATCH_BYTES_MAX, Batch, Rows};
use crate::table::{BATCH_ROWS, Format, Object, TableError};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

mod footer;
pub mod pages;
pub mod records;
pub mod schema;
mod thrift;

use footer::Footer;
pub use footer::MAGIC;
use schema::Elements;

/// The error of a file that is damaged.
#[must_use]
pub fn malformed(name: &str, reason: impl ToString) -> TableError {
    TableError::Malformed {
        name: name.to_owned(),
        format: Format::Parquet.name(),
        reason: reason.to_string(),
    }
}

thread_local! {
    /// Whether a panic on this thread is caught, and told in an error.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// The Parquet crate checks most of what it decodes, and panics at some of the rest: a damaged file
/// is not a fault of this program. Such a panic prints nothing.
///
/// # Errors
/// [`TableError::Malformed`], when `work` panics.
pub fn caught<T>(name: &str, work: impl FnOnce() -> T) -> Result<T, TableError> {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_CAUGHT.get() {
                before(panic);
            }
        }));
    });
    IS_CAUGHT.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(false);
    done.map_err(|_| malformed(name, "it is damaged, and its reader gave up"))
}

/// An open Parquet file with its footer, which is read once.
#[derive(Clone)]
pub struct ParquetFile {
    name: String,
    opened: Opened,
    footer: Footer,
    folders: FolderColumns,
}

impl ParquetFile {
    /// Opens a file, and reads and checks its footer.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, is damaged, or has a column of a folder's
    /// name.
    pub fn new(object: &Object) -> Result<Self, TableError> {
        let (name, opened) = (&object.name, object.open()?);
        let footer = caught(name, || Footer::read(&opened))?;
        let footer = footer.map_err(|reason| malformed(name, reason))?;
        let folders = object.folders.clone();
        folders.check(name, footer.columns.schema())?;
        Ok(Self {
            name: name.clone(),
            footer,
            opened,
            folders,
        })
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bytes.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What its footer says.
    #[must_use]
    pub fn metadata(&self) -> &ParquetMetaData {
        &self.footer.metadata
    }

    /// The schema elements of each column.
    #[must_use]
    pub fn elements(&self) -> &[Elements] {
        &self.footer.elements
    }

    /// The bytes of the file that may hold data.
    #[must_use]
    pub fn data(&self) -> &Range<u64> {
        &self.footer.data
    }

    /// Whether the column of this name is read where these are: it may be one of its folders too,
    /// whose names say what is in it.
    pub fn is_read(&self, name: &str, columns: &[String]) -> bool {
        columns.iter().any(|column| column == name) || self.folders.value(name).is_some()
    }

    /// The file's columns, as they are read (text and bytes are views), and those of its folders.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let schema = Schema::clone(self.footer.columns.schema());
        let own = Arc::new(schema.with_metadata(HashMap::new()));
        self.folders.beside(&own)
    }

    /// How many rows a row group has.
    #[must_use]
    pub fn rows_in(&self, group: usize) -> u64 {
        let group = self.metadata().row_groups().get(group);
        group.map_or(0, |group| group.num_rows().unsigned_abs())
    }

    /// The rows of each row group.
    pub fn groups(&self) -> impl Iterator<Item = u64> {
        let groups = self.metadata().row_groups().iter();
        groups.map(|group| group.num_rows().unsigned_abs())
    }

    /// The rows of one row group, of which the first has this number in the file; these columns
    /// alone.
    ///
    /// # Errors
    /// [`TableError`], when the file is damaged.
    pub fn rows_of_group(
        &self,
        group: usize,
        first_row: u64,
        columns: &[String],
    ) -> Result<ParquetRows, TableError> {
        let footer = &self.footer;
        let fields = footer.columns.schema().fields().iter().enumerate();
        let roots = fields.filter(|(_, field)| self.is_read(field.name(), columns));
        let schema = footer.columns.parquet_schema();
        let mask = ProjectionMask::roots(schema, roots.map(|(at, _)| at));
        let mut at_a_time = BATCH_ROWS;
        let chunks = self.metadata().row_groups().get(group).into_iter();
        for (leaf, chunk) in chunks.flat_map(|group| group.columns().iter().enumerate()) {
            if mask.leaf_included(leaf) {
                let readable = pages::readable(&self.opened, chunk, &footer.data);
                let of_column = |reason| {
                    let column = chunk.column_path();
                    malformed(&self.name, format!("column {column}: {reason}"))
                };
                at_a_time = at_a_time.min(readable.map_err(of_column)?.rows);
                if records::may_be_long(chunk) {
                    at_a_time = 1;
                    records::check(self, chunk, self.rows_in(group)).map_err(of_column)?;
                }
            }
        }
        let reader = caught(&self.name, || {
            let opened = self.opened.clone();
            ParquetRecordBatchReaderBuilder::new_with_metadata(opened, footer.columns.clone())
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(at_a_time)
                .build()
        })?;
        Ok(ParquetRows {
            reader: reader.map_err(|error| malformed(&self.name, error))?,
            name: self.name.clone(),
            row: first_row,
            at_a_time,
            folders: self.folders.clone(),
            columns: columns.to_vec(),
        })
    }
}

/// Rows of a row group.
pub struct ParquetRows {
    name: String,
    reader: ParquetRecordBatchReader,
    /// The number of the next row.
    row: u64,
    /// Rows that the reader reads at a time.
    at_a_time: usize,
    folders: FolderColumns,
    columns: Vec<String>,
}

impl ParquetRows {
    /// Whether values are so long, or may be, that few rows are read at a time.
    #[must_use]
    pub fn may_be_long(&self) -> bool {
        self.at_a_time < BATCH_ROWS
    }

    /// The reader's next rows; none after the last.
    fn read(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let rows = caught(&self.name, || self.reader.next())?.transpose();
        rows.map_err(|error| malformed(&self.name, error))
    }

    /// A batch of rows, put together from several where the reader reads few at a time: values that
    /// may be long are not, for the most part.
    fn batch(&mut self) -> Result<Option<Joined>, TableError> {
        let Some(first) = self.read()? else {
            return Ok(None);
        };
        let (mut rows, mut bytes) = (first.num_rows(), first.get_array_memory_size());
        let mut batches = vec![first];
        while rows + self.at_a_time <= BATCH_ROWS && bytes < BATCH_BYTES_MAX {
            let Some(next) = self.read()? else {
                break;
            };
            rows += next.num_rows();
            bytes += next.get_array_memory_size();
            batches.push(next);
        }
        let joined = match &batches[..] {
            [only] => Ok(only.clone()),
            several => concat_batches(&several[0].schema(), several),
        };
        let batch = joined.and_then(|rows| self.folders.join(rows, Some(&self.columns)));
        batch
            .map(Some)
            .map_err(|error| malformed(&self.name, error))
    }
}

impl Rows for ParquetRows {
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        let Some(Joined { rows, differing }) = self.batch()? else {
            return Ok(None);
        };
        let end = self.row + rows.num_rows() as u64;
        let numbers = (self.row..end).collect();
        self.row = end;
        let mut batch = Batch {
            rows,
            numbers,
            bad: Vec::new(),
            members: Members::default(),
        };
        let refused = batch.refuse(differing);
        refused.map_err(|error| malformed(&self.name, error))?;
        Ok(Some(batch))
    }
}

#[cfg(test)]
mod tests;
