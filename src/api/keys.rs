//! KMS keys: `DescribeKey`, `ListKeys`, `UpdateKeyDescription`, and the changes of their state;
//! `CreateKey` is in [`creation`], `GetKeyLastUsage` in [`last_usage`].
//!
//! A change is decided on the current snapshot by the one writer, durable before it is answered,
//! and answered only when no earlier request can still pass its last check (POOL-4).

use crate::api::marker::Marker;
use crate::api::members::Members;
use crate::api::resolve::OnKey;
use crate::api::rotation;
use crate::api::usability::not_pending_deletion;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, LATIN, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, Reply, Requester, invalid_state, unsupported};
use crate::clock::Timestamp;
use crate::key::material::KeyMaterialId;
use crate::key::spec::KeySpec;
use crate::key::{InvalidState, KeyId, KeyState, KmsKey};
use crate::keystore::{self, Change, KeyDraft, KeyEntry, Snapshot};
use crate::operation::Action;
use crate::policy::Authorized;
use serde::Deserialize;
use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

pub(super) mod creation;
pub(super) mod last_usage;

const DESCRIPTION_CHARACTERS_MAX: usize = 8192;
/// How long a date of deletion must have passed since a daemon's start: if the machine's clock was
/// wrong then, there is as long to see it.
const DELETION_GRACE: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `KeyMetadata`; the member named `KeyId` is the bare id here.
fn metadata(key: &KmsKey, arn: &str, current: Option<KeyMaterialId>) -> Object {
    let mut object = Object::new();
    object.shown("AWSAccountId", key.account);
    object.shown("KeyId", key.id);
    object.plain("Arn", arn);
    object.time("CreationDate", key.creation_date);
    object.flag("Enabled", key.state == KeyState::Enabled);
    object.text("Description", &key.description);
    object.plain("KeyUsage", key.usage.name());
    object.plain("KeyState", key.state.name());
    if let KeyState::PendingDeletion { deletion_date } = key.state {
        object.time("DeletionDate", deletion_date);
    }
    object.plain("Origin", key.origin.name());
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
    // Of a symmetric key alone; that of imported material stays when the material goes.
    if let Some(current) = current.filter(|_| key.spec == KeySpec::Symmetric) {
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    pending_window_in_days: Option<i64>,
}

impl<'a> KeyInput<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<(Self, Violations), ApiError> {
        let input: Self = wire::decode(body)?;
        let mut violations = Violations::default();
        let key_id = input.key_id.as_deref();
        violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
        Ok((input, violations))
    }

    pub(super) fn key_id(&self) -> &str {
        self.key_id.as_deref().unwrap_or_default()
    }
}

/// `DescribeKey`
pub(super) fn describe(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let (input, mut violations) = KeyInput::decode(body)?;
    violations.grant_tokens(input.grant_tokens.as_deref());
    violations.check()?;
    let snapshot = api.keystore.snapshot();
    let under = api.under(requester, &snapshot)?;
    let caller = under.caller(Action::DescribeKey);
    let request = caller.key(input.key_id(), &snapshot)?;
    let entry = request.request().entry();
    api.check_grant_tokens(&under, &[entry], input.grant_tokens.as_deref())?;
    let mut object = Object::new();
    let metadata = metadata(&entry.key, &entry.arn, current(entry));
    object.object("KeyMetadata", metadata);
    Ok(object.end().about(entry))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput<'a> {
    limit: Option<i64>,
    #[serde(borrow)]
    marker: Text<'a>,
    #[serde(borrow)]
    resource_owners: Option<Vec<Cow<'a, str>>>,
}

