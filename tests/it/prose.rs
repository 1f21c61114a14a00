//! Checks the width of prose: comments and documents wrap at 100 columns.
//!
//! Tables, drawings, commands and single words, such as addresses, are as wide as they are.

use crate::repository;

/// Characters of a line.
const COLUMNS_MAX: usize = 100;

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

#[test]
fn prose_wraps_at_100_columns() {
    let mut wide = Vec::new();
    for file in repository::text_files() {
        for (index, line) in file.text.lines().enumerate() {
            let is_wide = line.chars().count() > COLUMNS_MAX;
            if is_wide && prose(file.extension, line).is_some() {
                wide.push(format!("{}:{}", file.path.display(), index + 1));
            }
        }
    }
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
