//! A table that comes on standard input: it is kept in the job's folder until the job is finished,
//! because it is read twice, and cannot be asked for again.

use crate::bulk::folder::INPUT;
use crate::bulk::{Folder, JobError};
use crate::provision::Parameters;
use crate::table::{Object, location};
use std::io::{self, Read};

/// What messages call it.
const NAME: &str = "standard input";

/// What came on standard input; it is read unless an earlier run has.
///
/// # Errors
/// [`JobError`], when the input cannot be read or kept, or the copy of an earlier run is gone.
pub(super) fn kept(
    folder: &Folder,
    held: Option<&Parameters>,
    mut input: impl Read,
) -> Result<Object, JobError> {
    let path = folder.path(INPUT);
    if held.is_none() {
        let mut out = folder.begin(INPUT)?;
        io::copy(&mut input, &mut out).map_err(|error| JobError::io("write", &path, error))?;
        folder.finish(out)?;
    }
    Ok(location::file(&path, NAME.to_owned())?.without_name()?)
}
