//! What a caller learns of a failure, and separately what the operator learns.
//!
//! Codes, statuses and messages are those of the AWS KMS JSON endpoint: every 4xx error of KMS is
//! answered with status 400 on the wire, whatever the service model's traits say.

use crate::crypto::entropy::EntropyError;
use crate::keystore::KeystoreError;
use http::StatusCode;
use serde_json::Value;
use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;

/// The closed set of codes that this service answers with (AWS KMS API reference, "Common Errors"
/// and each operation's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KmsErrorCode {
    /// The caller may not.
    AccessDeniedException,
    /// The alias exists.
    AlreadyExistsException,
    /// Something else is under way that this would cross.
    ConflictException,
    /// No custom key store has this id: there are none.
    CustomKeyStoreNotFoundException,
    /// The key is disabled.
    DisabledException,
    /// The request would have succeeded, but asked not to be performed.
    DryRunOperationException,
    /// The import token has expired.
    ExpiredImportTokenException,
    /// The security token has expired.
    ExpiredTokenException,
    /// The `Authorization` header is not whole.
    IncompleteSignatureException,
    /// The blob names another key than the request.
    IncorrectKeyException,
    /// The material differs from the material that was imported first, or has another length.
    IncorrectKeyMaterialException,
    /// No alias name.
    InvalidAliasNameException,
    /// An alias where only keys are allowed, or a broken ARN.
    InvalidArnException,
    /// A blob that does not open; never with a message.
    InvalidCiphertextException,
    /// No id of a grant.
    InvalidGrantIdException,
    /// A grant token that is malformed, or not for this caller and key.
    InvalidGrantTokenException,
    /// An import token that was not issued here, or for another key.
    InvalidImportTokenException,
    /// The key's usage or spec does not fit the operation.
    InvalidKeyUsageException,
    /// A marker of another listing, or none at all.
    InvalidMarkerException,
    /// The signature does not verify, or its scope or time is wrong.
    InvalidSignatureException,
    /// Something failed here; clients retry.
    KMSInternalException,
    /// A MAC that does not verify; never with a message.
    KMSInvalidMacException,
    /// A signature that does not verify; never with a message.
    KMSInvalidSignatureException,
    /// The key's state does not permit the operation.
    KMSInvalidStateException,
    /// A quota; clients retry it, although it is a 400.
    LimitExceededException,
    /// No policy document.
    MalformedPolicyDocumentException,
    /// No `Authorization` header.
    MissingAuthenticationTokenException,
    /// An alias that is reserved.
    NotAuthorizedException,
    /// No such key or alias.
    NotFoundException,
    /// The body is larger than the front end takes.
    RequestEntityTooLarge,
    /// The body came too slowly.
    RequestTimeoutException,
    /// The body is not JSON of the right types.
    SerializationException,
    /// Tags that are refused.
    TagException,
    /// Too many requests, in the shape that SDKs retry.
    ThrottlingException,
    /// No such target.
    UnknownOperationException,
    /// No such access key.
    UnrecognizedClientException,
    /// Known to AWS KMS, not built here.
    UnsupportedOperationException,
    /// A member is missing or out of its range.
    ValidationException,
}

impl KmsErrorCode {
    /// Every code, for tables by code.
    pub const ALL: [Self; 38] = [
        Self::AccessDeniedException,
        Self::AlreadyExistsException,
        Self::ConflictException,
        Self::CustomKeyStoreNotFoundException,
        Self::DisabledException,
        Self::DryRunOperationException,
        Self::ExpiredImportTokenException,
        Self::ExpiredTokenException,
        Self::IncompleteSignatureException,
        Self::IncorrectKeyException,
        Self::IncorrectKeyMaterialException,
        Self::InvalidAliasNameException,
        Self::InvalidArnException,
        Self::InvalidCiphertextException,
        Self::InvalidGrantIdException,
        Self::InvalidGrantTokenException,
        Self::InvalidImportTokenException,
        Self::InvalidKeyUsageException,
        Self::InvalidMarkerException,
        Self::InvalidSignatureException,
        Self::KMSInternalException,
        Self::KMSInvalidMacException,
        Self::KMSInvalidSignatureException,
        Self::KMSInvalidStateException,
        Self::LimitExceededException,
        Self::MalformedPolicyDocumentException,
        Self::MissingAuthenticationTokenException,
        Self::NotAuthorizedException,
        Self::NotFoundException,
        Self::RequestEntityTooLarge,
        Self::RequestTimeoutException,
        Self::SerializationException,
        Self::TagException,
        Self::ThrottlingException,
        Self::UnknownOperationException,
        Self::UnrecognizedClientException,
        Self::UnsupportedOperationException,
        Self::ValidationException,
    ];

