//! `Decrypt`: a blob and its context to the bytes that it wraps, for a caller with other rights
//! than the one that made the blob.
//!
//! Whatever fails to open under a known key is one error without a message; only an authorized
//! caller learns a key's state. Which key it is, [`blob_key`](crate::api::blob_key) finds.

use crate::api::admission::{Ask, would_have_succeeded};
use crate::api::attempt::Attempt;
use crate::api::blob_key::{KeyOfBlob, does_not_open};
use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT, check_algorithm, is_slow};
use crate::api::handler::{Thread, Weighed};
use crate::api::key_reference::KeyReference;
use crate::api::proxied::Proxied;
use crate::api::recipient::Recipient;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{Api, ApiError, ErrorCode, Requester};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::envelope::{self, AnyBlob};
use crate::key::data_key::PlaintextDataKey;
use crate::key::material::KeyMaterialId;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::policy::ConditionKey;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a `CiphertextBlob` (AWS KMS API reference).
pub(crate) const BLOB_BYTES_MAX: usize = 6144;
/// The one modifier of a dry run.
const IGNORE_CIPHERTEXT: &str = "IGNORE_CIPHERTEXT";

wire::input! {
    struct Input<'a> {
        ciphertext_blob: Option<Blob>,
        encryption_context: ContextMember,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        key_id: Text<'a>,
        encryption_algorithm: Text<'a>,
        recipient: Option<&'a RawValue>,
        dry_run: Option<bool>,
        dry_run_modifiers: Option<Vec<Cow<'a, str>>>,
    }
}

/// `Decrypt`
pub(super) fn decrypt(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    thread: Thread,
    proxied: &Proxied,
) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let recipient = Recipient::read(api, input.recipient)?;
    let mut violations = Violations::default();
    let modifiers = input.dry_run_modifiers.as_deref().unwrap_or_default();
    let is_ignored = ignores_ciphertext(input.dry_run, modifiers);
    let blob = (!is_ignored).then(|| {
        violations.blob(
            "ciphertextBlob",
            input.ciphertext_blob.as_ref(),
            BLOB_BYTES_MAX,
        )
    });
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let key = violations.optional_key_id("keyId", &input.key_id);
    let algorithm = check_algorithm(
        "encryptionAlgorithm",
        input.encryption_algorithm.as_deref(),
        &mut violations,
    );
    check_modifiers(modifiers, &mut violations);
    recipient.check(&mut violations);
    let checked = (key, blob, grant_tokens, algorithm);
    let (key, blob, grant_tokens, algorithm) = violations.check(checked)?;
    let context = input.encryption_context.sound()?;
    let algorithm = algorithm.unwrap_or(SYMMETRIC_DEFAULT);
    // Only an envelope names its key: other ciphertexts need a KeyId.
    if key.is_none() && is_ignored {
        return Err(key_must_be_named("KeyId"));
    }
    if key.is_none() && algorithm != SYMMETRIC_DEFAULT {
        let message = "KeyId must not be null";
        return Err(ApiError::new(ErrorCode::ValidationException, message));
    }
    // RSA takes milliseconds: the call is made again on a thread of its own.
    if thread == Thread::Async && is_slow(algorithm) {
        return Ok(None);
    }
    let Some(receiver) = recipient.receiver(api, requester, thread)? else {
        return Ok(None);
    };
    let sealed = Sealed::parse(blob, algorithm);
    let named = [(ConditionKey::EncryptionAlgorithm, algorithm)];
    let ask = sealed
        .ask(Action::Decrypt, key.as_ref())
        .context(context)
        .members(receiver.members(&named))
        .grant_tokens(grant_tokens)
        .dry_run(input.dry_run == Some(true));
    // Admission and opening are under one snapshot of the store.
    let paid = proxied.paid(receiver.paid());
    let reply = api.under_last_check_of(requester, paid, |attempt| {
        let admitted = attempt.admit(ask, |entry| Cipher::of(entry, algorithm, context))?;
        let (entry, cipher) = (admitted.entry(), &admitted.prepared);
        let (material, plaintext) = open_with(proxied, attempt, entry, cipher, context, &sealed)?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        receiver.put(api, &mut object, "Plaintext", plaintext.expose())?;
        object.plain("EncryptionAlgorithm", cipher.algorithm());
        // AWS leaves it out for a recipient.
        if let Some(material) = material.filter(|_| receiver.is_caller()) {
            object.material_id("KeyMaterialId", material);
        }
        admitted.answer(receiver.note(object.end().with_id(material)))
    });
    reply.map(Some)
}

