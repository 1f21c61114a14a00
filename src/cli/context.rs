//! How encryption contexts are named on the command line: pairs with `--constant NAME=VALUE`, in
//! every command.

use clap::builder::UnknownArgumentValueParser;

/// `NAME=VALUE`
pub(super) fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a pair is NAME=VALUE"),
    }
}

/// What refuses `--context` in a command that reads no table.
pub(super) fn no_columns() -> UnknownArgumentValueParser {
    let hint = "a pair of the encryption context is --constant NAME=VALUE";
    UnknownArgumentValueParser::suggest(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        for text in ["", "a", "=b"] {
            assert!(pair(text).is_err(), "{text}");
        }
    }
}
