//! The error of a policy that is refused.

use std::borrow::Cow;
use std::fmt;

/// A policy that is refused, with the place and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidPolicy {
    reason: String,
    /// The message of AWS KMS, where it is known.
    of_kms: Option<&'static str>,
}

impl InvalidPolicy {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            of_kms: None,
        }
    }

    pub(super) fn principal(reason: String) -> Self {
        let of_kms = Some("Policy contains a statement with one or more invalid principals.");
        Self { reason, of_kms }
    }

    pub(super) fn overly_permissive() -> Self {
        Self {
            reason: "ForAllValues holds without the pair that it asks for".to_owned(),
            of_kms: Some(
                "OverlyPermissiveCondition:EncryptionContext: Using the ForAllValues set operator with a single-valued condition key \
                 matches requests without the specified encryption context or with an unspecified encryption context. To fix, remove ForAllValues.",
            ),
        }
    }

    /// Puts the place before the reason.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.reason = format!("{place}: {}", self.reason);
        self
    }

    /// The message of `MalformedPolicyDocumentException`: that of AWS KMS where it is known, else
    /// place and reason.
    #[must_use]
    pub fn message(&self) -> Cow<'static, str> {
        match self.of_kms {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(self.reason.clone()),
        }
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.reason)
    }
}

impl std::error::Error for InvalidPolicy {}

pub(super) fn refuse<T>(reason: impl Into<String>) -> Result<T, InvalidPolicy> {
    Err(InvalidPolicy::new(reason))
}
