//! The files of a job's table, as the job remembers them.

use crate::bulk::{JobError, Out};
use crate::table::{Format, Location, Object, location};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::runtime::Handle;

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
/// [`JobError::Changed`] with the name of the first.
pub fn check_unchanged(before: &[File], now: &[File]) -> Result<(), JobError> {
    match first_difference(before, now) {
        Some(name) => Err(JobError::Changed(name)),
        None => Ok(()),
    }
}

/// Refuses files that a finished job has not read as they are now. Those that are gone by now are
/// not missed: there is nothing left to do with them.
///
/// # Errors
/// [`JobError::ChangedAfter`] with the name of the first.
pub fn check_finished(
    before: &[File],
    inputs: &[Location],
    format: Option<Format>,
    runtime: &Handle,
) -> Result<(), JobError> {
    let found = inputs.iter().map(|input| input.objects(format, runtime));
    let mut now = found.flatten().flatten().map(|object| File::from(&object));
    match now.find(|file| !before.contains(file)) {
        Some(other) => Err(JobError::ChangedAfter(other.name)),
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

/// Refuses a job whose folder is inside a folder of its input, or whose parts a pattern would find:
/// they would be taken for rows of the table.
///
/// # Errors
/// [`JobError::OutInInput`].
pub fn check_beside(inputs: &[Location], out: &Out) -> Result<(), JobError> {
    let inside = |location: &&Location| match (location, out.bucket()) {
        (Location::Local(path), None) => is_inside(path, out.path()),
        (Location::S3 { bucket, key }, Some(out)) => {
            let below = out.prefix.strip_prefix(key.trim_end_matches('/'));
            let is_below = below.is_some_and(|below| {
                below.is_empty() || below.starts_with('/') || key.trim_end_matches('/').is_empty()
            });
            *bucket == out.name && (is_below || location::reaches_prefix(key, &out.prefix))
        }
        _ => false,
    };
    match inputs.iter().find(inside) {
        Some(location) => Err(JobError::OutInInput(location.to_string())),
        None => Ok(()),
    }
}

fn is_inside(table: &str, out: &Path) -> bool {
    // The folder may not be there yet: the nearest one above it is.
    let mut above = out.ancestors();
    let Some(out) = above.find_map(|path| {
        let there = match path.as_os_str().is_empty() {
            true => Path::new(".").canonicalize(),
            false => path.canonicalize(),
        };
        Some(there.ok()?.join(out.strip_prefix(path).ok()?))
    }) else {
        return false;
    };
    match Path::new(table).canonicalize() {
        Ok(folder) => folder.is_dir() && out.starts_with(folder),
        Err(_) => location::reaches(table, &out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_job_is_not_written_into_its_input() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("in/deep")).unwrap();
        fs::write(at("in/a.csv"), "x").unwrap();
        let inputs = |name: &str| [Location::Local(at(name).display().to_string())];
        for (input, out, is_refused) in [
            ("in", "in/out", true),
            ("in", "in", true),
            ("in", "in/deep/new/out", true),
            ("in/../in", "in/deep", true),
            ("in", "out", false),
            ("in", "in2/out", false),
            ("in/a.csv", "in/out", false),
            ("in/*.csv", "in/out", false),
            ("in/*/*", "in/new/../out", false),
            ("in/*/*", "in/out", true),
            ("*/**/*.parquet", "in/out", true),
            ("in/**/*.csv", "in/out", false),
        ] {
            let checked = check_beside(&inputs(input), &at(out).into());
            assert_eq!(checked.is_err(), is_refused, "{input} {out}");
        }
    }
}
