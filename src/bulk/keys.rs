//! Where the keys of a job come from: this process, which has opened the store (`local`), or a
//! daemon (`remote`). Both have one shape, whatever is done with the rows of the job.

use crate::bulk::JobError;
use crate::bulk::source::SourceError;
use crate::crypto::entropy::EntropyError;

/// What is done with rows.
pub trait Operation {
    /// Some rows, as the operation takes them.
    type Rows<'a>: Copy;
    /// Where what comes of each row is appended.
    type Out;
    /// What all rows of a part have in common, such as the key that they are under.
    type Done: PartialEq;
}

/// What an operation takes.
pub type RowsOf<'a, O> = <O as Operation>::Rows<'a>;

/// A supply of workers for one job.
pub trait KeySource: Sync {
    /// What they do.
    type Operation: Operation;
    /// What one thread works with.
    type Worker: KeyWorker<Operation = Self::Operation>;

    /// The ARN of the key that new blobs are under, where it is known before the first row.
    fn key_arn(&self) -> Option<&str>;

    /// A worker for the calling thread.
    ///
    /// # Errors
    /// [`SourceError`], when the connection to the daemon cannot be set up.
    fn worker(&self) -> Result<Self::Worker, SourceError>;

    /// Finds out whether a row could be worked on, without doing it: a wrong key, or a right that
    /// is missing, shows before a whole table is looked through.
    ///
    /// # Errors
    /// [`RowsError`]: the row could not be.
    fn rehearse(&self, row: RowsOf<'_, Self::Operation>) -> Result<(), RowsError>;
}

/// One thread's way of working.
pub trait KeyWorker {
    /// What it does.
    type Operation: Operation;

    /// Begins a part of so many rows.
    ///
    /// # Errors
    /// [`SourceError`], when the key cannot be used, or the daemon refuses.
    fn begin(&mut self, _rows: u64) -> Result<(), SourceError> {
        Ok(())
    }

    /// Works on the next rows of the part, at least one.
    ///
    /// # Errors
    /// [`RowsError`]; the part is then not to be kept.
    fn work(
        &mut self,
        rows: RowsOf<'_, Self::Operation>,
        out: &mut <Self::Operation as Operation>::Out,
    ) -> Result<<Self::Operation as Operation>::Done, RowsError>;

    /// Ends the part: all its rows have come, and it is recorded.
    ///
    /// # Errors
    /// [`SourceError`]; the part is then not to be kept.
    fn end(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Why rows were not worked on.
#[derive(Debug)]
pub enum RowsError {
    /// No row could be.
    Source(SourceError),
    /// This one could not.
    Row {
        /// Its number among those that were handed over.
        at: usize,
        /// The KMS error code.
        code: String,
        /// Its message, if any.
        message: String,
    },
}

impl From<SourceError> for RowsError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<EntropyError> for RowsError {
    fn from(error: EntropyError) -> Self {
        Self::Source(error.into())
    }
}

impl RowsError {
    /// The error of a job, which names the row: the rows that were handed over have these numbers
    /// in the file `name`.
    #[must_use]
    pub fn of_file(self, name: &str, numbers: &[u64]) -> JobError {
        match self {
            Self::Source(error) => error.into(),
            Self::Row { at, code, message } => JobError::Row {
                name: name.to_owned(),
                row: numbers.get(at).copied().unwrap_or_default(),
                code,
                message,
            },
        }
    }

    /// The error of a rehearsal with this row of the file `name`.
    #[must_use]
    pub fn of_rehearsal(self, name: &str, row: u64) -> JobError {
        match self {
            Self::Source(error) => error.into(),
            Self::Row { code, message, .. } => JobError::Rehearsal {
                name: name.to_owned(),
                row,
                code,
                message,
            },
        }
    }
}
