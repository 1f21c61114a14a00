//! Rows of one file, from any of them on.

use crate::columns::alike::Clash;
use crate::columns::shown::{Shown, kind};
use crate::table::fields::Members;
use crate::table::{BATCH_ROWS, Object, TableError};
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;

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
    /// The members of those that could, where a file without a schema is looked through.
    pub members: Members,
}

impl Batch {
    /// Takes rows out that are bad, by their place.
    ///
    /// # Errors
    /// [`ArrowError`], when a column cannot be filtered.
    pub fn refuse(&mut self, bad: Vec<(usize, String)>) -> Result<(), ArrowError> {
        if bad.is_empty() {
            return Ok(());
        }
        let mut is_good = vec![true; self.numbers.len()];
        for (at, reason) in bad {
            // Of one that has several faults the first is told.
            if std::mem::take(&mut is_good[at]) {
                self.bad.push((self.numbers[at], reason));
            }
        }
        let mut good = is_good.iter();
        self.numbers.retain(|_| good.next() == Some(&true));
        self.rows = filter_record_batch(&self.rows, &BooleanArray::from(is_good))?;
        Ok(())
    }

    /// The first row by itself.
    #[must_use]
    pub fn first(&self) -> Self {
        Self {
            rows: self.rows.slice(0, self.numbers.len().min(1)),
            numbers: self.numbers.iter().take(1).copied().collect(),
            bad: Vec::new(),
            members: Members::default(),
        }
    }
}

