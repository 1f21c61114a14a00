//! Grants: what a principal may do with one key, besides the policies. A grant only allows.
//!
//! A grant is made from parameters that were checked ([`GrantParameters`]), so every grant is
//! well-formed. Names of context pairs in a constraint are compared without regard to ASCII case,
//! values exactly. If a request has names that differ only in case, each of their values must be
//! that of the constraint.
//!
//! Sources: AWS KMS API Reference, "CreateGrant" and "GrantConstraints"; AWS KMS Developer Guide,
//! "Grants in AWS KMS",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/grants.html>.
//!
//! This module does not seal or open grant tokens.

use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use crate::key::KeyId;
use crate::key::arn::AccountId;
use crate::key::spec::{KeySpec, KeyUsage};
use crate::operation::Action;
use crate::policy::principal::PrincipalKind;
use crate::policy::principal::name::Naming;
use crate::policy::steps::Steps;
use crate::policy::{Principal, PrincipalName};

mod identifier;
mod of_key;
pub mod operations;

pub use identifier::{
    GrantId, GrantName, GrantToken, InvalidGrantId, InvalidGrantName, InvalidGrantToken,
};
pub use of_key::KeyGrants;
pub use operations::GrantOperations;

/// A grant on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The key that it belongs to.
    pub key: KeyId,
    /// The grantee, the operations and the constraint.
    pub parameters: GrantParameters,
    /// The account under which it was made.
    pub issuing_account: AccountId,
    /// When it was made.
    pub creation_date: Timestamp,
}

/// The parameters of a grant, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantParameters {
    grantee: PrincipalName,
    retiring_principal: Option<PrincipalName>,
    operations: GrantOperations,
    constraint: Option<GrantConstraint>,
    name: Option<GrantName>,
}

/// The required encryption context of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantConstraint {
    /// Exactly these pairs.
    Equals(EncryptionContext),
    /// These pairs, and any others.
    Subset(EncryptionContext),
}

/// Parameters of a grant as a request gives them.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// `GranteePrincipal`
    pub grantee: &'a str,
    /// `RetiringPrincipal`
    pub retiring_principal: Option<&'a str>,
    /// `Operations`
    pub operations: GrantOperations,
    /// `Constraints.EncryptionContextEquals`
    pub equals: Option<&'a EncryptionContext>,
    /// `Constraints.EncryptionContextSubset`
    pub subset: Option<&'a EncryptionContext>,
    /// `Name`
    pub name: Option<&'a GrantName>,
}

/// Why parameters do not make a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// The grantee is not an account, user, role, session or federated user.
    #[error(
        "the grantee principal is not the ARN of an account, a user, a role, a session of a role or a federated user"
    )]
    Grantee,
    /// The retiring principal is not one of these.
    #[error(
        "the retiring principal is not the ARN of an account, a user, a role, a session of a role or a federated user"
    )]
    RetiringPrincipal,
    /// It has no operation.
    #[error("a grant needs at least one operation")]
    NoOperation,
    /// Its only operation is `CreateGrant`, so grants made from it could allow nothing.
    #[error("Grants must not contain only the CreateGrant operation.")]
    OnlyCreateGrant,
    /// A key of this spec and usage has no such operation.
    #[error("the operation {} is not one of the key's", .0.bare_name())]
    Operation(Action),
    /// It has both kinds of constraint, or one of them twice, even if one is empty.
    #[error("More than one constraint supplied")]
    TwoConstraints,
    /// Only operations under a symmetric encryption key have an encryption context.
    #[error("a constraint needs a symmetric encryption key")]
    ConstraintWithoutContext,
    /// More than [`GrantConstraint::PAIRS_MAX`] pairs.
    #[error("a constraint has at most 8 pairs")]
    Pairs,
    /// A value of more than [`GrantConstraint::VALUE_CHARACTERS_MAX`] characters.
    #[error("a value of a constraint has at most 384 characters")]
    Value,
    /// Two names differ only in case: no request could satisfy both.
    #[error("names of a constraint differ only in case")]
    Names,
    /// It is made from a grant and allows more than that grant.
    #[error(
        "a grant made from a grant gives no more operations, and is constrained at least as strictly"
    )]
    MoreThanParent,
}

/// Whether a grant allows a principal to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantAnswer {
    /// The grant does not apply.
    No,
    /// The grant names the account of the principal, which also needs an allow in its identity
    /// policies.
    WithIdentityPolicy,
    /// The grant allows it.
    Yes,
}

