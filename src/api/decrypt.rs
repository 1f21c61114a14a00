//! `Decrypt`: a blob and its context to the bytes that it wraps, for a caller with other rights
//! than whoever asked for it.
//!
//! Whatever fails to open under a known key is one error without a message. A blob that names an
//! unknown, foreign or forbidden key gets one refusal, whichever of the three it is; only an
//! authorized caller learns a key's state. The key may be another account's, since the blob says
//! which it is; a bare key id then says no more than the blob, and is compared with it.

use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT, check_algorithm, oaep_hash};
use crate::api::handler::{Thread, Weighed};
use crate::api::members::Members;
use crate::api::resolve::{Caller, OnKey};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{
    Api, ApiError, KmsErrorCode, Requester, dry_run, unsupported, would_have_succeeded,
};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::crypto::oaep;
use crate::envelope::{self, CiphertextBlob};
use crate::key::KeyId;
use crate::key::data_key::PlaintextDataKey;
use crate::key::material::BackingKey;
use crate::keystore::{KeyEntry, Snapshot};
use crate::operation::Action;
use crate::policy::{Authorized, ConditionKey};
use crate::rates::Paid;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a `CiphertextBlob` (AWS KMS API reference).
pub(crate) const BLOB_BYTES_MAX: usize = 6144;
/// The one modifier of a dry run.
const IGNORE_CIPHERTEXT: &str = "IGNORE_CIPHERTEXT";

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
pub(super) fn decrypt(api: &Api, requester: &Requester, body: &[u8], thread: Thread) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let ignored = ignores_ciphertext(input.dry_run, input.dry_run_modifiers.as_deref());
    let blob = input.ciphertext_blob.as_ref().map(Blob::bytes);
    let blob = blob.filter(|_| !ignored);
    check(&input, blob, ignored)?;
    if input.recipient.is_some() {
        return Err(unsupported("Recipient"));
    }
    let context = wire::context(input.encryption_context)?;
    let (key_id, algorithm) = (
        input.key_id.as_deref(),
        input.encryption_algorithm.as_deref(),
    );
    if key_id.is_none() && ignored {
        return Err(key_must_be_named("KeyId"));
    }
    if key_id.is_none() && algorithm.is_some_and(|algorithm| algorithm != SYMMETRIC_DEFAULT) {
        let message = "KeyId is required with an asymmetric EncryptionAlgorithm.";
        return Err(ApiError::new(KmsErrorCode::ValidationException, message));
    }
    if thread == Thread::Async && oaep_hash(algorithm).is_some() {
        return Ok(None);
    }
    let named = [(
        ConditionKey::EncryptionAlgorithm,
        algorithm.unwrap_or(SYMMETRIC_DEFAULT),
    )];
    let mut paid = Paid::default();
    let reply = api.under_last_check(requester, |under| {
        let caller = under.caller(Action::Decrypt).under(&context);
        let caller = caller.with(Members::Texts(&named));
        let asked = (key_id, algorithm, blob);
        let (request, sealed) = source(caller, asked, under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        let cipher = Cipher::of(entry, algorithm, &context, "Decrypt")?;
        api.charge(under, Some(entry.key.id), &mut paid)?;
        let (material, plaintext) = open(entry, &cipher, &context, &sealed, &api.entropy)?;
        dry_run(input.dry_run)?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        object.base64("Plaintext", plaintext.expose());
        object.plain("EncryptionAlgorithm", cipher.algorithm());
        if let Some(material) = material {
            object.material_id("KeyMaterialId", material.id());
        }
        Ok(object.end().about(entry).with(material))
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
    violations.grant_tokens(input.grant_tokens.as_deref());
    if let Some(key_id) = input.key_id.as_deref() {
        violations.text("keyId", key_id, 1, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    }
    let algorithm = input.encryption_algorithm.as_deref();
    check_algorithm("encryptionAlgorithm", algorithm, &mut violations);
    check_modifiers(input.dry_run_modifiers.as_deref(), &mut violations);
    violations.check()
}

/// Checks `DryRunModifiers`; of those beyond the first few nothing is told.
pub(crate) fn check_modifiers(modifiers: Option<&[Cow<'_, str>]>, violations: &mut Violations) {
    const LOOKED_AT: usize = 10;
    let modifiers = modifiers.unwrap_or_default().iter().take(LOOKED_AT);
    for (number, modifier) in modifiers.enumerate() {
        let member = format!("dryRunModifiers.{}.member", number + 1);
        violations.one_of(&member, modifier, IGNORE_CIPHERTEXT);
    }
}

/// Whether only the caller's rights and the key are to be looked at, and no ciphertext. Modifiers
/// are of a dry run alone.
pub(crate) fn ignores_ciphertext(
    dry_run: Option<bool>,
    modifiers: Option<&[Cow<'_, str>]>,
) -> bool {
    let mut modifiers = modifiers.unwrap_or_default().iter();
    dry_run == Some(true) && modifiers.any(|modifier| modifier == IGNORE_CIPHERTEXT)
}

/// The refusal of a request that brings neither a ciphertext nor the key that it would be of.
pub(crate) fn key_must_be_named(member: &str) -> ApiError {
    let message = format!("{member} is required with the DryRunModifier IGNORE_CIPHERTEXT.");
    ApiError::new(KmsErrorCode::ValidationException, message)
}

/// What is to be opened.
pub(crate) enum Sealed<'b> {
    /// By the envelope.
    Blob(CiphertextBlob<'b>),
    /// By RSA: it does not say under which key.
    Rsa(&'b [u8]),
    /// Whatever it would be: this is a dry run of who may open it.
    Ignored,
}

/// What is to be opened, and the key that it or the request names, if the caller may use it.
pub(crate) fn source<'a, 'b>(
    caller: Caller<'a>,
    (key_id, algorithm, bytes): (Option<&str>, Option<&str>, Option<&'b [u8]>),
    snapshot: &'a Snapshot,
) -> Result<(Authorized<OnKey<'a>>, Sealed<'b>), ApiError> {
    let Some(bytes) = bytes else {
        let key_id = key_id.unwrap_or_default();
        return Ok((caller.key(key_id, snapshot)?, Sealed::Ignored));
    };
    if let (Some(key_id), Some(_)) = (key_id, oaep_hash(algorithm)) {
        return Ok((caller.key(key_id, snapshot)?, Sealed::Rsa(bytes)));
    }
    let blob = CiphertextBlob::parse(bytes);
    let named = match (key_id, &blob) {
        (None, _) => None,
        (Some(key_id), Ok(blob)) => foreign_key(caller, key_id, snapshot, blob)
            .unwrap_or_else(|| caller.key(key_id, snapshot))
            .map(Some)?,
        (Some(key_id), Err(_)) => Some(caller.key(key_id, snapshot)?),
    };
    let blob = blob.map_err(|_| does_not_open())?;
    let request = match named {
        Some(request) if request.request().entry().key.id == blob.header().key_id => request,
        Some(_) => return Err(incorrect_key()),
        None => key_of(caller, snapshot, &blob)?,
    };
    Ok((request, Sealed::Blob(blob)))
}

/// What is sealed, and the generation of the key's material that it is under, where there are any.
pub(crate) fn open<'a>(
    entry: &'a KeyEntry,
    cipher: &Cipher<'_>,
    context: &EncryptionContext,
    sealed: &Sealed<'_>,
    entropy: &Entropy,
) -> Result<(Option<&'a Arc<BackingKey>>, PlaintextDataKey), ApiError> {
    match (cipher, sealed) {
        (_, Sealed::Ignored) => Err(would_have_succeeded()),
        (Cipher::Symmetric(_), Sealed::Blob(blob)) => {
            let material = entry.generation(blob.header().generation);
            let material = material.ok_or_else(does_not_open)?;
            let plaintext = envelope::open(entry.key.id, material, context, blob);
            let plaintext = plaintext.map_err(|_| does_not_open())?;
            Ok((Some(material), plaintext))
        }
        (Cipher::Rsa(pair, hash), Sealed::Rsa(bytes)) => {
            let plaintext = oaep::decrypt(pair, *hash, bytes, entropy.probe()?);
            let plaintext = plaintext.map_err(|_| does_not_open())?;
            Ok((None, PlaintextDataKey(plaintext)))
        }
        _ => Err(does_not_open()),
    }
}

/// The key of another account that a bare `key_id` and the blob name alike, if the caller may use
/// it. If not, nothing tells it from one that does not exist.
fn foreign_key<'a>(
    caller: Caller<'a>,
    key_id: &str,
    snapshot: &'a Snapshot,
    blob: &CiphertextBlob<'_>,
) -> Option<Result<Authorized<OnKey<'a>>, ApiError>> {
    let id: KeyId = key_id.parse().ok()?;
    let entry = snapshot
        .keys
        .get(&id)
        .filter(|_| id == blob.header().key_id)?;
    let foreign = entry.key.account != caller.principal.account;
    match caller.authorize_key(Some(entry).filter(|_| foreign)?, snapshot) {
        Err(error) if error.is_undecided() => {
            let missing = caller.key(key_id, snapshot);
            Some(missing.map_err(|error| error.undecided(true)))
        }
        decided => decided.ok().map(Ok),
    }
}

/// The key that the blob names, if the caller may use it.
fn key_of<'a>(
    caller: Caller<'a>,
    snapshot: &'a Snapshot,
    blob: &CiphertextBlob<'_>,
) -> Result<Authorized<OnKey<'a>>, ApiError> {
    let refused = || {
        let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
             allowed to access.";
        ApiError::new(KmsErrorCode::AccessDeniedException, message)
    };
    let entry = snapshot.keys.get(&blob.header().key_id);
    let entry = entry.ok_or_else(refused)?;
    let allowed = caller.authorize_key(entry, snapshot);
    allowed.map_err(|error| refused().undecided(error.is_undecided()))
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
