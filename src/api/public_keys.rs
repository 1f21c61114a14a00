//! `GetPublicKey`, and `DeriveSharedSecret` with the public key of another party.

use crate::api::admission::Ask;
use crate::api::handler::{Thread, Weighed};
use crate::api::key_changes::KeyInput;
use crate::api::keys::algorithms;
use crate::api::recipient::Recipient;
use crate::api::usability::incompatible;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::crypto::agreement;
use crate::operation::Action;
use crate::policy::ConditionKey;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::RefCell;

/// Bytes of a public key (AWS KMS API reference).
const PUBLIC_KEY_BYTES_MAX: usize = 8192;
const ECDH: &str = "ECDH";

/// `GetPublicKey`: of a disabled key too.
pub(super) fn get(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: KeyInput<'_> = wire::decode(body)?;
    let (key, grant_tokens) = input.key_and_tokens()?;
    let ask = Ask::on(Action::GetPublicKey, &key).grant_tokens(grant_tokens);
    api.under_last_check(requester, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            let pair = entry.pair();
            pair.ok_or_else(|| ApiError::bare(ErrorCode::UnsupportedOperationException))
        })?;
        let (entry, key) = (admitted.entry(), &admitted.entry().key);
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        object.base64("PublicKey", admitted.prepared.public_der());
        object.plain("CustomerMasterKeySpec", key.spec.name());
        object.plain("KeySpec", key.spec.name());
        object.plain("KeyUsage", key.usage.name());
        algorithms(&mut object, key);
        admitted.answer(object.end())
    })
}

wire::input! {
    struct DeriveInput<'a> {
        key_id: Text<'a>,
        key_agreement_algorithm: Text<'a>,
        public_key: Option<Blob>,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
        recipient: Option<&'a RawValue>,
    }
}

/// `DeriveSharedSecret`
pub(super) fn derive_shared_secret(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    thread: Thread,
) -> Weighed {
    let input: DeriveInput<'_> = wire::decode(body)?;
    let recipient = Recipient::read(api, input.recipient)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let algorithm = input.key_agreement_algorithm.as_deref();
    violations.required_one_of("keyAgreementAlgorithm", algorithm, ECDH);
    let public = violations.blob("publicKey", input.public_key.as_ref(), PUBLIC_KEY_BYTES_MAX);
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    recipient.check(&mut violations);
    let (key, public, grant_tokens) = violations.check((key, public, grant_tokens))?;
    let Some(receiver) = recipient.receiver(api, requester, thread)? else {
        return Ok(None);
    };
    let named = [(ConditionKey::KeyAgreementAlgorithm, ECDH)];
    let ask = Ask::on(Action::DeriveSharedSecret, &key)
        .members(receiver.members(&named))
        .grant_tokens(grant_tokens)
        .dry_run(input.dry_run == Some(true));
    let paid = RefCell::new(receiver.paid());
    let reply = api.under_last_check_of(requester, &paid, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            entry.pair().ok_or_else(|| incompatible(entry, ECDH))
        })?;
        let entry = admitted.entry();
        // A point of another curve is the caller's fault, and so is one that is not on the curve.
        let secret = agreement::agree(admitted.prepared, public)
            .map_err(|_| ApiError::bare(ErrorCode::ValidationException))?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        receiver.put(api, &mut object, "SharedSecret", secret.expose())?;
        object.plain("KeyAgreementAlgorithm", ECDH);
        object.plain("KeyOrigin", entry.key.origin.name());
        admitted.answer(receiver.note(object.end()))
    });
    reply.map(Some)
}
