//! The immutable view that requests read.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::arn::{AccountId, AliasName};
use crate::key::key_store::KeyStoreId;
use crate::key::regions::{RegionNumber, RegionalId, Regions};
use crate::key::{KeyId, KeyState, KmsKey, UNAVAILABLE};
use crate::keystore::body::Entry;
use crate::keystore::entry::{Alias, AuditHead, KeyDraft, KeyEntry, PrincipalEntry};
use crate::keystore::key_store::KeyStoreEntry;
use crate::keystore::last_use::LastUses;
use crate::keystore::record::Kind;
use crate::keystore::{Change, body};
use crate::metrics::Metrics;
use crate::persistent::PersistentMap;
use crate::policy::grant::GrantId;
use crate::policy::{Grant, KeyGrants, KeyPolicy, PrincipalName};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use strum::VariantNames;

mod built;
mod due;
mod entries;

pub(super) use built::Entries;
pub use due::Due;

/// Everything that a request may need, at one revision. Snapshots share their entries: the next one
/// has its own of what changed alone, however large the store is.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The store's revision; only grows.
    pub revision: u64,
    /// Keys by id, in order, so that listings are stable.
    pub keys: PersistentMap<RegionalId, Arc<KeyEntry>>,
    /// The keys again, by what lists them.
    listed_keys: PersistentMap<Place, ListedKeys>,
    /// The keys that are in custom key stores, by their store.
    stored_keys: PersistentMap<KeyStoreId, PersistentMap<RegionalId, Arc<KeyEntry>>>,
    /// The keys that have tags, by what lists them.
    tagged_keys: PersistentMap<Place, ListedKeys>,
    /// The keys to which something comes of itself, by its date.
    due: PersistentMap<due::Place, Arc<KeyEntry>>,
    /// How many keys are in each state, by its name.
    key_states: BTreeMap<&'static str, usize>,
    /// Aliases by Region and account.
    aliases: PersistentMap<Place, Aliases>,
    /// Principals by ARN.
    pub principals: PersistentMap<Arc<str>, Arc<PrincipalEntry>>,
    /// The principals again, by access key id.
    pub access_keys: PersistentMap<Arc<str>, Arc<PrincipalEntry>>,
    /// Key policies by the key that they are attached to; a key without one has the default policy.
    pub key_policies: PersistentMap<RegionalId, Arc<KeyPolicy>>,
    /// The heads of the audit logs when they were last sealed, by node, each with the revision of
    /// the store then.
    pub audit_heads: BTreeMap<String, (AuditHead, u64)>,
    /// The last uses of the keys when they were last written; `None` before the first time.
    pub last_uses: Option<LastUses>,
    /// Custom key stores by id.
    pub key_stores: PersistentMap<KeyStoreId, Arc<KeyStoreEntry>>,
    /// Grants by the key that they belong to.
    pub grants: PersistentMap<RegionalId, Arc<KeyGrants>>,
    /// The grants that have a retiring principal, by its name.
    retirable: PersistentMap<PrincipalName, RetirableGrants>,
    /// The names of the aliases, by the key that they refer to.
    pub(super) aliases_of: PersistentMap<RegionalId, Arc<[AliasName]>>,
}

/// What is listed together: an account in a Region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    region: RegionNumber,
    account: AccountId,
}

impl Place {
    fn of(key: &KmsKey) -> Self {
        let (region, account) = (key.region, key.account);
        Self { region, account }
    }
}

/// The keys of an account in a Region, by id.
pub type ListedKeys = PersistentMap<KeyId, Arc<KeyEntry>>;
/// The aliases of an account in a Region, by name.
pub type Aliases = PersistentMap<AliasName, Arc<Alias>>;
/// The grants that a principal may retire, by key and id.
pub type RetirableGrants = PersistentMap<(RegionalId, GrantId), Arc<Grant>, 16>;
/// Nodes of a shared store whose audit logs are remembered, those that are no more among them.
const NODES_MAX: usize = 1000;

/// A record to write, with its plaintext, or to remove.
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) plaintext: Option<SecretBytes>,
    /// Whether the previous record has secrets that must not stay in the files.
    pub(super) takes_secrets: bool,
}

impl Snapshot {
    /// That of a store without records.
    pub(super) fn empty(revision: u64) -> Self {
        Self {
            revision,
            ..Self::default()
        }
    }

    /// The alias of this name.
    #[must_use]
    pub fn alias(
        &self,
        region: RegionNumber,
        account: AccountId,
        name: &AliasName,
    ) -> Option<&Arc<Alias>> {
        self.aliases(region, account)?.get(name)
    }

    /// The aliases of an account in a Region, if it has any.
    #[must_use]
    pub fn aliases(&self, region: RegionNumber, account: AccountId) -> Option<&Aliases> {
        self.aliases.get(&Place { region, account })
    }

    /// The keys of an account in a Region, if it has any.
    #[must_use]
    pub fn listed_keys(&self, region: RegionNumber, account: AccountId) -> Option<&ListedKeys> {
        self.listed_keys.get(&Place { region, account })
    }

