//! A column chunk written anew without some of its rows: value by value, as Parquet has them, so
//! that no type is turned into another on the way.

use crate::splice::file::PartFile;
use crate::table::TableError;
use crate::table::parquet::records::{self, ROW_VALUES_MAX, RowPages, RowValues};
use crate::table::parquet::{ParquetFile, caught, malformed, pages};
use parquet::basic::Encoding;
use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::serialized_reader::SerializedPageReader;
use std::io::Write;
use std::sync::Arc;

/// Rows read at a time at most.
const ROWS: usize = 1024;
/// Values read at a time at most, where rows have about as many each.
const VALUES_MAX: u64 = 1 << 20;
/// Bytes of a dictionary that is written, where the chunk has one: as large as one that is read.
const DICTIONARY_BYTES_MAX: usize = 128 << 20;

/// The rows of a group: which of them are wanted.
pub(super) struct Wanted<'a> {
    /// The group's number.
    pub(super) group: usize,
    /// Its rows.
    pub(super) rows: u64,
    /// Whether the row of this number in the group is wanted.
    pub(super) is_wanted: &'a dyn Fn(u64) -> bool,
}

/// Why a chunk was not written.
pub(super) enum Failure {
    /// It cannot be read.
    Read(TableError),
    /// The part cannot be written.
    Write(ParquetError),
}

/// Writes the wanted rows of the input's leaf of this number.
pub(super) fn write<W: Write + Send>(
    file: &ParquetFile,
    leaf: usize,
    wanted: &Wanted<'_>,
    out: &mut PartFile<'_, W>,
) -> Result<(), Failure> {
    let told = |reason: String| Failure::Read(malformed(file.name(), reason));
    let chunks = file.metadata().row_groups().get(wanted.group);
    let chunk = chunks.and_then(|group| group.columns().get(leaf));
    let chunk = chunk.ok_or_else(|| told(format!("there is no column {leaf}")))?;
    let of_column = |reason: String| told(format!("column {}: {reason}", chunk.column_path()));
    let readable = pages::readable(file.opened(), chunk, file.data()).map_err(of_column)?;
    let repeats = chunk.column_descr().max_rep_level() > 0;
    if repeats && readable.page_values_max > ROW_VALUES_MAX {
        return Err(of_column(format!(
            "rows are left out, and a page of it has {} values, more than the {ROW_VALUES_MAX} that are written anew; write it with smaller pages",
            readable.page_values_max
        )));
    }
    let rows = usize::try_from(wanted.rows).map_err(|error| told(error.to_string()))?;
    let opened = Arc::new(file.opened().clone());
    let pages = SerializedPageReader::new(opened, chunk, rows, None);
    let pages = pages.map_err(|error| of_column(error.to_string()))?;
    let (pages, reading): (Box<dyn PageReader>, _) = match records::may_be_long(chunk) {
        true => {
            let (pages, row) = RowPages::new(Box::new(pages), ROW_VALUES_MAX);
            (Box::new(pages), Reading { rows: 1, row })
        }
        // All of its values fit into memory.
        false => {
            let rows = readable.rows.min(fitting_rows(chunk, wanted.rows));
            let row = RowValues::default();
            (Box::new(pages), Reading { rows, row })
        }
    };
    let mut reader = get_column_reader(chunk.column_descr_ptr(), pages);
    // An error of the part's file is one of the writer's, whatever was read before.
    let mut unread = None;
    let written = out.write(Arc::new(properties(chunk)), |writer| {
        let copied = caught(file.name(), || copy(&mut reader, writer, wanted, &reading));
        match copied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Copied::Write(error))) => Err(error),
            Ok(Err(Copied::Read(error))) => {
                unread = Some(of_column(error.to_string()));
                Err(error)
            }
            Err(error) => {
                unread = Some(Failure::Read(error));
                Err(ParquetError::General("the input is damaged".to_owned()))
            }
        }
    });
    match (unread, written) {
        (Some(unread), _) => Err(unread),
        (None, written) => written.map_err(Failure::Write),
    }
}