/// What a file is known by once all of it was read.
#[derive(Default)]
pub struct Seen {
    /// Where every [`CHECKPOINT_ROWS`]th row begins, in bytes; of a file without an index.
    pub checkpoints: Vec<u64>,
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

/// Refuses a table with a column that readers may take for one of these.
///
/// # Errors
/// [`TableError::Column`].
pub fn check_names<'a>(
    object: &Object,
    schema: &Schema,
    added: impl IntoIterator<Item = &'a str>,
) -> Result<(), TableError> {
    let added: Vec<_> = added.into_iter().collect();
    let own = schema.fields().iter().map(|field| field.name().as_str());
    match Clash::find(own, added) {
        Some(clash) => Err(TableError::Column {
            name: object.name.clone(),
            reason: format!("there is {clash}; rename it in the table"),
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
            let (found, wanted) = (Shown(found.name()), Shown(wanted.name()));
            return differs(format!("it has column {found} where {wanted} should be"));
        }
        if !are_same(wanted.data_type(), found.data_type()) {
            let (here, there) = (kind(found.data_type()), kind(wanted.data_type()));
            let name = Shown(wanted.name());
            return differs(format!("column {name} is of type {here}, not {there}"));
        }
    }
    match (wanted.fields().len(), found.fields().len()) {
        (wanted, found) if wanted != found => {
            differs(format!("it has {found} columns, not {wanted}"))
        }
        _ => Ok(()),
    }
}

/// Whether columns of these types are the same to a job, which merges none: whether values may be
/// null, what the element of a list and the entry of a map are called, and how a variant is
/// shredded may be another in each file.
fn are_same(one: &DataType, other: &DataType) -> bool {
    let same_type = |one: &Field, other: &Field| are_same(one.data_type(), other.data_type());
    match (one, other) {
        (DataType::List(one), DataType::List(other))
        | (DataType::LargeList(one), DataType::LargeList(other)) => same_type(one, other),
        (DataType::FixedSizeList(one, size), DataType::FixedSizeList(other, other_size)) => {
            size == other_size && same_type(one, other)
        }
        (DataType::Map(one, _), DataType::Map(other, _)) => {
            match (one.data_type(), other.data_type()) {
                (DataType::Struct(one), DataType::Struct(other)) => {
                    let mut sides = one.iter().zip(other);
                    one.len() == other.len() && sides.all(|(one, other)| same_type(one, other))
                }
                _ => same_type(one, other),
            }
        }
        (DataType::Struct(_), DataType::Struct(_)) if is_variant(one) && is_variant(other) => true,
        (DataType::Struct(one), DataType::Struct(other)) => {
            let mut fields = one.iter().zip(other);
            one.len() == other.len()
                && fields.all(|(one, other)| one.name() == other.name() && same_type(one, other))
        }
        _ => one == other,
    }
}

/// Whether a group has the columns of a variant, whose `typed_value` each file has as it likes
/// (VariantShredding.md).
fn is_variant(of: &DataType) -> bool {
    const COLUMNS: [&str; 3] = ["metadata", "value", "typed_value"];
    let DataType::Struct(fields) = of else {
        return false;
    };
    let is_bytes =
        |field: &Field| matches!(field.data_type(), DataType::Binary | DataType::BinaryView);
    let found = |name: &str| fields.iter().find(|field| field.name() == name);
    found("metadata").is_some_and(|field| is_bytes(field))
        && found("value").is_none_or(|field| is_bytes(field))
        && (2..=3).contains(&fields.len())
        && fields
            .iter()
            .all(|field| COLUMNS.contains(&field.name().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::object::Storage;
    use arrow_schema::Fields as Columns;
    use std::sync::Arc;

    fn list(name: &str, of: DataType, is_nullable: bool) -> DataType {
        DataType::List(Arc::new(Field::new(name, of, is_nullable)))
    }

    fn group(fields: &[(&str, DataType)]) -> DataType {
        let fields = fields.iter();
        let fields = fields.map(|(name, of)| Field::new(*name, of.clone(), true));
        DataType::Struct(Columns::from_iter(fields))
    }

    #[test]
    fn what_a_writer_chooses_does_not_make_files_differ() {
        let bytes = || DataType::Binary;
        for (one, other, is_same) in [
            (
                list("element", DataType::Int64, true),
                list("item", DataType::Int64, false),
                true,
            ),
            (
                list("element", list("a", DataType::Int64, true), true),
                list("element", list("b", DataType::Int64, false), true),
                true,
            ),
            (
                list("element", DataType::Int64, true),
                list("element", DataType::Int32, true),
                false,
            ),
            (group(&[("a", bytes())]), group(&[("b", bytes())]), false),
            (
                group(&[("metadata", bytes()), ("value", bytes())]),
                group(&[
                    ("metadata", bytes()),
                    ("value", bytes()),
                    ("typed_value", DataType::Int32),
                ]),
                true,
            ),
            (
                group(&[("metadata", bytes()), ("value", bytes())]),
                group(&[("metadata", bytes()), ("other", bytes())]),
                false,
            ),
            (
                group(&[("metadata", DataType::Int32), ("value", bytes())]),
                group(&[("metadata", DataType::Int32), ("typed_value", bytes())]),
                false,
            ),
        ] {
            assert_eq!(are_same(&one, &other), is_same, "{one} {other}");
            assert_eq!(are_same(&other, &one), is_same, "{one} {other}");
        }
    }

    #[test]
    fn a_file_of_other_columns_is_refused_in_the_words_of_parquet() {
        let object = |name: &str| {
            let source = Storage::File(name.into());
            Object::new(name.to_owned(), 0, String::new(), source)
        };
        let schema = |name: &str, of| Schema::new(vec![Field::new(name, of, true)]);
        let long = "x".repeat(100_000);
        for (found, said) in [
            (
                schema("n", DataType::Utf8View),
                "b.parquet: column \"n\" is of type STRING, not LIST(INT64); every file of a job \
                 has the same columns, those of a.parquet",
            ),
            (schema(&long, DataType::Utf8), "where \"n\" should be"),
        ] {
            let wanted = schema("n", list("element", DataType::Int64, true));
            let refused = check_same(&object("a.parquet"), &wanted, &object("b.parquet"), &found);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
            assert!(refused.len() < 1000, "{}", refused.len());
        }
    }
}
