//! The reader of a file, by its format.

use crate::table::csv::CsvRows;
use crate::table::ndjson::NdjsonRows;
use crate::table::parquet::ParquetFile;
use crate::table::rows::{Columns, Rows, Start};
use crate::table::{Format, Object, TableError};
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;

/// Reads a file from `from` on.
///
/// # Errors
/// [`TableError`], when the file cannot be read, or is damaged.
pub fn open(
    format: Format,
    object: &Object,
    from: Start,
    columns: Columns<'_>,
) -> Result<Box<dyn Rows>, TableError> {
    Ok(match format {
        Format::Parquet => Box::new(ParquetFile::new(object)?.rows_from(from.row, columns)?),
        Format::Csv => Box::new(CsvRows::open(object, from, columns)?),
        Format::Ndjson => Box::new(NdjsonRows::open(object, from, columns)?),
    })
}

/// The columns that a file says it has; NDJSON says nothing.
///
/// # Errors
/// [`TableError`], when the file cannot be read, or is damaged.
pub fn schema(format: Format, object: &Object) -> Result<SchemaRef, TableError> {
    match format {
        Format::Parquet => Ok(ParquetFile::new(object)?.schema()),
        Format::Csv => CsvRows::schema(object),
        Format::Ndjson => Ok(Arc::new(Schema::empty())),
    }
}
