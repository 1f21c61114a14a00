//! The folders that a table's files are in, where their names are columns (`hive`).
//!
//! They are taken from the whole path of a file, from the root or the bucket on, whatever a caller
//! names and from wherever: of a local file `..` is taken out, and links keep their names.

use crate::table::hive::FolderColumns;
use crate::table::object::Storage;
use crate::table::{Object, Plan, TableError};
use arrow_schema::Schema;
use std::path::{Component, Path, PathBuf, absolute};

/// What the names of folders are taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FolderNames {
    /// `NAME=VALUE` is a column.
    #[default]
    Columns,
    /// Nothing.
    Nothing,
}

/// Gives each file the columns of its folders, which are of the same names for all of them.
///
/// # Errors
/// [`TableError`], when they are not, or when a name cannot be used.
pub fn find(objects: &mut [Object], names: FolderNames) -> Result<(), TableError> {
    if names == FolderNames::Nothing {
        return Ok(());
    }
    for object in &mut *objects {
        let found = match &object.source {
            Storage::File(path) => FolderColumns::of(&whole(path)),
            Storage::Store { .. } => FolderColumns::of(&object.name),
        };
        object.folders = found.map_err(|reason| TableError::Column {
            name: object.name.clone(),
            reason,
        })?;
    }
    let Some(first) = objects.first() else {
        return Ok(());
    };
    let differs = |object: &&Object| !object.folders.names().eq(first.folders.names());
    match objects.iter().find(differs) {
        None => Ok(()),
        Some(object) => {
            let (here, there) = (object.folders.shown(), first.folders.shown());
            Err(TableError::Folders {
                name: object.name.clone(),
                here,
                there,
                first: first.name.clone(),
            })
        }
    }
}

/// A path from the root on, without `..`.
fn whole(path: &Path) -> String {
    let from_root = absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut whole = PathBuf::new();
    for component in from_root.components() {
        match component {
            Component::ParentDir => drop(whole.pop()),
            other => whole.push(other),
        }
    }
    whole.to_string_lossy().into_owned()
}

/// The columns that readers see in the names of the folders that parts are written below.
fn above(out: &Path) -> Result<FolderColumns, TableError> {
    let part = out.join("part");
    let found = match out.to_string_lossy().contains("://") {
        true => FolderColumns::of(&part.to_string_lossy()),
        false => FolderColumns::of(&whole(&part)),
    };
    found.map_err(|reason| unusable(out, reason))
}

fn unusable(out: &Path, reason: String) -> TableError {
    TableError::Column {
        name: out.display().to_string(),
        reason,
    }
}

/// Leaves the folders out of the parts' that these are written below in any case: those that all
/// files of the table are in.
///
/// # Errors
/// [`TableError::Column`], when a name cannot be used.
pub fn put_below(out: &Path, objects: &mut [Object], names: FolderNames) -> Result<(), TableError> {
    if names == FolderNames::Columns {
        let above = above(out)?;
        for object in objects {
            object.folders = object.folders.below(&above);
        }
    }
    Ok(())
}

/// Refuses to write the rows of a file of these columns below a folder that names one of them:
/// readers of what is written would find the column twice, and with another value.
///
/// # Errors
/// [`TableError::Column`].
pub fn check_out(
    out: &Path,
    object: &Object,
    schema: &Schema,
    names: FolderNames,
) -> Result<(), TableError> {
    if names == FolderNames::Nothing {
        return Ok(());
    }
    match above(out)?.clash(schema, &object.folders) {
        Some(taken) => Err(unusable(
            out,
            format!(
                "readers would take the name of its folder for column {taken:?}, which the table has; write to another folder, or take no columns from the names of folders"
            ),
        )),
        None => Ok(()),
    }
}

/// The names of the columns of the folders of these files.
#[must_use]
pub fn names(objects: &[Object]) -> Vec<String> {
    let first = objects.first().into_iter();
    let names = first.flat_map(|object| object.folders.names());
    names.map(ToOwned::to_owned).collect()
}

/// The parts of a table of text, of about as many rows each: none has rows of several folders.
/// Returns for each part the number of the row behind its last, and its folder.
#[must_use]
pub fn parts<'a>(
    objects: &'a [Object],
    kept: &Plan,
    rows_per_part: u64,
) -> (Vec<u64>, Vec<&'a str>) {
    let (mut ends, mut folders) = (Vec::new(), Vec::new());
    let mut end = 0;
    let files: Vec<_> = objects.iter().zip(kept.files()).collect();
    for run in files.chunk_by(|(one, _), (other, _)| one.folders.path() == other.folders.path()) {
        let mut left: u64 = run.iter().map(|(_, file)| file.kept()).sum();
        while left > 0 {
            let rows = left.min(rows_per_part.max(1));
            left -= rows;
            end += rows;
            ends.push(end);
            folders.extend(run.first().map(|(object, _)| object.folders.path()));
        }
    }
    // Of a table without rows, a part has the columns.
    if let (true, Some(first)) = (ends.is_empty(), objects.first()) {
        ends.push(0);
        folders.push(first.folders.path());
    }
    (ends, folders)
}

#[cfg(test)]
mod tests;
