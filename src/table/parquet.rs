//! Rows of a Parquet file.

use crate::table::object::Opened;
use crate::table::rows::{BATCH_BYTES_MAX, Batch, Columns, Rows};
use crate::table::{BATCH_ROWS, COLUMNS_MAX, Format, Object, TableError};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

/// Rows of a Parquet file, or of some of its row groups.
pub struct ParquetRows {
    name: String,
    reader: ParquetRecordBatchReader,
    /// The number of the next row.
    row: u64,
    /// What the rows are put under; those of the file where it is not given.
    schema: Option<SchemaRef>,
}

fn malformed(name: &str, reason: impl ToString) -> TableError {
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
fn caught<T>(name: &str, work: impl FnOnce() -> T) -> Result<T, TableError> {
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

fn footer(object: &Object, opened: &Opened) -> Result<ArrowReaderMetadata, TableError> {
    let name = &object.name;
    let loaded = caught(name, || {
        ArrowReaderMetadata::load(opened, ArrowReaderOptions::new())
    })?
    .map_err(|error| malformed(name, error))?;
    if loaded.schema().fields().len() > COLUMNS_MAX {
        return Err(malformed(name, format!("more than {COLUMNS_MAX} columns")));
    }
    check_counts(loaded.metadata()).map_err(|reason| malformed(name, reason))?;
    Ok(loaded)
}

/// Refuses a footer whose counts of rows contradict each other: a row that a reader does not see
/// would have no key.
fn check_counts(metadata: &ParquetMetaData) -> Result<(), String> {
    let groups = metadata.row_groups();
    let (told, rows) = (metadata.file_metadata().num_rows(), groups.iter());
    let rows: i64 = rows.map(RowGroupMetaData::num_rows).sum();
    if told != rows {
        return Err(format!(
            "its footer counts {told} rows, and its row groups have {rows}"
        ));
    }
    for (number, group) in groups.iter().enumerate() {
        let rows = group.num_rows();
        // A value for each row, where values do not repeat.
        let mut flat = group.columns().iter();
        let differs = flat.find(|column| {
            column.column_descr().max_rep_level() == 0 && column.num_values() != rows
        });
        if rows < 0 || differs.is_some() {
            let values = differs.map_or(rows, ColumnChunkMetaData::num_values);
            return Err(format!(
                "row group {} counts {rows} rows, and a column of it has {values}",
                number + 1
            ));
        }
    }
    Ok(())
}

/// How many rows of a group are read at a time, going by its rows' mean length.
fn fitting(group: &RowGroupMetaData) -> usize {
    let bytes = usize::try_from(group.total_byte_size()).unwrap_or(usize::MAX);
    let rows = usize::try_from(group.num_rows()).unwrap_or_default().max(1);
    (BATCH_BYTES_MAX / (bytes / rows).max(1)).clamp(1, BATCH_ROWS)
}

/// An open Parquet file with its footer, which is read once.
#[derive(Clone)]
pub struct ParquetFile {
    name: String,
    opened: Opened,
    footer: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Opens a file, and reads and checks its footer.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or is damaged.
    pub fn new(object: &Object) -> Result<Self, TableError> {
        let opened = object.open()?;
        Ok(Self {
            name: object.name.clone(),
            footer: footer(object, &opened)?,
            opened,
        })
    }

    /// The file's columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let schema = self.footer.schema().as_ref().clone();
        Arc::new(schema.with_metadata(HashMap::new()))
    }

    /// The rows of each row group.
    pub fn groups(&self) -> impl Iterator<Item = u64> {
        let groups = self.footer.metadata().row_groups().iter();
        groups.map(|group| group.num_rows().unsigned_abs())
    }

    /// The rows from `row` on, to the end of the file.
    ///
    /// # Errors
    /// [`TableError`], when the file is damaged.
    pub fn rows_from(&self, row: u64, columns: Columns<'_>) -> Result<ParquetRows, TableError> {
        // The first group that is needed, and how many rows are before it.
        let (mut first, mut before) = (0, 0);
        for rows in self.groups() {
            if before + rows > row {
                break;
            }
            first += 1;
            before += rows;
        }
        let groups = (first..self.groups().count()).collect();
        self.rows(groups, before, row, columns)
    }

    /// The rows of one row group, of which the first has this number in the file.
    ///
    /// # Errors
    /// [`TableError`], when the file is damaged.
    pub fn rows_of_group(
        &self,
        group: usize,
        first_row: u64,
        columns: Columns<'_>,
    ) -> Result<ParquetRows, TableError> {
        self.rows(vec![group], first_row, first_row, columns)
    }

    /// The rows of these groups from `row` on; the first group begins with the row `before`.
    fn rows(
        &self,
        groups: Vec<usize>,
        before: u64,
        row: u64,
        columns: Columns<'_>,
    ) -> Result<ParquetRows, TableError> {
        let footer = &self.footer;
        let mask = match columns {
            Columns::All(_) => ProjectionMask::all(),
            Columns::Named(names) => {
                let fields = footer.schema().fields().iter().enumerate();
                let roots = fields
                    .filter(|(_, field)| names.contains(field.name()))
                    .map(|(at, _)| at);
                ProjectionMask::roots(footer.parquet_schema(), roots)
            }
        };
        // Rows may be of any length. A scan reads few columns, so its rows are short.
        let batch_rows = match columns {
            Columns::All(_) => {
                let all = footer.metadata().row_groups().iter();
                all.map(fitting).min().unwrap_or(BATCH_ROWS)
            }
            Columns::Named(_) => BATCH_ROWS,
        };
        let skipped = usize::try_from(row - before)?;
        let reader = caught(&self.name, || {
            let opened = self.opened.clone();
            ParquetRecordBatchReaderBuilder::new_with_metadata(opened, footer.clone())
                .with_row_groups(groups)
                .with_projection(mask)
                .with_offset(skipped)
                .with_batch_size(batch_rows)
                .build()
        })?;
        Ok(ParquetRows {
            reader: reader.map_err(|error| malformed(&self.name, error))?,
            name: self.name.clone(),
            row,
            schema: match columns {
                Columns::All(schema) => Some(Arc::clone(schema)),
                Columns::Named(_) => None,
            },
        })
    }
}

impl Rows for ParquetRows {
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        let Self {
            name,
            reader,
            row,
            schema,
        } = self;
        let Some(rows) = caught(name, || reader.next())? else {
            return Ok(None);
        };
        let mut rows = rows.map_err(|error| malformed(name, error))?;
        if let Some(schema) = schema {
            let columns = rows.columns().to_vec();
            rows = RecordBatch::try_new(Arc::clone(schema), columns)
                .map_err(|error| malformed(name, error))?;
        }
        let end = *row + rows.num_rows() as u64;
        let numbers = (*row..end).collect();
        *row = end;
        Ok(Some(Batch {
            rows,
            numbers,
            bad: Vec::new(),
        }))
    }
}

#[cfg(test)]
mod tests;
