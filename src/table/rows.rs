//! Rows of one file, from any of them on.

use crate::table::fields::Fields;
use crate::table::{BATCH_ROWS, Object, TableError};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

/// Rows between two checkpoints of a file whose rows have no index: at most so many are read again
/// to find one.
pub const CHECKPOINT_ROWS: u64 = 4096;
/// Bytes of text read at a time at most, where rows are long.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Values of text read at a time at most, where there are many columns: each takes some bytes even
/// where it is null.
const BATCH_CELLS_MAX: usize = BATCH_ROWS * 128;
/// Bytes of one row of text at most.
pub const ROW_BYTES_MAX: u64 = 16 << 20;

/// Rows of text read at a time at most, of so many columns.
#[must_use]
pub fn batch_rows_max(columns: usize) -> usize {
    (BATCH_CELLS_MAX / columns.max(1)).clamp(1, BATCH_ROWS)
}

/// Which columns are read.
#[derive(Clone, Copy)]
pub enum Columns<'a> {
    /// All, as the schema has them.
    All(&'a SchemaRef),
    /// Those of these names, of a file that is looked through for the first time.
    Named(&'a [String]),
}

/// Some rows of one file.
pub struct Batch {
    /// Those that could be read.
    pub rows: RecordBatch,
    /// The number of each in its file.
    pub numbers: Vec<u64>,
    /// Those that could not, and why.
    pub bad: Vec<(u64, String)>,
}

impl Batch {
    /// The first row by itself.
    #[must_use]
    pub fn first(&self) -> Self {
        Self {
            rows: self.rows.slice(0, self.numbers.len().min(1)),
            numbers: self.numbers.iter().take(1).copied().collect(),
            bad: Vec::new(),
        }
    }
}

/// What a file is known by once all of it was read.
#[derive(Default)]
pub struct Seen {
    /// Where every [`CHECKPOINT_ROWS`]th row begins, in bytes; of a file without an index.
    pub checkpoints: Vec<u64>,
    /// The columns of a file without a schema.
    pub fields: Fields,
}

/// Rows on their way.
pub trait Rows: Send {
    /// The next few; `None` after the last.
    ///
    /// # Errors
    /// [`TableError`], when the file cannot be read, or is damaged.
    fn next(&mut self) -> Result<Option<Batch>, TableError>;

    /// Passes over those rows to come that are before this one. Does nothing where rows have an
    /// index: there, reading begins at any of them.
    fn pass_over(&mut self, _row: u64) {}

    /// What there is to know of a file that was read from its first row to its last.
    fn seen(&mut self) -> Seen {
        Seen::default()
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The number of the first row that is wanted.
    pub row: u64,
    /// The last row before it whose place is known, and that place.
    pub checkpoint: Option<(u64, u64)>,
}

/// Refuses a table with a column of one of these names, whatever the case of its letters: many
/// readers ignore it, and would give the user's own column in the place of ours.
///
/// # Errors
/// [`TableError::Column`].
pub fn check_names<'a>(
    object: &Object,
    schema: &Schema,
    added: impl IntoIterator<Item = &'a str>,
) -> Result<(), TableError> {
    let mut added = added.into_iter();
    let names = || schema.fields().iter().map(|field| field.name());
    let taken = added.find_map(|name| names().find(|own| own.eq_ignore_ascii_case(name)));
    match taken {
        Some(taken) => Err(TableError::Column {
            name: object.name.clone(),
            reason: format!("there is a column {taken:?} already; rename it in the table"),
        }),
        None => Ok(()),
    }
}

/// Refuses columns that are not those of the first file.
///
/// # Errors
/// [`TableError::Columns`], when a column is missing, added or of another type.
pub fn check_same(
    first: &Object,
    wanted: &Schema,
    object: &Object,
    found: &Schema,
) -> Result<(), TableError> {
    let differs = |reason: String| {
        Err(TableError::Columns {
            name: object.name.clone(),
            reason,
            first: first.name.clone(),
        })
    };
    for (wanted, found) in wanted.fields().iter().zip(found.fields()) {
        if wanted.name() != found.name() {
            return differs(format!(
                "it has column {:?} where {:?} should be",
                found.name(),
                wanted.name()
            ));
        }
        if wanted.data_type() != found.data_type() {
            let (name, here, there) = (wanted.name(), found.data_type(), wanted.data_type());
            return differs(format!("column {name:?} is of type {here}, not {there}"));
        }
    }
    match (wanted.fields().len(), found.fields().len()) {
        (wanted, found) if wanted != found => {
            differs(format!("it has {found} columns, not {wanted}"))
        }
        _ => Ok(()),
    }
}
