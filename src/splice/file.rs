//! A Parquet file that is put together from column chunks: some copied, some written.

use crate::table::TableError;
use crate::table::object::Opened;
use crate::table::parquet::schema::{self, Elements};
use crate::table::parquet::{MAGIC, ParquetFile, caught, malformed, pages};
use bytes::Bytes;
use parquet::basic::Type;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::{ColumnWriter, get_column_writer};
use parquet::errors::ParquetError;
use parquet::file::metadata::page_index::{PageIndexBuilder, PageIndexProvider};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnChunkMetaDataBuilder, FileMetaData, KeyValue,
    ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData, SortingColumn,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes at the end of a file: the footer's length, and the magic.
const TAIL_BYTES: usize = 8;
/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;

/// Where a file is written: to `out`, and its end into memory first.
struct Sink<'a, W> {
    out: &'a mut W,
    end: Option<Vec<u8>>,
}

/// A handle on it: the writer of metadata keeps the one that it is given.
pub(super) struct Shared<'a, W>(Arc<Mutex<Sink<'a, W>>>);

impl<W: Write> Write for Shared<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut sink.end {
            Some(end) => end.write(buffer),
            None => sink.out.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.out.flush()
    }
}

/// A file on its way. Its chunks are written in the order of its columns.
pub struct PartFile<'a, W: Write + Send> {
    pub(super) sink: TrackedWrite<Shared<'a, W>>,
    shared: Arc<Mutex<Sink<'a, W>>>,
    schema: SchemaDescPtr,
    groups: Vec<RowGroupMetaData>,
    /// The chunks of the group that is being written.
    pub(super) chunks: Vec<ColumnChunkMetaData>,
    /// Bloom filters of that group, by column.
    filters: Vec<(usize, Sbbf)>,
    /// Of all groups, by group and column.
    indexes: Vec<(usize, usize, Indexes)>,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Indexes {
    columns: Option<ColumnIndexMetaData>,
    offsets: Option<OffsetIndexMetaData>,
}

/// A chunk that was written into memory, to be copied into many row groups.
pub struct Encoded {
    bytes: Bytes,
    metadata: ColumnChunkMetaData,
}

impl Encoded {
    /// Writes a chunk.
    pub(super) fn new(
        descriptor: &ColumnDescPtr,
        properties: WriterPropertiesPtr,
        write: impl FnOnce(&mut ColumnWriter<'_>) -> Result<(), ParquetError>,
    ) -> Result<Self, ParquetError> {
        let mut sink = TrackedWrite::new(Vec::new());
        let metadata = written(&mut sink, descriptor, properties, write)?;
        Ok(Self {
            bytes: sink.into_inner()?.into(),
            metadata,
        })
    }

    /// What the footer says of it, as if it were the first of its file.
    pub(super) fn metadata(&self) -> &ColumnChunkMetaData {
        &self.metadata
    }
}

fn written<W: Write + Send>(
    sink: &mut TrackedWrite<W>,
    descriptor: &ColumnDescPtr,
    properties: WriterPropertiesPtr,
    write: impl FnOnce(&mut ColumnWriter<'_>) -> Result<(), ParquetError>,
) -> Result<ColumnChunkMetaData, ParquetError> {
    let pages = Box::new(SerializedPageWriter::new(sink));
    let mut writer = get_column_writer(Arc::clone(descriptor), properties, pages);
    write(&mut writer)?;
    Ok(writer.close()?.metadata)
}

/// What a chunk is copied from.
pub(super) struct Source<'a> {
    /// The file.
    pub(super) file: &'a ParquetFile,
    /// The row group's number.
    pub(super) group: usize,
    /// The leaf's number.
    pub(super) leaf: usize,
}

impl<'a> Source<'a> {
    fn chunk(&self) -> Option<&'a ColumnChunkMetaData> {
        let group = self.file.metadata().row_groups().get(self.group)?;
        group.columns().get(self.leaf)
    }
}

/// Why a chunk was not copied.
pub(super) enum CopyError {
    /// The input is damaged.
    Input(TableError),
    /// The part cannot be written.
    Write(ParquetError),
}

impl From<ParquetError> for CopyError {
    fn from(error: ParquetError) -> Self {
        Self::Write(error)
    }
}

