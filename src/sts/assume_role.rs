//! Who may assume a role, and `AssumeRole` itself.
//!
//! Sources: AWS STS API reference, `AssumeRole`; AWS IAM, "Pass session tags in AWS STS" for
//! transitive tags, "Monitor and control actions taken with assumed roles" for source identities.

use crate::api::attempt::Attempt;
use crate::api::members::{Members, RequestTags};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::auth::Session;
use crate::key::Tag;
use crate::keystore::PrincipalEntry;
use crate::operation::Action;
use crate::policy::principal::{PrincipalKind, same_key};
use crate::policy::{
    self, AuthorizationRequest, Circumstances, ConditionKey, Denied, PolicyKind, Principal,
    RoleFacts, SessionParameters, StatementId, Value, Values,
};
use crate::sts::form::{Form, invalid};
use crate::sts::issued;
use crate::sts::role_request::{RoleRequest, bad_value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most seconds of a session that was assumed by a session.
const CHAINED_SECONDS_MAX: u32 = 3600;

pub(super) fn perform(api: &Api, requester: &Requester, form: &Form) -> Answer {
    let asked = RoleRequest::parse(form)?;
    api.under_last_check(requester, |attempt| {
        if attempt.principal.kind() == PrincipalKind::Root {
            let message = "Roles may not be assumed by root accounts.";
            return Err(ApiError::new(ErrorCode::AccessDenied, message));
        }
        let parameters = inherit(&attempt.principal, &asked.parameters)?;
        let assuming = Assuming::new(&asked, &parameters, None);
        let role = assuming
            .role(Action::AssumeRole, attempt, &attempt.principal)
            .map_err(|refused| refused.of_user(&attempt.principal, &asked))?;
        let is_chained = attempt.principal.kind() == PrincipalKind::AssumedRole;
        let seconds = seconds(&asked, role, is_chained)?;
        let issued = issued::issue(attempt, role, &asked, seconds, parameters)?;
        Ok(issued.reply("AssumeRole", requester, &[]))
    })
}

/// How long the session lasts.
pub(super) fn seconds(
    asked: &RoleRequest<'_>,
    role: &PrincipalEntry,
    is_chained: bool,
) -> Result<u64, ApiError> {
    if asked
        .seconds
        .is_some_and(|one| one > role.session_seconds_max)
    {
        return Err(invalid(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    if is_chained && asked.seconds.is_some_and(|one| one > CHAINED_SECONDS_MAX) {
        return Err(invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        ));
    }
    Ok(asked.seconds.map_or(Session::SECONDS_DEFAULT, u64::from))
}

/// The parameters of the new session: those that were asked for, with the transitive tags and the
/// source identity of the caller's own session.
fn inherit(caller: &Principal, asked: &SessionParameters) -> Result<SessionParameters, ApiError> {
    let mut parameters = SessionParameters {
        tags: asked.tags.clone(),
        transitive_tag_keys: asked.transitive_tag_keys.clone(),
        source_identity: asked.source_identity.clone(),
        policy: asked.policy.clone(),
        provider: None,
    };
    let Some(own) = caller.parameters() else {
        return Ok(parameters);
    };
    for tag in own.transitive_tags() {
        if asked.tags.iter().any(|new| same_key(&new.key, &tag.key)) {
            return Err(bad_value(
                "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.",
            ));
        }
        parameters.tags.push(tag.clone());
        parameters.transitive_tag_keys.push(tag.key.clone());
    }
    if let Some(identity) = &own.source_identity {
        if asked
            .source_identity
            .as_ref()
            .is_some_and(|new| new != identity)
        {
            let message = "The source identity of the calling session cannot be changed.";
            return Err(ApiError::new(ErrorCode::AccessDenied, message));
        }
        parameters.source_identity = Some(identity.clone());
    }
    Ok(parameters)
}

/// The claims of a token, as conditions of a trust policy read them.
#[derive(Clone, Copy)]
pub(super) struct TokenClaims<'a> {
    /// The issuer's URL without `https://`.
    pub(super) issuer: &'a str,
    /// Their values, each as text, by their names in lower case.
    pub(super) values: &'a BTreeMap<String, Vec<String>>,
}

/// A role that a caller asks to assume.
pub(super) struct Assuming<'a> {
    asked: &'a RoleRequest<'a>,
    parameters: &'a SessionParameters,
    tags: RequestTags<'a>,
    claims: Option<TokenClaims<'a>>,
}

impl<'a> Assuming<'a> {
    pub(super) fn new(
        asked: &'a RoleRequest<'a>,
        parameters: &'a SessionParameters,
        claims: Option<TokenClaims<'a>>,
    ) -> Self {
        let tags = asked.parameters.tags.iter();
        let tags = tags.map(|tag| (tag.key.as_str(), tag.value.as_str()));
        Self {
            asked,
            parameters,
            tags: RequestTags::new(tags),
            claims,
        }
    }

    /// The role, if its trust policy and the caller's own policies allow `action` and what the
    /// parameters take beside it.
    pub(super) fn role<'s>(
        &self,
        action: Action,
        attempt: &Attempt<'s>,
        principal: &Arc<Principal>,
    ) -> Result<&'s Arc<PrincipalEntry>, Refused> {
        let entry = attempt.snapshot.principals.get(self.asked.role);
        let role = entry.filter(|entry| entry.enabled);
        let mut actions = vec![action];
        if !self.parameters.tags.is_empty() {
            actions.push(Action::TagSession);
        }
        if self.parameters.source_identity.is_some() {
            actions.push(Action::SetSourceIdentity);
        }
        let tags = role.map(|role| self.tags_of(role)).unwrap_or_default();
        for action in actions {
            let step = Step {
                assuming: self,
                action,
                facts: RoleFacts {
                    account: self.asked.account,
                    trust_policy: role.and_then(|role| role.trust_policy.as_deref()),
                    tags: &tags,
                },
            };
            let circumstances = Circumstances {
                now: attempt.now,
                source_ip: attempt.source.ip(),
                secure_transport: attempt.secure_transport,
                region: &attempt.region.name,
            };
            policy::check(principal, &step, &circumstances)
                .map_err(|denied| Refused { action, denied })?;
        }
        let missing = Refused {
            action,
            denied: Denied::NoAllow(PolicyKind::Identity),
        };
        role.ok_or(missing)
    }

    /// The tags of the role, with the caller's transitive ones in the place of those of the same
    /// key.
    fn tags_of(&self, role: &PrincipalEntry) -> Vec<Tag> {
        let inherited = self.parameters.tags.iter().filter(|tag| {
            let mut own = self.asked.parameters.tags.iter();
            !own.any(|asked| same_key(&asked.key, &tag.key))
        });
        let inherited: Vec<Tag> = inherited.cloned().collect();
        let tags = role.principal.tags().iter();
        let kept = tags.filter(|tag| !inherited.iter().any(|one| same_key(&one.key, &tag.key)));
        kept.cloned().chain(inherited.iter().cloned()).collect()
    }
}

