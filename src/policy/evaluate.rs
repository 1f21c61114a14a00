//! The pure decision function.
//!
//! AUTH-1: a deny in any policy wins, also over grants, and the absence of an allow is a deny.
//!
//! A request without a key (`CreateKey`, the listings, `GenerateRandom`, an alias) is decided by
//! identity policies alone. For a key they are never enough. An allow of the key policy that names
//! the caller is enough. An allow of the key policy that names the account lets the identity
//! policies of that account decide. A grant allows its grantee. A caller of another account also
//! needs an allow in its own identity policies, unless it has a grant that its own account made,
//! and may only call operations that AWS KMS lets cross accounts.
//!
//! Sources: AWS KMS Developer Guide, "Troubleshooting key access",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html>, "Key policies in
//! AWS KMS" and "Permissions reference"; AWS IAM, "Policy evaluation logic".
//!
//! A decision allocates nothing.

use crate::key::arn::AccountId;
use crate::operation::words::About;
use crate::policy::element::Effect;
use crate::policy::facts::{Facts, KeyFacts};
use crate::policy::grant::{Grant, GrantAnswer, GrantAsk, GrantId};
use crate::policy::principal::PrincipalKind;
use crate::policy::principal::name::Naming;
use crate::policy::statement::Statement;
use crate::policy::{Denied, PolicyKind};

/// The statement, by its policy and number, or the grant that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementId {
    /// A statement of one of the caller's identity policies. Both numbers count from 0.
    Identity {
        /// The index in [`crate::policy::Principal::policies`].
        policy: usize,
        /// The index of the statement in it.
        statement: usize,
    },
    /// A statement of the key policy, counted from 0.
    Key {
        /// The index of the statement.
        statement: usize,
    },
    /// The one statement of the default key policy.
    DefaultKeyPolicy,
    /// A grant.
    Grant(GrantId),
    /// No statement: the account's root user may do everything that no deny forbids.
    Root,
}

/// Why a request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The statement or grant that allows it.
    pub by: StatementId,
    /// The statement of the key policy or the grant that lets an identity policy decide. It names
    /// the caller's account, or the caller itself when it belongs to another account.
    pub under: Option<StatementId>,
}

impl Allowed {
    fn by(by: StatementId) -> Self {
        Self { by, under: None }
    }
}

/// Decides. A decision that takes too many steps is a deny, whatever was found before.
pub(super) fn decide(facts: &Facts<'_>) -> Result<Allowed, Denied> {
    let decided = by_policies(facts);
    if facts.steps.are_spent() {
        return Err(Denied::TooManySteps);
    }
    decided
}

fn by_policies(facts: &Facts<'_>) -> Result<Allowed, Denied> {
    let identity = identity_policies(facts)?;
    let Some(key) = facts.key else {
        return identity
            .map(Allowed::by)
            .ok_or(Denied::NoAllow(PolicyKind::Identity));
    };
    // Within the key's account, the operator is bound by its own policies alone.
    let own = key.account == facts.principal.account;
    if own && facts.principal.kind() == PrincipalKind::Operator {
        return identity
            .map(Allowed::by)
            .ok_or(Denied::NoAllow(PolicyKind::Identity));
    }
    let key_policy = key_policy(facts, key)?;
    let with_identity = |under| identity.map(|by| Allowed { by, under });
    if let Some(grant) = facts.request.retires() {
        return retire(grant, key.account, facts, with_identity);
    }
    // From another account only some operations can be called at all.
    if !own && !facts.action.facts().crosses_accounts || facts.action.facts().about == About::Grant
    {
        return Err(Denied::NoAllow(PolicyKind::Key));
    }
    if own && let Some(by) = key_policy.caller {
        return Ok(Allowed::by(by));
    }
    // The key policy is one half of a permission; an identity policy is the other.
    let half = key_policy.caller.or(key_policy.account);
    if let Some(allowed) = half.and_then(|half| with_identity(Some(half))) {
        return Ok(allowed);
    }
    // The policies do not allow it; a grant may.
    let granted = key.grants.and_then(|grants| {
        grants.allow(&GrantAsk {
            principal: facts.principal,
            owner: key.account,
            action: facts.action,
            context: facts.context(),
            new: facts.request.new_grant(),
            steps: &facts.steps,
        })
    });
    let allowed = match granted {
        Some((id, GrantAnswer::Yes)) => Some(Allowed::by(StatementId::Grant(id))),
        Some((id, GrantAnswer::WithIdentityPolicy)) => with_identity(Some(StatementId::Grant(id))),
        Some((_, GrantAnswer::No)) | None => None,
    };
    // The refusal names the kind of policy whose allow is missing.
    let missing = if half.is_some() || granted.is_some() {
        PolicyKind::Identity
    } else {
        PolicyKind::Key
    };
    allowed.ok_or(Denied::NoAllow(missing))
}

