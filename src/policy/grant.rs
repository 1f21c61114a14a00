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
use crate::key::arn::AccountId;
use crate::key::regions::RegionalId;
use crate::key::spec::{KeySpec, KeyUsage};
use crate::operation::Action;
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use crate::policy::principal::name::Naming;
use crate::policy::steps::Steps;

pub mod constraint;
mod identifier;
mod named;
mod of_grantee;
mod of_key;
pub mod operations;

pub use constraint::{GrantConstraint, SourceArn};
pub use identifier::{
    GrantId, GrantName, GrantToken, InvalidGrantId, InvalidGrantName, InvalidGrantToken,
};
pub use named::{GrantPrincipal, Named, ServicePrincipal};
pub(in crate::policy) use of_key::GrantAsk;
pub use of_key::KeyGrants;
pub use operations::{GrantOperations, OperationsOfOtherKeys};

/// A grant on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The key that it belongs to.
    pub key: RegionalId,
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
    grantee: GrantPrincipal,
    retiring_principal: Option<GrantPrincipal>,
    operations: GrantOperations,
    /// Most grants have none.
    constraint: Option<Box<GrantConstraint>>,
    source_arn: Option<SourceArn>,
    name: Option<GrantName>,
}

/// Parameters of a grant as a request gives them.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// `GranteePrincipal`, or `GranteeServicePrincipal`
    pub grantee: Named<'a>,
    /// `RetiringPrincipal`, or `RetiringServicePrincipal`
    pub retiring_principal: Option<Named<'a>>,
    /// `Operations`
    pub operations: GrantOperations,
    /// `Constraints.EncryptionContextEquals`
    pub equals: Option<&'a EncryptionContext>,
    /// `Constraints.EncryptionContextSubset`
    pub subset: Option<&'a EncryptionContext>,
    /// `Constraints.SourceArn`
    pub source_arn: Option<&'a SourceArn>,
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
    /// Keys of this kind do not have all of its operations.
    #[error(transparent)]
    Operations(OperationsOfOtherKeys),
    /// It has both kinds of constraint on the encryption context.
    #[error("More than one constraint supplied")]
    TwoConstraints,
    /// Only operations under a symmetric encryption key have an encryption context.
    #[error(
        "EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key."
    )]
    ConstraintWithoutContext,
    /// A service is bound to the resource on behalf of which it calls.
    #[error("a GranteeServicePrincipal needs the constraint SourceArn")]
    ServiceWithoutSourceArn,
    /// A service's grant says who retires it.
    #[error("a GranteeServicePrincipal needs a RetiringPrincipal or a RetiringServicePrincipal")]
    ServiceWithoutRetiringPrincipal,
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

impl GrantParameters {
    /// Checks a draft, except for the rules that depend on the key.
    ///
    /// # Errors
    /// [`InvalidGrant`].
    pub fn check(draft: Draft<'_>) -> Result<Self, InvalidGrant> {
        let grantee = draft.grantee.parse().ok_or(InvalidGrant::Grantee)?;
        let retiring_principal = match draft.retiring_principal {
            None => None,
            Some(named) => Some(named.parse().ok_or(InvalidGrant::RetiringPrincipal)?),
        };
        if grantee.service().is_some() {
            if draft.source_arn.is_none() {
                return Err(InvalidGrant::ServiceWithoutSourceArn);
            }
            if retiring_principal.is_none() {
                return Err(InvalidGrant::ServiceWithoutRetiringPrincipal);
            }
        }
        let operations = draft.operations;
        if operations.is_empty() {
            return Err(InvalidGrant::NoOperation);
        }
        if operations.is_only(Action::CreateGrant) {
            return Err(InvalidGrant::OnlyCreateGrant);
        }
        Ok(Self {
            grantee,
            retiring_principal,
            operations,
            constraint: GrantConstraint::of(draft.equals, draft.subset)?.map(Box::new),
            source_arn: draft.source_arn.cloned(),
            name: draft.name.cloned(),
        })
    }

    /// Checks that a key of this `KeySpec` and `KeyUsage` can have such a grant.
    ///
    /// # Errors
    /// [`InvalidGrant::Operations`], [`InvalidGrant::ConstraintWithoutContext`].
    pub fn check_key(&self, spec: KeySpec, usage: KeyUsage) -> Result<(), InvalidGrant> {
        if let Some(others) = OperationsOfOtherKeys::of(self.operations, spec, usage) {
            return Err(InvalidGrant::Operations(others));
        }
        if self.constraint.is_some() && spec != KeySpec::Symmetric {
            return Err(InvalidGrant::ConstraintWithoutContext);
        }
        Ok(())
    }

