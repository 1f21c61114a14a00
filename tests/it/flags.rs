//! Flags are the command line's: no text of the library outside of `src/cli` has one. A program
//! that calls the library, or the daemon, has none.

use crate::repository;

/// The flags in the code of a file, by line; comments and tests are left out.
fn flags(text: &str) -> Vec<(usize, &str)> {
    let code = text.split("#[cfg(test)]\nmod tests {").next();
    let lines = code.unwrap_or_default().lines().enumerate();
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let is_flag = |(at, _): &(usize, &str), line: &str| {
        let rest = line.get(at + 2..).unwrap_or_default();
        rest.starts_with(|first: char| first.is_ascii_lowercase())
    };
    lines
        .filter(|(_, line)| !is_comment(line))
        .filter(|(_, line)| {
            let mut found = line.match_indices("--");
            found.any(|found| is_flag(&found, line))
        })
        .map(|(number, line)| (number + 1, line.trim()))
        .collect()
}

#[test]
fn no_text_of_the_library_has_a_flag() {
    let mut found = Vec::new();
    for file in repository::text_files() {
        let path = file.path.strip_prefix(repository::root());
        let path = path.unwrap_or(&file.path);
        let name = path.to_str().unwrap();
        let is_code = file.extension == "rs" && name.starts_with("src/");
        let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
        let is_cli = name.starts_with("src/cli");
        if is_code && !is_test && !is_cli {
            let flags = flags(&file.text).into_iter();
            found.extend(flags.map(|(line, text)| format!("{name}:{line}: {text}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn flags_are_told_from_comments() {
    let text =
        "// --out\nlet a = 1;\nlet b = \"with --out\"; // --in\n#[cfg(test)]\nmod tests {\n--x";
    assert_eq!(flags(text), [(3, "let b = \"with --out\"; // --in")]);
    assert!(flags("let drawing = \"a -- b\";").is_empty());
}
