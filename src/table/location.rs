//! What a user calls a table: a file, a folder, a pattern, `s3://…`, or standard input.

use crate::table::hive;
use crate::table::lake;
use crate::table::object::{self, Object, Storage};
use crate::table::{FILES_MAX, Format, TableError};
use globset::{GlobBuilder, GlobMatcher};
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::runtime::Handle;

/// What a pattern is known by.
const PATTERN: [char; 4] = ['*', '?', '[', '{'];

mod bucket;
mod reach;

pub use reach::{reaches, reaches_prefix};

/// What a user calls a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Standard input: `-`.
    Input,
    /// A local file, folder or pattern.
    Local(String),
    /// Objects of a bucket: a key, a prefix or a pattern.
    S3 {
        /// The bucket.
        bucket: String,
        /// The rest, without a slash before it.
        key: String,
    },
}

/// An `s3://` without a bucket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a table is a file, a folder, a pattern, s3://BUCKET/KEY, or - for standard input")]
pub struct InvalidLocation;

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        if text == "-" {
            return Ok(Self::Input);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains(PATTERN) {
                return Err(InvalidLocation);
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            });
        }
        // Tools of Delta Lake and Iceberg name local files so, and encode nothing.
        let path = match text.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => path,
            _ => text,
        };
        if path.is_empty() || path.contains("://") {
            return Err(InvalidLocation);
        }
        Ok(Self::Local(path.to_owned()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => write!(out, "-"),
            Self::Local(path) => write!(out, "{path}"),
            Self::S3 { bucket, key } => write!(out, "s3://{bucket}/{key}"),
        }
    }
}

impl Location {
    /// The files at this location, by name; of a folder those whose names say a format, or all
    /// where `format` says it. Names that begin with `_` or `.` are passed over, and other files
    /// that are passed over are named in the log.
    ///
    /// # Errors
    /// [`TableError`], when there are none among others.
    pub fn objects(
        &self,
        format: Option<Format>,
        runtime: &Handle,
    ) -> Result<Vec<Object>, TableError> {
        let mut passed = PassedOver::default();
        let is_table = |name: &str| {
            let is_table = format.is_some() || Format::of(name).is_some();
            if !is_table {
                passed.add(name);
            }
            is_table
        };
        let mut found = match self {
            Self::Input => Vec::new(),
            Self::Local(path) => local(path, is_table)?,
            Self::S3 { bucket, key } => {
                runtime.block_on(bucket::objects(bucket, key, is_table, runtime))?
            }
        };
        passed.tell(self);
        if found.is_empty() {
            return Err(TableError::Absent(self.to_string()));
        }
        if found.len() > FILES_MAX {
            return Err(TableError::TooManyFiles(self.to_string()));
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}

/// Files of a folder that are passed over, since their names say no format.
#[derive(Default)]
struct PassedOver {
    count: usize,
    first: Vec<String>,
}

impl PassedOver {
    /// Files that a message names at most.
    const SHOWN_MAX: usize = 20;

    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < Self::SHOWN_MAX {
            self.first.push(name.to_owned());
        }
    }

    fn tell(&self, location: &Location) {
        if self.count > 0 {
            tracing::warn!(
                %location, count = self.count, names = %self.first.join(", "),
                "passed over files whose names say no format; where the format is given, every ending is read"
            );
        }
    }
}

/// A local file.
///
/// # Errors
/// The error of the file system.
pub fn file(path: &Path, name: String) -> Result<Object, TableError> {
    let metadata = path
        .metadata()
        .map_err(|error| TableError::io(&name, error))?;
    if !metadata.is_file() {
        return Err(TableError::Location {
            location: name,
            reason: "it is not a regular file; - reads standard input".to_owned(),
        });
    }
    Ok(of_file(path, name, &metadata))
}

fn of_file(path: &Path, name: String, metadata: &Metadata) -> Object {
    let source = Storage::File(path.to_owned());
    Object::new(name, metadata.len(), object::version(metadata), source)
}

fn local(text: &str, mut is_table: impl FnMut(&str) -> bool) -> Result<Vec<Object>, TableError> {
    let path = Path::new(text);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let is_wanted = &mut |path: &Path| is_table(&path.to_string_lossy());
            return beside_logs(walk(path, is_wanted)?);
        }
        // So the live files of a table with a log of its own are handed over.
        Ok(_) => return Ok(vec![file(path, text.to_owned())?]),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(TableError::io(text, error));
        }
        Err(_) if !text.contains(PATTERN) => {
            return Err(TableError::Absent(text.to_owned()));
        }
        Err(_) => {}
    }
    let matcher = matcher(text)?;
    let (mut base, _) = split(text);
    if base.as_os_str().is_empty() {
        base.push(".");
    }
    let found = walk(&base, &mut |path| {
        let path = path.strip_prefix("./").unwrap_or(path);
        matcher.is_match(path)
    });
    beside_logs(found?)
}

/// The files of a folder or a pattern, unless they are of a table with a log of its own.
fn beside_logs(files: Vec<Object>) -> Result<Vec<Object>, TableError> {
    let paths = files.iter().filter_map(|object| match &object.source {
        Storage::File(path) => Some(path.as_path()),
        Storage::Store { .. } => None,
    });
    lake::check(paths)?;
    Ok(files)
}

