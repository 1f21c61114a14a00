//! Folders whose files are a table only together with a log that says which of them are live.
//!
//! Sources: Delta Transaction Log Protocol, "Delta Table Specification"; Apache Iceberg, "Table
//! Spec", "File System Tables".

/// The fault of a folder with a file of this path below it, if that is of such a log.
pub(super) fn fault(path: &str) -> Option<&'static str> {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    if folder == "_delta_log" {
        return Some(
            "it is a Delta Lake table, whose log says which of its files are live; name those files (deltalake: DeltaTable(path).file_uris())",
        );
    }
    if folder == "metadata" && name.ends_with(".metadata.json") {
        return Some(
            "it is an Iceberg table, whose metadata say which of its files are live; name those files (pyiceberg: table.inspect.files()['file_path'])",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_told_from_data() {
        for (path, begins) in [
            (
                "t/_delta_log/00000000000000000000.json",
                "it is a Delta Lake table",
            ),
            (
                "_delta_log/x.checkpoint.parquet",
                "it is a Delta Lake table",
            ),
            ("t/metadata/v1.metadata.json", "it is an Iceberg table"),
            ("metadata/00000-x.metadata.json", "it is an Iceberg table"),
        ] {
            assert!(
                fault(path).is_some_and(|fault| fault.starts_with(begins)),
                "{path}"
            );
        }
        for path in [
            "a.csv",
            "metadata/a.parquet",
            "v1.metadata.json",
            "_delta_log",
            "",
        ] {
            assert_eq!(fault(path), None, "{path}");
        }
    }
}
