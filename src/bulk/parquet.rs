//! The Parquet of a job: the writer of one part. Which columns it has, and how each is encoded and
//! compressed, is in [`mod@properties`].
//!
//! Most of a file is random bytes, so everything else is arranged around not touching them: the
//! blobs carry no statistics, no dictionary and no compression, and their lengths, all equal, cost
//! nothing (`DELTA_LENGTH_BYTE_ARRAY`). A column that is the same for every row is encoded once for
//! a whole row group, and its bytes are appended to each.

use crate::bulk::parquet::properties::{
    ContextsBuilder, GROUP_BYTES_MAX, Layout, ROW_GROUP_ROWS, column, properties,
};
use crate::context::EncryptionContext;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, compute_leaves,
};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;
use parquet::file::writer::SerializedFileWriter;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

pub mod properties;

/// Rows handed to the writer at a time.
pub const BATCH_ROWS: usize = crate::table::BATCH_ROWS;
const _: () = assert!(ROW_GROUP_ROWS.is_multiple_of(BATCH_ROWS));

/// What every row of a part has in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constants {
    /// The KMS key.
    pub key_arn: String,
    /// The generation of its material.
    pub key_material_id: String,
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// The context that every blob is bound to, where it is one; where only its names are the same,
    /// these with any values.
    pub context: EncryptionContext,
}

/// Writes the parts of one worker. Constant columns are encoded once and kept from part to part.
pub struct PartEncoder {
    layout: Layout,
    constants: Constants,
    full_group: Option<ConstantColumns>,
}

impl PartEncoder {
    /// For parts of which every row has these constants.
    #[must_use]
    pub fn new(layout: Layout, constants: Constants) -> Self {
        Self {
            layout,
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
        let Layout {
            schema, properties, ..
        } = &self.layout;
        let root = ArrowSchemaConverter::new()
            .convert(schema)?
            .root_schema_ptr();
        let mut file = SerializedFileWriter::new(sink, root, Arc::clone(properties))?;
        for (name, value) in metadata {
            file.append_key_value_metadata(KeyValue::new(name.to_owned(), value));
        }
        let columns = ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema));
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
            None => ConstantColumns::encode(&self.layout, &self.constants, rows)?,
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

/// The columns of a row group that differ from row to row: a writer for each leaf, by field; none
/// for a leaf that is the same all the same.
struct RowGroup {
    rows: usize,
    writers: Vec<Vec<Option<ArrowColumnWriter>>>,
}

impl<W: Write + Send> PartWriter<'_, W> {
    /// Writes rows: the columns of [`Layout::written`], all of one length.
    ///
    /// # Errors
    /// What the sink fails with.
    ///
    /// # Panics
    /// When the columns are not of one length: a fault of the caller.
    pub fn write(&mut self, columns: &[ArrayRef]) -> Result<(), ParquetError> {
        let rows = columns.first().map_or(0, |column| column.len());
        assert!(columns.iter().all(|column| column.len() == rows));
        let mut from = 0;
        while from < rows {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => self.begin_group()?,
            };
            // A batch may end one row group and begin the next.
            let count = (rows - from).min(ROW_GROUP_ROWS - group.rows);
            let fields = self.encoder.layout.written();
            for ((field, array), writers) in fields.zip(columns).zip(&mut group.writers) {
                let array = if count == rows {
                    Arc::clone(array)
                } else {
                    array.slice(from, count)
                };
                for (leaf, writer) in compute_leaves(field, &array)?.iter().zip(writers) {
                    // A constant leaf has no writer: its bytes are copied when the group ends.
                    if let Some(writer) = writer {
                        writer.write(leaf)?;
                    }
                }
            }
            from += count;
            group.rows += count;
            let held: usize = group
                .writers
                .iter()
                .flatten()
                .flatten()
                .map(ArrowColumnWriter::memory_size)
                .sum();
            // A group also ends when its buffers are full, where rows are long.
            if group.rows == ROW_GROUP_ROWS || held > GROUP_BYTES_MAX {
                self.end_group(group)?;
            } else {
                self.group = Some(group);
            }
        }
        Ok(())
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
        let mut leaves = self.columns.create_column_writers(index)?.into_iter();
        let layout = &self.encoder.layout;
        let mut writers = Vec::new();
        for constant in &layout.constant {
            let of_field: Vec<_> = constant
                .iter()
                .zip(leaves.by_ref())
                .map(|(constant, leaf)| (!constant).then_some(leaf))
                .collect();
            if of_field.iter().any(Option::is_some) {
                writers.push(of_field);
            }
        }
        Ok(RowGroup { rows: 0, writers })
    }

    fn end_group(&mut self, group: RowGroup) -> Result<(), ParquetError> {
        let fields = self.encoder.layout.constant.clone();
        let constant = self.encoder.constant_columns(group.rows)?;
        let mut out = self.file.next_row_group()?;
        let mut written = group.writers.into_iter().flatten().flatten();
        let mut encoded = constant.columns.iter();
        for is_constant in fields.into_iter().flatten() {
            if is_constant {
                for column in encoded.by_ref().take(1) {
                    out.append_column(&constant.file, column.clone())?;
                }
            } else {
                for writer in written.by_ref().take(1) {
                    writer.close()?.append_to_row_group(&mut out)?;
                }
            }
        }
        out.close()?;
        Ok(())
    }
}

