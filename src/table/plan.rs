//! What a job keeps of its input once it was looked through: how many rows there are, which of them
//! are left out, and where to find any of the others.

use crate::table::fields::Fields;
use crate::table::rows::{Batch, CHECKPOINT_ROWS, Start};
use crate::table::{RowPosition, TableError};
use arrow_array::BooleanArray;
use arrow_schema::ArrowError;
use arrow_select::filter::filter_record_batch;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// The layout of `_plan.json`.
const FORMAT: &str = "keymill-plan/1";

/// `_plan.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    format: String,
    /// By file, in order.
    files: Vec<FilePlan>,
    /// The columns of files without a schema of their own.
    fields: Fields,
}

/// The plan of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePlan {
    /// Its rows.
    pub rows: u64,
    /// The numbers of those that are left out, in order.
    pub left_out: Vec<u64>,
    /// Where every [`CHECKPOINT_ROWS`]th row begins, in bytes; none where rows have an index.
    pub checkpoints: Vec<u64>,
}

impl Plan {
    /// The plan of these files.
    #[must_use]
    pub fn new(files: Vec<FilePlan>, fields: Fields) -> Self {
        Self {
            format: FORMAT.to_owned(),
            files,
            fields,
        }
    }

    /// The plan that an earlier run kept in this file; `None` where there is none.
    ///
    /// # Errors
    /// [`TableError::Kept`] when there is none, or one of another format.
    pub fn kept(text: Option<&[u8]>, path: &Path) -> Result<Self, TableError> {
        let refuse = |reason: String| TableError::Kept {
            path: path.to_owned(),
            reason,
        };
        let text = text.ok_or_else(|| refuse("it is gone".to_owned()))?;
        let plan: Self = serde_json::from_slice(text).map_err(|error| refuse(error.to_string()))?;
        let is_sound = |file: &FilePlan| {
            let ascending = file.left_out.windows(2).all(|pair| pair[0] < pair[1]);
            ascending && file.left_out.last().is_none_or(|last| *last < file.rows)
        };
        if plan.format != FORMAT || !plan.files.iter().all(is_sound) {
            return Err(refuse("it is damaged, or of another version".to_owned()));
        }
        Ok(plan)
    }

    /// The plan of each file.
    #[must_use]
    pub fn files(&self) -> &[FilePlan] {
        &self.files
    }

    /// The columns of files without a schema of their own.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Rows that are not left out.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.files.iter().map(FilePlan::kept).sum()
    }

    /// Rows that are left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        let files = self.files.iter();
        files.map(|file| file.left_out.len() as u64).sum()
    }

    /// Where a row is: its number among those that are not left out.
    #[must_use]
    pub fn place(&self, mut number: u64) -> Option<RowPosition> {
        for (at, file) in self.files.iter().enumerate() {
            if number < file.kept() {
                let row = file.row(number);
                return Some(RowPosition { file: at, row });
            }
            number -= file.kept();
        }
        None
    }
}

impl FilePlan {
    /// Takes the rows of a batch away that are left out.
    ///
    /// # Errors
    /// [`ArrowError`], when a column cannot be filtered.
    pub fn leave_out(&self, batch: &mut Batch) -> Result<(), ArrowError> {
        if self.left_out.is_empty() {
            return Ok(());
        }
        let numbers = batch.numbers.iter();
        let wanted: Vec<_> = numbers.map(|row| !self.leaves_out(*row)).collect();
        if wanted.contains(&false) {
            batch.rows = filter_record_batch(&batch.rows, &BooleanArray::from(wanted))?;
            batch.numbers.retain(|row| !self.leaves_out(*row));
        }
        Ok(())
    }

    /// Rows that are not left out.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.rows - self.left_out.len() as u64
    }

    /// The number in the file of row `number` of those that are not left out.
    fn row(&self, number: u64) -> u64 {
        // Before the i-th row that is left out there are so many that are not: its number less i.
        let (mut low, mut high) = (0, self.left_out.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.left_out[middle] - middle as u64 <= number {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        number + low as u64
    }

    /// Whether a row is left out.
    #[must_use]
    pub fn leaves_out(&self, row: u64) -> bool {
        self.left_out.binary_search(&row).is_ok()
    }

    /// How many rows of these are left out.
    #[must_use]
    pub fn left_out_of(&self, rows: Range<u64>) -> u64 {
        let before = |end: u64| self.left_out.partition_point(|row| *row < end) as u64;
        before(rows.end) - before(rows.start)
    }

    /// How reading begins at a row.
    #[must_use]
    pub fn start(&self, row: u64) -> Start {
        let number = row / CHECKPOINT_ROWS;
        let byte = usize::try_from(number)
            .ok()
            .and_then(|number| self.checkpoints.get(number));
        Start {
            row,
            checkpoint: byte.map(|byte| (number * CHECKPOINT_ROWS, *byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: u64, left_out: &[u64]) -> FilePlan {
        FilePlan {
            rows,
            left_out: left_out.to_vec(),
            checkpoints: Vec::new(),
        }
    }

    #[test]
    fn rows_are_found_by_their_number_among_those_that_count() {
        let files = vec![
            file(5, &[0, 2]),
            file(0, &[]),
            file(2, &[0, 1]),
            file(3, &[]),
            file(3, &[1]),
        ];
        let plan = Plan::new(files, Fields::default());
        assert_eq!((plan.count(), plan.left_out()), (8, 5));
        let places = [
            (0, 1),
            (0, 3),
            (0, 4),
            (3, 0),
            (3, 1),
            (3, 2),
            (4, 0),
            (4, 2),
        ];
        for (number, (file, row)) in places.into_iter().enumerate() {
            assert_eq!(plan.place(number as u64), Some(RowPosition { file, row }));
            assert!(!plan.files()[file].leaves_out(row));
        }
        assert_eq!(plan.place(8), None);
    }

    #[test]
    fn reading_begins_at_the_last_checkpoint() {
        let mut file = file(3 * CHECKPOINT_ROWS, &[]);
        assert_eq!(file.start(9).checkpoint, None);
        file.checkpoints = vec![10, 500, 900];
        let from = file.start(CHECKPOINT_ROWS + 9);
        assert_eq!(from.checkpoint, Some((CHECKPOINT_ROWS, 500)));
        assert_eq!(from.row, CHECKPOINT_ROWS + 9);
    }

    #[test]
    fn what_was_kept_is_read_back_or_refused() {
        let path = Path::new("_plan.json");
        let kept = |plan: &Plan| Plan::kept(Some(&serde_json::to_vec(plan).unwrap()), path);
        let gone = Plan::kept(None, path).unwrap_err().to_string();
        assert!(gone.contains("_plan.json: it is gone"), "{gone}");
        let plan = Plan::new(vec![file(5, &[0, 2])], Fields::default());
        assert_eq!(kept(&plan).unwrap(), plan);
        for damaged in [
            Plan::new(vec![file(2, &[0, 2])], Fields::default()),
            Plan::new(vec![file(5, &[2, 2])], Fields::default()),
        ] {
            assert!(matches!(kept(&damaged), Err(TableError::Kept { .. })));
        }
    }
}
