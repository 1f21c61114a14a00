//! Refusals in the words of the tagging API: where its codes are not those of KMS.
//!
//! Source: its service model, of the errors of each operation.

use crate::api::{ApiError, KmsErrorCode};

/// The codes of KMS, and what the tagging API calls them.
const WORDS: [(KmsErrorCode, KmsErrorCode); 4] = [
    (
        KmsErrorCode::ValidationException,
        KmsErrorCode::InvalidParameterException,
    ),
    (
        KmsErrorCode::InvalidMarkerException,
        KmsErrorCode::InvalidParameterException,
    ),
    (
        KmsErrorCode::ThrottlingException,
        KmsErrorCode::ThrottledException,
    ),
    (
        KmsErrorCode::KMSInternalException,
        KmsErrorCode::InternalServiceException,
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
            (
                KmsErrorCode::ValidationException,
                "InvalidParameterException",
            ),
            (KmsErrorCode::ThrottlingException, "ThrottledException"),
            (KmsErrorCode::AccessDeniedException, "AccessDeniedException"),
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