impl<'a, W: Write + Send> PartFile<'a, W> {
    /// Begins a file of these columns.
    ///
    /// # Errors
    /// What the sink fails with.
    pub fn new(sink: &'a mut W, schema: SchemaDescPtr) -> Result<Self, ParquetError> {
        let shared = Arc::new(Mutex::new(Sink {
            out: sink,
            end: None,
        }));
        let mut sink = TrackedWrite::new(Shared(Arc::clone(&shared)));
        sink.write_all(MAGIC)?;
        Ok(Self {
            sink,
            shared,
            schema,
            groups: Vec::new(),
            chunks: Vec::new(),
            filters: Vec::new(),
            indexes: Vec::new(),
            buffer: vec![0; COPY_BYTES],
        })
    }

    /// The next column, and where its chunk begins.
    pub(super) fn next_column(&self) -> Result<(ColumnDescPtr, i64), ParquetError> {
        Ok((self.descriptor()?, position(&self.sink)?))
    }

    fn descriptor(&self) -> Result<ColumnDescPtr, ParquetError> {
        let place = self.chunks.len();
        let none = || ParquetError::General("more chunks than columns".to_owned());
        let columns = self.schema.columns().get(place);
        columns.cloned().ok_or_else(none)
    }

    /// Writes the chunk of the next column.
    ///
    /// # Errors
    /// That of `write`, or what the sink fails with.
    pub fn write(
        &mut self,
        properties: WriterPropertiesPtr,
        write: impl FnOnce(&mut ColumnWriter<'_>) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let descriptor = self.descriptor()?;
        let chunk = written(&mut self.sink, &descriptor, properties, write)?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Copies a chunk that is in memory.
    ///
    /// # Errors
    /// What the sink fails with.
    pub fn copy_encoded(&mut self, encoded: &Encoded) -> Result<(), ParquetError> {
        let (descriptor, to) = self.next_column()?;
        self.sink.write_all(&encoded.bytes)?;
        let chunk = moved(&encoded.metadata, descriptor, 0, to)?;
        self.chunks.push(chunk.build()?);
        Ok(())
    }

    /// Copies a chunk of the input page by page, and takes its indexes along.
    pub(super) fn copy(&mut self, source: &Source<'_>) -> Result<(), CopyError> {
        let Source { file, .. } = source;
        let told = |reason: String| CopyError::Input(malformed(file.name(), reason));
        let chunk = source
            .chunk()
            .ok_or_else(|| told("a chunk that was there is gone".to_owned()))?;
        let of_column = |reason: String| told(format!("column {}: {reason}", chunk.column_path()));
        let range = pages::range(chunk, file.data()).map_err(of_column)?;
        let (from, to) = (range.start, position(&self.sink)?);
        let opened = file.opened();
        let (mut at, mut values) = (range.start, 0_u64);
        while at < range.end {
            let page = pages::page(opened, at, range.end).map_err(of_column)?;
            self.copy_bytes(opened, at..at + page.bytes)?;
            values = values.saturating_add(page.values());
            at += page.bytes;
        }
        pages::check_values(chunk, values).map_err(of_column)?;
        let from = i64::try_from(from).map_err(|error| told(error.to_string()))?;
        let is_ordered = file.metadata().file_metadata().column_orders().is_some();
        let mut moved = moved(chunk, self.descriptor()?, from, to)?;
        if !is_ordered && let Some(statistics) = chunk.statistics() {
            moved = moved.set_statistics(trusted(statistics));
        }
        let indexes = caught(file.name(), || Indexes {
            // Their values have the order of the statistics.
            columns: if is_ordered {
                column_index(opened, chunk)
            } else {
                None
            },
            offsets: offset_index(opened, chunk, to - from),
        });
        let indexes = indexes.map_err(CopyError::Input)?;
        if indexes.columns.is_some() || indexes.offsets.is_some() {
            let place = self.chunks.len();
            self.indexes.push((self.groups.len(), place, indexes));
        }
        self.chunks.push(moved.build()?);
        self.keep_filter(source)
    }

    /// Takes the Bloom filter of the last column along: it holds for a part of the rows as well.
    pub(super) fn keep_filter(&mut self, source: &Source<'_>) -> Result<(), CopyError> {
        let file = source.file;
        let read = |chunk| {
            caught(file.name(), || {
                Sbbf::read_from_column_chunk(chunk, file.opened())
            })
        };
        let read = source.chunk().map(read).transpose();
        // A filter is a help alone: one that cannot be read is left out.
        if let Some(Ok(Some(filter))) = read.map_err(CopyError::Input)? {
            let place = self.chunks.len().saturating_sub(1);
            self.filters.push((place, filter));
        }
        Ok(())
    }

    fn copy_bytes(&mut self, opened: &Opened, range: Range<u64>) -> Result<(), ParquetError> {
        let mut at = range.start;
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let wanted = left.min(self.buffer.len());
            let read = opened.read_at(at, &mut self.buffer[..wanted])?;
            if read == 0 {
                return Err(ParquetError::EOF("the input has become shorter".to_owned()));
            }
            self.sink.write_all(&self.buffer[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    /// Ends a row group of so many rows.
    ///
    /// # Errors
    /// What the sink fails with.
    pub fn end_group(
        &mut self,
        rows: u64,
        sorting: Option<Vec<SortingColumn>>,
    ) -> Result<(), ParquetError> {
        let mut chunks = std::mem::take(&mut self.chunks);
        for (place, filter) in std::mem::take(&mut self.filters) {
            let from = position(&self.sink)?;
            filter.write(&mut self.sink)?;
            let length = i32::try_from(position(&self.sink)? - from);
            if let (Some(chunk), Ok(length)) = (chunks.get_mut(place), length) {
                let of_filter = chunk.clone().into_builder();
                *chunk = of_filter
                    .set_bloom_filter_offset(Some(from))
                    .set_bloom_filter_length(Some(length))
                    .build()?;
            }
        }
        let first = chunks.first().map(|chunk| {
            let dictionary = chunk.dictionary_page_offset();
            dictionary.unwrap_or_else(|| chunk.data_page_offset())
        });
        let bytes = chunks.iter().map(ColumnChunkMetaData::uncompressed_size);
        let group = RowGroupMetaData::builder(Arc::clone(&self.schema))
            .set_num_rows(count(rows)?)
            .set_total_byte_size(bytes.sum())
            .set_file_offset(first.unwrap_or_default())
            .set_sorting_columns(sorting)
            .set_column_metadata(chunks);
        self.groups.push(group.build()?);
        Ok(())
    }

    /// Ends the file. `input` says who wrote the kept columns, and of which version its layout is:
    /// readers judge statistics by that. `elements` are the schema elements of columns that keep
    /// their own.
    ///
    /// # Errors
    /// What the sink fails with.
    pub fn finish(
        mut self,
        input: &FileMetaData,
        pairs: Vec<KeyValue>,
        elements: &[Option<&Elements>],
    ) -> Result<(), ParquetError> {
        let rows = self.groups.iter().map(RowGroupMetaData::num_rows).sum();
        let metadata = FileMetaData::new(
            input.version(),
            rows,
            input.created_by().map(ToOwned::to_owned),
            Some(pairs),
            Arc::clone(&self.schema),
            None,
        );
        let indexes = (!self.indexes.is_empty()).then(|| {
            let columns = self.schema.num_columns();
            let mut builder = PageIndexBuilder::new(self.groups.len(), columns);
            for (group, column, of_chunk) in self.indexes {
                if let Some(index) = of_chunk.columns {
                    builder.put_column_index(index, group, column);
                }
                if let Some(index) = of_chunk.offsets {
                    builder.put_offset_index(index, group, column);
                }
            }
            Arc::new(builder.build()) as Arc<dyn PageIndexProvider>
        });
        let metadata = ParquetMetaDataBuilder::new(metadata)
            .set_row_groups(self.groups)
            .set_page_index(indexes)
            .build();
        // Written into memory first, because the schema is put into it.
        self.sink.flush()?;
        let locked = || self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        locked().end = Some(Vec::new());
        ParquetMetaDataWriter::new_with_tracked(self.sink, &metadata)
            .with_preserve_page_index_locations(false)
            .finish()?;
        let damaged = || ParquetError::General("the footer cannot be put together".to_owned());
        let mut sink = locked();
        let end = Bytes::from(sink.end.take().unwrap_or_default());
        let at = end.len().checked_sub(TAIL_BYTES).ok_or_else(damaged)?;
        let (length, magic) = end[at..].split_at(4);
        let length = length.try_into().map_err(|_| damaged())?;
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| damaged())?;
        let start = at.checked_sub(length).ok_or_else(damaged)?;
        let footer = schema::replaced(&end.slice(start..at), elements).ok_or_else(damaged)?;
        let length = u32::try_from(footer.len()).map_err(|_| damaged())?;
        sink.out.write_all(&end[..start])?;
        sink.out.write_all(&footer)?;
        sink.out.write_all(&length.to_le_bytes())?;
        sink.out.write_all(magic)?;
        Ok(())
    }
}

fn count(rows: u64) -> Result<i64, ParquetError> {
    i64::try_from(rows).map_err(|error| ParquetError::General(error.to_string()))
}

fn position<W: Write>(sink: &TrackedWrite<W>) -> Result<i64, ParquetError> {
    count(sink.bytes_written() as u64)
}

/// What the footer says of a chunk, at another place in a file.
pub(super) fn moved(
    chunk: &ColumnChunkMetaData,
    descriptor: ColumnDescPtr,
    from: i64,
    to: i64,
) -> Result<ColumnChunkMetaDataBuilder, ParquetError> {
    let at = |offset: i64| offset - from + to;
    let mut moved = ColumnChunkMetaData::builder(descriptor)
        .set_compression_codec(chunk.compression_codec())
        .set_encodings_mask(*chunk.encodings_mask())
        .set_total_compressed_size(chunk.compressed_size())
        .set_total_uncompressed_size(chunk.uncompressed_size())
        .set_num_values(chunk.num_values())
        .set_data_page_offset(at(chunk.data_page_offset()))
        .set_dictionary_page_offset(chunk.dictionary_page_offset().map(at))
        .set_unencoded_byte_array_data_bytes(chunk.unencoded_byte_array_data_bytes())
        .set_repetition_level_histogram(chunk.repetition_level_histogram().cloned())
        .set_definition_level_histogram(chunk.definition_level_histogram().cloned());
    if let Some(statistics) = chunk.statistics() {
        moved = moved.set_statistics(statistics.clone());
    }
    if let Some(statistics) = chunk.geo_statistics() {
        moved = moved.set_geo_statistics(Box::new(statistics.clone()));
    }
    if let Some(statistics) = chunk.page_encoding_stats() {
        moved = moved.set_page_encoding_stats(statistics.clone());
    }
    Ok(moved)
}

/// The statistics of a chunk whose file does not say how values are ordered. The part's file says
/// it, so least and greatest values go: readers would begin to trust them (parquet.thrift,
/// `ColumnOrder`). Those of the deprecated fields stay what they were.
pub(super) fn trusted(statistics: &Statistics) -> Statistics {
    if statistics.is_min_max_deprecated() {
        return statistics.clone();
    }
    let (distinct, nulls) = (statistics.distinct_count_opt(), statistics.null_count_opt());
    match statistics.physical_type() {
        Type::BOOLEAN => Statistics::boolean(None, None, distinct, nulls, false),
        Type::INT32 => Statistics::int32(None, None, distinct, nulls, false),
        Type::INT64 => Statistics::int64(None, None, distinct, nulls, false),
        Type::INT96 => Statistics::int96(None, None, distinct, nulls, false),
        Type::FLOAT => Statistics::float(None, None, distinct, nulls, false),
        Type::DOUBLE => Statistics::double(None, None, distinct, nulls, false),
        Type::BYTE_ARRAY => Statistics::byte_array(None, None, distinct, nulls, false),
        Type::FIXED_LEN_BYTE_ARRAY => {
            Statistics::fixed_len_byte_array(None, None, distinct, nulls, false)
        }
    }
}

/// The bytes of an index; one that is not there, or is not one, is left out: it is a help alone.
fn index_bytes(opened: &Opened, range: Option<Range<u64>>) -> Option<Bytes> {
    let range = range?;
    let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
    opened.get_bytes(range.start, length).ok()
}

fn column_index(opened: &Opened, chunk: &ColumnChunkMetaData) -> Option<ColumnIndexMetaData> {
    let bytes = index_bytes(opened, chunk.column_index_range())?;
    decode_column_index(&bytes, chunk.column_type()).ok()
}

fn offset_index(
    opened: &Opened,
    chunk: &ColumnChunkMetaData,
    by: i64,
) -> Option<OffsetIndexMetaData> {
    let bytes = index_bytes(opened, chunk.offset_index_range())?;
    let mut index = decode_offset_index(&bytes).ok()?;
    for page in &mut index.page_locations {
        page.offset = page.offset.checked_add(by)?;
    }
    Some(index)
}
