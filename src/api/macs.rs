//! `GenerateMac` and `VerifyMac`: by HMAC keys.

use crate::api::members::Members;
use crate::api::signatures::{PROOF_BYTES_MAX, check_message};
use crate::api::usability::{incompatible, state, usage};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, KmsErrorCode, Requester, dry_run};
use crate::crypto::mac::MacKey;
use crate::key::spec::KeyUsage;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use serde::Deserialize;
use std::borrow::Cow;

const ALGORITHMS: &str = "HMAC_SHA_224, HMAC_SHA_256, HMAC_SHA_384, HMAC_SHA_512";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    message: Option<Blob>,
    #[serde(borrow)]
    key_id: Text<'a>,
    #[serde(borrow)]
    mac_algorithm: Text<'a>,
    mac: Option<Blob>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    dry_run: Option<bool>,
}

/// `GenerateMac`
pub(super) fn generate(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    perform(
        api,
        requester,
        body,
        Action::GenerateMac,
        |key, message, _, object| {
            object.base64("Mac", &key.mac(message));
            Ok(())
        },
    )
}

/// `VerifyMac`
pub(super) fn verify(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    perform(api, requester, body, VERIFY, |key, message, mac, object| {
        let verified = key.verify(message, mac);
        verified.map_err(|_| ApiError::bare(KmsErrorCode::KMSInvalidMacException))?;
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
    check_message(input.message.as_ref(), &mut violations);
    let key_id = input.key_id.as_deref();
    violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
    let algorithm = input.mac_algorithm.as_deref();
    match algorithm {
        None => violations.null("macAlgorithm"),
        Some(algorithm) => violations.one_of("macAlgorithm", algorithm, ALGORITHMS),
    }
    match &input.mac {
        Some(mac) if action == VERIFY => {
            violations.blob("mac", mac.bytes().len(), PROOF_BYTES_MAX);
        }
        None if action == VERIFY => violations.null("mac"),
        _ => {}
    }
    violations.grant_tokens(input.grant_tokens.as_deref());
    violations.check()?;
    let algorithm = algorithm.unwrap_or_default();
    let [message, mac] =
        [&input.message, &input.mac].map(|blob| blob.as_ref().map(Blob::bytes).unwrap_or_default());
    let named = [(ConditionKey::MacAlgorithm, algorithm)];
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        let caller = under.caller(action).with(Members::Texts(&named));
        let request = caller.key(key_id.unwrap_or_default(), under.snapshot)?;
        let entry = request.request().entry();
        api.check_grant_tokens(under, &[entry], input.grant_tokens.as_deref())?;
        usage(
            entry,
            KeyUsage::GenerateVerifyMac,
            caller.action.bare_name(),
        )?;
        state(entry)?;
        let key = entry.secret.as_deref().and_then(|secret| secret.mac());
        let key = key.filter(|key| key.spec().algorithm() == algorithm);
        let key = key.ok_or_else(|| incompatible(entry, algorithm))?;
        api.charge(under, Some(entry.key.id), &mut paid)?;
        dry_run(input.dry_run)?;
        let mut object = Object::new();
        work(key, message, mac, &mut object)?;
        object.plain("MacAlgorithm", algorithm);
        object.plain("KeyId", &entry.arn);
        Ok(object.end().about(entry))
    })
}
