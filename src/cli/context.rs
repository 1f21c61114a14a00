//! How encryption contexts are named on the command line: columns with `--context`, pairs with
//! `--constant NAME=VALUE`, in every command.

use crate::bulk::layout;
use crate::cli::failure::Failure;
use crate::columns::{ContextPairs, ContextSource};
use crate::context::EncryptionContext;
use clap::Args;
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

/// The name of a column of `--context`.
pub(super) fn column(text: &str) -> Result<String, String> {
    column_or("--constant", text)
}

/// The name of a column of `--new-context`.
pub(super) fn new_column(text: &str) -> Result<String, String> {
    column_or("--new-constant", text)
}

/// A name with `=` in it is taken for a pair at the wrong flag.
fn column_or(flag: &str, text: &str) -> Result<String, String> {
    match text.contains('=') {
        false => Ok(text.to_owned()),
        true => Err(format!(
            "this flag names columns; a pair that every row has is {flag} {text}"
        )),
    }
}

/// Where the encryption contexts of a table with blobs are.
#[derive(Args)]
pub(super) struct ContextArguments {
    /// The columns that each row's encryption context is made of [default: the maps of the column
    /// encryption_context]
    #[arg(long, value_name = "COLUMN,COLUMN", value_delimiter = ',', value_parser = column)]
    context: Vec<String>,
    /// A pair that every row's encryption context has; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    constant: Vec<(String, String)>,
}

impl ContextArguments {
    /// The columns and constants that were named, or the column of maps.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn source(&self) -> Result<ContextSource, Failure> {
        let named = context_source(&self.context, &self.constant, "--context and --constant")?;
        Ok(named
            .unwrap_or_else(|| ContextSource::Map(layout::column::ENCRYPTION_CONTEXT.to_owned())))
    }
}

/// `None` where neither columns nor constants were given; `arguments` names the flags in errors.
///
/// # Errors
/// [`Failure`]: a name occurs twice, or the context is too large.
pub(super) fn context_source(
    columns: &[String],
    constants: &[(String, String)],
    arguments: &str,
) -> Result<Option<ContextSource>, Failure> {
    if columns.is_empty() && constants.is_empty() {
        return Ok(None);
    }
    let names = columns.iter().map(|name| (name.as_str(), ""));
    let given = constants
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    EncryptionContext::from_pairs(names.chain(given))
        .map_err(|error| Failure::usage(format!("{arguments}: {error}")))?;
    Ok(Some(ContextSource::Pairs(ContextPairs {
        columns: columns.to_vec(),
        constants: constants.to_vec(),
    })))
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

    #[test]
    fn a_pair_is_not_taken_for_a_column() {
        assert_eq!(column("container id"), Ok("container id".to_owned()));
        let refused = column("tenant=7").unwrap_err();
        assert!(refused.ends_with("is --constant tenant=7"), "{refused}");
        let refused = new_column("zone=a").unwrap_err();
        assert!(refused.ends_with("is --new-constant zone=a"), "{refused}");
    }
}
