//! The import order of the modules, held against the source.
//!
//! A top-level module imports only from modules to its left; the drawing is in docs/design.md,
//! under Modules. What is read are the paths of the source that begin at the crate's root:
//! `crate::…`, `keymill::…`, and `super::…` where it climbs that far.
//!
//! Inside a top-level module, files use each other one way: [`circles`] has that rule.

use circles::{Excuse, Files};
use source::{Name, Source};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod source;

/// Modules from left to right; those of one line know nothing of each other.
const ORDER: [&[&str]; 23] = [
    &[
        "causes",
        "clock",
        "error_code",
        "endpoint",
        "file",
        "memory",
        "metrics",
        "persistent",
        "s3",
        "service_manager",
    ],
    &["crypto", "tls_files"],
    &["context", "key", "pkcs11"],
    &["columns", "envelope"],
    &["operation", "table"],
    &["policy"],
    &["keystore"],
    &["audit", "auth", "backup", "pool", "rates"],
    &["attestation", "web_identity", "xks_proxy"],
    &["api"],
    &["stream"],
    &["admin"],
    &["sts", "tagging", "xks"],
    &["bulk"],
    &["splice"],
    &["export", "provision", "rewrap"],
    &["bind", "census"],
    &["verify"],
    &["transport"],
    &["config"],
    &["daemon"],
    &["cli"],
    &["main"],
];
/// Uses that close a circle between the files of a folder all the same.
const EXCUSED: [Excuse; 3] = [
    (
        "policy/principal",
        "policy/document",
        "a principal has its policies, and conditions in them read the principal",
    ),
    (
        "policy/facts",
        "policy/document",
        "a key has its policy, and conditions in it read the key",
    ),
    (
        "policy/facts",
        "policy/trust",
        "a role has its trust policy, and conditions in it read the role",
    ),
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
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    let imports = imports(module.len(), source);
    imports.into_iter().filter_map(fault).collect()
}

/// What a file imports from the crate's root, where `depth` is that of its module.
fn imports(depth: usize, source: &str) -> BTreeSet<Import> {
    let import = |name: Name| {
        let climbs = name.segments.iter().take_while(|part| *part == "super");
        let root = match name.segments[0].as_str() {
            "crate" | "keymill" => 1,
            "super" if climbs.clone().count() == depth + name.inner.len() => climbs.count(),
            _ => return None,
        };
        let module = name.segments.get(root)?.clone();
        let line = name.line;
        Some(Import { line, module })
    };
    let names = Source::parse(source).names;
    names.into_iter().filter_map(import).collect()
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
        let module = module_of(&path);
        let parts: Vec<&str> = module.iter().map(String::as_str).collect();
        let faults = faults(&parts, &source);
        seen.extend(module.into_iter().next());
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

/// The module of a file, such as `["pool", "lane"]`; nothing for that of the crate.
fn module_of(path: &Path) -> Vec<String> {
    let name = path.with_extension("");
    let parts = name.iter().map(|part| part.to_str().unwrap().to_owned());
    parts.filter(|part| part != "lib").collect()
}

#[test]
fn files_of_a_module_use_each_other_one_way() {
    let mut files = Files::default();
    for (path, source) in sources() {
        let module = module_of(&path);
        if !module.is_empty() {
            files.add(&module, &source);
        }
    }
    let circles = files.circles(&EXCUSED);
    assert!(
        circles.is_empty(),
        "{} circles:\n{}",
        circles.len(),
        circles.join("\n\n")
    );
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
