//! KMS keys: `DescribeKey`, `UpdateKeyDescription`, and the changes of their state; `CreateKey` is
//! in [`creation`], `GetKeyLastUsage` in [`last_usage`], `ListKeys` in [`listing`].
//!
//! A change is decided on the current snapshot by the one writer, durable before it is answered,
//! and answered only when no earlier request can still pass its last check (POOL-4).

use crate::api::admission::Ask;
use crate::api::key_changes::{KeyInput, edit};
use crate::api::members::Members;
use crate::api::rotation;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, Reply, Requester, invalid_state};
use crate::clock::Timestamp;
use crate::key::material::KeyMaterialId;
use crate::key::regions::{RegionalId, Regions};
use crate::key::spec::KeySpec;
use crate::key::{InvalidState, KeyState, KmsKey};
use crate::keystore::{self, Change, KeyDraft, KeyEntry, Snapshot};
use crate::operation::Action;
use related::Member;
use std::sync::Arc;
use std::time::Duration;

pub(super) mod creation;
mod external;
pub(super) mod last_usage;
pub(super) mod listing;
pub(super) mod primary_region;
mod related;
pub(super) mod replication;

/// How long a date of deletion must have passed since a daemon's start: if the machine's clock was
/// wrong then, there is as long to see it.
const DELETION_GRACE: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `KeyMetadata` says of a key beside what it is.
struct Described<'a> {
    arn: &'a str,
    state: &'static str,
    current: Option<KeyMaterialId>,
    /// The related keys, this one too.
    members: &'a [Member<'a>],
    regions: &'a Regions,
}

/// `KeyMetadata`; the member named `KeyId` is the bare id here.
fn metadata(key: &KmsKey, described: &Described<'_>) -> Object {
    let mut object = Object::new();
    object.shown("AWSAccountId", key.account);
    object.shown("KeyId", key.id);
    object.plain("Arn", described.arn);
    object.time("CreationDate", key.creation_date);
    object.flag("Enabled", described.state == KeyState::Enabled.name());
    object.text("Description", &key.description);
    object.plain("KeyUsage", key.usage.name());
    object.plain("KeyState", described.state);
    if let KeyState::PendingDeletion { deletion_date } = key.state {
        object.time("DeletionDate", deletion_date);
    }
    if let KeyState::PendingReplicaDeletion { window_days } = key.state {
        object.number("PendingDeletionWindowInDays", window_days);
    }
    object.plain("Origin", key.origin.name());
    if let Some(store) = &key.key_store {
        object.shown("CustomKeyStoreId", store.id);
        let mut external_key = Object::with_room(256);
        external_key.plain("Id", store.external_key.as_str());
        object.object("XksKeyConfiguration", external_key);
    }
    let first = key.imports.iter().filter(|import| import.present);
    if let Some(import) = first.min_by_key(|import| import.valid_to.map_or(u64::MAX, |date| date.0))
    {
        if let Some(date) = import.valid_to {
            object.time("ValidTo", date);
        }
        object.plain("ExpirationModel", import.expiration_model());
    }
    object.plain("KeyManager", "CUSTOMER");
    object.plain("CustomerMasterKeySpec", key.spec.name());
    object.plain("KeySpec", key.spec.name());
    algorithms(&mut object, key);
    object.flag("MultiRegion", key.id.is_multi_region());
    if let Some(related) = related::configuration(key, described.members, described.regions) {
        object.object("MultiRegionConfiguration", related);
    }
    // Of a symmetric key alone; that of imported material stays when the material goes.
    if key.spec == KeySpec::Symmetric
        && let Some(current) = described.current
    {
        object.material_id("CurrentKeyMaterialId", current);
    }
    object
}

/// The member with the algorithms of a key.
pub(super) fn algorithms(object: &mut Object, key: &KmsKey) {
    let (member, names) = key.spec.algorithms(key.usage);
    object.plain_list(member, &names);
}

fn current(entry: &KeyEntry) -> Option<KeyMaterialId> {
    let imported = entry.key.current_import().map(|import| import.id);
    imported.or_else(|| entry.current().map(|material| material.id()))
}

/// `KeyMetadata` of a key of this snapshot.
pub(crate) fn described(entry: &KeyEntry, snapshot: &Snapshot, regions: &Regions) -> Object {
    let members = related::members(&entry.key, snapshot);
    let described = Described {
        arn: &entry.arn,
        state: entry.key.state_name(),
        current: current(entry),
        members: &members,
        regions,
    };
    metadata(&entry.key, &described)
}

