//! Trust policies of roles: who may assume them, and for how long.

use crate::admin::lookup::{arn_of_name, check_name, invalid, replace};
use crate::api::validation::Violations;
use crate::api::wire::{self, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::auth::Session;
use crate::keystore::PrincipalEntry;
use crate::policy::TrustPolicy;
use crate::policy::principal::PrincipalKind;
use std::sync::Arc;

/// The fewest seconds of a role's longest session (IAM, `CreateRole`).
const SECONDS_MIN: i64 = 3600;

wire::input! {
    #[serde(deny_unknown_fields)]
    struct Input<'a> {
        name: Text<'a>,
        trust_policy: Text<'a>,
        max_session_duration: Option<i64>,
    }
}

/// What a request says about who may assume a role.
pub(super) struct Trust {
    policy: Option<Arc<TrustPolicy>>,
    seconds_max: Option<u32>,
}

impl Trust {
    /// Of members that were given, or not.
    pub(super) fn parse(
        policy: Option<&str>,
        seconds: Option<i64>,
        mut violations: Violations,
    ) -> Result<Self, ApiError> {
        let member = "maxSessionDuration";
        let seconds = violations.number(member, seconds, SECONDS_MIN, Session::SECONDS_MAX);
        let seconds_max = violations.check(seconds)?;
        let policy = policy.map(TrustPolicy::parse).transpose();
        let policy = policy.map_err(|error| {
            let code = ErrorCode::MalformedPolicyDocumentException;
            ApiError::new(code, error.to_string())
        })?;
        Ok(Self {
            policy: policy.map(Arc::new),
            seconds_max,
        })
    }

    /// The entry with it; what was not given stays.
    pub(super) fn apply(
        &self,
        api: &Api,
        mut entry: PrincipalEntry,
    ) -> Result<PrincipalEntry, ApiError> {
        let is_given = self.policy.is_some() || self.seconds_max.is_some();
        if is_given && entry.principal.kind() != PrincipalKind::Role {
            return Err(invalid("Only roles have trust policies and sessions."));
        }
        let account = entry.principal.account;
        let policy = self.policy.as_ref();
        let unknown = policy.and_then(|policy| api.web_identities.unknown_in(policy, account));
        if let Some(unknown) = unknown {
            let message = format!(
                "{unknown} is not an issuer that the daemon's configuration has for account {account}; [issuers.NAME] names them."
            );
            let code = ErrorCode::MalformedPolicyDocumentException;
            return Err(ApiError::new(code, message));
        }
        entry.trust_policy = self.policy.clone().or(entry.trust_policy);
        entry.session_seconds_max = self.seconds_max.unwrap_or(entry.session_seconds_max);
        Ok(entry)
    }
}

/// `PutTrustPolicy`: replaces the trust policy of a role.
pub(super) async fn put(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations).to_owned();
    let policy = input.trust_policy.as_deref();
    if policy.is_none() {
        violations.null("trustPolicy");
    }
    let trust = Trust::parse(policy, input.max_session_duration, violations)?;
    let arn = arn_of_name(api, operator, &name, "role")?;
    replace(api, operator, &arn, |entry| trust.apply(api, entry)).await
}