/// `ListKeys`: of the caller's account, in any state, by id.
pub(super) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const LIMIT_MAX: i64 = 1000;
    const LIMIT_DEFAULT: usize = 100;
    const SELF: &str = "SELF";
    const VIA_RAM: &str = "OTHER_ACCOUNTS_VIA_RAM";
    let input: ListInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let limit = check_page(
        input.limit,
        LIMIT_MAX,
        input.marker.as_deref(),
        &mut violations,
    );
    let owners = input.resource_owners.unwrap_or_default();
    if !owners
        .iter()
        .all(|owner| matches!(&**owner, SELF | VIA_RAM))
    {
        let must = format_args!(
            "Member must satisfy constraint: [Member must satisfy enum value set: [{SELF}, {VIA_RAM}]]"
        );
        violations.value(
            "resourceOwners",
            format_args!("[{}]", owners.join(", ")),
            must,
        );
    }
    violations.check()?;
    if owners.iter().any(|owner| owner == VIA_RAM) {
        return Err(unsupported(&format!("ResourceOwners {VIA_RAM}")));
    }
    let snapshot = api.keystore.snapshot();
    let under = api.under(requester, &snapshot)?;
    let caller = under.caller(Action::ListKeys);
    caller.authorize("*")?;
    let listing = Marker::of_listing("ListKeys");
    let after: Option<KeyId> = listing.read(input.marker.as_deref())?;
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let keys = snapshot
        .keys
        .range((start, Bound::Unbounded))
        .map(|(_, entry)| entry);
    let mut keys = keys
        .filter(|entry| entry.key.account == requester.principal.account)
        .peekable();
    let page: Vec<_> = keys.by_ref().take(limit.unwrap_or(LIMIT_DEFAULT)).collect();
    // Each entry has two ids of at most 36 and an ARN's prefix of at most 64 characters.
    let mut object = Object::with_room(256 + page.len() * 256);
    let item = |entry: &&Arc<KeyEntry>| {
        let mut object = Object::with_room(256);
        object.shown("KeyId", entry.key.id);
        object.plain("KeyArn", &entry.arn);
        object
    };
    object.list("Keys", page.iter().map(item));
    let next = page.last().filter(|_| keys.peek().is_some());
    object.flag("Truncated", next.is_some());
    if let Some(last) = next {
        object.plain("NextMarker", &listing.after(last.key.id));
    }
    Ok(object.end())
}

/// Checks the members of a page; returns the limit, if one was given.
pub(crate) fn check_page(
    limit: Option<i64>,
    max: i64,
    marker: Option<&str>,
    violations: &mut Violations,
) -> Option<usize> {
    const MARKER_CHARACTERS_MAX: usize = 1024;
    if let Some(limit) = limit {
        violations.number("limit", limit, 1, max);
    }
    if let Some(marker) = marker {
        violations.text("marker", marker, 1, MARKER_CHARACTERS_MAX, Some(&LATIN));
    }
    limit.and_then(|limit| usize::try_from(limit).ok())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescriptionInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
}

/// `UpdateKeyDescription`
pub(super) async fn update_description(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    const MAX: usize = DESCRIPTION_CHARACTERS_MAX;
    let input: DescriptionInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    match input.description.as_deref() {
        None => violations.null("description"),
        Some(description) => violations.text("description", description, 0, MAX, None),
    }
    violations.check()?;
    let action = (Action::UpdateKeyDescription, Members::None);
    let key_id = key_id.unwrap_or_default();
    let key: (&str, Permits) = (key_id, not_pending_deletion);
    edit(&api, &requester, action, key, |key| {
        Ok(KmsKey {
            description: input.description.as_deref().unwrap_or_default().to_owned(),
            ..key.clone()
        })
    })
    .await
}

/// Whether a key can be changed so: its kind, then its state.
pub(super) type Permits = fn(&KeyEntry) -> Result<(), ApiError>;

/// Changes what is kept of a key beside its state and material, unless it is so already.
pub(super) async fn edit(
    api: &Api,
    requester: &Requester,
    (action, members): (Action, Members<'_>),
    (key_id, permits): (&str, Permits),
    edited: impl FnOnce(&KmsKey) -> Result<KmsKey, ApiError>,
) -> Answer {
    api.change(requester, None, |under| {
        let caller = under.caller(action).with(members);
        let request = caller.key_not_alias(key_id, under.snapshot)?;
        let entry = request.request().entry();
        permits(entry)?;
        let key = edited(&entry.key)?;
        let changes = if key == entry.key {
            Vec::new()
        } else {
            vec![Change::PutKey(entry.with_key(key))]
        };
        Ok((changes, Reply::empty().about(entry)))
    })
    .await
}

/// `EnableKey`
pub(super) async fn enable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let (input, violations) = KeyInput::decode(&body)?;
    violations.check()?;
    move_state(
        &api,
        &requester,
        (Action::EnableKey, Members::None),
        input.key_id(),
        KeyState::enable,
    )
    .await
    .map(|entry| Reply::empty().about(&entry))
}

/// `DisableKey`
pub(super) async fn disable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let (input, violations) = KeyInput::decode(&body)?;
    violations.check()?;
    move_state(
        &api,
        &requester,
        (Action::DisableKey, Members::None),
        input.key_id(),
        KeyState::disable,
    )
    .await
    .map(|entry| Reply::empty().about(&entry))
}

