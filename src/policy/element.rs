//! The elements of a policy that decide how the others are read.

/// The effect of a statement that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// The set of elements that a statement may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// A policy of a principal, or of a session: what they may do.
    Identity,
    /// A key policy: who may use its key.
    Key,
    /// A trust policy: who may assume its role.
    Trust,
}
