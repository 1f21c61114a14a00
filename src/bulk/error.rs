//! Why a job ends early.

use crate::bulk::parameter::Parameter;
use crate::bulk::source::SourceError;
use crate::bulk::{PART_ROWS_MAX, PARTS_MAX};
use crate::columns::shown::Counted;
use crate::crypto::entropy::EntropyError;
use crate::table::{RowNumber, TableError};
use parquet::errors::ParquetError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a run ended early. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another job writes this folder.
    #[error("{} is in use by another job; wait for it, or choose another folder", .0.display())]
    FolderInUse(PathBuf),
    /// Another job writes this prefix of a bucket.
    #[error("{} is in use by another job ({owner}, since {since}); wait for it, or choose another folder", path.display())]
    FolderHeld {
        /// The folder.
        path: PathBuf,
        /// Which process of which machine.
        owner: String,
        /// When it began, by the store's clock.
        since: String,
    },
    /// The folder holds something else.
    #[error("{} is not part of a job that can be resumed; choose a new or empty folder", .0.display())]
    ForeignFile(PathBuf),
    /// The name of the folder is that of a file.
    #[error("{} is a file; name a folder", .0.display())]
    OutIsFile(PathBuf),
    /// The name of the folder is that of a place in a store.
    #[error("{} is not a place that parts are written to: name a local folder, or s3://BUCKET/PREFIX", .0.display())]
    OutIsRemote(PathBuf),
    /// The folder is inside one of the input.
    #[error(
        "{0}: the folder for parts is inside it, and they would be taken for the table; choose a folder beside it"
    )]
    OutInInput(String),
    /// Every user may replace the folder's files.
    #[error("every user of this machine may write the folder {}, mode {mode:04o}, and replace its files: take that from them (chmod o-w), or choose another folder", path.display())]
    OpenFolder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The manifest or the plan is damaged, or of another format.
    #[error("{} cannot be used: {reason}; restore it, or choose another folder", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// The folder holds a job with other parameters.
    #[error(
        "the folder holds a job with {parameter} {here}, not {asked}; resume it with the same parameters, or choose another folder"
    )]
    Mismatch {
        /// The one that differs.
        parameter: Parameter,
        /// Its value in the folder.
        here: String,
        /// Its value now.
        asked: String,
    },
    /// A file of the table has changed since the job began.
    #[error(
        "{0} has changed since this job began: a job is resumed with the files that it began with; choose another folder"
    )]
    Changed(String),
    /// A file of the table has changed since the job finished.
    #[error(
        "nothing done: this job has finished, and {0} is not as it was then; choose another folder for other rows"
    )]
    ChangedAfter(String),
    /// A part is not what the manifest says.
    #[error("{} is not what the manifest says: {reason}; restore it, or choose another folder", path.display())]
    PartDamaged {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// More parts than a manifest can hold.
    #[error(
        "{} need more than {PARTS_MAX} parts of {}; make parts larger", Counted(*count, "row"), Counted(*rows_per_part, "row")
    )]
    TooManyParts {
        /// Rows asked for.
        count: u64,
        /// Rows of a part.
        rows_per_part: u64,
    },
    /// A part larger than the batch endpoint serves.
    #[error("a part has at most {PART_ROWS_MAX} rows; make parts smaller")]
    PartTooLarge,
    /// The source of the keys failed.
    #[error(transparent)]
    Source(SourceError),
    /// The operating system's entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The file system failed.
    #[error("cannot {action} {}: {source}", path.display())]
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
    /// The table cannot be used.
    #[error(transparent)]
    Table(TableError),
    /// A row was refused.
    #[error("{name}, row {}: {code}{}{}", RowNumber(*row), if message.is_empty() { "" } else { ": " }, message.trim_end_matches('.'))]
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
    /// A row was refused when it was tried, before the table was looked through.
    #[error("{name}, row {}: {code}{}{}; it was tried before all others, and nothing else was done", RowNumber(*row), if message.is_empty() { "" } else { ": " }, message.trim_end_matches('.'))]
    Rehearsal {
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
    #[error("stopped after {}, {} so far: the rest was not looked at", Counted(*rows, "row"), Counted(*findings, "finding"))]
    Unfinished {
        /// Rows that were looked at.
        rows: u64,
        /// The findings in them.
        findings: u64,
    },
    /// A job had begun to write its parts.
    #[error("{cause}{}", ending(cause, *parts))]
    Begun {
        /// What ended it.
        cause: Box<Self>,
        /// Its finished parts, those of earlier runs among them.
        parts: usize,
    },
    /// No threads.
    #[error("cannot start the job's threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl From<SourceError> for JobError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Stopped => Self::Stopped,
            error => Self::Source(error),
        }
    }
}