/// The columns in which every row of a row group is the same, encoded: a small Parquet file in
/// memory, from which column chunks are copied whole.
struct ConstantColumns {
    rows: usize,
    file: Bytes,
    /// By leaf.
    columns: Vec<ColumnCloseResult>,
}

impl ConstantColumns {
    fn encode(layout: &Layout, constants: &Constants, rows: usize) -> Result<Self, ParquetError> {
        let places: Vec<_> = (0..layout.constant.len())
            .filter(|at| layout.constant[*at].contains(&true))
            .collect();
        let schema = Arc::new(layout.schema.project(&places)?);
        let properties = properties().build();
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
        // One batch is written again and again: every row is the same.
        let batch = constant_batch(Arc::clone(&schema), constants, rows.min(BATCH_ROWS))?;
        for from in (0..rows).step_by(BATCH_ROWS) {
            writer.write(&batch.slice(0, (rows - from).min(BATCH_ROWS)))?;
        }
        let file = Bytes::from(writer.into_inner()?);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file)?;
        // Its column chunks are copied, so there must be one for each column.
        let [group] = metadata.row_groups() else {
            return Err(ParquetError::General(
                "one row group was written".to_owned(),
            ));
        };
        let flags = places.iter().flat_map(|at| &layout.constant[*at]);
        let leaves = group.columns().iter().zip(flags);
        let constant = leaves.filter(|(_, is_constant)| **is_constant);
        let columns = constant.map(|(column, _)| ColumnCloseResult {
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
    let columns: Result<Vec<_>, ParquetError> = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            column::KEY_ARN => Ok(repeated(&constants.key_arn)),
            column::KEY_MATERIAL_ID => Ok(repeated(&constants.key_material_id)),
            column::KEY_SPEC => Ok(repeated(&constants.key_spec)),
            column::ENCRYPTION_CONTEXT => {
                let mut contexts = ContextsBuilder::default();
                for _ in 0..rows {
                    contexts.append(constants.context.pairs())?;
                }
                Ok(contexts.finish())
            }
            name => Err(ParquetError::General(format!("{name} is not constant"))),
        })
        .collect();
    Ok(RecordBatch::try_new(schema, columns?)?)
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
/// When `file` is not a Parquet file, or cannot be read.
pub fn describe<R: ChunkReader>(file: &R) -> Result<Description, ParquetError> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let metadata = footer.file_metadata();
    let pairs = metadata.key_value_metadata().into_iter().flatten();
    Ok(Description {
        rows: u64::try_from(metadata.num_rows()).unwrap_or_default(),
        metadata: pairs
            .filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?)))
            .collect(),
    })
}
