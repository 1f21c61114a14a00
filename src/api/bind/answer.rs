//! The answer: the rows as they came, and three columns beside them.

use crate::api::bind::asked::Asked;
use crate::api::usability::material;
use crate::api::{ApiError, KmsErrorCode};
use crate::envelope::blob_bytes;
use crate::key::material::KeyMaterialId;
use crate::keystore::KeyEntry;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, BinaryArray, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// The columns that are appended.
const COLUMNS: [&str; 3] = ["ciphertext_blob", "key_arn", "key_material_id"];

/// Writes the answer, chunk by chunk.
pub(super) struct Answer {
    schema: SchemaRef,
    /// Of the context's columns.
    places: Vec<usize>,
    blob_bytes: usize,
    writer: StreamWriter<Vec<u8>>,
    key: Option<Key>,
}

/// What is the same for all rows of a chunk, and mostly for those of the next: dictionaries of one value.
struct Key {
    material: KeyMaterialId,
    arn: ArrayRef,
    material_id: ArrayRef,
}

impl Key {
    fn of(entry: &KeyEntry, material: KeyMaterialId) -> Self {
        let one = |text: &str| Arc::new(StringArray::from(vec![text]));
        Self {
            material,
            arn: one(&entry.arn),
            material_id: one(&material.to_string()),
        }
    }
}

impl Answer {
    /// Begins the answer to a stream of this schema.
    pub(super) fn begin(schema: &Schema, asked: &Asked) -> Result<Self, ApiError> {
        let places = asked.pairs.places(schema)?;
        let taken = |name: &str| schema.fields().iter().any(|field| field.name() == name);
        if let Some(name) = COLUMNS.into_iter().find(|name| taken(name)) {
            let message = format!("There is a column {name:?} already.");
            return Err(ApiError::new(KmsErrorCode::ValidationException, message));
        }
        let name = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let kinds = [DataType::Binary, name(), name()];
        let appended = COLUMNS.into_iter().zip(kinds);
        let appended = appended.map(|(name, kind)| Arc::new(Field::new(name, kind, false)));
        let fields: Vec<_> = schema.fields().iter().cloned().chain(appended).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(ApiError::internal)?;
        Ok(Self {
            schema,
            places,
            blob_bytes: blob_bytes(asked.length),
            writer,
            key: None,
        })
    }

    /// Where the context's columns stand.
    pub(super) fn places(&self) -> &[usize] {
        &self.places
    }

    /// The bytes of these rows with their blobs, which stand end to end; the schema's before the first of them.
    pub(super) fn rows(
        &mut self,
        rows: &RecordBatch,
        entry: &KeyEntry,
        blobs: Vec<u8>,
    ) -> Result<Vec<u8>, ApiError> {
        let count = rows.num_rows();
        let key = self.key.take();
        let current = material(entry)?.id();
        let key = key.filter(|key| key.material == current);
        let key = key.unwrap_or_else(|| Key::of(entry, current));
        let key = self.key.insert(key);
        let offsets = OffsetBuffer::from_repeated_length(self.blob_bytes, count);
        let blobs = BinaryArray::try_new(offsets, Buffer::from_vec(blobs), None);
        let all_the_same = |value: &ArrayRef| {
            let first = Int32Array::from(vec![0; count]);
            DictionaryArray::<Int32Type>::try_new(first, Arc::clone(value))
        };
        let mut columns: Vec<_> = rows.columns().iter().map(compacted).collect();
        columns.push(Arc::new(blobs.map_err(ApiError::internal)?));
        for value in [&key.arn, &key.material_id] {
            columns.push(Arc::new(all_the_same(value).map_err(ApiError::internal)?));
        }
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new(schema, columns).map_err(ApiError::internal)?;
        self.writer.write(&batch).map_err(ApiError::internal)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// The bytes of the end.
    pub(super) fn end(mut self) -> Result<Vec<u8>, ApiError> {
        self.writer.finish().map_err(ApiError::internal)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}

/// A column of views without the text that none of them views: a part of a batch would carry that of all of it.
fn compacted(column: &ArrayRef) -> ArrayRef {
    if let Some(views) = column.as_string_view_opt() {
        return Arc::new(views.gc());
    }
    match column.as_binary_view_opt() {
        Some(views) => Arc::new(views.gc()),
        None => Arc::clone(column),
    }
}
