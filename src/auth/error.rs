//! Why a caller was not authenticated: the codes and messages of AWS's front end, in one place.
//!
//! Text of the request that a message repeats is cut at [`AuthError::ECHO_CHARACTERS_MAX`]. The
//! messages reveal nothing that the caller did not send, except whether an access key is known; AWS
//! reveals that too.

use crate::error_code::ErrorCode;
use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

/// A refusal before any operation, with the code and the message of AWS's front end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AuthError {
    /// The code.
    pub code: ErrorCode,
    /// The message for the caller.
    pub message: Cow<'static, str>,
}

impl AuthError {
    /// The most characters of a header that a message repeats.
    pub const ECHO_CHARACTERS_MAX: usize = 1024;

    /// The request has no credentials.
    #[must_use]
    pub fn missing_token() -> Self {
        Self {
            code: ErrorCode::MissingAuthenticationTokenException,
            message: Cow::Borrowed("Missing Authentication Token"),
        }
    }

    /// The access key, the session token or the principal cannot be used, for whatever reason.
    #[must_use]
    pub fn unrecognized_client() -> Self {
        Self {
            code: ErrorCode::UnrecognizedClientException,
            message: Cow::Borrowed("The security token included in the request is invalid."),
        }
    }

    /// The session has expired.
    #[must_use]
    pub fn expired_token() -> Self {
        Self {
            code: ErrorCode::ExpiredTokenException,
            message: Cow::Borrowed("The security token included in the request is expired"),
        }
    }

    fn incomplete(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: ErrorCode::IncompleteSignatureException,
            message: message.into(),
        }
    }

    pub(super) fn several(header: &str) -> Self {
        Self::incomplete(format!("The request has more than one '{header}' header."))
    }

    pub(super) fn no_pair(part: &str, header: &str) -> Self {
        Self::incomplete(format!(
            "'{}' not a valid key=value pair (missing equal-sign) in Authorization header: '{}'.",
            echo(part),
            echo(header)
        ))
    }

    pub(super) fn duplicate_parameter(name: &str, header: &str) -> Self {
        Self::incomplete(format!(
            "Authorization header has more than one '{name}' parameter. Authorization={}",
            echo(header)
        ))
    }

    /// `sentences` name the missing parts; each ends with a space.
    pub(super) fn missing_parameters(sentences: &str, header: &str) -> Self {
        Self::incomplete(format!("{sentences}Authorization={}", echo(header)))
    }

    pub(super) fn several_parameters(name: &str) -> Self {
        Self::incomplete(format!("The query has more than one '{name}' parameter."))
    }

    pub(super) fn missing_in_query(names: impl Iterator<Item = &'static str>) -> Self {
        let sentence = |name| format!("AWS query-string parameters must include '{name}'. ");
        let sentences: String = names.map(sentence).collect();
        Self::incomplete(format!(
            "{sentences}Re-examine the query-string parameters."
        ))
    }

    pub(super) fn bad_expires(text: &str, seconds_max: u32) -> Self {
        Self::incomplete(format!(
            "X-Amz-Expires must be a number of seconds from 1 to {seconds_max}. Got '{}'.",
            echo(text)
        ))
    }

    pub(super) fn bad_date(text: &str) -> Self {
        Self::incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
            echo(text)
        ))
    }

    pub(super) fn bad_algorithm(algorithm: &str) -> Self {
        Self::incomplete(format!(
            "Unsupported AWS 'algorithm': '{}' (only AWS4-HMAC-SHA256 for now). ",
            echo(algorithm)
        ))
    }

    pub(super) fn bad_credential(credential: &str) -> Self {
        Self::incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
            echo(credential)
        ))
    }

    fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: ErrorCode::InvalidSignatureException,
            message: message.into(),
        }
    }

    /// The signature reads `+` as a plus sign, forms read it as a space. An attacker who alters the
    /// request on its way could choose between them.
    pub(super) fn plus_in_query() -> Self {
        Self::incomplete("A signed query has no bare '+': a space is %20, and a plus sign is %2B.")
    }

    pub(super) fn scope_service(service: &str) -> Self {
        Self::invalid(format!(
            "Credential should be scoped to correct service: '{service}'. "
        ))
    }

    pub(super) fn scope_region() -> Self {
        Self::invalid("Credential should be scoped to a valid region. ")
    }

    pub(super) fn scope_terminator(terminator: &str) -> Self {
        Self::invalid(format!(
            "Credential should be scoped with a valid terminator: 'aws4_request', not '{}'. ",
            echo(terminator)
        ))
    }

    /// `date` is that of `time`.
    pub(super) fn scope_date(scope: &str, date: &str, time: impl Display) -> Self {
        Self::invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{date}', from '{time}'.",
            echo(scope),
        ))
    }

    /// `earliest` is `now` without the skew.
    pub(super) fn expired(
        time: impl Display,
        earliest: impl Display,
        now: impl Display,
        skew_max: Duration,
    ) -> Self {
        Self::invalid(format!(
            "Signature expired: {time} is now earlier than {earliest} ({now} - {})",
            span(skew_max)
        ))
    }

    /// `latest` is `now` and the skew.
    pub(super) fn not_yet_current(
        time: impl Display,
        latest: impl Display,
        now: impl Display,
        skew_max: Duration,
    ) -> Self {
        Self::invalid(format!(
            "Signature not yet current: {time} is still later than {latest} ({now} + {})",
            span(skew_max)
        ))
    }

    pub(super) fn not_signed(header: &str) -> Self {
        Self::invalid(match header {
            "host" => Cow::Borrowed(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ),
            header => Cow::Owned(format!(
                "'{}' must be a 'SignedHeader' in the AWS Authorization.",
                echo(header)
            )),
        })
    }

    pub(super) fn signed_twice(header: &str) -> Self {
        Self::invalid(format!(
            "'{}' is more than once a 'SignedHeader' in the AWS Authorization.",
            echo(header)
        ))
    }

    pub(super) fn mismatch() -> Self {
        Self::invalid(
            "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method. \
             Consult the service documentation for details.",
        )
    }
}

/// `text`, cut to the length that a message repeats.
fn echo(text: &str) -> &str {
    match text.char_indices().nth(AuthError::ECHO_CHARACTERS_MAX) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 60 == 0 => format!("{} min.", seconds / 60),
        seconds => format!("{seconds} sec."),
    }
}
