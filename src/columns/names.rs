//! Names of columns in one text, as command lines and queries have them: `tenant,volume`. A name
//! with a comma or a quote is written as a field of CSV is (RFC 4180, section 2, items 5 to 7):
//! `"a,b",c`. A name is taken whole: a dot in it means nothing.

/// A name of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedName {
    /// The name itself.
    pub name: String,
    /// Whether it was in quotes, and so cannot be meant for anything but a name.
    pub is_quoted: bool,
}

/// Why a text is not a list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNames {
    /// Nothing between two commas.
    #[error("a column has no name")]
    Empty,
    /// The last quote opens a name.
    #[error("a quote is not closed")]
    Open,
    /// A quote that is neither at the beginning nor at the end of a name.
    #[error(
        "a name with a comma or a quote is in quotes, and a quote in it is written twice: \"a,b\",c"
    )]
    Quote,
}

/// The names of a list, at least one.
///
/// # Errors
/// [`InvalidNames`].
pub fn listed(text: &str) -> Result<Vec<ListedName>, InvalidNames> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (listed, behind) = match rest.strip_prefix('"') {
            Some(inside) => quoted(inside)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (name, behind) = rest.split_at(end);
                if name.contains('"') {
                    return Err(InvalidNames::Quote);
                }
                let (name, is_quoted) = (name.to_owned(), false);
                (ListedName { name, is_quoted }, behind)
            }
        };
        if listed.name.is_empty() {
            return Err(InvalidNames::Empty);
        }
        names.push(listed);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(names),
            None => return Err(InvalidNames::Quote),
        }
    }
}

/// The name up to its closing quote, and what is behind that.
fn quoted(inside: &str) -> Result<(ListedName, &str), InvalidNames> {
    let mut name = String::new();
    let mut rest = inside;
    loop {
        let (before, behind) = rest.split_once('"').ok_or(InvalidNames::Open)?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => {
                let is_quoted = true;
                return Ok((ListedName { name, is_quoted }, behind));
            }
        }
    }
}

/// These names as one text, from which [`listed`] has them again.
pub fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let written = names.into_iter().map(|name| {
        if name.contains([',', '"']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.clone()
        }
    });
    written.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, InvalidNames> {
        Ok(listed(text)?.into_iter().map(|name| name.name).collect())
    }

    #[test]
    fn names_are_listed_as_csv_has_them() {
        for (text, found) in [
            ("tenant", &["tenant"][..]),
            ("tenant,volume", &["tenant", "volume"]),
            ("a.b,c d", &["a.b", "c d"]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("c,\"a,b\"", &["c", "a,b"]),
            ("\"say \"\"a\"\"\"", &["say \"a\""]),
            ("\"a=b\"", &["a=b"]),
            (" a, b", &[" a", " b"]),
        ] {
            assert_eq!(names(text).unwrap(), found, "{text}");
        }
        assert!(!listed("a").unwrap()[0].is_quoted);
        assert!(listed("\"a\"").unwrap()[0].is_quoted);
    }

    #[test]
    fn what_is_not_a_list_is_refused() {
        for (text, why) in [
            ("", InvalidNames::Empty),
            ("a,", InvalidNames::Empty),
            (",a", InvalidNames::Empty),
            ("a,,b", InvalidNames::Empty),
            ("\"\"", InvalidNames::Empty),
            ("\"a,b", InvalidNames::Open),
            ("a,\"", InvalidNames::Open),
            ("a\"b", InvalidNames::Quote),
            ("\"a\"b", InvalidNames::Quote),
            ("\"a\" ,b", InvalidNames::Quote),
        ] {
            assert_eq!(names(text), Err(why), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(
            given in proptest::collection::vec("[ab,\".= é]{1,6}", 1..4),
        ) {
            proptest::prop_assert_eq!(names(&list(&given)).unwrap(), given);
        }
    }
}
