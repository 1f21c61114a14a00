//! Copied row groups: every field of their footer, and every value.

use crate::bulk::parquet::properties::column;
use crate::clock::Timestamp;
use crate::splice::file::{PartFile, Source};
use crate::splice::filtered::{self, Wanted};
use crate::splice::footer::pairs;
use crate::splice::own::{texts, write_time};
use crate::splice::schema::{Leaf, Own, PartSchema};
use crate::table::location;
use crate::table::parquet::ParquetFile;
use arrow_array::RecordBatch;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::file::metadata::{
    ColumnChunkMetaData, KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions,
    ParquetMetaDataReader, SortingColumn,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// A column of every physical type, and of types that Arrow turns into others or does not have.
const SCHEMA: &str = "
message volumes {
  required byte_array volume (string);
  optional int96 taken;
  required fixed_len_byte_array(12) rest (interval);
  optional fixed_len_byte_array(16) id (uuid);
  optional byte_array state (enum);
  optional byte_array extra (json);
  required int64 at (time(micros,true));
  optional boolean is_open;
  optional float share;
  optional double weight;
  optional int32 size (integer(8,false));
  optional group tags (list) {
    repeated group array {
      optional byte_array element (string);
    }
  }
}";
const ROWS: usize = 5000;

fn values<T: parquet::data_type::DataType>(
    writer: &mut parquet::column::writer::ColumnWriterImpl<'_, T>,
    value: impl Fn(usize) -> T::T,
) {
    let is_required = writer.get_descriptor().max_def_level() == 0;
    let definitions: Vec<i16> = (0..ROWS).map(|row| i16::from(row % 7 != 3)).collect();
    let all: Vec<_> = (0..ROWS)
        .filter(|row| is_required || definitions[*row] == 1)
        .map(value)
        .collect();
    let definitions = (!is_required).then_some(&definitions[..]);
    writer.write_batch(&all, definitions, None).unwrap();
}

/// Lists of up to two texts, some of them null, empty, or with a null in them.
fn lists(
    writer: &mut parquet::column::writer::ColumnWriterImpl<'_, parquet::data_type::ByteArrayType>,
) {
    let (mut definitions, mut repetitions, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..ROWS {
        let of_row: &[i16] = match row % 5 {
            0 => &[0],
            1 => &[1],
            2 => &[3],
            3 => &[2, 3],
            _ => &[3, 3],
        };
        for (at, definition) in of_row.iter().enumerate() {
            definitions.push(*definition);
            repetitions.push(i16::from(at > 0));
            if *definition == 3 {
                all.push(ByteArray::from(format!("tag {row} {at}").as_str()));
            }
        }
    }
    writer
        .write_batch(&all, Some(&definitions), Some(&repetitions))
        .unwrap();
}

fn write(writer: &mut ColumnWriter<'_>) {
    let name = match writer {
        ColumnWriter::ByteArrayColumnWriter(writer) => writer.get_descriptor().name().to_owned(),
        _ => String::new(),
    };
    let bytes = |row: usize, length: usize| {
        let text = format!("{row:016}");
        FixedLenByteArray::from(text.as_bytes()[..length].to_vec())
    };
    match writer {
        ColumnWriter::ByteArrayColumnWriter(writer) if name == "element" => lists(writer),
        ColumnWriter::ByteArrayColumnWriter(writer) => values(writer, |row| {
            ByteArray::from(format!("\"{name} {}\"", row % 1000).as_str())
        }),
        ColumnWriter::Int96ColumnWriter(writer) => values(writer, |row| {
            Int96::from(vec![u32::try_from(row).unwrap(), 0, 5_373_484])
        }),
        ColumnWriter::FixedLenByteArrayColumnWriter(writer) => {
            let length = usize::try_from(writer.get_descriptor().type_length()).unwrap();
            values(writer, |row| bytes(row, length));
        }
        ColumnWriter::Int64ColumnWriter(writer) => values(writer, |row| row as i64),
        ColumnWriter::Int32ColumnWriter(writer) => {
            values(writer, |row| i32::try_from(row % 200).unwrap())
        }
        ColumnWriter::BoolColumnWriter(writer) => values(writer, |row| row.is_multiple_of(2)),
        ColumnWriter::FloatColumnWriter(writer) => values(writer, |row| row as f32 / 3.0),
        ColumnWriter::DoubleColumnWriter(writer) => values(writer, |row| row as f64 / 3.0),
    }
}

/// A file of two row groups, with everything that a footer can say and this crate can write.
fn input() -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let path = |name: &str| ColumnPath::from(name.to_owned());
    let sorted = SortingColumn {
        column_idx: 6,
        descending: false,
        nulls_first: true,
    };
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by(
            "parquet-mr version 1.13.1 (build db4183109d5b734ec5930d870cdae161e408ddba)".to_owned(),
        )
        .set_compression(Compression::ZSTD(Default::default()))
        .set_column_compression(path("weight"), Compression::LZ4_RAW)
        .set_column_dictionary_enabled(path("at"), false)
        .set_column_encoding(path("at"), Encoding::DELTA_BINARY_PACKED)
        .set_bloom_filter_enabled(false)
        .set_column_bloom_filter_enabled(path("volume"), true)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_data_page_row_count_limit(500)
        .set_sorting_columns(Some(vec![sorted]))
        .set_key_value_metadata(Some(vec![KeyValue::new("geo".to_owned(), "{}".to_owned())]));
    let properties = Arc::new(properties.build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for _ in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            write(column.untyped());
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

struct Spliced {
    before: ParquetMetaData,
    after: ParquetMetaData,
    input: Bytes,
    output: Bytes,
}

fn footer(bytes: &Bytes) -> ParquetMetaData {
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_metadata_options(Some(options))
        .parse_and_finish(bytes)
        .unwrap()
}

/// The file with two columns of a job; without some rows of the second group, if these are given.
fn spliced(input: Vec<u8>, is_wanted: Option<&dyn Fn(u64) -> bool>) -> Spliced {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    std::fs::write(&path, &input).unwrap();
    let object = location::file(&path, "t.parquet".to_owned()).unwrap();
    let file = ParquetFile::new(&object).unwrap();
    let own = Own {
        names: vec![column::CIPHERTEXT_BLOB, column::CREATED_AT],
        replaces: false,
    };
    let of_file = file.metadata().file_metadata();
    let schema = PartSchema::new(of_file.schema_descr(), &own).unwrap();
    let mut sink = Vec::new();
    let mut out = PartFile::new(&mut sink, Arc::clone(&schema.parquet)).unwrap();
    for group in 0..2 {
        let is_wanted = is_wanted.filter(|_| group == 1);
        let rows = (0..ROWS as u64).filter(|row| is_wanted.is_none_or(|wanted| wanted(*row)));
        let rows = rows.count();
        for leaf in &schema.leaves {
            let properties = Arc::new(crate::bulk::parquet::properties::own_properties().build());
            match *leaf {
                Leaf::Kept(leaf) => {
                    let file = &file;
                    let kept = match is_wanted {
                        None => out.copy(&Source { file, group, leaf }).is_ok(),
                        Some(is_wanted) => {
                            let rows = ROWS as u64;
                            let wanted = Wanted {
                                group,
                                rows,
                                is_wanted,
                            };
                            filtered::write(file, leaf, &wanted, &mut out).is_ok()
                                && out.keep_filter(&Source { file, group, leaf }).is_ok()
                        }
                    };
                    assert!(kept, "leaf {leaf}");
                }
                Leaf::Blobs => out
                    .write(properties, |writer| {
                        let blobs = vec![ByteArray::from(vec![7; 96]); rows];
                        texts(writer)?.write_batch(&blobs, None, None).map(drop)
                    })
                    .unwrap(),
                _ => out
                    .write(properties, |writer| {
                        write_time(writer, Timestamp(9), rows as u64)
                    })
                    .unwrap(),
            }
        }
        let sorting = file.metadata().row_group(group).sorting_columns().cloned();
        out.end_group(rows as u64, sorting).unwrap();
    }
    let said = [("keymill.run", "r".to_owned())];
    let pairs = pairs(of_file, &schema, false, &said);
    out.finish(of_file, pairs, &schema.elements(&file)).unwrap();
    let (input, output) = (Bytes::from(input), Bytes::from(sink));
    Spliced {
        before: footer(&input),
        after: footer(&output),
        input,
        output,
    }
}

/// Everything that a footer says of a chunk but where it is.
fn placeless(chunk: &ColumnChunkMetaData) -> ColumnChunkMetaData {
    let at = chunk.dictionary_page_offset();
    let start = at.unwrap_or(chunk.data_page_offset());
    let builder = chunk.clone().into_builder();
    builder
        .set_data_page_offset(chunk.data_page_offset() - start)
        .set_dictionary_page_offset(at.map(|_| 0))
        .set_bloom_filter_offset(chunk.bloom_filter_offset().map(|_| 0))
        .set_column_index_offset(chunk.column_index_offset().map(|_| 0))
        .set_offset_index_offset(chunk.offset_index_offset().map(|_| 0))
        .set_offset_index_length(chunk.offset_index_length().map(|_| 0))
        .build()
        .unwrap()
}

#[test]
fn copy_1_a_footer_keeps_every_field_but_places() {
    let Spliced {
        before,
        after,
        input,
        output,
    } = spliced(input(), None);
    let (was, is) = (before.file_metadata(), after.file_metadata());
    assert_eq!(
        (was.version(), was.created_by()),
        (is.version(), is.created_by())
    );
    assert_eq!(was.num_rows(), is.num_rows());
    let fields = was.schema().get_fields();
    assert_eq!(&is.schema().get_fields()[..fields.len()], fields);
    assert_eq!(is.schema().name(), was.schema().name());
    let keys = is.key_value_metadata().unwrap();
    assert_eq!(keys[0], KeyValue::new("geo".to_owned(), "{}".to_owned()));
    assert_eq!(keys.len(), 2);
    let leaves = was.schema_descr().num_columns();
    assert_eq!(
        was.column_orders().unwrap()[..],
        is.column_orders().unwrap()[..leaves]
    );
    let read = |bytes: &Bytes| SerializedFileReader::new(bytes.clone()).unwrap();
    let (old, new) = (read(&input), read(&output));
    for group in 0..2 {
        let (was, is) = (before.row_group(group), after.row_group(group));
        assert_eq!(was.num_rows(), is.num_rows());
        assert_eq!(was.sorting_columns(), is.sorting_columns());
        assert!(was.sorting_columns().is_some());
        for leaf in 0..leaves {
            let (chunk, copied) = (was.column(leaf), is.column(leaf));
            let both = (placeless(chunk), placeless(copied));
            assert_eq!(both.0, both.1);
            let (start, length) = chunk.byte_range();
            let (to, same) = copied.byte_range();
            assert_eq!(length, same);
            let place = |at: u64| usize::try_from(at).unwrap();
            let range = |from: u64| place(from)..place(from + length);
            assert_eq!(input[range(start)], output[range(to)], "leaf {leaf}");
            let index = |metadata: &ParquetMetaData| {
                metadata
                    .page_index()
                    .unwrap()
                    .column_index(group, leaf)
                    .cloned()
            };
            assert!(leaf != 6 || index(&before).is_some());
            assert_eq!(index(&before), index(&after));
            let pages = |metadata: &ParquetMetaData, start: u64| {
                let index = metadata
                    .page_index()
                    .unwrap()
                    .offset_index(group, leaf)
                    .cloned();
                let pages = index.unwrap().page_locations.into_iter();
                let place = |mut page: parquet::file::page_index::offset_index::PageLocation| {
                    page.offset -= start as i64;
                    page
                };
                pages.map(place).collect::<Vec<_>>()
            };
            assert_eq!(pages(&before, start), pages(&after, to));
            let filter = |file: &SerializedFileReader<Bytes>| {
                let group = file.get_row_group(group).unwrap();
                group
                    .get_column_bloom_filter(leaf)
                    .map(|filter| ["\"volume 3\"", "absent"].map(|text| filter.check(&text)))
            };
            assert_eq!(filter(&old), filter(&new));
            assert_eq!(leaf == 0, chunk.bloom_filter_offset().is_some());
        }
    }
}

/// All rows of a file, of its first columns.
fn rows(bytes: &Bytes, columns: usize) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let mask = ProjectionMask::roots(reader.parquet_schema(), 0..columns);
    let mut reader = reader
        .with_projection(mask)
        .with_batch_size(3 * ROWS)
        .build()
        .unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    batch
}

#[test]
fn copy_2_rows_that_are_left_out_leave_the_others_as_they_were() {
    let is_wanted = |row: u64| row % 3 != 1 && row > 1500;
    let Spliced {
        before,
        after,
        input,
        output,
    } = spliced(input(), Some(&is_wanted));
    let fields = before.file_metadata().schema().get_fields().len();
    let all = rows(&input, fields);
    let is_kept = (0..2 * ROWS).map(|row| row < ROWS || is_wanted((row - ROWS) as u64));
    let expected = filter_record_batch(&all, &is_kept.map(Some).collect()).unwrap();
    let kept = rows(&output, fields);
    assert_eq!(kept.columns(), expected.columns());
    let schema = after.file_metadata().schema().get_fields();
    assert_eq!(
        &schema[..fields],
        before.file_metadata().schema().get_fields()
    );
    for leaf in 0..before.row_group(1).num_columns() {
        let (was, is) = (
            before.row_group(1).column(leaf),
            after.row_group(1).column(leaf),
        );
        assert_eq!(was.compression(), is.compression());
        assert_eq!(was.bloom_filter_length(), is.bloom_filter_length());
    }
}

/// Statistics are trusted where a footer says how values are ordered.
#[test]
fn copy_3_statistics_that_readers_do_not_trust_do_not_become_trusted() {
    use crate::splice::file::trusted;
    use parquet::file::statistics::Statistics;
    let of = |is_deprecated| Statistics::int32(Some(1), Some(9), None, Some(3), is_deprecated);
    assert_eq!(trusted(&of(true)), of(true));
    let kept = trusted(&of(false));
    assert_eq!(kept, Statistics::int32(None, None, None, Some(3), false));
}

#[test]
fn copy_4_damaged_chunks_are_refused_and_not_copied() {
    let sound = input();
    let bytes = Bytes::from(sound.clone());
    let chunk = footer(&bytes).row_group(0).column(6).clone();
    let (start, _) = chunk.byte_range();
    let mut damaged = sound;
    // The header of its first page: a structure that begins with another kind.
    damaged[usize::try_from(start).unwrap()] = 0xff;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    std::fs::write(&path, &damaged).unwrap();
    let object = location::file(&path, "t.parquet".to_owned()).unwrap();
    let file = ParquetFile::new(&object).unwrap();
    let mut sink = Vec::new();
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let mut out = PartFile::new(&mut sink, schema).unwrap();
    for leaf in 0..6 {
        let source = Source {
            file: &file,
            group: 0,
            leaf,
        };
        assert!(out.copy(&source).is_ok());
    }
    let source = Source {
        file: &file,
        group: 0,
        leaf: 6,
    };
    let Err(crate::splice::file::CopyError::Input(error)) = out.copy(&source) else {
        panic!("a damaged chunk was copied");
    };
    let expected = "t.parquet cannot be read as Parquet: column \"at\": its pages do not end where the footer says";
    assert_eq!(error.to_string(), expected);
}
