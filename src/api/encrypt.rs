//! `Encrypt` and `GenerateRandom`: the caller's own bytes under a key, and bytes for the caller.

use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT, check_algorithm};
use crate::api::members::Members;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{Api, ApiError, KmsErrorCode, Reply, Requester, dry_run, unsupported};
use crate::envelope::blob::PLAINTEXT_BYTES_MAX;
use crate::key::data_key::DataKeyLength;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptInput<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    plaintext: Option<Blob>,
    encryption_context: Option<ContextMember>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    encryption_algorithm: Text<'a>,
    dry_run: Option<bool>,
}

/// `Encrypt`
pub(super) fn encrypt(api: &Api, requester: &Requester, body: &[u8]) -> Result<Reply, ApiError> {
    let input: EncryptInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    let plaintext = input.plaintext.as_ref().map(Blob::bytes);
    match plaintext {
        None => violations.unnamed("plaintext", "Member must not be null"),
        Some(plaintext) => violations.blob("plaintext", plaintext.len(), PLAINTEXT_BYTES_MAX),
    }
    violations.grant_tokens(input.grant_tokens.as_deref());
    let algorithm = input.encryption_algorithm.as_deref();
    check_algorithm("encryptionAlgorithm", algorithm, &mut violations);
    violations.check()?;
    let context = wire::context(input.encryption_context)?;
    let named = [(
        ConditionKey::EncryptionAlgorithm,
        algorithm.unwrap_or(SYMMETRIC_DEFAULT),
    )];
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        let caller = under.caller(Action::Encrypt).under(&context);
        let caller = caller.with(Members::Texts(&named));
        let request = caller.key(key_id.unwrap_or_default(), under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        let cipher = Cipher::of(entry, algorithm, &context, "Encrypt")?;
        let plaintext = plaintext.unwrap_or_default();
        cipher.check_length(plaintext.len())?;
        api.charge(under, Some(entry.key.id), &mut paid)?;
        dry_run(input.dry_run)?;
        let blob = cipher.encrypt(entry, &context, plaintext, &api.entropy)?;
        let mut object = Object::new();
        object.base64("CiphertextBlob", &blob);
        object.plain("KeyId", &entry.arn);
        object.plain("EncryptionAlgorithm", cipher.algorithm());
        Ok(object.end().about(entry).with(cipher.material()))
    })
}

/// Characters of a `CustomKeyStoreId` (AWS KMS API reference).
const KEY_STORE_ID_CHARACTERS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RandomInput<'a> {
    number_of_bytes: Option<i64>,
    #[serde(borrow)]
    custom_key_store_id: Text<'a>,
    recipient: Option<IgnoredAny>,
}

/// `GenerateRandom`: secrets, drawn from the operating system by a call of their own (RNG-1).
pub(super) fn random(api: &Api, requester: &Requester, body: &[u8]) -> Result<Reply, ApiError> {
    let input: RandomInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    if let Some(number) = input.number_of_bytes {
        violations.number("numberOfBytes", number, 1, DataKeyLength::BYTES_MAX as i64);
    }
    if let Some(id) = input.custom_key_store_id.as_deref() {
        violations.text("customKeyStoreId", id, 1, KEY_STORE_ID_CHARACTERS_MAX, None);
    }
    violations.check()?;
    if input.recipient.is_some() {
        return Err(unsupported("Recipient"));
    }
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        under.caller(Action::GenerateRandom).authorize("*")?;
        let bytes = input
            .number_of_bytes
            .and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| {
            ApiError::new(
                KmsErrorCode::ValidationException,
                "NumberOfBytes is required.",
            )
        })?;
        if input.custom_key_store_id.is_some() {
            let code = KmsErrorCode::CustomKeyStoreNotFoundException;
            return Err(ApiError::bare(code));
        }
        api.charge(under, None, &mut paid)?;
        let drawn = api.entropy.draw_secret_bytes(bytes)?;
        let mut object = Object::new();
        object.base64("Plaintext", drawn.expose());
        Ok(object.end())
    })
}