impl GrantConstraint {
    /// The most pairs of a constraint.
    pub const PAIRS_MAX: usize = 8;
    /// The most characters of a value.
    pub const VALUE_CHARACTERS_MAX: usize = 384;

    /// `GrantConstraintType` in conditions: the constraint's name.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Equals(_) => "EncryptionContextEquals",
            Self::Subset(_) => "EncryptionContextSubset",
        }
    }

    /// The pairs.
    #[must_use]
    pub fn pairs(&self) -> &EncryptionContext {
        match self {
            Self::Equals(pairs) | Self::Subset(pairs) => pairs,
        }
    }

    /// Whether a request with this context satisfies the constraint.
    #[must_use]
    pub fn holds(&self, context: &EncryptionContext) -> bool {
        self.holds_in(context, &Steps::unbounded())
    }

    /// Does what [`Self::holds`] does, and counts the steps.
    fn holds_in(&self, context: &EncryptionContext, steps: &Steps) -> bool {
        contains(context, self.pairs(), steps)
            && match self {
                Self::Subset(_) => true,
                Self::Equals(pairs) => pairs.len() == context.len(),
            }
    }

    /// Whether every context that satisfies this constraint also satisfies `other`.
    fn is_as_strict_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Equals(pairs) | Self::Subset(pairs), Self::Subset(_)) => other.holds(pairs),
            (Self::Equals(pairs), Self::Equals(_)) => other.holds(pairs),
            (Self::Subset(_), Self::Equals(_)) => false,
        }
    }

    fn check(&self) -> Result<(), InvalidGrant> {
        let pairs = self.pairs();
        if pairs.pairs().count() > Self::PAIRS_MAX {
            return Err(InvalidGrant::Pairs);
        }
        let long = |value: &str| value.chars().count() > Self::VALUE_CHARACTERS_MAX;
        if pairs.pairs().any(|(_, value)| long(value)) {
            return Err(InvalidGrant::Value);
        }
        let folded = |name: &str| {
            let same = pairs
                .pairs()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name));
            same.count()
        };
        if pairs.pairs().any(|(name, _)| folded(name) > 1) {
            return Err(InvalidGrant::Names);
        }
        Ok(())
    }
}

/// Whether `context` has each of `pairs`, and no other value under such a name.
fn contains(context: &EncryptionContext, pairs: &EncryptionContext, steps: &Steps) -> bool {
    pairs.pairs().all(|(name, value)| {
        steps.spend(context.len());
        let mut of_name = context
            .pairs()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .peekable();
        of_name.peek().is_some() && of_name.all(|(_, other)| other == value)
    })
}

impl GrantParameters {
    /// Checks a draft, except for the rules that depend on the key.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn check(draft: Draft<'_>) -> Result<Self, InvalidGrant> {
        let grantee = principal(draft.grantee).ok_or(InvalidGrant::Grantee)?;
        let retiring_principal = match draft.retiring_principal {
            None => None,
            Some(text) => Some(principal(text).ok_or(InvalidGrant::RetiringPrincipal)?),
        };
        let operations = draft.operations;
        if operations.is_empty() {
            return Err(InvalidGrant::NoOperation);
        }
        if operations.is_only(Action::CreateGrant) {
            return Err(InvalidGrant::OnlyCreateGrant);
        }
        let constraint = match (draft.equals, draft.subset) {
            (Some(_), Some(_)) => return Err(InvalidGrant::TwoConstraints),
            (Some(pairs), None) => Some(GrantConstraint::Equals(pairs.clone())),
            (None, Some(pairs)) => Some(GrantConstraint::Subset(pairs.clone())),
            (None, None) => None,
        };
        if let Some(constraint) = &constraint {
            constraint.check()?;
        }
        Ok(Self {
            grantee,
            retiring_principal,
            operations,
            constraint,
            name: draft.name.cloned(),
        })
    }

    /// Checks that a key of this `KeySpec` and `KeyUsage` can have such a grant.
    ///
    /// # Errors
    /// [`InvalidGrant::Operation`], [`InvalidGrant::ConstraintWithoutContext`].
    pub fn check_key(&self, spec: KeySpec, usage: KeyUsage) -> Result<(), InvalidGrant> {
        let has = |action: Action| action.facts().keys.contain(spec, usage);
        let mut operations = self.operations.iter();
        if let Some(other) = operations.find(|one| !has(*one)) {
            return Err(InvalidGrant::Operation(other));
        }
        if self.constraint.is_some() && spec != KeySpec::Symmetric {
            return Err(InvalidGrant::ConstraintWithoutContext);
        }
        Ok(())
    }

    /// The grantee.
    #[must_use]
    pub fn grantee(&self) -> &PrincipalName {
        &self.grantee
    }

    /// A principal that may retire it, besides others.
    #[must_use]
    pub fn retiring_principal(&self) -> Option<&PrincipalName> {
        self.retiring_principal.as_ref()
    }

    /// The operations that it allows.
    #[must_use]
    pub fn operations(&self) -> GrantOperations {
        self.operations
    }

    /// Its constraint.
    #[must_use]
    pub fn constraint(&self) -> Option<&GrantConstraint> {
        self.constraint.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Option<&GrantName> {
        self.name.as_ref()
    }

    /// Checks that a holder of the grant `parent` may make this one.
    ///
    /// # Errors
    /// [`InvalidGrant::MoreThanParent`].
    pub fn check_within(&self, parent: &Self) -> Result<(), InvalidGrant> {
        let strict = match (&self.constraint, &parent.constraint) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(this), Some(parent)) => this.is_as_strict_as(parent),
        };
        if strict && parent.operations.contain(self.operations) {
            Ok(())
        } else {
            Err(InvalidGrant::MoreThanParent)
        }
    }
}

