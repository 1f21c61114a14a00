//! The immutable view that requests read.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::arn::{AccountId, AliasName};
use crate::key::key_store::KeyStoreId;
use crate::key::regions::{RegionNumber, RegionalId, Regions};
use crate::key::{KeyId, KeyState, KmsKey, UNAVAILABLE};
use crate::keystore::entry::{Alias, AuditHead, KeyDraft, KeyEntry, PrincipalEntry};
use crate::keystore::key_store::KeyStoreEntry;
use crate::keystore::last_use::LastUses;
use crate::keystore::record::{Corrupt, Kind};
use crate::keystore::{Change, body};
use crate::metrics::Metrics;
use crate::policy::grant::GrantId;
use crate::policy::{Grant, KeyGrants, KeyPolicy};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use strum::VariantNames;

/// Everything that a request may need, at one revision. Snapshots share their entries, so the next
/// snapshot copies pointers.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The store's revision; only grows.
    pub revision: u64,
    /// Keys by id, in order, so that listings are stable.
    pub keys: BTreeMap<RegionalId, Arc<KeyEntry>>,
    /// Aliases by Region, account and name.
    pub aliases: BTreeMap<(RegionNumber, AccountId, AliasName), Arc<Alias>>,
    /// Principals by ARN.
    pub principals: BTreeMap<String, Arc<PrincipalEntry>>,
    /// The principals again, by access key id.
    pub access_keys: HashMap<String, Arc<PrincipalEntry>>,
    /// Key policies by the key that they are attached to; a key without one has the default policy.
    pub key_policies: BTreeMap<RegionalId, Arc<KeyPolicy>>,
    /// The head of the audit log when it was last sealed; `None` before the first log.
    pub audit_head: Option<AuditHead>,
    /// The last uses of the keys when they were last written; `None` before the first time.
    pub last_uses: Option<Arc<LastUses>>,
    /// Custom key stores by id.
    pub key_stores: BTreeMap<KeyStoreId, Arc<KeyStoreEntry>>,
    /// Grants by the key that they belong to.
    pub grants: BTreeMap<RegionalId, Arc<KeyGrants>>,
    /// The names of the aliases, by the key that they refer to.
    pub(super) aliases_of: BTreeMap<RegionalId, Arc<[AliasName]>>,
}

/// A record to write, with its plaintext, or to remove.
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) plaintext: Option<SecretBytes>,
    /// Whether the previous record has secrets that must not stay in the files.
    pub(super) takes_secrets: bool,
}

impl Snapshot {
    /// The alias of this name.
    #[must_use]
    pub fn alias(
        &self,
        region: RegionNumber,
        account: AccountId,
        name: &AliasName,
    ) -> Option<&Arc<Alias>> {
        self.aliases.get(&(region, account, name.clone()))
    }

    /// The names of the key's aliases, if it has any.
    #[must_use]
    pub fn aliases_of(&self, id: RegionalId) -> Option<&Arc<[AliasName]>> {
        self.aliases_of.get(&id)
    }

    /// The key of this account and id; another account's key is not found.
    #[must_use]
    pub fn key(&self, account: AccountId, id: RegionalId) -> Option<&Arc<KeyEntry>> {
        self.keys
            .get(&id)
            .filter(|entry| entry.key.account == account)
    }

    /// The keys of this id in all Regions, in the order of the Regions: one, or related
    /// multi-Region keys.
    pub fn related(&self, id: KeyId) -> impl Iterator<Item = &Arc<KeyEntry>> + Clone {
        let from = |region| RegionalId { id, region };
        let keys = from(RegionNumber::HOME)..=from(RegionNumber::LAST);
        self.keys.range(keys).map(|(_, entry)| entry)
    }

    /// Sets the metrics: how many keys are in each state, and the revision.
    pub(super) fn count(&self, metrics: &Metrics) {
        for &state in KeyState::VARIANTS.iter().chain([&UNAVAILABLE]) {
            let count = self
                .keys
                .values()
                .filter(|entry| entry.key.state_name() == state)
                .count();
            metrics.kms_keys(state).set(count as f64);
        }
        metrics.keystore_revision.set(self.revision as f64);
    }

    pub(super) fn put_key(&mut self, mut entry: KeyEntry) {
        if let Some(store) = &mut entry.key.key_store {
            let found = self.key_stores.get(&store.id);
            store.is_connected = found.is_some_and(|store| store.is_connected());
        }
        self.keys.insert(entry.key.regional_id(), Arc::new(entry));
    }

    /// The keys that are in a custom key store.
    pub fn keys_in(&self, store: KeyStoreId) -> impl Iterator<Item = &Arc<KeyEntry>> {
        let is_in = move |key: &KmsKey| key.key_store.as_ref().is_some_and(|one| one.id == store);
        let keys = self.keys.values();
        keys.filter(move |entry| is_in(&entry.key))
    }

