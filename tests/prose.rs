//! The width of prose, held against the files: comments and documents wrap at 100 columns.
//!
//! Tables, drawings, commands and single words, such as addresses, are as wide as they are.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Characters of a line.
const COLUMNS_MAX: usize = 100;
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

/// The prose of one line, if it has any and it may be wrapped.
fn prose<'a>(extension: &str, line: &'a str) -> Option<&'a str> {
    let trimmed = line.trim_start();
    let comment = |mark: &str| trimmed.strip_prefix(mark);
    let text = match extension {
        "rs" => ["//!", "///", "//"].into_iter().find_map(comment)?,
        "md" => line,
        _ => comment("#")?,
    };
    let text = if extension == "md" {
        text
    } else {
        text.strip_prefix(' ').unwrap_or(text)
    };
    let is_table = text.starts_with('|');
    // Commands and drawings are indented by four, as Markdown has it.
    let is_block = text.starts_with("    ");
    let is_drawing = text.contains('─');
    let is_one_word = !text.trim().trim_start_matches("- ").contains(' ');
    (!is_table && !is_block && !is_drawing && !is_one_word).then_some(text)
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

#[test]
fn prose_wraps_at_100_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), folder != ".", &mut files);
    }
    let mut wide = Vec::new();
    let mut read = 0;
    for path in files {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let extension = match extension {
            Some(extension @ ("rs" | "md" | "py" | "toml" | "yml" | "sh" | "service")) => extension,
            None => "sh",
            Some(_) => continue,
        };
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        read += 1;
        for (index, line) in text.lines().enumerate() {
            let is_wide = line.chars().count() > COLUMNS_MAX;
            if is_wide && prose(extension, line).is_some() {
                wide.push(format!("{}:{}", path.display(), index + 1));
            }
        }
    }
    assert!(read > 300, "{read} files were read");
    assert!(
        wide.is_empty(),
        "wider than {COLUMNS_MAX} columns:\n{}",
        wide.join("\n")
    );
}

#[test]
fn what_may_be_wrapped_is_told_from_what_may_not() {
    assert!(prose("rs", "    /// A sentence that goes on.").is_some());
    assert!(prose("rs", "    let code = 1; // beside code").is_none());
    assert!(prose("rs", "//! | a | table |").is_none());
    assert!(prose("rs", "//! in ─► out").is_none());
    assert!(prose("md", "A sentence.").is_some());
    assert!(prose("md", "    keymill export").is_none());
    assert!(prose("md", "https://example.com/a").is_none());
    assert!(prose("sh", "# A sentence.").is_some());
    assert!(prose("sh", "run this").is_none());
}
