//! Compressed files and other encodings: whole, from the middle, cut, damaged and swollen.

use super::*;
use crate::table::encoding::labelled;
use crate::table::fields::Fields;
use crate::table::rows::{CHECKPOINT_ROWS, Columns, ROW_BYTES_MAX, Start};
use crate::table::{location, reader};
use arrow_array::cast::AsArray;
use std::io::Write;

fn object(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Object) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let object = location::file(&path, name.to_owned()).unwrap();
    (folder, object)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

fn zstandard(text: &[u8]) -> Vec<u8> {
    // With a checksum, as the program zstd writes it.
    let mut out = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// Rows that were read.
#[derive(Debug, Default, PartialEq)]
struct Found {
    numbers: Vec<u64>,
    /// The first column.
    ids: Vec<String>,
    bad: Vec<(u64, String)>,
    checkpoints: Vec<u64>,
}

/// Every row of a file from `start` on, whose columns are `id` and perhaps others.
fn read(format: Format, object: &Object, start: Start) -> Result<Found, TableError> {
    let names = ["id".to_owned()];
    let schema = match format {
        Format::Csv => reader::schema(format, object)?,
        _ => {
            let mut first = reader::open(format, object, Start::default(), Columns::Named(&names))?;
            let mut fields = Fields::default();
            while let Some(batch) = first.next()? {
                batch.members.add_to(&mut fields, |_| true);
            }
            fields.schema()
        }
    };
    let mut rows = reader::open(format, object, start, Columns::All(&schema))?;
    let mut found = Found::default();
    while let Some(batch) = rows.next()? {
        // A file of lines that are all bad has no column.
        if let Some(ids) = batch.rows.column_by_name("id") {
            let texts = ids.as_string::<i32>().iter().flatten();
            found.ids.extend(texts.map(ToOwned::to_owned));
        }
        found.numbers.extend(batch.numbers);
        found.bad.extend(batch.bad);
    }
    found.checkpoints = rows.seen().checkpoints;
    Ok(found)
}

fn refused(name: &str, format: Format, bytes: &[u8]) -> String {
    let (_folder, object) = object(name, bytes);
    let error = read(format, &object, Start::default()).unwrap_err();
    error.to_string()
}

/// A table of so many rows, as CSV and as NDJSON.
fn tables(rows: u64) -> [(Format, &'static str, String); 2] {
    let csv = (0..rows).map(|row| format!("c{row},\"é\n{row}\"\n"));
    let ndjson = (0..rows).map(|row| format!("{{\"id\":\"c{row}\",\"x\":\"é\"}}\n"));
    [
        (
            Format::Csv,
            "t.csv",
            format!("id,x\n{}", csv.collect::<String>()),
        ),
        (Format::Ndjson, "t.ndjson", ndjson.collect()),
    ]
}

#[test]
fn members_and_frames_are_read_as_one_text_from_any_row_on() {
    let rows = 2 * CHECKPOINT_ROWS + 9;
    for (format, name, text) in tables(rows) {
        let (_folder, plain) = object(name, text.as_bytes());
        let expected = read(format, &plain, Start::default()).unwrap();
        assert_eq!(expected.ids.len() as u64, rows);
        // Cut within a row, and within a letter.
        let middle = text.find('é').unwrap() + 1;
        let (before, behind) = text.as_bytes().split_at(middle);
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        for (ending, bytes) in [
            ("gz", gzip(text.as_bytes())),
            ("gz", [gzip(before), gzip(b""), gzip(behind)].concat()),
            ("zst", zstandard(text.as_bytes())),
            (
                "zst",
                [&zstandard(before)[..], &skippable, &zstandard(behind)].concat(),
            ),
            (
                "zst",
                [&skippable[..], &zstandard(text.as_bytes())].concat(),
            ),
        ] {
            let (_folder, object) = object(&format!("{name}.{ending}"), &bytes);
            let found = read(format, &object, Start::default()).unwrap();
            assert_eq!(found, expected, "{name}.{ending}");
            for (row, number) in [(CHECKPOINT_ROWS + 5, 1), (rows - 1, 2)] {
                let checkpoint = found.checkpoints[number];
                let start = Start {
                    row,
                    checkpoint: Some((number as u64 * CHECKPOINT_ROWS, checkpoint)),
                };
                let on = read(format, &object, start).unwrap();
                assert_eq!(on.ids.len() as u64, rows - row);
                assert_eq!((on.numbers[0], on.ids[0].clone()), (row, format!("c{row}")));
            }
        }
    }
}

#[test]
fn a_cut_or_damaged_file_is_refused_by_its_name() {
    for (format, name, text) in tables(1000) {
        for (ending, called, bytes) in [
            ("gz", "gzip", gzip(text.as_bytes())),
            ("zst", "Zstandard", zstandard(text.as_bytes())),
        ] {
            let name = format!("{name}.{ending}");
            let mut changed = bytes.clone();
            let middle = bytes.len() / 2;
            changed[middle] ^= 0xff;
            let kept = [0, 1, 3, 8, middle, bytes.len() - 1];
            let cut = kept.map(|kept| bytes[..kept].to_vec());
            let with_more = [&bytes[..], b"more"].concat();
            for damaged in cut.into_iter().chain([changed, with_more]) {
                let said = refused(&name, format, &damaged);
                let expected = format!(
                    "{name} cannot be read as {}: its {called} data are damaged or cut: ",
                    format.name()
                );
                // A file of no bytes is among them.
                assert!(
                    said.starts_with(&expected),
                    "{} bytes: {said}",
                    damaged.len()
                );
            }
            let plain = refused(&name, format, text.as_bytes());
            assert!(plain.contains("data are damaged or cut"), "{plain}");
            let unnamed = refused("t", format, &bytes);
            let expected = format!(
                "t is compressed with {called}, and its name does not say so; name it ….{ending}"
            );
            assert_eq!(unnamed, expected);
        }
    }
}

#[test]
fn a_row_that_swells_is_refused_at_its_bound() {
    let zeros = vec![b'0'; 1 << 20];
    let bomb = |mut out: Box<dyn Write>| {
        for _ in 0..=ROW_BYTES_MAX >> 20 {
            out.write_all(&zeros).unwrap();
        }
    };
    for ending in ["gz", "zst"] {
        let folder = tempfile::tempdir().unwrap();
        for (format, name) in [(Format::Csv, "t.csv"), (Format::Ndjson, "t.ndjson")] {
            let name = format!("{name}.{ending}");
            let path = folder.path().join(&name);
            let file = std::fs::File::create(&path).unwrap();
            bomb(match ending {
                "gz" => Box::new(flate2::write::GzEncoder::new(
                    file,
                    flate2::Compression::default(),
                )),
                _ => Box::new(zstd::stream::Encoder::new(file, 1).unwrap().auto_finish()),
            });
            let object = location::file(&path, name).unwrap();
            assert!(object.length < ROW_BYTES_MAX / 100);
            let bound = format!("has more than {ROW_BYTES_MAX} bytes");
            let said = match read(format, &object, Start::default()) {
                // In its header.
                Err(refused) => refused.to_string(),
                Ok(found) => found.bad[0].1.clone(),
            };
            assert!(said.contains(&bound), "{said}");
        }
    }
}

#[test]
fn a_file_without_a_name_is_told_by_its_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("_input");
    for (bytes, compression) in [
        (gzip(b"id\na\n"), Some(Compression::Gzip)),
        (zstandard(b"id\na\n"), Some(Compression::Zstandard)),
        (b"id\na\n".to_vec(), None),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let object = location::file(&path, "standard input".to_owned()).unwrap();
        let object = object.without_name().unwrap();
        assert_eq!(object.compression, compression);
        let found = read(Format::Csv, &object, Start::default()).unwrap();
        assert_eq!(found.ids, ["a"]);
    }
}

#[test]
fn other_encodings_are_decoded_and_malformed_rows_are_told() {
    let utf16: Vec<u8> = "\u{feff}id,x\r\né,1\r\n\u{d55c},2\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let bad = |row, encoding: &str| (row, format!("its field 2 is not {encoding} text"));
    for (label, bytes, ids, told) in [
        ("latin1", &b"id,x\n\xe9,\x80\n"[..], &["é"][..], vec![]),
        ("utf-16le", &utf16, &["é", "\u{d55c}"], vec![]),
        (
            "shift_jis",
            b"id,x\n\x83\x65,1\nb,\x83\nc,\"\xfd\n\"\nd,4\n",
            &["テ", "d"],
            vec![bad(1, "Shift_JIS"), bad(2, "Shift_JIS")],
        ),
    ] {
        for (name, bytes) in [("t.csv", bytes.to_vec()), ("t.csv.gz", gzip(bytes))] {
            let (_folder, mut object) = object(name, &bytes);
            object.encoding = labelled(label).unwrap();
            let found = read(Format::Csv, &object, Start::default()).unwrap();
            assert_eq!(
                (found.ids, found.bad),
                (ids.iter().map(ToString::to_string).collect(), told.clone()),
                "{label}"
            );
        }
    }
    let said = refused("t.csv", Format::Csv, b"id,gr\xf6\xdfe\na,1\n");
    assert!(
        said.ends_with("its header is not UTF-8 text; name its encoding"),
        "{said}"
    );
}

#[test]
fn reading_on_in_another_encoding_is_reading_from_the_middle() {
    let rows = CHECKPOINT_ROWS + 9;
    let text: String = (0..rows).map(|row| format!("é{row}\n")).collect();
    let bytes: Vec<u8> = format!("id\n{text}")
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let (_folder, mut object) = object("t.csv", &bytes);
    object.encoding = labelled("utf-16be").unwrap();
    let found = read(Format::Csv, &object, Start::default()).unwrap();
    let start = Start {
        row: CHECKPOINT_ROWS + 2,
        checkpoint: Some((CHECKPOINT_ROWS, found.checkpoints[1])),
    };
    let on = read(Format::Csv, &object, start).unwrap();
    assert_eq!(on.ids[0], format!("é{}", CHECKPOINT_ROWS + 2));
    assert_eq!(on.ids.len(), 7);
}
