//! A batch of data keys as an Arrow stream: the columns that a stream of containers is given, and
//! no others.

use crate::api::ApiError;
use crate::key::material::KeyMaterialId;
use crate::stream::data_keys::DataKeys;
use crate::stream::output::{BlobColumns, Encoder};
use arrow_array::BinaryArray;
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{Field, Schema};
use std::sync::Arc;

/// Writes the stream, chunk by chunk.
pub struct BlobRows {
    key_arn: String,
    material: KeyMaterialId,
    blob_bytes: usize,
    columns: BlobColumns,
    encoder: Encoder,
}

impl BlobRows {
    /// Begins the stream of a batch.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the schema: a fault of this program.
    pub fn begin(keys: &DataKeys) -> Result<Self, ApiError> {
        let fields: Vec<Field> = BlobColumns::fields().collect();
        Ok(Self {
            key_arn: keys.key_arn().to_owned(),
            material: keys.material(),
            blob_bytes: keys.blob_bytes(),
            columns: BlobColumns::default(),
            encoder: Encoder::begin(Arc::new(Schema::new(fields)))?,
        })
    }

    /// The bytes of these blobs, which lie end to end; the schema's before the first of them.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode them: a fault of this program.
    pub fn rows(&mut self, blobs: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let rows = blobs.len() / self.blob_bytes.max(1);
        let offsets = OffsetBuffer::from_repeated_length(self.blob_bytes, rows);
        let blobs = BinaryArray::try_new(offsets, Buffer::from_vec(blobs), None)
            .map_err(ApiError::internal)?;
        let columns = self.columns.under(&self.key_arn, self.material, blobs)?;
        self.encoder.rows(columns.to_vec())
    }

    /// The bytes of the end.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the end: a fault of this program.
    pub fn end(&mut self) -> Result<Vec<u8>, ApiError> {
        self.encoder.finish()
    }
}
