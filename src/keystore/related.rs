//! Related multi-Region keys: what replica keys have of their primary key.
//!
//! A primary key's record has the material and what else all related keys share; that of a replica
//! key refers to it, and has what is its own. Imported material is its own too: only the facts of
//! it are shared, and its bytes are imported into each Region. A change of a primary key changes
//! its replicas in the same transaction, so no snapshot shows them apart.
//!
//! Source: AWS KMS Developer Guide, "Multi-Region keys in AWS KMS", shared and independent
//! properties.

use crate::key::import::Import;
use crate::key::material::BackingKey;
use crate::key::regions::RegionalId;
use crate::key::spec::KeyOrigin;
use crate::key::{KeyId, KmsKey};
use crate::keystore::last_use::UsesShard;
use crate::keystore::record::Corrupt;
use crate::keystore::{Change, KeyDraft, KeyEntry, Snapshot};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The changes, followed by those that they make to replica keys.
pub(super) fn followed(snapshot: &Snapshot, mut changes: Vec<Change>) -> Vec<Change> {
    let named: BTreeSet<RegionalId> = changes.iter().filter_map(key_of).collect();
    let mut more = Vec::new();
    for change in &changes {
        let Change::PutKey(primary) = change else {
            continue;
        };
        if !primary.key.is_primary() {
            continue;
        }
        for replica in snapshot.related(primary.key.id) {
            if named.contains(&replica.key.regional_id()) {
                continue;
            }
            let draft = shared(replica.with_key(replica.key.clone()), primary);
            if draft.key != replica.key || !is_alike(&draft, replica) {
                more.push(Change::PutKey(draft));
            }
        }
    }
    changes.append(&mut more);
    let mut forgotten = forgotten(snapshot, &changes);
    changes.append(&mut forgotten);
    changes
}

/// What removes the last uses of the keys that are removed.
fn forgotten(snapshot: &Snapshot, changes: &[Change]) -> Vec<Change> {
    let Some(uses) = &snapshot.last_uses else {
        return Vec::new();
    };
    let removed = changes.iter().filter_map(|change| match change {
        Change::RemoveKey(key) if uses.by_key.contains_key(key) => Some(*key),
        _ => None,
    });
    let removed: BTreeSet<RegionalId> = removed.collect();
    let shards: BTreeSet<_> = removed.iter().copied().map(UsesShard::of).collect();
    let left = |shard| {
        let uses = uses.of_shard(shard);
        let uses = uses.filter(|(key, _)| !removed.contains(key));
        uses.map(|(key, last)| (*key, Arc::clone(last))).collect()
    };
    let shards = shards.into_iter();
    shards
        .map(|shard| Change::PutLastUses(shard, left(shard)))
        .collect()
}

fn key_of(change: &Change) -> Option<RegionalId> {
    match change {
        Change::PutKey(draft) => Some(draft.key.regional_id()),
        Change::RemoveKey(key) => Some(*key),
        _ => None,
    }
}

fn is_alike(draft: &KeyDraft, entry: &KeyEntry) -> bool {
    let ids = |materials: &[Arc<BackingKey>]| {
        let ids = materials.iter().map(|one| (one.generation(), one.id()));
        ids.collect::<Vec<_>>()
    };
    let secrets = [&draft.secret, &entry.secret].map(|secret| secret.as_ref().map(Arc::as_ptr));
    ids(&draft.materials) == ids(&entry.materials) && secrets[0] == secrets[1]
}

/// Fills the replica keys of a store that was read with what they share.
///
/// # Errors
/// [`Corrupt::Related`].
pub(super) fn relate(snapshot: &mut Snapshot) -> Result<(), Corrupt> {
    let keys = snapshot.keys.values();
    let replicas = keys.filter(|entry| entry.key.is_replica());
    let replicas = replicas.cloned().collect();
    fill(snapshot, replicas)
}

/// Does what [`relate`] does, where only keys of these ids have changed.
///
/// # Errors
/// [`Corrupt::Related`].
pub(super) fn relate_changed(
    snapshot: &mut Snapshot,
    ids: &BTreeSet<KeyId>,
) -> Result<(), Corrupt> {
    let keys = ids.iter().flat_map(|id| snapshot.related(*id));
    let replicas = keys.filter(|entry| entry.key.is_replica());
    let replicas = replicas.cloned().collect();
    fill(snapshot, replicas)
}

fn fill(snapshot: &mut Snapshot, replicas: Vec<Arc<KeyEntry>>) -> Result<(), Corrupt> {
    for replica in replicas {
        let refused = || Corrupt::Related(replica.arn.clone());
        let primary = replica.key.primary.map(|region| RegionalId {
            id: replica.key.id,
            region,
        });
        let primary = primary.and_then(|primary| snapshot.keys.get(&primary));
        let primary = primary.filter(|primary| goes_with(&primary.key, &replica.key));
        let primary = primary.ok_or_else(refused)?;
        let draft = shared(
            replica.with_key(replica.key.clone()),
            &primary.with_key(primary.key.clone()),
        );
        snapshot.put_key(KeyEntry {
            key: draft.key,
            arn: replica.arn.clone(),
            materials: draft.materials,
            secret: draft.secret,
            fence: replica.fence,
        });
    }
    Ok(())
}

fn goes_with(primary: &KmsKey, replica: &KmsKey) -> bool {
    let kind = |key: &KmsKey| (key.account, key.spec, key.usage, key.origin);
    primary.is_primary() && kind(primary) == kind(replica)
}

/// The replica key, with what it shares taken from its primary key.
pub(crate) fn shared(replica: KeyDraft, primary: &KeyDraft) -> KeyDraft {
    let KeyDraft {
        key,
        materials,
        secret,
    } = replica;
    let (from, before) = (&primary.key, key.clone());
    let key = KmsKey {
        primary: from.primary,
        rotation: from.rotation,
        imports: imports(&key.imports, &from.imports),
        generations: from.generations,
        ..key
    };
    match from.origin {
        // Keys in external key stores are of one Region.
        KeyOrigin::AwsKms | KeyOrigin::ExternalKeyStore => KeyDraft {
            key,
            materials: primary.materials.clone(),
            secret: primary.secret.clone(),
        },
        KeyOrigin::External => KeyDraft {
            key,
            materials,
            secret,
        }
        .settled(&before),
    }
}

/// The imports of the primary key, as far as they are here.
fn imports(own: &[Import], of_primary: &[Import]) -> Vec<Import> {
    let here = |import: &Import| {
        let found = own.iter().find(|one| one.generation == import.generation);
        found.map_or((false, None), |own| (own.present, own.valid_to))
    };
    let import = |import: &Import| {
        let (present, valid_to) = here(import);
        Import {
            present,
            valid_to,
            ..import.clone()
        }
    };
    of_primary.iter().map(import).collect()
}
