//! `ReEncrypt`: a blob from one key and context to others, without its plaintext leaving.
//!
//! It is two requests in one: `kms:ReEncryptFrom` on the blob's key with the source context, and
//! `kms:ReEncryptTo` on the destination with its own context, which is empty unless it is given.
//! Each has its own account, policies and grants. The caller does not need `kms:Decrypt` or
//! `kms:Encrypt` for it.

use crate::api::admission::Ask;
use crate::api::attempt::Attempt;
use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT, check_algorithm, is_slow};
use crate::api::decrypt::{self, BLOB_BYTES_MAX, Sealed};
use crate::api::handler::{Thread, Weighed};
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::proxied::Proxied;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{Api, ApiError, ErrorCode, Requester};
use crate::operation::Action;
use crate::rates::Paid;
use std::borrow::Cow;

wire::input! {
    struct Input<'a> {
        ciphertext_blob: Option<Blob>,
        source_encryption_context: ContextMember,
        source_key_id: Text<'a>,
        destination_key_id: Text<'a>,
        destination_encryption_context: ContextMember,
        source_encryption_algorithm: Text<'a>,
        destination_encryption_algorithm: Text<'a>,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
        dry_run_modifiers: Option<Vec<Cow<'a, str>>>,
    }
}

/// `ReEncrypt`
pub(super) fn re_encrypt(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    thread: Thread,
    proxied: &Proxied,
) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let modifiers = input.dry_run_modifiers.as_deref().unwrap_or_default();
    let is_ignored = decrypt::ignores_ciphertext(input.dry_run, modifiers);
    let checked = check(&input, is_ignored)?;
    let contexts = [
        input.source_encryption_context.sound()?,
        input.destination_encryption_context.sound()?,
    ];
    let algorithms = checked.algorithms;
    // Only an envelope names its key: other ciphertexts need a SourceKeyId.
    if checked.source.is_none() && is_ignored {
        return Err(decrypt::key_must_be_named("SourceKeyId"));
    }
    if checked.source.is_none() && algorithms[0] != SYMMETRIC_DEFAULT {
        let message = "SourceKeyId must not be null";
        return Err(ApiError::new(ErrorCode::ValidationException, message));
    }
    // RSA takes milliseconds: the call is made again on a thread of its own.
    if thread == Thread::Async && is_slow(algorithms[0]) {
        return Ok(None);
    }
    let sealed = Sealed::parse(checked.blob, algorithms[0]);
    let dry_run = input.dry_run == Some(true);
    let reply = api.under_last_check_of(requester, proxied.paid(Paid::default()), |attempt| {
        // The destination may be an alias that moves, so every attempt looks again.
        let same = stays_under_its_key(attempt, &checked, &sealed);
        let mut asks = [
            sealed.ask(Action::ReEncryptFrom, checked.source.as_ref()),
            Ask::on(Action::ReEncryptTo, &checked.destination),
        ];
        for (at, ask) in asks.iter_mut().enumerate() {
            *ask = ask
                .context(contexts[at])
                .members(Members::SameKey(same, algorithms[at]))
                .grant_tokens(checked.grant_tokens)
                .dry_run(dry_run);
        }
        let [source, destination] = attempt.admit_all(asks, |at, entry| {
            Cipher::of(entry, algorithms[at], contexts[at])
        })?;
        let (opening, sealing) = (&source.prepared, &destination.prepared);
        let entry = source.entry();
        // The plaintext does not leave this closure.
        let (old, plaintext) =
            decrypt::open_with(proxied, attempt, entry, opening, contexts[0], &sealed)?;
        let plaintext = plaintext.expose();
        sealing.check_length(plaintext.len())?;
        let to = destination.entry();
        let blob = proxied.encrypt(attempt, to, sealing, contexts[1], plaintext)?;
        let mut object = Object::new();
        object.base64("CiphertextBlob", &blob);
        object.plain("SourceKeyId", &entry.arn);
        object.plain("KeyId", &destination.entry().arn);
        object.plain("SourceEncryptionAlgorithm", opening.algorithm());
        object.plain("DestinationEncryptionAlgorithm", sealing.algorithm());
        if let Some(old) = old {
            object.material_id("SourceKeyMaterialId", old);
        }
        let new = sealing.material_id();
        if let Some(new) = new {
            object.material_id("DestinationKeyMaterialId", new);
        }
        let reply = object.end().with_id(new);
        source.answer(if same {
            reply
        } else {
            reply.moved_to(destination.entry())
        })
    });
    reply.map(Some)
}

/// Whether the blob stays under its key: a condition asks for it before either key is authorized,
/// so the answer does not depend on it before that.
fn stays_under_its_key(attempt: &Attempt<'_>, checked: &Checked<'_>, sealed: &Sealed<'_>) -> bool {
    let named = |action, key| attempt.caller(action).key_named(key, attempt.snapshot);
    let destination = named(Action::ReEncryptTo, &checked.destination);
    let source = match sealed {
        Sealed::Blob(blob) => blob
            .as_ref()
            .map(|blob| attempt.region.id(blob.header().key_id)),
        Sealed::Pair(_) | Sealed::Ignored => checked
            .source
            .as_ref()
            .and_then(|key| named(Action::ReEncryptFrom, key)),
    };
    destination.is_some() && source == destination
}

/// The members of a request, checked.
struct Checked<'a> {
    /// `None` where the ciphertext is to be ignored.
    blob: Option<&'a [u8]>,
    source: Option<KeyReference<'a>>,
    destination: KeyReference<'a>,
    /// Of the source and of the destination.
    algorithms: [&'a str; 2],
    grant_tokens: &'a [Cow<'a, str>],
}

fn check<'a>(input: &'a Input<'_>, is_ignored: bool) -> Result<Checked<'a>, ApiError> {
    let mut violations = Violations::default();
    let blob = (!is_ignored).then(|| {
        violations.blob(
            "ciphertextBlob",
            input.ciphertext_blob.as_ref(),
            BLOB_BYTES_MAX,
        )
    });
    let source = violations.optional_key_id("sourceKeyId", &input.source_key_id);
    let destination = violations.key_id("destinationKeyId", &input.destination_key_id);
    let algorithms = [
        (
            "sourceEncryptionAlgorithm",
            &input.source_encryption_algorithm,
        ),
        (
            "destinationEncryptionAlgorithm",
            &input.destination_encryption_algorithm,
        ),
    ];
    let algorithms = algorithms.map(|(member, algorithm)| {
        let algorithm = check_algorithm(member, algorithm.as_deref(), &mut violations);
        algorithm.unwrap_or(SYMMETRIC_DEFAULT)
    });
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let modifiers = input.dry_run_modifiers.as_deref().unwrap_or_default();
    decrypt::check_modifiers(modifiers, &mut violations);
    violations.check(Checked {
        blob,
        source,
        destination,
        algorithms,
        grant_tokens,
    })
}
