//! The service that a signature is scoped to.

/// A service of AWS that this one speaks as: the fourth element of a credential scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeService {
    /// AWS KMS, and Keymill's own routes.
    Kms,
    /// AWS STS.
    Sts,
    /// The AWS Resource Groups Tagging API.
    Tagging,
}

impl ScopeService {
    /// How many there are.
    pub(super) const COUNT: usize = 3;

    /// Its name in a scope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Sts => "sts",
            Self::Tagging => "tagging",
        }
    }
    /// Whether its requests may have their signature in the query.
    pub(super) const fn takes_presigned(self) -> bool {
        matches!(self, Self::Sts)
    }
}
