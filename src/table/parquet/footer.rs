//! The footer of a Parquet file: read once, and checked before anything is made of it.

use super::pages;
use super::schema::{self, Elements};
use super::thrift::Structure;
use crate::table::COLUMNS_MAX;
use crate::table::object::Opened;
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::SchemaDescriptor;
use std::ops::Range;
use std::sync::Arc;

/// What a file begins and ends with.
pub const MAGIC: &[u8; 4] = b"PAR1";
/// What it ends with where its footer is encrypted.
const MAGIC_ENCRYPTED: &[u8; 4] = b"PARE";
/// Bytes at the end of a file: the footer's length, and the magic.
const TAIL_BYTES: u64 = 8;
/// Bytes of a footer at most: a million column chunks have about 100 MB.
const FOOTER_BYTES_MAX: u64 = 128 << 20;
/// The field `encryption_algorithm` of `FileMetaData` (parquet.thrift).
const ENCRYPTION_ALGORITHM: i64 = 8;

/// A footer.
#[derive(Clone)]
pub(super) struct Footer {
    /// What it says.
    pub metadata: Arc<ParquetMetaData>,
    /// The columns as they are read: text and bytes as views into pages.
    pub columns: ArrowReaderMetadata,
    /// The schema elements of each column.
    pub elements: Vec<Elements>,
    /// The bytes of the file that may hold data.
    pub data: Range<u64>,
}

impl Footer {
    /// Reads and checks a file's footer.
    ///
    /// # Errors
    /// The fault in it.
    pub(super) fn read(opened: &Opened) -> Result<Self, String> {
        let (bytes, data) = bytes(opened)?;
        check_plain(&bytes)?;
        let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
        let told = |error: parquet::errors::ParquetError| error.to_string();
        let metadata = ParquetMetaDataReader::decode_metadata_with_options(&bytes, Some(&options))
            .map_err(told)?;
        check_counts(&metadata)?;
        let metadata = Arc::new(settled(metadata)?);
        check_chunks(opened, &metadata, &data)?;
        let natural = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let natural = ArrowReaderMetadata::try_new(Arc::clone(&metadata), natural).map_err(told)?;
        if natural.schema().fields().len() > COLUMNS_MAX {
            return Err(format!("more than {COLUMNS_MAX} columns"));
        }
        let views = ArrowReaderOptions::new()
            .with_schema(Arc::new(views(natural.schema(), natural.parquet_schema())));
        let columns = ArrowReaderMetadata::try_new(Arc::clone(&metadata), views).map_err(told)?;
        let elements = schema::columns(&bytes).ok_or("its footer is damaged")?;
        if elements.len() != natural.schema().fields().len() {
            return Err("its schema is damaged".to_owned());
        }
        Ok(Self {
            metadata,
            columns,
            elements,
            data,
        })
    }
}

/// The bytes of the footer, and the place of those before it.
fn bytes(opened: &Opened) -> Result<(bytes::Bytes, Range<u64>), String> {
    let told = |error: parquet::errors::ParquetError| error.to_string();
    let length = opened.len();
    let short = || "it is too short for a Parquet file".to_owned();
    let end = length.checked_sub(TAIL_BYTES).ok_or_else(short)?;
    let tail = opened.get_bytes(end, 8).map_err(told)?;
    let (count, magic) = tail.split_at(4);
    if magic == MAGIC_ENCRYPTED {
        return Err("its footer is encrypted; give a copy that is not".to_owned());
    }
    if magic != MAGIC {
        return Err("it does not end with the magic number of a Parquet file".to_owned());
    }
    let count: [u8; 4] = count.try_into().map_err(|_| short())?;
    let count = u64::from(u32::from_le_bytes(count));
    let start = end.checked_sub(count).filter(|start| *start >= 4);
    let start = start.ok_or_else(|| format!("its footer of {count} bytes is longer than it"))?;
    if count > FOOTER_BYTES_MAX {
        return Err(format!(
            "its footer has {count} bytes, and at most {FOOTER_BYTES_MAX} are read"
        ));
    }
    let count = usize::try_from(count).map_err(|error| error.to_string())?;
    let footer = opened.get_bytes(start, count).map_err(told)?;
    Ok((footer, 4..start))
}

/// Refuses a file of which columns are encrypted though its footer is not: their bytes would be
/// copied without what it takes to decrypt them.
fn check_plain(footer: &[u8]) -> Result<(), String> {
    let mut fields = Structure::new(footer);
    let mut walk = || {
        while let Some(field) = fields.next()? {
            if field.number == ENCRYPTION_ALGORITHM {
                return Some(true);
            }
            fields.skip(field)?;
        }
        Some(false)
    };
    match walk() {
        Some(false) => Ok(()),
        Some(true) => Err("columns of it are encrypted; give a copy that is not".to_owned()),
        None => Err("its footer is damaged".to_owned()),
    }
}

