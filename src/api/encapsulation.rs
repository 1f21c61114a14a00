//! `Encapsulate` and `Decapsulate`: a secret shared with the holder of an ML-KEM key.
//!
//! A ciphertext is bare, so a request names its key. One of the right length always opens: nothing
//! here looks at what it opens to, which is how ML-KEM rejects.

use crate::api::admission::Ask;
use crate::api::decrypt::BLOB_BYTES_MAX;
use crate::api::usability::incompatible;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::crypto::ml_kem::KemKey;
use crate::operation::Action;
use std::borrow::Cow;

/// The one `EncapsulationAlgorithm`.
const ML_KEM: &str = "ML_KEM";

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        shared_secret_ciphertext_blob: Option<Blob>,
        encapsulation_algorithm: Text<'a>,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
    }
}

/// `Encapsulate`
pub(super) fn encapsulate(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let action = Action::Encapsulate;
    perform(api, requester, body, action, |key, _, object| {
        let made = key.encapsulate(&api.entropy)?;
        object.base64("SharedSecret", made.secret.expose());
        object.base64("SharedSecretCiphertextBlob", &made.ciphertext);
        Ok(())
    })
}

/// `Decapsulate`
pub(super) fn decapsulate(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    perform(
        api,
        requester,
        body,
        DECAPSULATE,
        |key, ciphertext, object| {
            let secret = key.decapsulate(ciphertext).ok_or_else(invalid_ciphertext)?;
            object.base64("SharedSecret", secret.expose());
            Ok(())
        },
    )
}

const DECAPSULATE: Action = Action::Decapsulate;

/// The refusal of a ciphertext of another length than the key's, and of no other.
fn invalid_ciphertext() -> ApiError {
    ApiError::bare(ErrorCode::InvalidCiphertextException)
}

fn perform(
    api: &Api,
    requester: &Requester,
    body: &[u8],
    action: Action,
    work: impl Fn(&KemKey, &[u8], &mut Object) -> Result<(), ApiError>,
) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let ciphertext = if action == DECAPSULATE {
        let blob = input.shared_secret_ciphertext_blob.as_ref();
        violations.blob("sharedSecretCiphertextBlob", blob, BLOB_BYTES_MAX)
    } else {
        &[]
    };
    let algorithm = input.encapsulation_algorithm.as_deref();
    violations.required_one_of("encapsulationAlgorithm", algorithm, ML_KEM);
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    let (key, ciphertext, grant_tokens) = violations.check((key, ciphertext, grant_tokens))?;
    let ask = Ask::on(action, &key)
        .grant_tokens(grant_tokens)
        .dry_run(input.dry_run == Some(true));
    api.under_last_check(requester, |attempt| {
        let admitted = attempt.admit(ask, |entry| {
            let key = entry.pair().and_then(|pair| pair.kem());
            let key = key.ok_or_else(|| incompatible(entry, ML_KEM))?;
            // Before a dry run is answered, which would otherwise promise what is refused.
            if action == DECAPSULATE && ciphertext.len() != key.ciphertext_bytes() {
                return Err(invalid_ciphertext());
            }
            Ok(key)
        })?;
        let mut object = Object::new();
        object.plain("KeyId", &admitted.entry().arn);
        work(admitted.prepared, ciphertext, &mut object)?;
        object.plain("EncapsulationAlgorithm", ML_KEM);
        admitted.answer(object.end())
    })
}
