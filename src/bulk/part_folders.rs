//! The folders inside a job's that its parts are in: those of a table whose folders are columns
//! (`tenant=a/part-00000.parquet`).

use serde::{Deserialize, Serialize};

/// The folder of each part; of a job without any, every part is in the job's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFolders {
    /// Whether the caller wants no columns of folders.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_hive: bool,
    /// The columns that the folders are named after, from the outermost folder to the innermost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartFolder>,
}

/// Parts in a row that are in one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFolder {
    folder: String,
    /// The number of the part behind the last of them.
    end: u64,
}

impl PartFolders {
    /// The same columns, in the folders of these parts, in order.
    #[must_use]
    pub fn with<'a>(self, folders: impl IntoIterator<Item = &'a str>) -> Self {
        let mut runs: Vec<PartFolder> = Vec::new();
        for (number, folder) in (1..).zip(folders) {
            match runs.last_mut() {
                Some(run) if run.folder == folder => run.end = number,
                _ => runs.push(PartFolder {
                    folder: folder.to_owned(),
                    end: number,
                }),
            }
        }
        if runs.iter().all(|run| run.folder.is_empty()) {
            runs.clear();
        }
        Self {
            parts: runs,
            ..self
        }
    }

    /// What the names of folders are taken for, as messages have it.
    #[must_use]
    pub fn shown(&self) -> String {
        let shown = if self.no_hive { "left out" } else { "kept" };
        shown.to_owned()
    }

    /// Whether there is nothing to say of folders.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The folder of the part of this number; empty for the job's own.
    #[must_use]
    pub fn of(&self, number: u64) -> &str {
        let at = self.parts.partition_point(|run| run.end <= number);
        self.parts.get(at).map_or("", |run| &run.folder)
    }

    /// Whether these can be folders of a job.
    #[must_use]
    pub fn are_sound(&self) -> bool {
        self.parts.iter().all(|run| is_path(&run.folder))
    }
}

/// Whether a job may have a folder of this name inside its own.
#[must_use]
pub fn is_folder(name: &str) -> bool {
    name.find('=').is_some_and(|at| at > 0) && !name.starts_with('.') && !name.contains('/')
}

/// Whether a job may have folders of this path inside its own.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.split('/').all(is_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_the_folder_that_it_was_given() {
        let given = ["a=1", "a=1", "a=2", "a=1", "a=3", "a=3"];
        let folders = PartFolders::default().with(given);
        for (number, folder) in (0..).zip(given) {
            assert_eq!(folders.of(number), folder, "{number}");
        }
        assert_eq!(folders.of(6), "");
        assert!(folders.are_sound() && !folders.is_plain());
        assert!(PartFolders::default().with(["", ""]).is_plain());
    }

    #[test]
    fn what_leads_elsewhere_is_not_a_folder_of_a_job() {
        for path in ["a=1", "a=1/b=2", "a==/b=", "ü= %20"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "..", "a=1/..", "/a=1", "a=1//b=2", "=1", ".a=1", "a"] {
            assert!(!is_path(path), "{path}");
        }
        assert!(!PartFolders::default().with(["a=1", "../b=1"]).are_sound());
    }
}
