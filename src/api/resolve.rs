//! From a `KeyId` to a key that the caller may use.
//!
//! A bare id or alias name resolves in the caller's account and the Region that is called; ARNs
//! must name the Region, and may name another account if the action crosses accounts. Inside the
//! caller's account a missing key is `NotFoundException`, but only for a caller whose policies
//! allow the action on its ARN. For another account's key there is one refusal: it does not show
//! whether the key is missing, or which policy forbids it.

use crate::api::key_reference::{KeyReference, Name, alias_not_found};
use crate::api::members::Members;
use crate::api::{ApiError, ErrorCode};
use crate::context::EncryptionContext;
use crate::key::KmsKey;
use crate::key::arn::{AccountId, AliasName};
use crate::key::regions::{Region, RegionalId};
use crate::keystore::{KeyEntry, Snapshot};
use crate::operation::Action;
use crate::policy::{
    self, AuthorizationRequest, Authorized, Circumstances, ConditionKey, Denied, Grant,
    GrantParameters, KeyFacts, KeyGrants, KeyPolicy, Principal, Value, Values,
};
use std::sync::Arc;

/// A request about a key.
pub(crate) struct OnKey<'a> {
    action: Action,
    entry: &'a Arc<KeyEntry>,
    policy: Option<&'a KeyPolicy>,
    grants: Option<&'a KeyGrants>,
    context: Option<&'a EncryptionContext>,
    members: Members<'a>,
    /// How the request names the key, if by an alias.
    alias: Option<AliasName>,
    /// All aliases of the key.
    aliases: &'a [AliasName],
}

impl<'a> OnKey<'a> {
    pub(crate) fn entry(&self) -> &'a Arc<KeyEntry> {
        self.entry
    }

    /// The alias by which the request names the key, if it does.
    pub(crate) fn alias(&self) -> Option<&AliasName> {
        self.alias.as_ref()
    }
}

impl AuthorizationRequest for OnKey<'_> {
    fn action(&self) -> Action {
        self.action
    }

    fn resource(&self) -> &str {
        &self.entry.arn
    }

    fn key(&self) -> Option<KeyFacts<'_>> {
        Some(KeyFacts {
            policy: self.policy,
            grants: self.grants,
            aliases: self.aliases,
            tags: &self.entry.key.tags,
            ..key_facts(&self.entry.key)
        })
    }

    fn context(&self) -> Option<&EncryptionContext> {
        self.context
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        match (key, &self.alias) {
            (ConditionKey::RequestAlias, Some(alias)) => Values::One(Value::Text(alias.as_str())),
            _ => self.members.condition(key),
        }
    }

    fn new_grant(&self) -> Option<&GrantParameters> {
        match self.members {
            Members::NewGrant(new) => Some(&new.parameters),
            _ => None,
        }
    }

    fn retires(&self) -> Option<&Grant> {
        match self.members {
            Members::Retired(grant) => Some(grant),
            _ => None,
        }
    }
}

/// What a key is, with the default policy and without grants, aliases and tags.
pub(crate) fn key_facts<'a>(key: &KmsKey) -> KeyFacts<'a> {
    KeyFacts {
        account: key.account,
        policy: None,
        grants: None,
        spec: key.spec,
        usage: key.usage,
        origin: key.origin,
        multi_region: key.multi_region_type(),
        aliases: &[],
        tags: &[],
    }
}

/// A request about something that only has a name yet: an alias, a key that does not exist, or `*`.
pub(crate) struct OnResource<'a> {
    action: Action,
    resource: &'a str,
    members: Members<'a>,
}

impl AuthorizationRequest for OnResource<'_> {
    fn action(&self) -> Action {
        self.action
    }

    fn resource(&self) -> &str {
        self.resource
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        self.members.condition(key)
    }
}

/// Who asks, for what, and where names are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) principal: &'a Arc<Principal>,
    pub(crate) action: Action,
    pub(crate) region: &'a Region,
    pub(crate) context: Option<&'a EncryptionContext>,
    pub(crate) members: Members<'a>,
    pub(crate) circumstances: Circumstances<'a>,
}

/// A key that was found, and the alias by which it was, if by one.
struct Found<'a> {
    entry: &'a Arc<KeyEntry>,
    alias: Option<AliasName>,
}

impl<'a> Caller<'a> {
    /// The caller with a request's encryption context.
    pub(crate) fn under(self, context: &'a EncryptionContext) -> Self {
        let context = Some(context);
        Self { context, ..self }
    }

    /// The caller with the other members of the request that conditions may ask for.
    pub(crate) fn with(self, members: Members<'a>) -> Self {
        Self { members, ..self }
    }

    /// The key that `key` names in any of its four forms, if the caller may perform the action
    /// on it.
    pub(crate) fn key(
        self,
        key: &KeyReference<'_>,
        snapshot: &'a Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        let found = self.find(key, snapshot)?;
        self.authorize_named(found.entry, found.alias, snapshot)
    }

    /// Which key `key` means in any of its four forms, whether or not the caller may perform the
    /// action on it. The answer must not depend on it yet.
    pub(crate) fn key_named(
        self,
        key: &KeyReference<'_>,
        snapshot: &'a Snapshot,
    ) -> Option<RegionalId> {
        let found = self.find(key, snapshot).ok()?;
        Some(found.entry.key.regional_id())
    }

    /// The key that `key` names by id or ARN; aliases are refused before they are looked up.
    pub(crate) fn key_not_alias(
        self,
        key: &KeyReference<'_>,
        snapshot: &'a Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        let entry = self.entry_not_alias(key, snapshot)?;
        self.authorize_key(entry, snapshot)
    }