    /// As `__type` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessDeniedException => "AccessDeniedException",
            Self::AlreadyExistsException => "AlreadyExistsException",
            Self::ConflictException => "ConflictException",
            Self::CustomKeyStoreNotFoundException => "CustomKeyStoreNotFoundException",
            Self::DisabledException => "DisabledException",
            Self::DryRunOperationException => "DryRunOperationException",
            Self::ExpiredImportTokenException => "ExpiredImportTokenException",
            Self::ExpiredTokenException => "ExpiredTokenException",
            Self::IncompleteSignatureException => "IncompleteSignatureException",
            Self::IncorrectKeyException => "IncorrectKeyException",
            Self::IncorrectKeyMaterialException => "IncorrectKeyMaterialException",
            Self::InvalidAliasNameException => "InvalidAliasNameException",
            Self::InvalidArnException => "InvalidArnException",
            Self::InvalidCiphertextException => "InvalidCiphertextException",
            Self::InvalidGrantIdException => "InvalidGrantIdException",
            Self::InvalidGrantTokenException => "InvalidGrantTokenException",
            Self::InvalidImportTokenException => "InvalidImportTokenException",
            Self::InvalidKeyUsageException => "InvalidKeyUsageException",
            Self::InvalidMarkerException => "InvalidMarkerException",
            Self::InvalidSignatureException => "InvalidSignatureException",
            Self::KMSInternalException => "KMSInternalException",
            Self::KMSInvalidMacException => "KMSInvalidMacException",
            Self::KMSInvalidSignatureException => "KMSInvalidSignatureException",
            Self::KMSInvalidStateException => "KMSInvalidStateException",
            Self::LimitExceededException => "LimitExceededException",
            Self::MalformedPolicyDocumentException => "MalformedPolicyDocumentException",
            Self::MissingAuthenticationTokenException => "MissingAuthenticationTokenException",
            Self::NotAuthorizedException => "NotAuthorizedException",
            Self::NotFoundException => "NotFoundException",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::RequestTimeoutException => "RequestTimeoutException",
            Self::SerializationException => "SerializationException",
            Self::TagException => "TagException",
            Self::ThrottlingException => "ThrottlingException",
            Self::UnknownOperationException => "UnknownOperationException",
            Self::UnrecognizedClientException => "UnrecognizedClientException",
            Self::UnsupportedOperationException => "UnsupportedOperationException",
            Self::ValidationException => "ValidationException",
        }
    }

    /// The status on the wire.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::KMSInternalException => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeoutException => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The authorization layer capitalises the member; everything else does not.
    fn message_member(self) -> &'static str {
        match self {
            Self::AccessDeniedException => "Message",
            _ => "message",
        }
    }
}

/// A refusal or a failure.
#[derive(Debug)]
pub struct ApiError {
    code: KmsErrorCode,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
    is_undecided: bool,
}

impl ApiError {
    /// A refusal with a message for the caller; an empty one is left out of the body.
    pub fn new(code: KmsErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
            is_undecided: false,
        }
    }

    /// A refusal without a message.
    #[must_use]
    pub fn bare(code: KmsErrorCode) -> Self {
        Self::new(code, "")
    }

    /// A failure here: the caller learns nothing but that, the operator finds `source` in the log.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            code: KmsErrorCode::KMSInternalException,
            message: Cow::Borrowed(""),
            source: Some(source.into()),
            is_undecided: false,
        }
    }

    /// Puts `what`, such as a row of a stream, before the message.
    #[must_use]
    pub fn about(mut self, what: impl Display) -> Self {
        self.message = match &*self.message {
            "" => format!("{what}."),
            message => format!("{what}: {message}"),
        }
        .into();
        self
    }

    /// Marks the refusal of a request whose policies took too many steps.
    pub(super) fn undecided(mut self, is_undecided: bool) -> Self {
        self.is_undecided = is_undecided;
        self
    }

    /// Whether policies were not decided on to their end, for want of steps: with more of them the
    /// answer may be another.
    pub(super) fn is_undecided(&self) -> bool {
        self.is_undecided
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> KmsErrorCode {
        self.code
    }

    /// The message for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The cause, which only the operator sees.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.source.as_deref()
    }

    /// `{"__type":"<code>","message":"<text>"}`
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let quoted = |text: &str| Value::from(text).to_string();
        let code = quoted(self.code.name());
        let body = match &*self.message {
            "" => format!(r#"{{"__type":{code}}}"#),
            message => {
                let (member, message) = (self.code.message_member(), quoted(message));
                format!(r#"{{"__type":{code},"{member}":{message}}}"#)
            }
        };
        body.into_bytes()
    }
}

impl From<EntropyError> for ApiError {
    fn from(error: EntropyError) -> Self {
        Self::internal(error)
    }
}

impl From<KeystoreError> for ApiError {
    fn from(error: KeystoreError) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_members_that_clients_read() {
        let body = |error: ApiError| String::from_utf8(error.body()).unwrap();
        let denied = ApiError::new(KmsErrorCode::AccessDeniedException, "no");
        assert_eq!(
            body(denied),
            r#"{"__type":"AccessDeniedException","Message":"no"}"#
        );
        let missing = ApiError::new(KmsErrorCode::NotFoundException, "a \"b\"");
        assert_eq!(
            body(missing),
            r#"{"__type":"NotFoundException","message":"a \"b\""}"#
        );
        let blob = ApiError::bare(KmsErrorCode::InvalidCiphertextException);
        assert_eq!(body(blob), r#"{"__type":"InvalidCiphertextException"}"#);
        let failure = ApiError::internal("disk full");
        assert_eq!(body(failure), r#"{"__type":"KMSInternalException"}"#);
    }

    #[test]
    fn codes_are_each_listed_once() {
        for (at, code) in KmsErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at, "{code:?}");
            assert_eq!(format!("{code:?}"), code.name());
        }
    }
}
