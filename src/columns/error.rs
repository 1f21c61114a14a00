//! Why columns do not give encryption contexts.

use std::error::Error;
use std::fmt;

/// Why rows have no encryption contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnError {
    /// A column is missing or of another type, or a row's values do not make a context.
    Unusable(String),
    /// The rows are not of the schema that was checked for them: a fault of this program.
    Unchecked(&'static str),
}

impl fmt::Display for ColumnError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(message) => out.write_str(message),
            Self::Unchecked(message) => out.write_str(message),
        }
    }
}

impl Error for ColumnError {}
