//! The pure decision function.
//!
//! AUTH-1: a deny of any policy wins, wherever it stands, over grants too, and the absence of an
//! allow is a deny.
//!
//! What is about no key (`CreateKey`, the listings, `GenerateRandom`, an alias) is decided by
//! identity policies alone. For a key they are never enough: an allow of the key policy lets whom
//! it names, and an allow that names the account lets the identity policies of that account decide;
//! a grant lets its grantee. A caller of another account needs an identity policy of his own beside
//! what the key's policy gives, and only operations that AWS KMS lets cross accounts.
//!
//! Sources: AWS KMS Developer Guide, "Troubleshooting key access",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html>, "Key policies in
//! AWS KMS" and "Permissions reference"; AWS IAM, "Policy evaluation logic".
//!
//! A decision allocates nothing.

use crate::operation::facts::About;
use crate::policy::element::Effect;
use crate::policy::facts::{Facts, KeyFacts};
use crate::policy::grant::{Grant, GrantAnswer, GrantId};
use crate::policy::principal::PrincipalKind;
use crate::policy::principal::name::Naming;
use crate::policy::statement::Statement;
use crate::policy::{Denied, PolicyKind};

/// What decided: a statement by its policy and place, or a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementId {
    /// A statement of one of the caller's identity policies; both counted from 0.
    Identity {
        /// Which of [`crate::policy::Principal::policies`].
        policy: usize,
        /// Which of its statements.
        statement: usize,
    },
    /// A statement of the key policy, counted from 0.
    Key {
        /// Which of its statements.
        statement: usize,
    },
    /// The one statement of the default key policy.
    DefaultKeyPolicy,
    /// A grant.
    Grant(GrantId),
    /// None: the account's root user may do whatever no deny forbids.
    Root,
}

/// Why a request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What allows it.
    pub by: StatementId,
    /// What lets that decide: a statement of the key policy that names the caller's account, or for
    /// a caller of another account himself; or a grant to his account.
    pub under: Option<StatementId>,
}

impl Allowed {
    fn by(by: StatementId) -> Self {
        Self { by, under: None }
    }
}

/// Decides, or denies what takes too many steps: what was found by then decides nothing.
pub(super) fn decide(facts: &Facts<'_>) -> Result<Allowed, Denied> {
    let decided = by_policies(facts);
    match facts.steps.are_spent() {
        true => Err(Denied::TooManySteps),
        false => decided,
    }
}

fn by_policies(facts: &Facts<'_>) -> Result<Allowed, Denied> {
    let identity = identity_policies(facts)?;
    let Some(key) = facts.key else {
        return identity
            .map(Allowed::by)
            .ok_or(Denied::NoAllow(PolicyKind::Identity));
    };
    let own = key.account == facts.principal.account;
    if own && facts.principal.kind() == PrincipalKind::Operator {
        return identity
            .map(Allowed::by)
            .ok_or(Denied::NoAllow(PolicyKind::Identity));
    }
    let key_policy = key_policy(facts, key)?;
    let with_identity = |under| identity.map(|by| Allowed { by, under });
    if let Some(grant) = facts.request.retires() {
        return retire(grant, facts, with_identity);
    }
    if !own && !facts.action.crosses_accounts() || facts.action.about() == About::Grant {
        return Err(Denied::NoAllow(PolicyKind::Key));
    }
    if let Some(by) = key_policy.himself.filter(|_| own) {
        return Ok(Allowed::by(by));
    }
    let half = key_policy.himself.or(key_policy.account);
    if let Some(allowed) = half.and_then(|half| with_identity(Some(half))) {
        return Ok(allowed);
    }
    let granted = key.grants.and_then(|grants| {
        let new = facts.request.new_grant();
        let (principal, context) = (facts.principal, facts.context());
        grants.allow(principal, facts.action, context, new, &facts.steps)
    });
    let allowed = match granted {
        Some((id, GrantAnswer::Yes)) => Some(Allowed::by(StatementId::Grant(id))),
        Some((id, GrantAnswer::WithIdentityPolicy)) => with_identity(Some(StatementId::Grant(id))),
        Some((_, GrantAnswer::No)) | None => None,
    };
    let missing = if half.is_some() || granted.is_some() {
        PolicyKind::Identity
    } else {
        PolicyKind::Key
    };
    allowed.ok_or(Denied::NoAllow(missing))
}

/// `RetireGrant` is the grant's to allow, and no key policy's.
fn retire(
    grant: &Grant,
    facts: &Facts<'_>,
    with_identity: impl Fn(Option<StatementId>) -> Option<Allowed>,
) -> Result<Allowed, Denied> {
    let id = StatementId::Grant(grant.id);
    match grant.is_retired_by(facts.principal) {
        GrantAnswer::Yes => Ok(Allowed::by(id)),
        GrantAnswer::WithIdentityPolicy => {
            with_identity(Some(id)).ok_or(Denied::NoAllow(PolicyKind::Identity))
        }
        GrantAnswer::No => Err(Denied::NoAllow(PolicyKind::Key)),
    }
}

/// What the caller's own policies allow; a deny ends it.
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

/// What the key policy allows.
#[derive(Default)]
struct KeyHalf {
    /// An allow that names the caller.
    himself: Option<StatementId>,
    /// An allow that names his account.
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
            (Effect::Allow, Naming::Himself) => half.himself = half.himself.or(Some(id)),
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
