//! A file as a job remembers it.

use crate::table::{Object, TableError};
use serde::{Deserialize, Serialize};

/// A file, as it was when the job began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What changes when it is written anew: the time of its last change, or the store's tag.
    pub version: String,
}

impl From<&Object> for File {
    fn from(object: &Object) -> Self {
        Self {
            name: object.name.clone(),
            bytes: object.length,
            version: object.version.clone(),
        }
    }
}

/// Refuses files that are not as they were.
///
/// # Errors
/// [`TableError::Changed`] with the name of the first.
pub fn check_unchanged(before: &[File], now: &[File]) -> Result<(), TableError> {
    match first_difference(before, now) {
        Some(name) => Err(TableError::Changed(name)),
        None => Ok(()),
    }
}

/// Refuses files that a finished job has not read as they are now; those that are gone by now are
/// not missed.
///
/// # Errors
/// [`TableError::ChangedAfter`] with the name of the first.
pub fn check_finished(before: &[File], now: &[Object]) -> Result<(), TableError> {
    let mut now = now.iter().map(File::from);
    match now.find(|file| !before.contains(file)) {
        Some(other) => Err(TableError::ChangedAfter(other.name)),
        None => Ok(()),
    }
}

/// The name of the first file that is not as it was.
fn first_difference(before: &[File], now: &[File]) -> Option<String> {
    let differs = before.iter().zip(now).find(|(before, now)| before != now);
    match differs {
        Some((before, _)) => Some(before.name.clone()),
        None if before.len() < now.len() => Some(now[before.len()].name.clone()),
        None => before.get(now.len()).map(|gone| gone.name.clone()),
    }
}
