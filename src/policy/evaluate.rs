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
//! A session policy narrows what a session has from its role: whatever the role's policies allow,
//! and whatever a key policy or a grant gives the role. It does not narrow what is given to the
//! session by its own name.
//!
//! A role's trust policy decides on who assumes it as a key policy does on who uses its key.
//!
//! Sources: AWS KMS Developer Guide, "Troubleshooting key access",
//! <https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html>, "Key policies in
//! AWS KMS" and "Permissions reference"; AWS IAM, "Policy evaluation logic" and "Session policies".
//!
//! A decision allocates nothing.

use crate::key::arn::AccountId;
use crate::operation::words::About;
use crate::policy::element::Effect;
use crate::policy::facts::{Facts, KeyFacts, RoleFacts};
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
    /// A statement of the session policy, counted from 0.
    Session {
        /// The index of the statement.
        statement: usize,
    },
    /// A statement of the key policy, counted from 0.
    Key {
        /// The index of the statement.
        statement: usize,
    },
    /// A statement of the role's trust policy, counted from 0.
    Trust {
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
    let callers = callers_policies(facts)?;
    if let Some(role) = facts.role {
        return assume(facts, role, callers);
    }
    let Some(key) = facts.key else {
        return callers.alone();
    };
    // Within the key's account, the operator is bound by its own policies alone.
    let own = key.account == facts.principal.account;
    if own && facts.principal.kind() == PrincipalKind::Operator {
        return callers.alone();
    }
    let key_policy = key_policy(facts, key, callers)?;
    let with_identity = |under| callers.allow().map(|by| Allowed { by, under });
    if let Some(grant) = facts.request.retires() {
        return retire(grant, key.account, facts, callers);
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
            role_counts: !callers.is_narrowed,
            steps: &facts.steps,
        })
    });
    let allowed = match granted {
        Some((id, GrantAnswer::Yes)) => Some(Allowed::by(StatementId::Grant(id))),
        Some((id, GrantAnswer::WithIdentityPolicy)) => with_identity(Some(StatementId::Grant(id))),
        Some((_, GrantAnswer::No)) | None => None,
    };
    // The refusal names the kind of policy whose allow is missing.
    let missing = if half.is_some() || granted.is_some() || callers.is_narrowed {
        callers.missing()
    } else {
        PolicyKind::Key
    };
    allowed.ok_or(Denied::NoAllow(missing))
}

/// Decides on who assumes a role. The refusal does not say whose allow is missing, since that would
/// tell whether the role exists.
fn assume(
    facts: &Facts<'_>,
    role: RoleFacts<'_>,
    callers: CallersPolicies,
) -> Result<Allowed, Denied> {
    let statements = role
        .trust_policy
        .map_or(&[][..], |policy| &policy.statements);
    let id = |statement| StatementId::Trust { statement };
    let half = resource_policy(facts, statements, id, callers)?;
    if role.account == facts.principal.account
        && let Some(by) = half.caller
    {
        return Ok(Allowed::by(by));
    }
    let under = half.caller.or(half.account);
    let allowed = under.and(callers.allow()).map(|by| Allowed { by, under });
    allowed.ok_or(Denied::NoAllow(PolicyKind::Identity))
}

/// Decides on `RetireGrant`, which the grant itself allows and no key policy.
fn retire(
    grant: &Grant,
    owner: AccountId,
    facts: &Facts<'_>,
    callers: CallersPolicies,
) -> Result<Allowed, Denied> {
    let id = StatementId::Grant(grant.id);
    let under = Some(id);
    match grant.is_retired_by(facts.principal, owner) {
        GrantAnswer::No => Err(Denied::NoAllow(PolicyKind::Key)),
        GrantAnswer::Yes if !callers.is_narrowed || grant.is_retired_by_name(facts.principal) => {
            Ok(Allowed::by(id))
        }
        _ => {
            let allowed = callers.allow().map(|by| Allowed { by, under });
            allowed.ok_or(Denied::NoAllow(callers.missing()))
        }
    }
}

