//! Rows with their blobs, as the answer of `bind` has them, for a command that has fetched the
//! blobs and keeps the rows.

use crate::api::ApiError;
use crate::key::material::KeyMaterialId;
use crate::stream::output::{BlobColumns, Encoder, Projection};
use arrow_array::{BinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::Schema;

/// Writes the stream, chunk by chunk.
pub struct BoundRows {
    kept: Projection,
    added: BlobColumns,
    encoder: Encoder,
}

impl BoundRows {
    /// Begins the stream of rows with these columns.
    ///
    /// # Errors
    /// [`ApiError`]: a column has the name of one that is added.
    pub fn begin(schema: &Schema) -> Result<Self, ApiError> {
        let kept = Projection::new(schema, &[], &BlobColumns::NAMES)?;
        let encoder = Encoder::begin(kept.and(schema, BlobColumns::fields()))?;
        Ok(Self {
            kept,
            added: BlobColumns::default(),
            encoder,
        })
    }

    /// From now on a dictionary that has grown is written as what it has grown by.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the schema: a fault of this program.
    pub fn send_deltas(&mut self) -> Result<(), ApiError> {
        self.encoder.send_deltas()
    }

    /// The bytes of rows whose blobs lie end to end, all of one length and under one key; the
    /// schema's before the first of them.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode them: a fault of this program.
    pub fn rows(
        &mut self,
        rows: &RecordBatch,
        arn: &str,
        material: KeyMaterialId,
        blobs: Vec<u8>,
    ) -> Result<Vec<u8>, ApiError> {
        let count = rows.num_rows();
        let of_one = blobs.len() / count.max(1);
        let offsets = OffsetBuffer::from_repeated_length(of_one, count);
        let blobs = BinaryArray::try_new(offsets, Buffer::from_vec(blobs), None)
            .map_err(ApiError::internal)?;
        let mut columns = self.kept.columns(rows);
        columns.extend(self.added.under(arn, material, blobs)?);
        self.encoder.rows(columns)
    }

    /// The bytes of the end.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the end: a fault of this program.
    pub fn end(&mut self) -> Result<Vec<u8>, ApiError> {
        self.encoder.finish()
    }
}