/// `DescribeKey`
pub(super) fn describe(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: KeyInput<'_> = wire::decode(body)?;
    let (key, grant_tokens) = input.key_and_tokens()?;
    let ask = Ask::on(Action::DescribeKey, &key).grant_tokens(grant_tokens);
    api.read(requester, |attempt| {
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let entry = admitted.entry();
        let mut object = Object::new();
        let metadata = described(entry, attempt.snapshot, api.keystore.regions());
        object.object("KeyMetadata", metadata);
        admitted.answer(object.end())
    })
}

wire::input! {
    struct DescriptionInput<'a> {
        key_id: Text<'a>,
        description: Text<'a>,
    }
}

/// `UpdateKeyDescription`
pub(super) async fn update_description(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    let input: DescriptionInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let description = input.description.as_deref();
    check_description(description, &mut violations);
    let description = violations.required("description", description);
    let (key, description) = violations.check((key, description))?;
    let ask = Ask::on(Action::UpdateKeyDescription, &key);
    edit(&api, &requester, ask, |key| {
        Ok(KmsKey {
            description: description.to_owned(),
            ..key.clone()
        })
    })
    .await
}

/// Checks the member `Description`, if it is there.
fn check_description(description: Option<&str>, violations: &mut Violations) {
    const CHARACTERS_MAX: usize = 8192;
    if let Some(description) = description {
        violations.text("description", description, 0, CHARACTERS_MAX, None);
    }
}

/// `EnableKey`
pub(super) async fn enable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    set_state(&api, &requester, &body, Action::EnableKey, KeyState::enable).await
}

/// `DisableKey`
pub(super) async fn disable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    set_state(
        &api,
        &requester,
        &body,
        Action::DisableKey,
        KeyState::disable,
    )
    .await
}

/// `ScheduleKeyDeletion`
pub(super) async fn schedule_deletion(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    const DAYS_MIN: i64 = 7;
    const DAYS_MAX: u16 = 30;
    let input: KeyInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let (member, days) = ("pendingWindowInDays", input.pending_window_in_days);
    let days = violations.number(member, days, DAYS_MIN, DAYS_MAX.into());
    let (key, days) = violations.check((key, days.unwrap_or(DAYS_MAX)))?;
    let deletion_date = api.clock.now().after(DAY * days.into());
    // A primary key goes after its replicas.
    let schedule = |key: &KmsKey, snapshot: &Snapshot| {
        if key.is_primary() && snapshot.related(key.id).nth(1).is_some() {
            key.state.schedule_after_replicas(days)
        } else {
            key.state.schedule_deletion(deletion_date)
        }
    };
    let window = Members::PendingWindow(days.into());
    let ask = Ask::on(Action::ScheduleKeyDeletion, &key).members(window);
    let (entry, state) = move_state(&api, &requester, ask, schedule).await?;
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    if let KeyState::PendingDeletion { deletion_date } = state {
        object.time("DeletionDate", deletion_date);
    }
    object.plain("KeyState", state.name());
    object.number("PendingWindowInDays", days);
    Ok(object.end().about(&entry))
}

/// `CancelKeyDeletion`
pub(super) async fn cancel_deletion(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: KeyInput<'_> = wire::decode(&body)?;
    let key = input.key()?;
    let ask = Ask::on(Action::CancelKeyDeletion, &key);
    let cancel = |key: &KmsKey, _: &Snapshot| key.state.cancel_deletion();
    let (entry, _) = move_state(&api, &requester, ask, cancel).await?;
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    Ok(object.end().about(&entry))
}

/// Moves the state of the key that the body names.
async fn set_state(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    action: Action,
    transition: fn(KeyState) -> Result<KeyState, InvalidState>,
) -> Answer {
    let input: KeyInput<'_> = wire::decode(body)?;
    let key = input.key()?;
    let ask = Ask::on(action, &key);
    let (entry, _) = move_state(api, requester, ask, |key, _| transition(key.state)).await?;
    Ok(Reply::empty().about(&entry))
}