    /// Puts a key store, and with it into each of its keys whether it is connected.
    pub(super) fn put_key_store(&mut self, store: KeyStoreEntry) {
        let (id, is_connected) = (store.id, store.is_connected());
        self.key_stores.insert(id, Arc::new(store));
        let has_changed = |entry: &&Arc<KeyEntry>| {
            let store = entry.key.key_store.as_ref();
            store.is_some_and(|store| store.is_connected != is_connected)
        };
        let changed: Vec<_> = self.keys_in(id).filter(has_changed).cloned().collect();
        for entry in changed {
            let KeyDraft {
                key,
                materials,
                secret,
            } = entry.with_key(entry.key.clone());
            self.put_key(KeyEntry {
                key,
                arn: entry.arn.clone(),
                materials,
                secret,
                fence: self.revision,
            });
        }
    }

    /// Refuses a store that was read, in which a key's custom key store is missing.
    pub(super) fn check_key_stores(&self) -> Result<(), Corrupt> {
        let is_orphan = |entry: &&Arc<KeyEntry>| {
            let store = entry.key.key_store.as_ref();
            store.is_some_and(|store| !self.key_stores.contains_key(&store.id))
        };
        match self.keys.values().find(is_orphan) {
            None => Ok(()),
            Some(entry) => Err(Corrupt::KeyStore(entry.arn.clone())),
        }
    }

    pub(super) fn put_alias(&mut self, alias: Alias) {
        self.remove_alias(alias.region, alias.account, alias.name.clone());
        let target = alias.target_id();
        let others = self.aliases_of(target).cloned().unwrap_or_default();
        let names = others.iter().chain([&alias.name]).cloned().collect();
        self.aliases_of.insert(target, names);
        let name = (alias.region, alias.account, alias.name.clone());
        self.aliases.insert(name, Arc::new(alias));
    }

    fn remove_alias(&mut self, region: RegionNumber, account: AccountId, name: AliasName) {
        let Some(alias) = self.aliases.remove(&(region, account, name)) else {
            return;
        };
        let target = alias.target_id();
        let names = self.aliases_of.remove(&target).unwrap_or_default();
        if names.len() > 1 {
            let others = names.iter().filter(|name| **name != alias.name);
            self.aliases_of.insert(target, others.cloned().collect());
        }
    }

    pub(super) fn put_principal(&mut self, entry: PrincipalEntry) {
        self.remove_principal(&entry.principal.arn);
        let entry = Arc::new(entry);
        for key in &entry.access_keys {
            self.access_keys.insert(key.id.clone(), Arc::clone(&entry));
        }
        self.principals.insert(entry.principal.arn.clone(), entry);
    }

    fn remove_principal(&mut self, arn: &str) {
        for key in self
            .principals
            .remove(arn)
            .iter()
            .flat_map(|entry| &entry.access_keys)
        {
            self.access_keys.remove(&key.id);
        }
    }

    pub(super) fn put_key_policy(&mut self, key: RegionalId, policy: Arc<KeyPolicy>) {
        self.key_policies.insert(key, policy);
    }

    pub(super) fn put_grant(&mut self, grant: Arc<Grant>) {
        // The map is copied when an earlier snapshot shares it.
        Arc::make_mut(self.grants.entry(grant.key).or_default()).put(grant);
    }

    fn remove_grant(&mut self, key: RegionalId, id: GrantId) {
        let Some(grants) = self.grants.get_mut(&key) else {
            return;
        };
        Arc::make_mut(grants).remove(id);
        if grants.is_empty() {
            self.grants.remove(&key);
        }
    }

    /// Applies a change, and returns the record to write or remove.
    pub(super) fn change(&mut self, change: Change, regions: &Regions) -> Row {
        let takes_secrets = self.takes_secrets(&change);
        let (kind, id, plaintext) = self.changed(change, regions);
        Row {
            kind,
            id,
            plaintext,
            takes_secrets,
        }
    }

    /// Whether the record before the change has secrets that the record after it does not have.
    fn takes_secrets(&self, change: &Change) -> bool {
        match change {
            Change::PutKey(draft) => {
                let old = self.keys.get(&draft.key.regional_id());
                old.is_some_and(|old| old.has_more_than(draft))
            }
            Change::RemoveKey(_) | Change::RemovePrincipal(_) | Change::RemoveKeyStore(_) => true,
            Change::PutKeyStore(store) => {
                let old = self.key_stores.get(&store.id);
                old.is_some_and(|old| !Arc::ptr_eq(&old.credential, &store.credential))
            }
            Change::PutPrincipal(entry) => {
                let old = self.principals.get(&entry.principal.arn);
                old.is_some_and(|old| old.has_more_than(entry))
            }
            Change::PutAlias(_)
            | Change::RemoveAlias(..)
            | Change::PutKeyPolicy(..)
            | Change::RemoveKeyPolicy(_)
            | Change::PutGrant(_)
            | Change::RemoveGrant(..)
            | Change::PutAuditHead(_)
            | Change::PutLastUses(_) => false,
        }
    }

