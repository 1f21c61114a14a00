//! The files of the repository that people wrote, for the tests that read them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where files are looked for, from the root of the repository.
const FOLDERS: [&str; 10] = [
    ".",
    "src",
    "tests",
    "benches",
    "fuzz",
    "config",
    "docs",
    "clients",
    "dashboards",
    ".github",
];
/// What others wrote or what was built.
const LEFT_OUT: [&str; 8] = [
    ".git",
    ".venv",
    "__pycache__",
    "corpus",
    "node_modules",
    "seeds",
    "target",
    "vectors",
];
const EXTENSIONS: [&str; 8] = ["rs", "md", "py", "toml", "yml", "sh", "service", "socket"];

pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    /// What the name ends with; `sh` for scripts, whose names have no end.
    pub(crate) extension: &'static str,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file, document, script and setting.
pub(crate) fn text_files() -> Vec<TextFile> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), folder != ".", &mut paths);
    }
    let files: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(files.len() > 300, "{} files were found", files.len());
    files
}

fn collect(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !LEFT_OUT.contains(&name) && deep {
            collect(&path, deep, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn read(path: PathBuf) -> Option<TextFile> {
    let extension = match path.extension() {
        Some(end) => EXTENSIONS.into_iter().find(|known| end == *known)?,
        None => "sh",
    };
    let text = fs::read_to_string(&path).ok()?;
    Some(TextFile {
        path,
        extension,
        text,
    })
}
