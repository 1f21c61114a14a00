//! Links between documents, held against the files: each leads to a file of the repository, and to
//! a heading of it where it names one.

use std::fs;
use std::path::{Path, PathBuf};

/// Where documents are looked for, from the root of the repository.
const FOLDERS: [&str; 5] = [".", "docs", "benches", "clients/python", "tests/vectors"];

/// The targets of the links of a document, which may be broken over lines; code has none.
fn targets(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut in_fence = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence && !line.starts_with("    ") {
            prose += line;
            prose.push(' ');
        }
    }
    let links = prose.split("](").skip(1);
    links
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.trim().to_owned())
        .collect()
}

/// The anchor that a heading has on the hosting site: lower case, without punctuation, with dashes.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Why a link of a document in `folder` leads nowhere.
fn fault(folder: &Path, document: &Path, target: &str) -> Option<String> {
    let (path, named) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        document.to_owned()
    } else {
        folder.join(path)
    };
    if !path.exists() {
        return Some("there is no such file".to_owned());
    }
    if named.is_empty() {
        return None;
    }
    let text = fs::read_to_string(path).unwrap();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    let is_there = headings.any(|heading| anchor(heading) == named);
    (!is_there).then(|| "there is no such heading".to_owned())
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = FOLDERS.map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut faults = Vec::new();
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in targets(&text) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let found = fault(document.parent().unwrap(), &document, &target);
            faults.extend(found.map(|why| format!("{}: {target}: {why}", document.display())));
        }
    }
    assert!(links > 50, "{links} links were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn targets_and_anchors_are_those_of_markdown() {
    let text = "[a](b.md#c), [two\nlines](d.md)\n\n    [code](x)\n```\n[code](y)\n```\n";
    assert_eq!(targets(text), ["b.md#c", "d.md"]);
    assert_eq!(anchor("## Who may do what?"), "who-may-do-what");
    assert_eq!(
        anchor("## Ciphertext blob, version 1"),
        "ciphertext-blob-version-1"
    );
}