/// Checks `DryRunModifiers`; those beyond the first ten are not checked.
pub(super) fn check_modifiers(modifiers: &[Cow<'_, str>], violations: &mut Violations) {
    const LOOKED_AT: usize = 10;
    for (number, modifier) in modifiers.iter().take(LOOKED_AT).enumerate() {
        let member = format!("dryRunModifiers.{}.member", number + 1);
        violations.one_of(&member, Some(modifier), IGNORE_CIPHERTEXT);
    }
}

/// Whether only the caller's rights and the key are to be looked at, and no ciphertext. Modifiers
/// are of a dry run alone.
pub(super) fn ignores_ciphertext(dry_run: Option<bool>, modifiers: &[Cow<'_, str>]) -> bool {
    let mut modifiers = modifiers.iter();
    dry_run == Some(true) && modifiers.any(|modifier| modifier == IGNORE_CIPHERTEXT)
}

/// The refusal of a request that brings neither a ciphertext nor the key that it would be of.
pub(super) fn key_must_be_named(member: &str) -> ApiError {
    let message = format!("{member} is required with the DryRunModifier IGNORE_CIPHERTEXT.");
    ApiError::new(ErrorCode::ValidationException, message)
}

/// The ciphertext to open.
pub(crate) enum Sealed<'b> {
    /// By the envelope; `None` for bytes that are not a blob of ours.
    Blob(Option<AnyBlob<'b>>),
    /// By a public key: it does not say of which pair.
    Pair(&'b [u8]),
    /// Whatever it would be: this is a dry run of who may open it.
    Ignored,
}

impl<'b> Sealed<'b> {
    /// The bytes of a request, if they are to be looked at.
    pub(super) fn parse(bytes: Option<&'b [u8]>, algorithm: &str) -> Self {
        match bytes {
            None => Self::Ignored,
            Some(bytes) if algorithm != SYMMETRIC_DEFAULT => Self::Pair(bytes),
            Some(bytes) => Self::Blob(AnyBlob::parse(bytes).ok()),
        }
    }

    /// This action on the key that the request or the blob names.
    pub(super) fn ask<'a>(
        &'a self,
        action: Action,
        named: Option<&'a KeyReference<'a>>,
    ) -> Ask<'a> {
        match (self, named) {
            (Self::Pair(_) | Self::Ignored, Some(key)) => Ask::on(action, key),
            _ => Ask::on_key_of(action, self.key(named)),
        }
    }

    fn key<'a>(&'a self, named: Option<&'a KeyReference<'a>>) -> KeyOfBlob<'a> {
        let blob = match self {
            Self::Blob(blob) => blob.as_ref(),
            Self::Pair(_) | Self::Ignored => None,
        };
        KeyOfBlob { blob, named }
    }
}

/// Opens a ciphertext: by the answer of the proxy if its key is in an external key store, otherwise
/// as [`open`] does.
pub(super) fn open_with(
    proxied: &Proxied,
    attempt: &Attempt<'_>,
    entry: &Arc<KeyEntry>,
    cipher: &Cipher<'_>,
    context: &EncryptionContext,
    sealed: &Sealed<'_>,
) -> Result<(Option<KeyMaterialId>, PlaintextDataKey), ApiError> {
    match (cipher, sealed) {
        (Cipher::External(inner), Sealed::Blob(Some(AnyBlob::External(blob))))
            if blob.header().generation == inner.generation() =>
        {
            let plaintext = proxied.open(attempt, entry, context, blob)?;
            Ok((Some(inner.id()), plaintext))
        }
        _ => open(entry, cipher, context, sealed, &attempt.api.entropy),
    }
}

/// Opens a ciphertext by what is here. Returns the plaintext, and the id of the material that it is
/// under; a key pair has none.
pub(crate) fn open(
    entry: &KeyEntry,
    cipher: &Cipher<'_>,
    context: &EncryptionContext,
    sealed: &Sealed<'_>,
    entropy: &Entropy,
) -> Result<(Option<KeyMaterialId>, PlaintextDataKey), ApiError> {
    match (cipher, sealed) {
        (_, Sealed::Ignored) => Err(would_have_succeeded()),
        (Cipher::Symmetric(_), Sealed::Blob(Some(AnyBlob::Own(blob)))) => {
            let material = entry
                .generation(blob.header().generation)
                .ok_or_else(does_not_open)?;
            let plaintext = envelope::open(entry.key.id, material, context, blob)
                .map_err(|_| does_not_open())?;
            Ok((Some(material.id()), plaintext))
        }
        (Cipher::Pair(pair, algorithm), Sealed::Pair(bytes)) => {
            let plaintext = algorithm.decrypt(pair, bytes, entropy.probe()?);
            let plaintext = plaintext.map_err(|_| does_not_open())?;
            Ok((None, PlaintextDataKey(plaintext)))
        }
        _ => Err(does_not_open()),
    }
}
