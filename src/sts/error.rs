//! Refusals in the words of STS: its front end has other codes than that of KMS, and other
//! statuses.
//!
//! Source: AWS STS API reference, "Common Errors"; messages as measured on AWS.

use crate::api::{ApiError, ErrorCode, RequestId};
use crate::sts::xml;

/// The codes of KMS's front end, what STS calls them, and its message where that is another.
const WORDS: [(ErrorCode, ErrorCode, Option<&str>); 10] = [
    (
        ErrorCode::MissingAuthenticationTokenException,
        ErrorCode::MissingAuthenticationToken,
        Some("Request is missing Authentication Token"),
    ),
    (
        ErrorCode::UnrecognizedClientException,
        ErrorCode::InvalidClientTokenId,
        Some("The security token included in the request is invalid"),
    ),
    (
        ErrorCode::ExpiredTokenException,
        ErrorCode::ExpiredToken,
        Some("The security token included in the request is expired"),
    ),
    (
        ErrorCode::InvalidSignatureException,
        ErrorCode::SignatureDoesNotMatch,
        None,
    ),
    (
        ErrorCode::IncompleteSignatureException,
        ErrorCode::IncompleteSignature,
        None,
    ),
    (
        ErrorCode::ThrottlingException,
        ErrorCode::Throttling,
        Some("Rate exceeded"),
    ),
    (
        ErrorCode::AccessDeniedException,
        ErrorCode::AccessDenied,
        None,
    ),
    (
        ErrorCode::ValidationException,
        ErrorCode::ValidationError,
        None,
    ),
    (
        ErrorCode::SerializationException,
        ErrorCode::ValidationError,
        Some("The request broke off."),
    ),
    (
        ErrorCode::KMSInternalException,
        ErrorCode::InternalFailure,
        Some("The request could not be processed; see the log of the daemon."),
    ),
];

/// The same refusal with the code and the message of STS.
#[must_use]
pub fn in_words_of_sts(error: ApiError) -> ApiError {
    let found = WORDS.iter().find(|(code, ..)| *code == error.code());
    match found {
        Some((_, code, message)) => error.spelt(*code, *message),
        None => error,
    }
}

/// The body of a refusal.
#[must_use]
pub fn body(error: &ApiError, request_id: &RequestId) -> Vec<u8> {
    let kind = if error.code().status().is_server_error() {
        "Receiver"
    } else {
        "Sender"
    };
    xml::error(
        kind,
        error.code().name(),
        error.message(),
        request_id.as_str(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn refusals_have_the_codes_and_statuses_of_sts() {
        for (code, name, status) in [
            (
                ErrorCode::UnrecognizedClientException,
                "InvalidClientTokenId",
                StatusCode::FORBIDDEN,
            ),
            (
                ErrorCode::ExpiredTokenException,
                "ExpiredToken",
                StatusCode::FORBIDDEN,
            ),
            (
                ErrorCode::ThrottlingException,
                "Throttling",
                StatusCode::BAD_REQUEST,
            ),
            (
                ErrorCode::KMSInternalException,
                "InternalFailure",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
        ] {
            let error = in_words_of_sts(ApiError::bare(code));
            assert_eq!((error.code().name(), error.code().status()), (name, status));
            // To say it twice changes nothing.
            assert_eq!(in_words_of_sts(error).code().name(), name);
        }
    }
}