    /// The grantee.
    #[must_use]
    pub fn grantee(&self) -> &GrantPrincipal {
        &self.grantee
    }

    /// A principal that may retire it, besides others.
    #[must_use]
    pub fn retiring_principal(&self) -> Option<&GrantPrincipal> {
        self.retiring_principal.as_ref()
    }

    /// The operations that it allows.
    #[must_use]
    pub fn operations(&self) -> GrantOperations {
        self.operations
    }

    /// Its constraint on the encryption context.
    #[must_use]
    pub fn constraint(&self) -> Option<&GrantConstraint> {
        self.constraint.as_deref()
    }

    /// On behalf of which resource of AWS the request must be.
    #[must_use]
    pub fn source_arn(&self) -> Option<&SourceArn> {
        self.source_arn.as_ref()
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
        let same_source = parent.source_arn.is_none() || parent.source_arn == self.source_arn;
        if strict && same_source && parent.operations.contain(self.operations) {
            Ok(())
        } else {
            Err(InvalidGrant::MoreThanParent)
        }
    }
}

impl Grant {
    /// The most grants of a key.
    pub const PER_KEY_MAX: usize = 50_000;

    /// Whether it allows `principal` to perform `action` with this context, on a key of the account
    /// `owner`.
    ///
    /// `CreateGrant` is allowed only for a grant within this one: see
    /// [`GrantParameters::check_within`]. `DescribeKey` and `RetireGrant` have no context, so no
    /// constraint applies to them.
    #[must_use]
    pub fn allows(
        &self,
        principal: &Principal,
        owner: AccountId,
        action: Action,
        context: Option<&EncryptionContext>,
    ) -> GrantAnswer {
        self.allows_in(principal, owner, action, context, &Steps::unbounded())
    }

    /// Does what [`Self::allows`] does, and counts the steps.
    fn allows_in(
        &self,
        principal: &Principal,
        owner: AccountId,
        action: Action,
        context: Option<&EncryptionContext>,
        steps: &Steps,
    ) -> GrantAnswer {
        let parameters = &self.parameters;
        if !parameters.operations.has(action) {
            return GrantAnswer::No;
        }
        // No service of AWS calls here, so no request is on behalf of a resource of AWS. To retire
        // the grant takes none.
        if parameters.source_arn.is_some() && action != Action::RetireGrant {
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
            self.answer(&parameters.grantee, principal, owner)
        } else {
            GrantAnswer::No
        }
    }

    /// Whether `principal` may retire it, on a key of the account `owner`. The retiring principal
    /// may, the grantee may if `RetireGrant` is among the operations, and the account under which
    /// it was made may.
    #[must_use]
    pub fn is_retired_by(&self, principal: &Principal, owner: AccountId) -> GrantAnswer {
        let parameters = &self.parameters;
        let mut answers = [GrantAnswer::No; 3];
        if let Some(retiring) = &parameters.retiring_principal {
            answers[0] = self.answer(retiring, principal, owner);
        }
        answers[1] = self.allows(principal, owner, Action::RetireGrant, None);
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

    /// Whether it says that `principal` may retire it, and not the role of which that is a session.
    pub(in crate::policy) fn is_retired_by_name(&self, principal: &Principal) -> bool {
        let parameters = &self.parameters;
        let retires = parameters.operations.has(Action::RetireGrant);
        let grantee = retires.then_some(&parameters.grantee).into_iter();
        let mut names = grantee
            .chain(&parameters.retiring_principal)
            .filter_map(GrantPrincipal::principal);
        names.any(|name| name.names(principal) == Naming::Principal)
    }

    /// What the grant gives `principal` by this name of its grantee or retiring principal.
    ///
    /// A principal of another account than the key's also needs an allow in its own identity
    /// policies, unless its own account made the grant (measured on AWS, September 2026).
    fn answer(
        &self,
        name: &GrantPrincipal,
        principal: &Principal,
        owner: AccountId,
    ) -> GrantAnswer {
        let account = principal.account;
        let is_trusted = account == owner || account == self.issuing_account;
        match name.principal().map(|name| name.names(principal)) {
            None | Some(Naming::Not) => GrantAnswer::No,
            Some(Naming::Principal | Naming::Role) if is_trusted => GrantAnswer::Yes,
            Some(_) => GrantAnswer::WithIdentityPolicy,
        }
    }
}

#[cfg(test)]
mod tests;
