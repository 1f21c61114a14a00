//! Names of columns that readers may take for one: many ignore the case of letters, and would give
//! the user's own column in the place of ours.

use crate::columns::shown::Shown;
use std::fmt;

/// Whether readers may take two names for one.
#[must_use]
pub fn are_alike(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// A column that readers may take for one that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    own: String,
    added: String,
}

impl Clash {
    /// The first of these columns that is like one of those that are added.
    pub fn find<'a, 'b>(
        own: impl IntoIterator<Item = &'a str>,
        added: impl IntoIterator<Item = &'b str> + Clone,
    ) -> Option<Self> {
        let like = |own: &str| {
            let mut added = added.clone().into_iter();
            added.find(|added| are_alike(own, added))
        };
        let mut own = own.into_iter();
        own.find_map(|own| {
            Some(Self {
                added: like(own)?.to_owned(),
                own: own.to_owned(),
            })
        })
    }
}

/// What is there already.
impl fmt::Display for Clash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own, added } = self;
        write!(out, "a column {} already", Shown(own))?;
        if own == added {
            return Ok(());
        }
        write!(
            out,
            ", which readers that ignore case take for {}",
            Shown(added)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_another_case_clashes() {
        let said = |own: &[&str]| {
            let clash = Clash::find(own.iter().copied(), ["key_arn", "refusal"]);
            clash.map(|clash| clash.to_string())
        };
        assert_eq!(said(&["a", "key-arn"]), None);
        assert_eq!(
            said(&["a", "refusal"]).unwrap(),
            "a column \"refusal\" already"
        );
        assert_eq!(
            said(&["Key_ARN"]).unwrap(),
            "a column \"Key_ARN\" already, which readers that ignore case take for \"key_arn\""
        );
    }
}
