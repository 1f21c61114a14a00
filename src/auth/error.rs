//! Why a caller was not authenticated.

use std::borrow::Cow;

/// A refusal before any operation, with the code and the message of AWS's front end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AuthError {
    /// Such as `InvalidSignatureException`.
    pub code: &'static str,
    /// What the caller is told.
    pub message: Cow<'static, str>,
}
