//! The folders that a table's files are in, where their names are columns (`hive`).

use crate::table::hive::FolderColumns;
use crate::table::{Object, Plan, TableError};
use arrow_schema::Schema;
use std::path::Path;

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
        let found = FolderColumns::of(&object.name);
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

/// Refuses to write into a folder that names a column of the table: readers of what is written
/// would find the column twice.
///
/// # Errors
/// [`TableError::Column`].
pub fn check_out(out: &Path, schema: &Schema, names: FolderNames) -> Result<(), TableError> {
    if names == FolderNames::Nothing {
        return Ok(());
    }
    let unusable = |reason: String| TableError::Column {
        name: out.display().to_string(),
        reason,
    };
    let above = FolderColumns::of(&out.join("part").to_string_lossy()).map_err(unusable)?;
    let fields = schema.fields().iter();
    let taken = fields.map(|field| field.name()).find(|name| {
        let mut above = above.names();
        above.any(|folder| folder.eq_ignore_ascii_case(name))
    });
    match taken {
        Some(taken) => Err(unusable(format!(
            "readers would take the name of its folder for column {taken:?}, which the table has; write to another folder"
        ))),
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
