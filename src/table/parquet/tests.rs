//! Footers whose counts contradict each other, and files that are damaged.

use super::*;
use crate::table::location;
use arrow_array::{ArrayRef, Int64Array, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;

/// A file of seven rows in groups of at most three.
fn written() -> Vec<u8> {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3));
    let mut writer =
        ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

/// The same file with other counts: of the file, and of its second row group.
fn counting(rows: u8, of_second: i64) -> Vec<u8> {
    claiming(rows, of_second, 3)
}

/// The same, and of the column of that group.
fn claiming(rows: u8, of_second: i64, of_column: i64) -> Vec<u8> {
    let whole = written();
    let data = bytes::Bytes::from(whole.clone());
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&data)
        .unwrap();
    let groups = metadata.row_groups().iter().enumerate();
    let groups = groups.map(|(number, group)| match number {
        1 => group
            .clone()
            .into_builder()
            .set_num_rows(of_second)
            .set_column_metadata(
                group
                    .columns()
                    .iter()
                    .map(|column| {
                        let column = column.clone().into_builder();
                        column.set_num_values(of_column).build().unwrap()
                    })
                    .collect(),
            )
            .build()
            .unwrap(),
        _ => group.clone(),
    });
    let changed = ParquetMetaData::new(metadata.file_metadata().clone(), groups.collect());
    let length = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap());
    let data = whole.len() - 8 - length as usize;
    let mut out = whole[..data].to_vec();
    ParquetMetaDataWriter::new(&mut out, &changed)
        .finish()
        .unwrap();
    // The writer adds the groups up: the third field of the footer, a number of 64 bits in Thrift's
    // compact protocol.
    const FIELD: u8 = 0x16;
    let sum = u8::try_from(4 + of_second).unwrap();
    let mut pairs = out[data..].windows(2);
    let at = pairs.position(|pair| pair == [FIELD, sum * 2]).unwrap();
    out[data + at + 1] = rows * 2;
    out
}

fn object(bytes: &[u8]) -> (tempfile::TempDir, Object) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    std::fs::write(&path, bytes).unwrap();
    let object = location::file(&path, "t.parquet".to_owned()).unwrap();
    (folder, object)
}

fn refusal(bytes: &[u8]) -> String {
    let (_folder, object) = object(bytes);
    ParquetFile::new(&object).err().unwrap().to_string()
}

#[test]
fn rows_are_read_group_by_group() {
    let (_folder, object) = object(&written());
    let file = ParquetFile::new(&object).unwrap();
    assert_eq!(file.groups().collect::<Vec<_>>(), [3, 3, 1]);
    let names = ["n".to_owned()];
    let numbers = |mut rows: ParquetRows| {
        let mut numbers = Vec::new();
        while let Some(batch) = rows.next().unwrap() {
            numbers.extend(batch.numbers);
        }
        numbers
    };
    let second = file.rows_of_group(1, 3, &names).unwrap();
    assert_eq!(numbers(second), [3, 4, 5]);
}

#[test]
fn counts_that_contradict_each_other_are_refused() {
    let (_folder, sound) = object(&counting(7, 3));
    assert!(ParquetFile::new(&sound).is_ok());
    for rows in [0, 3, 9] {
        let expected = format!("its footer counts {rows} rows, and its row groups have 7");
        let refused = refusal(&counting(rows, 3));
        assert!(refused.ends_with(&expected), "{refused}");
    }
    for (rows, of_second) in [(6, 2), (9, 5), (4, 0)] {
        let expected = format!("row group 2 counts {of_second} rows, and a column of it has 3");
        let refused = refusal(&counting(rows, of_second));
        assert!(refused.ends_with(&expected), "{refused}");
    }
}

#[test]
fn counts_that_agree_and_are_not_those_of_the_pages_are_refused() {
    let names = ["n".to_owned()];
    for (rows, of_second) in [(6, 2), (9, 5)] {
        let (_folder, object) = object(&claiming(rows, of_second, of_second));
        let file = ParquetFile::new(&object).unwrap();
        let refused = file.rows_of_group(1, 3, &names).err().unwrap().to_string();
        let expected = format!(
            "column \"n\": the footer says that it has {of_second} values, and its pages have 3"
        );
        assert!(refused.ends_with(&expected), "{refused}");
    }
    let refused = refusal(&claiming(4, 0, 0));
    let expected = "row group 2 counts 0 rows, and a column of it has values";
    assert!(refused.ends_with(expected), "{refused}");
}

