//! Folders whose names are columns: `tenant=a/volumes.parquet`, as Hive, Spark, pyarrow, DuckDB and
//! Polars write and read them.
//!
//! Every folder in the path of a file that is named `NAME=VALUE` is a column of text that has this
//! value in each of the file's rows. Columns of folders come after those of the files, from the
//! outermost folder to the innermost. A file may have such a column itself, with this value in
//! every row (`values`): it is the column of the folder then.
//!
//! Sources: Hive, `FileUtils.unescapePathName`; Spark, `PartitioningUtils.parsePartitionColumn`.
//! Writers percent-encode what a file system does not take: Hive and Spark characters of ASCII,
//! pyarrow and DuckDB the bytes of UTF-8. What is decoded here is bytes, which is right for both.

use crate::columns::Shown;
use crate::columns::alike::are_alike;
use crate::columns::shown::kind;
use crate::table::TableError;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

mod values;

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

/// A folder's name, decoded and as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FolderColumn {
    name: String,
    value: Option<String>,
    folder: String,
}

impl FolderColumn {
    fn is_that_of(&self, other: &Self) -> bool {
        (&self.name, &self.value) == (&other.name, &other.value)
    }
}

/// Whether a folder of this name is a column.
#[must_use]
pub fn is_column(folder: &str) -> bool {
    folder.find('=').is_some_and(|at| at > 0) && !folder.starts_with('.')
}

impl FolderColumns {
    /// Those of a file of this path.
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
            let folder = (*folder).to_owned();
            columns.push(FolderColumn {
                name,
                value,
                folder,
            });
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

    /// The folders that parts are put in, from the outermost to the innermost, as they are named.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same columns, for parts that are put below these folders.
    #[must_use]
    pub(super) fn below(&self, above: &Self) -> Self {
        let folders = self.columns.iter();
        let missing = folders.filter(|column| !above.has(column));
        let missing: Vec<_> = missing.map(|column| column.folder.as_str()).collect();
        Self {
            columns: Arc::clone(&self.columns),
            path: missing.join("/").into(),
        }
    }

    fn has(&self, column: &FolderColumn) -> bool {
        self.columns.iter().any(|own| own.is_that_of(column))
    }

    /// The first of these that readers would take for a column of a table, whose folders are
    /// `inner`, and that is not one of those.
    #[must_use]
    pub(super) fn clash<'a>(&'a self, schema: &Schema, inner: &Self) -> Option<&'a str> {
        let mut others = self.columns.iter().filter(|column| !inner.has(column));
        let clashes = |column: &&FolderColumn| {
            let mut fields = schema.fields().iter();
            fields.any(|field| are_alike(field.name(), &column.name))
        };
        Some(&others.find(clashes)?.name)
    }

    /// The value of the column of this name, if it is one of these: none for a null.
    pub(super) fn value(&self, name: &str) -> Option<Option<&str>> {
        let column = self.columns.iter().find(|column| column.name == name)?;
        Some(column.value.as_deref())
    }

    /// As Arrow has them.
    #[must_use]
    pub fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>())
    }

    /// The columns of a file that are not columns of its folders.
    #[must_use]
    pub fn own(&self, of_file: &SchemaRef) -> SchemaRef {
        if self.is_empty() {
            return Arc::clone(of_file);
        }
        let fields = of_file.fields().iter();
        let own = fields.filter(|field| self.value(field.name()).is_none());
        Arc::new(Schema::new(own.cloned().collect::<Vec<_>>()))
    }

    /// The columns of a file, and after them these.
    #[must_use]
    pub fn beside(&self, of_file: &SchemaRef) -> SchemaRef {
        if self.is_empty() {
            return Arc::clone(of_file);
        }
        let own = self.own(of_file);
        let own = own.fields().iter().cloned();
        let fields = own.chain(self.columns.iter().map(|column| Arc::new(field(column))));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Refuses a file with a column of the name of one of these in another case, since readers of
    /// the folder would see one of the two, or of a type that is not compared with a name.
    ///
    /// # Errors
    /// [`TableError::FolderColumn`].
    pub fn check(&self, file: &str, of_file: &Schema) -> Result<(), TableError> {
        let refused = |field: &Field, is_alike: bool| {
            Err(TableError::FolderColumn {
                name: file.to_owned(),
                column: field.name().clone(),
                kind: (!is_alike).then(|| kind(field.data_type())),
            })
        };
        for column in &*self.columns {
            for field in of_file.fields() {
                let is_same = column.name == *field.name();
                if !is_same && are_alike(&column.name, field.name()) {
                    return refused(field, true);
                }
                if is_same && !values::are_compared(field.data_type()) {
                    return refused(field, false);
                }
            }
        }
        Ok(())
    }

    /// Rows of the file, with those of these columns that are named, or all, in the place of its
    /// own of these names; and which of the rows have another value than their folder says.
    ///
    /// # Errors
    /// [`ArrowError`], when values of so many rows are too large.
    pub fn join(&self, rows: RecordBatch, named: Option<&[String]>) -> Result<Joined, ArrowError> {
        let mut differing = Vec::new();
        if self.is_empty() {
            return Ok(Joined { rows, differing });
        }
        let count = rows.num_rows();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let Some(value) = self.value(field.name()) else {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
                continue;
            };
            if let Some(is_equal) = values::test(column, value) {
                let others = (0..count).filter(|row| !is_equal(*row));
                differing.extend(others.map(|row| (row, differs(field.name(), value))));
            }
        }
        let is_named =
            |column: &&FolderColumn| named.is_none_or(|names| names.contains(&column.name));
        for column in self.columns.iter().filter(is_named) {
            let values = std::iter::repeat_n(column.value.as_deref(), count);
            fields.push(Arc::new(field(column)));
            columns.push(Arc::new(StringArray::from_iter(values)) as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
        Ok(Joined { rows, differing })
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

/// Rows with the columns of their folders.
pub struct Joined {
    /// The rows.
    pub rows: RecordBatch,
    /// Those of them that are not of their folder, and why.
    pub differing: Vec<(usize, String)>,
}

/// What is wrong with a row whose value is another than its folder says.
pub(super) fn differs(name: &str, value: Option<&str>) -> String {
    let value = value.map_or_else(|| "null".to_owned(), |value| Shown(value).to_string());
    format!(
        "its column {} is not {value}, as the name of its folder says",
        Shown(name)
    )
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
