//! `Sign` and `Verify`: by RSA, ECDSA, Ed25519 and ML-DSA keys.

use crate::api::admission::Ask;
use crate::api::cipher::SYMMETRIC_DEFAULT;
use crate::api::handler::{Thread, Weighed};
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::usability::incompatible;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::crypto::pair::PrivateKey;
use crate::crypto::signature::{self, Message, SignatureError, SigningAlgorithm};
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::policy::ConditionKey;
use std::borrow::Cow;

/// Bytes of a message (AWS KMS API reference).
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of a signature or of a MAC that is to be verified.
pub(super) const PROOF_BYTES_MAX: usize = 6144;

/// In the order of the endpoint's messages (measured on AWS, September 2026), which is not that of
/// the service model.
const ALGORITHMS: &str = "RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, RSASSA_PKCS1_V1_5_SHA_384, \
     RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512, ED25519_SHA_512, ED25519_PH_SHA_512, SM2DSA, ML_DSA_SHAKE_256";
/// Not in the endpoint's list, yet taken for an algorithm of other keys (measured likewise).
const ENCRYPTION: &str = SYMMETRIC_DEFAULT;
const MESSAGE_TYPES: &str = "RAW, DIGEST, EXTERNAL_MU";
const EXTERNAL_MU: &str = "EXTERNAL_MU";
/// The default.
const RAW: &str = "RAW";

wire::input! {
    struct Input<'a> {
        key_id: Text<'a>,
        message: Option<Blob>,
        message_type: Text<'a>,
        signature: Option<Blob>,
        signing_algorithm: Text<'a>,
        grant_tokens: Option<Vec<Cow<'a, str>>>,
        dry_run: Option<bool>,
    }
}

/// What one of the two operations asks for, its members checked.
struct Checked<'a> {
    key: KeyReference<'a>,
    message: &'a [u8],
    message_type: &'a str,
    /// Empty where there is none to verify.
    signature: &'a [u8],
    algorithm: &'a str,
    grant_tokens: &'a [Cow<'a, str>],
    dry_run: bool,
}

fn check<'a>(input: &'a Input<'_>, verifies: bool) -> Result<Checked<'a>, ApiError> {
    let mut violations = Violations::default();
    let key = violations.key_id("keyId", &input.key_id);
    let message = violations.sensitive_blob("message", input.message.as_ref(), MESSAGE_BYTES_MAX);
    let message_type =
        violations.one_of("messageType", input.message_type.as_deref(), MESSAGE_TYPES);
    let signature = if verifies {
        violations.blob("signature", input.signature.as_ref(), PROOF_BYTES_MAX)
    } else {
        &[]
    };
    let algorithm = match input.signing_algorithm.as_deref() {
        Some(ENCRYPTION) => ENCRYPTION,
        given => violations.required_one_of("signingAlgorithm", given, ALGORITHMS),
    };
    let grant_tokens = violations.grant_tokens(&input.grant_tokens);
    violations.check(Checked {
        key,
        message,
        message_type: message_type.unwrap_or(RAW),
        signature,
        algorithm,
        grant_tokens,
        dry_run: input.dry_run == Some(true),
    })
}

impl Checked<'_> {
    fn message(&self) -> Message<'_> {
        match self.message_type {
            RAW => Message::Raw(self.message),
            EXTERNAL_MU => Message::ExternalMu(self.message),
            _ => Message::Digest(self.message),
        }
    }

    /// The key's private key, and the algorithm, once it is known that they fit each other and the
    /// message.
    fn prepare<'e>(
        &self,
        entry: &'e KeyEntry,
    ) -> Result<(&'e PrivateKey, SigningAlgorithm), ApiError> {
        let incompatible = || incompatible(entry, self.algorithm);
        let pair = entry.pair().ok_or_else(incompatible)?;
        // The type is compared with the key before the algorithm is, and with the algorithm after.
        if !self.message().fits(pair.spec()) {
            return Err(self.wrong_type("key spec", pair.spec().name()));
        }
        let algorithm: SigningAlgorithm = self.algorithm.parse().map_err(|_| incompatible())?;
        if !algorithm.fits(pair.spec()) {
            return Err(incompatible());
        }
        self.check_message(algorithm)?;
        Ok((pair, algorithm))
    }

    fn check_message(&self, algorithm: SigningAlgorithm) -> Result<(), ApiError> {
        let name = algorithm.name();
        let checked = algorithm.check(self.message());
        checked.map_err(|error| match error {
            SignatureError::Length => {
                let what = match self.message_type {
                    EXTERNAL_MU => "External Mu",
                    _ => "Digest",
                };
                let message = format!("{what} is invalid length for algorithm {name}.");
                ApiError::new(ErrorCode::ValidationException, message)
            }
            _ => self.wrong_type("algorithm", name),
        })
    }

    /// The refusal of a type of message that this key or algorithm does not take.
    fn wrong_type(&self, what: &str, name: &str) -> ApiError {
        let message = format!(
            "Message type {} is incompatible with {what} {name}.",
            self.message_type
        );
        ApiError::new(ErrorCode::ValidationException, message)
    }
}

/// `Sign`
pub(super) fn sign(api: &Api, requester: &Requester, body: &[u8], thread: Thread) -> Weighed {
    let input: Input<'_> = wire::decode(body)?;
    let checked = check(&input, false)?;
    let takes_long = checked.algorithm.starts_with("RSA") || checked.message_type == EXTERNAL_MU;
    if thread == Thread::Async && takes_long {
        return Ok(None);
    }
    let action = Action::Sign;
    let reply = perform(
        api,
        requester,
        &checked,
        action,
        |pair, algorithm, object| {
            let signed = signature::sign(pair, algorithm, checked.message(), api.entropy.probe()?);
            object.base64("Signature", &signed.map_err(ApiError::internal)?);
            Ok(())
        },
    );
    reply.map(Some)
}

/// `Verify`
pub(super) fn verify(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let input: Input<'_> = wire::decode(body)?;
    let checked = check(&input, true)?;
    let action = Action::Verify;
    perform(
        api,
        requester,
        &checked,
        action,
        |pair, algorithm, object| {
            let verified = signature::verify(pair, algorithm, checked.message(), checked.signature);
            verified.map_err(|_| ApiError::bare(ErrorCode::KMSInvalidSignatureException))?;
            object.flag("SignatureValid", true);
            Ok(())
        },
    )
}

fn perform(
    api: &Api,
    requester: &Requester,
    checked: &Checked<'_>,
    action: Action,
    work: impl Fn(&PrivateKey, SigningAlgorithm, &mut Object) -> Result<(), ApiError>,
) -> Answer {
    let named = [
        (ConditionKey::SigningAlgorithm, checked.algorithm),
        (ConditionKey::MessageType, checked.message_type),
    ];
    let ask = Ask::on(action, &checked.key)
        .members(Members::Texts(&named))
        .grant_tokens(checked.grant_tokens)
        .dry_run(checked.dry_run);
    api.under_last_check(requester, |attempt| {
        let admitted = attempt.admit(ask, |entry| checked.prepare(entry))?;
        let (pair, algorithm) = admitted.prepared;
        let mut object = Object::new();
        object.plain("KeyId", &admitted.entry().arn);
        work(pair, algorithm, &mut object)?;
        object.plain("SigningAlgorithm", algorithm.name());
        admitted.answer(object.end())
    })
}
