//! Why a table cannot be read.

use crate::columns::shown::{Shown, cut};
use crate::table::{Compression, RowNumber};
use std::path::{Path, PathBuf};
use std::{io, num};

/// Characters of a reason at most: it may have many names in it, or the words of another library.
const REASON_CHARACTERS_MAX: usize = 4096;

/// Why a table cannot be read. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No file has this name.
    #[error(
        "{0}: there is no such file, and nothing in a folder or behind a pattern of that name; name Parquet, CSV or NDJSON files"
    )]
    Absent(String),
    /// No Parquet file has this name.
    #[error(
        "{0}: there is no such file, and nothing in a folder or behind a pattern of that name; name Parquet files"
    )]
    AbsentParquet(String),
    /// More files than there may be.
    #[error("{0}: more than {max} files", max = crate::table::FILES_MAX)]
    TooManyFiles(String),
    /// A location that cannot be used.
    #[error("{location}: {reason}")]
    Location {
        /// The argument.
        location: String,
        /// The fault in it.
        reason: String,
    },
    /// Files of several formats, or of a format that their names do not show.
    #[error("{0}: say which format it is")]
    Format(String),
    /// Files of different formats.
    #[error("{0} and {1} are of different formats; a job reads files of one")]
    Formats(String, String),
    /// A compressed file whose name does not say so.
    #[error("{name} is compressed with {}, and its name does not say so; name it …{}", compression.name(), compression.ending())]
    Compressed {
        /// The file.
        name: String,
        /// How it is compressed.
        compression: Compression,
    },
    /// An encoding for files that have one by their format.
    #[error("an encoding is for CSV alone, and these files are {0}")]
    Encoding(&'static str),
    /// A file cannot be read.
    #[error("cannot read {name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A file breaks the rules of its format.
    #[error("{name} cannot be read as {format}: {}", shown(reason))]
    Malformed {
        /// The file.
        name: String,
        /// Its format.
        format: &'static str,
        /// The fault in it.
        reason: String,
    },
    /// A file has changed since it was looked through.
    #[error("{0} has changed since it was looked through")]
    Changed(String),
    /// A file does not have the columns of the first file.
    #[error(
        "{name}: {}; every file of a job has the same columns, those of {first}",
        shown(reason)
    )]
    Columns {
        /// The file.
        name: String,
        /// What differs.
        reason: String,
        /// The first file.
        first: String,
    },
    /// A column that is in a file and in the name of a folder, and cannot be one.
    #[error(
        "{name}: column {} is in the file, {}, and in the name of a folder above it; rename one of them, or take no columns from the names of folders",
        Shown(column),
        kind.as_ref().map_or("in other letters".to_owned(), |kind| format!("with type {kind}, which no folder is named after"))
    )]
    FolderColumn {
        /// The file.
        name: String,
        /// The column, as the file has it.
        column: String,
        /// Its type, where that is why.
        kind: Option<String>,
    },
    /// A file in folders of other names than the first file.
    #[error(
        "{name}: its folders name {here}, and those of {first} {there}; all files of a job are in folders of the same names, unless these are not taken for columns"
    )]
    Folders {
        /// The file.
        name: String,
        /// The columns of its folders.
        here: String,
        /// Those of the first file.
        there: String,
        /// The first file.
        first: String,
    },
    /// A column is missing, or cannot be used.
    #[error("{name}: {}", shown(reason))]
    Column {
        /// The file.
        name: String,
        /// The fault.
        reason: String,
    },
    /// A row cannot be used.
    #[error("{name}, row {}: {reason}{}", RowNumber(*row), if *.is_skippable { "; such rows can be left out, and are then listed in _rejects.ndjson" } else { "" })]
    Row {
        /// The file.
        name: String,
        /// The row's number, from 0; the message counts from 1.
        row: u64,
        /// Why not.
        reason: String,
        /// Whether it can be left out.
        is_skippable: bool,
    },
    /// Too many rows cannot be used.
    #[error("more than {0} rows cannot be used, the last one for this reason: {1}")]
    TooManyRejects(usize, String),
    /// What was kept of a look at a table is missing or damaged.
    #[error("{}: {reason}", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// The job was stopped.
    #[error("stopped while the input was looked through; the same command begins again")]
    Stopped,
    /// A file of notes on the table failed.
    #[error("cannot {action} {}: {source}; the same command begins again once this is solved", path.display())]
    Note {
        /// The action that failed.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No threads.
    #[error("cannot start the threads that look through the input: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl TableError {
    /// Reading `name` failed.
    #[must_use]
    pub fn io(name: &str, source: io::Error) -> Self {
        Self::Io {
            name: name.to_owned(),
            source,
        }
    }

    /// A file of notes on the table failed.
    #[must_use]
    pub fn note(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Note {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

fn shown(reason: &str) -> String {
    cut(reason.to_owned(), REASON_CHARACTERS_MAX)
}

impl From<num::TryFromIntError> for TableError {
    fn from(error: num::TryFromIntError) -> Self {
        Self::io("a table", io::Error::other(error))
    }
}
