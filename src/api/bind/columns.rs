//! Columns to encryption contexts: a row's context has a pair for each named column, and the pairs
//! that are the same for every row.

use crate::api::{ApiError, KmsErrorCode};
use crate::context::{EncryptionContext, InvalidContext};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeStringArray, RecordBatch, StringArray, StringViewArray};
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
    /// [`ApiError`]: one is not there, is there twice, or is no text.
    pub fn places(&self, schema: &Schema) -> Result<Vec<usize>, ApiError> {
        let place = |name: &String| {
            let mut found = schema.fields().iter().enumerate();
            let mut named = found.by_ref().filter(|(_, field)| field.name() == name);
            let (place, field) = named
                .next()
                .ok_or_else(|| invalid(format!("There is no column {name:?}.")))?;
            if named.next().is_some() {
                return Err(invalid(format!("There are several columns {name:?}.")));
            }
            if !is_text(field.data_type()) {
                let kind = field.data_type();
                let message =
                    format!("Column {name:?} is of type {kind}, and contexts are strings.");
                return Err(invalid(message));
            }
            Ok(place)
        };
        self.columns.iter().map(place).collect()
    }

    /// Looks at these rows.
    ///
    /// # Errors
    /// [`ApiError`], when [`Self::places`] has found them in another schema.
    pub fn rows<'a>(
        &'a self,
        batch: &'a RecordBatch,
        places: &[usize],
    ) -> Result<Rows<'a>, ApiError> {
        let columns = places.iter().map(|place| {
            let array = batch.columns().get(*place);
            // `places` has looked at the schema that the batch was decoded by.
            array
                .and_then(Texts::of)
                .ok_or_else(|| ApiError::internal("a context column that was there is gone"))
        });
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        let constants = self.constants.iter().enumerate();
        let constants = constants.map(|(at, (name, _))| (name.as_str(), Value::Constant(at)));
        let of_columns = self.columns.iter().enumerate();
        let of_columns = of_columns.map(|(at, name)| (name.as_str(), Value::Column(at)));
        let mut order: Vec<_> = constants.chain(of_columns).collect();
        order.sort_unstable_by_key(|(name, _)| *name);
        Ok(Rows {
            pairs: self,
            columns,
            order,
        })
    }
}

fn null(name: &str) -> ApiError {
    invalid(format!("Context column {name:?} is null."))
}

fn too_large() -> ApiError {
    invalid(format!(
        "The encryption context is larger than {} bytes in canonical form.",
        EncryptionContext::BYTES_MAX
    ))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(KmsErrorCode::ValidationException, message)
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

    /// Whether two rows have the same values.
    #[must_use]
    pub fn are_alike(&self, one: usize, other: usize) -> bool {
        let mut columns = self.columns.iter();
        columns.all(|column| column.text(one) == column.text(other))
    }

    /// Whether [`Self::context`] has one for the row, without making it.
    ///
    /// # Errors
    /// [`ApiError`]: it can have none.
    pub fn check(&self, row: usize) -> Result<(), ApiError> {
        let constants = self.pairs.constants.iter();
        let mut bytes: usize = 2 + constants
            .map(|(name, value)| 4 + name.len() + value.len())
            .sum::<usize>();
        for (name, column) in self.pairs.columns.iter().zip(&self.columns) {
            let value = column.text(row).ok_or_else(|| null(name))?;
            bytes += 4 + name.len() + value.len();
        }
        match bytes > EncryptionContext::BYTES_MAX {
            true => Err(too_large()),
            false => Ok(()),
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
    /// [`ApiError`]: it can have none.
    pub fn context(&self, row: usize) -> Result<EncryptionContext, ApiError> {
        let mut pairs = SmallVec::<[_; 4]>::new();
        for (name, value) in self.texts(row) {
            pairs.push((name, value.ok_or_else(|| null(name))?));
        }
        EncryptionContext::from_sorted_pairs(pairs.iter().copied()).map_err(|error| match error {
            InvalidContext::TooLarge => too_large(),
            InvalidContext::DuplicateName => {
                ApiError::internal("names were compared when the request was read")
            }
        })
    }
}

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
    /// Those of a column, if it is text.
    #[must_use]
    pub fn of(array: &'a ArrayRef) -> Option<Self> {
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            let values = dictionary.values();
            // With no values there is no key, and every row is null.
            let indices = match values.is_empty() {
                true => Vec::new(),
                false => dictionary.normalized_keys(),
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

    /// Of a row; `None` if it is null.
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
                let index = indices.get(row).filter(|_| keys.is_valid(row));
                index.and_then(|index| values.text(*index))
            }
        }
    }
}
