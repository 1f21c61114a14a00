//! Plain English, held against the files: words and turns of phrase that make a reader stop are not
//! used in comments, messages and documents.
//!
//! Words in backticks, blocks of code and string literals of one word are not prose. AWS's own
//! messages have none of these words; one that had would be exempt by its text here.

use crate::repository;

/// A turn of phrase that is not used.
struct Rule {
    /// Its words, in lower case.
    words: &'static [&'static str],
    /// A word before it that makes it right.
    unless_after: &'static [&'static str],
    /// A word after it that makes it right.
    unless_before: &'static [&'static str],
    /// The plain way to write it.
    instead: &'static str,
}

impl Rule {
    const fn word(words: &'static [&'static str], instead: &'static str) -> Self {
        Self {
            words,
            unless_after: &[],
            unless_before: &[],
            instead,
        }
    }

    const fn negation(words: &'static [&'static str]) -> Self {
        Self {
            words,
            unless_after: &["there", "here"],
            unless_before: &["longer", "more"],
            instead: "is not a, are not",
        }
    }

    /// Whether the phrase begins at the word `at`.
    fn is_at(&self, words: &[String], at: usize) -> bool {
        let is =
            |word: Option<&String>, of: &[&str]| word.is_some_and(|word| of.contains(&&**word));
        let end = at + self.words.len();
        words[at..].len() >= self.words.len()
            && words[at..end].iter().zip(self.words).all(|(a, b)| a == b)
            && !is(
                at.checked_sub(1).map(|before| &words[before]),
                self.unless_after,
            )
            && !is(words.get(end), self.unless_before)
    }
}

const RULES: [Rule; 11] = [
    Rule::negation(&["is", "no"]),
    Rule::negation(&["are", "no"]),
    Rule::word(&["whoever"], "the caller that, a process that"),
    Rule::word(&["whom"], "for which, to which"),
    Rule::word(&["somebody"], "a user, another process"),
    Rule::word(&["nobody"], "no caller, no process"),
    Rule::word(&["he"], "it, they: most principals are services"),
    Rule::word(&["his"], "its, their"),
    Rule::word(&["him"], "it, them"),
    Rule::word(&["himself"], "itself, themselves"),
    Rule::word(&["tells"], "shows, reports, logs, returns"),
];

/// A comment, a string literal or a paragraph.
struct Passage {
    /// The line on which it begins, from 1.
    line: usize,
    text: String,
}

/// The comments and string literals of Rust source; consecutive lines of comment are one passage.
fn passages_of_source(source: &str) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    // Where the comment that was read last ends, if nothing but space has followed it.
    let mut comment_end = None;
    let mut at = 0;
    while let Some(next) = source[at..].chars().next() {
        let rest = &source[at..];
        let line = || source[..at].matches('\n').count() + 1;
        if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let text = rest[..end].trim_start_matches(['/', '!']);
            let space = comment_end.map(|end: usize| &source[end..at]);
            match passages.last_mut() {
                Some(last) if space.is_some_and(|space| space.matches('\n').count() == 1) => {
                    last.text.push(' ');
                    last.text.push_str(text);
                }
                _ => passages.push(Passage {
                    line: line(),
                    text: text.to_owned(),
                }),
            }
            at += end;
            comment_end = Some(at);
            continue;
        }
        let is_raw = rest.starts_with("r\"") || rest.starts_with("r#\"");
        let skipped =
            if is_raw && !source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                let (start, close) = if rest.starts_with("r\"") {
                    (2, "\"")
                } else {
                    (3, "\"#")
                };
                let end = rest[start..]
                    .find(close)
                    .map_or(rest.len(), |end| start + end);
                Some((&rest[start..end], end + close.len()))
            } else if next == '"' {
                let mut is_escaped = false;
                let end = rest[1..]
                    .find(|c| {
                        let is_end = c == '"' && !is_escaped;
                        is_escaped = c == '\\' && !is_escaped;
                        is_end
                    })
                    .map_or(rest.len(), |end| 1 + end);
                Some((&rest[1..end], end + 1))
            } else if next == '\'' {
                // A character, or a lifetime.
                let mut after = rest.chars().skip(1);
                match (after.next(), after.next()) {
                    (Some('\\'), Some(escaped)) => {
                        let end = rest[2 + escaped.len_utf8()..].find('\'').unwrap_or(0);
                        at += 2 + escaped.len_utf8() + end + 1;
                        continue;
                    }
                    (Some(one), Some('\'')) => {
                        at += 2 + one.len_utf8();
                        continue;
                    }
                    _ => None,
                }
            } else {
                None
            };
        match skipped {
            Some((text, bytes)) => {
                if text.contains(' ') {
                    let text = text.replace("\\\n", " ").replace("\\n", " ");
                    passages.push(Passage { line: line(), text });
                }
                at += bytes.min(rest.len());
                comment_end = None;
            }
            None => {
                if !next.is_whitespace() {
                    comment_end = None;
                }
                at += next.len_utf8();
            }
        }
    }
    passages
}

