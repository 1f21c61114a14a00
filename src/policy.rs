//! Authorization: the only way from a decoded request to its execution.
//!
//! [`authorize`] asks a request for its action, resource, key and context through
//! [`AuthorizationRequest`]. It returns the request as [`Authorized`] if the caller's identity
//! policies, the key's policy and its grants allow it; [`evaluate`] has the rules. Policies are
//! parsed strictly and compiled once ([`document`]). A decision allocates nothing and reads no
//! clock: time is one of its [`Circumstances`].

use crate::context::EncryptionContext;
use crate::operation::Action;
use std::fmt;
use std::sync::Arc;

mod arn_pattern;
pub mod condition;
pub mod condition_key;
pub mod document;
mod element;
pub mod error;
pub mod evaluate;
pub mod facts;
pub mod grant;
pub(crate) mod json;
pub mod measurement;
pub mod principal;
mod statement;
pub mod steps;
mod template;
pub mod trust;
pub mod unmatched;
mod wildcard;

pub(crate) use condition::date::parse_date;
pub use condition_key::ConditionKey;
pub use document::{KeyPolicy, PolicyDocument};
pub use error::InvalidPolicy;
pub use evaluate::{Allowed, StatementId};
pub use facts::{Circumstances, KeyFacts, RoleFacts, Value, Values};
pub use grant::{Grant, GrantParameters, KeyGrants};
pub use measurement::Measurement;
pub use principal::{Principal, PrincipalName, SessionParameters};
pub use trust::TrustPolicy;

/// The facts of a request that policy uses; `api` types implement it.
///
/// Every such fact of a request must be reported here: for a condition, a fact that is not reported
/// is absent.
pub trait AuthorizationRequest {
    /// The action.
    fn action(&self) -> Action;
    /// The ARN of the key, alias or role that the request concerns, or `*`.
    fn resource(&self) -> &str;

    /// The key, for an action on which a key policy decides. `None`: identity policies alone
    /// decide.
    fn key(&self) -> Option<KeyFacts<'_>> {
        None
    }

    /// The role, for an action that assumes one.
    fn role(&self) -> Option<RoleFacts<'_>> {
        None
    }

    /// The encryption context; for `CreateGrant` the one in the new grant's constraint.
    fn context(&self) -> Option<&EncryptionContext> {
        None
    }

    /// The values of a condition key that are members of the request, such as
    /// [`ConditionKey::RequestAlias`] or [`ConditionKey::GranteePrincipal`].
    fn condition(&self, _: &ConditionKey) -> Values<'_> {
        Values::Absent
    }

    /// The grant that a `CreateGrant` would make. A caller whose permission comes from a grant
    /// cannot make one that allows more.
    fn new_grant(&self) -> Option<&GrantParameters> {
        None
    }

    /// The grant that a `RetireGrant` would retire; the grant itself states who may retire it.
    fn retires(&self) -> Option<&Grant> {
        None
    }
}

/// Proof that policy allowed `request`. Built only by [`authorize`].
pub struct Authorized<R> {
    request: R,
    principal: Arc<Principal>,
    allowed: Allowed,
    reads_context: bool,
}

impl<R> Authorized<R> {
    /// The request.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// Returns the request.
    pub fn into_request(self) -> R {
        self.request
    }

    /// Whether the decision read the encryption context. If not, the same request is allowed under
    /// every other context.
    pub fn reads_context(&self) -> bool {
        self.reads_context
    }

    /// The caller.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The statement or grant that allowed it.
    pub fn allowed(&self) -> Allowed {
        self.allowed
    }
}

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// An identity policy, of the caller.
    Identity,
    /// The session policy, of the caller's session.
    Session,
    /// The key policy, of the key.
    Key,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No statement allows it; a policy of this kind would have to.
    NoAllow(PolicyKind),
    /// A statement denies it.
    ExplicitDeny(StatementId),
    /// The decision takes more steps than it may: see [`steps`].
    TooManySteps,
}

impl Denied {
    /// The end of the message of `AccessDeniedException`, after the action and the resource.
    #[must_use]
    pub fn reason(self, action: Action) -> impl fmt::Display {
        fmt::from_fn(move |out| match self {
            Self::NoAllow(kind) => write!(
                out,
                "because no {} policy allows the {} action",
                kind.name(),
                action.name()
            ),
            Self::TooManySteps => write!(
                out,
                "because its policies take more than {} steps to decide on the {} action",
                steps::STEPS_MAX,
                action.name()
            ),
            Self::ExplicitDeny(statement) => {
                let policy = match statement {
                    StatementId::Key { .. } | StatementId::Trust { .. } => "a resource-based",
                    StatementId::Session { .. } => "a session",
                    _ => "an identity-based",
                };
                write!(out, "with an explicit deny in {policy} policy")
            }
        })
    }
}

impl PolicyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity-based",
            Self::Session => "session",
            Self::Key => "resource-based",
        }
    }
}

/// Decides: a deny wins, and the absence of an allow is a deny (AUTH-1).
///
/// # Errors
/// [`Denied`].
pub fn authorize<R: AuthorizationRequest>(
    principal: &Arc<Principal>,
    request: R,
    circumstances: &Circumstances<'_>,
) -> Result<Authorized<R>, Denied> {
    let facts = facts::Facts::new(principal, &request, circumstances);
    let allowed = evaluate::decide(&facts)?;
    let reads_context = facts.reads_context();
    Ok(Authorized {
        request,
        principal: Arc::clone(principal),
        allowed,
        reads_context,
    })
}

/// Decides without executing anything: the answer to `request`, and the statement that decides.
///
/// # Errors
/// [`Denied`].
pub fn check(
    principal: &Principal,
    request: &dyn AuthorizationRequest,
    circumstances: &Circumstances<'_>,
) -> Result<Allowed, Denied> {
    evaluate::decide(&facts::Facts::new(principal, request, circumstances))
}

impl StatementId {
    /// A description for operators: the policy, and the statement's `Sid` or its number, counted
    /// from 1.
    #[must_use]
    pub fn describe(self, principal: &Principal, key_policy: Option<&KeyPolicy>) -> String {
        let named = |statements: Option<&[statement::Statement]>, at: usize| {
            let sid = statements
                .and_then(|all| all.get(at))
                .and_then(|found| found.sid.as_deref());
            let number = at + 1;
            sid.map_or_else(
                || format!("statement {number}"),
                |sid| format!("statement {number} {sid:?}"),
            )
        };
        match self {
            Self::Identity { policy, statement } => {
                let document = principal.policies.get(policy);
                let name = named(document.map(|document| &*document.statements), statement);
                format!(
                    "{name} of identity policy {} of {}",
                    policy + 1,
                    principal.arn
                )
            }
            Self::Session { statement } => {
                let parameters = principal.parameters();
                let policy = parameters.and_then(|parameters| parameters.policy.as_ref());
                let name = named(policy.map(|policy| &*policy.statements), statement);
                format!("{name} of the session policy")
            }
            Self::Trust { statement } => {
                format!("statement {} of the trust policy", statement + 1)
            }
            Self::Key { statement } => {
                let name = named(key_policy.map(|policy| &*policy.statements), statement);
                format!("{name} of the key policy")
            }
            Self::DefaultKeyPolicy => {
                format!(
                    "statement 1 {:?} of the default key policy",
                    KeyPolicy::DEFAULT_SID
                )
            }
            Self::Grant(id) => format!("grant {id}"),
            Self::Root => format!("{} itself", principal.arn),
        }
    }
}

#[cfg(test)]
mod tests;
