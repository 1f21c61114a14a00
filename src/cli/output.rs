//! The only printer: results on standard output, everything else on standard error.
//!
//! Texts of the store and of a server are anybody's: a description may hold sequences that a
//! terminal obeys, line feeds that make a row of their own, and marks that turn letters around. So
//! each is printed by [`shown`], and whatever is printed has no such character but the line feeds
//! between its lines. JSON is printed as it is: it has escapes of its own.

use crate::cli::failure::{Failure, Status};
use crate::cli::log;
use crate::cli::terminal::escaped;
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

pub use crate::cli::terminal::shown;

/// Prints a result and a line feed.
///
/// # Errors
/// [`Failure`] when standard output fails; a reader that has had enough (`| head`) does not count
/// as a failure.
pub fn result(text: &str) -> Result<(), Failure> {
    print(&escaped(text))
}

/// Prints a result that holds secrets, without making another copy: a line feed ends it, so that
/// none of it stays in the buffer of standard output.
///
/// # Errors
/// As [`result`].
pub fn secret(mut text: Zeroizing<String>) -> Result<(), Failure> {
    if text.capacity() == text.len() {
        return Err(Failure::failed("a text of secrets has no room for its end"));
    }
    text.push('\n');
    write(&text)
}

fn print(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Prints a result as JSON on one line.
///
/// # Errors
/// As [`result`].
pub fn json(value: &Value) -> Result<(), Failure> {
    print(&value.to_string())
}

/// Prints a text of our own that is made of many lines, with the tabs and escapes that it has.
///
/// # Errors
/// As [`result`].
pub fn page(text: &str) -> Result<(), Failure> {
    write(text)
}

/// Whether standard error has JSON lines, as `--json` asks.
static IN_JSON: AtomicBool = AtomicBool::new(false);

/// From now on everything beside results is a line of JSON, as results are.
pub fn speak_json() {
    IN_JSON.store(true, Ordering::Relaxed);
}

/// What wrote a line, as the log's own lines name it.
const TARGET: &str = "keymill::cli";

/// A line of JSON on standard error, with the members that the log's own lines have.
fn event(level: &str, message: &str, status: Option<Status>) {
    let mut line = json!({
        "timestamp": log::timestamp(),
        "level": level,
        "message": message,
        "target": TARGET,
    });
    if let Some(status) = status {
        line["status"] = (status as u8).into();
    }
    let _closed = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a line for the user that is not a result.
pub fn notice(text: &str) {
    if IN_JSON.load(Ordering::Relaxed) {
        return event("INFO", text, None);
    }
    // A user that closed standard error does not want the line.
    let _closed = writeln!(io::stderr().lock(), "{}", escaped(text));
}

/// Prints why a command failed.
pub fn failure(failure: &Failure) {
    for line in failure.message.lines() {
        if IN_JSON.load(Ordering::Relaxed) {
            event("ERROR", line, Some(failure.status));
            continue;
        }
        notice(&format!("keymill: {line}"));
    }
}

/// Prints help, the version, or the fault in the command line.
#[must_use]
pub fn grammar(error: &clap::Error) -> Status {
    if !error.use_stderr() {
        let _closed = error.print();
        return Status::Done;
    }
    if IN_JSON.load(Ordering::Relaxed) {
        let rendered = error.render().to_string();
        let message = rendered.trim().trim_start_matches("error: ");
        event("ERROR", message, Some(Status::Usage));
    } else {
        let _closed = error.print();
    }
    Status::Usage
}

/// Asks before something is destroyed, unless `yes` has been said already.
///
/// # Errors
/// [`Failure`] when the answer is not yes, or when there is no terminal to ask on.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = format!("{question} Say so with --yes: there is no terminal to ask on");
        return Err(Failure::usage(message));
    }
    let mut err = io::stderr().lock();
    let mut answer = String::new();
    let question = escaped(question);
    let asked = write!(err, "{question} Type yes to go on: ").and_then(|()| err.flush());
    let answered = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    match answered {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::failed("not done")),
    }
}

/// Two columns, the first as wide as its widest entry.
#[must_use]
pub fn columns(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| {
        format!("{name:width$}  {}", shown(value))
            .trim_end()
            .to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text of a member, or nothing.
#[must_use]
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn term_1_texts_of_others_are_shown_and_not_obeyed() {
        for (text, expected) in [
            ("plain, é 語 🦀", "plain, é 語 🦀"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\nDisabled  alias/x", "a\\nDisabled  alias/x"),
            ("a\r\tb", "a\\r\\tb"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}txt.exe\u{2066}", "\\u{202e}txt.exe\\u{2066}"),
            ("\u{200f}\u{61c}\u{2028}", "\\u{200f}\\u{61c}\\u{2028}"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(escaped("one\ntwo\u{1b}c"), "one\ntwo\\u{1b}c");
        let rows = [("description", "x\nstate  Enabled".to_owned())];
        assert_eq!(columns(&rows), "description  x\\nstate  Enabled");
    }
}