/// The paragraphs of a Markdown document, without blocks of code.
fn passages_of_document(text: &str) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let (mut is_fenced, mut is_open) = (false, false);
    for (index, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if is_fence || is_fenced || line.starts_with("    ") || line.trim().is_empty() {
            is_open = false;
        } else if is_open && let Some(last) = passages.last_mut() {
            last.text.push(' ');
            last.text.push_str(line);
        } else {
            is_open = true;
            passages.push(Passage {
                line: index + 1,
                text: line.to_owned(),
            });
        }
    }
    passages
}

/// The words of a passage in lower case, without those in backticks.
fn words(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split('`').step_by(2).collect();
    prose
        .join(" _ ")
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '-' | '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Where `rule` is broken: `path:line: the words around`.
fn findings(rule: &Rule, path: &str, passages: &[Passage]) -> Vec<String> {
    let mut found = Vec::new();
    for passage in passages {
        let words = words(&passage.text);
        for at in (0..words.len()).filter(|at| rule.is_at(&words, *at)) {
            let end = words.len().min(at + rule.words.len() + 3);
            let around = words[at.saturating_sub(3)..end].join(" ");
            found.push(format!("{path}:{}: … {around} …", passage.line));
        }
    }
    found
}

/// Path below the repository and passages of each file that is judged.
fn files() -> Vec<(String, Vec<Passage>)> {
    let root = repository::root();
    let judged = repository::text_files().into_iter().filter_map(|file| {
        let path = file.path.strip_prefix(root).unwrap_or(&file.path);
        let path = path.display().to_string();
        if path.starts_with("src/") && file.extension == "rs" {
            let passages = passages_of_source(&file.text);
            Some((path, passages))
        } else if file.extension == "md" && (path.starts_with("docs/") || !path.contains('/')) {
            let passages = passages_of_document(&file.text);
            Some((path, passages))
        } else {
            None
        }
    });
    judged.collect()
}

#[test]
fn prose_is_plain_english() {
    let files = files();
    let mut broken = Vec::new();
    for rule in &RULES {
        let found: Vec<_> = files
            .iter()
            .flat_map(|(path, passages)| findings(rule, path, passages))
            .collect();
        if !found.is_empty() {
            broken.push(format!(
                "\"{}\" is not plain English; write: {}\n{}",
                rule.words.join(" "),
                rule.instead,
                found.join("\n")
            ));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn phrases_are_found_in_prose_alone() {
    let found = |words: &'static [&'static str], source: &str| {
        findings(&Rule::negation(words), "x", &passages_of_source(source)).len()
    };
    let is_no: &[&str] = &["is", "no"];
    // In a comment, over two lines of one, in a message, and after a character that opens none.
    assert_eq!(found(is_no, "/// It is no key.\n"), 1);
    assert_eq!(found(is_no, "    // This is\n    // no key.\n"), 1);
    assert_eq!(found(is_no, "let a = \"this is no \\\n    key\";"), 1);
    assert_eq!(found(is_no, "let a = '\"'; // it is no key"), 1);
    assert_eq!(found(is_no, "let a = r#\"it \"is no key\"#;"), 1);
    // Right, apart, code, a name.
    assert_eq!(
        found(is_no, "// There is no key. It is no longer here.\n"),
        0
    );
    assert_eq!(found(is_no, "// It is\n\n// no key.\n"), 0);
    assert_eq!(found(is_no, "// It says `is no`.\nlet is = no;"), 0);
    let nobody: &[&str] = &["nobody"];
    assert_eq!(found(nobody, "let a = f(\"nobody\");"), 0);
    assert_eq!(found(nobody, "let a = f(\"nobody is there\");"), 1);
    let paragraphs =
        passages_of_document("It is\nno key.\n\n    is no key\n\n```\nis no key\n```\n");
    let rule = Rule::negation(is_no);
    assert_eq!(findings(&rule, "x", &paragraphs), ["x:1: … it is no key …"]);
}
