//! The answer: the rows as they came, and other columns beside them.

use crate::api::usability::material;
use crate::api::{ApiError, ErrorCode};
use crate::columns::alike::Clash;
use crate::key::material::KeyMaterialId;
use crate::keystore::KeyEntry;
use arrow_array::cast::AsArray;
use arrow_array::types::{ByteViewType, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, DictionaryArray, GenericByteViewArray, Int32Array, RecordBatch,
    StringArray,
};
use arrow_buffer::Buffer;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// Writes the answer, chunk by chunk.
pub(super) struct Encoder {
    schema: SchemaRef,
    writer: StreamWriter<Vec<u8>>,
    /// Whether a dictionary that grows leaves as what it has grown by.
    deltas: bool,
    /// Bytes of the rows before.
    bytes_before: usize,
}

impl Encoder {
    /// Begins an answer with these columns.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the schema: a fault of this program.
    pub(super) fn begin(schema: SchemaRef) -> Result<Self, ApiError> {
        let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(ApiError::internal)?;
        Ok(Self {
            schema,
            writer,
            deltas: false,
            bytes_before: 0,
        })
    }

    /// From now on a dictionary that has grown leaves as what it has grown by, not as a whole.
    /// Every dictionary leaves as a whole once more before that.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the schema: a fault of this program.
    pub(super) fn send_deltas(&mut self) -> Result<(), ApiError> {
        if self.deltas {
            return Ok(());
        }
        let options =
            IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &self.schema, options)
            .map_err(ApiError::internal)?;
        // The schema has left already, or is among what is still to leave.
        *writer.get_mut() = std::mem::take(self.writer.get_mut());
        self.writer = writer;
        self.deltas = true;
        Ok(())
    }

    /// The bytes of rows; the schema's before the first of them.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode them: a fault of this program.
    pub(super) fn rows(&mut self, columns: Vec<ArrayRef>) -> Result<Vec<u8>, ApiError> {
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new(schema, columns).map_err(ApiError::internal)?;
        // Most chunks are alike: what grows by doubling is copied again and again.
        self.writer.get_mut().reserve(self.bytes_before);
        self.writer.write(&batch).map_err(ApiError::internal)?;
        let bytes = std::mem::take(self.writer.get_mut());
        self.bytes_before = bytes.len();
        Ok(bytes)
    }

    /// The bytes of the end.
    ///
    /// # Errors
    /// [`ApiError`], when Arrow cannot encode the end: a fault of this program.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, ApiError> {
        self.writer.finish().map_err(ApiError::internal)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}

/// The columns that an answer keeps of what came.
#[derive(Default)]
pub(super) struct Projection(Vec<usize>);

impl Projection {
    /// All but those of the names that are dropped; none of them may be taken for one that is
    /// added.
    pub(super) fn new(schema: &Schema, dropped: &[&str], added: &[&str]) -> Result<Self, ApiError> {
        let fields = schema.fields().iter().enumerate();
        let kept: Vec<_> = fields
            .filter(|(_, field)| !dropped.contains(&field.name().as_str()))
            .collect();
        let names = kept.iter().map(|(_, field)| field.name().as_str());
        if let Some(clash) = Clash::find(names, added.iter().copied()) {
            let message = format!("There is {clash}.");
            return Err(ApiError::new(ErrorCode::ValidationException, message));
        }
        Ok(Self(kept.into_iter().map(|(place, _)| place).collect()))
    }

    /// The schema of these columns and those that are added.
    pub(super) fn and(&self, schema: &Schema, added: impl IntoIterator<Item = Field>) -> SchemaRef {
        let fields = schema.fields();
        let kept = self
            .0
            .iter()
            .filter_map(|place| fields.get(*place).cloned());
        let fields: Vec<_> = kept.chain(added.into_iter().map(Arc::new)).collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    /// The columns of these rows.
    pub(super) fn columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        let columns = self.0.iter().filter_map(|place| rows.columns().get(*place));
        columns.map(compacted).collect()
    }
}

/// The columns that say what a row's key is: the blob, and of the KMS key, which is the same for
/// all rows of a chunk, dictionaries of one value.
#[derive(Default)]
pub(super) struct BlobColumns(Option<Key>);

/// State that the next chunk mostly uses again.
struct Key {
    material: KeyMaterialId,
    arn: ArrayRef,
    material_id: ArrayRef,
}

impl BlobColumns {
    /// Their names.
    pub(super) const NAMES: [&'static str; 3] = ["ciphertext_blob", "key_arn", "key_material_id"];

    /// Their fields.
    pub(super) fn fields() -> impl Iterator<Item = Field> {
        let name = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let kinds = [DataType::Binary, name(), name()];
        let fields = Self::NAMES.into_iter().zip(kinds);
        fields.map(|(name, kind)| Field::new(name, kind, false))
    }

    /// Those of blobs that are under this key, as it is now.
    pub(super) fn of(
        &mut self,
        entry: &KeyEntry,
        blobs: BinaryArray,
    ) -> Result<[ArrayRef; 3], ApiError> {
        self.under(&entry.arn, material(entry)?.id(), blobs)
    }

    /// Those of blobs that are under this key and material.
    ///
    /// # Errors
    /// [`ApiError`], when the columns do not fit together: a fault of this program.
    pub(super) fn under(
        &mut self,
        arn: &str,
        material: KeyMaterialId,
        blobs: BinaryArray,
    ) -> Result<[ArrayRef; 3], ApiError> {
        let key = self
            .0
            .take()
            .filter(|key| key.material == material)
            .unwrap_or_else(|| {
                let one = |text: &str| Arc::new(StringArray::from(vec![text]));
                Key {
                    material,
                    arn: one(arn),
                    material_id: one(&material.to_string()),
                }
            });
        let key = self.0.insert(key);
        let all_the_same = |value: &ArrayRef| {
            let first = Int32Array::from(vec![0; blobs.len()]);
            let column = DictionaryArray::<Int32Type>::try_new(first, Arc::clone(value));
            column.map_err(ApiError::internal)
        };
        let (arn, material_id) = (all_the_same(&key.arn)?, all_the_same(&key.material_id)?);
        Ok([Arc::new(blobs), Arc::new(arn), Arc::new(material_id)])
    }
}

/// A column of views without the text that none of them views: a part of a batch would carry that
/// of all of it. Where views share their text, all of it is less than what each of them views.
fn compacted(column: &ArrayRef) -> ArrayRef {
    fn own<T: ByteViewType>(views: &GenericByteViewArray<T>, column: &ArrayRef) -> ArrayRef {
        let all: usize = views.data_buffers().iter().map(Buffer::len).sum();
        match views.total_buffer_bytes_used() < all {
            true => Arc::new(views.gc()),
            false => Arc::clone(column),
        }
    }
    if let Some(views) = column.as_string_view_opt() {
        return own(views, column);
    }
    match column.as_binary_view_opt() {
        Some(views) => own(views, column),
        None => Arc::clone(column),
    }
}