/// `ScheduleKeyDeletion`
pub(super) async fn schedule_deletion(
    api: Arc<Api>,
    requester: Requester,
    body: Vec<u8>,
) -> Answer {
    const DAYS_MIN: i64 = 7;
    const DAYS_MAX: u32 = 30;
    let (input, mut violations) = KeyInput::decode(&body)?;
    if let Some(days) = input.pending_window_in_days {
        violations.number("pendingWindowInDays", days, DAYS_MIN, DAYS_MAX.into());
    }
    violations.check()?;
    let days = input
        .pending_window_in_days
        .and_then(|days| u32::try_from(days).ok());
    let days = days.unwrap_or(DAYS_MAX);
    let deletion_date = api.clock.now().after(DAY * days);
    let schedule = |state: KeyState| state.schedule_deletion(deletion_date);
    let key_id = input.key_id();
    let window = Members::PendingWindow(days.into());
    let entry = move_state(
        &api,
        &requester,
        (Action::ScheduleKeyDeletion, window),
        key_id,
        schedule,
    )
    .await?;
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    object.time("DeletionDate", deletion_date);
    object.plain("KeyState", "PendingDeletion");
    object.number("PendingWindowInDays", days);
    Ok(object.end().about(&entry))
}

/// `CancelKeyDeletion`
pub(super) async fn cancel_deletion(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let (input, violations) = KeyInput::decode(&body)?;
    violations.check()?;
    let key_id = input.key_id();
    let cancel = KeyState::cancel_deletion;
    let action = (Action::CancelKeyDeletion, Members::None);
    let entry = move_state(&api, &requester, action, key_id, cancel).await?;
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    Ok(object.end().about(&entry))
}

/// Moves a key's state, unless it is there already, and returns the key as it was.
async fn move_state(
    api: &Api,
    requester: &Requester,
    (action, members): (Action, Members<'static>),
    key_id: &str,
    transition: impl FnOnce(KeyState) -> Result<KeyState, InvalidState>,
) -> Result<Arc<KeyEntry>, ApiError> {
    // Resolved once before, so that the pool knows what to purge; decided again by the writer, on
    // what is current then.
    let snapshot = api.keystore.snapshot();
    let under = api.under(requester, &snapshot)?;
    let key = under
        .caller(action)
        .with(members)
        .key_not_alias(key_id, &snapshot)?;
    let id = key.request().entry().key.id;
    api.change(requester, Some(id), |under| {
        let caller = under.caller(action).with(members);
        let request = caller.key_not_alias(key_id, under.snapshot)?;
        let entry = request.request().entry();
        let state = transition(entry.key.state).map_err(|state| invalid_state(entry, state))?;
        let changes = if state == entry.key.state {
            Vec::new()
        } else {
            let mut draft = with_state(&request, state);
            if state == KeyState::Enabled {
                draft = rotation::caught_up(api, draft)?;
            }
            vec![Change::PutKey(draft)]
        };
        Ok((changes, Arc::clone(entry)))
    })
    .await
}

fn with_state(request: &Authorized<OnKey<'_>>, state: KeyState) -> KeyDraft {
    let entry = request.request().entry();
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
    /// of day alone: they are held back, since what is removed does not come back.
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
        self.check_recordable()?;
        let decide = |snapshot: &Snapshot| {
            let keys = keystore::expired(snapshot, now);
            let aliases = snapshot.aliases.values();
            let aliases = aliases.filter(|alias| keys.contains(&alias.target));
            let mut changes: Vec<_> = aliases
                .map(|alias| Change::RemoveAlias(alias.account, alias.name.clone()))
                .collect();
            for &key in &keys {
                if snapshot.key_policies.contains_key(&key) {
                    changes.push(Change::RemoveKeyPolicy(key));
                }
                let grants = snapshot.grants.get(&key);
                let grants = grants.into_iter().flat_map(|grants| grants.iter());
                changes.extend(grants.map(|grant| Change::RemoveGrant(key, grant.id)));
                changes.push(Change::RemoveKey(key));
            }
            let entries = keys.iter().filter_map(|key| snapshot.keys.get(key));
            let entries: Vec<_> = entries.cloned().collect();
            Ok::<_, ApiError>((changes, entries))
        };
        let removed = self.keystore.apply(decide).await?;
        for entry in &removed {
            self.pool.purge(entry.key.id);
            self.tell_service_event("DeleteKey", entry);
            tracing::info!(key_id = %entry.key.id, "removed: its deletion was due");
        }
        Ok(removed.len())
    }
}
