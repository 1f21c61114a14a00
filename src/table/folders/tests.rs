use super::*;
use crate::columns::{ContextPairs, Texts};
use crate::table::fields::Fields;
use crate::table::part_rows::{LeftReaders, PartRows, Table};
use crate::table::plan::FilePlan;
use crate::table::{Format, Input, Location, Question, Scanned, reader, scan};
use arrow_schema::{DataType, Field};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The files of a folder that has these.
fn table(folder: &Path, files: &[(&str, &str)]) -> Vec<Object> {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let location = Location::Local(folder.display().to_string());
    location.objects(None, runtime.handle()).unwrap()
}

#[test]
fn all_files_of_a_table_are_in_folders_of_the_same_names() {
    for (other, said) in [
        ("t/x.csv", "name no column, and those of"),
        ("t/b=1/x.csv", "name column \"b\", and those of"),
        ("t/a=1/b=1/x.csv", "name columns \"a\", \"b\", and those of"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut objects = table(folder.path(), &[("a=1/x.csv", "id\nx"), (other, "id\ny")]);
        let refused = find(&mut objects, FolderNames::Columns).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains(said) && refused.contains(other),
            "{refused}"
        );
        let mut objects = table(folder.path(), &[]);
        find(&mut objects, FolderNames::Nothing).unwrap();
        assert!(objects.iter().all(|object| object.folders.is_empty()));
    }
}

#[test]
fn parts_do_not_mix_folders() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "a=1/x.csv",
        "a=1/y.csv",
        "a=2/x.csv",
        "a=3/x.csv",
        "a=3/y.csv",
    ];
    let mut objects = table(folder.path(), &names.map(|name| (name, "")));
    find(&mut objects, FolderNames::Columns).unwrap();
    let files = [3, 4, 0, 1, 2].map(|rows| FilePlan {
        rows,
        left_out: (0..u64::from(rows == 4)).collect(),
        ..FilePlan::default()
    });
    let plan = Plan::new(files.to_vec(), Fields::default());
    let (ends, folders) = parts(&objects, &plan, 4);
    assert_eq!(ends, [4, 6, 9]);
    assert_eq!(folders, ["a=1", "a=1", "a=3"]);
}

/// The files of this folder, and what a look at them finds.
fn looked_at(
    folder: &Path,
    format: Format,
    context: &[&str],
    skip: bool,
) -> Result<(Vec<Object>, Scanned), TableError> {
    let mut objects = table(folder, &[]);
    find(&mut objects, FolderNames::Columns)?;
    let input = Input {
        format,
        objects: &objects,
        workers: NonZeroUsize::MIN,
        watch: &AtomicBool::new(false),
    };
    let pairs = ContextPairs {
        columns: context.iter().map(|name| (*name).to_owned()).collect(),
        ..ContextPairs::default()
    };
    let question = Question {
        id_column: "id",
        pairs: &pairs,
        skip,
    };
    let spill = tempfile::tempdir().unwrap();
    let scanned = scan(&input, &question, &spill.path().join("spill"))?;
    Ok((objects, scanned))
}

/// Every id, with the values of `a` and `b`, both as a scan and as a part sees them.
fn rows(folder: &Path, format: Format) -> Vec<[Option<String>; 3]> {
    let (objects, scanned) = looked_at(folder, format, &["b", "a"], true).unwrap();
    let plan = scanned.plan;
    let schema = match format {
        Format::Ndjson => plan.fields().schema(),
        _ => {
            let full = reader::schema(format, &objects[0]).unwrap();
            let names: Vec<_> = full.fields().iter().map(|field| field.name()).collect();
            assert_eq!(names, ["id", "x", "a", "b"]);
            Arc::new(full.project(&[0, 1]).unwrap())
        }
    };
    let left = LeftReaders::default();
    let table = Table {
        objects: &objects,
        format,
        schema,
        plan: &plan,
        left,
    };
    let mut part = PartRows::new(&table, 0, plan.count()).unwrap();
    let mut found = Vec::new();
    while !part.is_over() {
        let (_, batch) = part.next_batch().unwrap();
        for row in 0..batch.rows.num_rows() {
            found.push(["id", "a", "b"].map(|name| {
                let column = batch.rows.column_by_name(name).and_then(Texts::of);
                column.unwrap().text(row).map(ToOwned::to_owned)
            }));
        }
    }
    found
}

#[test]
fn rows_of_text_have_the_values_of_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let csv = [
        ("a=1/b=x%20y/t.csv", "id,x\ni,1\nj,2\n"),
        ("a=2/b=__HIVE_DEFAULT_PARTITION__/t.csv", "id,x\nk,3\n"),
        ("a=3/b=z/t.csv", "id,x\nl,4\n,5\n"),
    ];
    let json = [
        (
            "a=1/b=x%20y/t.ndjson",
            "{\"id\":\"i\",\"x\":1}\n{\"id\":\"j\"}\n",
        ),
        (
            "a=2/b=__HIVE_DEFAULT_PARTITION__/t.ndjson",
            "{\"id\":\"k\"}\n",
        ),
        ("a=3/b=z/t.ndjson", "{\"id\":\"l\"}\n{\"x\":5}\n"),
    ];
    let row = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()));
    // A null in a context leaves a row out, as a row without an id is.
    let expected = [["i", "1", "x y"], ["j", "1", "x y"], ["l", "3", "z"]].map(row);
    for (files, format) in [(csv, Format::Csv), (json, Format::Ndjson)] {
        let folder = folder.path().join(format.name());
        table(&folder, &files);
        assert_eq!(rows(&folder, format), expected, "{format:?}");
    }
}