/// Refuses a footer whose counts of rows contradict each other: a row that a reader does not see
/// would have no key.
fn check_counts(metadata: &ParquetMetaData) -> Result<(), String> {
    let groups = metadata.row_groups();
    let told = metadata.file_metadata().num_rows();
    let rows = groups
        .iter()
        .try_fold(0_i64, |rows, group| rows.checked_add(group.num_rows()));
    if rows != Some(told) {
        let rows = rows.map_or_else(|| "too many".to_owned(), |rows| rows.to_string());
        return Err(format!(
            "its footer counts {told} rows, and its row groups have {rows}"
        ));
    }
    for (number, group) in groups.iter().enumerate() {
        let rows = group.num_rows();
        // A value for each row, where values do not repeat.
        let mut flat = group.columns().iter();
        let differs = flat.find(|column| {
            column.column_descr().max_rep_level() == 0 && column.num_values() != rows
        });
        if rows < 0 || differs.is_some() {
            let values = differs.map_or(rows, ColumnChunkMetaData::num_values);
            return Err(format!(
                "row group {} counts {rows} rows, and a column of it has {values}",
                number + 1
            ));
        }
    }
    Ok(())
}

/// A dictionary at byte 0, where the magic is, is how some writers say that there is none.
fn settled(metadata: ParquetMetaData) -> Result<ParquetMetaData, String> {
    let is_none =
        |chunk: &ColumnChunkMetaData| chunk.dictionary_page_offset().is_some_and(|at| at <= 0);
    let mut groups = metadata
        .row_groups()
        .iter()
        .flat_map(RowGroupMetaData::columns);
    if !groups.any(is_none) {
        return Ok(metadata);
    }
    let mut builder = metadata.into_builder();
    let mut groups = builder.take_row_groups();
    for chunk in groups.iter_mut().flat_map(RowGroupMetaData::columns_mut) {
        if is_none(chunk) {
            let settled = chunk.clone().into_builder();
            *chunk = settled
                .set_dictionary_page_offset(None)
                .build()
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(builder.set_row_groups(groups).build())
}

/// Refuses a file with a chunk that is not where data are, or that has values where its row group
/// has no row.
fn check_chunks(
    opened: &Opened,
    metadata: &ParquetMetaData,
    data: &Range<u64>,
) -> Result<(), String> {
    for (number, group) in metadata.row_groups().iter().enumerate() {
        if group.num_rows() == 0 {
            let mut chunks = group.columns().iter().take(1);
            if chunks.any(|chunk| pages::has_values(opened, chunk, data)) {
                return Err(format!(
                    "row group {} counts 0 rows, and a column of it has values",
                    number + 1
                ));
            }
            continue;
        }
        for chunk in group.columns() {
            pages::range(chunk, data)
                .map_err(|reason| format!("column {}: {reason}", chunk.column_path()))?;
        }
    }
    Ok(())
}

/// The same columns, text and bytes as views: they point into pages, so that a value that many rows
/// have is there once. `ENUM` is text (LogicalTypes.md).
fn views(schema: &Schema, parquet: &SchemaDescriptor) -> Schema {
    let roots = parquet.root_schema().get_fields().iter();
    let fields = schema.fields().iter().zip(roots).map(|(field, root)| {
        let info = root.get_basic_info();
        let is_enum = info.logical_type_ref() == Some(&LogicalType::Enum)
            || info.converted_type() == ConvertedType::ENUM;
        match field.data_type() {
            DataType::Binary if is_enum => with_type(field, DataType::Utf8View),
            kind => with_type(field, view(kind)),
        }
    });
    Schema::new(fields.collect::<Vec<_>>())
}

fn with_type(field: &Field, kind: DataType) -> Arc<Field> {
    Arc::new(field.clone().with_data_type(kind))
}

fn view(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        // The maps of contexts.
        DataType::Map(entry, sorted) => match entry.data_type() {
            DataType::Struct(pair) => {
                let pair = pair
                    .iter()
                    .map(|field| with_type(field, view(field.data_type())));
                let pair = DataType::Struct(Fields::from_iter(pair));
                DataType::Map(with_type(entry, pair), *sorted)
            }
            _ => kind.clone(),
        },
        kind => kind.clone(),
    }
}
