//! Well-formed and other files, from their first row and from the middle.

use super::*;
use crate::table::location;
use arrow_array::cast::AsArray;

fn object(text: &[u8]) -> (tempfile::TempDir, Object) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    let object = location::file(&path, "t.csv".to_owned()).unwrap();
    (folder, object)
}

type Row = Vec<Option<String>>;
/// Those that could be read, and those that could not.
type Both = (Vec<(u64, Row)>, Vec<(u64, String)>);

fn all(object: &Object, start: Start) -> Result<Both, String> {
    let told = |error: TableError| error.to_string();
    let schema = CsvRows::schema(object).map_err(told)?;
    let mut rows = CsvRows::open(object, start, Columns::All(&schema)).map_err(told)?;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    while let Some(batch) = rows.next().map_err(told)? {
        for (at, number) in batch.numbers.iter().enumerate() {
            let columns = batch.rows.columns().iter();
            let row = columns.map(|column| {
                let texts = column.as_string::<i32>();
                let there = !arrow_array::Array::is_null(texts, at);
                there.then(|| texts.value(at).to_owned())
            });
            good.push((*number, row.collect()));
        }
        bad.extend(batch.bad);
    }
    Ok((good, bad))
}

fn row(values: &[&str]) -> Row {
    let text = |text: &&str| Some((*text).to_owned()).filter(|text| !text.is_empty());
    values.iter().map(text).collect()
}

#[test]
fn quotes_line_feeds_and_nulls_are_read_as_the_rfc_has_them() {
    let text = "\u{feff}a,b\r\n1,\"x,\"\"y\"\"\nz\"\r\n,\"\"\n\u{e9},last";
    let (_folder, object) = object(text.as_bytes());
    let (good, bad) = all(&object, Start::default()).unwrap();
    let expected = [
        (0, row(&["1", "x,\"y\"\nz"])),
        (1, row(&["", ""])),
        (2, row(&["\u{e9}", "last"])),
    ];
    assert_eq!(good, expected);
    assert!(bad.is_empty());
    let names = ["b".to_owned()];
    let mut some = CsvRows::open(&object, Start::default(), Columns::Named(&names)).unwrap();
    let batch = some.next().unwrap().unwrap();
    assert_eq!((batch.rows.num_columns(), batch.rows.num_rows()), (1, 3));
}

#[test]
fn rows_that_are_none_are_told_and_the_next_are_read() {
    let (_folder, object) = object(b"a,b\n1,2\n3\n4,5,6\n\xff,7\n8,9\n");
    let (good, bad) = all(&object, Start::default()).unwrap();
    assert_eq!(good, [(0, row(&["1", "2"])), (4, row(&["8", "9"]))]);
    let reasons = [
        "it has 1 fields, not 2",
        "it has 3 fields, not 2",
        "it is not UTF-8 text",
    ];
    let expected: Vec<_> = (1..).zip(reasons.map(ToOwned::to_owned)).collect();
    assert_eq!(bad, expected);
}

#[test]
fn reading_from_the_middle_is_reading_on() {
    let rows = 3 * CHECKPOINT_ROWS + 17;
    let text: String = (0..rows)
        .map(|row| format!("{row},\"{}\n\"\n", row * row))
        .collect();
    let (_folder, object) = object(format!("a,b\n{text}").as_bytes());
    let names = ["a".to_owned()];
    let mut first = CsvRows::open(&object, Start::default(), Columns::Named(&names)).unwrap();
    while first.next().unwrap().is_some() {}
    let checkpoints = first.seen().checkpoints;
    assert_eq!(checkpoints.len(), 4);
    for from in [
        1,
        CHECKPOINT_ROWS - 1,
        CHECKPOINT_ROWS,
        2 * CHECKPOINT_ROWS + 5,
        rows - 1,
    ] {
        let number = from / CHECKPOINT_ROWS;
        let byte = checkpoints[usize::try_from(number).unwrap()];
        let start = Start {
            row: from,
            checkpoint: Some((number * CHECKPOINT_ROWS, byte)),
        };
        let (good, _) = all(&object, start).unwrap();
        assert_eq!(good.len() as u64, rows - from);
        assert_eq!(good[0].0, from);
        assert_eq!(good[0].1[0].as_deref(), Some(from.to_string().as_str()));
    }
}

#[test]
fn files_that_are_none_are_refused() {
    for (text, said) in [
        ("", "it has no header"),
        ("a,,b\n", "a column of its header has no name"),
        ("a,b,a\n", "its header names \"a\" twice"),
    ] {
        let (_folder, object) = object(text.as_bytes());
        let refused = all(&object, Start::default()).unwrap_err();
        assert!(refused.contains(said), "{text:?}: {refused}");
    }
    // A quote that is never closed does not make one row of all the rest.
    let bytes = usize::try_from(ROW_BYTES_MAX).unwrap() + (1 << 20);
    let open = format!("a,b\n1,2\n\"{}", "x\n".repeat(bytes / 2));
    let (_folder, object) = object(open.as_bytes());
    let refused = all(&object, Start::default()).unwrap_err();
    assert!(refused.contains("is a quote not closed?"), "{refused}");
}
