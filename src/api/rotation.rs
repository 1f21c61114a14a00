//! Rotation: `EnableKeyRotation`, `DisableKeyRotation`, `GetKeyRotationStatus`,
//! `RotateKeyOnDemand`, `ListKeyRotations`, and rotation by the clock.
//!
//! A rotation adds a generation of material. What is encrypted from then on is under it, since the
//! fence moves with it and what was pooled before is dropped (POOL-4); whatever was encrypted
//! before opens under its own. It is done in the call that asks for it, or within a minute of its
//! date while the daemon runs, at the start if the date passed while it did not, and when a key is
//! enabled whose date passed while it was not. Several dates that passed are one rotation, and the
//! next is due one period after it.

use crate::api::imports::material;
use crate::api::keys::{self, KeyInput, Permits};
use crate::api::members::Members;
use crate::api::usability::origin;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, KmsErrorCode, Requester, state};
use crate::clock::Timestamp;
use crate::key::material::BackingKey;
use crate::key::rotation::{RotationSchedule, RotationType};
use crate::key::spec::{KeyOrigin, KeySpec};
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::{Change, KeyDraft, KeyEntry, Snapshot};
use crate::operation::Action;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

pub(super) mod listing;

/// On-demand rotations of a key (AWS KMS, "Resource quotas"; not adjustable).
const ON_DEMAND_MAX: usize = 25;
/// Keys rotated by the clock in one change: other changes, and requests that start again after
/// each, have room between.
const DUE_KEYS_AT_ONCE: usize = 256;
/// How long before an automatic rotation there is none on demand (AWS KMS API reference,
/// `RotateKeyOnDemand`).
const BEFORE_AUTOMATIC: Duration = Duration::from_secs(20 * 60);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EnableInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    rotation_period_in_days: Option<i64>,
}

/// `EnableKeyRotation`. A schedule of the same period stays as it is, so that its date does not
/// recede from whoever asks again and again.
pub(super) async fn enable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    const MIN: u16 = RotationSchedule::PERIOD_DAYS_MIN;
    const MAX: u16 = RotationSchedule::PERIOD_DAYS_MAX;
    let input: EnableInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    if let Some(days) = input.rotation_period_in_days {
        violations.number("rotationPeriodInDays", days, MIN.into(), MAX.into());
    }
    violations.check()?;
    let days = input
        .rotation_period_in_days
        .and_then(|days| u16::try_from(days).ok())
        .unwrap_or(RotationSchedule::PERIOD_DAYS_DEFAULT);
    let now = api.clock.now();
    let period = Members::RotationPeriod(days.into());
    let action = (Action::EnableKeyRotation, period);
    let permits: Permits = |entry| {
        rotatable(entry)?;
        origin(entry, KeyOrigin::AwsKms)?;
        state(entry)
    };
    let key = (key_id.unwrap_or_default(), permits);
    keys::edit(&api, &requester, action, key, |key| {
        let schedule = key
            .rotation
            .filter(|schedule| schedule.period_days == days)
            .unwrap_or_else(|| RotationSchedule::after(now, days));
        Ok(KmsKey {
            rotation: Some(schedule),
            ..key.clone()
        })
    })
    .await
}

/// `DisableKeyRotation`
pub(super) async fn disable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let (input, violations) = KeyInput::decode(&body)?;
    violations.check()?;
    let action = (Action::DisableKeyRotation, Members::None);
    // Of an asymmetric or HMAC key there is nothing to disable, which is no error.
    let permits: Permits = |entry| {
        origin(entry, KeyOrigin::AwsKms)?;
        state(entry)
    };
    let key = (input.key_id(), permits);
    keys::edit(&api, &requester, action, key, |key| {
        Ok(KmsKey {
            rotation: None,
            ..key.clone()
        })
    })
    .await
}

/// `GetKeyRotationStatus`. Here no rotation takes long enough to be under way.
pub(super) fn status(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let (input, violations) = KeyInput::decode(body)?;
    violations.check()?;
    let snapshot = api.keystore.snapshot();
    let under = api.under(requester, &snapshot)?;
    let caller = under.caller(Action::GetKeyRotationStatus);
    let request = caller.key_not_alias(input.key_id(), &snapshot)?;
    let entry = request.request().entry();
    // What is to be deleted is not rotated; a cancellation brings the schedule back.
    let state = entry.key.state.not_pending_deletion();
    let schedule = entry.key.rotation.filter(|_| state.is_ok());
    let mut object = Object::new();
    object.flag("KeyRotationEnabled", schedule.is_some());
    object.plain("KeyId", &entry.arn);
    if let Some(schedule) = schedule {
        object.number("RotationPeriodInDays", schedule.period_days);
        object.time("NextRotationDate", schedule.next_date);
    }
    Ok(object.end().about(entry))
}

/// `RotateKeyOnDemand`
pub(super) async fn on_demand(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    const ACTION: Action = Action::RotateKeyOnDemand;
    let (input, violations) = KeyInput::decode(&body)?;
    violations.check()?;
    let key_id = input.key_id();
    // Resolved once before, so that the pool knows what to purge; decided again by the writer, on
    // what is current then.
    let id = {
        let snapshot = api.keystore.snapshot();
        let under = api.under(&requester, &snapshot)?;
        let request = under.caller(ACTION).key_not_alias(key_id, &snapshot)?;
        request.request().entry().key.id
    };
    api.change(&requester, Some(id), |under| {
        let caller = under.caller(ACTION);
        let request = caller.key_not_alias(key_id, under.snapshot)?;
        let entry = request.request().entry();
        rotatable(entry)?;
        state(entry)?;
        check_on_demand(entry, under.now)?;
        let draft = match entry.key.origin {
            KeyOrigin::AwsKms => rotated(&api, draft_of(entry), RotationType::OnDemand, under.now)?,
            KeyOrigin::External => material::rotated(entry, under.now)?,
        };
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        let reply = object.end().with(draft.materials.last());
        Ok((vec![Change::PutKey(draft)], reply.about(entry)))
    })
    .await
}

