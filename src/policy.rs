//! Authorization: the only door between a decoded request and its execution.
//!
//! [`authorize`] asks a request for its action, resource, key and context through
//! [`AuthorizationRequest`], and gives it back as [`Authorized`] if the caller's identity policies,
//! the key's policy and its grants let it; [`evaluate`] says how. Policies are parsed strictly and
//! compiled once ([`document`]); a decision allocates nothing and reads no clock: time is one of
//! its [`Circumstances`].

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
mod json;
pub mod principal;
mod statement;
pub mod steps;
mod template;
pub mod unmatched;
mod wildcard;

pub(crate) use condition::date::parse_date;
pub use condition_key::ConditionKey;
pub use document::{KeyPolicy, PolicyDocument};
pub use error::InvalidPolicy;
pub use evaluate::{Allowed, StatementId};
pub use facts::{Circumstances, KeyFacts, Value, Values};
pub use grant::{Grant, GrantParameters, KeyGrants};
pub use principal::{Principal, PrincipalName};

/// What policy asks a request; `api` types implement it.
///
/// Whatever a request has must be told here: a condition on what is not told finds it absent.
pub trait AuthorizationRequest {
    /// The action.
    fn action(&self) -> Action;
    /// The ARN of the key or alias that it is about, or `*`.
    fn resource(&self) -> &str;

    /// The key, for an action that a key policy decides on. `None`: identity policies alone decide.
    fn key(&self) -> Option<KeyFacts<'_>> {
        None
    }

    /// The encryption context; for `CreateGrant` that of the new grant's constraint.
    fn context(&self) -> Option<&EncryptionContext> {
        None
    }

    /// The values of a condition key that stand for members of the request, such as
    /// [`ConditionKey::RequestAlias`] or [`ConditionKey::GranteePrincipal`].
    fn condition(&self, _: &ConditionKey) -> Values<'_> {
        Values::Absent
    }

    /// The grant that a `CreateGrant` would make: a caller who is let by a grant makes none that
    /// gives more.
    fn new_grant(&self) -> Option<&GrantParameters> {
        None
    }

    /// The grant that a `RetireGrant` would retire: it says itself who may.
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

    /// The request, given up.
    pub fn into_request(self) -> R {
        self.request
    }

    /// Whether the encryption context was looked at. Where it was not, the same request is allowed
    /// under every other context.
    pub fn reads_context(&self) -> bool {
        self.reads_context
    }

    /// Who asked.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// What allowed it.
    pub fn allowed(&self) -> Allowed {
        self.allowed
    }
}

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// The caller's.
    Identity,
    /// The key's.
    Key,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No statement allows it; a policy of this kind would have had to.
    NoAllow(PolicyKind),
    /// A statement denies it.
    ExplicitDeny(StatementId),
    /// It takes more steps than a decision may: see [`steps`].
    TooManySteps,
}

impl Denied {
    /// The end of the message of `AccessDeniedException`, behind action and resource.
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
                let kind = match statement {
                    StatementId::Key { .. } => PolicyKind::Key,
                    _ => PolicyKind::Identity,
                };
                // As AWS has it: "an identity-based", "a resource-based".
                let article = if kind == PolicyKind::Key { "a" } else { "an" };
                write!(
                    out,
                    "with an explicit deny in {article} {} policy",
                    kind.name()
                )
            }
        })
    }
}

impl PolicyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity-based",
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

/// Decides without letting anything through: what would be answered to `request`, and by which
/// statement.
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
    /// As an operator reads it: the policy, and the statement's `Sid` or place, counted from 1.
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
