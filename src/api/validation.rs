//! Model validation: every member's constraint is checked before anything is looked up, and one
//! refusal names all violations.
//!
//! Checks parse: each returns the member as a value of its type. For a member that violates its
//! constraint that value is a placeholder, which never gets out: [`Violations::check`] hands the
//! values on only if there is no violation.
//!
//! Source: the service model's limits, in the words of the AWS front end; members are written in
//! lowerCamelCase.

use crate::api::key_reference::KeyReference;
use crate::api::wire::{Blob, Text};
use crate::api::{ApiError, ErrorCode};
use std::borrow::Cow;
use std::fmt::{Display, Write};

/// The violations of one request, in the order of its members.
#[derive(Default)]
pub(crate) struct Violations {
    count: usize,
    text: String,
}

impl Violations {
    /// Returns `checked`, or refuses the request when a member violated its constraint.
    pub(crate) fn check<T>(self, checked: T) -> Result<T, ApiError> {
        if self.count == 0 {
            return Ok(checked);
        }
        let errors = if self.count == 1 { "error" } else { "errors" };
        let message = format!("{} validation {errors} detected: {}", self.count, self.text);
        Err(ApiError::new(ErrorCode::ValidationException, message))
    }

    /// A member's value, and what it must be.
    pub(crate) fn value(&mut self, member: &str, value: impl Display, must: impl Display) {
        self.add(format_args!("Value '{value}' at '{member}'"), must);
    }

    /// A member whose value is never echoed: a blob, or something sensitive.
    pub(crate) fn unnamed(&mut self, member: &str, must: impl Display) {
        self.add(format_args!("Value at '{member}'"), must);
    }

    /// A required member that is missing.
    pub(crate) fn null(&mut self, member: &str) {
        self.add(
            format_args!("Value null at '{member}'"),
            "Member must not be null",
        );
    }

