//! KMS keys: `CreateKey`, `DescribeKey`, `ListKeys`, and the changes of their state.
//!
//! A change is decided on the current snapshot by the one writer, durable before it is answered, and answered only when no earlier request can still pass
//! its last check (POOL-4).

use crate::api::key_policies;
use crate::api::marker::Marker;
use crate::api::members::Members;
use crate::api::resolve::OnKey;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, LATIN, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{
    Answer, Api, ApiError, KmsErrorCode, Reply, Requester, invalid_state, unsupported,
};
use crate::clock::Timestamp;
use crate::key::arn::AccountId;
use crate::key::material::BackingKey;
use crate::key::{InvalidState, KeyId, KeyState, KmsKey};
use crate::keystore::{self, Change, KeyDraft, KeyEntry, Snapshot};
use crate::policy::Authorized;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// KMS keys of an account in any state (AWS KMS, "Resource quotas").
const KEYS_MAX: usize = 100_000;
const DESCRIPTION_CHARACTERS_MAX: usize = 8192;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateInput<'a> {
    #[serde(borrow)]
    policy: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
    #[serde(borrow)]
    key_usage: Text<'a>,
    #[serde(borrow)]
    customer_master_key_spec: Text<'a>,
    #[serde(borrow)]
    key_spec: Text<'a>,
    #[serde(borrow)]
    origin: Text<'a>,
    custom_key_store_id: Option<IgnoredAny>,
    bypass_policy_lockout_safety_check: Option<bool>,
    tags: Option<Vec<IgnoredAny>>,
    multi_region: Option<bool>,
    xks_key_id: Option<IgnoredAny>,
}

const KEY_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SYMMETRIC_DEFAULT, \
     HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87, ECC_NIST_EDWARDS25519";
const KEY_USAGES: &str = "ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC, KEY_AGREEMENT";
const ORIGINS: &str = "AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE";

/// `CreateKey`
pub(super) async fn create(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: CreateInput<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    key_policies::check_text(input.policy.as_deref(), &mut violations);
    if let Some(description) = input.description.as_deref() {
        violations.text(
            "description",
            description,
            0,
            DESCRIPTION_CHARACTERS_MAX,
            None,
        );
    }
    let members = [
        ("keyUsage", &input.key_usage, KEY_USAGES),
        (
            "customerMasterKeySpec",
            &input.customer_master_key_spec,
            KEY_SPECS,
        ),
        ("keySpec", &input.key_spec, KEY_SPECS),
        ("origin", &input.origin, ORIGINS),
    ];
    for (member, value, set) in members {
        if let Some(value) = value {
            violations.one_of(member, value, set);
        }
    }
    violations.check()?;
    let description = input.description.as_deref().unwrap_or_default().to_owned();
    let bypass = input.bypass_policy_lockout_safety_check;
    api.change(&requester, None, |under| {
        let caller = under.caller("kms:CreateKey").with(Members::NewKey(bypass));
        caller.authorize("*")?;
        check_supported(&input)?;
        let policy = input.policy.as_deref().map(key_policies::parse);
        let policy = policy.transpose()?;
        let key = draw_key(&api, requester.principal.account, description)?;
        let keys = under.snapshot.keys.values();
        let count = keys
            .filter(|entry| entry.key.account == requester.principal.account)
            .count();
        if count >= KEYS_MAX {
            let message = format!("An account has at most {KEYS_MAX} KMS keys.");
            return Err(ApiError::new(KmsErrorCode::LimitExceededException, message));
        }
        let mut object = Object::new();
        let arn = caller.region.key_arn(key.key.account, key.key.id);
        object.object("KeyMetadata", metadata(&key.key, &arn, &key.materials));
        let reply = object.end().naming(arn.clone());
        let id = key.key.id;
        let mut changes = vec![Change::PutKey(key)];
        if let Some(policy) = policy {
            key_policies::check(&policy, &arn, &[], bypass, under)?;
            changes.push(Change::PutKeyPolicy(id, Arc::new(policy)));
        }
        Ok((changes, reply))
    })
    .await
}

/// What is built: symmetric encryption keys of our own material. The rest of the model is a typed refusal, never ignored.
fn check_supported(input: &CreateInput<'_>) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(KmsErrorCode::ValidationException, message));
    if input.key_spec.is_some() && input.customer_master_key_spec.is_some() {
        return invalid(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."
                .to_owned(),
        );
    }
    let spec = input
        .key_spec
        .as_deref()
        .or(input.customer_master_key_spec.as_deref());
    let usage = input.key_usage.as_deref();
    match (spec.unwrap_or("SYMMETRIC_DEFAULT"), usage) {
        ("SYMMETRIC_DEFAULT", None | Some("ENCRYPT_DECRYPT")) => {}
        ("SYMMETRIC_DEFAULT", Some(usage)) => {
            return invalid(format!(
                "KeyUsage {usage} is not compatible with KeySpec SYMMETRIC_DEFAULT"
            ));
        }
        (_, None) => {
            return invalid(
                "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.".to_owned(),
            );
        }
        (spec, Some(_)) => return Err(unsupported(&format!("KeySpec {spec}"))),
    }
    let unbuilt = [
        (
            "Origin",
            input
                .origin
                .as_deref()
                .is_some_and(|origin| origin != "AWS_KMS"),
        ),
        ("CustomKeyStoreId", input.custom_key_store_id.is_some()),
        (
            "Tags",
            input.tags.as_ref().is_some_and(|tags| !tags.is_empty()),
        ),
        ("MultiRegion", input.multi_region == Some(true)),
        ("XksKeyId", input.xks_key_id.is_some()),
    ];
    match unbuilt.into_iter().find(|(_, given)| *given) {
        Some((member, _)) => Err(unsupported(member)),
        None => Ok(()),
    }
}

