//! The import order of the modules, held against the source.
//!
//! A module imports only from modules to its left; the drawing is in docs/design.md, under
//! Modules. What is read are the paths of the source that begin at the crate's root:
//! `crate::…`, `keymill::…`, and `super::…` where it climbs that far.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from left to right; those of one line know nothing of each other.
const ORDER: [&[&str]; 21] = [
    &["clock", "file", "memory", "metrics"],
    &["crypto"],
    &["context", "key"],
    &["columns", "envelope"],
    &["operation"],
    &["policy"],
    &["keystore"],
    &["audit", "auth", "pool", "rates"],
    &["api"],
    &["stream"],
    &["admin"],
    &["bulk"],
    &["export", "table"],
    &["provision", "rewrap"],
    &["census"],
    &["verify"],
    &["transport"],
    &["config"],
    &["daemon"],
    &["cli"],
    &["main"],
];
/// Past this many lines a file hides a second noun.
const LINES_MAX: usize = 500;
/// Files that are longer all the same, each with its reason beside it.
const LONGER: [&str; 0] = [];
/// What opens a file by its path, and so may follow a link, or wait for a FIFO for ever.
const OPENERS: [&str; 7] = [
    "File::open(",
    "File::create(",
    "File::options(",
    "OpenOptions::new(",
    "fs::read(",
    "fs::read_to_string(",
    "fs::write(",
];
/// Where files are opened all the same, each with its reason.
const OPENS: [(&str, &str); 3] = [
    ("file/open.rs", "it is the place for it"),
    ("audit/journal.rs", "the kernel's boot id, in /proc"),
    ("pool/clone_word.rs", "devices and files of the kernel"),
];
/// Names that say nothing of what is inside.
const NAMELESS: [&str; 6] = ["common", "helpers", "manager", "mod", "types", "util"];

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|places| places.contains(&module))
}

/// A path in the source that begins at the crate's root.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    module: String,
}

/// The faults of one file: `module` is its path from the crate's root, such as `["pool", "lane"]`.
fn faults(module: &[&str], source: &str) -> Vec<String> {
    let [top, ..] = module else {
        return Vec::new();
    };
    let here = place(top).unwrap_or_else(|| panic!("{top} has no place in the order"));
    let fault = |import: Import| {
        let Import { line, module } = import;
        match place(&module) {
            _ if module == *top => None,
            Some(there) if there < here => None,
            Some(_) => Some(format!("line {line}: {top} imports {module}")),
            None => Some(format!(
                "line {line}: {module} is no module: import what stands at the root from where it is defined"
            )),
        }
    };
    imports(module, source)
        .into_iter()
        .filter_map(fault)
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    PathSeparator,
    Mark(char),
}

/// Words and marks with their lines; comments, strings and characters are left out.
fn tokens(source: &str) -> Vec<(usize, Token)> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let (mut index, mut line, mut found) = (0, 1, Vec::new());
    while index < text.len() {
        let from = index;
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < text.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                let mut depth = 0;
                while index < text.len() {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => depth += 1,
                        ('*', '/') => depth -= 1,
                        _ => {
                            index += 1;
                            continue;
                        }
                    }
                    index += 2;
                    if depth == 0 {
                        break;
                    }
                }
            }
            '"' => index = string_end(&text, index),
            '\'' if at(index + 1) == '\\' || at(index + 2) == '\'' => {
                index += if at(index + 1) == '\\' { 3 } else { 2 };
                while index < text.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            ':' if at(index + 1) == ':' => {
                found.push((line, Token::PathSeparator));
                index += 2;
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                while at(index).is_alphanumeric() || at(index) == '_' {
                    index += 1;
                }
                let word: String = text[from..index].iter().collect();
                let hashes = (index..).take_while(|index| at(*index) == '#').count();
                let raw = matches!(word.as_str(), "r" | "br" | "cr");
                if raw && at(index + hashes) == '"' {
                    index = raw_string_end(&text, index, hashes);
                } else {
                    found.push((line, Token::Word(word)));
                }
            }
            mark => {
                if !mark.is_whitespace() {
                    found.push((line, Token::Mark(mark)));
                }
                index += 1;
            }
        }
        let end = index.min(text.len());
        line += text[from..end]
            .iter()
            .filter(|letter| **letter == '\n')
            .count();
    }
    found
}

