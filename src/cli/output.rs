//! The only printer: results on standard output, everything else on standard error.

use crate::cli::failure::{Failure, Status};
use serde_json::Value;
use std::io::{self, BufRead, IsTerminal, Write};

/// Prints a result and a line feed.
///
/// # Errors
/// [`Failure`] when standard output fails; a reader that has had enough (`| head`) is no failure.
pub fn result(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
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
    result(&value.to_string())
}

/// Tells the user something that is no result.
pub fn notice(text: &str) {
    // Whoever closed standard error does not want to know.
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

/// Tells why a command was not done.
pub fn failure(failure: &Failure) {
    for line in failure.message.lines() {
        notice(&format!("keymill: {line}"));
    }
}

/// Prints help, the version, or what is wrong with the command line.
#[must_use]
pub fn grammar(error: &clap::Error) -> Status {
    let _closed = error.print();
    if error.use_stderr() {
        Status::Usage
    } else {
        Status::Done
    }
}

/// Asks before something is destroyed, unless `yes` has been said already.
///
/// # Errors
/// [`Failure`] when the answer is not yes, or when there is nobody to ask.
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
    let lines = rows
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// The text of a member, or nothing.
#[must_use]
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}