fn draw_key(api: &Api, account: AccountId, description: String) -> Result<KeyDraft, ApiError> {
    let mut bytes = [0; 16];
    api.entropy.draw(&mut bytes)?;
    let id = KeyId::from_random(bytes);
    let now = api.clock.now();
    let material = BackingKey::draw(id, 1, now, &api.entropy)?;
    Ok(KeyDraft {
        key: KmsKey {
            id,
            account,
            description,
            state: KeyState::Enabled,
            creation_date: now,
        },
        materials: vec![Arc::new(material)],
    })
}

/// `KeyMetadata`; the member named `KeyId` is the bare id here.
fn metadata(key: &KmsKey, arn: &str, materials: &[Arc<BackingKey>]) -> Object {
    let mut object = Object::new();
    object.shown("AWSAccountId", key.account);
    object.shown("KeyId", key.id);
    object.plain("Arn", arn);
    object.time("CreationDate", key.creation_date);
    object.flag("Enabled", key.state == KeyState::Enabled);
    object.text("Description", &key.description);
    object.plain("KeyUsage", "ENCRYPT_DECRYPT");
    object.plain("KeyState", key.state.name());
    if let KeyState::PendingDeletion { deletion_date } = key.state {
        object.time("DeletionDate", deletion_date);
    }
    object.plain("Origin", "AWS_KMS");
    object.plain("KeyManager", "CUSTOMER");
    object.plain("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT");
    object.plain("KeySpec", "SYMMETRIC_DEFAULT");
    object
        .member("EncryptionAlgorithms")
        .extend_from_slice(b"[\"SYMMETRIC_DEFAULT\"]");
    object.flag("MultiRegion", key.id.is_multi_region());
    if let Some(current) = materials.last() {
        object.shown("CurrentKeyMaterialId", current.id());
    }
    object
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    pending_window_in_days: Option<i64>,
}

impl<'a> KeyInput<'a> {
    fn decode(body: &'a [u8]) -> Result<(Self, Violations), ApiError> {
        let input: Self = wire::decode(body)?;
        let mut violations = Violations::default();
        let key_id = input.key_id.as_deref();
        violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
        Ok((input, violations))
    }

    fn key_id(&self) -> &str {
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
    let caller = under.caller("kms:DescribeKey");
    let request = caller.key(input.key_id(), &snapshot)?;
    let entry = request.request().entry();
    api.check_grant_tokens(&under, entry, input.grant_tokens.as_deref())?;
    let KeyEntry {
        key,
        arn,
        materials,
        ..
    } = &**entry;
    let mut object = Object::new();
    object.object("KeyMetadata", metadata(key, arn, materials));
    Ok(object.end().about(entry))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput<'a> {
    limit: Option<i64>,
    #[serde(borrow)]
    marker: Text<'a>,
}

/// `ListKeys`: of the caller's account, in any state, by id.
pub(super) fn list(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    const LIMIT_MAX: i64 = 1000;
    const LIMIT_DEFAULT: usize = 100;
    let input: ListInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let limit = check_page(
        input.limit,
        LIMIT_MAX,
        input.marker.as_deref(),
        &mut violations,
    );
    violations.check()?;
    let snapshot = api.keystore.snapshot();
    let under = api.under(requester, &snapshot)?;
    let caller = under.caller("kms:ListKeys");
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
pub(super) fn check_page(
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

/// `EnableKey`
pub(super) async fn enable(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let (input, violations) = KeyInput::decode(&body)?;
    violations.check()?;
    move_state(
        &api,
        &requester,
        ("kms:EnableKey", Members::None),
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
        ("kms:DisableKey", Members::None),
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
        ("kms:ScheduleKeyDeletion", window),
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
    let action = ("kms:CancelKeyDeletion", Members::None);
    let entry = move_state(&api, &requester, action, key_id, cancel).await?;
    let mut object = Object::new();
    object.plain("KeyId", &entry.arn);
    Ok(object.end().about(&entry))
}

/// Moves a key's state, unless it is there already, and returns the key as it was.
async fn move_state(
    api: &Api,
    requester: &Requester,
    (action, members): (&'static str, Members<'static>),
    key_id: &str,
    transition: impl FnOnce(KeyState) -> Result<KeyState, InvalidState>,
) -> Result<Arc<KeyEntry>, ApiError> {
    // Resolved once before, so that the pool knows what to purge; decided again by the writer, on what is current then.
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
            vec![Change::PutKey(with_state(&request, state))]
        };
        Ok((changes, Arc::clone(entry)))
    })
    .await
}

fn with_state(request: &Authorized<OnKey<'_>>, state: KeyState) -> KeyDraft {
    let entry = request.request().entry();
    KeyDraft {
        key: KmsKey {
            state,
            ..entry.key.clone()
        },
        materials: entry.materials.clone(),
    }
}

impl Api {
    /// Removes the keys whose deletion window has run out by `now`, with their material, aliases, policies and grants.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_expired_keys(&self, now: Timestamp) -> Result<usize, ApiError> {
        if keystore::expired(&self.keystore.snapshot(), now).is_empty() {
            return Ok(0);
        }
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
            Ok::<_, ApiError>((changes, keys))
        };
        let removed = self.keystore.apply(decide).await?;
        for id in &removed {
            self.pool.purge(*id);
            tracing::info!(key_id = %id, "removed: its deletion was due");
        }
        Ok(removed.len())
    }
}
