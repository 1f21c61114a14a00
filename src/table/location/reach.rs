//! Whether a pattern would find the parts of a job whose table it is: they would be taken for rows
//! of the table where the job is resumed.

use super::{PATTERN, matcher, split};
use globset::GlobMatcher;
use std::path::{Path, PathBuf};

/// How many parts of a job, and how many folders deep, are held against a pattern.
const PARTS: usize = 1000;
const DEPTH: usize = 4;
/// Names of folders that are tried at each depth.
const NAMES_MAX: usize = 5;

/// Whether the files that a job writes into this folder could be taken for files of the pattern:
/// the folder has no links in it.
#[must_use]
pub fn reaches(pattern: &str, folder: &Path) -> bool {
    let (base, rest) = split(pattern);
    let base = if base.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        base
    };
    let Ok(base) = base.canonicalize() else {
        return false;
    };
    let names = names(&rest.to_string_lossy());
    let fixed = globset::escape(&base.to_string_lossy());
    let whole = Path::new(&fixed).join(rest);
    let Ok(matcher) = matcher(&whole.to_string_lossy()) else {
        return false;
    };
    finds_parts(&matcher, &names, folder)
}

/// As [`reaches`], of a pattern of keys and the prefix of a job's objects.
#[must_use]
pub fn reaches_prefix(pattern: &str, prefix: &str) -> bool {
    let matcher = matcher(pattern);
    let finds = |matcher| finds_parts(&matcher, &names(pattern), Path::new(prefix));
    pattern.contains(PATTERN) && matcher.is_ok_and(finds)
}

fn finds_parts(matcher: &GlobMatcher, names: &[String], folder: &Path) -> bool {
    let is_found = |folder: &PathBuf| {
        let mut numbers = 0..PARTS;
        numbers.any(|number| matcher.is_match(folder.join(format!("part-{number:05}.parquet"))))
    };
    let mut folders = vec![folder.to_owned()];
    for _ in 0..DEPTH {
        if folders.iter().any(is_found) {
            return true;
        }
        let below = |folder: &PathBuf| names.iter().map(|name| folder.join(name)).collect();
        folders = folders.iter().flat_map::<Vec<_>, _>(below).collect();
    }
    folders.iter().any(is_found)
}

/// Names of folders that parts may be in: one of any column, and such as the pattern has.
fn names(pattern: &str) -> Vec<String> {
    let mut names = vec!["a=a".to_owned()];
    let components = pattern
        .split('/')
        .filter(|component| component.contains('='));
    for name in components.map(example) {
        if !names.contains(&name) && names.len() < NAMES_MAX {
            names.push(name);
        }
    }
    names
}

/// A text that a component of a pattern matches.
fn example(component: &str) -> String {
    let (mut out, mut letters) = (String::new(), component.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '*' | '?' => out.push('a'),
            '\\' => out.extend(letters.next()),
            '[' => {
                let class: String = letters
                    .by_ref()
                    .take_while(|letter| *letter != ']')
                    .collect();
                let others = class.strip_prefix(['!', '^']);
                // Ranges have letters and digits for the most part.
                let mut free = "~_az09".chars().filter(|letter| !class.contains(*letter));
                let chosen = match others {
                    Some(_) => free.next(),
                    None => class.chars().next(),
                };
                out.extend(chosen);
            }
            '{' => {
                let choices: String = letters
                    .by_ref()
                    .take_while(|letter| *letter != '}')
                    .collect();
                out.push_str(&example(choices.split(',').next().unwrap_or_default()));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_pattern_reaches_the_parts_that_it_would_take() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        fs::create_dir_all(folder.join("in[1]")).unwrap();
        fs::create_dir_all(folder.join("out")).unwrap();
        for (pattern, out, is_reached) in [
            ("**/*.parquet", "in[1]/out", true),
            ("in[[]1]/*/*.parquet", "in[1]/out", true),
            ("in[[]1]/../**/*.parquet", "in[1]/out", false),
            ("*/*/*/*", "in[1]/out", true),
            ("**/part-0001?.parquet", "in[1]/out", true),
            ("**/*.csv", "in[1]/out", false),
            ("*/*.parquet", "in[1]/out", false),
            ("in[[]1]/*.parquet", "out", false),
            ("gone/**/*.parquet", "gone/out", false),
            // Parts are in folders of the table's own columns.
            ("out/tenant=*/*.parquet", "out", true),
            ("*/tenant=*/day=*/*.parquet", "out", true),
            ("*/day=?*/part-[0-9]*.parquet", "out", true),
            ("out/{tenant,zone}=[!_]*/*", "out", true),
            ("out/tenant=a*/day=*/*.parquet", "other", false),
            ("out/tenant=*/*.csv", "out", false),
            ("out/tenant=*/*.parquet", "out/deep/er", false),
        ] {
            let pattern = format!("{}/{pattern}", folder.display());
            let reached = reaches(&pattern, &folder.join(out));
            assert_eq!(reached, is_reached, "{pattern} {out}");
        }
    }

    #[test]
    fn a_pattern_of_keys_reaches_the_parts_below_a_prefix() {
        for (pattern, prefix, is_reached) in [
            ("in/**", "in/out", true),
            ("**/*.parquet", "", true),
            ("in/*.parquet", "in/out", false),
            ("in/**/*.csv", "in/out", false),
            ("in/out/part-00000.parquet", "in/out", false),
            ("in/tenant=*/*.parquet", "in", true),
            ("in/tenant=*/*.parquet", "in/out", false),
        ] {
            let reached = reaches_prefix(pattern, prefix);
            assert_eq!(reached, is_reached, "{pattern} {prefix}");
        }
    }

    #[test]
    fn an_example_is_what_its_pattern_matches() {
        for component in [
            "tenant=*",
            "t=?x",
            "{a,b}=[0-9]",
            "x=[!a-c]",
            "\\*=a",
            "a=b",
        ] {
            let example = example(component);
            let matcher = matcher(component).unwrap();
            assert!(matcher.is_match(&example), "{component} {example}");
        }
    }
}