/// Whether a key of this spec has generations.
fn rotatable(entry: &KeyEntry) -> Result<(), ApiError> {
    if entry.key.spec == KeySpec::Symmetric {
        return Ok(());
    }
    let code = KmsErrorCode::UnsupportedOperationException;
    Err(ApiError::bare(code))
}

fn check_on_demand(entry: &KeyEntry, now: Timestamp) -> Result<(), ApiError> {
    let arn = &entry.arn;
    let drawn = entry.materials.iter().map(|material| material.rotation());
    let imported = entry.key.imports.iter().map(|import| import.rotation);
    let count = match entry.key.origin {
        KeyOrigin::AwsKms => drawn.flatten().filter(is_on_demand).count(),
        KeyOrigin::External => imported.flatten().filter(is_on_demand).count(),
    };
    if count >= ON_DEMAND_MAX {
        let message = format!(
            "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: {arn}"
        );
        return Err(ApiError::new(KmsErrorCode::LimitExceededException, message));
    }
    let soon = now.after(BEFORE_AUTOMATIC);
    let schedule = entry.key.rotation;
    if schedule.is_some_and(|schedule| schedule.is_due(soon)) {
        let message = format!(
            "An automatic rotation of {arn} is in progress or begins within the next 20 minutes."
        );
        return Err(ApiError::new(KmsErrorCode::ConflictException, message));
    }
    Ok(())
}

fn is_on_demand(rotation: &RotationType) -> bool {
    *rotation == RotationType::OnDemand
}

fn draft_of(entry: &KeyEntry) -> KeyDraft {
    entry.with_key(entry.key.clone())
}

/// The key with one more generation of material.
fn rotated(
    api: &Api,
    mut draft: KeyDraft,
    rotation: RotationType,
    now: Timestamp,
) -> Result<KeyDraft, ApiError> {
    let last = draft.materials.last().map_or(0, |last| last.generation());
    let next = last
        .checked_add(1)
        .ok_or_else(|| ApiError::internal("a key has no more generations"))?;
    let material = BackingKey::draw(draft.key.id, next, now, &api.entropy)?;
    draft
        .materials
        .push(Arc::new(material.by_rotation(rotation)));
    if rotation == RotationType::Automatic {
        let schedule = draft.key.rotation;
        draft.key.rotation =
            schedule.map(|schedule| RotationSchedule::after(now, schedule.period_days));
    }
    Ok(draft)
}

fn is_due(key: &KmsKey, now: Timestamp) -> bool {
    let due = key.rotation.is_some_and(|schedule| schedule.is_due(now));
    due && key.state == KeyState::Enabled
}

/// The key with the rotation that was due while it could not be used, if one was.
pub(super) fn caught_up(api: &Api, draft: KeyDraft) -> Result<KeyDraft, ApiError> {
    let now = api.clock.now();
    if is_due(&draft.key, now) {
        return rotated(api, draft, RotationType::Automatic, now);
    }
    Ok(draft)
}

impl Api {
    /// Rotates the keys whose date has come by `now`, once each, and returns how many those were.
    ///
    /// # Errors
    /// When the store cannot be written, or no material be drawn.
    pub async fn rotate_due_keys(&self, now: Timestamp) -> Result<usize, ApiError> {
        let mut count = 0;
        loop {
            let rotated = self.rotate_some_due_keys(now).await?;
            count += rotated;
            if rotated < DUE_KEYS_AT_ONCE {
                return Ok(count);
            }
        }
    }

    async fn rotate_some_due_keys(&self, now: Timestamp) -> Result<usize, ApiError> {
        let due = |snapshot: &Snapshot| -> Vec<Arc<KeyEntry>> {
            let keys = snapshot.keys.values();
            keys.filter(|entry| is_due(&entry.key, now))
                .take(DUE_KEYS_AT_ONCE)
                .cloned()
                .collect()
        };
        if due(&self.keystore.snapshot()).is_empty() {
            return Ok(0);
        }
        self.check_recordable()?;
        let decide = |snapshot: &Snapshot| {
            let keys = due(snapshot);
            let rotate = |entry: &Arc<KeyEntry>| {
                let draft = rotated(self, draft_of(entry), RotationType::Automatic, now)?;
                Ok(Change::PutKey(draft))
            };
            let changes = keys.iter().map(rotate).collect::<Result<_, ApiError>>()?;
            let ids: Vec<KeyId> = keys.iter().map(|entry| entry.key.id).collect();
            Ok::<_, ApiError>((changes, ids))
        };
        let rotated = self.keystore.apply(decide).await?;
        for id in &rotated {
            self.pool.purge(*id);
            if let Some(entry) = self.keystore.snapshot().keys.get(id) {
                self.tell_service_event("RotateKey", entry);
            }
            tracing::info!(key_id = %id, "rotated: its date had come");
        }
        Ok(rotated.len())
    }
}