fn string_end(text: &[char], from: usize) -> usize {
    let mut index = from + 1;
    while index < text.len() && text[index] != '"' {
        index += if text[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn raw_string_end(text: &[char], from: usize, hashes: usize) -> usize {
    let mut index = from + hashes + 1;
    while index < text.len() {
        let closes = text[index] == '"'
            && text[index + 1..]
                .iter()
                .take(hashes)
                .filter(|letter| **letter == '#')
                .count()
                == hashes;
        index += 1;
        if closes {
            return index + hashes;
        }
    }
    index
}

fn imports(module: &[&str], source: &str) -> Vec<Import> {
    let tokens = tokens(source);
    let token = |index: usize| tokens.get(index).map(|(_, token)| token);
    let word = |index: usize| match token(index) {
        Some(Token::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    let is = |index: usize, mark: char| token(index) == Some(&Token::Mark(mark));
    let is_separator = |index: usize| token(index) == Some(&Token::PathSeparator);
    // Modules written out within the file, each with the depth of braces that it begins at.
    let (mut depth, mut inner) = (0_usize, Vec::new());
    let mut found = Vec::new();
    for index in 0..tokens.len() {
        if is(index, '{') {
            depth += 1;
            if index >= 2 && word(index - 2) == Some("mod") {
                inner.push(depth);
            }
        } else if is(index, '}') {
            inner.retain(|begin| *begin != depth);
            depth = depth.saturating_sub(1);
        }
        let begins = (index == 0 || !is_separator(index - 1)) && is_separator(index + 1);
        let root = match word(index) {
            Some("crate" | "keymill") if begins => Some(index + 2),
            Some("super") if begins => {
                let climbs = (0..)
                    .take_while(|climb| {
                        word(index + 2 * climb) == Some("super")
                            && is_separator(index + 2 * climb + 1)
                    })
                    .count();
                (climbs == module.len() + inner.len()).then_some(index + 2 * climbs)
            }
            _ => None,
        };
        let Some(root) = root else { continue };
        let mut import = |index: usize| {
            if let Some(module) = word(index).filter(|module| *module != "self") {
                let (line, module) = (tokens[index].0, module.to_owned());
                found.push(Import { line, module });
            }
        };
        if !is(root, '{') {
            import(root);
            continue;
        }
        let mut group = 0;
        for index in root..tokens.len() {
            if is(index, '{') {
                group += 1;
            } else if is(index, '}') {
                group -= 1;
            }
            if group == 0 {
                break;
            }
            if group == 1 && (is(index, '{') || is(index, ',')) {
                import(index + 1);
            }
        }
    }
    found
}

/// Every source file with its path from `src`.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let source = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap().to_owned(), source)
        })
        .collect()
}

#[test]
fn modules_import_only_what_stands_to_their_left() {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for (path, source) in sources() {
        let name = path.with_extension("");
        let module: Vec<&str> = name
            .iter()
            .map(|part| part.to_str().unwrap())
            .filter(|part| *part != "lib")
            .collect();
        seen.extend(module.first().map(|top| (*top).to_owned()));
        let faults = faults(&module, &source);
        found.extend(
            faults
                .iter()
                .map(|fault| format!("src/{}, {fault}", path.display())),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let absent: Vec<_> = ORDER
        .iter()
        .copied()
        .flatten()
        .filter(|module| !seen.iter().any(|top| top == **module))
        .collect();
    assert!(absent.is_empty(), "the order names {absent:?}");
}

#[test]
fn files_are_short_and_named_after_what_they_are() {
    for (path, source) in sources() {
        let shown = path.display().to_string();
        let lines = source.lines().count();
        assert!(
            lines <= LINES_MAX || LONGER.contains(&shown.as_str()),
            "src/{shown} has {lines} lines"
        );
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!NAMELESS.contains(&name), "src/{shown}");
    }
}

#[test]
fn folder_1_files_are_opened_in_one_place() {
    for (path, source) in sources() {
        let shown = path.display().to_string();
        let is_test = shown.contains("/tests") || shown.ends_with("tests.rs");
        let excused = OPENS.iter().any(|(file, _)| shown == *file);
        if is_test || excused {
            continue;
        }
        let (code, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        for opener in OPENERS {
            assert!(
                !code.contains(opener),
                "src/{shown}: {opener}…) is not file::open's"
            );
        }
    }
}

#[test]
fn a_reversed_import_is_found_however_it_is_written() {
    let reversed: [(&[&str], &str); 11] = [
        (&["envelope"], "use crate::pool::Pool;"),
        (&["pool"], "use crate::auth::Peer;"),
        (&["auth"], "use crate::pool::Pool;"),
        (&["clock"], "use crate::metrics::Metrics;"),
        (&["key", "arn"], "fn f() -> crate::keystore::Snapshot {}"),
        (
            &["crypto"],
            "pub(crate) use crate::{clock::Clock, key::{KeyId, arn::Arn}};",
        ),
        (&["crypto"], "use {std::fmt, crate::key::KeyId};"),
        (&["api", "error"], "use super::super::transport::http;"),
        (&["api"], "mod tests { use super::super::transport::http; }"),
        (
            &["api"],
            "macro_rules! m { () => { $crate::transport::http() } }",
        ),
        (
            &["export"],
            "/* a /* comment */ */ fn f() { keymill::cli::run(\"\\\"\", '\"', r#\"\"\"#) }",
        ),
    ];
    for (module, source) in reversed {
        assert_eq!(faults(module, source).len(), 1, "{source}");
    }
}

#[test]
fn what_only_looks_like_an_import_is_none() {
    let fine: [(&[&str], &str); 9] = [
        (&["pool"], "use crate::keystore::{KeyEntry, snapshot};"),
        (&["export"], "use crate::auth::Credentials;"),
        (
            &["pool", "lane"],
            "use crate::pool::queue::Queue; use super::Pool;",
        ),
        (
            &["crypto"],
            "// use crate::api::Api;\n/// [`crate::api`]\nfn f() {}",
        ),
        (
            &["crypto"],
            "const TEXT: &str = \"crate::api::Api \\\" crate::api\";",
        ),
        (
            &["crypto"],
            "const TEXT: &str = r#\"\" crate::api\"#; const C: char = '\"';",
        ),
        (&["crypto"], "pub(crate) fn f<'a>(api: &'a str) {}"),
        (
            &["pool"],
            "mod sync { use super::queue; }\nuse rayon::api::crate_name;",
        ),
        (&["main"], "fn main() { keymill::cli::run() }"),
    ];
    for (module, source) in fine {
        assert_eq!(faults(module, source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn a_fault_names_its_line_and_both_modules() {
    let source = "//! Words.\n\nuse std::fmt;\nuse crate::cli::output;\nuse crate::MAX;\n";
    let found = faults(&["api", "wire"], source);
    assert_eq!(found[0], "line 4: api imports cli");
    assert!(
        found[1].starts_with("line 5: MAX is no module"),
        "{found:?}"
    );
}
