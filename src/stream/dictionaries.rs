//! The dictionaries of a stream: which columns each belongs to, what it holds now, and how many
//! bytes that is.
//!
//! A dictionary may be replaced; it may grow by deltas, which are joined to it when rows need them;
//! it may belong to several columns; and its values may be nested, with dictionaries in them. An
//! answer repeats a dictionary for each column that it belongs to, and the values of a dictionary
//! keep those that were in them when they came. So both are counted.

use crate::api::ApiError;
use crate::columns::Shown;
use crate::stream::messages::{Bounds, malformed, too_large, unsupported};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat;
use std::collections::HashMap;

/// Bytes that a piece of a dictionary costs beside its buffers, so that pieces of nothing are
/// bounded too.
const PIECE_BYTES: usize = 512;

/// The dictionaries of a stream.
pub(super) struct Dictionaries {
    bounds: Bounds,
    declared: HashMap<i64, Declared>,
    /// What each holds, but for deltas that are still to be joined.
    values: HashMap<i64, ArrayRef>,
    deltas: HashMap<i64, Vec<ArrayRef>>,
    /// Bytes of each, with those of the dictionaries in its values.
    bytes: HashMap<i64, usize>,
}

/// What the schema says of a dictionary.
struct Declared {
    values: DataType,
    /// Columns that it belongs to, those within columns and within dictionaries included.
    columns: usize,
    /// Dictionaries in its values.
    within: Vec<i64>,
}

/// A dictionary of a message.
pub(super) struct Piece {
    pub(super) id: i64,
    pub(super) is_delta: bool,
    /// Bytes of the body that it keeps.
    pub(super) bytes: usize,
}

impl Dictionaries {
    /// Those that the schema names.
    ///
    /// # Errors
    /// [`ApiError`]: columns of one dictionary have different values.
    pub(super) fn of(schema: &Schema, bounds: Bounds) -> Result<Self, ApiError> {
        let mut dictionaries = Self {
            bounds,
            declared: HashMap::new(),
            values: HashMap::new(),
            deltas: HashMap::new(),
            bytes: HashMap::new(),
        };
        for field in schema.fields() {
            dictionaries.declare(field)?;
        }
        Ok(dictionaries)
    }

    /// Declares the dictionaries of a column; returns their ids.
    fn declare(&mut self, field: &Field) -> Result<Vec<i64>, ApiError> {
        let inner: Vec<&Field> = match field.data_type() {
            DataType::Dictionary(_, values) => return self.declare_values(field, values),
            DataType::List(inner)
            | DataType::LargeList(inner)
            | DataType::FixedSizeList(inner, _)
            | DataType::Map(inner, _) => vec![inner],
            DataType::Struct(fields) => fields.iter().map(AsRef::as_ref).collect(),
            _ => Vec::new(),
        };
        let mut ids = Vec::new();
        for field in inner {
            ids.extend(self.declare(field)?);
        }
        Ok(ids)
    }

    fn declare_values(&mut self, field: &Field, values: &DataType) -> Result<Vec<i64>, ApiError> {
        let within = self.declare(&Field::new("", values.clone(), true))?;
        #[expect(deprecated, reason = "the stream's own id, which the decoder goes by")]
        let id = field
            .dict_id()
            .ok_or_else(|| malformed("a column has a dictionary without an id"))?;
        let declared = self.declared.entry(id).or_insert_with(|| Declared {
            values: values.clone(),
            columns: 0,
            within,
        });
        if declared.values != *values {
            let name = Shown(field.name());
            return Err(malformed(format_args!(
                "column {name} has the dictionary of a column with other values"
            )));
        }
        declared.columns += 1;
        Ok(vec![id])
    }

    /// The type of the values of the dictionary with this id.
    ///
    /// # Errors
    /// [`ApiError`]: no column has it.
    pub(super) fn values(&self, id: i64) -> Result<&DataType, ApiError> {
        let declared = self.declared.get(&id);
        let declared = declared.ok_or_else(|| malformed("a dictionary belongs to no column"))?;
        Ok(&declared.values)
    }

    /// Makes room for a piece, before it is decoded.
    ///
    /// # Errors
    /// [`ApiError`]: there is none, or it cannot be joined to what is there.
    pub(super) fn make_room(&mut self, piece: &Piece) -> Result<(), ApiError> {
        let Piece {
            id,
            is_delta,
            bytes,
        } = *piece;
        let mut own = PIECE_BYTES.saturating_add(bytes);
        if is_delta {
            if self.values(id)?.is_nested() {
                return Err(unsupported("Dictionaries of nested values that grow"));
            }
            let before = self.bytes.get(&id);
            let before = before.ok_or_else(|| malformed("a dictionary grows before it begins"))?;
            own = own.saturating_add(*before);
        } else if let Some(declared) = self.declared.get(&id) {
            let within = declared.within.iter();
            own = within
                .filter_map(|id| self.bytes.get(id))
                .fold(own, |all, bytes| all.saturating_add(*bytes));
        }
        self.bytes.insert(id, own);
        self.check_bytes()
    }

