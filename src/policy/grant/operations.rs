//! The operations of a grant: a set of actions that grants may allow.

use crate::key::spec::{KeySpec, KeyUsage};
use crate::operation::Action;
use std::fmt;

/// A set of actions, each of which a grant may allow.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantOperations(u32);

const _: () = assert!(Action::GRANTABLE <= u32::BITS as usize);

impl GrantOperations {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `action` is among them.
    #[must_use]
    pub fn has(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    /// Whether all of `others` are among them.
    #[must_use]
    pub fn contain(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// The actions, in the order of the service model.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        let all = Action::grantable().into_iter();
        all.filter(move |action| self.has(*action))
    }

    /// The set behind this one in their order; `None` behind the last one.
    pub(super) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    pub(super) fn is_only(self, action: Action) -> bool {
        self.0 == bit(action)
    }
}

/// Operations that a grant cannot give, since keys of that kind do not have them. The message is
/// that of AWS KMS (measured, September 2026).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Operations [{}] are not supported when creating a grant for {} KMS key with key usage {usage}. Valid operations are [{}]",
    names(*refused),
    if matches!(spec, KeySpec::Pair(_)) { "an asymmetric" } else { "a symmetric" },
    names(*valid)
)]
pub struct OperationsOfOtherKeys {
    refused: GrantOperations,
    valid: GrantOperations,
    spec: KeySpec,
    usage: KeyUsage,
}

impl OperationsOfOtherKeys {
    /// Those among `operations` that keys of this spec and usage do not have, if there are any.
    pub(super) fn of(operations: GrantOperations, spec: KeySpec, usage: KeyUsage) -> Option<Self> {
        let has = |action: &Action| action.facts().keys.contain(spec, usage);
        let refused: GrantOperations = operations.iter().filter(|one| !has(one)).collect();
        (!refused.is_empty()).then(|| Self {
            refused,
            valid: Action::grantable().into_iter().filter(has).collect(),
            spec,
            usage,
        })
    }
}

fn names(operations: GrantOperations) -> String {
    let names: Vec<_> = operations.iter().map(Action::bare_name).collect();
    names.join(", ")
}

/// The bit of an action; 0 for an action that a grant cannot allow.
fn bit(action: Action) -> u32 {
    action.grant_place().map_or(0, |place| 1 << place)
}

impl FromIterator<Action> for GrantOperations {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let bits = actions.into_iter().map(bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

impl fmt::Debug for GrantOperations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.iter()).finish()
    }
}
