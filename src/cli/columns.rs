//! How the encryption contexts of a table's rows are named on the command line: columns with
//! `--context`, and pairs that every row has.

use crate::cli::context::pair;
use crate::cli::failure::Failure;
use crate::columns::{ContextPairs, ContextSource};
use crate::context::EncryptionContext;
use clap::Args;

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
    if text.contains('=') {
        Err(format!(
            "this flag names columns; a pair that every row has is {flag} {text}"
        ))
    } else {
        Ok(text.to_owned())
    }
}

/// Where the encryption contexts of a table with blobs are.
#[derive(Args)]
pub(super) struct ContextArguments {
    /// The columns that each row's encryption context is made of [default: the maps of the column
    /// encryption_context, or the columns that the footers name]
    #[arg(long, value_name = "COLUMN,COLUMN", value_delimiter = ',', value_parser = column)]
    context: Vec<String>,
    /// A pair that every row's encryption context has; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    constant: Vec<(String, String)>,
}

impl ContextArguments {
    /// The columns and constants that were named; `None` where the table says it.
    ///
    /// # Errors
    /// [`Failure`], when the flags do not go together.
    pub(super) fn source(&self) -> Result<Option<ContextSource>, Failure> {
        let named = context_pairs(&self.context, &self.constant, "--context and --constant")?;
        Ok(named.map(ContextSource::Pairs))
    }
}

/// `None` where neither columns nor constants were given; `arguments` names the flags in errors.
///
/// # Errors
/// [`Failure`]: a name occurs twice, or the context is too large.
pub(super) fn context_pairs(
    columns: &[String],
    constants: &[(String, String)],
    arguments: &str,
) -> Result<Option<ContextPairs>, Failure> {
    if columns.is_empty() && constants.is_empty() {
        return Ok(None);
    }
    let names = columns.iter().map(|name| (name.as_str(), ""));
    let given = constants
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    EncryptionContext::from_pairs(names.chain(given))
        .map_err(|error| Failure::usage(format!("{arguments}: {error}")))?;
    Ok(Some(ContextPairs {
        columns: columns.to_vec(),
        constants: constants.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_not_taken_for_a_column() {
        assert_eq!(column("container id"), Ok("container id".to_owned()));
        let refused = column("tenant=7").unwrap_err();
        assert!(refused.ends_with("is --constant tenant=7"), "{refused}");
        let refused = new_column("zone=a").unwrap_err();
        assert!(refused.ends_with("is --new-constant zone=a"), "{refused}");
    }
}