/// A principal that a grant can name. It is named by an ARN; a bare account id is refused.
fn principal(text: &str) -> Option<PrincipalName> {
    if !text.starts_with("arn:") {
        return None;
    }
    text.parse().ok()
}

impl Grant {
    /// The most grants of a key.
    pub const PER_KEY_MAX: usize = 50_000;

    /// Whether it allows `principal` to perform `action` with this context.
    ///
    /// `CreateGrant` is allowed only for a grant within this one: see
    /// [`GrantParameters::check_within`]. `DescribeKey` and `RetireGrant` have no context, so no
    /// constraint applies to them.
    #[must_use]
    pub fn allows(
        &self,
        principal: &Principal,
        action: Action,
        context: Option<&EncryptionContext>,
    ) -> GrantAnswer {
        self.allows_in(principal, action, context, &Steps::unbounded())
    }

    /// Does what [`Self::allows`] does, and counts the steps.
    fn allows_in(
        &self,
        principal: &Principal,
        action: Action,
        context: Option<&EncryptionContext>,
        steps: &Steps,
    ) -> GrantAnswer {
        let parameters = &self.parameters;
        if !parameters.operations.has(action) {
            return GrantAnswer::No;
        }
        let none = EncryptionContext::default();
        let holds = match &parameters.constraint {
            Some(constraint) if action.facts().has_context => {
                constraint.holds_in(context.unwrap_or(&none), steps)
            }
            _ => true,
        };
        if holds {
            answer(&parameters.grantee, principal)
        } else {
            GrantAnswer::No
        }
    }

    /// Whether `principal` may retire it. The retiring principal may, the grantee may if
    /// `RetireGrant` is among the operations, and the account under which it was made may.
    #[must_use]
    pub fn is_retired_by(&self, principal: &Principal) -> GrantAnswer {
        let parameters = &self.parameters;
        let mut answers = [GrantAnswer::No; 3];
        if let Some(retiring) = &parameters.retiring_principal {
            answers[0] = answer(retiring, principal);
        }
        answers[1] = self.allows(principal, Action::RetireGrant, None);
        if self.issuing_account == principal.account {
            answers[2] = if principal.kind() == PrincipalKind::Root {
                GrantAnswer::Yes
            } else {
                GrantAnswer::WithIdentityPolicy
            };
        }
        for best in [GrantAnswer::Yes, GrantAnswer::WithIdentityPolicy] {
            if answers.contains(&best) {
                return best;
            }
        }
        GrantAnswer::No
    }

    /// Whether `principal` is the grantee, who may use its token.
    #[must_use]
    pub fn is_granted_to(&self, principal: &Principal) -> bool {
        answer(&self.parameters.grantee, principal) != GrantAnswer::No
    }
}

fn answer(name: &PrincipalName, principal: &Principal) -> GrantAnswer {
    match name.names(principal) {
        Naming::Not => GrantAnswer::No,
        Naming::Account => GrantAnswer::WithIdentityPolicy,
        Naming::Principal => GrantAnswer::Yes,
    }
}

#[cfg(test)]
mod tests;
