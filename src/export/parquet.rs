//! The Parquet of an export: its schema, how each column is encoded, and the writer of one part.
//!
//! Most of a file is random bytes, so everything else is arranged around not touching them: the blobs carry no
//! statistics, no dictionary and no compression, and their lengths, all equal, cost nothing
//! (`DELTA_LENGTH_BYTE_ARRAY`). What is the same for every row is encoded once for a whole row group and its bytes are
//! appended to each.

use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, compute_leaves,
};
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Rows of a row group: what a reader skips or reads at once, and what a writer holds in memory.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Rows handed to the writer at a time.
pub const BATCH_ROWS: usize = 8 * 1024;
const _: () = assert!(ROW_GROUP_ROWS.is_multiple_of(BATCH_ROWS));

/// Columns of the schema, in order.
const CONTAINER_ID: usize = 0;
const CIPHERTEXT_BLOB: usize = 5;
const CREATED_AT: usize = 6;
/// Leaf columns of a file; a map has two.
const LEAF_CONTAINER_ID: usize = 0;
const LEAF_CIPHERTEXT_BLOB: usize = 6;
const LEAF_CREATED_AT: usize = 7;

/// What every row of a part has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// The KMS key.
    pub key_arn: String,
    /// The generation of its material.
    pub key_material_id: String,
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// The context that every blob is bound to.
    pub context: EncryptionContext,
}

/// The schema of an export: one row for each container.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("container_id", DataType::Utf8, false),
        Field::new("key_arn", DataType::Utf8, false),
        Field::new("key_material_id", DataType::Utf8, false),
        Field::new("key_spec", DataType::Utf8, false),
        Field::new("encryption_context", context_type(), false),
        Field::new("ciphertext_blob", DataType::Binary, false),
        Field::new(
            "created_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
    ]))
}

/// The names are those of the Parquet format's `MAP`, not Arrow's defaults.
fn context_names() -> MapFieldNames {
    MapFieldNames {
        entry: "key_value".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    }
}

fn context_type() -> DataType {
    let names = context_names();
    let pair = Fields::from(vec![
        Field::new(names.key, DataType::Utf8, false),
        Field::new(names.value, DataType::Utf8, false),
    ]);
    DataType::Map(
        Arc::new(Field::new(names.entry, DataType::Struct(pair), false)),
        false,
    )
}

/// How columns are encoded. What is constant takes a dictionary of one entry.
#[must_use]
pub fn properties() -> WriterProperties {
    let container_id = ColumnPath::from("container_id");
    let ciphertext_blob = ColumnPath::from("ciphertext_blob");
    let created_at = ColumnPath::from("created_at");
    WriterProperties::builder()
        .set_created_by(format!("keymill version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_offset_index_disabled(true)
        .set_column_dictionary_enabled(container_id.clone(), false)
        .set_column_encoding(container_id, Encoding::DELTA_BYTE_ARRAY)
        .set_column_dictionary_enabled(ciphertext_blob.clone(), false)
        .set_column_statistics_enabled(ciphertext_blob.clone(), EnabledStatistics::None)
        .set_column_encoding(ciphertext_blob, Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_dictionary_enabled(created_at.clone(), false)
        .set_column_encoding(created_at, Encoding::DELTA_BINARY_PACKED)
        .build()
}

/// Rows on their way into a part. Its buffers are used again for the next ones.
#[derive(Default)]
pub struct Batch {
    ids: Vec<u8>,
    id_ends: Vec<i32>,
    blobs: Vec<u8>,
}

impl Batch {
    /// Appends a container id of UTF-8 text that `append` writes.
    ///
    /// # Panics
    /// When the ids of one batch exceed 2 GiB; [`BATCH_ROWS`] times the longest id is far below.
    pub fn push_id(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.ids);
        self.id_ends
            .push(i32::try_from(self.ids.len()).expect("a batch of bounded ids is below 2 GiB"));
    }

    /// Where blobs are appended, one for each id.
    pub fn blobs(&mut self) -> &mut Vec<u8> {
        &mut self.blobs
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.id_ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.id_ends.is_empty()
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.id_ends.clear();
        self.blobs.clear();
    }
}

/// Writes the parts of one worker; what is constant is encoded once and kept from part to part.
pub struct PartEncoder {
    schema: SchemaRef,
    properties: Arc<WriterProperties>,
    constants: Constants,
    full_group: Option<ConstantColumns>,
}

impl PartEncoder {
    /// For parts of which every row has these constants.
    #[must_use]
    pub fn new(constants: Constants) -> Self {
        Self {
            schema: schema(),
            properties: Arc::new(properties()),
            constants,
            full_group: None,
        }
    }

    /// The constants.
    #[must_use]
    pub fn constants(&self) -> &Constants {
        &self.constants
    }

    /// Begins a part.
    ///
    /// # Errors
    /// What `sink` fails with.
    pub fn begin<W: Write + Send>(
        &mut self,
        sink: W,
        metadata: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<PartWriter<'_, W>, ParquetError> {
        let root = ArrowSchemaConverter::new()
            .convert(&self.schema)?
            .root_schema_ptr();
        let mut file = SerializedFileWriter::new(sink, root, Arc::clone(&self.properties))?;
        for (name, value) in metadata {
            file.append_key_value_metadata(KeyValue::new(name.to_owned(), value));
        }
        let columns = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&self.schema));
        Ok(PartWriter {
            encoder: self,
            columns,
            file,
            group: None,
        })
    }

    /// The constant columns of a row group of `rows` rows.
    fn constant_columns(&mut self, rows: usize) -> Result<&ConstantColumns, ParquetError> {
        let kept = self
            .full_group
            .take()
            .filter(|columns| columns.rows == rows);
        let columns = match kept {
            Some(columns) => columns,
            None => ConstantColumns::encode(&self.schema, &self.constants, rows)?,
        };
        Ok(self.full_group.insert(columns))
    }
}

