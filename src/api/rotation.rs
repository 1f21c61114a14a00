//! Rotation: `EnableKeyRotation`, `DisableKeyRotation`, `GetKeyRotationStatus`,
//! `RotateKeyOnDemand`, `ListKeyRotations`, and rotation by the clock.
//!
//! A rotation adds a generation of material. Blobs that are sealed from then on are under it, since
//! the fence moves with it and keys that were pooled before are dropped (POOL-4). Earlier blobs
//! open under their own generation. It is done in the call that asks for it, or within a minute of
//! its date while the daemon runs, at the start if the date passed while it did not, and when a key
//! is enabled whose date passed while it was not. Several dates that passed are one rotation, and
//! the next is due one period after it.

use crate::api::admission::Ask;
use crate::api::imports::material;
use crate::api::key_changes::{self, KeyInput};
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::clock::Timestamp;
use crate::key::material::BackingKey;
use crate::key::regions::RegionalId;
use crate::key::rotation::{RotationSchedule, RotationType};
use crate::key::spec::{KeyOrigin, KeySpec};
use crate::key::{KeyState, KmsKey};
use crate::keystore::{Change, Due, KeyDraft, KeyEntry, Snapshot};
use crate::operation::Action;
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

wire::input! {
    struct EnableInput<'a> {
        key_id: Text<'a>,
        rotation_period_in_days: Option<i64>,
    }
}

/// `EnableKeyRotation`. A schedule stays as it is when the caller names its period or none, so that
/// its date does not recede from a caller that asks again and again.
pub(super) async fn enable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    const MIN: u16 = RotationSchedule::PERIOD_DAYS_MIN;
    const MAX: u16 = RotationSchedule::PERIOD_DAYS_MAX;
    let input: EnableInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let (member, days) = ("rotationPeriodInDays", input.rotation_period_in_days);
    let days: Option<u16> = violations.number(member, days, MIN.into(), MAX.into());
    let (key, days) = violations.check((key, days))?;
    let now = api.clock.now();
    let default = RotationSchedule::PERIOD_DAYS_DEFAULT;
    // What conditions see is what a new schedule would have.
    let period = Members::RotationPeriod(days.unwrap_or(default).into());
    let ask = Ask::on(Action::EnableKeyRotation, &key).members(period);
    key_changes::edit(&api, &requester, ask, |key| {
        check_spec(key)?;
        let is_asked_for =
            |schedule: &RotationSchedule| days.is_none_or(|days| days == schedule.period_days);
        let schedule = key
            .rotation
            .filter(is_asked_for)
            .unwrap_or_else(|| RotationSchedule::after(now, days.unwrap_or(default)));
        Ok(KmsKey {
            rotation: Some(schedule),
            ..key.clone()
        })
    })
    .await
}

/// `DisableKeyRotation`. Of an asymmetric or HMAC key there is nothing to disable, which is not an
/// error.
pub(super) async fn disable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: KeyInput<'_> = wire::decode(&body)?;
    let key = input.key()?;
    let ask = Ask::on(Action::DisableKeyRotation, &key);
    key_changes::edit(&api, &requester, ask, |key| {
        Ok(KmsKey {
            rotation: None,
            ..key.clone()
        })
    })
    .await
}

/// `GetKeyRotationStatus`. Here no rotation takes long enough to be under way.
pub(super) fn status(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: KeyInput<'_> = wire::decode(body)?;
    let key = input.key()?;
    let ask = Ask::on(Action::GetKeyRotationStatus, &key);
    api.read(requester, |attempt| {
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let key = &admitted.entry().key;
        // A key that waits for its deletion is not rotated; a cancellation brings the schedule
        // back.
        let schedule = match key.state {
            KeyState::PendingDeletion { .. } => None,
            _ => key.rotation,
        };
        let mut object = Object::new();
        object.flag("KeyRotationEnabled", schedule.is_some());
        object.plain("KeyId", &admitted.entry().arn);
        if let Some(schedule) = schedule {
            object.number("RotationPeriodInDays", schedule.period_days);
            object.time("NextRotationDate", schedule.next_date);
        }
        admitted.answer(object.end())
    })
}

