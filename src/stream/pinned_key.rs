//! The key that a stream names: an alias means the key that it named when the first row came.

use crate::api::ApiError;
use crate::api::attempt::Attempt;
use crate::api::key_reference::KeyReference;
use crate::api::resolve::Caller;
use crate::key::arn::AliasName;
use crate::key::regions::RegionalId;
use crate::keystore::{KeyEntry, Snapshot};
use crate::operation::Action;
use std::sync::Arc;

/// A key by its name.
pub(super) struct PinnedKey {
    name: String,
    /// From the first row on.
    found: Option<Found>,
}

/// What the name meant then.
struct Found {
    arn: String,
    /// The alias by which it was asked for, if by one.
    alias: Option<AliasName>,
    id: RegionalId,
}

impl PinnedKey {
    pub(super) fn new(name: String) -> Self {
        Self { name, found: None }
    }

    fn reference(&self) -> KeyReference<'_> {
        KeyReference::parse(&self.name)
    }

    /// The key's id, whether or not the caller may use it; the answer must not depend on it yet.
    pub(super) fn id(&self, under: &Attempt<'_>, action: Action) -> Option<RegionalId> {
        match &self.found {
            Some(found) => Some(found.id),
            None => under
                .caller(action)
                .key_named(&self.reference(), under.snapshot),
        }
    }

    /// The key as it is now. Whether the caller may use it, [`Self::authorize`] says.
    pub(super) fn entry<'a>(
        &mut self,
        caller: Caller<'a>,
        snapshot: &'a Snapshot,
    ) -> Result<&'a Arc<KeyEntry>, ApiError> {
        if let Some(found) = &self.found {
            return caller.entry_not_alias(&KeyReference::parse(&found.arn), snapshot);
        }
        let authorized = caller.key(&self.reference(), snapshot)?;
        let request = authorized.request();
        let entry = request.entry();
        self.found = Some(Found {
            arn: entry.arn.clone(),
            alias: request.alias().cloned(),
            id: entry.key.regional_id(),
        });
        Ok(entry)
    }

    /// Whether the caller may use the key, and if so whether its context was looked at; the alias
    /// counts where a condition asks for it.
    pub(super) fn authorize<'a>(
        &self,
        caller: Caller<'a>,
        entry: &'a Arc<KeyEntry>,
        snapshot: &'a Snapshot,
    ) -> Result<bool, ApiError> {
        let alias = self.found.as_ref().and_then(|found| found.alias.clone());
        let allowed = caller.authorize_named(entry, alias, snapshot)?;
        Ok(allowed.reads_context())
    }
}
