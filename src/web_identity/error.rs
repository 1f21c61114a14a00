//! Why a token is refused, in the words of AWS STS.
//!
//! Sources: AWS STS API reference, `AssumeRoleWithWebIdentity`, "Errors"; messages as measured on
//! AWS, where they are known.

use crate::error_code::ErrorCode;

/// Characters of an issuer's URL that a refusal repeats at most: no issuer that can be configured
/// has more.
const ISSUER_CHARACTERS_SHOWN: usize = 255;

/// Why a token is refused. No text of it comes from the token, but for the name of its issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token, or its signature does not hold.
    #[error("The web identity token could not be validated: {0}.")]
    Invalid(&'static str),
    /// A claim that every token must have is not in it.
    #[error("Missing a required claim: {0}")]
    Missing(&'static str),
    /// It has expired; both times in seconds since 1970.
    #[error(
        "Token expired: current date/time {now} must be before the expiration date/time {expires}"
    )]
    Expired {
        /// The time here.
        now: u64,
        /// `exp`.
        expires: u64,
    },
    /// It was issued so many seconds ago, which is too long, whenever it expires.
    #[error("Token too old: {0}")]
    TooOld(u64),
    /// It is not valid yet; both times in seconds since 1970.
    #[error("Token not yet valid: current date/time {now} must be after the date/time {begins}")]
    TooEarly {
        /// The time here.
        now: u64,
        /// `nbf`, or `iat`.
        begins: u64,
    },
    /// No issuer of this URL is configured for the account.
    #[error("No OpenIDConnect provider found in your account for {}", shown(.0))]
    UnknownIssuer(String),
    /// It is for none of the issuer's audiences.
    #[error("Incorrect token audience")]
    Audience,
    /// The issuer has no key of this id.
    #[error(
        "Couldn't retrieve verification key from your identity provider,  please reference \
         AssumeRoleWithWebIdentity documentation for requirements"
    )]
    UnknownKey,
    /// The issuer's keys cannot be fetched now.
    #[error("The keys of the identity provider cannot be fetched now. Try again.")]
    Unreachable,
    /// Too many tokens come from the caller's address.
    #[error("Rate exceeded")]
    Throttled,
}

fn shown(issuer: &str) -> String {
    issuer.chars().take(ISSUER_CHARACTERS_SHOWN).collect()
}

impl TokenError {
    /// The labels of [`Self::label`].
    pub const LABELS: [&'static str; 10] = [
        "invalid",
        "missing_claim",
        "expired",
        "too_old",
        "too_early",
        "unknown_issuer",
        "audience",
        "unknown_key",
        "unreachable",
        "throttled",
    ];

    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_)
            | Self::Missing(_)
            | Self::TooEarly { .. }
            | Self::UnknownIssuer(_)
            | Self::Audience
            | Self::UnknownKey => ErrorCode::InvalidIdentityToken,
            Self::Expired { .. } | Self::TooOld(_) => ErrorCode::ExpiredIdentityToken,
            Self::Unreachable => ErrorCode::IDPCommunicationError,
            Self::Throttled => ErrorCode::Throttling,
        }
    }

    /// The label of `keymill_web_identity_tokens_total`, by its place in [`Self::LABELS`].
    #[must_use]
    pub fn label(&self) -> usize {
        match self {
            Self::Invalid(_) => 0,
            Self::Missing(_) => 1,
            Self::Expired { .. } => 2,
            Self::TooOld(_) => 3,
            Self::TooEarly { .. } => 4,
            Self::UnknownIssuer(_) => 5,
            Self::Audience => 6,
            Self::UnknownKey => 7,
            Self::Unreachable => 8,
            Self::Throttled => 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_in_the_words_of_sts() {
        let late = TokenError::Expired {
            now: 1_731_098_245,
            expires: 1_731_095_240,
        };
        for (error, code, message) in [
            (
                late,
                "ExpiredTokenException",
                "Token expired: current date/time 1731098245 must be before the expiration date/time 1731095240",
            ),
            (
                TokenError::TooOld(441_398),
                "ExpiredTokenException",
                "Token too old: 441398",
            ),
            (
                TokenError::Missing("aud"),
                "InvalidIdentityToken",
                "Missing a required claim: aud",
            ),
            (
                TokenError::UnknownIssuer("https://issuer.example/a".to_owned()),
                "InvalidIdentityToken",
                "No OpenIDConnect provider found in your account for https://issuer.example/a",
            ),
            (
                TokenError::Audience,
                "InvalidIdentityToken",
                "Incorrect token audience",
            ),
            (
                TokenError::UnknownKey,
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
            ),
            (
                TokenError::Unreachable,
                "IDPCommunicationError",
                "The keys of the identity provider cannot be fetched now. Try again.",
            ),
            (TokenError::Throttled, "Throttling", "Rate exceeded"),
        ] {
            assert_eq!(error.code().name(), code);
            assert_eq!(error.code().status(), http::StatusCode::BAD_REQUEST);
            assert_eq!(error.to_string(), message);
            assert!(error.label() < TokenError::LABELS.len());
        }
    }

    #[test]
    fn an_issuer_is_repeated_within_bounds() {
        let message = TokenError::UnknownIssuer("x".repeat(9000)).to_string();
        assert!(message.len() < 400, "{message}");
    }
}
