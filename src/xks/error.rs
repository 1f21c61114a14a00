//! Refusals in the words of the External Key Store Proxy API, and with its statuses.
//!
//! Source: AWS KMS External Key Store Proxy API specification, "Error codes".

use crate::api::{ApiError, ErrorCode};
use crate::xks_proxy::ErrorName;
use http::StatusCode;
use serde_json::json;

/// The most characters of `errorMessage`: less than 512.
const MESSAGE_CHARACTERS_MAX: usize = 511;

/// The same refusal with the code of this API. A code that AWS KMS has as well stays.
#[must_use]
pub fn in_words_of_xks(error: ApiError) -> ApiError {
    let code = name(error.code()).code();
    error.spelt(code, None)
}

/// The status of a refusal, which differs from that of AWS KMS.
#[must_use]
pub fn status(code: ErrorCode) -> StatusCode {
    name(code).status()
}

fn name(code: ErrorCode) -> ErrorName {
    match code {
        ErrorCode::AccessDeniedException => ErrorName::AccessDeniedException,
        ErrorCode::AuthenticationFailedException
        | ErrorCode::ExpiredTokenException
        | ErrorCode::IncompleteSignatureException
        | ErrorCode::InvalidSignatureException
        | ErrorCode::MissingAuthenticationTokenException
        | ErrorCode::UnrecognizedClientException => ErrorName::AuthenticationFailedException,
        ErrorCode::DependencyTimeoutException | ErrorCode::RequestTimeoutException => {
            ErrorName::DependencyTimeoutException
        }
        ErrorCode::InvalidCiphertextException => ErrorName::InvalidCiphertextException,
        ErrorCode::InvalidKeyUsageException => ErrorName::InvalidKeyUsageException,
        ErrorCode::InvalidStateException
        | ErrorCode::DisabledException
        | ErrorCode::KMSInvalidStateException => ErrorName::InvalidStateException,
        ErrorCode::InvalidUriPathException => ErrorName::InvalidUriPathException,
        // The key of the configuration: no request names one.
        ErrorCode::KeyNotFoundException
        | ErrorCode::NotFoundException
        | ErrorCode::InvalidArnException => ErrorName::KeyNotFoundException,
        ErrorCode::ThrottlingException => ErrorName::ThrottlingException,
        ErrorCode::UnsupportedOperationException | ErrorCode::RequestEntityTooLarge => {
            ErrorName::UnsupportedOperationException
        }
        ErrorCode::ValidationException | ErrorCode::SerializationException => {
            ErrorName::ValidationException
        }
        _ => ErrorName::InternalException,
    }
}

/// `{"errorName":"<code>","errorMessage":"<text>"}`; the message has printable ASCII alone, and is
/// left out where it is empty.
#[must_use]
pub fn body(error: &ApiError) -> Vec<u8> {
    let printable = |one: char| if matches!(one, ' '..='~') { one } else { '?' };
    let message = error.message().chars().take(MESSAGE_CHARACTERS_MAX);
    let message: String = message.map(printable).collect();
    let name = error.code().name();
    let body = match message.as_str() {
        "" => json!({ "errorName": name }),
        message => json!({ "errorName": name, "errorMessage": message }),
    };
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_and_its_status() {
        for code in ErrorCode::ALL {
            let error = in_words_of_xks(ApiError::bare(*code));
            let name: ErrorName = error.code().name().parse().unwrap();
            assert_eq!(status(*code), name.status());
            assert_eq!(
                status(error.code()),
                name.status(),
                "to say it twice changes nothing"
            );
            assert_eq!(in_words_of_xks(error).code(), name.code());
        }
        for name in ErrorName::ALL {
            let error = in_words_of_xks(ApiError::bare(name.code()));
            assert_eq!(error.code(), name.code());
        }
    }

    #[test]
    fn causes_have_their_names() {
        for (code, name) in [
            (ErrorCode::DisabledException, "InvalidStateException"),
            (ErrorCode::KMSInvalidStateException, "InvalidStateException"),
            (ErrorCode::NotFoundException, "KeyNotFoundException"),
            (ErrorCode::InvalidArnException, "KeyNotFoundException"),
            (
                ErrorCode::UnrecognizedClientException,
                "AuthenticationFailedException",
            ),
            (
                ErrorCode::InvalidSignatureException,
                "AuthenticationFailedException",
            ),
            (
                ErrorCode::RequestEntityTooLarge,
                "UnsupportedOperationException",
            ),
            (
                ErrorCode::RequestTimeoutException,
                "DependencyTimeoutException",
            ),
            (ErrorCode::SerializationException, "ValidationException"),
            (ErrorCode::KMSInternalException, "InternalException"),
        ] {
            assert_eq!(in_words_of_xks(ApiError::bare(code)).code().name(), name);
        }
    }

    #[test]
    fn messages_are_short_and_printable() {
        let text = |error: &ApiError| String::from_utf8(body(error)).unwrap();
        let bare = ApiError::bare(ErrorCode::InvalidCiphertextException);
        assert_eq!(text(&bare), r#"{"errorName":"InvalidCiphertextException"}"#);
        let error = ApiError::new(ErrorCode::ValidationException, "a\n\u{7f}ä\"~ b");
        let expected = r#"{"errorMessage":"a???\"~ b","errorName":"ValidationException"}"#;
        assert_eq!(text(&error), expected);
        let long = ApiError::new(ErrorCode::ValidationException, "~".repeat(1000));
        assert_eq!(text(&long).matches('~').count(), 511);
    }
}