/// What the caller's own policies say.
#[derive(Clone, Copy)]
struct CallersPolicies {
    /// The allow in its identity policies.
    identity: Option<StatementId>,
    /// Whether it is a session whose own policy does not allow the action.
    is_narrowed: bool,
}

impl CallersPolicies {
    /// The allow of them all.
    fn allow(self) -> Option<StatementId> {
        self.identity.filter(|_| !self.is_narrowed)
    }

    /// The decision, where no other policy takes part.
    fn alone(self) -> Result<Allowed, Denied> {
        let allowed = self.allow().map(Allowed::by);
        allowed.ok_or(Denied::NoAllow(self.missing()))
    }

    /// The kind of policy whose allow is missing.
    fn missing(self) -> PolicyKind {
        if self.is_narrowed {
            PolicyKind::Session
        } else {
            PolicyKind::Identity
        }
    }
}

/// The allows in the caller's own policies; a deny there ends the decision.
fn callers_policies(facts: &Facts<'_>) -> Result<CallersPolicies, Denied> {
    let principal = facts.principal;
    let root = principal.kind() == PrincipalKind::Root;
    let mut identity = root.then_some(StatementId::Root);
    for (policy, document) in principal.policies.iter().enumerate() {
        let id = |statement| StatementId::Identity { policy, statement };
        identity = allow_in(facts, &document.statements, id, identity)?;
    }
    let parameters = principal.parameters();
    let session_policy = parameters.and_then(|parameters| parameters.policy.as_ref());
    let is_narrowed = match session_policy {
        None => false,
        Some(document) => {
            let id = |statement| StatementId::Session { statement };
            allow_in(facts, &document.statements, id, None)?.is_none()
        }
    };
    Ok(CallersPolicies {
        identity,
        is_narrowed,
    })
}

/// The first allow, after one that was found `before`; a deny ends the decision.
fn allow_in(
    facts: &Facts<'_>,
    statements: &[Statement],
    id: impl Fn(usize) -> StatementId,
    before: Option<StatementId>,
) -> Result<Option<StatementId>, Denied> {
    let mut allowed = before;
    for (statement, found) in statements.iter().enumerate() {
        facts.steps.spend(1);
        if allowed.is_some() && found.effect == Effect::Allow || !found.speaks_of(facts) {
            continue;
        }
        match found.effect {
            Effect::Deny => return Err(Denied::ExplicitDeny(id(statement))),
            Effect::Allow => allowed = Some(id(statement)),
        }
    }
    Ok(allowed)
}

/// The allows in the policy of a key or a role.
#[derive(Default)]
struct ResourceHalf {
    /// An allow that names the caller.
    caller: Option<StatementId>,
    /// An allow that names the caller's account.
    account: Option<StatementId>,
}

fn key_policy(
    facts: &Facts<'_>,
    key: KeyFacts<'_>,
    callers: CallersPolicies,
) -> Result<ResourceHalf, Denied> {
    let Some(policy) = key.policy else {
        let own = key.account == facts.principal.account;
        return Ok(ResourceHalf {
            account: own.then_some(StatementId::DefaultKeyPolicy),
            caller: None,
        });
    };
    let id = |statement| StatementId::Key { statement };
    resource_policy(facts, &policy.statements, id, callers)
}

fn resource_policy(
    facts: &Facts<'_>,
    statements: &[Statement],
    id: impl Fn(usize) -> StatementId,
    callers: CallersPolicies,
) -> Result<ResourceHalf, Denied> {
    let mut half = ResourceHalf::default();
    for (statement, found) in statements.iter().enumerate() {
        let id = id(statement);
        match (found.effect, naming(found, facts)) {
            (_, Naming::Not) => {}
            (Effect::Deny, _) => return Err(Denied::ExplicitDeny(id)),
            (Effect::Allow, Naming::Role) if callers.is_narrowed => {}
            (Effect::Allow, Naming::Principal | Naming::Role) => {
                half.caller = half.caller.or(Some(id));
            }
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
