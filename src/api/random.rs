//! `GenerateRandom`: bytes for the caller.

use crate::api::attempt::Attempt;
use crate::api::handler::{Thread, Weighed};
use crate::api::key_stores;
use crate::api::recipient::Recipient;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Api, ApiError, ErrorCode, Requester, unsupported};
use crate::operation::Action;
use serde_json::value::RawValue;
use std::cell::RefCell;

/// Bytes that one call answers (AWS KMS API reference).
const BYTES_MAX: i64 = 1024;

wire::input! {
    struct RandomInput<'a> {
        number_of_bytes: Option<i64>,
        custom_key_store_id: Text<'a>,
        recipient: Option<&'a RawValue>,
    }
}

/// `GenerateRandom`: secrets, drawn from the operating system by a call of their own (RNG-1).
pub(super) fn generate(api: &Api, requester: &Requester, body: &[u8], thread: Thread) -> Weighed {
    let input: RandomInput<'_> = wire::decode(body)?;
    let recipient = Recipient::read(api, input.recipient)?;
    let mut violations = Violations::default();
    let bytes = violations.number("numberOfBytes", input.number_of_bytes, 1, BYTES_MAX);
    if let Some(id) = input.custom_key_store_id.as_deref() {
        let max = key_stores::ID_CHARACTERS_MAX;
        violations.text("customKeyStoreId", id, 1, max, None);
    }
    recipient.check(&mut violations);
    let bytes: Option<usize> = violations.check(bytes)?;
    let Some(receiver) = recipient.receiver(api, requester, thread)? else {
        return Ok(None);
    };
    let prepare = |attempt: &Attempt<'_>| {
        let bytes = bytes.ok_or_else(|| {
            ApiError::new(ErrorCode::ValidationException, "NumberOfBytes is required.")
        })?;
        if let Some(id) = input.custom_key_store_id.as_deref() {
            // As on AWS: only the HSMs of a CloudHSM key store draw for a caller.
            key_stores::find(attempt, id)?;
            return Err(unsupported("CustomKeyStoreId of an external key store"));
        }
        Ok(bytes)
    };
    let paid = RefCell::new(receiver.paid());
    let reply = api.under_last_check_of(requester, &paid, |attempt| {
        let action = Action::GenerateRandom;
        let bytes = attempt.admit_alone(action, receiver.members(&[]), || prepare(attempt))?;
        let drawn = api.entropy.draw_secret_bytes(bytes)?;
        let mut object = Object::new();
        receiver.put(api, &mut object, "Plaintext", drawn.expose())?;
        Ok(receiver.note(object.end()))
    });
    reply.map(Some)
}
