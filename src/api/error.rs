//! What a caller learns of a failure, and separately what the operator learns.
//!
//! Codes, statuses and messages are those of the AWS KMS JSON endpoint: every 4xx error of KMS is
//! answered with status 400 on the wire, whatever the service model's traits say.

use crate::api::proxy_call::ProxyCall;
use crate::crypto::entropy::EntropyError;
use crate::error_code::ErrorCode;
use crate::keystore::KeystoreError;
use serde_json::Value;
use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;

/// A refusal or a failure.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
    unfinished: Option<Unfinished>,
}

/// Why an operation ended before it was decided: it is performed once more, and its caller never
/// sees the refusal.
#[derive(Debug)]
enum Unfinished {
    /// Its policies took too many steps.
    Undecided,
    /// It needs an answer of an external key store proxy.
    AtProxy(Box<ProxyCall>),
}

impl ApiError {
    /// A refusal with a message for the caller; an empty one is left out of the body.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
            unfinished: None,
        }
    }

    /// A refusal without a message.
    #[must_use]
    pub fn bare(code: ErrorCode) -> Self {
        Self::new(code, "")
    }

    /// A failure here: the caller learns nothing but that, the operator finds `source` in the log.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            code: ErrorCode::KMSInternalException,
            message: Cow::Borrowed(""),
            source: Some(source.into()),
            unfinished: None,
        }
    }

    /// The end of an operation that needs this answer of a proxy first. Where no proxy is asked, it
    /// is a failure.
    pub(super) fn at_proxy(call: ProxyCall) -> Self {
        Self {
            unfinished: Some(Unfinished::AtProxy(Box::new(call))),
            ..Self::internal("an operation that asks no proxy needed one")
        }
    }

    /// The answer of a proxy that is needed, or else the refusal.
    pub(super) fn into_call(mut self) -> Result<Box<ProxyCall>, Self> {
        match self.unfinished.take() {
            Some(Unfinished::AtProxy(call)) => Ok(call),
            unfinished => {
                self.unfinished = unfinished;
                Err(self)
            }
        }
    }

    /// The same refusal in the words of another service; `message` in place of its own, if there is
    /// one.
    #[must_use]
    pub(crate) fn spelt(mut self, code: ErrorCode, message: Option<&'static str>) -> Self {
        self.code = code;
        if let Some(message) = message {
            self.message = message.into();
        }
        self
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
    pub(crate) fn undecided(mut self, is_undecided: bool) -> Self {
        self.unfinished = is_undecided.then_some(Unfinished::Undecided);
        self
    }

    /// Whether the operation is to be performed once more.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Whether policies were not decided on to their end, for want of steps: with more of them the
    /// answer may be another.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self.unfinished, Some(Unfinished::Undecided))
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
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
        let denied = ApiError::new(ErrorCode::AccessDeniedException, "no");
        assert_eq!(
            body(denied),
            r#"{"__type":"AccessDeniedException","Message":"no"}"#
        );
        let missing = ApiError::new(ErrorCode::NotFoundException, "a \"b\"");
        assert_eq!(
            body(missing),
            r#"{"__type":"NotFoundException","message":"a \"b\""}"#
        );
        let blob = ApiError::bare(ErrorCode::InvalidCiphertextException);
        assert_eq!(body(blob), r#"{"__type":"InvalidCiphertextException"}"#);
        let failure = ApiError::internal("disk full");
        assert_eq!(body(failure), r#"{"__type":"KMSInternalException"}"#);
    }

    #[test]
    fn codes_are_each_listed_once() {
        for (at, code) in ErrorCode::ALL.iter().copied().enumerate() {
            assert_eq!(code as usize, at, "{code:?}");
            // STS has two codes that KMS's front end calls by one name, with other statuses.
            let name = match code {
                ErrorCode::ExpiredIdentityToken => "ExpiredTokenException".to_owned(),
                code => format!("{code:?}"),
            };
            assert_eq!(name, code.name());
        }
    }
}
