//! Text by row, of any of Arrow's kinds of string column.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeStringArray, StringArray, StringViewArray};

/// Strings by row.
pub enum Texts<'a> {
    /// With offsets of 32 bits.
    Utf8(&'a StringArray),
    /// With offsets of 64 bits.
    LargeUtf8(&'a LargeStringArray),
    /// As views.
    Utf8View(&'a StringViewArray),
    /// Values that are named by a number.
    Dictionary {
        /// The numbers, for their nulls.
        keys: &'a dyn Array,
        /// By row; of rows whose key is null, some other.
        indices: Vec<usize>,
        /// The values.
        values: Box<Self>,
    },
}

impl<'a> Texts<'a> {
    /// The strings of a column, if it is text.
    #[must_use]
    pub fn of(array: &'a ArrayRef) -> Option<Self> {
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            let values = dictionary.values();
            // With no values there is no key, and every row is null.
            let indices = if values.is_empty() {
                Vec::new()
            } else {
                dictionary.normalized_keys()
            };
            let values = Box::new(Self::plain(values)?);
            let keys = dictionary.keys();
            return Some(Self::Dictionary {
                keys,
                indices,
                values,
            });
        }
        Self::plain(array)
    }

    fn plain(array: &'a ArrayRef) -> Option<Self> {
        let utf8 = || array.as_string_opt::<i32>().map(Self::Utf8);
        let large = || array.as_string_opt::<i64>().map(Self::LargeUtf8);
        let view = || array.as_string_view_opt().map(Self::Utf8View);
        utf8().or_else(large).or_else(view)
    }

    /// The string of a row; `None` if it is null.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Utf8(array) => array.is_valid(row).then(|| array.value(row)),
            Self::LargeUtf8(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Utf8View(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Dictionary {
                keys,
                indices,
                values,
            } => {
                if keys.is_null(row) {
                    return None;
                }
                values.text(*indices.get(row)?)
            }
        }
    }
}
