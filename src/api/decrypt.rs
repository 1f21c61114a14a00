//! `Decrypt`: a blob and its context to the bytes that it wraps, for a caller with other rights than whoever asked for it.
//!
//! Whatever fails to open under a known key is one error without a message. A blob that names an unknown, foreign or forbidden key gets one
//! refusal, whichever of the three it is; only an authorized caller learns a key's state.

use crate::api::encrypt::{SYMMETRIC_DEFAULT, check_algorithm, fits};
use crate::api::resolve::{Caller, OnKey};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{Api, ApiError, KmsErrorCode, Reply, dry_run, grant_tokens, state, unsupported};
use crate::envelope::{self, CiphertextBlob};
use crate::keystore::Snapshot;
use crate::limit::Paid;
use crate::policy::{Authorized, Principal};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a `CiphertextBlob` (AWS KMS API reference).
const BLOB_BYTES_MAX: usize = 6144;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    ciphertext_blob: Option<Blob>,
    encryption_context: Option<ContextMember>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    encryption_algorithm: Text<'a>,
    recipient: Option<IgnoredAny>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    dry_run_modifiers: Option<Vec<Cow<'a, str>>>,
}

/// `Decrypt`
pub(super) fn decrypt(
    api: &Api,
    principal: &Arc<Principal>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let input: Input<'_> = wire::decode(body)?;
    let blob = input.ciphertext_blob.as_ref().map(Blob::bytes);
    check(&input, blob)?;
    if input.recipient.is_some() {
        return Err(unsupported("Recipient"));
    }
    if input
        .dry_run_modifiers
        .is_some_and(|modifiers| !modifiers.is_empty())
    {
        return Err(unsupported("DryRunModifiers"));
    }
    let context = wire::context(input.encryption_context)?;
    let (key_id, algorithm) = (
        input.key_id.as_deref(),
        input.encryption_algorithm.as_deref(),
    );
    if key_id.is_none() && algorithm.is_some_and(|algorithm| algorithm != SYMMETRIC_DEFAULT) {
        let message = "KeyId is required with an asymmetric EncryptionAlgorithm.";
        return Err(ApiError::new(KmsErrorCode::ValidationException, message));
    }
    let mut paid = Paid::default();
    api.under_last_check(principal, |under| {
        let caller = under.caller("kms:Decrypt").under(&context);
        let named = key_id
            .map(|key_id| caller.key(key_id, under.snapshot))
            .transpose()?;
        grant_tokens(input.grant_tokens.as_deref())?;
        let blob = CiphertextBlob::parse(blob.unwrap_or_default()).map_err(|_| does_not_open())?;
        let request = match named {
            Some(request) if request.request().entry().key.id == blob.header().key_id => request,
            Some(_) => return Err(incorrect_key()),
            None => key_of(caller, under.snapshot, &blob)?,
        };
        let entry = request.request().entry();
        state(entry)?;
        fits(algorithm)?;
        api.charge(under, Some(entry.key.id), &mut paid)?;
        let material = entry
            .generation(blob.header().generation)
            .ok_or_else(does_not_open)?;
        let plaintext =
            envelope::open(entry.key.id, material, &context, &blob).map_err(|_| does_not_open())?;
        dry_run(input.dry_run)?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        object.base64("Plaintext", plaintext.expose());
        object.plain("EncryptionAlgorithm", SYMMETRIC_DEFAULT);
        object.shown("KeyMaterialId", material.id());
        Ok((object.end(), ()))
    })
    .map(|(reply, ())| reply)
}

fn check(input: &Input<'_>, blob: Option<&[u8]>) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    match blob {
        None => violations.null("ciphertextBlob"),
        Some(blob) => violations.blob("ciphertextBlob", blob.len(), BLOB_BYTES_MAX),
    }
    violations.grant_tokens(input.grant_tokens.as_deref());
    if let Some(key_id) = input.key_id.as_deref() {
        violations.text("keyId", key_id, 1, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    }
    check_algorithm(input.encryption_algorithm.as_deref(), &mut violations);
    for (number, modifier) in input.dry_run_modifiers.iter().flatten().enumerate() {
        let member = format!("dryRunModifiers.{}.member", number + 1);
        violations.one_of(&member, modifier, "IGNORE_CIPHERTEXT");
    }
    violations.check()
}

/// The key that the blob names, if it is the caller's account's and he may use it.
fn key_of<'a>(
    caller: Caller<'a>,
    snapshot: &Snapshot,
    blob: &CiphertextBlob<'_>,
) -> Result<Authorized<OnKey<'a>>, ApiError> {
    let refused = || {
        let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
             allowed to access.";
        ApiError::new(KmsErrorCode::AccessDeniedException, message)
    };
    let entry = snapshot
        .key(caller.principal.account, blob.header().key_id)
        .ok_or_else(refused)?;
    caller.authorize_key(entry, snapshot).map_err(|_| refused())
}

fn does_not_open() -> ApiError {
    ApiError::bare(KmsErrorCode::InvalidCiphertextException)
}

fn incorrect_key() -> ApiError {
    ApiError::new(
        KmsErrorCode::IncorrectKeyException,
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
}