/// One action that assuming a role takes.
struct Step<'a> {
    assuming: &'a Assuming<'a>,
    action: Action,
    facts: RoleFacts<'a>,
}

impl AuthorizationRequest for Step<'_> {
    fn action(&self) -> Action {
        self.action
    }

    fn resource(&self) -> &str {
        self.assuming.asked.role
    }

    fn role(&self) -> Option<RoleFacts<'_>> {
        Some(self.facts)
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        let Assuming {
            asked,
            parameters,
            tags,
            claims,
        } = self.assuming;
        match key {
            ConditionKey::RoleSessionName => text(Some(asked.session_name)),
            ConditionKey::ExternalId => text(asked.external_id),
            ConditionKey::NewSourceIdentity => text(parameters.source_identity.as_deref()),
            ConditionKey::TransitiveTagKeys => Values::Texts(&parameters.transitive_tag_keys),
            ConditionKey::Claim { issuer, claim } => match claims {
                Some(claims) if *claims.issuer == **issuer => claims
                    .values
                    .get(&**claim)
                    .map_or(Values::Absent, |values| Values::Texts(values)),
                _ => Values::Absent,
            },
            _ => Members::Tags(tags).condition(key),
        }
    }
}

fn text(text: Option<&str>) -> Values<'_> {
    text.map_or(Values::Absent, |text| Values::One(Value::Text(text)))
}

/// What is not allowed.
pub(super) struct Refused {
    action: Action,
    denied: Denied,
}

impl Refused {
    /// The refusal of the holder of a token. It does not say why, nor whether the role exists.
    pub(super) fn of_holder(self) -> ApiError {
        let message = format!("Not authorized to perform {}", self.action.name());
        let refusal = ApiError::new(ErrorCode::AccessDenied, message);
        refusal.undecided(self.denied == Denied::TooManySteps)
    }

    /// The refusal of a caller who is known. It does not tell whether the role exists.
    fn of_user(self, principal: &Principal, asked: &RoleRequest<'_>) -> ApiError {
        // A deny in the trust policy is only where there is a role.
        let denied = match self.denied {
            Denied::ExplicitDeny(StatementId::Trust { .. })
                if self.action == Action::AssumeRole =>
            {
                Denied::NoAllow(PolicyKind::Identity)
            }
            denied => denied,
        };
        let message = format!(
            "User: {} is not authorized to perform: {} on resource: {} {}",
            principal.arn,
            self.action.name(),
            asked.role,
            denied.reason(self.action)
        );
        let refusal = ApiError::new(ErrorCode::AccessDenied, message);
        refusal.undecided(self.denied == Denied::TooManySteps)
    }
}
