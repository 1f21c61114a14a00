//! What policy conditions ask of a request's own members.

use crate::attestation::Measurements;
use crate::clock::Timestamp;
use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use crate::operation::Action;
use crate::policy::grant::{GrantPrincipal, SourceArn};
use crate::policy::{ConditionKey, Grant, GrantParameters, Value, Values};
use std::collections::BTreeMap;

/// The members of a request that conditions know, beside its context and the alias that names its
/// key.
#[derive(Clone, Copy, Default)]
pub(crate) enum Members<'a> {
    /// None.
    #[default]
    None,
    /// Of `CreateKey`: what the key will be, `BypassPolicyLockoutSafetyCheck` if it is given, and
    /// the tags.
    NewKey(KeyKind, Option<bool>, &'a RequestTags<'a>),
    /// Members that are texts, or have defaults, by their conditions: algorithms and the like.
    Texts(&'a [(ConditionKey, &'a str)]),
    /// The same of a request with a `Recipient`, and what was measured of it.
    Attested(&'a [(ConditionKey, &'a str)], &'a Measurements),
    /// Of `TagResource` and `UntagResource`.
    Tags(&'a RequestTags<'a>),
    /// Of `PutKeyPolicy`: `PolicyName`, or its default, and `BypassPolicyLockoutSafetyCheck` if it
    /// is given.
    NewPolicy(&'a str, Option<bool>),
    /// Of `ScheduleKeyDeletion`: `PendingWindowInDays`, or its default.
    PendingWindow(i64),
    /// Of `ImportKeyMaterial`: `ExpirationModel`, or its default, and `ValidTo`.
    Import(&'a str, Option<Timestamp>),
    /// Of `ReEncrypt`: whether the blob stays under its key, and the algorithm of this side.
    SameKey(bool, &'a str),
    /// Of `EnableKeyRotation`: `RotationPeriodInDays`, or its default.
    RotationPeriod(i64),
    /// Of `CreateGrant`.
    NewGrant(&'a NewGrant),
    /// Of `ListGrants` and `RevokeGrant`.
    OfGrants,
    /// Of `RetireGrant`: the grant.
    Retired(&'a Grant),
}

/// The kind of a new key. A spec or usage that is not built is refused after the rights were
/// checked.
#[derive(Clone, Copy)]
pub(crate) struct KeyKind {
    pub(crate) spec: Option<KeySpec>,
    pub(crate) usage: Option<KeyUsage>,
    pub(crate) origin: Option<KeyOrigin>,
    /// Its `MultiRegionKeyType`, if it is a multi-Region key.
    pub(crate) multi_region: Option<&'static str>,
}

/// The tags that a request brings, or the keys of those that it takes away.
pub(crate) struct RequestTags<'a> {
    keys: Vec<&'a str>,
    /// By key in lower case: keys that differ in case alone are one to a condition.
    values: BTreeMap<String, Vec<&'a str>>,
}

impl<'a> RequestTags<'a> {
    /// Of keys and values.
    pub(crate) fn new(tags: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let mut new = Self::of_keys(tags.clone().map(|(key, _)| key));
        for (key, value) in tags {
            let key = key.to_ascii_lowercase();
            new.values.entry(key).or_default().push(value);
        }
        new
    }

    /// Of keys alone.
    pub(crate) fn of_keys(keys: impl Iterator<Item = &'a str>) -> Self {
        Self {
            keys: keys.collect(),
            values: BTreeMap::new(),
        }
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        match key {
            ConditionKey::TagKeys => Values::Many(&self.keys),
            ConditionKey::RequestTag(name) => self
                .values
                .get(&name.to_ascii_lowercase())
                .map_or(Values::Absent, |values| Values::Many(values)),
            _ => Values::Absent,
        }
    }
}

/// The grant that a `CreateGrant` would make.
pub(crate) struct NewGrant {
    pub(crate) parameters: GrantParameters,
    /// The names of its operations.
    operations: Vec<&'static str>,
}

impl NewGrant {
    pub(crate) fn new(parameters: GrantParameters) -> Self {
        let operations = parameters.operations().iter().map(Action::bare_name);
        Self {
            operations: operations.collect(),
            parameters,
        }
    }
}

impl<'a> Members<'a> {
    /// The values of a condition key.
    pub(crate) fn condition(self, key: &ConditionKey) -> Values<'a> {
        let text = |text| Values::One(Value::Text(text));
        match (self, key) {
            (Self::NewKey(kind, ..), ConditionKey::KeySpec) => {
                kind.spec.map_or(Values::Absent, |spec| text(spec.name()))
            }
            (Self::NewKey(kind, ..), ConditionKey::KeyUsage) => kind
                .usage
                .map_or(Values::Absent, |usage| text(usage.name())),
            (Self::NewKey(kind, ..), ConditionKey::KeyOrigin) => {
                let origin = kind.origin.map(KeyOrigin::name);
                origin.map_or(Values::Absent, text)
            }
            (Self::NewKey(kind, ..), ConditionKey::MultiRegion) => {
                Values::One(Value::Bool(kind.multi_region.is_some()))
            }
            (Self::NewKey(kind, ..), ConditionKey::MultiRegionKeyType) => {
                kind.multi_region.map_or(Values::Absent, text)
            }
            (Self::Attested(_, measured), ConditionKey::RecipientAttestation(measurement)) => {
                measured.value(*measurement).map_or(Values::Absent, text)
            }
            (Self::Texts(members) | Self::Attested(members, _), key) => {
                let member = members.iter().find(|(name, _)| name == key);
                member.map_or(Values::Absent, |(_, value)| text(value))
            }
            (
                Self::NewKey(_, Some(bypass), _) | Self::NewPolicy(_, Some(bypass)),
                ConditionKey::BypassPolicyLockoutSafetyCheck,
            ) => Values::One(Value::Bool(bypass)),
            (Self::NewPolicy(name, _), ConditionKey::PolicyName) => text(name),
            (Self::PendingWindow(days), ConditionKey::ScheduleKeyDeletionPendingWindowInDays) => {
                Values::One(Value::Number(days))
            }
            (Self::RotationPeriod(days), ConditionKey::RotationPeriodInDays) => {
                Values::One(Value::Number(days))
            }
            (Self::Import(model, _), ConditionKey::ExpirationModel) => text(model),
            (Self::Import(_, Some(date)), ConditionKey::ValidTo) => Values::One(Value::Time(date)),
            (Self::SameKey(same, _), ConditionKey::ReEncryptOnSameKey) => {
                Values::One(Value::Bool(same))
            }
            (Self::SameKey(_, algorithm), ConditionKey::EncryptionAlgorithm) => text(algorithm),
            // No service of AWS calls in anybody's name.
            (Self::NewGrant(_) | Self::OfGrants, ConditionKey::GrantIsForAwsResource) => {
                Values::One(Value::Bool(false))
            }
            (Self::NewGrant(new), key) => new.condition(key),
            (Self::NewKey(.., tags) | Self::Tags(tags), key) => tags.condition(key),
            _ => Values::Absent,
        }
    }
}

impl NewGrant {
    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        let parameters = &self.parameters;
        let retiring = parameters.retiring_principal();
        fn arn(who: &GrantPrincipal) -> Option<&str> {
            who.principal().map(|name| name.as_str())
        }
        let text = match key {
            ConditionKey::GrantOperations => return Values::Many(&self.operations),
            ConditionKey::GranteePrincipal => arn(parameters.grantee()),
            ConditionKey::RetiringPrincipal => retiring.and_then(arn),
            ConditionKey::GranteeServicePrincipal => parameters.grantee().service(),
            ConditionKey::RetiringServicePrincipal => retiring.and_then(GrantPrincipal::service),
            ConditionKey::GrantConstraintSourceArn => {
                parameters.source_arn().map(SourceArn::as_str)
            }
            ConditionKey::GrantConstraintType => parameters
                .constraint()
                .map(|constraint| constraint.type_name()),
            _ => None,
        };
        text.map_or(Values::Absent, |text| Values::One(Value::Text(text)))
    }
}