    fn changed(
        &mut self,
        change: Change,
        regions: &Regions,
    ) -> (Kind, String, Option<SecretBytes>) {
        match change {
            Change::PutKey(draft) => {
                let plaintext = body::key::encode(&draft, regions);
                let KeyDraft {
                    key,
                    materials,
                    secret,
                } = draft;
                let id = key.regional_id();
                let arn = regions.get(key.region).key_arn(key.account, key.id);
                let mut entry = KeyEntry {
                    key,
                    arn,
                    materials,
                    secret,
                    fence: self.revision,
                };
                // Pooled keys stay valid when only the key's description or tags change.
                if let Some(old) = self.keys.get(&id).filter(|old| entry.is_used_as(old)) {
                    entry.fence = old.fence;
                }
                self.put_key(entry);
                (Kind::Key, regions.written_key(id), Some(plaintext))
            }
            Change::RemoveKey(id) => {
                self.keys.remove(&id);
                (Kind::Key, regions.written_key(id), None)
            }
            Change::PutAlias(alias) => {
                let plaintext = body::encode_alias(&alias);
                let id = body::alias_id(alias.account, &alias.name);
                let id = regions.written(alias.region, &id);
                self.put_alias(alias);
                (Kind::Alias, id, Some(plaintext))
            }
            Change::RemoveAlias(region, account, name) => {
                let id = regions.written(region, &body::alias_id(account, &name));
                self.remove_alias(region, account, name);
                (Kind::Alias, id, None)
            }
            Change::PutPrincipal(entry) => {
                let plaintext = body::encode_principal(&entry);
                let arn = entry.principal.arn.clone();
                self.put_principal(entry);
                (Kind::Principal, arn, Some(plaintext))
            }
            Change::RemovePrincipal(arn) => {
                self.remove_principal(&arn);
                (Kind::Principal, arn, None)
            }
            Change::PutKeyPolicy(key, policy) => {
                let plaintext = body::encode_key_policy(&policy);
                self.put_key_policy(key, policy);
                (Kind::KeyPolicy, regions.written_key(key), Some(plaintext))
            }
            Change::RemoveKeyPolicy(key) => {
                self.key_policies.remove(&key);
                (Kind::KeyPolicy, regions.written_key(key), None)
            }
            Change::PutGrant(grant) => {
                let plaintext = body::grant::encode(&grant);
                let id = body::grant::record_id(&regions.written_key(grant.key), grant.id);
                self.put_grant(grant);
                (Kind::Grant, id, Some(plaintext))
            }
            Change::RemoveGrant(key, id) => {
                self.remove_grant(key, id);
                let id = body::grant::record_id(&regions.written_key(key), id);
                (Kind::Grant, id, None)
            }
            Change::PutAuditHead(head) => {
                let plaintext = body::encode_audit_head(&head);
                self.audit_head = Some(head);
                (Kind::Audit, String::new(), Some(plaintext))
            }
            Change::PutLastUses(uses) => {
                let plaintext = body::last_uses::encode(&uses, regions);
                self.last_uses = Some(uses);
                (Kind::Uses, String::new(), Some(plaintext))
            }
            Change::PutKeyStore(store) => {
                let plaintext = body::key_store::encode(&store);
                let id = regions.written(store.region, &store.id.to_string());
                self.put_key_store(store);
                (Kind::KeyStore, id, Some(plaintext))
            }
            Change::RemoveKeyStore(id) => {
                let removed = self.key_stores.remove(&id);
                let region = removed.map_or(RegionNumber::HOME, |store| store.region);
                let id = regions.written(region, &id.to_string());
                (Kind::KeyStore, id, None)
            }
        }
    }
}

/// The keys whose date of deletion is not after `now`.
#[must_use]
pub fn expired(snapshot: &Snapshot, now: Timestamp) -> Vec<RegionalId> {
    use crate::key::KeyState::PendingDeletion;
    let due = |entry: &&Arc<KeyEntry>| matches!(entry.key.state, PendingDeletion { deletion_date } if deletion_date <= now);
    snapshot
        .keys
        .values()
        .filter(due)
        .map(|entry| entry.key.regional_id())
        .collect()
}
