//! The users' own tables: rows of Parquet, CSV or NDJSON files, on local disk or in an
//! S3-compatible store, read in order from any row on.
//!
//! ```text
//! arguments ─► location ─► objects ─► scan: ids, contexts, duplicates ─► plan ─► rows, from the first of each part
//!               lists,       any       every file at once, the columns   kept
//!               globs        range     that matter alone                 in the folder
//! ```
//!
//! A row is named by its file and its number in that file, from 0; a header does not count. What is
//! shown counts from 1 (`row_number`).
//!
//! - **Parquet:** columns and their types as they are. Every file has the same.
//! - **CSV:** RFC 4180, in UTF-8 or an encoding that the user names, with a header. Every column is
//!   text, and an empty field is null: what a file does not say is not guessed.
//! - **NDJSON:** an object a line. A column is boolean, a 64-bit integer, a 64-bit float or text,
//!   as all of its values are; objects, arrays and mixtures become their JSON text.
//!
//! Folders that are named `NAME=VALUE` are columns of the files below them (`hive`).
//!
//! CSV and NDJSON may be compressed with gzip or Zstandard. Such a file is read from its beginning
//! wherever reading begins.
//!
//! What this module does not do: mint, open, or know of jobs. It writes nothing but, for a moment,
//! what does not fit into memory.

pub mod codec;
pub mod compression;
pub mod csv;
pub mod distinct;
pub mod encoding;
pub mod error;
pub mod fields;
pub mod folders;
pub mod format;
pub mod hive;
mod lake;
pub mod location;
pub mod ndjson;
pub mod object;
pub mod parquet;
pub mod part_rows;
pub mod plan;
pub mod reader;
pub mod row_number;
pub mod rows;
pub mod scan;
mod text;
pub mod walk;
pub mod watch;

pub use compression::Compression;
pub use error::TableError;
pub use folders::FolderNames;
pub use format::Format;
pub use location::Location;
pub use object::Object;
pub use plan::Plan;
pub use row_number::RowNumber;
pub use rows::{Columns, Rows};
pub use scan::{Question, Scanned, scan};
pub use walk::Input;
pub use watch::Watch;

use serde::{Deserialize, Serialize};

/// Rows read at a time.
pub const BATCH_ROWS: usize = 8 * 1024;
/// Columns of a table at most.
pub const COLUMNS_MAX: usize = 10_000;
/// Files of a table at most.
pub const FILES_MAX: usize = 1 << 20;

/// The position of a row in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowPosition {
    /// The number of its file.
    pub file: usize,
    /// Its number in that file, from 0.
    pub row: u64,
}
