//! Parts that are spliced: the row groups of one Parquet file, with the columns of a job beside its
//! own.
//!
//! ```text
//! row group ─┬─► the columns that a job reads ─► rows ─► blobs ─► new columns ─┐
//!            └─► every other column chunk: its bytes ──────────────────────────┴─► the same row group
//! ```
//!
//! A table's columns are not decoded: their chunks are copied page by page, under the schema
//! elements of the input, with their statistics, indexes and Bloom filters. So they stay what they
//! are, whatever their types and codecs. New columns are written value by value straight to the
//! file; memory holds a batch of rows and a page or two, whatever the size of a row group.
//!
//! Row groups of which rows are left out are written anew, value by value (`filtered`), under
//! the same schema elements.

mod arrays;
mod blobs;
mod file;
mod filtered;
mod footer;
mod ids;
mod lengths;
mod own;
mod part;
pub mod plan;
mod schema;

pub use blobs::Blobs;
pub use file::PartFile;
pub use own::{Constants, OwnColumns, Packed, write_time};
pub use part::{PartWriter, Shared, Wrapper};
pub use plan::SplicePlan;
pub use schema::{Leaf, Own, PartSchema};

#[cfg(test)]
mod tests;
