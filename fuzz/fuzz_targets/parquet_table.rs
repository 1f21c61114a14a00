//! A Parquet file as anybody may have left it, its footer and its pages above all: a job copies it
//! whole, or refuses it, within bounds of memory (`fuzz/run` sets them).
//!
//! An input is edits of one of some sound files, four bytes each: whether to put, insert or remove,
//! in the footer or before it; two bytes for the place; and the byte. The length of the footer is
//! set right behind that, so that what lies behind the framing is reached at once.

#![no_main]

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use keymill_fuzz::tables::Tables;
use libfuzzer_sys::fuzz_target;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use std::sync::{Arc, LazyLock};

/// Bytes at the end of a file: the footer's length, and the magic.
const TAIL_BYTES: usize = 8;

struct Sound {
    tables: Tables,
    files: Vec<Vec<u8>>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| Sound {
    tables: Tables::new().expect("a temporary folder"),
    files: files().expect("files"),
});

/// Ids, contexts, blobs, and columns that are copied.
fn rows() -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let rows = 24;
    let ids = (0..rows).map(|row| format!("v{row}"));
    let tenants = (0..rows).map(|row| format!("tenant-{}", row % 3));
    let blobs = (0..rows).map(|row| vec![row; 96]);
    let numbers = (0..rows).map(|row| (row % 5 > 0).then_some(i64::from(row)));
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        lists.append_value((0..row % 4).map(|at| Some(format!("x{at}"))));
    }
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(StringArray::from_iter_values(ids))),
        ("tenant", Arc::new(StringArray::from_iter_values(tenants))),
        (
            "ciphertext_blob",
            Arc::new(BinaryArray::from_iter_values(blobs)),
        ),
        ("n", Arc::new(Int64Array::from_iter(numbers))),
        ("l", Arc::new(lists.finish())),
    ];
    let columns = columns.map(|(name, array)| (name, array, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn files() -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let base = || WriterProperties::builder().set_max_row_group_row_count(Some(9));
    let properties = [
        base().set_dictionary_enabled(false),
        base()
            .set_compression(Compression::SNAPPY)
            .set_bloom_filter_enabled(true)
            .set_statistics_enabled(EnabledStatistics::Page),
        base()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_dictionary_enabled(false)
            .set_column_encoding("id".into(), Encoding::DELTA_BYTE_ARRAY)
            .set_compression(Compression::ZSTD(Default::default())),
    ];
    let rows = rows()?;
    // Without the column of blobs it is a table to provision; with it, one to count.
    let unwrapped = rows.project(&[0, 1, 3, 4])?;
    let mut files = Vec::new();
    for properties in properties {
        let properties = properties.build();
        for rows in [&unwrapped, &rows] {
            let mut file = Vec::new();
            let mut writer =
                ArrowWriter::try_new(&mut file, rows.schema(), Some(properties.clone()))?;
            writer.write(rows)?;
            writer.close()?;
            files.push(file);
        }
    }
    Ok(files)
}

/// A sound file, edited.
fn edited(which: u8, edits: &[u8]) -> Vec<u8> {
    let file = &SOUND.files[usize::from(which) % SOUND.files.len()];
    let (rest, tail) = file.split_at(file.len() - TAIL_BYTES);
    let length = tail
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let (data, footer) = rest.split_at(rest.len() - length as usize);
    let (mut data, mut footer) = (data.to_vec(), footer.to_vec());
    for edit in edits.chunks_exact(4) {
        let part = if edit[0] & 4 == 0 {
            &mut footer
        } else {
            &mut data
        };
        let place = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % part.len().max(1);
        match edit[0] & 3 {
            0 | 1 if !part.is_empty() => part[place] = edit[3],
            2 => part.insert(place, edit[3]),
            _ if !part.is_empty() => drop(part.remove(place)),
            _ => {}
        }
    }
    let length = u32::try_from(footer.len()).unwrap_or(u32::MAX);
    [&data[..], &footer, &length.to_le_bytes(), &tail[4..]].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([which, how], edits)) = bytes.split_first_chunk() else {
        return;
    };
    let tables = &SOUND.tables;
    let path = tables.write("t.parquet", &edited(*which, edits));
    tables.census(&path);
    tables.clear();
    if let Ok(rows) = tables.provision(&path, how & 1 != 0, u64::from(how >> 1) + 1) {
        assert_eq!(tables.rows(), rows);
    }
});
