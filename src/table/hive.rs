//! Folders whose names are columns: `tenant=a/volumes.parquet`, as Hive, Spark, pyarrow, DuckDB and
//! Polars write and read them.
//!
//! Every folder in the path of a file that is named `NAME=VALUE` is a column of text that has this
//! value in each of the file's rows. Columns of folders come after those of the files, from the
//! outermost folder to the innermost.
//!
//! Sources: Hive, `FileUtils.unescapePathName`; Spark, `PartitioningUtils.parsePartitionColumn`.
//! Writers percent-encode what a file system does not take: Hive and Spark characters of ASCII,
//! pyarrow and DuckDB the bytes of UTF-8. What is decoded here is bytes, which is right for both.

use crate::columns::Shown;
use crate::columns::alike::are_alike;
use crate::table::TableError;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// The value of a null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";
/// Bytes of a folder's name at most, as file systems have it (`NAME_MAX`): a job makes the folder
/// again.
const NAME_BYTES_MAX: usize = 255;

/// The columns that the folders of one file are named after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderColumns {
    columns: Arc<[FolderColumn]>,
    path: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FolderColumn {
    name: String,
    value: Option<String>,
}

/// Whether a folder of this name is a column.
#[must_use]
pub fn is_column(folder: &str) -> bool {
    folder.find('=').is_some_and(|at| at > 0) && !folder.starts_with('.')
}

impl FolderColumns {
    /// Those of a file of this name.
    ///
    /// # Errors
    /// Why a folder's name cannot be used.
    pub(super) fn of(file: &str) -> Result<Self, String> {
        let above = file.rsplit_once('/').map_or("", |(above, _)| above);
        let folders: Vec<_> = above
            .split('/')
            .filter(|folder| is_column(folder))
            .collect();
        let mut columns: Vec<FolderColumn> = Vec::with_capacity(folders.len());
        for folder in &folders {
            let not_text = || format!("the name of its folder {} is not UTF-8 text", Shown(folder));
            if folder.len() > NAME_BYTES_MAX {
                return Err(format!(
                    "the name of its folder {} has more than {NAME_BYTES_MAX} bytes",
                    Shown(folder)
                ));
            }
            // What a name that is not UTF-8 is shown with.
            if folder.contains(char::REPLACEMENT_CHARACTER) {
                return Err(not_text());
            }
            let (name, value) = folder.split_once('=').unwrap_or_default();
            let name = unescaped(name).ok_or_else(not_text)?;
            let value = match value {
                NULL => None,
                value => Some(unescaped(value).ok_or_else(not_text)?),
            };
            if columns.iter().any(|other| are_alike(&other.name, &name)) {
                return Err(format!("its folders name column {} twice", Shown(&name)));
            }
            columns.push(FolderColumn { name, value });
        }
        Ok(Self {
            columns: columns.into(),
            path: folders.join("/").into(),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// The folders, from the outermost to the innermost, as they are named.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As Arrow has them.
    #[must_use]
    pub fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())
    }

    /// The columns of a file, and after them these.
    #[must_use]
    pub fn beside(&self, own: &SchemaRef) -> SchemaRef {
        if self.is_empty() {
            return Arc::clone(own);
        }
        let own = own.fields().iter().cloned();
        let fields = own.chain(self.columns.iter().map(|column| Arc::new(field(column))));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Those of these names.
    #[must_use]
    pub fn among(&self, names: &[String]) -> Self {
        let columns = self.columns.iter();
        let wanted = columns.filter(|column| names.contains(&column.name));
        Self {
            columns: wanted.cloned().collect(),
            path: Arc::clone(&self.path),
        }
    }

    /// Refuses a file with a column of the name of one of these, whatever the case of its letters:
    /// readers of the folder would see one of the two.
    ///
    /// # Errors
    /// [`TableError::FolderColumn`].
    pub fn check<'a>(
        &self,
        file: &str,
        mut own: impl Iterator<Item = &'a str>,
    ) -> Result<(), TableError> {
        if self.is_empty() {
            return Ok(());
        }
        match own.find(|own| self.names().any(|name| are_alike(name, own))) {
            None => Ok(()),
            Some(both) => Err(TableError::FolderColumn {
                name: file.to_owned(),
                column: both.to_owned(),
            }),
        }
    }

    /// Appends these columns to rows of the file.
    ///
    /// # Errors
    /// [`ArrowError`], when values of so many rows are too large.
    pub fn append(&self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.is_empty() {
            return Ok(rows);
        }
        let count = rows.num_rows();
        let schema = self.beside(&rows.schema());
        let mut columns = rows.columns().to_vec();
        columns.extend(self.columns.iter().map(|column| {
            let values = std::iter::repeat_n(column.value.as_deref(), count);
            Arc::new(StringArray::from_iter(values)) as ArrayRef
        }));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// As a message names them.
    pub(super) fn shown(&self) -> String {
        let names: Vec<_> = self.names().map(|name| Shown(name).to_string()).collect();
        match names[..] {
            [] => "no column".to_owned(),
            [ref name] => format!("column {name}"),
            _ => format!("columns {}", names.join(", ")),
        }
    }
}

fn field(column: &FolderColumn) -> Field {
    Field::new(&column.name, DataType::Utf8, true)
}

/// The text with its `%XX` decoded; a `%` that two digits do not follow stays.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        let code = digit(0).zip(digit(1)).filter(|_| *first == b'%');
        match code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
