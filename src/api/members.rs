//! What policy conditions ask of a request's own members.

use crate::key::KmsKey;
use crate::policy::{ConditionKey, Grant, GrantParameters, Value, Values};

/// The members of a request that conditions know, beside its context and the alias that names its key.
#[derive(Clone, Copy, Default)]
pub(super) enum Members<'a> {
    /// None.
    #[default]
    None,
    /// Of `CreateKey`: what every key is, and `BypassPolicyLockoutSafetyCheck` if it is given.
    NewKey(Option<bool>),
    /// Of `PutKeyPolicy`: `BypassPolicyLockoutSafetyCheck` if it is given.
    NewPolicy(Option<bool>),
    /// Of `ScheduleKeyDeletion`: `PendingWindowInDays`, or its default.
    PendingWindow(i64),
    /// Of `CreateGrant`.
    NewGrant(&'a NewGrant),
    /// Of `ListGrants` and `RevokeGrant`.
    OfGrants,
    /// Of `RetireGrant`: the grant.
    Retired(&'a Grant),
}

/// The grant that a `CreateGrant` would make.
pub(super) struct NewGrant {
    pub(super) parameters: GrantParameters,
    /// The names of its operations.
    operations: Vec<&'static str>,
}

impl NewGrant {
    pub(super) fn new(parameters: GrantParameters) -> Self {
        let operations = parameters.operations().iter().map(|one| one.name());
        Self {
            operations: operations.collect(),
            parameters,
        }
    }
}

impl<'a> Members<'a> {
    /// The values of a condition key.
    pub(super) fn condition(self, key: &ConditionKey) -> Values<'a> {
        let text = |text| Values::One(Value::Text(text));
        match (self, key) {
            (Self::NewKey(_), ConditionKey::KeySpec) => text(KmsKey::SPEC),
            (Self::NewKey(_), ConditionKey::KeyUsage) => text(KmsKey::USAGE),
            (Self::NewKey(_), ConditionKey::KeyOrigin) => text(KmsKey::ORIGIN),
            (Self::NewKey(_), ConditionKey::MultiRegion) => Values::One(Value::Bool(false)),
            (
                Self::NewKey(Some(bypass)) | Self::NewPolicy(Some(bypass)),
                ConditionKey::BypassPolicyLockoutSafetyCheck,
            ) => Values::One(Value::Bool(bypass)),
            (Self::PendingWindow(days), ConditionKey::ScheduleKeyDeletionPendingWindowInDays) => {
                Values::One(Value::Number(days))
            }
            // No service of AWS calls in anybody's name.
            (Self::NewGrant(_) | Self::OfGrants, ConditionKey::GrantIsForAwsResource) => {
                Values::One(Value::Bool(false))
            }
            (Self::NewGrant(new), key) => new.condition(key),
            _ => Values::Absent,
        }
    }
}

impl NewGrant {
    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        let parameters = &self.parameters;
        let text = match key {
            ConditionKey::GrantOperations => return Values::Many(&self.operations),
            ConditionKey::GranteePrincipal => Some(parameters.grantee().as_str()),
            ConditionKey::RetiringPrincipal => {
                let retiring = parameters.retiring_principal();
                retiring.map(|principal| principal.as_str())
            }
            ConditionKey::GrantConstraintType => parameters
                .constraint()
                .map(|constraint| constraint.type_name()),
            _ => None,
        };
        text.map_or(Values::Absent, |text| Values::One(Value::Text(text)))
    }
}