    /// A required member of any type.
    pub(crate) fn required<T: Default>(&mut self, member: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.null(member);
            T::default()
        })
    }

    fn add(&mut self, subject: impl Display, must: impl Display) {
        if self.count > 0 {
            self.text.push_str("; ");
        }
        self.count += 1;
        write!(self.text, "{subject} failed to satisfy constraint: {must}")
            .expect("writing to a string cannot fail");
    }

    /// A `KeyId`, under whatever name the request has for it.
    pub(crate) fn key_id<'a>(&mut self, member: &str, value: &'a Text<'_>) -> KeyReference<'a> {
        let max = KEY_ID_CHARACTERS_MAX;
        KeyReference::parse(self.required_text(member, value.as_deref(), max, Some(&ASCII)))
    }

    /// A `KeyId` that may be left out.
    pub(crate) fn optional_key_id<'a>(
        &mut self,
        member: &str,
        value: &'a Text<'_>,
    ) -> Option<KeyReference<'a>> {
        value.is_some().then(|| self.key_id(member, value))
    }

    /// A required text of at most `max` characters that matches `pattern`.
    pub(crate) fn required_text<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        max: usize,
        pattern: Option<&Pattern>,
    ) -> &'a str {
        let Some(value) = value else {
            self.null(member);
            return "";
        };
        self.text(member, value, 1, max, pattern);
        value
    }

    /// A text of `min` to `max` characters that matches `pattern`.
    pub(crate) fn text(
        &mut self,
        member: &str,
        value: &str,
        min: usize,
        max: usize,
        pattern: Option<&Pattern>,
    ) {
        // Bytes are at least as many as characters: most texts need no counting.
        if value.len() < min {
            self.value(member, value, at_least_length(min));
        } else if value.len() > max && value.chars().count() > max {
            self.value(member, value, at_most_length(max));
        }
        if let Some(pattern) = pattern
            && !(pattern.matches)(value)
        {
            let must = format_args!(
                "Member must satisfy regular expression pattern: {}",
                pattern.text
            );
            self.value(member, value, must);
        }
    }

    /// A required text that is sensitive, of `min` to `max` characters that match `pattern`.
    pub(crate) fn sensitive_text(
        &mut self,
        member: &str,
        value: Option<&str>,
        (min, max): (usize, usize),
        pattern: &Pattern,
    ) {
        let Some(value) = value else {
            return self.unnamed(member, "Member must not be null");
        };
        if value.len() < min {
            self.unnamed(member, at_least_length(min));
        } else if value.len() > max {
            self.unnamed(member, at_most_length(max));
        }
        if !(pattern.matches)(value) {
            let must = format_args!(
                "Member must satisfy regular expression pattern: {}",
                pattern.text
            );
            self.unnamed(member, must);
        }
    }

    /// A list, or a map, with so many elements.
    pub(crate) fn elements(&mut self, member: &str, count: usize, min: usize, max: usize) {
        if count < min {
            self.unnamed(member, at_least_length(min));
        } else if count > max {
            self.unnamed(member, at_most_length(max));
        }
    }

    /// A number in a range, which may be left out.
    pub(crate) fn number<T: TryFrom<i64>>(
        &mut self,
        member: &str,
        value: Option<i64>,
        min: i64,
        max: i64,
    ) -> Option<T> {
        let value = value?;
        if value < min {
            let must = format_args!("Member must have value greater than or equal to {min}");
            self.value(member, value, must);
        } else if value > max {
            let must = format_args!("Member must have value less than or equal to {max}");
            self.value(member, value, must);
        }
        T::try_from(value).ok()
    }

    /// A required blob of 1 to `max` bytes.
    pub(crate) fn blob<'a>(
        &mut self,
        member: &str,
        value: Option<&'a Blob>,
        max: usize,
    ) -> &'a [u8] {
        if value.is_none() {
            self.null(member);
        }
        self.blob_length(member, value, max)
    }

    /// A required blob of 1 to `max` bytes that is sensitive: not even that it is null is echoed.
    pub(crate) fn sensitive_blob<'a>(
        &mut self,
        member: &str,
        value: Option<&'a Blob>,
        max: usize,
    ) -> &'a [u8] {
        if value.is_none() {
            self.unnamed(member, "Member must not be null");
        }
        self.blob_length(member, value, max)
    }

    fn blob_length<'a>(&mut self, member: &str, value: Option<&'a Blob>, max: usize) -> &'a [u8] {
        let Some(bytes) = value.map(Blob::bytes) else {
            return &[];
        };
        if bytes.is_empty() {
            self.unnamed(member, at_least_length(1));
        } else if bytes.len() > max {
            self.unnamed(member, at_most_length(max));
        }
        bytes
    }

    /// A required member of an enumeration.
    pub(crate) fn required_one_of<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        set: &str,
    ) -> &'a str {
        if value.is_none() {
            self.null(member);
        }
        self.one_of(member, value, set).unwrap_or("")
    }

    /// A member of an enumeration, which may be left out.
    pub(crate) fn one_of<'a>(
        &mut self,
        member: &str,
        value: Option<&'a str>,
        set: &str,
    ) -> Option<&'a str> {
        let value = value?;
        if !set.split(", ").any(|one| one == value) {
            let must = format_args!("Member must satisfy enum value set: [{set}]");
            self.value(member, value, must);
        }
        Some(value)
    }

    /// `GrantTokens`: 0..=10 texts of 1..=8192 characters.
    pub(crate) fn grant_tokens<'a>(
        &mut self,
        tokens: &'a Option<Vec<Cow<'a, str>>>,
    ) -> &'a [Cow<'a, str>] {
        const TOKENS_MAX: usize = 10;
        const TOKEN_CHARACTERS_MAX: usize = 8192;
        let tokens = tokens.as_deref().unwrap_or_default();
        if tokens.len() > TOKENS_MAX {
            self.unnamed("grantTokens", at_most_length(TOKENS_MAX));
        }
        for (number, token) in tokens.iter().take(TOKENS_MAX).enumerate() {
            let member = format_args!("grantTokens.{}.member", number + 1).to_string();
            if token.is_empty() {
                self.unnamed(&member, at_least_length(1));
            } else if token.len() > TOKEN_CHARACTERS_MAX {
                self.unnamed(&member, at_most_length(TOKEN_CHARACTERS_MAX));
            }
        }
        tokens
    }
}

