//! Footers whose counts contradict each other, and files that are damaged.

use super::*;
use crate::table::location;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
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