#[test]
fn a_column_that_readers_may_take_for_that_of_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (file, text, format) in [
        ("a=1/t.csv", "id,A\ni,1\n", Format::Csv),
        (
            "a=1/t.ndjson",
            "{\"id\":\"1\",\"A\":\"i\"}\n",
            Format::Ndjson,
        ),
    ] {
        let folder = folder.path().join(format.name());
        table(&folder, &[(file, text)]);
        let refused = looked_at(&folder, format, &[], false)
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.contains("is in the file, in other letters, and in the name of a folder"),
            "{refused}"
        );
    }
}

#[test]
fn a_column_of_a_file_may_be_that_of_its_folder_where_every_value_is_equal() {
    let folder = tempfile::tempdir().unwrap();
    let csv = |other: &str| format!("id,a,x\ni,1,p\nj,{other},q\n");
    let json = |other: &str| {
        format!("{{\"id\":\"p\",\"a\":\"1\"}}\n{{\"a\":{other},\"id\":\"q\"}}\n{{\"id\":\"r\"}}\n")
    };
    for (name, text, format, equal, rows) in [
        ("1.csv", csv("1"), Format::Csv, true, 2),
        ("2.csv", csv("2"), Format::Csv, false, 2),
        ("3.csv", csv(""), Format::Csv, false, 2),
        ("4.ndjson", json("1"), Format::Ndjson, true, 3),
        ("5.ndjson", json("\"1\""), Format::Ndjson, true, 3),
        ("6.ndjson", json("null"), Format::Ndjson, false, 3),
        ("7.ndjson", json("[1]"), Format::Ndjson, false, 3),
    ] {
        let folder = folder.path().join(name);
        table(&folder, &[(&format!("a=1/{name}"), &text)]);
        let said = "row 2: its column \"a\" is not \"1\", as the name of its folder says";
        match looked_at(&folder, format, &[], false) {
            Ok((_, scanned)) => assert!(equal && scanned.plan.count() == rows, "{name}"),
            Err(refused) => {
                let refused = refused.to_string();
                assert!(!equal && refused.contains(said), "{name}: {refused}");
                let (_, scanned) = looked_at(&folder, format, &[], true).unwrap();
                assert_eq!(scanned.plan.count(), rows - 1, "{name}");
                assert_eq!(scanned.plan.left_out(), 1, "{name}");
            }
        }
    }
}

/// Files are compared by all of their columns: a part reads those of a later file by the places
/// that the first has them at.
#[test]
fn files_of_text_have_the_columns_of_their_folders_at_the_same_places() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("a=1/t.csv", "id,a,x\ni,1,p\n"),
        ("a=2/t.csv", "a,id,x\n2,j,q\n"),
    ];
    table(folder.path(), &files);
    let refused = looked_at(folder.path(), Format::Csv, &[], false)
        .err()
        .unwrap();
    assert!(matches!(refused, TableError::Columns { .. }), "{refused}");
}

/// One rule, however a path is written: tests run in the folder of the package.
#[test]
fn folders_are_those_of_the_whole_path() {
    let here = std::env::current_dir().unwrap();
    let of = |path: &str| FolderColumns::of(&whole(Path::new(path))).unwrap();
    for (path, folders) in [
        ("/data/env=prod/t/day=1/x.csv", "env=prod/day=1"),
        ("/data/env=prod/../x.csv", ""),
        ("/data/env=prod/t/../day=1/./x.csv", "env=prod/day=1"),
        ("/../a=1/x.csv", "a=1"),
        ("a=1/x.csv", "a=1"),
        ("./x.csv", ""),
    ] {
        assert_eq!(of(path).path(), folders, "{path}");
    }
    assert_eq!(whole(Path::new("a/../b")), here.join("b").to_string_lossy());
}

#[test]
fn a_result_is_not_written_where_its_folders_name_a_column_again() {
    let schema = Schema::new(vec![
        Field::new("tenant", DataType::Utf8, true),
        Field::new("env", DataType::Utf8, true),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let mut objects = table(folder.path(), &[("env=prod/x.csv", "tenant\na\n")]);
    find(&mut objects, FolderNames::Columns).unwrap();
    let check = |out: &str, names| check_out(Path::new(out), &objects[0], &schema, names);
    for out in [
        "res/tenant=a",
        "Tenant=a/res",
        "s3://b/tenant=1/res",
        "/data/env=test/res",
        "/data/Env=prod",
    ] {
        let refused = check(out, FolderNames::Columns).unwrap_err().to_string();
        assert!(refused.contains("write to another folder"), "{refused}");
        assert!(check(out, FolderNames::Nothing).is_ok());
    }
    for out in [
        "res/date=2026-11-29",
        "tenant",
        "res",
        "/data/env=prod/res",
        "res/tenant=a/..",
    ] {
        assert!(check(out, FolderNames::Columns).is_ok(), "{out}");
    }
}

#[test]
fn parts_are_not_put_into_a_folder_that_they_are_below_already() {
    let folder = tempfile::tempdir().unwrap();
    let mut objects = table(folder.path(), &[("env=prod/t/day=1/x.csv", "")]);
    find(&mut objects, FolderNames::Columns).unwrap();
    for (out, path) in [
        ("/data/env=prod/res", "day=1"),
        ("s3://b/env=prod", "day=1"),
        ("/data/res", "env=prod/day=1"),
        ("/data/env=test/res", "env=prod/day=1"),
    ] {
        let mut objects = objects.clone();
        put_below(Path::new(out), &mut objects, FolderNames::Columns).unwrap();
        assert_eq!(objects[0].folders.path(), path, "{out}");
        let names: Vec<_> = objects[0].folders.names().collect();
        assert_eq!(names, ["env", "day"]);
    }
}
