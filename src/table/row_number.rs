//! How rows of a file are counted, for people.

use serde::{Serialize, Serializer};
use std::fmt;

/// The number of a row in its file. The code counts rows from 0, and this holds such a number; what
/// is shown, in messages and in JSON, counts from 1. A header is not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowNumber(pub u64);

impl RowNumber {
    fn shown(self) -> u64 {
        self.0.saturating_add(1)
    }
}

impl fmt::Display for RowNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(out)
    }
}

impl Serialize for RowNumber {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_is_row_1() {
        assert_eq!(RowNumber(0).to_string(), "1");
        assert_eq!(serde_json::json!({"row": RowNumber(0)})["row"], 1);
        assert_eq!(RowNumber(u64::MAX).to_string(), u64::MAX.to_string());
    }
}
