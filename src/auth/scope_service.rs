//! The service that a signature is scoped to.

use crate::keystore::AccessKey;

/// A service of AWS that this one speaks as: the fourth element of a credential scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeService {
    /// AWS KMS, and Keymill's own routes.
    Kms,
    /// AWS STS.
    Sts,
    /// The AWS Resource Groups Tagging API.
    Tagging,
    /// An external key store proxy of AWS KMS.
    Xks,
}

impl ScopeService {
    /// How many there are.
    pub(super) const COUNT: usize = 4;

    /// Its name in a scope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Sts => "sts",
            Self::Tagging => "tagging",
            Self::Xks => "kms-xks-proxy",
        }
    }

    /// Whether an access key of this id signs its requests. The credentials of an external key
    /// store are given to AWS: they sign nothing else, and nothing else signs for them.
    pub(super) fn takes(self, access_key_id: &str) -> bool {
        let is_of_xks = access_key_id.starts_with(AccessKey::EXTERNAL_KEY_STORE);
        is_of_xks == matches!(self, Self::Xks)
    }

    /// Whether a signature must cover this field, if a request to `path` has it, beside `host`.
    ///
    /// On AWS's own path the content type need not be signed: clients that leave it out are many
    /// (AWS SDK for JavaScript v2, aws4fetch, AWS SDK for PHP before 3.385.3), and AWS takes their
    /// requests. There the signed scope and the signed `x-amz-target` say what a request is, and
    /// its content type adds no meaning. On paths of our own it stays signed: clients of those are
    /// written for them. AWS KMS signs `host` and `x-amz-date` alone for an external key store,
    /// whose path says all that the other fields could.
    pub(super) fn must_sign(self, name: &str, path: &str) -> bool {
        match self {
            Self::Xks => name == "x-amz-date",
            _ => name.starts_with("x-amz-") || (name == "content-type" && path != "/"),
        }
    }
    /// Whether its requests may have their signature in the query.
    pub(super) const fn takes_presigned(self) -> bool {
        matches!(self, Self::Sts)
    }
}
