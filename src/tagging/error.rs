//! Refusals in the words of the tagging API: where its codes are not those of KMS.
//!
//! Source: its service model, of the errors of each operation.

use crate::api::{ApiError, ErrorCode};

/// The codes of KMS, and what the tagging API calls them.
const WORDS: [(ErrorCode, ErrorCode); 4] = [
    (
        ErrorCode::ValidationException,
        ErrorCode::InvalidParameterException,
    ),
    (
        ErrorCode::InvalidMarkerException,
        ErrorCode::InvalidParameterException,
    ),
    (
        ErrorCode::ThrottlingException,
        ErrorCode::ThrottledException,
    ),
    (
        ErrorCode::KMSInternalException,
        ErrorCode::InternalServiceException,
    ),
];

/// The same refusal with the code of the tagging API.
#[must_use]
pub fn in_words_of_tagging(error: ApiError) -> ApiError {
    let found = WORDS.iter().find(|(code, _)| *code == error.code());
    match found {
        Some((_, code)) => error.spelt(*code, None),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn refusals_have_the_codes_of_the_tagging_api() {
        for (code, name) in [
            (ErrorCode::ValidationException, "InvalidParameterException"),
            (ErrorCode::ThrottlingException, "ThrottledException"),
            (ErrorCode::AccessDeniedException, "AccessDeniedException"),
        ] {
            let error = in_words_of_tagging(ApiError::new(code, "why"));
            assert_eq!(error.code().status(), StatusCode::BAD_REQUEST);
            let body = format!(r#"{{"__type":"{name}","Message":"why"}}"#);
            assert_eq!(String::from_utf8(error.body()).unwrap(), body);
        }
        let failure = in_words_of_tagging(ApiError::internal("disk full"));
        assert_eq!(failure.code().name(), "InternalServiceException");
        assert_eq!(failure.code().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
