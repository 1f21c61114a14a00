//! Text that a terminal may print: the terminal obeys nothing in it, and the text around it stays
//! in place.

use std::borrow::Cow;

/// A text from outside, for a terminal: on one line, and without anything that the terminal would
/// obey.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// A text of this program, which may have several lines.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |one| one == '\n')
}

fn escape(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_obeyed = |one: char| (one.is_control() || is_mark(one)) && !stays(one);
    if !text.contains(is_obeyed) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for one in text.chars() {
        if is_obeyed(one) {
            out.extend(one.escape_default());
        } else {
            out.push(one);
        }
    }
    out.into()
}

/// Marks of direction, and separators of lines and paragraphs: they have no shape of their own, and
/// change the place of others (Unicode Standard Annex 9, "Explicit Directional Formatting").
fn is_mark(one: char) -> bool {
    matches!(
        one,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}
