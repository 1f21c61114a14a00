//! The columns of a job's parts, and how each is encoded.

use crate::clock::Timestamp;
use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, TimestampMicrosecondArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// Bytes of a row group that a writer holds, past which it ends: rows of a table may be of any
/// length.
pub(super) const GROUP_BYTES_MAX: usize = 64 << 20;

/// Columns of a table that may have dictionaries. One takes 72 KiB of a writer's memory before its
/// first value comes, so those of many columns would fill a row group by themselves.
const DICTIONARIES_MAX: usize = 512;

/// Rows of a row group: what a reader skips or reads at once, and what a writer holds in memory.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// The columns that a job adds to a container's row.
pub mod column {
    /// The container's id.
    pub const CONTAINER_ID: &str = "container_id";
    /// The KMS key.
    pub const KEY_ARN: &str = "key_arn";
    /// The generation of its material.
    pub const KEY_MATERIAL_ID: &str = "key_material_id";
    /// The data key's length.
    pub const KEY_SPEC: &str = "key_spec";
    /// The pairs that the blob is bound to.
    pub const ENCRYPTION_CONTEXT: &str = "encryption_context";
    /// The wrapped data key.
    pub const CIPHERTEXT_BLOB: &str = "ciphertext_blob";
    /// The names of those pairs.
    pub const CONTEXT_NAMES: &str = "encryption_context.key_value.key";
    /// When it was made.
    pub const CREATED_AT: &str = "created_at";
}

/// The field of a column that a job adds.
///
/// # Panics
/// When there is no such column: a fault of the caller.
#[must_use]
pub fn field(name: &str) -> Field {
    let kind = match name {
        column::CONTAINER_ID | column::KEY_ARN | column::KEY_MATERIAL_ID | column::KEY_SPEC => {
            DataType::Utf8
        }
        column::ENCRYPTION_CONTEXT => context_type(),
        column::CIPHERTEXT_BLOB => DataType::Binary,
        column::CREATED_AT => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => unreachable!("{name} is none of the columns above"),
    };
    Field::new(name, kind, false)
}

