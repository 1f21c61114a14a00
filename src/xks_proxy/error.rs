//! Why a call of a proxy failed: the names that the specification has for it, and what else can
//! happen on the way.
//!
//! Source: AWS KMS External Key Store Proxy API specification, "Error codes".

use crate::error_code::ErrorCode;
use http::StatusCode;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// `errorName` of a proxy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantArray)]
#[expect(missing_docs, reason = "the specification describes them")]
pub enum ErrorName {
    AccessDeniedException,
    AuthenticationFailedException,
    DependencyTimeoutException,
    InternalException,
    InvalidCiphertextException,
    InvalidKeyUsageException,
    InvalidStateException,
    InvalidUriPathException,
    KeyNotFoundException,
    ThrottlingException,
    UnsupportedOperationException,
    ValidationException,
}

impl ErrorName {
    /// All, in the order of the alphabet.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As `errorName` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The status that comes with it. It differs from that of AWS KMS where both have a name.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidCiphertextException
            | Self::InvalidKeyUsageException
            | Self::InvalidStateException
            | Self::ValidationException => StatusCode::BAD_REQUEST,
            Self::AuthenticationFailedException => StatusCode::UNAUTHORIZED,
            Self::AccessDeniedException => StatusCode::FORBIDDEN,
            Self::InvalidUriPathException | Self::KeyNotFoundException => StatusCode::NOT_FOUND,
            Self::ThrottlingException => StatusCode::TOO_MANY_REQUESTS,
            Self::InternalException => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UnsupportedOperationException => StatusCode::NOT_IMPLEMENTED,
            Self::DependencyTimeoutException => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The code of this name.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::AccessDeniedException => ErrorCode::AccessDeniedException,
            Self::AuthenticationFailedException => ErrorCode::AuthenticationFailedException,
            Self::DependencyTimeoutException => ErrorCode::DependencyTimeoutException,
            Self::InternalException => ErrorCode::InternalException,
            Self::InvalidCiphertextException => ErrorCode::InvalidCiphertextException,
            Self::InvalidKeyUsageException => ErrorCode::InvalidKeyUsageException,
            Self::InvalidStateException => ErrorCode::InvalidStateException,
            Self::InvalidUriPathException => ErrorCode::InvalidUriPathException,
            Self::KeyNotFoundException => ErrorCode::KeyNotFoundException,
            Self::ThrottlingException => ErrorCode::ThrottlingException,
            Self::UnsupportedOperationException => ErrorCode::UnsupportedOperationException,
            Self::ValidationException => ErrorCode::ValidationException,
        }
    }
}

/// Why a call failed. Its text is for the log: it may have words of the proxy or of its TLS, which
/// no caller gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The proxy says so.
    #[error("it answered {0}")]
    Refused(ErrorName),
    /// The configuration does not name this host.
    #[error("no table [xks_proxies.NAME] has the host {0}")]
    NotConfigured(String),
    /// As many calls as may be are under way.
    #[error("too many calls of it are under way")]
    Busy,
    /// There is no connection to it, or it broke before an answer.
    #[error("it cannot be reached: {0}")]
    NotReachable(String),
    /// It took too long; the value is what was waited for.
    #[error("it took too long: {0}")]
    TimedOut(&'static str),
    /// Its TLS, or its view of this side's, is not what it must be.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// It answered, and not as the specification says.
    #[error("its answer cannot be used: {0}")]
    InvalidResponse(String),
}

impl ProxyError {
    /// The labels of errors that are not the proxy's own words.
    const LABELS: [&'static str; 6] = [
        "not_configured",
        "busy",
        "not_reachable",
        "timed_out",
        "tls",
        "invalid_response",
    ];
    /// How many labels there are.
    pub(super) const LABELS_COUNT: usize = Self::LABELS.len() + ErrorName::ALL.len();

    /// The label at a place, below [`Self::LABELS_COUNT`].
    pub(super) fn label_at(place: usize) -> &'static str {
        match Self::LABELS.get(place) {
            Some(label) => label,
            None => ErrorName::ALL[place - Self::LABELS.len()].name(),
        }
    }

    /// The place of its label.
    pub(super) fn label(&self) -> usize {
        match self {
            Self::NotConfigured(_) => 0,
            Self::Busy => 1,
            Self::NotReachable(_) => 2,
            Self::TimedOut(_) => 3,
            Self::Tls(_) => 4,
            Self::InvalidResponse(_) => 5,
            Self::Refused(name) => Self::LABELS.len() + *name as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_statuses_of_the_specification() {
        // The table "Error codes".
        let table = [
            ("ValidationException", 400),
            ("InvalidStateException", 400),
            ("InvalidCiphertextException", 400),
            ("InvalidKeyUsageException", 400),
            ("AuthenticationFailedException", 401),
            ("AccessDeniedException", 403),
            ("KeyNotFoundException", 404),
            ("InvalidUriPathException", 404),
            ("ThrottlingException", 429),
            ("UnsupportedOperationException", 501),
            ("DependencyTimeoutException", 503),
            ("InternalException", 500),
        ];
        assert_eq!(ErrorName::ALL.len(), table.len());
        for (name, status) in table {
            let parsed: ErrorName = name.parse().unwrap();
            assert_eq!((parsed.name(), parsed.code().name()), (name, name));
            assert_eq!(parsed.status().as_u16(), status, "{name}");
        }
        assert!("NotFoundException".parse::<ErrorName>().is_err());
    }

    #[test]
    fn every_error_has_a_label_of_its_own() {
        let own = [
            ProxyError::NotConfigured("a".to_owned()),
            ProxyError::Busy,
            ProxyError::NotReachable("a".to_owned()),
            ProxyError::TimedOut("a"),
            ProxyError::Tls("a".to_owned()),
            ProxyError::InvalidResponse("a".to_owned()),
        ];
        let names = ErrorName::ALL.iter().map(|name| ProxyError::Refused(*name));
        let places: Vec<_> = own
            .into_iter()
            .chain(names)
            .map(|error| error.label())
            .collect();
        assert_eq!(places, (0..ProxyError::LABELS_COUNT).collect::<Vec<_>>());
        assert_eq!(ProxyError::label_at(3), "timed_out");
        let error = ProxyError::Refused(ErrorName::ValidationException);
        assert_eq!(ProxyError::label_at(error.label()), "ValidationException");
    }
}
