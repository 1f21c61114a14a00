//! `Encrypt`: the caller's own bytes under a key.

use crate::api::admission::Ask;
use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT, check_algorithm};
use crate::api::handler::{Thread, Weighed};
use crate::api::members::Members;
use crate::api::proxied::Proxied;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, ContextMember, Object, Text};
use crate::api::{Api, Requester};
use crate::envelope::blob::PLAINTEXT_BYTES_MAX;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use std::borrow::Cow;

wire::input! {
    struct EncryptInput<'a> {
        key_id: Text<'a>,
        plaintext: Option<Blob>,
        encryption_context: ContextMember,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        encryption_algorithm: Text<'a>,
        dry_run: Option<bool>,
    }
}

/// `Encrypt`
pub(super) fn encrypt(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    _thread: Thread,
    proxied: &Proxied,
) -> Weighed {
    let input: EncryptInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let plaintext =
        violations.sensitive_blob("plaintext", input.plaintext.as_ref(), PLAINTEXT_BYTES_MAX);
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let algorithm = check_algorithm(
        "encryptionAlgorithm",
        input.encryption_algorithm.as_deref(),
        &mut violations,
    );
    let checked = (key, plaintext, grant_tokens, algorithm);
    let (key, plaintext, grant_tokens, algorithm) = violations.check(checked)?;
    let context = input.encryption_context.sound()?;
    let algorithm = algorithm.unwrap_or(SYMMETRIC_DEFAULT);
    let named = [(ConditionKey::EncryptionAlgorithm, algorithm)];
    let ask = Ask::on(Action::Encrypt, &key)
        .context(context)
        .members(Members::Texts(&named))
        .grant_tokens(grant_tokens)
        .dry_run(input.dry_run == Some(true));
    let reply = api.under_last_check_of(requester, proxied.paid(Paid::default()), |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            let cipher = Cipher::of(entry, algorithm, context)?;
            // RSA takes less than the model allows.
            cipher.check_length(plaintext.len())?;
            Ok(cipher)
        })?;
        let (entry, cipher) = (admitted.entry(), &admitted.prepared);
        let blob = proxied.encrypt(attempt, entry, cipher, context, plaintext)?;
        let mut object = Object::new();
        object.base64("CiphertextBlob", &blob);
        object.plain("KeyId", &entry.arn);
        object.plain("EncryptionAlgorithm", cipher.algorithm());
        admitted.answer(object.end().with_id(cipher.material_id()))
    });
    reply.map(Some)
}