    /// The entry that `key` names by id or ARN, whether or not the caller may perform the action on
    /// it: for operations that another policy decides.
    pub(crate) fn entry_not_alias(
        self,
        key: &KeyReference<'_>,
        snapshot: &'a Snapshot,
    ) -> Result<&'a Arc<KeyEntry>, ApiError> {
        if key.is_alias() {
            return Err(ApiError::new(
                ErrorCode::InvalidArnException,
                "Key Aliases are not supported for this operation.",
            ));
        }
        self.find(key, snapshot).map(|found| found.entry)
    }

    /// Whether the caller may perform the action on `resource`.
    pub(crate) fn authorize<'r>(
        self,
        resource: &'r str,
    ) -> Result<Authorized<OnResource<'r>>, ApiError>
    where
        'a: 'r,
    {
        let request = OnResource {
            action: self.action,
            resource,
            members: self.members,
        };
        policy::authorize(self.principal, request, &self.circumstances)
            .map_err(|denied| self.denied(denied, resource))
    }

    /// Whether the caller may perform the action on a key that is known already.
    pub(crate) fn authorize_key(
        self,
        entry: &'a Arc<KeyEntry>,
        snapshot: &'a Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        self.authorize_named(entry, None, snapshot)
    }

    /// Whether the caller may perform the action on a key that the request names by an alias, as
    /// long as that is the alias's key.
    pub(crate) fn authorize_named(
        self,
        entry: &'a Arc<KeyEntry>,
        alias: Option<AliasName>,
        snapshot: &'a Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        let request = self.on_key(entry, alias, snapshot);
        policy::authorize(self.principal, request, &self.circumstances).map_err(|denied| {
            if entry.key.account == self.account() {
                self.denied(denied, &entry.arn)
            } else {
                self.foreign().undecided(denied == Denied::TooManySteps)
            }
        })
    }

    /// The request about a key, before a policy has decided on it.
    pub(crate) fn on_key(
        self,
        entry: &'a Arc<KeyEntry>,
        alias: Option<AliasName>,
        snapshot: &'a Snapshot,
    ) -> OnKey<'a> {
        let id = entry.key.regional_id();
        let aliases = snapshot
            .aliases_of(id)
            .map(|names| &**names)
            .unwrap_or_default();
        OnKey {
            action: self.action,
            entry,
            policy: snapshot.key_policies.get(&id).map(|policy| &**policy),
            grants: snapshot.grants.get(&id).map(|grants| &**grants),
            context: self.context,
            members: self.members,
            alias: alias.filter(|alias| aliases.contains(alias)),
            aliases,
        }
    }

    fn account(self) -> AccountId {
        self.principal.account
    }

    fn find(self, key: &KeyReference<'_>, snapshot: &'a Snapshot) -> Result<Found<'a>, ApiError> {
        let (account, name) = key.locate(self.account(), self.region)?;
        let own = account == self.account();
        let foreign = !own && !self.action.facts().crosses_accounts;
        let (id, alias) = match name {
            Name::Key(_) | Name::Alias(_) if foreign => return Err(self.foreign()),
            Name::Key(id) => (*id, None),
            Name::Alias(alias) => match snapshot.alias(self.region.number, account, alias) {
                Some(found) => (found.target, Some(alias.clone())),
                None if own => {
                    return Err(alias_not_found(&self.region.alias_arn(account, alias)));
                }
                None => return Err(self.foreign()),
            },
            Name::NotAKey(_) | Name::NotAnAlias | Name::Other => {
                return Err(key.invalid(self.account(), self.region));
            }
        };
        match snapshot.key(account, self.region.id(id)) {
            Some(entry) => Ok(Found { entry, alias }),
            None if own => Err(self.missing(key.text())),
            None => Err(self.foreign()),
        }
    }

    /// The refusal of a key of the caller's account that does not exist. A caller learns that only
    /// if the action on its ARN is allowed.
    fn missing(self, as_given: &str) -> ApiError {
        let arn = if as_given.starts_with("arn:") {
            as_given.to_owned()
        } else {
            self.region.arn(self.account(), &format!("key/{as_given}"))
        };
        self.not_found_on(&arn, &format!("Key '{arn}' does not exist"))
    }

    /// `NotFoundException` with this message for a caller whose policies allow the action on `arn`;
    /// else their refusal.
    pub(crate) fn not_found_on(self, arn: &str, message: &str) -> ApiError {
        match self.with(Members::None).authorize(arn) {
            Ok(_) => ApiError::new(ErrorCode::NotFoundException, message.to_owned()),
            Err(denied) => denied,
        }
    }

    fn denied(self, denied: Denied, resource: &str) -> ApiError {
        let Self {
            principal, action, ..
        } = self;
        let reason = denied.reason(action);
        let (arn, action) = (&principal.arn, action.name());
        let message = format!(
            "User: {arn} is not authorized to perform: {action} on resource: {resource} {reason}"
        );
        let error = ApiError::new(ErrorCode::AccessDeniedException, message);
        error.undecided(denied == Denied::TooManySteps)
    }

    /// One text for a key of another account, whether it exists or not.
    pub(crate) fn foreign(self) -> ApiError {
        let message = format!(
            "User: {} is not authorized to perform: {} on this resource because the resource does not exist in this Region, no resource-based \
             policies allow access, or a resource-based policy explicitly denies access",
            self.principal.arn,
            self.action.name()
        );
        ApiError::new(ErrorCode::AccessDeniedException, message)
    }
}
