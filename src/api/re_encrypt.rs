//! `ReEncrypt`: a blob from one key and context to others, without its plaintext leaving.
//!
//! It is two requests in one: `kms:ReEncryptFrom` on the blob's key with the source context, and
//! `kms:ReEncryptTo` on the destination with its own context, which is empty unless it is given.
//! Each has its own account, policies and grants. Nobody needs `kms:Decrypt` or `kms:Encrypt` for
//! it.

use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT, check_algorithm, oaep_hash};
use crate::api::decrypt::{self, BLOB_BYTES_MAX};
use crate::api::handler::{Thread, Weighed};
use crate::api::members::Members;
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{Api, ApiError, KmsErrorCode, Requester, dry_run};
use crate::envelope::CiphertextBlob;
use crate::operation::Action;
use crate::rates::Paid;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    ciphertext_blob: Option<Blob>,
    source_encryption_context: Option<ContextMember>,
    #[serde(borrow)]
    source_key_id: Text<'a>,
    #[serde(borrow)]
    destination_key_id: Text<'a>,
    destination_encryption_context: Option<ContextMember>,
    #[serde(borrow)]
    source_encryption_algorithm: Text<'a>,
    #[serde(borrow)]
    destination_encryption_algorithm: Text<'a>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    dry_run_modifiers: Option<Vec<Cow<'a, str>>>,
}

/// `ReEncrypt`
pub(super) fn re_encrypt(api: &Api, requester: &Requester, body: &[u8], thread: Thread) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let ignored = decrypt::ignores_ciphertext(input.dry_run, input.dry_run_modifiers.as_deref());
    let bytes = input.ciphertext_blob.as_ref().map(Blob::bytes);
    let bytes = bytes.filter(|_| !ignored);
    check(&input, bytes, ignored)?;
    let source_context = wire::context(input.source_encryption_context)?;
    let destination_context = wire::context(input.destination_encryption_context)?;
    let source_key_id = input.source_key_id.as_deref();
    let algorithms = [
        input.source_encryption_algorithm.as_deref(),
        input.destination_encryption_algorithm.as_deref(),
    ];
    if source_key_id.is_none() && ignored {
        return Err(decrypt::key_must_be_named("SourceKeyId"));
    }
    let asymmetric = algorithms[0].is_some_and(|algorithm| algorithm != SYMMETRIC_DEFAULT);
    if source_key_id.is_none() && asymmetric {
        let message = "SourceKeyId is required with an asymmetric SourceEncryptionAlgorithm.";
        return Err(ApiError::new(KmsErrorCode::ValidationException, message));
    }
    if thread == Thread::Async && oaep_hash(algorithms[0]).is_some() {
        return Ok(None);
    }
    let blob = bytes.and_then(|bytes| CiphertextBlob::parse(bytes).ok());
    let blob_key = blob.map(|blob| blob.header().key_id);
    let destination_key_id = input.destination_key_id.as_deref().unwrap_or_default();
    let mut paid = Paid::default();
    let reply = api.under_last_check(requester, |under| {
        let snapshot = under.snapshot;
        let from = under.caller(Action::ReEncryptFrom).under(&source_context);
        let to = under
            .caller(Action::ReEncryptTo)
            .under(&destination_context);
        let named = to.key_named(destination_key_id, snapshot);
        let unnamed = ignored || oaep_hash(algorithms[0]).is_some();
        let same = match source_key_id.filter(|_| unnamed) {
            Some(source) => named.is_some() && from.key_named(source, snapshot) == named,
            _ => blob_key.is_some() && named == blob_key,
        };
        let [old, new] = algorithms.map(|algorithm| algorithm.unwrap_or(SYMMETRIC_DEFAULT));
        let from = from.with(Members::SameKey(same, old));
        let to = to.with(Members::SameKey(same, new));
        let asked = (source_key_id, algorithms[0], bytes);
        let (source, sealed) = decrypt::source(from, asked, snapshot)?;
        let destination = to.key(destination_key_id, snapshot)?;
        let source = source.request().entry();
        let destination = destination.request().entry();
        let tokens = input.grant_tokens.as_deref();
        api.check_grant_tokens(under, &[source, destination], tokens)?;
        let opening = Cipher::of(source, algorithms[0], &source_context, "ReEncrypt")?;
        let sealing = Cipher::of(
            destination,
            algorithms[1],
            &destination_context,
            "ReEncrypt",
        )?;
        // One of the caller's, and one of each key's.
        for entry in [source, destination] {
            api.charge(under, Some(entry.key.id), &mut paid)?;
        }
        let (old, plaintext) =
            decrypt::open(source, &opening, &source_context, &sealed, &api.entropy)?;
        let plaintext = plaintext.expose();
        sealing.check_length(plaintext.len())?;
        dry_run(input.dry_run)?;
        let blob = sealing.encrypt(destination, &destination_context, plaintext, &api.entropy)?;
        let mut object = Object::new();
        object.base64("CiphertextBlob", &blob);
        object.plain("SourceKeyId", &source.arn);
        object.plain("KeyId", &destination.arn);
        object.plain("SourceEncryptionAlgorithm", opening.algorithm());
        object.plain("DestinationEncryptionAlgorithm", sealing.algorithm());
        if let Some(old) = old {
            object.material_id("SourceKeyMaterialId", old.id());
        }
        let new = sealing.material();
        if let Some(new) = new {
            object.material_id("DestinationKeyMaterialId", new.id());
        }
        let reply = object.end().about(source).with(new);
        Ok(if same {
            reply
        } else {
            reply.moved_to(destination)
        })
    });
    reply.map(Some)
}

fn check(input: &Input<'_>, blob: Option<&[u8]>, ignored: bool) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    match blob {
        None if ignored => {}
        None => violations.null("ciphertextBlob"),
        Some(blob) => violations.blob("ciphertextBlob", blob.len(), BLOB_BYTES_MAX),
    }
    let max = KEY_ID_CHARACTERS_MAX;
    if let Some(key_id) = input.source_key_id.as_deref() {
        violations.text("sourceKeyId", key_id, 1, max, Some(&ASCII));
    }
    let key_id = input.destination_key_id.as_deref();
    violations.required_text("destinationKeyId", key_id, max, Some(&ASCII));
    for (member, algorithm) in [
        (
            "sourceEncryptionAlgorithm",
            &input.source_encryption_algorithm,
        ),
        (
            "destinationEncryptionAlgorithm",
            &input.destination_encryption_algorithm,
        ),
    ] {
        check_algorithm(member, algorithm.as_deref(), &mut violations);
    }
    violations.grant_tokens(input.grant_tokens.as_deref());
    decrypt::check_modifiers(input.dry_run_modifiers.as_deref(), &mut violations);
    violations.check()
}
