//! The four forms of a `KeyId`, and from them to a key that the caller may use.
//!
//! A bare id or alias name resolves in the caller's account and the daemon's Region; ARNs must name both. Inside the caller's account a missing key is
//! `NotFoundException`, but only for a caller whose policies allow the action on its ARN; another account's key gets one refusal, whether it exists or not.

use crate::api::{ApiError, KmsErrorCode};
use crate::context::EncryptionContext;
use crate::key::KeyId;
use crate::key::arn::{AccountId, AliasName, Arn, InvalidAliasName, Region};
use crate::keystore::{KeyEntry, Snapshot};
use crate::policy::{
    self, Action, AuthorizationRequest, Authorized, Circumstances, ConditionKey, Denied, KeyFacts,
    Principal, Value, Values,
};
use std::sync::Arc;

/// A request about a key.
pub(super) struct OnKey<'a> {
    action: Action,
    entry: Arc<KeyEntry>,
    context: Option<&'a EncryptionContext>,
    /// How the request names the key, if by an alias.
    alias: Option<AliasName>,
    /// All aliases of the key.
    aliases: Option<Arc<[AliasName]>>,
}

impl OnKey<'_> {
    pub(super) fn entry(&self) -> &Arc<KeyEntry> {
        &self.entry
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
            account: self.entry.key.account,
            policy: None,
            grants: None,
            spec: "SYMMETRIC_DEFAULT",
            usage: "ENCRYPT_DECRYPT",
            origin: "AWS_KMS",
            multi_region: None,
            aliases: self.aliases.as_deref().unwrap_or_default(),
            tags: &[],
        })
    }

    fn context(&self) -> Option<&EncryptionContext> {
        self.context
    }

    fn condition(&self, key: &ConditionKey) -> Values<'_> {
        match (key, &self.alias) {
            (ConditionKey::RequestAlias, Some(alias)) => Values::One(Value::Text(alias.as_str())),
            _ => Values::Absent,
        }
    }
}

/// A request about something that only has a name yet: an alias, a key that does not exist, or `*`.
pub(super) struct OnResource<'a> {
    pub(super) action: Action,
    pub(super) resource: &'a str,
}

impl AuthorizationRequest for OnResource<'_> {
    fn action(&self) -> Action {
        self.action
    }

    fn resource(&self) -> &str {
        self.resource
    }
}

/// Who asks, for what, and where names are looked up.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) principal: &'a Arc<Principal>,
    pub(super) action: Action,
    pub(super) region: &'a Region,
    pub(super) context: Option<&'a EncryptionContext>,
    pub(super) circumstances: Circumstances<'a>,
}

/// A `KeyId` by its form; whether it exists is another matter.
#[derive(Debug, PartialEq, Eq)]
enum Reference {
    Key(KeyId),
    Alias(AliasName),
    /// Another account's.
    Foreign,
}

impl<'a> Caller<'a> {
    /// The same, with a request's encryption context.
    pub(super) fn under(self, context: &'a EncryptionContext) -> Self {
        let context = Some(context);
        Self { context, ..self }
    }

    /// The key that `key_id` names in any of its four forms, if the caller may perform the action on it.
    pub(super) fn key(
        self,
        key_id: &str,
        snapshot: &Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        match self.parse(key_id)? {
            Reference::Key(id) => self.key_by_id(id, None, key_id, snapshot),
            Reference::Alias(name) => {
                let account = self.account();
                let alias = snapshot
                    .alias(account, &name)
                    .ok_or_else(|| alias_not_found(&self.region.alias_arn(account, &name)))?;
                self.key_by_id(alias.target, Some(name), key_id, snapshot)
            }
            Reference::Foreign => Err(self.foreign()),
        }
    }

    /// The key that `key_id` names by id or ARN; aliases are refused before they are looked up.
    pub(super) fn key_not_alias(
        self,
        key_id: &str,
        snapshot: &Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        let alias_arn = Arn::split(key_id).is_some_and(|arn| arn.resource.starts_with("alias/"));
        if alias_arn || key_id.starts_with(AliasName::PREFIX) {
            return Err(ApiError::new(
                KmsErrorCode::InvalidArnException,
                "Key Aliases are not supported for this operation.",
            ));
        }
        self.key(key_id, snapshot)
    }

