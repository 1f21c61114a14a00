//! Checks that the paths and test names in documents, comments and scripts exist, so that a file
//! that moves takes its mentions with it.

use crate::repository::{self, root};

/// Paths that begin so are from the root of the repository.
const FOLDERS: [&str; 7] = [
    "benches/",
    "clients/",
    "dashboards/",
    "docs/",
    "fuzz/",
    "src/",
    "tests/",
];
const EXTENSIONS: [&str; 8] = [
    ".rs", ".py", ".mjs", ".md", ".toml", ".json", ".yml", ".svg",
];
/// moto's own tests, which are in its sources.
const MOTO: &str = "tests/test_kms/";

/// The words of a line that are paths from the root.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    words(line).filter(|word| {
        let from_root = FOLDERS.iter().any(|folder| word.starts_with(folder));
        let is_file = EXTENSIONS.iter().any(|end| word.ends_with(end));
        from_root && is_file && !word.starts_with(MOTO)
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || "._/$-".contains(letter);
    line.split(move |letter| !in_word(letter))
        .map(|word| word.trim_end_matches('.'))
}

/// The names after `--test` and `--bench`.
fn programs<'a>(line: &'a str, option: &str) -> Vec<&'a str> {
    let words: Vec<&str> = words(line).collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == option);
    let names = pairs.map(|pair| pair[1]);
    names
        .filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()))
        .collect()
}

/// Whether cargo finds a program of this name in this folder.
fn is_program(folder: &str, name: &str) -> bool {
    let folder = root().join(folder);
    folder.join(name).with_extension("rs").exists() || folder.join(name).join("main.rs").exists()
}

/// The paths and names in a line of a file that do not exist.
fn stale(line: &str) -> Vec<String> {
    let mut stale = Vec::new();
    stale.extend(paths(line).filter(|path| !root().join(path).exists()));
    for (option, folder) in [("--test", "tests"), ("--bench", "benches")] {
        let missing = |name: &&str| !is_program(folder, name);
        stale.extend(programs(line, option).into_iter().filter(missing));
    }
    stale.into_iter().map(str::to_owned).collect()
}

#[test]
fn what_is_mentioned_is_there() {
    let mut missing = Vec::new();
    for file in repository::text_files() {
        if file.path.ends_with("tests/it/paths.rs") {
            continue;
        }
        for (index, line) in file.text.lines().enumerate() {
            for name in stale(line) {
                missing.push(format!("{}:{}: {name}", file.path.display(), index + 1));
            }
        }
    }
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

/// SECURITY.md names the files of `src` that hold each promise.
#[test]
fn what_security_md_names_is_there() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let is_source = |word: &&str| word.ends_with(".rs");
    let sources: Vec<&str> = text.lines().flat_map(words).filter(is_source).collect();
    assert!(sources.len() > 50, "{} were found", sources.len());
    for source in sources {
        let found = ["", "src"].map(|folder| root().join(folder).join(source).exists());
        assert!(found.contains(&true), "{source} is not there");
    }
}

#[test]
fn a_stale_name_is_found() {
    assert!(stale("see `tests/it/paths.rs`, and src/lib.rs.").is_empty());
    assert_eq!(stale("see `tests/server/tls.rs`."), ["tests/server/tls.rs"]);
    assert!(stale("cargo test --test it; cargo test --test loom").is_empty());
    assert_eq!(stale("`cargo test --test server`"), ["server"]);
    assert_eq!(stale("cargo bench --bench old -- none"), ["old"]);
}
