//! Tables whose files are one only together with a log that says which of them are live: rows of
//! the others were deleted, or are there in another file.
//!
//! Sources: Delta Transaction Log Protocol, "Delta Table Specification"; Apache Iceberg, "Table
//! Spec", "File System Tables"; Apache Hudi, "Technical Specification", "Storage Layout".

use crate::table::TableError;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf, absolute};

/// The folders that logs are in.
pub(super) const LOGS: [&str; 3] = ["_delta_log", "metadata", ".hoodie"];

/// The table whose log a file of this path is of, and why its folder is not read.
pub(super) fn of_log(path: &str) -> Option<(&str, &'static str)> {
    let (folder, name) = path.rsplit_once('/')?;
    let (table, folder) = folder.rsplit_once('/').unwrap_or(("", folder));
    let fault = if folder == LOGS[0] {
        "it is a Delta Lake table, whose log says which of its files are live; name those files, each by itself (deltalake: DeltaTable(path).file_uris())"
    } else if folder == LOGS[1] && name.ends_with(".metadata.json") {
        "it is an Iceberg table, whose metadata say which of its files are live; name those files, each by itself (pyiceberg: table.inspect.files()['file_path'])"
    } else if folder == LOGS[2] && name.starts_with("hoodie.properties") {
        "it is an Apache Hudi table, whose timeline says which of its files are live; name those files, each by itself (Hudi: HoodieTableFileSystemView.getLatestBaseFiles)"
    } else {
        return None;
    };
    Some((table, fault))
}

/// Refuses local files that are in such a table: its log is looked for in every folder above them.
///
/// # Errors
/// [`TableError::Location`], which names the table's folder.
pub(super) fn check<'a>(files: impl Iterator<Item = &'a Path>) -> Result<(), TableError> {
    let folders: HashSet<&Path> = files.filter_map(Path::parent).collect();
    let mut seen = HashSet::new();
    for folder in folders {
        let here = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        // As it is named, and behind links.
        for folder in [absolute(here), here.canonicalize()].into_iter().flatten() {
            for above in folder.ancestors() {
                // Those above it were looked at then.
                if !seen.insert(above.to_owned()) {
                    break;
                }
                if let Some(fault) = fault_of(above) {
                    return Err(TableError::Location {
                        location: above.display().to_string(),
                        reason: fault.to_owned(),
                    });
                }
            }
        }
    }
    Ok(())
}

fn fault_of(folder: &Path) -> Option<&'static str> {
    let mut logs = LOGS.iter();
    logs.find_map(|log| {
        let path: PathBuf = folder.join(log);
        let names = fs::read_dir(path).ok()?;
        let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find_map(|name| Some(of_log(&format!("{log}/{name}"))?.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_told_from_data() {
        for (path, table, begins) in [
            (
                "t/_delta_log/00000000000000000000.json",
                "t",
                "it is a Delta Lake table",
            ),
            (
                "_delta_log/x.checkpoint.parquet",
                "",
                "it is a Delta Lake table",
            ),
            (
                "s/t/metadata/v1.metadata.json",
                "s/t",
                "it is an Iceberg table",
            ),
            (
                "metadata/00000-x.metadata.json",
                "",
                "it is an Iceberg table",
            ),
            (
                "s/t/.hoodie/hoodie.properties",
                "s/t",
                "it is an Apache Hudi table",
            ),
        ] {
            let (found, fault) = of_log(path).unwrap();
            assert_eq!(found, table);
            assert!(fault.starts_with(begins), "{path}");
        }
        for path in [
            "a.csv",
            "metadata/a.parquet",
            "v1.metadata.json",
            "_delta_log",
            ".hoodie/20261129.commit",
            "",
        ] {
            assert_eq!(of_log(path), None, "{path}");
        }
    }

    #[test]
    fn a_log_is_found_in_every_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["t/x=1/y=2", "t/_delta_log", "o", "metadata"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let check = |name: &str| check([at(name).as_path()].into_iter());
        assert!(check("t/x=1/y=2/a.parquet").is_ok(), "no log yet");
        fs::write(at("t/_delta_log/0.json"), "{}").unwrap();
        fs::write(at("metadata/a.json"), "{}").unwrap();
        for name in ["t/a.parquet", "t/x=1/y=2/a.parquet"] {
            let refused = check(name).unwrap_err().to_string();
            let table = at("t").display().to_string();
            assert!(refused.starts_with(&table), "{refused}");
        }
        assert!(check("o/a.parquet").is_ok());
        std::os::unix::fs::symlink(at("t/x=1"), at("link")).unwrap();
        assert!(check("link/a.parquet").is_err());
    }
}
