//! `CreateKey`.

use crate::api::attempt::Attempt;
use crate::api::key_policies;
use crate::api::key_stores;
use crate::api::keys::external::{Named, Place};
use crate::api::keys::{Described, check_description, metadata};
use crate::api::members::{KeyKind, Members, RequestTags};
use crate::api::tags::{self, TagInput};
use crate::api::validation::{Pattern, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester, unsupported};
use crate::crypto::block_cipher::BlockCipher;
use crate::key::key_store::ExternalKeyId;
use crate::key::material::{BackingKey, KeySecret};
use crate::key::regions::Region;
use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::{Change, KeyDraft};
use crate::operation::Action;
use std::sync::Arc;

/// KMS keys of an account in any state (AWS KMS, "Resource quotas").
const KEYS_MAX: usize = 100_000;

wire::input! {
    struct Input<'a> {
        policy: Text<'a>,
        description: Text<'a>,
        key_usage: Text<'a>,
        customer_master_key_spec: Text<'a>,
        key_spec: Text<'a>,
        origin: Text<'a>,
        custom_key_store_id: Text<'a>,
        bypass_policy_lockout_safety_check: Option<bool>,
        tags: Option<Vec<TagInput<'a>>>,
        multi_region: Option<bool>,
        xks_key_id: Text<'a>,
    }
}

const KEY_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SYMMETRIC_DEFAULT, \
     HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87, ECC_NIST_EDWARDS25519, \
     ML_KEM_512, ML_KEM_768, ML_KEM_1024";
/// The deprecated member has had no new value since SM2.
const CUSTOMER_MASTER_KEY_SPECS: &str = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, \
     SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2";
const KEY_USAGES: &str =
    "ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC, KEY_AGREEMENT, ENCAPSULATE_DECAPSULATE";
const ORIGINS: &str = "AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE";

/// `CreateKey`
pub(in crate::api) async fn create(api: Arc<Api>, requester: Requester, body: Vec<u8>) -> Answer {
    let input: Input<'_> = wire::decode(&body)?;
    let mut violations = Violations::default();
    key_policies::check_text(input.policy.as_deref(), &mut violations);
    check_description(input.description.as_deref(), &mut violations);
    let members = [
        ("keyUsage", &input.key_usage, KEY_USAGES),
        (
            "customerMasterKeySpec",
            &input.customer_master_key_spec,
            CUSTOMER_MASTER_KEY_SPECS,
        ),
        ("keySpec", &input.key_spec, KEY_SPECS),
        ("origin", &input.origin, ORIGINS),
    ];
    for (member, value, set) in members {
        violations.one_of(member, value.as_deref(), set);
    }
    let given = input.tags.as_deref().unwrap_or_default();
    tags::check(given, &mut violations);
    let named = check_place(&input, &mut violations);
    let (given, named) = violations.check((given, named))?;
    let description = input.description.as_deref().unwrap_or_default().to_owned();
    let request_tags = RequestTags::new(given.iter().map(TagInput::pair));
    let bypass = input.bypass_policy_lockout_safety_check;
    let kind = asked_kind(&input, api.keystore.regions().home());
    let members = Members::NewKey(kind, bypass, &request_tags);
    // Admitted before material is drawn, which may take long, and again by the writer, on the store
    // as it is then.
    if named.store.is_some() {
        api.keystore.refresh().await?;
    }
    let ((spec, usage, origin), place) = api.read(&requester, |attempt| {
        attempt.admit_alone(Action::CreateKey, members, || {
            let (spec, usage, origin) = check_supported(&input, kind)?;
            let place = named.place(spec, origin, attempt)?;
            Ok(((spec, usage, origin), place))
        })
    })?;
    if let Some(place) = &place {
        place.check(&api, &requester).await?;
    }
    let id = draw_id(&api, input.multi_region == Some(true))?;
    let new = KmsKey {
        spec,
        usage,
        origin,
        region: requester.region,
        primary: id.is_multi_region().then_some(requester.region),
        key_store: place.map(Place::in_key_store),
        ..KmsKey::new(id, requester.principal.account, api.clock.now())
    };
    let drawn = draw_key(&api, new).await?;
    api.change(&requester, None, |attempt| {
        let policy = attempt.admit_alone(Action::CreateKey, members, || {
            // The key store may have been disconnected, and the external key be taken, meanwhile.
            named.place(spec, origin, attempt)?;
            let policy = input.policy.as_deref().map(key_policies::parse);
            policy.transpose()
        })?;
        let arn = attempt.region.key_arn(drawn.key.account, drawn.key.id);
        if !given.is_empty() {
            // Identity policies alone decide on it, as on the whole call.
            let tagging = attempt.caller(Action::TagResource).with(members);
            tagging.authorize(&arn)?;
        }
        let key = KeyDraft {
            key: KmsKey {
                description: description.clone(),
                tags: tags::tagged(&[], given)?,
                ..drawn.key.clone()
            },
            ..drawn.clone()
        };
        check_room(attempt)?;
        let mut object = Object::new();
        let described = Described {
            arn: &arn,
            state: key.key.state_name(),
            current: key.materials.last().map(|material| material.id()),
            members: &[(key.key.region, &arn)],
            regions: api.keystore.regions(),
        };
        object.object("KeyMetadata", metadata(&key.key, &described));
        let reply = object.end().naming(arn.clone());
        if let Some(policy) = &policy {
            key_policies::check(policy, &key.key, &arn, &[], bypass, attempt)?;
        }
        let id = key.key.regional_id();
        let mut changes = vec![Change::PutKey(key)];
        if let Some(policy) = policy {
            changes.push(Change::PutKeyPolicy(id, Arc::new(policy)));
        }
        Ok((changes, reply))
    })
    .await
}