/// The names are those of the Parquet format's `MAP`, not Arrow's defaults.
#[must_use]
pub fn context_names() -> MapFieldNames {
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

/// The column of blobs, which lie end to end and have one length.
///
/// # Errors
/// [`ArrowError`], when all together exceed 2 GiB.
///
/// # Panics
/// When there are not as many bytes for each row: a fault of the caller.
pub fn blobs(rows: usize, blobs: Buffer) -> Result<ArrayRef, ArrowError> {
    assert!(rows > 0 && blobs.len().is_multiple_of(rows));
    let offsets = OffsetBuffer::from_repeated_length(blobs.len() / rows, rows);
    Ok(Arc::new(BinaryArray::try_new(offsets, blobs, None)?))
}

/// The column of times: all rows are of the same.
#[must_use]
pub fn created_at(time: Timestamp, rows: usize) -> ArrayRef {
    let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
    Arc::new(TimestampMicrosecondArray::from_value(micros, rows).with_timezone("UTC"))
}

/// Makes the column of contexts.
pub struct ContextsBuilder(MapBuilder<StringBuilder, StringBuilder>);

impl Default for ContextsBuilder {
    fn default() -> Self {
        let value = Field::new(context_names().value, DataType::Utf8, false);
        let text = StringBuilder::new;
        Self(MapBuilder::new(Some(context_names()), text(), text()).with_values_field(value))
    }
}

impl ContextsBuilder {
    /// Appends a row with these pairs, sorted by name.
    ///
    /// # Errors
    /// [`ArrowError`], when all texts together exceed 2 GiB.
    pub fn append<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), ArrowError> {
        for (name, value) in pairs {
            self.0.keys().append_value(name);
            self.0.values().append_value(value);
        }
        self.0.append(true)
    }

    /// The column of the rows since the last call.
    pub fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// How the columns are encoded that a job adds. A constant column takes a dictionary of one entry.
#[must_use]
pub fn properties() -> WriterPropertiesBuilder {
    let plain = |name: &str| ColumnPath::from(name.to_owned());
    let contexts = |leaf: &str| {
        let path = [column::ENCRYPTION_CONTEXT, "key_value", leaf];
        ColumnPath::new(path.map(ToOwned::to_owned).to_vec())
    };
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("keymill version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_offset_index_disabled(true);
    for (name, encoding) in [
        (column::CONTAINER_ID, Encoding::DELTA_BYTE_ARRAY),
        (column::CIPHERTEXT_BLOB, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        (column::CREATED_AT, Encoding::DELTA_BINARY_PACKED),
    ] {
        builder = builder
            .set_column_dictionary_enabled(plain(name), false)
            .set_column_encoding(plain(name), encoding);
    }
    let without = [
        plain(column::CIPHERTEXT_BLOB),
        contexts("key"),
        contexts("value"),
    ];
    for path in without {
        builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    builder
}

/// How they are encoded beside the columns of a table: those that are not random are compressed.
#[must_use]
pub fn own_properties() -> WriterPropertiesBuilder {
    let mut builder = properties().set_compression(Compression::SNAPPY);
    for name in [column::CIPHERTEXT_BLOB, column::CREATED_AT] {
        let path = ColumnPath::from(name.to_owned());
        builder = builder.set_column_compression(path, Compression::UNCOMPRESSED);
    }
    let values = [column::ENCRYPTION_CONTEXT, "key_value", "value"];
    let path = ColumnPath::new(values.map(ToOwned::to_owned).to_vec());
    builder.set_column_dictionary_enabled(path, false)
}

/// The same where ids may be long: the writer of differences keeps every id until its page is
/// written, however long it is.
#[must_use]
pub fn long_id_properties() -> WriterPropertiesBuilder {
    let path = ColumnPath::from(column::CONTAINER_ID.to_owned());
    own_properties().set_column_encoding(path, Encoding::PLAIN)
}

/// Which columns the parts of a job have, and which of them are the same in every row of a part.
#[derive(Clone)]
pub struct Layout {
    pub(super) schema: SchemaRef,
    pub(super) properties: Arc<WriterProperties>,
    /// By field and leaf.
    pub(super) constant: Vec<Vec<bool>>,
}

impl Layout {
    /// A job's own columns after those of a table, whose types readers that know Arrow get back as
    /// they were. All of `constant` are the same in every row, [`column::CONTEXT_NAMES`] perhaps
    /// among them; those of `varied` hardly repeat a value.
    ///
    /// # Panics
    /// When one is none of [`mod@column`]'s: a fault of the caller.
    #[must_use]
    pub fn beside(input: &Schema, columns: &[&str], constant: &[&str], varied: &[&str]) -> Self {
        let own = columns.iter().map(|name| Arc::new(field(name)));
        let fields: Vec<_> = input.fields().iter().cloned().chain(own).collect();
        let kept = input
            .fields()
            .iter()
            .map(|field| vec![false; leaf_count(field.data_type())]);
        let kept: Vec<_> = kept.collect();
        let is_wide = kept.iter().map(Vec::len).sum::<usize>() > DICTIONARIES_MAX;
        let constant = kept
            .into_iter()
            .chain(columns.iter().map(|name| flags(name, constant)))
            .collect();
        let mut builder = own_properties();
        if is_wide {
            builder = builder.set_dictionary_enabled(false);
        }
        // A dictionary of what hardly repeats is given up after a megabyte, and all before it was
        // for nothing.
        for name in varied {
            builder =
                builder.set_column_dictionary_enabled(ColumnPath::from((*name).to_owned()), false);
        }
        let mut properties = builder.build();
        let schema = Arc::new(Schema::new(fields));
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        Self {
            schema,
            properties: Arc::new(properties),
            constant,
        }
    }

    /// All columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Those that differ from row to row, as
    /// [`PartWriter::write`](crate::bulk::parquet::PartWriter::write) takes them.
    pub fn written(&self) -> impl Iterator<Item = &Field> {
        let fields = self.schema.fields().iter().zip(&self.constant);
        fields
            .filter(|(_, constant)| constant.contains(&false))
            .map(|(field, _)| &**field)
    }
}

/// Which leaves of a job's own column are among `constant`.
fn flags(name: &str, constant: &[&str]) -> Vec<bool> {
    let is_constant = |name| constant.contains(&name);
    match name {
        column::ENCRYPTION_CONTEXT if !is_constant(name) => {
            vec![is_constant(column::CONTEXT_NAMES), false]
        }
        _ => vec![is_constant(name); leaf_count(field(name).data_type())],
    }
}

/// Leaf columns that a type has in Parquet.
fn leaf_count(kind: &DataType) -> usize {
    match kind {
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::Map(inner, _) => leaf_count(inner.data_type()),
        DataType::Struct(fields) => {
            let counts = fields.iter().map(|field| leaf_count(field.data_type()));
            counts.sum()
        }
        DataType::Dictionary(_, values) => leaf_count(values),
        DataType::RunEndEncoded(_, values) => leaf_count(values.data_type()),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::parquet::{Constants, PartEncoder};
    use crate::context::EncryptionContext;
    use arrow_array::Int64Array;
    use bytes::Bytes;
    use parquet::file::metadata::ParquetMetaDataReader;

    /// Whether the columns of a table with so many have dictionaries, and its row groups, of which
    /// each has been given a row at a time.
    fn written(columns: usize) -> (bool, usize) {
        let fields = (0..columns).map(|at| Field::new(format!("c{at}"), DataType::Int64, true));
        let input = Schema::new(fields.collect::<Vec<_>>());
        let constants = Constants {
            key_arn: "arn".to_owned(),
            key_material_id: "id".to_owned(),
            key_spec: "AES_256".to_owned(),
            context: EncryptionContext::default(),
        };
        let layout = Layout::beside(&input, &[column::KEY_ARN], &[column::KEY_ARN], &[]);
        let mut encoder = PartEncoder::new(layout, constants);
        let mut part = encoder.begin(Vec::new(), []).unwrap();
        for row in 0..3 {
            let value: ArrayRef = Arc::new(Int64Array::from(vec![row]));
            part.write(&vec![value; columns]).unwrap();
        }
        let file = Bytes::from(part.finish().unwrap());
        let footer = ParquetMetaDataReader::new()
            .parse_and_finish(&file)
            .unwrap();
        let first = footer.row_group(0).column(0);
        let is_dictionary = first.dictionary_page_offset().is_some();
        (is_dictionary, footer.num_row_groups())
    }

    #[test]
    fn dictionaries_of_a_wide_table_do_not_fill_its_row_groups() {
        assert_eq!(written(DICTIONARIES_MAX), (true, 1));
        assert_eq!(written(DICTIONARIES_MAX + 1), (false, 1));
        assert_eq!(written(2000), (false, 1));
    }
}
