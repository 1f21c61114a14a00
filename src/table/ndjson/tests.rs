//! Kinds of columns, and lines that are none.

use super::*;
use crate::table::fields::Fields;
use crate::table::location;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};

fn object(text: &str) -> (tempfile::TempDir, Object) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    std::fs::write(&path, text).unwrap();
    let object = location::file(&path, "t.ndjson".to_owned()).unwrap();
    (folder, object)
}

/// What a file was found to have.
struct Found {
    fields: Fields,
    checkpoints: Vec<u64>,
}

/// What a first look at these columns finds.
fn looked(object: &Object, names: &[&str]) -> (Vec<u64>, Vec<(u64, String)>, Found) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut rows = NdjsonRows::open(object, Start::default(), Columns::Named(&names)).unwrap();
    let (mut good, mut bad, mut fields) = (Vec::new(), Vec::new(), Fields::default());
    while let Some(batch) = rows.next().unwrap() {
        batch.members.add_to(&mut fields, |_| true);
        good.extend(batch.numbers);
        bad.extend(batch.bad);
    }
    let checkpoints = rows.seen().checkpoints;
    let found = Found {
        fields,
        checkpoints,
    };
    (good, bad, found)
}

#[test]
fn a_column_is_what_all_of_its_values_are() {
    let lines = [
        r#"{"id":"a","n":1,"f":1,"b":true,"m":1,"o":{"x":[1]},"big":18446744073709551615}"#,
        "  ",
        r#"{"f":1.5,"id":"b","b":null,"m":"1","o":"x","late":"\u00e9"}"#,
    ];
    let (_folder, object) = object(&lines.join("\n"));
    let (good, bad, seen) = looked(&object, &["id"]);
    assert_eq!((good, bad), (vec![0, 1], vec![]));
    let schema = seen.fields.schema();
    let fields = schema.fields().iter();
    let kinds: Vec<_> = fields
        .map(|field| (field.name().as_str(), field.data_type()))
        .collect();
    let (int, float, text) = (&DataType::Int64, &DataType::Float64, &DataType::Utf8);
    let expected = [
        ("id", text),
        ("n", int),
        ("f", float),
        ("b", &DataType::Boolean),
        ("m", text),
        ("o", text),
        ("big", text),
        ("late", text),
    ];
    assert_eq!(kinds, expected);
    let mut rows = NdjsonRows::open(&object, Start::default(), Columns::All(&schema)).unwrap();
    let batch = rows.next().unwrap().unwrap().rows;
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert_eq!(column("n").as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(column("n").null_count(), 1);
    assert_eq!(
        column("f").as_primitive::<Float64Type>().values()[..],
        [1.0, 1.5]
    );
    let texts = |name: &str| -> Vec<Option<String>> {
        let column = column(name).as_string::<i32>();
        column
            .iter()
            .map(|text| text.map(ToOwned::to_owned))
            .collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(texts("m"), [some("1"), some("1")]);
    assert_eq!(texts("o"), [some(r#"{"x":[1]}"#), some("x")]);
    assert_eq!(texts("big"), [some("18446744073709551615"), None]);
    assert_eq!(texts("late"), [None, some("\u{e9}")]);
}

#[test]
fn lines_that_are_none_are_told_and_the_next_are_read() {
    let lines = [
        r#"{"id":"a"}"#,
        r#"{"id":7}"#,
        r#"{"id":"a","id":"b"}"#,
        "[1]",
        r#"{"id":"a""#,
        r#"{"id":null}"#,
    ];
    let (_folder, object) = object(&lines.join("\n"));
    let (good, bad, _) = looked(&object, &["id"]);
    assert_eq!(good, [0, 5]);
    let reasons = [
        "\"id\" is not a string",
        "it names \"id\" twice",
        "it is not a JSON object: invalid type: sequence",
        "it is not a JSON object: EOF",
    ];
    for ((row, reason), (number, said)) in bad.iter().zip((1..).zip(reasons)) {
        assert_eq!(*row, number);
        assert!(reason.starts_with(said), "{reason}");
    }
}

#[test]
fn reading_from_the_middle_is_reading_on() {
    let rows = 2 * CHECKPOINT_ROWS + 3;
    let lines = (0..rows).map(|row| {
        format!(
            "{{\"id\":\"c{row}\"}}\n{}",
            "\n".repeat(usize::from(row % 5 == 0))
        )
    });
    let (_folder, object) = object(&lines.collect::<String>());
    let (good, _, seen) = looked(&object, &["id"]);
    assert_eq!(good.len() as u64, rows);
    let schema = seen.fields.schema();
    let start = Start {
        row: CHECKPOINT_ROWS + 2,
        checkpoint: Some((CHECKPOINT_ROWS, seen.checkpoints[1])),
    };
    let mut on = NdjsonRows::open(&object, start, Columns::All(&schema)).unwrap();
    let batch = on.next().unwrap().unwrap();
    assert_eq!(batch.numbers[0], CHECKPOINT_ROWS + 2);
    let ids = batch.rows.column(0).as_string::<i32>();
    assert_eq!(ids.value(0), format!("c{}", CHECKPOINT_ROWS + 2));
}

#[test]
fn a_line_that_is_too_long_is_told_and_the_next_are_read() {
    let most = usize::try_from(ROW_BYTES_MAX).unwrap();
    // With its line feed.
    let line = |bytes: usize| format!("{{\"id\":\"{}\"}}\n", "x".repeat(bytes - 10));
    for (long, is_read) in [(most, true), (most + 1, false), (2 * most + 5, false)] {
        let last = "{\"id\":\"b\"}\n".repeat(usize::try_from(CHECKPOINT_ROWS).unwrap());
        let text = ["\u{feff}", &line(long - 3 * usize::from(is_read)), &last].concat();
        let (_folder, object) = object(&text);
        let (good, bad, found) = looked(&object, &["id"]);
        assert_eq!(good[0], u64::from(!is_read));
        assert_eq!(good.last(), Some(&CHECKPOINT_ROWS));
        match &bad[..] {
            [] => assert!(is_read),
            [(0, reason)] => assert_eq!(reason, "it has more than 16777216 bytes"),
            other => panic!("{other:?}"),
        }
        let checkpoint = usize::try_from(found.checkpoints[1]).unwrap();
        assert_eq!(&text[checkpoint..], "{\"id\":\"b\"}\n", "{long}");
    }
}

#[test]
fn numbers_and_nested_values_keep_the_digits_of_the_file() {
    let lines = [
        r#"{"id":"a","f":0.8444218515250481,"m":9007199254740993,"w":12345678901234567890123,"o":{"b":1.10,"a":1e5,"b":2}}"#,
        r#"{"id":"b","f":0.1,"m":0.5,"w":1,"o":[12345678901234567890123]}"#,
    ];
    let (_folder, object) = object(&format!("\u{feff}{}\n", lines.join("\r\n")));
    let (good, bad, seen) = looked(&object, &["id"]);
    assert_eq!((good, bad), (vec![0, 1], vec![]));
    let schema = seen.fields.schema();
    let mut rows = NdjsonRows::open(&object, Start::default(), Columns::All(&schema)).unwrap();
    let batch = rows.next().unwrap().unwrap().rows;
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let floats = column("f").as_primitive::<Float64Type>().values();
    assert_eq!(floats[..], [0.844_421_851_525_048_1, 0.1]);
    let texts = |name: &str| {
        let column = column(name).as_string::<i32>();
        [column.value(0).to_owned(), column.value(1).to_owned()]
    };
    assert_eq!(texts("m"), ["9007199254740993", "0.5"]);
    assert_eq!(texts("w"), ["12345678901234567890123", "1"]);
    let nested = [r#"{"b":1.10,"a":1e5,"b":2}"#, "[12345678901234567890123]"];
    assert_eq!(texts("o"), nested);
}

#[test]
fn what_makes_a_row_unusable_is_found_in_the_first_look() {
    let lines = [
        r#"{"id":"a","x":1,"x":2}"#.to_owned(),
        r#"{"id":"b","x":"\ud800"}"#.to_owned(),
        r#"{"id":"c","x":1}"#.to_owned(),
    ];
    let (_folder, object) = object(&lines.join("\n"));
    let (good, bad, seen) = looked(&object, &["id"]);
    assert_eq!(good, [2]);
    let expected = ["it names \"x\" twice", "\"x\" is not Unicode text"];
    let expected: Vec<_> = (0..).zip(expected.map(ToOwned::to_owned)).collect();
    assert_eq!(bad, expected);
    // What is left out has no say in what the column is.
    let schema = seen.fields.schema();
    assert_eq!(
        schema.field_with_name("x").unwrap().data_type(),
        &DataType::Int64
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    std::fs::write(&path, b"{\"id\":\"a\",\"x\":\"\xe9\"}\n").unwrap();
    let object = location::file(&path, "t.ndjson".to_owned()).unwrap();
    let (_, bad, _) = looked(&object, &["id"]);
    assert_eq!(bad, [(0, "it is not UTF-8 text".to_owned())]);
}

#[test]
fn a_checkpoint_is_where_its_line_begins() {
    for before in ["", "\u{feff}", "\n\n", "\u{feff}\n", "\u{feff} \r\n\n"] {
        let text = format!("{before}{{\"id\":\"a\"}}\n{{\"id\":\"b\"}}\n");
        let (_folder, object) = object(&text);
        let (good, bad, seen) = looked(&object, &["id"]);
        assert_eq!((good, bad), (vec![0, 1], vec![]), "{before:?}");
        let from = seen.checkpoints[0];
        let schema = seen.fields.schema();
        let start = Start {
            row: 0,
            checkpoint: Some((0, from)),
        };
        let mut rows = NdjsonRows::open(&object, start, Columns::All(&schema)).unwrap();
        let batch = rows.next().unwrap().unwrap();
        assert_eq!(
            (batch.numbers, batch.bad),
            (vec![0, 1], vec![]),
            "{before:?}"
        );
    }
}

#[test]
fn names_of_columns_are_bounded_in_number_and_in_bytes() {
    let long = "x".repeat(200_000);
    let lines = |names: &dyn Fn(usize) -> String, count| {
        let line = |at| format!("{{\"id\":\"a\",\"{}\":1}}\n", names(at));
        (0..count).map(line).collect::<String>()
    };
    for (text, reason) in [
        (
            lines(&|at| format!("{long}{at}"), 6),
            "columns whose names have more than 1000000 bytes",
        ),
        (
            lines(&|at| at.to_string(), COLUMNS_MAX + 1),
            "more than 10000 columns",
        ),
    ] {
        let (_folder, object) = object(&text);
        let (_, _, found) = looked(&object, &["id"]);
        assert_eq!(found.fields.excess().unwrap(), reason);
    }
}

/// Another name in every line: what is held is bounded in values, of which most are null.
#[test]
fn lines_with_many_columns_are_read_a_few_at_a_time() {
    const LINES: usize = 3000;
    let line = |at| format!("{{\"id\":\"c{at}\",\"name{at}\":{at}}}\n");
    let (_folder, object) = object(&(0..LINES).map(line).collect::<String>());
    let (good, _, seen) = looked(&object, &["id"]);
    assert_eq!((good.len(), seen.fields.len()), (LINES, LINES + 1));
    let schema = seen.fields.schema();
    let mut rows = NdjsonRows::open(&object, Start::default(), Columns::All(&schema)).unwrap();
    let mut count = 0;
    while let Some(batch) = rows.next().unwrap() {
        let columns = batch.rows.columns();
        let bytes: usize = columns
            .iter()
            .map(|column| column.get_array_memory_size())
            .sum();
        assert!(
            bytes < 32 << 20,
            "{bytes} bytes of {} rows",
            batch.numbers.len()
        );
        for (at, number) in batch.numbers.iter().enumerate() {
            let column = usize::try_from(*number).unwrap() + 1;
            let values = columns[column].as_primitive::<Int64Type>();
            assert_eq!(values.value(at), i64::try_from(*number).unwrap());
            assert_eq!(columns[column].null_count() + 1, values.len());
            count += 1;
        }
    }
    assert_eq!(count, LINES);
}