/// Moves a key's state, unless it is there already, and returns the key as it was, and the state.
async fn move_state(
    api: &Api,
    requester: &Requester,
    ask: Ask<'_>,
    transition: impl Fn(&KmsKey, &Snapshot) -> Result<KeyState, InvalidState>,
) -> Result<(Arc<KeyEntry>, KeyState), ApiError> {
    api.change_key(requester, |attempt| {
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let entry = admitted.entry();
        let moved = transition(&entry.key, attempt.snapshot);
        let state = moved.map_err(|state| invalid_state(entry, state))?;
        let changes = if state == entry.key.state {
            Vec::new()
        } else {
            let mut draft = with_state(entry, state);
            if state == KeyState::Enabled {
                draft = rotation::caught_up(api, draft)?;
            }
            vec![Change::PutKey(draft)]
        };
        Ok((entry.key.id, changes, (Arc::clone(entry), state)))
    })
    .await
}

fn with_state(entry: &KeyEntry, state: KeyState) -> KeyDraft {
    let state = match state {
        // Of a key whose deletion was cancelled.
        KeyState::Disabled if entry.key.lacks_material() => KeyState::PendingImport,
        state => state,
    };
    entry.with_key(KmsKey {
        state,
        ..entry.key.clone()
    })
}

impl Api {
    /// Removes the keys whose deletion is due by two clocks. Returns how many are due by the time
    /// of day alone: they are held back, since a removed key does not come back.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_due_keys(&self) -> Result<usize, ApiError> {
        let confirmed = self.clock.confirmed(DELETION_GRACE);
        self.remove_expired_keys(confirmed).await?;
        let held = keystore::expired(&self.keystore.snapshot(), self.clock.now());
        Ok(held.len())
    }

    /// Removes the keys whose deletion window has run out by `now`, with their material, aliases,
    /// policies and grants.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_expired_keys(&self, now: Timestamp) -> Result<usize, ApiError> {
        if keystore::expired(&self.keystore.snapshot(), now).is_empty() {
            return Ok(0);
        }
        // A removal without a record would be lost to the audit log.
        self.check_recordable()?;
        // Decided on the newest state: a deletion may have been cancelled just now.
        let decide = |snapshot: &Snapshot| {
            let keys = keystore::expired(snapshot, now);
            let last = primaries_without(&keys, snapshot);
            let mut changes = Vec::new();
            for &key in &keys {
                changes.extend(aliases_removed(key, snapshot));
                if snapshot.key_policies.contains_key(&key) {
                    changes.push(Change::RemoveKeyPolicy(key));
                }
                let grants = snapshot
                    .grants
                    .get(&key)
                    .into_iter()
                    .flat_map(|grants| grants.iter());
                changes.extend(grants.map(|grant| Change::RemoveGrant(key, grant.id)));
                changes.push(Change::RemoveKey(key));
            }
            changes.extend(last.map(|(entry, window_days)| {
                let deletion_date = now.after(DAY * window_days.into());
                let state = KeyState::PendingDeletion { deletion_date };
                Change::PutKey(with_state(entry, state))
            }));
            let entries: Vec<_> = keys
                .iter()
                .filter_map(|key| snapshot.keys.get(key))
                .cloned()
                .collect();
            Ok::<_, ApiError>((changes, entries))
        };
        let removed = self.keystore.apply(decide).await?;
        self.did_when_due("DeleteKey", &removed);
        Ok(removed.len())
    }
}

/// Removes the aliases of a key.
fn aliases_removed(key: RegionalId, snapshot: &Snapshot) -> impl Iterator<Item = Change> {
    let account = snapshot.keys.get(&key).map(|entry| entry.key.account);
    let names = snapshot.aliases_of(key).into_iter();
    let names = names.flat_map(|names| names.iter());
    let removed = move |account| {
        let names = names.clone();
        names.map(move |name| Change::RemoveAlias(key.region, account, name.clone()))
    };
    account.into_iter().flat_map(removed)
}

/// The primary keys that waited for the last of their replicas, which is one of these, and how many
/// days each of them waits now.
fn primaries_without<'a>(
    removed: &'a [RegionalId],
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = (&'a Arc<KeyEntry>, u16)> {
    let primaries = snapshot.keys.values();
    primaries.filter_map(move |entry| {
        let KeyState::PendingReplicaDeletion { window_days } = entry.key.state else {
            return None;
        };
        let mut related = snapshot.related(entry.key.id);
        let is_last = related
            .all(|other| other.key.is_primary() || removed.contains(&other.key.regional_id()));
        is_last.then_some((entry, window_days))
    })
}
