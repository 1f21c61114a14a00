//! Blobs by row, of any of Arrow's kinds of binary column.

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray,
};
use arrow_schema::DataType;

/// Blobs by row.
pub enum Blobs<'a> {
    /// With offsets of 32 bits.
    Binary(&'a BinaryArray),
    /// With offsets of 64 bits.
    Large(&'a LargeBinaryArray),
    /// As views.
    View(&'a BinaryViewArray),
    /// All of one length.
    Fixed(&'a FixedSizeBinaryArray),
}

impl<'a> Blobs<'a> {
    /// Whether a column of this type is binary.
    #[must_use]
    pub fn are(kind: &DataType) -> bool {
        matches!(
            kind,
            DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
    }

    /// The blobs of a column, if it is binary.
    #[must_use]
    pub fn of(column: &'a ArrayRef) -> Option<Self> {
        let binary = || column.as_binary_opt::<i32>().map(Self::Binary);
        let large = || column.as_binary_opt::<i64>().map(Self::Large);
        let view = || column.as_binary_view_opt().map(Self::View);
        let fixed = || column.as_fixed_size_binary_opt().map(Self::Fixed);
        binary().or_else(large).or_else(view).or_else(fixed)
    }

    /// The blob of a row; `None` if it is null.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Binary(column) => column.is_valid(row).then(|| column.value(row)),
            Self::Large(column) => column.is_valid(row).then(|| column.value(row)),
            Self::View(column) => column.is_valid(row).then(|| column.value(row)),
            Self::Fixed(column) => column.is_valid(row).then(|| column.value(row)),
        }
    }
}