/// Refuses another key of the caller's account where it has as many as it may have.
pub(super) fn check_room(attempt: &Attempt<'_>) -> Result<(), ApiError> {
    let (account, region) = (attempt.principal.account, attempt.region.number);
    let own = attempt.snapshot.listed_keys(region, account);
    if own.map_or(0, |keys| keys.len()) < KEYS_MAX {
        return Ok(());
    }
    let message = format!("An account has at most {KEYS_MAX} KMS keys.");
    Err(ApiError::new(ErrorCode::LimitExceededException, message))
}

/// What kind of key is asked for, as far as it is known in this Region.
fn asked_kind(input: &Input<'_>, region: &Region) -> KeyKind {
    let spec = input
        .key_spec
        .as_deref()
        .or(input.customer_master_key_spec.as_deref())
        .map_or(Some(KeySpec::Symmetric), |spec| spec.parse().ok())
        .filter(|spec| spec.is_offered_in(region));
    let usage = match input.key_usage.as_deref() {
        Some(usage) => usage.parse().ok(),
        None => (spec == Some(KeySpec::Symmetric)).then_some(KeyUsage::EncryptDecrypt),
    };
    let origin = input
        .origin
        .as_deref()
        .map_or(Some(KeyOrigin::AwsKms), |origin| origin.parse().ok());
    KeyKind {
        spec,
        usage,
        origin,
        multi_region: (input.multi_region == Some(true)).then_some("PRIMARY"),
    }
}

/// A kind that is built. The rest of the model is a typed refusal, never ignored.
fn check_supported(
    input: &Input<'_>,
    kind: KeyKind,
) -> Result<(KeySpec, KeyUsage, KeyOrigin), ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::ValidationException, message);
    if input.key_spec.is_some() && input.customer_master_key_spec.is_some() {
        return Err(invalid(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."
                .to_owned(),
        ));
    }
    let spec = input
        .key_spec
        .as_deref()
        .or(input.customer_master_key_spec.as_deref())
        .unwrap_or("SYMMETRIC_DEFAULT");
    let Some(usage) = input
        .key_usage
        .as_deref()
        .or(kind.usage.map(KeyUsage::name))
    else {
        return Err(invalid(
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.".to_owned(),
        ));
    };
    let (built, usage) = match (kind.spec, kind.usage) {
        (Some(built), Some(known)) if built.fits(known) => (built, known),
        // Not in this Region.
        (None, Some(known)) if spec.parse().is_ok_and(|spec: KeySpec| spec.fits(known)) => {
            return Err(unsupported(&format!("KeySpec {spec}")));
        }
        _ => {
            return Err(invalid(format!(
                "KeyUsage {usage} is not compatible with KeySpec {spec}"
            )));
        }
    };
    if kind.origin == Some(KeyOrigin::External) && !built.is_importable() {
        return Err(invalid(format!(
            "KeySpec {spec} is not supported for Origin EXTERNAL"
        )));
    }
    // One that this service refuses by name.
    let origin = kind.origin.ok_or_else(|| unsupported("Origin"))?;
    Ok((built, usage, origin))
}

/// `XksKeyId`
const EXTERNAL_KEY_ID: Pattern = Pattern {
    text: "^[a-zA-Z0-9-_.]+$",
    matches: ExternalKeyId::has_characters,
};

/// Checks the members that name a place in a key store.
fn check_place<'a>(input: &'a Input<'_>, violations: &mut Violations) -> Named<'a> {
    let store = input.custom_key_store_id.as_deref();
    if let Some(id) = store {
        let max = key_stores::ID_CHARACTERS_MAX;
        violations.text("customKeyStoreId", id, 1, max, None);
    }
    let external_key = input.xks_key_id.as_deref();
    if let Some(id) = external_key {
        let max = ExternalKeyId::CHARACTERS_MAX;
        violations.text("xksKeyId", id, 1, max, Some(&EXTERNAL_KEY_ID));
    }
    Named {
        store,
        external_key,
        multi_region: input.multi_region == Some(true),
    }
}

/// A new key's id.
fn draw_id(api: &Api, multi_region: bool) -> Result<KeyId, ApiError> {
    let mut bytes = [0; 16];
    api.entropy.draw(&mut bytes)?;
    Ok(if multi_region {
        KeyId::from_parts(bytes, true)
    } else {
        KeyId::from_random(bytes)
    })
}

/// The new key with material, or without if it is to be imported.
async fn draw_key(api: &Api, key: KmsKey) -> Result<KeyDraft, ApiError> {
    let mut draft = KeyDraft {
        key,
        materials: Vec::new(),
        secret: None,
    };
    let (id, spec, now) = (draft.key.id, draft.key.spec, draft.key.creation_date);
    match (draft.key.origin, spec) {
        (KeyOrigin::External, _) => draft.key.state = KeyState::PendingImport,
        (KeyOrigin::ExternalKeyStore, _) => {
            let inner = BackingKey::draw(BlockCipher::Aes256, id, 1, now, &api.entropy)?;
            draft.secret = Some(Arc::new(KeySecret::Inner(inner)));
        }
        (KeyOrigin::AwsKms, KeySpec::Symmetric) => {
            let material = BackingKey::draw(
                api.keystore.regions().home().cipher(),
                id,
                1,
                now,
                &api.entropy,
            )?;
            draft.materials.push(Arc::new(material));
        }
        (KeyOrigin::AwsKms, spec) => {
            let entropy = Arc::clone(&api.entropy);
            let drawn = api.in_turn(move || KeySecret::draw(spec, &entropy));
            let secret = drawn.await?;
            draft.secret = Some(Arc::new(secret.map_err(ApiError::internal)?));
        }
    }
    Ok(draft)
}
