//! The reader of a file, by its format.

use crate::table::csv::CsvRows;
use crate::table::hive::FolderColumns;
use crate::table::ndjson::NdjsonRows;
use crate::table::parquet::ParquetFile;
use crate::table::rows::{Batch, Columns, Rows, Seen, Start};
use crate::table::{Format, Object, TableError};
use arrow_schema::{Schema, SchemaRef};
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
    let folders = match columns {
        Columns::All(_) => object.folders.clone(),
        Columns::Named(names) => object.folders.among(names),
    };
    let rows: Box<dyn Rows> = match format {
        Format::Csv => Box::new(CsvRows::open(object, from, columns)?),
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
    }))
}

/// The columns that a file says it has, and those of its folders; NDJSON says nothing.
///
/// # Errors
/// [`TableError`], when the file cannot be read, or is damaged, or has a column of a folder's name.
pub fn schema(format: Format, object: &Object) -> Result<SchemaRef, TableError> {
    let own = match format {
        Format::Parquet => return Ok(ParquetFile::new(object)?.schema()),
        Format::Csv => CsvRows::schema(object)?,
        Format::Ndjson => Arc::new(Schema::empty()),
    };
    let names = own.fields().iter().map(|field| field.name().as_str());
    object.folders.check(&object.name, names)?;
    Ok(object.folders.beside(&own))
}

/// Rows of a file, and the columns of its folders.
struct WithFolders {
    name: String,
    rows: Box<dyn Rows>,
    folders: FolderColumns,
}

impl Rows for WithFolders {
    fn next(&mut self) -> Result<Option<Batch>, TableError> {
        let Some(mut batch) = self.rows.next()? else {
            return Ok(None);
        };
        let rows = self.folders.append(batch.rows);
        batch.rows = rows.map_err(|error| TableError::Column {
            name: self.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(Some(batch))
    }

    fn pass_over(&mut self, row: u64) {
        self.rows.pass_over(row);
    }

    fn seen(&mut self) -> Seen {
        self.rows.seen()
    }
}
