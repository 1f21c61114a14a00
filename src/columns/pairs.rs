//! Columns to encryption contexts: a row's context has a pair for each named column, and the pairs
//! that are the same for every row.

use crate::columns::error::ColumnError;
use crate::columns::shown::{Shown, kind};
use crate::columns::texts::Texts;
use crate::context::{ContextNames, ContextRuns, EncryptionContext, InvalidContext};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema};
use smallvec::SmallVec;

/// What a row's context is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextPairs {
    /// Names of columns, which are names of pairs.
    pub columns: Vec<String>,
    /// Names and values.
    pub constants: Vec<(String, String)>,
}

impl ContextPairs {
    /// Finds the columns.
    ///
    /// # Errors
    /// [`ColumnError`]: one is missing, is there twice, or is not text.
    pub fn places(&self, schema: &Schema) -> Result<Vec<usize>, ColumnError> {
        let place = |name: &String| {
            let mut found = schema.fields().iter().enumerate();
            let mut named = found.by_ref().filter(|(_, field)| field.name() == name);
            let (place, field) = named
                .next()
                .ok_or_else(|| invalid(format!("There is no column {}.", Shown(name))))?;
            if named.next().is_some() {
                return Err(invalid(format!(
                    "There are several columns {}.",
                    Shown(name)
                )));
            }
            if !is_text(field.data_type()) {
                let (name, kind) = (Shown(name), kind(field.data_type()));
                let message = format!("Column {name} is of type {kind}, and contexts are strings.");
                return Err(invalid(message));
            }
            Ok(place)
        };
        self.columns.iter().map(place).collect()
    }

    /// Looks at these rows.
    ///
    /// # Errors
    /// [`ColumnError`], when [`Self::places`] has found them in another schema.
    pub fn rows<'a>(
        &'a self,
        batch: &'a RecordBatch,
        places: &[usize],
    ) -> Result<Rows<'a>, ColumnError> {
        let columns = places.iter().map(|place| {
            let array = batch.columns().get(*place);
            // `places` has looked at the schema that the batch was decoded by.
            array.and_then(Texts::of).ok_or(ColumnError::Unchecked(
                "a context column that was there is gone",
            ))
        });
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        let constants = self
            .constants
            .iter()
            .enumerate()
            .map(|(at, (name, _))| (name.as_str(), Value::Constant(at)));
        let of_columns = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, name)| (name.as_str(), Value::Column(at)));
        let mut order: Vec<_> = constants.chain(of_columns).collect();
        order.sort_unstable_by_key(|(name, _)| *name);
        let names: Vec<_> = order.iter().map(|(name, _)| *name).collect();
        Ok(Rows {
            pairs: self,
            columns,
            names: ContextNames::of(&names),
            order,
        })
    }
}

fn null(name: &str) -> ColumnError {
    invalid(format!("Context column {} is null.", Shown(name)))
}

fn too_large() -> ColumnError {
    invalid(format!(
        "The encryption context is larger than {} bytes in canonical form.",
        EncryptionContext::BYTES_MAX
    ))
}

fn invalid(message: String) -> ColumnError {
    ColumnError::Unusable(message)
}

fn is_text(kind: &DataType) -> bool {
    let plain = |kind: &DataType| {
        matches!(
            kind,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    match kind {
        DataType::Dictionary(_, values) => plain(values),
        kind => plain(kind),
    }
}

/// The contexts of some rows.
pub struct Rows<'a> {
    pairs: &'a ContextPairs,
    columns: Vec<Texts<'a>>,
    /// The pairs by name, as a context has them.
    order: Vec<(&'a str, Value)>,
    /// Their names, unless one is there twice.
    names: Option<ContextNames>,
}

/// Where a pair's value is.
#[derive(Clone, Copy)]
enum Value {
    Constant(usize),
    Column(usize),
}

impl Rows<'_> {
    /// The columns, in the order of [`ContextPairs::columns`].
    #[must_use]
    pub fn columns(&self) -> &[Texts<'_>] {
        &self.columns
    }

    /// Whether [`Self::context`] has one for the row, without making it.
    ///
    /// # Errors
    /// [`ColumnError`]: it can have none.
    pub fn check(&self, row: usize) -> Result<(), ColumnError> {
        let constants = self.pairs.constants.iter();
        let mut bytes: usize = 2 + constants
            .map(|(name, value)| 4 + name.len() + value.len())
            .sum::<usize>();
        for (name, column) in self.pairs.columns.iter().zip(&self.columns) {
            let value = column.text(row).ok_or_else(|| null(name))?;
            bytes += 4 + name.len() + value.len();
        }
        if bytes > EncryptionContext::BYTES_MAX {
            Err(too_large())
        } else {
            Ok(())
        }
    }

    /// The names of a row's pairs, sorted, and their values; none where a column is null.
    fn texts(&self, row: usize) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.order.iter().map(move |(name, value)| {
            let text = match value {
                Value::Constant(at) => self.pairs.constants.get(*at).map(|(_, value)| &**value),
                Value::Column(at) => self.columns.get(*at).and_then(|column| column.text(row)),
            };
            (*name, text)
        })
    }

    /// The pairs of a row that has a context, sorted by name.
    pub fn pairs(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        self.texts(row)
            .map(|(name, value)| (name, value.unwrap_or_default()))
    }

    /// The context of a row.
    ///
    /// # Errors
    /// [`ColumnError`]: it can have none.
    pub fn context(&self, row: usize) -> Result<EncryptionContext, ColumnError> {
        let pairs = self.some_pairs(row)?;
        EncryptionContext::from_sorted_pairs(pairs.iter().copied()).map_err(unusable)
    }

    /// Appends the context of a row to those of the rows before it.
    ///
    /// # Errors
    /// [`ColumnError`]: it can have none.
    pub fn push_context(&self, row: usize, runs: &mut ContextRuns) -> Result<(), ColumnError> {
        let Some(names) = &self.names else {
            let pairs = self.some_pairs(row)?;
            return runs.push(pairs.iter().copied()).map_err(unusable);
        };
        let mut values = SmallVec::<[&str; 4]>::new();
        for (name, value) in self.texts(row) {
            values.push(value.ok_or_else(|| null(name))?);
        }
        runs.push_values(names, &values).map_err(unusable)
    }

    fn some_pairs(&self, row: usize) -> Result<SmallVec<[(&str, &str); 4]>, ColumnError> {
        let pairs = self.texts(row);
        let some = pairs.map(|(name, value)| Ok((name, value.ok_or_else(|| null(name))?)));
        some.collect()
    }
}

fn unusable(error: InvalidContext) -> ColumnError {
    match error {
        InvalidContext::TooLarge => too_large(),
        InvalidContext::DuplicateName => {
            ColumnError::Unchecked("names were compared when the request was read")
        }
    }
}
