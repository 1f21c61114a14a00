//! Refusals in the words of STS: its front end has other codes than that of KMS, and other
//! statuses.
//!
//! Source: AWS STS API reference, "Common Errors"; messages as measured on AWS.

use crate::api::{ApiError, KmsErrorCode, RequestId};
use crate::sts::xml;

/// The codes of KMS's front end, what STS calls them, and its message where that is another.
const WORDS: [(KmsErrorCode, KmsErrorCode, Option<&str>); 10] = [
    (
        KmsErrorCode::MissingAuthenticationTokenException,
        KmsErrorCode::MissingAuthenticationToken,
        Some("Request is missing Authentication Token"),
    ),
    (
        KmsErrorCode::UnrecognizedClientException,
        KmsErrorCode::InvalidClientTokenId,
        Some("The security token included in the request is invalid"),
    ),
    (
        KmsErrorCode::ExpiredTokenException,
        KmsErrorCode::ExpiredToken,
        Some("The security token included in the request is expired"),
    ),
    (
        KmsErrorCode::InvalidSignatureException,
        KmsErrorCode::SignatureDoesNotMatch,
        None,
    ),
    (
        KmsErrorCode::IncompleteSignatureException,
        KmsErrorCode::IncompleteSignature,
        None,
    ),
    (
        KmsErrorCode::ThrottlingException,
        KmsErrorCode::Throttling,
        Some("Rate exceeded"),
    ),
    (
        KmsErrorCode::AccessDeniedException,
        KmsErrorCode::AccessDenied,
        None,
    ),
    (
        KmsErrorCode::ValidationException,
        KmsErrorCode::ValidationError,
        None,
    ),
    (
        KmsErrorCode::SerializationException,
        KmsErrorCode::ValidationError,
        Some("The request broke off."),
    ),
    (
        KmsErrorCode::KMSInternalException,
        KmsErrorCode::InternalFailure,
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
                KmsErrorCode::UnrecognizedClientException,
                "InvalidClientTokenId",
                StatusCode::FORBIDDEN,
            ),
            (
                KmsErrorCode::ExpiredTokenException,
                "ExpiredToken",
                StatusCode::FORBIDDEN,
            ),
            (
                KmsErrorCode::ThrottlingException,
                "Throttling",
                StatusCode::BAD_REQUEST,
            ),
            (
                KmsErrorCode::KMSInternalException,
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
