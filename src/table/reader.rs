//! The reader of a file, by its format.

use crate::table::csv::CsvRows;
use crate::table::ndjson::NdjsonRows;
use crate::table::parquet::ParquetFile;
use crate::table::rows::{Columns, Rows, Start};
use crate::table::{Format, Object, TableError};
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;

/// Reads a file of text from `from` on. Parquet is read by row group.
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
        Format::Csv => Box::new(CsvRows::open(object, from, columns)?),
        Format::Ndjson => Box::new(NdjsonRows::open(object, from, columns)?),
        Format::Parquet => return Err(TableError::Format(object.name.clone())),
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
