//! The columns of a file without a schema: what all values of each are.

use crate::table::COLUMNS_MAX;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of the names of all columns at most: a hundred for each of as many as there may be.
const NAMES_BYTES_MAX: usize = 100 * COLUMNS_MAX;

/// What all values of a column are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing but nulls.
    #[default]
    Null,
    /// `true` and `false`.
    Boolean,
    /// Whole numbers that are floats too.
    Integer,
    /// Whole numbers of 64 bits, of which some are not floats.
    LongInteger,
    /// Numbers that are floats of 64 bits without a digit lost.
    Float,
    /// Strings; or values of several kinds, other numbers, objects or arrays, as their JSON text.
    Text,
}

impl Kind {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Null, other) | (other, Self::Null) => other,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            (Self::Integer, Self::LongInteger) | (Self::LongInteger, Self::Integer) => {
                Self::LongInteger
            }
            _ => Self::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer | Self::LongInteger => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Null | Self::Text => DataType::Utf8,
        }
    }
}

/// The columns that lines have had, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    names: Vec<(String, Kind)>,
    #[serde(skip)]
    places: HashMap<String, usize>,
    /// Bytes of all names.
    #[serde(skip)]
    bytes: usize,
}

impl Fields {
    /// Adds those of a later file.
    pub fn extend(&mut self, other: &Self) {
        for (name, kind) in &other.names {
            self.add(name, *kind);
        }
    }

    /// Adds a value of this kind.
    pub fn add(&mut self, name: &str, kind: Kind) {
        match self.places.get(name) {
            Some(place) => {
                if let Some((_, before)) = self.names.get_mut(*place) {
                    *before = before.and(kind);
                }
            }
            None => {
                self.bytes += name.len();
                self.places.insert(name.to_owned(), self.names.len());
                self.names.push((name.to_owned(), kind));
            }
        }
    }

    /// Why they are more than a table may have, if they are. Every line may bring new names, and
    /// each is held in memory.
    #[must_use]
    pub fn excess(&self) -> Option<String> {
        if self.names.len() > COLUMNS_MAX {
            return Some(format!("more than {COLUMNS_MAX} columns"));
        }
        let is_long = self.bytes > NAMES_BYTES_MAX;
        is_long.then(|| format!("columns whose names have more than {NAMES_BYTES_MAX} bytes"))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| name.as_str())
    }

    /// As Arrow has them.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let fields = self
            .names
            .iter()
            .map(|(name, kind)| Field::new(name, kind.data_type(), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// The members of rows, in order, while it is not known yet which of these rows are kept: one that
/// is left out has no say in what a column is.
#[derive(Debug, Default)]
pub struct Members {
    names: Vec<String>,
    places: HashMap<String, usize>,
    /// Of all rows: the number of the name, and what the value is.
    kinds: Vec<(usize, Kind)>,
    /// By row, where its last member ends.
    ends: Vec<usize>,
}

impl Members {
    /// Adds a row.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = (String, Kind)>) {
        for (name, kind) in row {
            let place = match self.places.get(&name) {
                Some(place) => *place,
                None => {
                    self.names.push(name.clone());
                    self.places.insert(name, self.names.len() - 1);
                    self.names.len() - 1
                }
            };
            self.kinds.push((place, kind));
        }
        self.ends.push(self.kinds.len());
    }

    /// Adds the members of the rows that are kept to columns.
    pub(super) fn add_to(&self, fields: &mut Fields, is_kept: impl Fn(usize) -> bool) {
        let mut found: Vec<Option<Kind>> = vec![None; self.names.len()];
        let mut order = Vec::new();
        let mut from = 0;
        for (row, end) in self.ends.iter().enumerate() {
            let members = self.kinds.get(from..*end).unwrap_or_default();
            from = *end;
            for (place, kind) in members.iter().filter(|_| is_kept(row)) {
                match &mut found[*place] {
                    Some(before) => *before = before.and(*kind),
                    first => {
                        *first = Some(*kind);
                        order.push(*place);
                    }
                }
            }
        }
        for place in order {
            if let Some(kind) = found[place] {
                fields.add(&self.names[place], kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_left_out_has_no_say() {
        let mut members = Members::default();
        let row = |row: &[(&str, Kind)]| {
            let row = row.iter();
            row.map(|(name, kind)| ((*name).to_owned(), *kind))
                .collect::<Vec<_>>()
        };
        members.push(row(&[("only", Kind::Integer), ("n", Kind::Text)]));
        members.push(row(&[("n", Kind::Integer)]));
        members.push(row(&[]));
        members.push(row(&[("late", Kind::Boolean), ("n", Kind::Float)]));
        let kept = |is_kept: &dyn Fn(usize) -> bool| {
            let mut fields = Fields::default();
            members.add_to(&mut fields, is_kept);
            fields.names
        };
        let column = |name: &str, kind| (name.to_owned(), kind);
        assert_eq!(
            kept(&|row| row > 0),
            [column("n", Kind::Float), column("late", Kind::Boolean)]
        );
        assert_eq!(kept(&|row| row == 1), [column("n", Kind::Integer)]);
        assert_eq!(kept(&|_| true).len(), 3);
        assert_eq!(kept(&|_| true)[1], column("n", Kind::Text));
    }

    /// Of two files, as of two lines of one.
    #[test]
    fn a_column_is_text_before_a_digit_is_lost() {
        use Kind::{Boolean, Float, Integer, LongInteger, Null, Text};
        for (one, other, data_type) in [
            (Null, Null, DataType::Utf8),
            (Null, Integer, DataType::Int64),
            (Integer, Float, DataType::Float64),
            (Integer, LongInteger, DataType::Int64),
            (LongInteger, Float, DataType::Utf8),
            (Boolean, Integer, DataType::Utf8),
            (Text, Float, DataType::Utf8),
            (Boolean, Null, DataType::Boolean),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let (mut fields, mut more) = (Fields::default(), Fields::default());
                fields.add("x", one);
                more.add("x", other);
                fields.extend(&more);
                assert_eq!(
                    fields.schema().field(0).data_type(),
                    &data_type,
                    "{one:?} {other:?}"
                );
            }
        }
    }
}