/// One part on its way to a file.
pub struct PartWriter<'a, W: Write + Send> {
    encoder: &'a mut PartEncoder,
    columns: ArrowRowGroupWriterFactory,
    file: SerializedFileWriter<W>,
    group: Option<RowGroup>,
}

/// The columns of a row group that differ from row to row.
struct RowGroup {
    rows: usize,
    ids: ArrowColumnWriter,
    blobs: ArrowColumnWriter,
    created_at: ArrowColumnWriter,
}

impl<W: Write + Send> PartWriter<'_, W> {
    /// Writes the rows of `batch`, at most [`BATCH_ROWS`] blobs of one length, and empties it.
    ///
    /// # Errors
    /// What the sink fails with, or ids that are no UTF-8.
    ///
    /// # Panics
    /// When there is not one blob for each id: a fault of the caller.
    pub fn write(&mut self, batch: &mut Batch, created_at: Timestamp) -> Result<(), ParquetError> {
        let rows = batch.len();
        if rows == 0 {
            return Ok(());
        }
        assert!(rows <= BATCH_ROWS && batch.blobs.len().is_multiple_of(rows));
        let mut group = match self.group.take() {
            Some(group) => group,
            None => self.begin_group()?,
        };
        let schema = Arc::clone(&self.encoder.schema);

        let mut id_offsets = Vec::with_capacity(rows + 1);
        id_offsets.push(0);
        id_offsets.extend_from_slice(&batch.id_ends);
        let id_offsets = OffsetBuffer::new(ScalarBuffer::from(id_offsets));
        let ids = Buffer::from_vec(std::mem::take(&mut batch.ids));
        let array = StringArray::try_new(id_offsets, ids.clone(), None)?;
        write_leaf(&mut group.ids, schema.field(CONTAINER_ID), Arc::new(array))?;
        batch.ids = ids.into_vec().unwrap_or_default();

        let blob_offsets =
            OffsetBuffer::from_lengths(std::iter::repeat_n(batch.blobs.len() / rows, rows));
        let blobs = Buffer::from_vec(std::mem::take(&mut batch.blobs));
        let array = BinaryArray::try_new(blob_offsets, blobs.clone(), None)?;
        write_leaf(
            &mut group.blobs,
            schema.field(CIPHERTEXT_BLOB),
            Arc::new(array),
        )?;
        batch.blobs = blobs.into_vec().unwrap_or_default();

        let micros = i64::try_from(created_at.0).unwrap_or(i64::MAX);
        let array = TimestampMicrosecondArray::from_value(micros, rows).with_timezone("UTC");
        write_leaf(
            &mut group.created_at,
            schema.field(CREATED_AT),
            Arc::new(array),
        )?;

        batch.clear();
        group.rows += rows;
        assert!(
            group.rows <= ROW_GROUP_ROWS,
            "batches fill row groups exactly"
        );
        if group.rows == ROW_GROUP_ROWS {
            self.end_group(group)
        } else {
            self.group = Some(group);
            Ok(())
        }
    }

    /// Ends the part: the last row group, then the footer.
    ///
    /// # Errors
    /// What the sink fails with.
    pub fn finish(mut self) -> Result<W, ParquetError> {
        if let Some(group) = self.group.take() {
            self.end_group(group)?;
        }
        self.file.into_inner()
    }

    fn begin_group(&self) -> Result<RowGroup, ParquetError> {
        let index = self.file.flushed_row_groups().len();
        let mut leaves: Vec<_> = self
            .columns
            .create_column_writers(index)?
            .into_iter()
            .map(Some)
            .collect();
        let mut leaf = |at: usize| {
            leaves
                .get_mut(at)
                .and_then(Option::take)
                .ok_or_else(|| ParquetError::General(format!("the schema has no leaf {at}")))
        };
        Ok(RowGroup {
            rows: 0,
            ids: leaf(LEAF_CONTAINER_ID)?,
            blobs: leaf(LEAF_CIPHERTEXT_BLOB)?,
            created_at: leaf(LEAF_CREATED_AT)?,
        })
    }

    fn end_group(&mut self, group: RowGroup) -> Result<(), ParquetError> {
        let constant = self.encoder.constant_columns(group.rows)?;
        let mut out = self.file.next_row_group()?;
        group.ids.close()?.append_to_row_group(&mut out)?;
        for column in &constant.columns {
            out.append_column(&constant.file, column.clone())?;
        }
        group.blobs.close()?.append_to_row_group(&mut out)?;
        group.created_at.close()?.append_to_row_group(&mut out)?;
        out.close()?;
        Ok(())
    }
}