#[test]
fn an_element_whose_field_claims_another_kind_is_refused() {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(["a", "b"]));
    let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    let mut bytes = writer.into_inner().unwrap();
    // The logical type of text, a structure, as if it were a number: the crate reads it as it was.
    let text = [0x4c, 0x1c, 0x00, 0x00, 0x00];
    let at = bytes.windows(5).position(|window| window == text).unwrap();
    bytes[at] = 0x45;
    let refused = refusal(&bytes);
    assert!(refused.ends_with("its footer is damaged"), "{refused}");
}

#[test]
fn a_dictionary_that_claims_more_than_its_bytes_hold_is_refused() {
    let mut bytes = written();
    // A dictionary page's header: its type, two lengths, and the structure whose first field is the
    // number of values, zigzag.
    let header = [0x15, 0x04, 0x15];
    let at = bytes
        .windows(3)
        .position(|window| window == header)
        .unwrap();
    let count = [0x4c, 0x15, 0x06];
    let from = bytes[at..].windows(3).position(|window| window == count);
    bytes[at + from.unwrap() + 2] = 63 << 1;
    let (_folder, object) = object(&bytes);
    let file = ParquetFile::new(&object).unwrap();
    let refused = file.rows_of_group(0, 0, &["n".to_owned()]).err().unwrap();
    let expected = "column \"n\": its dictionary has 24 bytes, which are too few for 63 values";
    assert!(refused.to_string().ends_with(expected), "{refused}");
}

/// Readers would make room for what it claims, before they look at what there is.
#[test]
fn a_page_that_claims_gigabytes_is_refused_for_what_it_claims() {
    let (_folder, sound) = object(&written());
    let file = ParquetFile::new(&sound).unwrap();
    let chunk = file.metadata().row_group(0).column(0);
    // The header of a page of data, in Thrift's compact protocol: its type; 2 GiB less a byte;
    // ten bytes that it has; a value, PLAIN, whose levels are RLE.
    let mut page = vec![0x15, 0x00, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x14];
    page.extend([
        0x2c, 0x15, 0x02, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00,
    ]);
    page.extend([0; 10]);
    let length = page.len() as u64;
    let (_folder, object) = object(&page);
    let claiming = chunk.clone().into_builder();
    let claiming = claiming
        .set_data_page_offset(0)
        .set_dictionary_page_offset(None)
        .set_total_compressed_size(i64::try_from(length).unwrap())
        .set_num_values(1)
        .build()
        .unwrap();
    let read = pages::readable(&object.open().unwrap(), &claiming, &(0..length));
    let said = "a page of it has 2147483647 bytes, and at most 134217728 are read";
    assert!(read.err().unwrap().starts_with(said));
}

#[test]
fn long_values_are_read_a_few_at_a_time() {
    // Each is its whole length longer than what the file has of it.
    let ids = (0..200).map(|row| format!("{}{row}", "p".repeat(200_000)));
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
    let rows = RecordBatch::try_from_iter([("id", column)]).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY);
    let mut writer =
        ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).unwrap();
    writer.write(&rows).unwrap();
    let bytes = writer.into_inner().unwrap();
    assert!(bytes.len() < 1 << 20);
    let (_folder, object) = object(&bytes);
    let file = ParquetFile::new(&object).unwrap();
    let mut rows = file.rows_of_group(0, 0, &["id".to_owned()]).unwrap();
    let mut numbers = Vec::new();
    while let Some(batch) = rows.next().unwrap() {
        assert!(batch.rows.get_array_memory_size() < 2 * BATCH_BYTES_MAX);
        numbers.extend(batch.numbers);
    }
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[test]
fn hold_1_a_damaged_file_is_an_error_of_one_line() {
    let sound = written();
    let names = ["n".to_owned()];
    for at in 0..sound.len() {
        for bit in [0, 3, 7] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1 << bit;
            let (_folder, object) = object(&damaged);
            let Ok(file) = ParquetFile::new(&object) else {
                continue;
            };
            for group in 0..3 {
                let Ok(mut rows) = file.rows_of_group(group, 0, &names) else {
                    continue;
                };
                while let Ok(Some(_)) = rows.next() {}
            }
        }
    }
    let told: Result<(), _> = caught("t.parquet", || panic!("as it is meant to"));
    let told = told.unwrap_err().to_string();
    let expected = "t.parquet cannot be read as Parquet: it is damaged, and its reader gave up";
    assert_eq!(told, expected);
}