/// A pattern's folders up to the first component that is a pattern, and the rest.
fn split(pattern: &str) -> (PathBuf, PathBuf) {
    let mut components = Path::new(pattern).components().peekable();
    let mut base = PathBuf::new();
    while let Some(fixed) =
        components.next_if(|part| !part.as_os_str().to_string_lossy().contains(PATTERN))
    {
        base.push(fixed);
    }
    (base, components.collect())
}

fn matcher(pattern: &str) -> Result<GlobMatcher, TableError> {
    let glob = GlobBuilder::new(pattern.strip_prefix("./").unwrap_or(pattern))
        .literal_separator(true)
        .build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| TableError::Location {
            location: pattern.to_owned(),
            reason: error.kind().to_string(),
        })
}

fn walk(base: &Path, is_wanted: &mut dyn FnMut(&Path) -> bool) -> Result<Vec<Object>, TableError> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        let io = |error| TableError::io(&folder.display().to_string(), error);
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let metadata = || path.metadata().map_err(io);
            if is_hidden(&name) && !(is_hive(&name) && metadata()?.is_dir()) {
                continue;
            }
            let metadata = metadata()?;
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() && is_wanted(&path) {
                let name = path.strip_prefix("./").unwrap_or(&path).display();
                found.push(of_file(&path, name.to_string(), &metadata));
            }
        }
    }
    Ok(found)
}

/// What data tools take for no data.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

/// A folder that is a column is data, as it is to Spark, also where that column's name begins with
/// `_`.
fn is_hive(name: &str) -> bool {
    name.starts_with('_') && hive::is_column(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let location: Location = text.parse().unwrap();
        let found = location.objects(None, runtime.handle());
        let found = found.map_err(|error| error.to_string())?;
        let of = |object: &Object| {
            let name = Path::new(&object.name).file_name().unwrap();
            name.to_str().unwrap().to_owned()
        };
        Ok(found.iter().map(of).collect())
    }

    #[test]
    fn locations_are_told_apart() {
        let local = |text: &str| Ok(Location::Local(text.to_owned()));
        let s3 = |bucket: &str, key: &str| {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            Ok(Location::S3 { bucket, key })
        };
        for (text, location) in [
            ("-", Ok(Location::Input)),
            ("a/b.csv", local("a/b.csv")),
            ("s3://b/k/*.csv", s3("b", "k/*.csv")),
            ("s3://b", s3("b", "")),
            ("", Err(InvalidLocation)),
            ("s3://", Err(InvalidLocation)),
            ("s3:///k", Err(InvalidLocation)),
            ("s3://b*/k", Err(InvalidLocation)),
            ("gs://b/k", Err(InvalidLocation)),
            ("file://host/x.csv", Err(InvalidLocation)),
            ("file:x.csv", local("file:x.csv")),
        ] {
            assert_eq!(text.parse::<Location>(), location, "{text}");
            if let Ok(location) = location {
                assert!(location.to_string().starts_with(text), "{text}");
            }
        }
        let named = "file:///data/t=a%20b/x y.csv".parse();
        assert_eq!(named, local("/data/t=a%20b/x y.csv"));
    }

    #[test]
    fn files_folders_and_patterns_stand_for_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in [
            "b.csv", "a.csv", "n/c.csv", "n/d.txt", "n/_e.csv", "_m/f.csv",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        for (text, found) in [
            ("a.csv", vec!["a.csv"]),
            ("n/d.txt", vec!["d.txt"]),
            ("", vec!["a.csv", "b.csv", "c.csv"]),
            ("*.csv", vec!["a.csv", "b.csv"]),
            ("**/*.csv", vec!["a.csv", "b.csv", "c.csv"]),
            ("n/?.*", vec!["c.csv", "d.txt"]),
            ("{a,n/c}.csv", vec!["a.csv", "c.csv"]),
        ] {
            assert_eq!(names(&at(text)).unwrap(), found, "{text}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let all: Location = at("n").parse().unwrap();
        let all = all.objects(Some(Format::Csv), runtime.handle()).unwrap();
        assert_eq!(
            all.len(),
            2,
            "every ending where the format is said: {all:?}"
        );
        for (log, said) in [
            ("d/_delta_log/0.json", "it is a Delta Lake table"),
            ("i/metadata/v1.metadata.json", "it is an Iceberg table"),
            ("h/.hoodie/hoodie.properties", "it is an Apache Hudi table"),
        ] {
            let (path, table) = (folder.path().join(log), &log[..1]);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
            fs::write(folder.path().join(table).join("a.csv"), "x").unwrap();
            let refused = names(&at(table)).unwrap_err();
            assert!(refused.contains(said), "{refused}");
            assert_eq!(names(&at(&format!("{table}/*.csv"))).unwrap_err(), refused);
            assert_eq!(names(&at(&format!("{table}/a.csv"))).unwrap(), ["a.csv"]);
        }
        for (text, said) in [
            ("g.csv", "there is no such file"),
            ("*.parquet", "there is no such file"),
            ("_m/*/x", "there is no such file"),
            ("[.csv", "unclosed character class"),
        ] {
            let refused = names(&at(text)).unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
        let device = names("/dev/null").unwrap_err();
        assert!(device.contains("not a regular file"), "{device}");
    }
}
