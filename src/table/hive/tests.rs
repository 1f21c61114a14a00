use super::*;

fn columns(file: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let found = FolderColumns::of(file)?;
    let columns = found.columns.iter();
    Ok(columns
        .map(|column| (column.name.clone(), column.value.clone()))
        .collect())
}

#[test]
fn folders_are_columns_as_their_writers_mean_it() {
    for (folder, name, value) in [
        ("tenant=a", "tenant", Some("a")),
        ("tenant=", "tenant", Some("")),
        ("tenant=007", "tenant", Some("007")),
        ("tenant=a=b", "tenant", Some("a=b")),
        ("tenant=__HIVE_DEFAULT_PARTITION__", "tenant", None),
        // Spark.
        ("tenant=a%2Fb%25 c%3Dü", "tenant", Some("a/b% c=ü")),
        // pyarrow and DuckDB.
        ("my%20tenant=a%20b%2f%C3%BC", "my tenant", Some("a b/ü")),
        ("tenant=a+b", "tenant", Some("a+b")),
        ("tenant=100%", "tenant", Some("100%")),
        ("tenant=%4", "tenant", Some("%4")),
        ("tenant=%zz%41", "tenant", Some("%zzA")),
        ("_tenant=%_", "_tenant", Some("%_")),
    ] {
        let expected = vec![(name.to_owned(), value.map(ToOwned::to_owned))];
        for file in [
            format!("s3://lake/{folder}/x.csv"),
            format!("{folder}/sub/x=1.csv"),
        ] {
            assert_eq!(columns(&file).unwrap(), expected, "{file}");
        }
    }
    for file in ["x=1.csv", "s3://lake/=a/x.csv", "p%3D1/x.csv", ".a=1/x.csv"] {
        assert_eq!(columns(file).unwrap(), [], "{file}");
    }
    let two = FolderColumns::of("/x/day=1/z/tenant=a%20b/x.csv").unwrap();
    assert_eq!(two.names().collect::<Vec<_>>(), ["day", "tenant"]);
    assert_eq!(two.path(), "day=1/tenant=a%20b");
}

#[test]
fn names_of_folders_that_cannot_be_columns_are_refused() {
    let long = format!("a={}/x.csv", "b".repeat(NAME_BYTES_MAX));
    for (file, said) in [
        ("a=%FF/x.csv", "is not UTF-8 text"),
        ("%FF=a/x.csv", "is not UTF-8 text"),
        ("a=\u{fffd}/x.csv", "is not UTF-8 text"),
        ("a=1/A=2/x.csv", "name column \"A\" twice"),
        (&long, "more than 255 bytes"),
    ] {
        let refused = columns(file).unwrap_err();
        assert!(refused.contains(said), "{file}: {refused}");
    }
}