/// Decides on `RetireGrant`, which the grant itself allows and no key policy.
fn retire(
    grant: &Grant,
    owner: AccountId,
    facts: &Facts<'_>,
    with_identity: impl Fn(Option<StatementId>) -> Option<Allowed>,
) -> Result<Allowed, Denied> {
    let id = StatementId::Grant(grant.id);
    match grant.is_retired_by(facts.principal, owner) {
        GrantAnswer::Yes => Ok(Allowed::by(id)),
        GrantAnswer::WithIdentityPolicy => {
            with_identity(Some(id)).ok_or(Denied::NoAllow(PolicyKind::Identity))
        }
        GrantAnswer::No => Err(Denied::NoAllow(PolicyKind::Key)),
    }
}

/// The allow in the caller's own policies; a deny there ends the decision.
fn identity_policies(facts: &Facts<'_>) -> Result<Option<StatementId>, Denied> {
    let root = facts.principal.kind() == PrincipalKind::Root;
    let mut allowed = root.then_some(StatementId::Root);
    for (policy, document) in facts.principal.policies.iter().enumerate() {
        for (statement, found) in document.statements.iter().enumerate() {
            facts.steps.spend(1);
            if allowed.is_some() && found.effect == Effect::Allow || !found.speaks_of(facts) {
                continue;
            }
            let id = StatementId::Identity { policy, statement };
            match found.effect {
                Effect::Deny => return Err(Denied::ExplicitDeny(id)),
                Effect::Allow => allowed = Some(id),
            }
        }
    }
    Ok(allowed)
}

/// The allows in the key policy.
#[derive(Default)]
struct KeyHalf {
    /// An allow that names the caller.
    caller: Option<StatementId>,
    /// An allow that names the caller's account.
    account: Option<StatementId>,
}

fn key_policy(facts: &Facts<'_>, key: KeyFacts<'_>) -> Result<KeyHalf, Denied> {
    let mut half = KeyHalf::default();
    let Some(policy) = key.policy else {
        if key.account == facts.principal.account {
            half.account = Some(StatementId::DefaultKeyPolicy);
        }
        return Ok(half);
    };
    for (statement, found) in policy.statements.iter().enumerate() {
        let id = StatementId::Key { statement };
        match (found.effect, naming(found, facts)) {
            (_, Naming::Not) => {}
            (Effect::Deny, _) => return Err(Denied::ExplicitDeny(id)),
            (Effect::Allow, Naming::Principal) => half.caller = half.caller.or(Some(id)),
            (Effect::Allow, Naming::Account) => half.account = half.account.or(Some(id)),
        }
    }
    Ok(half)
}

fn naming(statement: &Statement, facts: &Facts<'_>) -> Naming {
    facts.steps.spend(1 + statement.principals.len());
    match statement.names(facts.principal) {
        Naming::Not => Naming::Not,
        naming if statement.speaks_of(facts) => naming,
        _ => Naming::Not,
    }
}

#[cfg(test)]
mod tests;