    /// The keys of an account in a Region that have tags, if there are any.
    #[must_use]
    pub fn tagged_keys(&self, region: RegionNumber, account: AccountId) -> Option<&ListedKeys> {
        self.tagged_keys.get(&Place { region, account })
    }

    /// The keys of an account that have tags, in all Regions.
    pub fn all_tagged_keys(&self, account: AccountId) -> impl Iterator<Item = &Arc<KeyEntry>> {
        let places = self.tagged_keys.iter();
        let places = places.filter(move |(place, _)| place.account == account);
        places.flat_map(|(_, keys)| keys.values())
    }

    /// The grants that name this retiring principal, if there are any.
    #[must_use]
    pub fn retirable(&self, principal: &PrincipalName) -> Option<&RetirableGrants> {
        self.retirable.get(principal)
    }

    /// The names of the key's aliases, if it has any.
    #[must_use]
    pub fn aliases_of(&self, id: RegionalId) -> Option<&Arc<[AliasName]>> {
        self.aliases_of.get(&id)
    }

    /// The head of this node's audit log when it was last sealed; `None` before its first log.
    #[must_use]
    pub fn audit_head(&self, node: &str) -> Option<AuditHead> {
        self.audit_heads.get(node).map(|(head, _)| *head)
    }

    /// Where there are heads of as many nodes as there may be, and none of this one, the node whose
    /// head was sealed longest ago: nodes seal them every minute.
    #[must_use]
    pub fn node_to_forget(&self, node: &str) -> Option<String> {
        if self.audit_heads.len() < NODES_MAX || self.audit_heads.contains_key(node) {
            return None;
        }
        let oldest = self
            .audit_heads
            .iter()
            .min_by_key(|(_, (_, revision))| *revision);
        oldest.map(|(node, _)| node.clone())
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
        let keys = self.keys.range(keys).map(|(_, entry)| entry);
        // Of most ids there is one key.
        keys.collect::<SmallVec<[_; 1]>>().into_iter()
    }

    /// Sets the metrics: how many keys are in each state, and the revision.
    pub(super) fn count(&self, metrics: &Metrics) {
        for &state in KeyState::VARIANTS.iter().chain([&UNAVAILABLE]) {
            let count = self.key_states.get(state).copied().unwrap_or_default();
            metrics.kms_keys(state).set(count as f64);
        }
        metrics.keystore_revision.set(self.revision as f64);
    }

    /// Puts the content of a record that was read.
    pub(super) fn put(&mut self, entry: Entry) {
        match entry {
            Entry::Key(key) => self.put_key(key),
            Entry::Alias(alias) => self.put_alias(alias),
            Entry::Principal(principal) => self.put_principal(principal),
            Entry::KeyPolicy(key, policy) => self.put_key_policy(key, policy),
            Entry::Grant(grant) => self.put_grant(grant),
            Entry::Audit(node, head, revision) => {
                self.audit_heads.insert(node, (head, revision));
            }
            Entry::Uses(uses) => self.put_uses(uses),
            Entry::KeyStore(store) => self.put_key_store(store),
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
                let old = self.principals.get(entry.principal.arn.as_str());
                old.is_some_and(|old| old.has_more_than(entry))
            }
            Change::PutAlias(_)
            | Change::RemoveAlias(..)
            | Change::PutKeyPolicy(..)
            | Change::RemoveKeyPolicy(_)
            | Change::PutGrant(_)
            | Change::RemoveGrant(..)
            | Change::PutAuditHead(..)
            | Change::RemoveAuditHead(_)
            | Change::PutUsesSince(_)
            | Change::PutLastUses(..) => false,
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
                self.remove_key(id);
                // The node that removes a key writes the record of its last uses anew; of those
                // that follow it, this is all that does.
                if let Some(uses) = &mut self.last_uses {
                    uses.by_key.remove(&id);
                }
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
            Change::PutAuditHead(node, head) => {
                let plaintext = body::encode_audit_head(&head);
                self.audit_heads.insert(node.clone(), (head, self.revision));
                (Kind::Audit, node, Some(plaintext))
            }
            Change::RemoveAuditHead(node) => {
                self.audit_heads.remove(&node);
                (Kind::Audit, node, None)
            }
            Change::PutUsesSince(since) => {
                let plaintext = body::last_uses::encode_since(since);
                let uses = self.uses_since(since);
                (uses.since, uses.is_one_record) = (since, false);
                (Kind::Uses, String::new(), Some(plaintext))
            }
            Change::PutLastUses(shard, uses) => {
                let plaintext = body::last_uses::encode(&uses, regions);
                let plaintext = (!uses.is_empty()).then_some(plaintext);
                self.uses_since(Timestamp(u64::MAX)).replace(shard, uses);
                (Kind::Uses, shard.to_string(), plaintext)
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
    let due = snapshot.due(Due::Deletion, now);
    due.map(|entry| entry.key.regional_id()).collect()
}