impl From<TableError> for JobError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Stopped => Self::Stopped,
            TableError::Threads(error) => Self::Threads(error),
            TableError::Changed(name) => Self::Changed(name),
            TableError::Kept { path, reason } => Self::Manifest { path, reason },
            error => Self::Table(error),
        }
    }
}

/// What has become of a job that had begun, and whether the same command goes on with it.
fn ending(cause: &JobError, parts: usize) -> String {
    let kept = match parts {
        0 => "no part was finished",
        1 => "the finished part is kept",
        _ => "finished parts are kept",
    };
    match cause {
        JobError::Io { .. } => {
            format!("; {kept}, and the same command resumes the job once this is solved")
        }
        JobError::Source(
            SourceError::Connection { .. }
            | SourceError::Cloned
            | SourceError::Unrecorded { .. }
            | SourceError::MaterialChanged,
        ) => format!("; {kept}, and the same command resumes the job"),
        // The same command would be refused again.
        JobError::Row { .. } => format!("; {kept}"),
        _ => String::new(),
    }
}

impl JobError {
    /// The error of a job that has so many finished parts.
    #[must_use]
    pub fn of_begun(self, parts: usize) -> Self {
        Self::Begun {
            cause: Box::new(self),
            parts,
        }
    }

    /// What ended the job, however far that was.
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::Begun { cause, .. } => cause.cause(),
            other => other,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::keys::RowsError;

    /// The same command would be refused again.
    #[test]
    fn a_refused_row_is_named_and_nothing_is_said_of_resuming() {
        let refused = || RowsError::Row {
            at: 1,
            code: "AccessDeniedException".to_owned(),
            message: "no.".to_owned(),
        };
        let of_row = refused().of_file("t.csv", &[4, 7]);
        assert_eq!(
            of_row.to_string(),
            "t.csv, row 8: AccessDeniedException: no"
        );
        let of_part = of_row.of_begun(2).to_string();
        assert_eq!(
            of_part,
            "t.csv, row 8: AccessDeniedException: no; finished parts are kept"
        );
        let of_rehearsal = refused().of_rehearsal("t.csv", 4).to_string();
        let said = "t.csv, row 5: AccessDeniedException: no; it was tried before all others, and \
                    nothing else was done";
        assert_eq!(of_rehearsal, said);
        let of_all = JobError::Source(SourceError::Refused {
            code: "DisabledException".to_owned(),
            message: String::new(),
        });
        let of_all = of_all.of_begun(2).to_string();
        assert_eq!(of_all, "the daemon refused: DisabledException");
    }

    /// `verify` has no parts, and a job that has not begun has none.
    #[test]
    fn parts_are_spoken_of_where_there_are_parts() {
        let broken = || {
            JobError::Source(SourceError::Connection {
                endpoint: "unix:/x".to_owned(),
                reason: "gone".to_owned(),
            })
        };
        let full = || JobError::io("write", Path::new("p"), io::Error::other("full"));
        let (resumes, solved) = ("the same command resumes the job", "once this is solved");
        for (parts, kept) in [
            (0, "no part was finished"),
            (1, "the finished part is kept"),
            (2, "finished parts are kept"),
        ] {
            let said = broken().of_begun(parts).to_string();
            assert_eq!(said, format!("unix:/x: gone; {kept}, and {resumes}"));
            let said = full().of_begun(parts).to_string();
            let wanted = format!("cannot write p: full; {kept}, and {resumes} {solved}");
            assert_eq!(said, wanted);
        }
        assert_eq!(broken().to_string(), "unix:/x: gone");
        assert_eq!(full().to_string(), "cannot write p: full");
    }

    #[test]
    fn one_is_not_spoken_of_as_several() {
        let stopped = |rows, findings| JobError::Unfinished { rows, findings }.to_string();
        assert!(stopped(1, 0).starts_with("stopped after 1 row, 0 findings so far"));
        assert!(stopped(2, 1).starts_with("stopped after 2 rows, 1 finding so far"));
        let many = JobError::TooManyParts {
            count: 100_001,
            rows_per_part: 1,
        };
        let said = "100001 rows need more than 100000 parts of 1 row; make parts larger";
        assert_eq!(many.to_string(), said);
    }
}
