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
use parquet::file::metadata::RowGroupMetaData;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

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

/// The Parquet crate checks most of what it decodes, and panics at some of the rest: a damaged file
/// is not a fault of this program.
fn caught<T>(name: &str, work: impl FnOnce() -> T) -> Result<T, TableError> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| malformed(name, "its reader gave up; see the message above"))
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
    Ok(loaded)
}

/// How many rows of a group are read at a time, going by its rows' mean length.
fn fitting(group: &RowGroupMetaData) -> usize {
    let bytes = usize::try_from(group.total_byte_size()).unwrap_or(usize::MAX);
    let rows = usize::try_from(group.num_rows()).unwrap_or_default().max(1);
    (BATCH_BYTES_MAX / (bytes / rows).max(1)).clamp(1, BATCH_ROWS)
}

impl ParquetRows {
    /// The file's columns.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or is damaged.
    pub fn schema(object: &Object) -> Result<SchemaRef, TableError> {
        let footer = footer(object, &object.open()?)?;
        let schema = footer.schema().as_ref().clone();
        Ok(Arc::new(schema.with_metadata(HashMap::new())))
    }

    /// The rows of each row group.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or is damaged.
    pub fn groups(object: &Object) -> Result<Vec<u64>, TableError> {
        let footer = footer(object, &object.open()?)?;
        let groups = footer.metadata().row_groups().iter();
        Ok(groups
            .map(|group| group.num_rows().unsigned_abs())
            .collect())
    }

    /// Reads from a row on, to the end of the file or of the row group that it is in.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or is damaged.
    pub fn open(
        object: &Object,
        row: u64,
        only_group: bool,
        columns: Columns<'_>,
    ) -> Result<Self, TableError> {
        let opened = object.open()?;
        let footer = footer(object, &opened)?;
        let groups = footer.metadata().row_groups();
        // The first group that is needed, and how many rows are before it.
        let (mut first, mut before) = (0, 0);
        for group in groups {
            let rows = group.num_rows().unsigned_abs();
            if before + rows > row {
                break;
            }
            first += 1;
            before += rows;
        }
        let wanted = if only_group {
            first..(first + 1).min(groups.len())
        } else {
            first..groups.len()
        };
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
            Columns::All(_) => groups.iter().map(fitting).min().unwrap_or(BATCH_ROWS),
            Columns::Named(_) => BATCH_ROWS,
        };
        let name = object.name.clone();
        let skipped = usize::try_from(row - before)?;
        let reader = caught(&name, || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(opened, footer.clone())
                .with_row_groups(wanted.collect())
                .with_projection(mask)
                .with_offset(skipped)
                .with_batch_size(batch_rows)
                .build()
        })?;
        Ok(Self {
            reader: reader.map_err(|error| malformed(&name, error))?,
            name,
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
