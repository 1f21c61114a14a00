//! What puts entries into a snapshot and takes them out, with the indexes that have them too.

use crate::clock::Timestamp;
use crate::key::arn::{AccountId, AliasName};
use crate::key::key_store::KeyStoreId;
use crate::key::regions::{RegionNumber, RegionalId};
use crate::keystore::Snapshot;
use crate::keystore::entry::{Alias, KeyDraft, KeyEntry, PrincipalEntry};
use crate::keystore::key_store::KeyStoreEntry;
use crate::keystore::last_use::{LastUses, UsesRecord};
use crate::keystore::record::Corrupt;
use crate::keystore::snapshot::{Place, due};
use crate::policy::grant::GrantId;
use crate::policy::{Grant, KeyPolicy, PrincipalName};
use std::sync::Arc;

impl Snapshot {
    /// Notes in an entry whether its custom key store is connected.
    pub(super) fn note_connection(&self, entry: &mut KeyEntry) {
        if let Some(store) = &mut entry.key.key_store {
            let found = self.key_stores.get(&store.id);
            store.is_connected = found.is_some_and(|store| store.is_connected());
        }
    }

    pub(in crate::keystore) fn put_key(&mut self, mut entry: KeyEntry) {
        self.note_connection(&mut entry);
        let (id, place) = (entry.key.regional_id(), Place::of(&entry.key));
        self.remove_key(id);
        *self.key_states.entry(entry.key.state_name()).or_default() += 1;
        let entry = Arc::new(entry);
        let of_account = self.listed_keys.get_or_default(place);
        of_account.insert(id.id, Arc::clone(&entry));
        if let Some(store) = &entry.key.key_store {
            let in_store = self.stored_keys.get_or_default(store.id);
            in_store.insert(id, Arc::clone(&entry));
        }
        if !entry.key.tags.is_empty() {
            let tagged = self.tagged_keys.get_or_default(place);
            tagged.insert(id.id, Arc::clone(&entry));
        }
        for place in due::places(&entry.key) {
            self.due.insert(place, Arc::clone(&entry));
        }
        self.keys.insert(id, entry);
    }

    pub(in crate::keystore) fn remove_key(&mut self, id: RegionalId) {
        let Some(entry) = self.keys.remove(&id) else {
            return;
        };
        *self.key_states.entry(entry.key.state_name()).or_default() -= 1;
        let place = Place::of(&entry.key);
        self.listed_keys.remove_within(&place, &id.id);
        if let Some(store) = &entry.key.key_store {
            self.stored_keys.remove_within(&store.id, &id);
        }
        if !entry.key.tags.is_empty() {
            self.tagged_keys.remove_within(&place, &id.id);
        }
        for place in due::places(&entry.key) {
            self.due.remove(&place);
        }
    }

    /// The keys that are in a custom key store.
    pub fn keys_in(&self, store: KeyStoreId) -> impl Iterator<Item = &Arc<KeyEntry>> {
        let keys = self.stored_keys.get(&store).into_iter();
        keys.flat_map(|keys| keys.values())
    }

