//! Names for new containers: text with one place for the row number.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Text with exactly one `{}` or `{:0N}`, where the row number goes, counted from 0.
///
/// Two rows never get one name: what surrounds the number is the same for all of them. A number
/// with more than N digits is written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern {
    text: String,
    prefix_bytes: usize,
    suffix_from: usize,
    digits_min: usize,
}

/// Text that is not a pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdPattern {
    /// There is no place for the number, more than one, or a brace elsewhere.
    #[error(
        "an id pattern has exactly one {{}} or {{:0N}} and no other braces, for example container-{{:012}}"
    )]
    Placeholder,
    /// The format in the braces is not `0N`.
    #[error(
        "an id pattern's number is written {{}} or {{:0N}} with N from 1 to {}",
        IdPattern::DIGITS_MAX
    )]
    Format,
    /// It is longer than [`IdPattern::BYTES_MAX`] or has a control character.
    #[error(
        "an id pattern has at most {} bytes and no control characters",
        IdPattern::BYTES_MAX
    )]
    Text,
}

impl IdPattern {
    /// Digits at least that a pattern may ask for; more than any row number has.
    pub const DIGITS_MAX: usize = 32;
    /// Bytes of a pattern at most; keeps a batch of names far below Arrow's 2 GiB.
    pub const BYTES_MAX: usize = 256;
    /// The pattern that `keymill export` uses by default.
    pub const DEFAULT: &str = "container-{:012}";

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Appends the name of row `number`.
    pub fn append(&self, number: u64, out: &mut Vec<u8>) {
        let mut digits = [b'0'; Self::DIGITS_MAX];
        let mut at = digits.len();
        let mut rest = number;
        while rest > 0 {
            at -= 1;
            digits[at] = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
        }
        let from = at.min(digits.len() - self.digits_min);
        out.extend_from_slice(&self.text.as_bytes()[..self.prefix_bytes]);
        out.extend_from_slice(&digits[from..]);
        out.extend_from_slice(&self.text.as_bytes()[self.suffix_from..]);
    }

    /// Appends the names of these rows, and to `ends` where each ends. A name is made from the one
    /// before.
    pub fn append_rows(&self, rows: Range<u64>, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        let suffix_bytes = self.text.len() - self.suffix_from;
        let mut before: Option<usize> = None;
        for row in rows {
            let from = out.len();
            let is_next = before.is_some_and(|before| {
                out.extend_from_within(before..);
                let end = out.len() - suffix_bytes;
                increment(&mut out[from + self.prefix_bytes..end])
            });
            // The first, and one that has a digit more.
            if !is_next {
                out.truncate(from);
                self.append(row, out);
            }
            before = Some(from);
            ends.push(out.len());
        }
    }
}

/// Adds one to a number that is written in digits; `false` where it needs one more.
fn increment(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
        match digit {
            b'9' => *digit = b'0',
            digit => {
                *digit += 1;
                return true;
            }
        }
    }
    false
}

impl FromStr for IdPattern {
    type Err = InvalidIdPattern;

    fn from_str(text: &str) -> Result<Self, InvalidIdPattern> {
        if text.len() > Self::BYTES_MAX || text.chars().any(char::is_control) {
            return Err(InvalidIdPattern::Text);
        }
        let (prefix, rest) = text.split_once('{').ok_or(InvalidIdPattern::Placeholder)?;
        let (format, suffix) = rest.split_once('}').ok_or(InvalidIdPattern::Placeholder)?;
        if [prefix, format, suffix]
            .iter()
            .any(|part| part.contains(['{', '}']))
        {
            return Err(InvalidIdPattern::Placeholder);
        }
        // `{}` or `{:0N}`, as in Rust's own format strings.
        let digits_min = match format {
            "" => 1,
            _ => format
                .strip_prefix(":0")
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|digits| (1..=Self::DIGITS_MAX).contains(digits))
                .ok_or(InvalidIdPattern::Format)?,
        };
        Ok(Self {
            prefix_bytes: prefix.len(),
            suffix_from: text.len() - suffix.len(),
            digits_min,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, number: u64) -> String {
        let mut out = Vec::new();
        pattern
            .parse::<IdPattern>()
            .unwrap()
            .append(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_padded_and_never_cut() {
        assert_eq!(name(IdPattern::DEFAULT, 0), "container-000000000000");
        assert_eq!(name(IdPattern::DEFAULT, 42), "container-000000000042");
        assert_eq!(name("{}", 0), "0");
        assert_eq!(name("b/{}/é", 1907), "b/1907/é");
        assert_eq!(name("v{:03}", 12_345), "v12345");
        assert_eq!(name("{:032}", u64::MAX), format!("{:032}", u64::MAX));
    }

    #[test]
    fn names_in_a_row_are_those_of_their_numbers() {
        for pattern in [IdPattern::DEFAULT, "{}", "{}é", "b/{:02}/é", "{:032}"] {
            for rows in [0..1200, 7..7, 995..1001, u64::MAX - 3..u64::MAX] {
                let (mut out, mut ends) = (b"before".to_vec(), Vec::new());
                let parsed: IdPattern = pattern.parse().unwrap();
                parsed.append_rows(rows.clone(), &mut out, &mut ends);
                let mut from = b"before".len();
                assert_eq!(ends.len() as u64, rows.end - rows.start);
                for (row, end) in rows.zip(ends) {
                    assert_eq!(out[from..end], *name(pattern, row).as_bytes());
                    from = end;
                }
                assert_eq!(from, out.len());
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, error) in [
            ("", InvalidIdPattern::Placeholder),
            ("container", InvalidIdPattern::Placeholder),
            ("a{", InvalidIdPattern::Placeholder),
            ("a}", InvalidIdPattern::Placeholder),
            ("a}{}", InvalidIdPattern::Placeholder),
            ("{}{}", InvalidIdPattern::Placeholder),
            ("{{}}", InvalidIdPattern::Placeholder),
            ("{:12}", InvalidIdPattern::Format),
            ("{:0}", InvalidIdPattern::Format),
            ("{:00}", InvalidIdPattern::Format),
            ("{:033}", InvalidIdPattern::Format),
            ("{:0+4}", InvalidIdPattern::Format),
            ("{:x}", InvalidIdPattern::Format),
            ("{id}", InvalidIdPattern::Format),
            ("a\n{}", InvalidIdPattern::Text),
        ] {
            assert_eq!(text.parse::<IdPattern>(), Err(error), "{text}");
        }
        let long = format!("{}{{}}", "x".repeat(IdPattern::BYTES_MAX - 1));
        assert_eq!(long.parse::<IdPattern>(), Err(InvalidIdPattern::Text));
    }
}