fn write_leaf(
    column: &mut ArrowColumnWriter,
    field: &Field,
    array: ArrayRef,
) -> Result<(), ParquetError> {
    for leaf in compute_leaves(field, &array)? {
        column.write(&leaf)?;
    }
    Ok(())
}

/// The columns in which every row of a row group is the same, encoded: a small Parquet file in memory, of which
/// column chunks are copied whole.
struct ConstantColumns {
    rows: usize,
    file: Bytes,
    columns: Vec<ColumnCloseResult>,
}

impl ConstantColumns {
    fn encode(
        schema: &SchemaRef,
        constants: &Constants,
        rows: usize,
    ) -> Result<Self, ParquetError> {
        let schema = Arc::new(schema.project(&[1, 2, 3, 4])?);
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties()))?;
        let batch = constant_batch(schema, constants, rows.min(BATCH_ROWS))?;
        for from in (0..rows).step_by(BATCH_ROWS) {
            writer.write(&batch.slice(0, (rows - from).min(BATCH_ROWS)))?;
        }
        let file = Bytes::from(writer.into_inner()?);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file)?;
        let [group] = metadata.row_groups() else {
            return Err(ParquetError::General(
                "one row group was written".to_owned(),
            ));
        };
        let columns = group.columns().iter().map(|column| ColumnCloseResult {
            bytes_written: column.compressed_size().unsigned_abs(),
            rows_written: rows as u64,
            metadata: column.clone(),
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        });
        Ok(Self {
            rows,
            columns: columns.collect(),
            file,
        })
    }
}

fn constant_batch(
    schema: SchemaRef,
    constants: &Constants,
    rows: usize,
) -> Result<RecordBatch, ParquetError> {
    let repeated = |text: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
            text, rows,
        )))
    };
    let mut contexts = MapBuilder::new(
        Some(context_names()),
        StringBuilder::new(),
        StringBuilder::new(),
    )
    .with_values_field(Field::new(context_names().value, DataType::Utf8, false));
    for _ in 0..rows {
        for (name, value) in constants.context.pairs() {
            contexts.keys().append_value(name);
            contexts.values().append_value(value);
        }
        contexts.append(true)?;
    }
    Ok(RecordBatch::try_new(
        schema,
        vec![
            repeated(&constants.key_arn),
            repeated(&constants.key_material_id),
            repeated(&constants.key_spec),
            Arc::new(contexts.finish()),
        ],
    )?)
}

/// What a part's footer says.
pub struct Description {
    /// The rows.
    pub rows: u64,
    /// What [`PartEncoder::begin`] was given.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a part's footer.
///
/// # Errors
/// When `file` is no Parquet file, or cannot be read.
pub fn describe(file: &File) -> Result<Description, ParquetError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let metadata = metadata.file_metadata();
    let pairs = metadata.key_value_metadata().into_iter().flatten();
    Ok(Description {
        rows: u64::try_from(metadata.num_rows()).unwrap_or_default(),
        metadata: pairs
            .filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?)))
            .collect(),
    })
}