/// How many rows are read at a time, of a chunk whose rows have several values.
fn fitting_rows(chunk: &ColumnChunkMetaData, rows: u64) -> usize {
    let of_row = chunk.num_values().unsigned_abs() / rows.max(1);
    let fitting = VALUES_MAX / of_row.max(1);
    usize::try_from(fitting).unwrap_or(ROWS).clamp(1, ROWS)
}

/// As the chunk is: its codec, a dictionary if it has one, statistics.
fn properties(chunk: &ColumnChunkMetaData) -> WriterProperties {
    let has_dictionary = chunk.encodings().any(|encoding| {
        matches!(
            encoding,
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY
        )
    });
    WriterProperties::builder()
        .set_compression(chunk.compression())
        .set_dictionary_enabled(has_dictionary)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build()
}

/// How rows are read.
struct Reading {
    /// How many at a time.
    rows: usize,
    /// What is told where they begin.
    row: RowValues,
}

enum Copied {
    Read(ParquetError),
    Write(ParquetError),
}

fn copy(
    reader: &mut ColumnReader,
    writer: &mut ColumnWriter<'_>,
    wanted: &Wanted<'_>,
    reading: &Reading,
) -> Result<(), Copied> {
    use ColumnReader as From;
    use ColumnWriter as To;
    match (reader, writer) {
        (From::BoolColumnReader(from), To::BoolColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::Int32ColumnReader(from), To::Int32ColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::Int64ColumnReader(from), To::Int64ColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::Int96ColumnReader(from), To::Int96ColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::FloatColumnReader(from), To::FloatColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::DoubleColumnReader(from), To::DoubleColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::ByteArrayColumnReader(from), To::ByteArrayColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        (From::FixedLenByteArrayColumnReader(from), To::FixedLenByteArrayColumnWriter(to)) => {
            typed(from, to, wanted, reading)
        }
        _ => Err(Copied::Read(ParquetError::General(
            "its type is not what the schema says".to_owned(),
        ))),
    }
}

fn typed<T: DataType>(
    from: &mut ColumnReaderImpl<T>,
    to: &mut ColumnWriterImpl<'_, T>,
    wanted: &Wanted<'_>,
    reading: &Reading,
) -> Result<(), Copied> {
    let descriptor = Arc::clone(to.get_descriptor());
    let (nullable, repeated) = (descriptor.max_def_level(), descriptor.max_rep_level() > 0);
    let mut row = 0;
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    while row < wanted.rows {
        definitions.clear();
        repetitions.clear();
        values.clear();
        reading.row.begin();
        let read = from.read_records(
            reading.rows,
            Some(&mut definitions),
            Some(&mut repetitions),
            &mut values,
        );
        let (rows, _, levels) = read.map_err(Copied::Read)?;
        if rows == 0 {
            return Err(Copied::Read(ParquetError::EOF(format!(
                "it has {row} rows, and its row group {}",
                wanted.rows
            ))));
        }
        let (mut kept_definitions, mut kept_repetitions) = (Vec::new(), Vec::new());
        let mut kept = Vec::with_capacity(values.len());
        let mut of_levels = values.drain(..);
        let (mut next, mut is_wanted) = (row, false);
        for level in 0..levels {
            // A row begins where its values do not repeat those before.
            if !repeated || repetitions.get(level) == Some(&0) {
                is_wanted = (wanted.is_wanted)(next);
                next += 1;
            }
            let definition = definitions.get(level).copied().unwrap_or_default();
            let value = if nullable == 0 || definition == nullable {
                of_levels.next()
            } else {
                None
            };
            if is_wanted {
                kept_definitions.push(definition);
                kept_repetitions.extend(repetitions.get(level));
                kept.extend(value);
            }
        }
        row += rows as u64;
        if !kept_definitions.is_empty() {
            let definitions = (nullable > 0).then_some(&kept_definitions[..]);
            let repetitions = repeated.then_some(&kept_repetitions[..]);
            to.write_batch(&kept, definitions, repetitions)
                .map_err(Copied::Write)?;
        }
    }
    Ok(())
}
