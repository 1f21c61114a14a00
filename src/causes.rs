//! An error with what caused it, in one line: for log lines and the reasons of other errors.

use std::error::Error;

/// The error and each of its causes, with a colon between them.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("the file cannot be read")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn each_cause_is_named_once() {
        let inner = std::io::Error::other("the disk is gone");
        let text = with_causes(&Outer(inner));
        assert_eq!(text, "the file cannot be read: the disk is gone");
    }
}
