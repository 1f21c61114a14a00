//! Every row comes once, whatever ends lines and wherever parts begin.

use super::*;
use crate::columns::ContextPairs;
use crate::table::{Input, Question, location, scan};
use arrow_array::cast::AsArray;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn object(folder: &Path, name: &str, text: &str) -> Object {
    let path = folder.join(name);
    let bytes = if name.ends_with(".gz") {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    } else {
        text.as_bytes().to_vec()
    };
    std::fs::write(&path, bytes).unwrap();
    location::file(&path, name.to_owned()).unwrap()
}

/// The plan of a table, of which bad rows are left out.
fn planned(folder: &Path, format: Format, objects: &[Object]) -> Plan {
    let input = Input {
        format,
        objects,
        workers: NonZeroUsize::MIN,
        watch: &AtomicBool::new(false),
    };
    let question = Question {
        id_column: "id",
        pairs: &ContextPairs::default(),
        skip: true,
    };
    let scanned = scan(&input, &question, &folder.join("spill"));
    scanned.unwrap().plan
}

fn table<'a>(format: Format, objects: &'a [Object], plan: &'a Plan) -> Table<'a> {
    let schema = match format {
        Format::Ndjson => plan.fields().schema(),
        _ => reader::schema(format, &objects[0]).unwrap(),
    };
    let left = LeftReaders::default();
    Table {
        objects,
        format,
        schema,
        plan,
        left,
    }
}

/// The ids of a part.
fn ids(table: &Table<'_>, first_row: u64, count: u64) -> Vec<String> {
    let mut rows = PartRows::new(table, first_row, count).unwrap();
    let mut ids = Vec::new();
    while !rows.is_over() {
        let (_, batch) = rows.next_batch().unwrap();
        assert_eq!(batch.rows.num_rows(), batch.numbers.len());
        let column = batch.rows.column_by_name("id").unwrap();
        let texts = column.as_string::<i32>().iter().flatten();
        ids.extend(texts.map(ToOwned::to_owned));
    }
    ids
}

/// Two files of gzip, in which every tenth row has no id.
#[test]
fn a_part_goes_on_where_an_earlier_one_has_left_the_file() {
    const ROWS: u64 = 30_000;
    let folder = tempfile::tempdir().unwrap();
    let objects = ["a", "b"].map(|name| {
        let line = |row| match row % 10 {
            7 => format!(",{row}\n"),
            _ => format!("{name}{row},{row}\n"),
        };
        let lines: String = (0..ROWS).map(line).collect();
        object(
            folder.path(),
            &format!("{name}.csv.gz"),
            &format!("id,x\n{lines}"),
        )
    });
    let plan = planned(folder.path(), Format::Csv, &objects);
    assert_eq!((plan.count(), plan.left_out()), (54_000, 6000));
    let table = table(Format::Csv, &objects, &plan);
    let mut all = Vec::new();
    for first in (0..54_000).step_by(7_000) {
        all.extend(ids(&table, first, 7_000.min(54_000 - first)));
        let left = table.left.0.lock().unwrap().len();
        assert_eq!(left, 1, "one reader is enough for one worker");
    }
    let expected = ["a", "b"].iter().flat_map(|name| {
        let rows = (0..ROWS).filter(|row| row % 10 != 7);
        rows.map(move |row| format!("{name}{row}"))
    });
    assert_eq!(all, expected.collect::<Vec<_>>());
    // Parts that others have made lie between, or the part lies before all that were made.
    for first in [20_000, 25_000, 10] {
        let at = usize::try_from(first).unwrap();
        assert_eq!(ids(&table, first, 3), all[at..at + 3]);
    }
}

#[test]
fn every_row_comes_once_in_parts_of_odd_sizes() {
    const ROWS: u64 = 23_000;
    const PART_ROWS: u64 = 1777;
    let folder = tempfile::tempdir().unwrap();
    for end in ["\n", "\r\n", "\r"] {
        for mark in ["", "\u{feff}"] {
            let csv = |row| match row % 100 {
                13 => format!("c{row},{row},one more{end}"),
                51 => format!("\"c{row}\"x,{row}{end}"),
                77 => format!("c{},twin{end}", row - 1),
                _ if row % 7 == 3 => {
                    format!("\"c{row}\",\"a{end}{end}b, \"\"{row}\"\"\"{end}{end}")
                }
                _ => format!("c{row},{end}"),
            };
            let ndjson = |row| match row % 100 {
                13 => format!("[{row}]{end}"),
                51 => format!("{{\"id\":\"c{row}\",\"x\":1,\"x\":2}}{end}"),
                77 => format!("{{\"id\":\"c{}\"}}{end}", row - 1),
                _ if row % 7 == 3 => format!("{{\"id\":\"c{row}\", \"x\":{row}}}{end} {end}"),
                _ => format!("{{\"id\":\"c{row}\"}}{end}"),
            };
            let csv: String = (0..ROWS).map(csv).collect();
            let ndjson: String = (0..ROWS).map(ndjson).collect();
            let csv = format!("{mark}\"id\",x{end}{csv}");
            let ndjson = format!("{mark}{ndjson}");
            for (format, name, text) in [
                (Format::Csv, "t.csv", &csv),
                (Format::Csv, "t.csv.gz", &csv),
                (Format::Ndjson, "t.ndjson", &ndjson),
                (Format::Ndjson, "t.ndjson.gz", &ndjson),
            ] {
                // RFC 8259's line feeds end lines of NDJSON, a return alone does not.
                if format == Format::Ndjson && end == "\r" {
                    continue;
                }
                let objects = [object(folder.path(), name, text)];
                let plan = planned(folder.path(), format, &objects);
                let table = table(format, &objects, &plan);
                let parts = (0..plan.count()).step_by(usize::try_from(PART_ROWS).unwrap());
                let found: Vec<_> = parts
                    .flat_map(|first| ids(&table, first, PART_ROWS.min(plan.count() - first)))
                    .collect();
                let good = (0..ROWS).filter(|row| ![13, 51, 77].contains(&(row % 100)));
                let expected: Vec<_> = good.map(|row| format!("c{row}")).collect();
                assert_eq!(found, expected, "{name} {end:?} {mark:?}");
                assert_eq!(plan.left_out(), 3 * ROWS / 100);
            }
        }
    }
}
