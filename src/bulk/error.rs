//! Why a job ends early.

use crate::bulk::row_number::RowNumber;
use crate::bulk::source::SourceError;
use crate::bulk::{PART_ROWS_MAX, PARTS_MAX};
use crate::crypto::entropy::EntropyError;
use parquet::errors::ParquetError;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// Why a run ended early. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another job writes this folder.
    #[error("{} is in use by another job; wait for it, or choose another --out", .0.display())]
    FolderInUse(PathBuf),
    /// The folder holds something else.
    #[error("{} is not part of a job that can be resumed; choose a new or empty folder for --out", .0.display())]
    ForeignFile(PathBuf),
    /// The name of the folder is that of a file.
    #[error("--out {} is a file; name a folder", .0.display())]
    OutIsFile(PathBuf),
    /// The name of the folder is that of a place in a store.
    #[error("--out {} is not a local folder, and parts are written to one; copy the finished folder to the store", .0.display())]
    OutIsRemote(PathBuf),
    /// Every user may replace the folder's files.
    #[error("every user of this machine may write the folder {}, mode {mode:04o}, and replace its files: take that from them (chmod o-w), or choose another --out", path.display())]
    OpenFolder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The manifest is damaged or of another format.
    #[error("{} cannot be used: {reason}; restore it, or choose another --out", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// The folder holds a job with other parameters.
    #[error(
        "the folder holds a job with {parameter} {here}, not {asked}; resume it with the same parameters, or choose another --out"
    )]
    Mismatch {
        /// The argument.
        parameter: &'static str,
        /// Its value in the folder.
        here: String,
        /// Its value now.
        asked: String,
    },
    /// A part is not what the manifest says.
    #[error("{} is not what the manifest says: {reason}; restore it, or choose another --out", path.display())]
    PartDamaged {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// More parts than a manifest can hold.
    #[error(
        "{count} rows need more than {PARTS_MAX} parts of {rows_per_part} rows; give a larger --rows-per-part"
    )]
    TooManyParts {
        /// Rows asked for.
        count: u64,
        /// Rows of a part.
        rows_per_part: u64,
    },
    /// A part larger than the batch endpoint serves.
    #[error("--rows-per-part is at most {PART_ROWS_MAX}")]
    PartTooLarge,
    /// The source of the keys failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The operating system's entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The file system failed.
    #[error("cannot {action} {}: {source}; finished parts are kept, and the same command resumes the job once this is solved", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The Parquet writer refused its input.
    #[error("cannot encode {}: {source}", path.display())]
    Encode {
        /// The part.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// The job's input cannot be used.
    #[error(transparent)]
    Input(Box<dyn Error + Send + Sync>),
    /// A row was refused.
    #[error("{name}, row {}: {code}{}{}; finished parts are kept", RowNumber(*row), if message.is_empty() { "" } else { ": " }, message.trim_end_matches('.'))]
    Row {
        /// The file.
        name: String,
        /// The row's number, from 0; the message counts from 1.
        row: u64,
        /// The KMS error code.
        code: String,
        /// Its message, if any.
        message: String,
    },
    /// The job was stopped before the first part was begun.
    #[error("stopped before anything was written; the same command begins again")]
    Stopped,
    /// The job was stopped before it had read a table to its end.
    #[error("stopped after {rows} rows, {findings} findings so far: the rest was not looked at")]
    Unfinished {
        /// Rows that were looked at.
        rows: u64,
        /// The findings in them.
        findings: u64,
    },
    /// No threads.
    #[error("cannot start the job's threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl JobError {
    /// The file system failed at `action` on `path`.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// An error of the Parquet writer. It may wrap an error of the file that it writes.
    #[must_use]
    pub fn write(path: &Path, error: ParquetError) -> Self {
        let source = match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(error) => return Self::io("write", path, *error),
                Err(other) => ParquetError::External(other),
            },
            other => other,
        };
        Self::Encode {
            path: path.to_owned(),
            source,
        }
    }
}
