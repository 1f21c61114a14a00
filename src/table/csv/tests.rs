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
        "its field 1 is not UTF-8 text",
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
    let bytes = usize::try_from(ROW_BYTES_MAX).unwrap() + (1 << 20);
    let open = format!("a,\"b\n{}", "x\n".repeat(bytes / 2));
    let (_folder, object) = object(open.as_bytes());
    let refused = all(&object, Start::default()).unwrap_err();
    let said = "its header has more than 16777216 bytes; is a quote not closed?";
    assert!(refused.contains(said), "{refused}");
}

#[test]
fn a_row_that_is_too_long_is_told_and_the_next_are_read() {
    let bytes = usize::try_from(ROW_BYTES_MAX).unwrap() + (1 << 20);
    let unquoted = "x\",y".repeat(bytes / 4) + ",z";
    let quoted = format!("1,\"{}\"", "x\n\"\",".repeat(bytes / 5));
    let (behind, lines) = ("\"b\",\"y\n\"\n", usize::try_from(CHECKPOINT_ROWS).unwrap());
    for long in [&unquoted, &quoted] {
        for end in ["\n", "\r\n", "\r", "\n\n"] {
            let text = ["a,b\n1,2\n", long, end, &behind.repeat(lines)].concat();
            let (_folder, object) = object(text.as_bytes());
            let (good, bad) = all(&object, Start::default()).unwrap();
            let said = "it has more than 16777216 bytes; is a quote not closed?";
            assert_eq!(bad, [(1, said.to_owned())]);
            assert_eq!(good.len(), lines + 1);
            assert_eq!(good[1], (2, row(&["b", "y\n"])));
            let names = ["a".to_owned()];
            let columns = Columns::Named(&names);
            let mut rows = CsvRows::open(&object, Start::default(), columns).unwrap();
            while rows.next().unwrap().is_some() {}
            let checkpoint = rows.seen().checkpoints[1];
            let from = usize::try_from(checkpoint).unwrap();
            assert_eq!(&text[from..], behind.repeat(2), "{end:?}");
        }
    }
    // A quote that is never closed takes the rest of the file, and not of memory.
    let open = format!("a,b\n1,2\n\"{}", "x\n".repeat(bytes / 2));
    let (_folder, object) = object(open.as_bytes());
    let (good, bad) = all(&object, Start::default()).unwrap();
    assert_eq!((good.len(), bad.len()), (1, 1));
}

/// RFC 4180, section 2, items 5 to 7.
#[test]
fn rows_that_break_the_rules_on_quotes_are_told_and_the_next_are_read() {
    let behind = "text is behind a closing quote";
    let inside = "a quote is in the middle of a field that does not begin with one";
    let open = "a quote is not closed before the file ends";
    for (text, bad, good) in [
        ("\"v1\"x,1\nv2,2\n", &[(0, behind)][..], &[1][..]),
        ("\"v4\" ,1\nv2,2\n", &[(0, behind)], &[1]),
        ("\"a\"b\"c\",1\nv2,2\n", &[(0, behind)], &[1]),
        ("a\"b,1\nv2,2\n", &[(0, inside)], &[1]),
        (" \"a\",1\r\nv2,2\r\n", &[(0, inside)], &[1]),
        ("1,\"x\n2,y\n3,z\n", &[(0, open)], &[]),
        ("1,x\n2,\"", &[(1, open)], &[0]),
        ("1,x\n2,\"y\n", &[(1, open)], &[0]),
        ("1,\"\"\"\"\n2,\"a\"\"\n\"\"b\"\n3,\"\"\n", &[], &[0, 1, 2]),
        ("1,\"a\"\r2,\"b\"\r\n3,\"c\"", &[], &[0, 1, 2]),
        ("\n\n1,\"a\"\n\r\n2,b\"\n\n", &[(1, inside)], &[0]),
    ] {
        for mark in ["", "\u{feff}"] {
            let (_folder, object) = object(format!("{mark}\"a\",b\n{text}").as_bytes());
            let (read, told) = all(&object, Start::default()).unwrap();
            let read: Vec<_> = read.into_iter().map(|(row, _)| row).collect();
            let told: Vec<_> = told.iter().map(|(row, why)| (*row, why.as_str())).collect();
            assert_eq!((told.as_slice(), read.as_slice()), (bad, good), "{text:?}");
        }
    }
    let (_folder, object) = object(b"a,b\"\n1,2\n");
    let refused = all(&object, Start::default()).unwrap_err();
    assert!(
        refused.contains("in its header, a quote is in the middle"),
        "{refused}"
    );
}

#[test]
fn a_field_that_nobody_reads_is_text_too() {
    let (_folder, object) = object(b"a,b\n1,\xe9\n2,\xc3\xa9\n3,\xc3\n");
    let names = ["a".to_owned()];
    let mut rows = CsvRows::open(&object, Start::default(), Columns::Named(&names)).unwrap();
    let batch = rows.next().unwrap().unwrap();
    assert_eq!(batch.numbers, [1]);
    let reason = "its field 2 is not UTF-8 text".to_owned();
    assert_eq!(batch.bad, [(0, reason.clone()), (2, reason)]);
    // Bytes of two fields do not make a letter.
    let (_folder, object) = self::object(b"a,b\n\xc3,\xa9\n");
    let (_, bad) = all(&object, Start::default()).unwrap();
    assert_eq!(bad, [(0, "its field 1 is not UTF-8 text".to_owned())]);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// What the reader and the check of quotes say of a text, row by row.
    fn told(text: &[u8]) -> (Vec<Vec<Vec<u8>>>, Vec<u64>) {
        let (_folder, object) = object(&[b"a\n", text].concat());
        let schema = CsvRows::schema(&object).unwrap();
        let columns = Columns::All(&schema);
        let mut rows = CsvRows::open(&object, Start::default(), columns).unwrap();
        let (mut records, mut faults) = (Vec::new(), Vec::new());
        while rows.read().unwrap() {
            if rows.fault().is_some() {
                faults.push(records.len() as u64);
            }
            records.push(rows.record.iter().map(<[u8]>::to_vec).collect());
        }
        (records, faults)
    }

    /// A record as RFC 4180 would write it, of fields as they are in the file.
    fn written(fields: &[Vec<u8>]) -> Vec<u8> {
        let fields = fields.iter().map(|field| {
            let inside = String::from_utf8(field.clone())
                .unwrap()
                .replace('"', "\"\"");
            format!("\"{inside}\"")
        });
        fields.collect::<Vec<_>>().join(",").into_bytes()
    }

    proptest! {
        /// The reader takes a row without a fault for what another writer of the RFC makes of it.
        #[test]
        fn rows_without_a_fault_are_read_as_they_are_written(text in "[ab\",\\r\\n]{0,24}") {
            let (records, faults) = told(text.as_bytes());
            let sound = (0..).zip(&records).filter(|(row, _)| !faults.contains(row));
            for (_, record) in sound {
                let (again, none) = told(&[written(record), b"\n".to_vec()].concat());
                prop_assert_eq!(&again, &vec![record.clone()]);
                prop_assert!(none.is_empty());
            }
        }

        /// Text that is written by the RFC has no fault.
        #[test]
        fn what_a_writer_makes_has_no_fault(
            fields in proptest::collection::vec("[ab\",\\r\\n]{0,6}", 1..4),
        ) {
            let fields: Vec<_> = fields.into_iter().map(String::into_bytes).collect();
            let (records, faults) = told(&[written(&fields), b"\r\n".to_vec()].concat());
            prop_assert_eq!(records, vec![fields]);
            prop_assert!(faults.is_empty());
        }
    }
}
