//! How the encryption contexts of a table's rows are named on the command line: columns with
//! `--context`, and pairs that every row has.

use crate::cli::context::pair;
use crate::cli::failure::Failure;
use crate::columns::names::listed;
use crate::columns::{ContextPairs, ContextSource};
use crate::context::EncryptionContext;
use crate::table::FolderNames;
use clap::Args;

/// What a flag that names columns is shown with.
pub(super) const COLUMNS: &str = "COLUMN,COLUMN";

/// The columns that one flag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnList(Vec<String>);

impl ColumnList {
    /// The columns that a flag names, however often it was given.
    pub(super) fn all(lists: &[Self]) -> Vec<String> {
        let names = lists.iter().flat_map(|Self(names)| names);
        names.cloned().collect()
    }
}

/// The columns of `--context`.
pub(super) fn columns(text: &str) -> Result<ColumnList, String> {
    columns_or("--constant", text)
}

/// The columns of `--new-context`.
pub(super) fn new_columns(text: &str) -> Result<ColumnList, String> {
    columns_or("--new-constant", text)
}

/// A name with `=` in it that is not in quotes is taken for a pair at the wrong flag.
fn columns_or(flag: &str, text: &str) -> Result<ColumnList, String> {
    let names = listed(text).map_err(|error| error.to_string())?;
    let pair = names
        .iter()
        .find(|listed| listed.name.contains('=') && !listed.is_quoted);
    match pair {
        Some(listed) => Err(format!(
            "this flag names columns; a pair that every row has is {flag} {}",
            listed.name
        )),
        None => Ok(ColumnList(
            names.into_iter().map(|listed| listed.name).collect(),
        )),
    }
}

/// What the names of a table's folders are taken for.
#[derive(Args)]
pub(super) struct FolderArguments {
    /// Take no columns from the names of folders [default: a folder NAME=VALUE in a file's path is
    /// a column of text]
    #[arg(long)]
    no_hive: bool,
}

impl FolderArguments {
    pub(super) fn names(&self) -> FolderNames {
        match self.no_hive {
            true => FolderNames::Nothing,
            false => FolderNames::Columns,
        }
    }
}

/// Where the encryption contexts of a table with blobs are.
#[derive(Args)]
pub(super) struct ContextArguments {
    /// The columns that each row's encryption context is made of; may be given more than once, and
    /// a name with a comma is in quotes: '"a,b",c' [default: the maps of the column
    /// encryption_context, or the columns that the footers name]
    #[arg(long, value_name = COLUMNS, value_parser = columns)]
    context: Vec<ColumnList>,
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
        let columns = ColumnList::all(&self.context);
        let named = context_pairs(&columns, &self.constant, "--context and --constant")?;
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
        let list = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            Ok(ColumnList(names.collect()))
        };
        assert_eq!(columns("container id"), list(&["container id"]));
        assert_eq!(columns("a.b,\"c,d\""), list(&["a.b", "c,d"]));
        assert_eq!(columns("\"tenant=7\""), list(&["tenant=7"]));
        let refused = columns("volume,tenant=7").unwrap_err();
        assert!(refused.ends_with("is --constant tenant=7"), "{refused}");
        let refused = new_columns("zone=a").unwrap_err();
        assert!(refused.ends_with("is --new-constant zone=a"), "{refused}");
        let refused = columns("\"a,b").unwrap_err();
        assert_eq!(refused, "a quote is not closed");
    }
}
