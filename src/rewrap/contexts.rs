//! Where a table says that its rows' contexts are: in a column of maps, or, by the footers that
//! `provision` writes, in columns of other names.

use crate::bulk::footer;
use crate::bulk::parquet::properties::column;
use crate::columns::shown::kind;
use crate::columns::{ContextPairs, ContextSource};
use crate::table::TableError;
use crate::table::parquet::ParquetFile;
use arrow_schema::DataType;
use std::collections::BTreeMap;

/// Where the contexts of a file's rows are.
///
/// # Errors
/// [`TableError::Column`], when the file does not say it.
pub(super) fn of_file(file: &ParquetFile) -> Result<ContextSource, TableError> {
    let name = column::ENCRYPTION_CONTEXT;
    let schema = file.schema();
    let found = schema.field_with_name(name).map(|field| field.data_type());
    if let Ok(DataType::Map(..)) = found {
        return Ok(ContextSource::Map(name.to_owned()));
    }
    if let Some(pairs) = told(file) {
        let of_folders: Vec<String> = value(file, footer::FOLDER_COLUMNS)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let is_gone =
            |name: &&String| of_folders.contains(name) && schema.field_with_name(name).is_err();
        if let Some(gone) = pairs.columns.iter().find(is_gone) {
            return Err(TableError::Column {
                name: file.name().to_owned(),
                reason: format!(
                    "column {gone:?} of its contexts is in the name of the folder that it was written to; put it there, and take the names of folders for columns"
                ),
            });
        }
        return Ok(ContextSource::Pairs(pairs));
    }
    Err(TableError::Column {
        name: file.name().to_owned(),
        reason: match found {
            Ok(of) => format!(
                "column {name:?} is of type {}, and contexts are a map of strings; name the columns of the contexts",
                kind(of)
            ),
            Err(_) => format!(
                "there is no column {name:?}, and its footer names no columns of contexts; name the columns of the contexts"
            ),
        },
    })
}

/// What the footer says.
fn told(file: &ParquetFile) -> Option<ContextPairs> {
    let value = |name: &str| value(file, name);
    let columns: Vec<String> = serde_json::from_str(value(footer::CONTEXT_COLUMNS)?).ok()?;
    let constants: BTreeMap<String, String> =
        serde_json::from_str(value(footer::CONTEXT_CONSTANTS)?).ok()?;
    // An export has its contexts in a column of maps.
    let named = !columns.is_empty();
    named.then(|| ContextPairs {
        columns,
        constants: constants.into_iter().collect(),
    })
}

fn value<'a>(file: &'a ParquetFile, name: &str) -> Option<&'a str> {
    let pairs = file.metadata().file_metadata().key_value_metadata()?;
    let mut pairs = pairs.iter();
    pairs.find(|pair| pair.key == name)?.value.as_deref()
}

/// Where the contexts of a table's rows are: as every file of it says.
///
/// # Errors
/// [`TableError::Column`], when a file does not say it, or says something else than the first.
pub(super) fn check_same(first: &ContextSource, file: &ParquetFile) -> Result<(), TableError> {
    if of_file(file)? == *first {
        return Ok(());
    }
    Err(TableError::Column {
        name: file.name().to_owned(),
        reason: "its contexts are made of other columns or constants than those of the first file; take such files one after the other".to_owned(),
    })
}