    fn check_bytes(&self) -> Result<(), ApiError> {
        let all = self.bytes.iter().fold(0_usize, |all, (id, bytes)| {
            let columns = self.declared.get(id).map_or(1, |declared| declared.columns);
            all.saturating_add(bytes.saturating_mul(columns))
        });
        if all > self.bounds.body_bytes {
            let what = "All dictionaries of a stream together, each counted for every column that it belongs to,";
            return Err(too_large(what, self.bounds.body_bytes, "bytes"));
        }
        Ok(())
    }

    /// Puts a piece in its place.
    ///
    /// # Errors
    /// [`ApiError`]: the dictionary has too many values.
    pub(super) fn insert(&mut self, piece: &Piece, values: ArrayRef) -> Result<(), ApiError> {
        if !piece.is_delta {
            self.deltas.remove(&piece.id);
            self.values.insert(piece.id, values);
            return Ok(());
        }
        let deltas = self.deltas.entry(piece.id).or_default();
        deltas.push(values);
        // Values may take no bytes, so their number is bounded by itself.
        let count = |array: &ArrayRef| array.len();
        let count =
            self.values.get(&piece.id).map_or(0, count) + deltas.iter().map(count).sum::<usize>();
        if count > self.bounds.elements() {
            return Err(too_large("A dictionary", self.bounds.elements(), "values"));
        }
        Ok(())
    }

    /// What the dictionaries hold, by id, with all deltas that have come.
    ///
    /// # Errors
    /// [`ApiError`]: the pieces of one cannot be joined.
    pub(super) fn joined(&mut self) -> Result<&HashMap<i64, ArrayRef>, ApiError> {
        for (id, deltas) in self.deltas.drain() {
            let first = self.values.get(&id).into_iter();
            let pieces: Vec<&dyn Array> = first.chain(&deltas).map(AsRef::as_ref).collect();
            let whole = concat(&pieces).map_err(malformed)?;
            self.bytes
                .insert(id, PIECE_BYTES + whole.get_buffer_memory_size());
            self.values.insert(id, whole);
        }
        Ok(&self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;
    use std::sync::Arc;

    fn of(column: Field) -> Dictionaries {
        Dictionaries::of(&Schema::new(vec![column]), Bounds::REQUEST).unwrap()
    }

    #[expect(deprecated, reason = "the stream's own id, which the decoder goes by")]
    fn keyed(name: &str, values: DataType, id: i64) -> Field {
        let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(values));
        Field::new_dict(name, kind, true, id, false)
    }

    fn piece(id: i64, is_delta: bool, bytes: usize) -> Piece {
        Piece {
            id,
            is_delta,
            bytes,
        }
    }

    #[test]
    fn pieces_of_nothing_are_bounded_too() {
        let mut dictionaries = of(keyed("a", DataType::Utf8, 7));
        dictionaries.make_room(&piece(7, false, 0)).unwrap();
        let all = Bounds::REQUEST.body_bytes / PIECE_BYTES;
        for _ in 1..all {
            dictionaries.make_room(&piece(7, true, 0)).unwrap();
        }
        assert!(dictionaries.make_room(&piece(7, true, 0)).is_err());
        // One that takes its place begins anew.
        assert!(dictionaries.make_room(&piece(7, false, 0)).is_ok());
    }

    #[test]
    fn what_is_joined_is_counted_as_it_is() {
        let mut dictionaries = of(keyed("a", DataType::Utf8, 7));
        let mut put = |text: &str, is_delta| {
            let piece = piece(7, is_delta, 1 << 20);
            dictionaries.make_room(&piece).unwrap();
            let values = Arc::new(StringArray::from(vec![text]));
            dictionaries.insert(&piece, values).unwrap();
        };
        put("x", false);
        put("y", true);
        put("z", true);
        let expected = StringArray::from(vec!["x", "y", "z"]);
        let joined = dictionaries.joined().unwrap()[&7].clone();
        assert_eq!(joined.to_data(), expected.to_data());
        assert!(dictionaries.bytes[&7] < 4096, "{}", dictionaries.bytes[&7]);
    }

    #[test]
    fn a_dictionary_keeps_those_that_were_in_its_values() {
        let inner = keyed("inner", DataType::Utf8, 1);
        let mut dictionaries = of(keyed("outer", DataType::Struct(vec![inner].into()), 2));
        let half = Bounds::REQUEST.body_bytes / 2 - 4 * PIECE_BYTES;
        dictionaries.make_room(&piece(1, false, half)).unwrap();
        dictionaries.make_room(&piece(2, false, 0)).unwrap();
        // The inner one is replaced, and the outer one still has the one before.
        dictionaries.make_room(&piece(1, false, 0)).unwrap();
        assert!(dictionaries.bytes[&2] > half);
        assert!(
            dictionaries
                .make_room(&piece(1, false, half + 8 * PIECE_BYTES))
                .is_err()
        );
    }

    #[test]
    fn a_dictionary_of_no_column_is_refused() {
        let mut dictionaries = of(keyed("a", DataType::Utf8, 7));
        let refused = dictionaries.values(8).unwrap_err();
        assert!(refused.message().contains("belongs to no column"));
        let refused = dictionaries.make_room(&piece(7, true, 0)).unwrap_err();
        assert!(refused.message().contains("grows before it begins"));
    }
}
