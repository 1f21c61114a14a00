//! What a caller asks of a job that reads a table, whatever is done with its rows.

use crate::bulk::input::{File, check_finished};
use crate::bulk::{Asked, JobError, Kind, Out, Parameters, rows_per_part};
use crate::table::{self, FolderNames, Format, Location};
use std::num::{NonZeroU64, NonZeroUsize};
use tokio::runtime::Handle;

/// A job that reads a table.
pub struct TableJob {
    /// The key as the caller names it; the source has resolved it or will.
    pub key: String,
    /// The table.
    pub inputs: Vec<Location>,
    /// What the names of its folders are taken for.
    pub folder_names: FolderNames,
    /// Rows of a part; `None` takes the job's own where it is resumed, else one that keeps every
    /// worker busy.
    pub rows_per_part: Option<NonZeroU64>,
    /// The folder.
    pub out: Out,
    /// Parts written at the same time.
    pub workers: NonZeroUsize,
    /// Runs the requests to object stores.
    pub runtime: Handle,
}

impl TableJob {
    /// The parameters that the caller asks for. Those that depend on the table are taken from an
    /// earlier run, which must have been asked for the same.
    ///
    /// # Errors
    /// [`JobError::Mismatch`], when it was not.
    pub fn parameters<K: Kind>(
        &self,
        kind: K,
        key_arn: Option<&str>,
        held: Option<&Parameters<K>>,
    ) -> Result<Parameters<K>, JobError> {
        let asked = Asked {
            key: &self.key,
            inputs: &self.inputs,
            folder_names: self.folder_names,
            rows_per_part: self.rows_per_part,
        };
        let parameters = Parameters::new(asked, key_arn, held, kind);
        held.map_or(Ok(()), |held| held.permit(&parameters))?;
        Ok(parameters)
    }

    /// Notes what a look at the table of a new job has found.
    pub fn note<K: Kind>(
        &self,
        parameters: &mut Parameters<K>,
        files: Vec<File>,
        rows: &table::Plan,
    ) {
        parameters.files = files;
        parameters.count = rows.count();
        parameters.left_out = rows.left_out();
        if self.rows_per_part.is_none() {
            parameters.rows_per_part = rows_per_part(parameters.count, self.workers);
        }
    }

    /// Refuses files that a finished job has not read as they are now.
    ///
    /// # Errors
    /// [`JobError::ChangedAfter`].
    pub fn check_finished<K: Kind>(
        &self,
        parameters: &Parameters<K>,
        format: Option<Format>,
    ) -> Result<(), JobError> {
        check_finished(&parameters.files, &self.inputs, format, &self.runtime)
    }
}