    /// Puts a key store, and with it into each of its keys whether it is connected.
    pub(in crate::keystore) fn put_key_store(&mut self, store: KeyStoreEntry) {
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
    pub(in crate::keystore) fn check_key_stores(&self) -> Result<(), Corrupt> {
        let mut stores = self.stored_keys.iter();
        let orphans = stores.find(|(store, _)| !self.key_stores.contains_key(*store));
        match orphans.and_then(|(_, keys)| keys.values().next()) {
            None => Ok(()),
            Some(entry) => Err(Corrupt::KeyStore(entry.arn.clone())),
        }
    }

    pub(in crate::keystore) fn put_alias(&mut self, alias: Alias) {
        self.remove_alias(alias.region, alias.account, alias.name.clone());
        let target = alias.target_id();
        let others = self.aliases_of(target).cloned().unwrap_or_default();
        let names = others.iter().chain([&alias.name]).cloned().collect();
        self.aliases_of.insert(target, names);
        let (region, account) = (alias.region, alias.account);
        let aliases = self.aliases.get_or_default(Place { region, account });
        aliases.insert(alias.name.clone(), Arc::new(alias));
    }

    pub(in crate::keystore) fn remove_alias(
        &mut self,
        region: RegionNumber,
        account: AccountId,
        name: AliasName,
    ) {
        let place = Place { region, account };
        let Some(alias) = self.aliases.remove_within(&place, &name) else {
            return;
        };
        let target = alias.target_id();
        let names = self.aliases_of.remove(&target).unwrap_or_default();
        if names.len() > 1 {
            let others = names.iter().filter(|name| **name != alias.name);
            self.aliases_of.insert(target, others.cloned().collect());
        }
    }

    pub(in crate::keystore) fn put_principal(&mut self, entry: PrincipalEntry) {
        self.remove_principal(&entry.principal.arn);
        let entry = Arc::new(entry);
        for key in &entry.access_keys {
            self.access_keys.insert(&*key.id, Arc::clone(&entry));
        }
        let arn: Arc<str> = entry.principal.arn.as_str().into();
        self.principals.insert(arn, entry);
    }

    pub(in crate::keystore) fn remove_principal(&mut self, arn: &str) {
        let removed = self.principals.remove(&arn.into());
        for key in removed.iter().flat_map(|entry| &entry.access_keys) {
            self.access_keys.remove(&key.id.as_str().into());
        }
    }

    pub(in crate::keystore) fn put_key_policy(&mut self, key: RegionalId, policy: Arc<KeyPolicy>) {
        self.key_policies.insert(key, policy);
    }

    pub(in crate::keystore) fn put_grant(&mut self, grant: Arc<Grant>) {
        // The indexes are copied when an earlier snapshot shares them.
        let grants = Arc::make_mut(self.grants.get_or_default(grant.key));
        if let Some(replaced) = grants.put(Arc::clone(&grant)) {
            self.unlist_grant(&replaced);
        }
        if let Some(retiring) = retiring_principal(&grant) {
            let grants = self.retirable.get_or_default(retiring.clone());
            grants.insert((grant.key, grant.id), grant);
        }
    }

    fn unlist_grant(&mut self, grant: &Grant) {
        if let Some(retiring) = retiring_principal(grant) {
            let id = (grant.key, grant.id);
            self.retirable.remove_within(retiring, &id);
        }
    }

    pub(in crate::keystore) fn remove_grant(&mut self, key: RegionalId, id: GrantId) {
        let Some(grants) = self.grants.get_mut(&key) else {
            return;
        };
        let removed = Arc::make_mut(grants).remove(id);
        if grants.is_empty() {
            self.grants.remove(&key);
        }
        if let Some(grant) = removed {
            self.unlist_grant(&grant);
        }
    }

    /// The last uses; where there are none yet, those since then.
    pub(in crate::keystore) fn uses_since(&mut self, since: Timestamp) -> &mut LastUses {
        self.last_uses.get_or_insert_with(|| LastUses::since(since))
    }

    /// Puts the content of a record of last uses that was read.
    pub(in crate::keystore) fn put_uses(&mut self, record: UsesRecord) {
        // Until the record that says it was read.
        let known = self.uses_since(Timestamp(u64::MAX));
        let keys = match record {
            UsesRecord::Since(since, keys) => {
                (known.since, known.is_one_record) = (since, !keys.is_empty());
                keys
            }
            UsesRecord::OfShard(keys) => keys,
        };
        for (key, last) in keys {
            known.note(key, Arc::new(last));
        }
    }
}

/// The principal by whose name a grant is listed as one that it retires.
pub(super) fn retiring_principal(grant: &Grant) -> Option<&PrincipalName> {
    grant.parameters.retiring_principal()?.principal()
}
