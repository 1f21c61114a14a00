//! The file of rows that are left out.

use crate::bulk::folder::REJECTS;
use crate::bulk::{Folder, JobError};
use crate::table::{Object, RowNumber, RowPosition};
use serde_json::json;
use std::io::{BufWriter, Write};

/// Writes which rows are left out, and why.
///
/// # Errors
/// The error of the file system.
pub(super) fn write(
    objects: &[Object],
    rejects: &[(RowPosition, String)],
    folder: &Folder,
) -> Result<(), JobError> {
    let path = folder.path(REJECTS);
    let io = |error| JobError::io("write", &path, error);
    let mut out = BufWriter::new(folder.begin(REJECTS)?);
    for (place, reason) in rejects {
        let line = json!({
            "file": objects[place.file].name,
            "row": RowNumber(place.row),
            "reason": reason,
        });
        writeln!(out, "{line}").map_err(io)?;
    }
    let out = out.into_inner().map_err(|error| io(error.into_error()))?;
    folder.finish(out).map(drop)
}
