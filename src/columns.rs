//! Columns of Arrow data that name encryption contexts and hold blobs: what a table and a stream of
//! rows have in common.
//!
//! What this module does not do: read files or the wire, or look at keys.

pub mod alike;
mod blobs;
mod contexts;
mod error;
pub mod names;
mod pairs;
pub mod shown;
mod texts;

pub use blobs::Blobs;
pub use contexts::{ContextSource, Contexts};
pub use error::ColumnError;
pub use pairs::{ContextPairs, Rows};
pub use shown::Shown;
pub use texts::Texts;
