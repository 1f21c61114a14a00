//! Data keys and rows by the million: a batch of data keys ([`DataKeys`]), and a stream of rows
//! that are each given a key, rewrapped or verified ([`RowStream`]).
//!
//! Both are answered chunk by chunk, and every chunk is authorized, made and recorded anew.
//!
//! What this module does not do: know HTTP (that is `transport`), or read tables (that is `table`).

use crate::api::{ApiError, ErrorCode};
use crate::columns::ColumnError;

mod blob_rows;
mod bound_rows;
mod chunk;
mod containers;
pub mod data_keys;
mod decoder;
mod decompression;
mod dictionaries;
mod extents;
mod messages;
mod minter;
mod output;
mod pinned_key;
mod purpose;
mod query;
mod rewrapper;
mod row_reader;
mod sealed_rows;
mod transform;
mod verifier;

pub use blob_rows::BlobRows;
pub use bound_rows::BoundRows;
pub use chunk::CHUNK_ROWS;
pub use containers::{RowStream, Step};
pub use data_keys::{Chunk, DataKeys};
pub use purpose::Purpose;
pub use row_reader::{ReadError, RowReader};

/// What the endpoints take and what they answer.
pub const MEDIA_TYPE: &str = "application/vnd.apache.arrow.stream";

impl From<ColumnError> for ApiError {
    fn from(error: ColumnError) -> Self {
        match error {
            ColumnError::Unusable(message) => Self::new(ErrorCode::ValidationException, message),
            ColumnError::Unchecked(message) => Self::internal(message),
        }
    }
}

#[cfg(test)]
mod tests;
