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
    Identity,
    Key,
}
