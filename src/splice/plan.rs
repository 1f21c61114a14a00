//! Which row groups are in which part: whole ones, of one file.

use crate::bulk::{JobError, Kind, Parameters};
use crate::columns::Shown;
use crate::splice::schema;
use crate::table::parquet::ParquetFile;
use crate::table::{self, Object, TableError, codec};
use std::ops::Range;

/// Row groups of a part at most: a part's footer is in memory until the part is finished, and some
/// readers count row groups in 16 bits.
const GROUPS_MAX: usize = 4096;

/// The parts of a job, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SplicePlan(Vec<SplicePart>);

/// The row groups of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplicePart {
    /// The number of their file.
    pub file: usize,
    /// Their numbers in it.
    pub groups: Range<usize>,
    /// The number in the file of the first row.
    pub first_row: u64,
    /// Rows that are not left out.
    pub rows: u64,
}

impl SplicePlan {
    /// Parts of about `target` rows: a larger row group is a larger part.
    ///
    /// # Errors
    /// [`TableError`], when a file cannot be read, has changed since it was looked through, or has
    /// a column that cannot be copied.
    pub fn new(objects: &[Object], kept: &table::Plan, target: u64) -> Result<Self, TableError> {
        let mut parts = Vec::new();
        for (file, (object, kept)) in objects.iter().zip(kept.files()).enumerate() {
            let parquet = ParquetFile::new(object)?;
            check_types(&parquet)?;
            let mut open: Option<SplicePart> = None;
            let mut first_row = 0;
            for (group, rows) in parquet.groups().enumerate() {
                let left_out = kept.left_out_of(first_row..first_row + rows);
                // A row group of which rows are left out is decoded.
                if left_out > 0 {
                    codec::check(&parquet, group, |_| true)?;
                }
                let wanted = rows - left_out;
                if wanted > 0 {
                    let fits = |part: &SplicePart| {
                        part.groups.len() < GROUPS_MAX && part.rows + wanted <= target
                    };
                    match &mut open {
                        Some(part) if fits(part) => {
                            part.groups.end = group + 1;
                            part.rows += wanted;
                        }
                        _ => parts.extend(open.replace(SplicePart {
                            file,
                            groups: group..group + 1,
                            first_row,
                            rows: wanted,
                        })),
                    }
                }
                first_row += rows;
            }
            if first_row != kept.rows {
                return Err(TableError::Changed(object.name.clone()));
            }
            parts.extend(open);
        }
        // Of a table without rows, a part has the columns.
        if parts.is_empty() {
            parts.push(SplicePart {
                file: 0,
                groups: 0..0,
                first_row: 0,
                rows: 0,
            });
        }
        Ok(Self(parts))
    }

    /// As [`Self::new`] for a job, whose parameters take the ends of its parts and their folders.
    ///
    /// # Errors
    /// As [`Self::new`]; or the parts are not those that the job began with.
    pub fn of_job<K: Kind>(
        objects: &[Object],
        kept: &table::Plan,
        parameters: &mut Parameters<K>,
        is_resumed: bool,
    ) -> Result<Self, JobError> {
        let plan = Self::new(objects, kept, parameters.rows_per_part)?;
        let files = plan.0.iter().map(|part| part.file);
        let folders = files.map(|file| objects[file].folders.path());
        parameters.cut(is_resumed, objects, plan.ends(), folders)?;
        Ok(plan)
    }

    /// The part of this number.
    #[must_use]
    pub fn part(&self, number: u64) -> Option<&SplicePart> {
        self.0.get(usize::try_from(number).ok()?)
    }

    /// For each part the number of the row behind its last, among those that are not left out.
    #[must_use]
    pub fn ends(&self) -> Vec<u64> {
        let mut end = 0;
        let ends = self.0.iter().map(|part| {
            end += part.rows;
            end
        });
        ends.collect()
    }
}

fn column_error(parquet: &ParquetFile, reason: String) -> TableError {
    TableError::Column {
        name: parquet.name().to_owned(),
        reason,
    }
}

fn check_types(parquet: &ParquetFile) -> Result<(), TableError> {
    let schema = parquet.metadata().file_metadata().schema_descr();
    match schema::unknown_type(schema) {
        Some(column) => Err(column_error(
            parquet,
            format!(
                "column {} is of a type that this build does not know, and so cannot be copied; leave it out of the table",
                Shown(&column)
            ),
        )),
        None => Ok(()),
    }
}
