//! `GenerateMac` and `VerifyMac`: by HMAC keys.

use crate::api::admission::Ask;
use crate::api::members::Members;
use crate::api::signatures::{MESSAGE_BYTES_MAX, PROOF_BYTES_MAX};
use crate::api::usability::incompatible;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::crypto::mac::MacKey;
use crate::operation::Action;
use crate::policy::ConditionKey;
use std::borrow::Cow;

/// In the order of the endpoint's messages (measured on AWS, September 2026).
const ALGORITHMS: &str = "HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512";

wire::input! {
    struct Input<'a> {
        message: Option<Blob>,
        key_id: Text<'a>,
        mac_algorithm: Text<'a>,
        mac: Option<Blob>,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
    }
}

/// `GenerateMac`
pub(super) fn generate(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let action = Action::GenerateMac;
    perform(api, requester, body, action, |key, message, _, object| {
        object.base64("Mac", &key.mac(message));
        Ok(())
    })
}

/// `VerifyMac`
pub(super) fn verify(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    perform(api, requester, body, VERIFY, |key, message, mac, object| {
        let verified = key.verify(message, mac);
        verified.map_err(|_| ApiError::bare(ErrorCode::KMSInvalidMacException))?;
        object.flag("MacValid", true);
        Ok(())
    })
}

const VERIFY: Action = Action::VerifyMac;

fn perform(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    action: Action,
    work: impl Fn(&MacKey, &[u8], &[u8], &mut Object) -> Result<(), ApiError>,
) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let message = violations.sensitive_blob("message", input.message.as_ref(), MESSAGE_BYTES_MAX);
    let key = violations.key_id("keyId", &input.key_id);
    let algorithm =
        violations.required_one_of("macAlgorithm", input.mac_algorithm.as_deref(), ALGORITHMS);
    let mac = if action == VERIFY {
        violations.blob("mac", input.mac.as_ref(), PROOF_BYTES_MAX)
    } else {
        &[]
    };
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let checked = (message, key, algorithm, mac, grant_tokens);
    let (message, key, algorithm, mac, grant_tokens) = violations.check(checked)?;
    let named = [(ConditionKey::MacAlgorithm, algorithm)];
    let ask = Ask::on(action, &key)
        .members(Members::Texts(&named))
        .grant_tokens(grant_tokens)
        .dry_run(input.dry_run == Some(true));
    api.under_last_check(requester, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            let key = entry.mac();
            key.filter(|key| key.spec().algorithm() == algorithm)
                .ok_or_else(|| incompatible(entry, algorithm))
        })?;
        let mut object = Object::new();
        work(admitted.prepared, message, mac, &mut object)?;
        object.plain("MacAlgorithm", algorithm);
        object.plain("KeyId", &admitted.entry().arn);
        admitted.answer(object.end())
    })
}