    /// Whether the caller may perform the action on `resource`.
    pub(super) fn authorize<'r>(
        self,
        resource: &'r str,
    ) -> Result<Authorized<OnResource<'r>>, ApiError> {
        let request = OnResource {
            action: self.action,
            resource,
        };
        policy::authorize(self.principal, request, &self.circumstances)
            .map_err(|denied| self.denied(denied, resource))
    }

    /// Whether the caller may perform the action on a key that is known already.
    pub(super) fn authorize_key(
        self,
        entry: &Arc<KeyEntry>,
        snapshot: &Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        self.authorize_named(entry, None, snapshot)
    }

    fn authorize_named(
        self,
        entry: &Arc<KeyEntry>,
        alias: Option<AliasName>,
        snapshot: &Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        let request = self.on_key(entry, alias, snapshot);
        policy::authorize(self.principal, request, &self.circumstances)
            .map_err(|denied| self.denied(denied, &entry.arn))
    }

    /// The request about a key, which nobody has decided on.
    pub(super) fn on_key(
        self,
        entry: &Arc<KeyEntry>,
        alias: Option<AliasName>,
        snapshot: &Snapshot,
    ) -> OnKey<'a> {
        OnKey {
            action: self.action,
            entry: Arc::clone(entry),
            context: self.context,
            alias,
            aliases: snapshot.aliases_of(entry.key.id),
        }
    }

    fn account(self) -> AccountId {
        self.principal.account
    }

    fn key_by_id(
        self,
        id: KeyId,
        alias: Option<AliasName>,
        as_given: &str,
        snapshot: &Snapshot,
    ) -> Result<Authorized<OnKey<'a>>, ApiError> {
        if let Some(entry) = snapshot.key(self.account(), id) {
            return self.authorize_named(entry, alias, snapshot);
        }
        let arn = if as_given.starts_with("arn:") {
            as_given.to_owned()
        } else {
            self.region.arn(self.account(), &format!("key/{as_given}"))
        };
        self.authorize(&arn)?;
        let message = format!("Key '{arn}' does not exist");
        Err(ApiError::new(KmsErrorCode::NotFoundException, message))
    }

    fn parse(self, text: &str) -> Result<Reference, ApiError> {
        if text.starts_with("arn:") {
            return self.parse_arn(text);
        }
        if text.starts_with(AliasName::PREFIX) {
            return alias(text, || self.region.arn(self.account(), text));
        }
        text.parse().map(Reference::Key).map_err(|_| {
            let message = format!("Invalid keyId '{text}'");
            ApiError::new(KmsErrorCode::NotFoundException, message)
        })
    }

    fn parse_arn(self, text: &str) -> Result<Reference, ApiError> {
        let broken = || {
            let message = format!("ARN '{text}' is not that of a key or an alias of KMS");
            ApiError::new(KmsErrorCode::InvalidArnException, message)
        };
        let arn = Arn::split(text).ok_or_else(broken)?;
        let account: AccountId = arn.account.parse().map_err(|_| broken())?;
        if arn.service != "kms" || arn.partition != self.region.partition {
            return Err(broken());
        }
        if arn.region != self.region.name {
            let message = format!("Invalid arn {}", arn.region);
            return Err(ApiError::new(KmsErrorCode::NotFoundException, message));
        }
        let reference = match arn.resource.strip_prefix("key/") {
            Some(id) => id.parse().map(Reference::Key).map_err(|_| {
                let message = format!("Invalid keyId {id}");
                ApiError::new(KmsErrorCode::NotFoundException, message)
            })?,
            None if arn.resource.starts_with(AliasName::PREFIX) => {
                alias(arn.resource, || text.to_owned())?
            }
            None => return Err(broken()),
        };
        if account == self.account() {
            Ok(reference)
        } else {
            Ok(Reference::Foreign)
        }
    }

    fn denied(self, denied: Denied, resource: &str) -> ApiError {
        let Self {
            principal, action, ..
        } = self;
        let reason = denied.reason(action);
        let (arn, action) = (&principal.arn, action.0);
        let message = format!(
            "User: {arn} is not authorized to perform: {action} on resource: {resource} {reason}"
        );
        ApiError::new(KmsErrorCode::AccessDeniedException, message)
    }

    /// One text for a key of another account, whether it exists or not.
    fn foreign(self) -> ApiError {
        let message = format!(
            "User: {} is not authorized to perform: {} on this resource because the resource does not exist in this Region, no resource-based \
             policies allow access, or a resource-based policy explicitly denies access",
            self.principal.arn, self.action.0
        );
        ApiError::new(KmsErrorCode::AccessDeniedException, message)
    }
}

fn alias(text: &str, arn: impl FnOnce() -> String) -> Result<Reference, ApiError> {
    match text.parse() {
        Ok(name) => Ok(Reference::Alias(name)),
        // What cannot be an alias's name is no alias's name.
        Err(InvalidAliasName::Characters | InvalidAliasName::Prefix) => {
            Err(alias_not_found(&arn()))
        }
    }
}

pub(super) fn alias_not_found(arn: &str) -> ApiError {
    let message = format!("Alias {arn} is not found.");
    ApiError::new(KmsErrorCode::NotFoundException, message)
}
