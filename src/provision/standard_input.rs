//! A table that comes on standard input: it is kept in the job's folder until the job is finished,
//! because it is read twice, and cannot be asked for again. The job remembers its digest.

use crate::bulk::folder::{INPUT, measured};
use crate::bulk::{File, Folder, JobError};
use crate::table::{Object, TableError};
use std::io::{self, Read};

/// What messages call it.
const NAME: &str = "standard input";

/// What came on standard input, which is read unless an earlier run has; and what the job remembers
/// of it.
///
/// # Errors
/// [`JobError`], when the input cannot be read or kept, or the copy of an earlier run is gone.
pub(super) fn kept(
    folder: &Folder,
    is_resumed: bool,
    mut input: impl Read,
) -> Result<(Object, File), JobError> {
    let path = folder.path(INPUT);
    let kept = if is_resumed {
        folder.measure(INPUT)?
    } else {
        let mut out = folder.begin(INPUT)?;
        io::copy(&mut input, &mut out).map_err(|error| JobError::io("write", &path, error))?;
        folder.finish(out)?
    };
    let object = folder.object(INPUT, NAME)?.without_name()?;
    let file = File {
        name: NAME.to_owned(),
        bytes: kept.bytes,
        version: version(&kept.sha256),
    };
    Ok((object, file))
}

/// Refuses another table than that of the finished job. Where nothing comes, none was given.
///
/// # Errors
/// [`JobError::ChangedAfter`], or that the input cannot be read.
pub(super) fn check_finished(before: &[File], input: impl Read) -> Result<(), JobError> {
    let now = measured(input).map_err(|error| TableError::io(NAME, error))?;
    let version = version(&now.sha256);
    if now.bytes == 0 || before.iter().all(|file| file.version == version) {
        Ok(())
    } else {
        Err(JobError::ChangedAfter(NAME.to_owned()))
    }
}

fn version(sha256: &str) -> String {
    format!("sha256:{sha256}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_job_knows_its_input_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(&folder.path().join("job").into()).unwrap();
        let (_, file) = kept(&folder, false, &b"id\na\n"[..]).unwrap();
        let (_, again) = kept(&folder, true, &b"not read"[..]).unwrap();
        assert_eq!(file, again);
        let before = [file];
        assert!(check_finished(&before, &b"id\na\n"[..]).is_ok());
        assert!(check_finished(&before, io::empty()).is_ok());
        let refused = check_finished(&before, &b"id\nb\n"[..]);
        assert!(matches!(refused, Err(JobError::ChangedAfter(name)) if name == NAME));
    }
}
