//! `GetPublicKey`, and `DeriveSharedSecret` with somebody else's.

use crate::api::keys::algorithms;
use crate::api::members::Members;
use crate::api::usability::{incompatible, invalid_state, state, usage};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, KmsErrorCode, Requester, dry_run, unsupported};
use crate::crypto::agreement;
use crate::key::spec::KeyUsage;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;

/// Bytes of a public key (AWS KMS API reference).
const PUBLIC_KEY_BYTES_MAX: usize = 8192;
const ECDH: &str = "ECDH";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
}

/// `GetPublicKey`: of a disabled key too.
pub(super) fn get(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: GetInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    violations.grant_tokens(input.grant_tokens.as_deref());
    violations.check()?;
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        let caller = under.caller(Action::GetPublicKey);
        let request = caller.key(key_id.unwrap_or_default(), under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        let key = &entry.key;
        let material = key.state.has_material();
        material.map_err(|state| invalid_state(entry, state))?;
        let pair = entry.secret.as_deref().and_then(|secret| secret.pair());
        let pair = pair.ok_or_else(|| {
            let message = format!(
                "{} key spec is {} which is not valid for GetPublicKey.",
                entry.arn, key.spec
            );
            ApiError::new(KmsErrorCode::UnsupportedOperationException, message)
        })?;
        api.charge(under, Some(key.id), &mut paid)?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        object.base64("PublicKey", pair.public_der());
        object.plain("CustomerMasterKeySpec", key.spec.name());
        object.plain("KeySpec", key.spec.name());
        object.plain("KeyUsage", key.usage.name());
        algorithms(&mut object, key);
        Ok(object.end().about(entry))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeriveInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    key_agreement_algorithm: Text<'a>,
    public_key: Option<Blob>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    dry_run: Option<bool>,
    recipient: Option<IgnoredAny>,
}

/// `DeriveSharedSecret`
pub(super) fn derive_shared_secret(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: DeriveInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    match input.key_agreement_algorithm.as_deref() {
        None => violations.null("keyAgreementAlgorithm"),
        Some(algorithm) => violations.one_of("keyAgreementAlgorithm", algorithm, ECDH),
    }
    let public = input.public_key.as_ref().map(Blob::bytes);
    match public {
        None => violations.null("publicKey"),
        Some(public) => violations.blob("publicKey", public.len(), PUBLIC_KEY_BYTES_MAX),
    }
    violations.grant_tokens(input.grant_tokens.as_deref());
    violations.check()?;
    if input.recipient.is_some() {
        return Err(unsupported("Recipient"));
    }
    let named = [(ConditionKey::KeyAgreementAlgorithm, ECDH)];
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        let caller = under.caller(Action::DeriveSharedSecret);
        let caller = caller.with(Members::Texts(&named));
        let request = caller.key(key_id.unwrap_or_default(), under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        usage(entry, KeyUsage::KeyAgreement, caller.action.bare_name())?;
        state(entry)?;
        let pair = entry.secret.as_deref().and_then(|secret| secret.pair());
        let pair = pair.ok_or_else(|| incompatible(entry, ECDH))?;
        api.charge(under, Some(entry.key.id), &mut paid)?;
        let secret = agreement::agree(pair, public.unwrap_or_default());
        let secret = secret.map_err(|_| {
            let message = format!("PublicKey is not one of key spec {}.", entry.key.spec);
            ApiError::new(KmsErrorCode::ValidationException, message)
        })?;
        dry_run(input.dry_run)?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        object.base64("SharedSecret", secret.expose());
        object.plain("KeyAgreementAlgorithm", ECDH);
        object.plain("KeyOrigin", entry.key.origin.name());
        Ok(object.end().about(entry))
    })
}