fn at_least_length(min: usize) -> String {
    format!("Member must have length greater than or equal to {min}")
}

fn at_most_length(max: usize) -> String {
    format!("Member must have length less than or equal to {max}")
}

/// A regular expression of the service model, and a function that decides it.
pub(crate) struct Pattern {
    pub(crate) text: &'static str,
    pub(crate) matches: fn(&str) -> bool,
}

/// `KeyId`: a constraint of the endpoint that the public model lacks.
pub(crate) const ASCII: Pattern = Pattern {
    text: r"^\p{ASCII}+$",
    matches: |text| !text.is_empty() && text.is_ascii(),
};

/// `AliasName`.
pub(crate) const ALIAS: Pattern = Pattern {
    text: "^[a-zA-Z0-9:/_-]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};

/// `Marker`.
pub(crate) const LATIN: Pattern = Pattern {
    text: r"[\u0020-\u00FF]*",
    matches: |text| text.chars().all(|one| ('\u{20}'..='\u{ff}').contains(&one)),
};

/// Characters of a `KeyId`.
pub(crate) const KEY_ID_CHARACTERS_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(fill: impl FnOnce(&mut Violations) -> T) -> String {
        let mut violations = Violations::default();
        fill(&mut violations);
        violations.check(()).unwrap_err().message().to_owned()
    }

    fn tokens(tokens: &[&'static str]) -> Option<Vec<Cow<'static, str>>> {
        Some(tokens.iter().map(|token| Cow::from(*token)).collect())
    }

    #[test]
    fn messages_are_those_of_the_front_end() {
        let long = base64_simd::STANDARD.encode_to_string([0; 4097]);
        let long: Blob = serde_json::from_value(long.into()).unwrap();
        assert_eq!(
            message(|v| v.required_text("keyId", Some(""), KEY_ID_CHARACTERS_MAX, Some(&ASCII))),
            "2 validation errors detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; \
             Value '' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\\p{ASCII}+$"
        );
        assert_eq!(
            message(|v| v.key_id("keyId", &None).text().len()),
            "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null"
        );
        assert_eq!(
            message(|v| v.number::<u16>("numberOfBytes", Some(0), 1, 1024)),
            "1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"
        );
        assert_eq!(
            message(|v| v.number::<u16>("numberOfBytes", Some(1025), 1, 1024)),
            "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"
        );
        assert_eq!(
            message(|v| v.blob("plaintext", Some(&long), 4096).len()),
            "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"
        );
        assert_eq!(
            message(|v| v.one_of("encryptionAlgorithm", Some("FOO"), "A, B")),
            "1 validation error detected: Value 'FOO' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [A, B]"
        );
        assert_eq!(Violations::default().check(7).unwrap(), 7);
    }

    #[test]
    fn lengths_are_characters_and_tokens_are_bounded() {
        let mut violations = Violations::default();
        violations.text("description", &"é".repeat(8192), 0, 8192, None);
        violations.grant_tokens(&tokens(&["x"; 10]));
        violations.grant_tokens(&None);
        assert!(violations.check(()).is_ok());
        assert!(
            message(|v| v.text("description", &"é".repeat(8193), 0, 8192, None)).contains("8192")
        );
        assert!(message(|v| v.grant_tokens(&tokens(&["x"; 11])).len()).contains("'grantTokens'"));
        assert!(
            message(|v| v.grant_tokens(&tokens(&["x", ""])).len())
                .contains("'grantTokens.2.member'")
        );
    }
}
