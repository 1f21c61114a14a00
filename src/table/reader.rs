//! The reader of a file, by its format.

use crate::table::csv::CsvRows;
use crate::table::hive::FolderColumns;
use crate::table::ndjson::NdjsonRows;
use crate::table::parquet::ParquetFile;
use crate::table::rows::{Batch, Columns, Rows, Seen, Start};
use crate::table::{Format, Object, TableError};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use std::sync::Arc;

/// Reads a file of text from `from` on. Parquet is read by row group. The columns of the file's
/// folders come after its own: those that are named, or all.
///
/// # Errors
/// [`TableError`], when the file cannot be read, or is damaged.
pub fn open(
    format: Format,
    object: &Object,
    from: Start,
    columns: Columns<'_>,
) -> Result<Box<dyn Rows>, TableError> {
    let folders = object.folders.clone();
    let named = match columns {
        Columns::All(_) => None,
        Columns::Named(names) => Some(names.to_vec()),
    };
    // What a file has of its folders' columns is compared with their names.
    let mut read = named.clone().unwrap_or_default();
    read.extend(folders.names().map(ToOwned::to_owned));
    let of_file = match columns {
        Columns::All(_) => columns,
        Columns::Named(_) => Columns::Named(&read),
    };
    let rows: Box<dyn Rows> = match format {
        Format::Csv => Box::new(CsvRows::open(object, from, of_file)?),
        Format::Ndjson => Box::new(NdjsonRows::open(object, from, columns)?),
        Format::Parquet => return Err(TableError::Format(object.name.clone())),
    };
    if folders.is_empty() {
        return Ok(rows);
    }
    let name = object.name.clone();
    Ok(Box::new(WithFolders {
        name,
        rows,
        folders,
        named,
    }))
}

/// The columns that a file itself has, by which files are compared; NDJSON says nothing. A column
/// of Parquet that is its folder's may be in some files alone, since each is copied as it is.
///
/// # Errors
/// As [`schema`].
pub fn compared(format: Format, object: &Object) -> Result<SchemaRef, TableError> {
    match format {
        Format::Csv => own(format, object),
        Format::Parquet | Format::Ndjson => schema(format, object),
    }
}

/// The columns that a file says it has, and those of its folders; NDJSON says nothing.
///
/// # Errors
/// [`TableError`], when the file cannot be read, or is damaged, or has a column that cannot be that
/// of its folder.
pub fn schema(format: Format, object: &Object) -> Result<SchemaRef, TableError> {
    match format {
        Format::Parquet => Ok(ParquetFile::new(object)?.schema()),
        Format::Csv | Format::Ndjson => Ok(object.folders.beside(&own(format, object)?)),
    }
}

fn own(format: Format, object: &Object) -> Result<SchemaRef, TableError> {
    let own = match format {
        Format::Csv => CsvRows::schema(object)?,
        Format::Parquet | Format::Ndjson => Arc::new(Schema::empty()),
    };
    object.folders.check(&object.name, &own)?;
    Ok(own)
}

/// Rows of a file, and the columns of its folders.
struct WithFolders {
    name: String,
    rows: Box<dyn Rows>,
    folders: FolderColumns,
    /// The columns that are wanted; `None` is all.
    named: Option<Vec<String>>,
}

impl Rows for WithFolders {
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        let Some(mut batch) = self.rows.next()? else {
            return Ok(None);
        };
        let unusable = |error: ArrowError| TableError::Column {
            name: self.name.clone(),
            reason: error.to_string(),
        };
        let joined = self.folders.join(batch.rows, self.named.as_deref());
        let joined = joined.map_err(unusable)?;
        batch.rows = joined.rows;
        batch.refuse(joined.differing).map_err(unusable)?;
        Ok(Some(batch))
    }

    fn pass_over(&mut self, row: u64) {
        self.rows.pass_over(row);
    }

    fn seen(&mut self) -> Seen {
        self.rows.seen()
    }
}
