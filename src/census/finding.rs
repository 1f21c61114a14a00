//! Rows with a fault: all are counted, the first few are kept.

use crate::table::RowPosition;

/// Findings that are kept at most; the rest is counted.
pub const FINDINGS_KEPT_MAX: usize = 1000;

/// A row with a fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where it is.
    pub place: RowPosition,
    /// The fault.
    pub reason: String,
}

/// Findings of a table.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most [`FINDINGS_KEPT_MAX`].
    pub kept: Vec<Finding>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, place: RowPosition, reason: String) {
        self.count += 1;
        if self.kept.len() < FINDINGS_KEPT_MAX {
            self.kept.push(Finding { place, reason });
        }
    }

    /// Adds rows of a file that could not be read.
    pub(crate) fn add_bad(&mut self, file: usize, bad: &[(u64, String)]) {
        for (row, reason) in bad {
            self.add(RowPosition { file, row: *row }, reason.clone());
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = FINDINGS_KEPT_MAX - self.kept.len();
        self.kept.extend(other.kept.into_iter().take(room));
    }
}