/// `RotateKeyOnDemand`
pub(super) async fn on_demand(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: KeyInput<'_> = wire::decode(&body)?;
    let key = input.key()?;
    let ask = Ask::on(Action::RotateKeyOnDemand, &key);
    api.change_key(&requester, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            check_spec(&entry.key)?;
            check_replicas(entry, attempt.snapshot)?;
            check_on_demand(entry, attempt.now)
        })?;
        let (entry, now) = (admitted.entry(), attempt.now);
        let draft = match entry.key.origin {
            KeyOrigin::AwsKms => rotated(&api, draft_of(entry), RotationType::OnDemand, now)?,
            KeyOrigin::External => material::rotated(entry, now)?,
            // Admission has refused it already.
            KeyOrigin::ExternalKeyStore => return Err(not_rotated(entry)),
        };
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        let last = draft.materials.last().map(|material| material.id());
        let imported = draft.key.current_import().map(|import| import.id);
        let reply = object.end().with_id(imported.or(last));
        let changes = vec![Change::PutKey(draft)];
        Ok((entry.key.id, changes, admitted.answer(reply)?))
    })
    .await
}

/// Refuses a key of a spec that has no generations.
fn check_spec(key: &KmsKey) -> Result<(), ApiError> {
    if key.spec == KeySpec::Symmetric {
        return Ok(());
    }
    let code = ErrorCode::UnsupportedOperationException;
    Err(ApiError::bare(code))
}

/// The refusal of a key whose material is another key manager's to rotate.
fn not_rotated(entry: &KeyEntry) -> ApiError {
    let message = format!(
        "{} origin is {} which is not valid for this operation.",
        entry.arn, entry.key.origin
    );
    ApiError::new(ErrorCode::UnsupportedOperationException, message)
}

/// Refuses a primary key whose next material is not in all of its replicas yet.
fn check_replicas(entry: &KeyEntry, snapshot: &Snapshot) -> Result<(), ApiError> {
    let Some(next) = entry.key.imports.iter().find(|import| import.pending) else {
        return Ok(());
    };
    if listing::is_in_all(next.generation, entry, snapshot) {
        return Ok(());
    }
    let message = "Cannot perform key material rotation: Key material has not been imported for replicas of the Multi-Region key.";
    Err(ApiError::new(ErrorCode::KMSInvalidStateException, message))
}

fn check_on_demand(entry: &KeyEntry, now: Timestamp) -> Result<(), ApiError> {
    let arn = &entry.arn;
    let drawn = entry.materials.iter().map(|material| material.rotation());
    let imported = entry.key.imports.iter().map(|import| import.rotation);
    let count = match entry.key.origin {
        KeyOrigin::AwsKms => drawn.flatten().filter(is_on_demand).count(),
        KeyOrigin::External => imported.flatten().filter(is_on_demand).count(),
        KeyOrigin::ExternalKeyStore => return Err(not_rotated(entry)),
    };
    if count >= ON_DEMAND_MAX {
        let message = format!(
            "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: {arn}"
        );
        return Err(ApiError::new(ErrorCode::LimitExceededException, message));
    }
    let soon = now.after(BEFORE_AUTOMATIC);
    let schedule = entry.key.rotation;
    if schedule.is_some_and(|schedule| schedule.is_due(soon)) {
        let message = format!(
            "An automatic rotation of {arn} is in progress or begins within the next 20 minutes."
        );
        return Err(ApiError::new(ErrorCode::ConflictException, message));
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
    let cipher = api.keystore.regions().home().cipher();
    let material = BackingKey::draw(cipher, draft.key.id, next, now, &api.entropy)?;
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
    // Replica keys are rotated with their primary key.
    due && key.state == KeyState::Enabled && !key.is_replica()
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
        let some = || self.rotate_some_due_keys(now);
        key_changes::in_turns(DUE_KEYS_AT_ONCE, some).await
    }

    async fn rotate_some_due_keys(&self, now: Timestamp) -> Result<usize, ApiError> {
        let due = |snapshot: &Snapshot| -> Vec<Arc<KeyEntry>> {
            let keys = snapshot.due(Due::Rotation, now);
            keys.take(DUE_KEYS_AT_ONCE).cloned().collect()
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
            let ids: Vec<RegionalId> = keys.iter().map(|entry| entry.key.regional_id()).collect();
            Ok::<_, ApiError>((changes, ids))
        };
        let rotated = self.keystore.apply(decide).await?;
        for id in &rotated {
            self.pool.purge(id.id);
            if let Some(entry) = self.keystore.snapshot().keys.get(id) {
                self.tell_service_event("RotateKey", entry);
            }
            tracing::info!(key_id = %id.id, "rotated: its date had come");
        }
        Ok(rotated.len())
    }
}
