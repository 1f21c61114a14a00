//! `GenerateRandom`: bytes for the caller.

use crate::api::handler::{Thread, Weighed};
use crate::api::recipient::Recipient;
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Api, ApiError, ErrorCode, Requester};
use crate::operation::Action;
use serde_json::value::RawValue;

/// Bytes that one call answers (AWS KMS API reference).
const BYTES_MAX: i64 = 1024;
/// Characters of a `CustomKeyStoreId` (AWS KMS API reference).
const KEY_STORE_ID_CHARACTERS_MAX: usize = 64;

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
        violations.text("customKeyStoreId", id, 1, KEY_STORE_ID_CHARACTERS_MAX, None);
    }
    recipient.check(&mut violations);
    let bytes: Option<usize> = violations.check(bytes)?;
    let Some(receiver) = recipient.receiver(api, requester, thread)? else {
        return Ok(None);
    };
    let prepare = || {
        let bytes = bytes.ok_or_else(|| {
            ApiError::new(ErrorCode::ValidationException, "NumberOfBytes is required.")
        })?;
        if input.custom_key_store_id.is_some() {
            let code = ErrorCode::CustomKeyStoreNotFoundException;
            return Err(ApiError::bare(code));
        }
        Ok(bytes)
    };
    let reply = api.under_last_check_of(requester, receiver.paid(), |attempt| {
        let action = Action::GenerateRandom;
        let bytes = attempt.admit_alone(action, receiver.members(&[]), prepare)?;
        let drawn = api.entropy.draw_secret_bytes(bytes)?;
        let mut object = Object::new();
        receiver.put(api, &mut object, "Plaintext", drawn.expose())?;
        Ok(receiver.note(object.end()))
    });
    reply.map(Some)
}
