//! `Sign` and `Verify`: by RSA, ECDSA and Ed25519 keys.

use crate::api::handler::{Thread, Weighed};
use crate::api::members::Members;
use crate::api::usability::{incompatible, state, usage};
use crate::api::validation::{ASCII, KEY_ID_CHARACTERS_MAX, Violations};
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Answer, Api, ApiError, KmsErrorCode, Requester, Under, dry_run, unsupported};
use crate::crypto::pair::{Family, PrivateKey};
use crate::crypto::signature::{self, Message, SignatureError, SigningAlgorithm};
use crate::key::spec::KeyUsage;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of a message (AWS KMS API reference).
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of a signature or of a MAC that is to be verified.
pub(super) const PROOF_BYTES_MAX: usize = 6144;

const ALGORITHMS: &str = "RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, RSASSA_PKCS1_V1_5_SHA_384, \
     RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512, SM2DSA, ML_DSA_SHAKE_256, ED25519_SHA_512, ED25519_PH_SHA_512";
const MESSAGE_TYPES: &str = "RAW, DIGEST, EXTERNAL_MU";
/// Known, and of Ed25519 keys, but not built.
const PREHASHED: &str = "ED25519_PH_SHA_512";
/// The default.
const RAW: &str = "RAW";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input<'a> {
    #[serde(borrow)]
    key_id: Text<'a>,
    message: Option<Blob>,
    #[serde(borrow)]
    message_type: Text<'a>,
    signature: Option<Blob>,
    #[serde(borrow)]
    signing_algorithm: Text<'a>,
    #[serde(borrow)]
    grant_tokens: Option<Vec<Cow<'a, str>>>,
    dry_run: Option<bool>,
}

/// What one of the two operations asks for, its members checked.
struct Asked<'a> {
    input: Input<'a>,
}

impl<'a> Asked<'a> {
    fn decode(body: &'a [u8], verifies: bool) -> Result<Self, ApiError> {
        let input: Input<'_> = wire::decode(body)?;
        let mut violations = Violations::default();
        let key_id = input.key_id.as_deref();
        violations.required_text("keyId", key_id, KEY_ID_CHARACTERS_MAX, Some(&ASCII));
        check_message(input.message.as_ref(), &mut violations);
        if let Some(kind) = input.message_type.as_deref() {
            violations.one_of("messageType", kind, MESSAGE_TYPES);
        }
        match &input.signature {
            Some(signature) if verifies => {
                violations.blob("signature", signature.bytes().len(), PROOF_BYTES_MAX);
            }
            None if verifies => violations.null("signature"),
            _ => {}
        }
        match input.signing_algorithm.as_deref() {
            None => violations.null("signingAlgorithm"),
            Some(algorithm) => violations.one_of("signingAlgorithm", algorithm, ALGORITHMS),
        }
        violations.grant_tokens(input.grant_tokens.as_deref());
        violations.check()?;
        Ok(Self { input })
    }

    fn algorithm(&self) -> &str {
        self.input.signing_algorithm.as_deref().unwrap_or_default()
    }

    fn message_type(&self) -> &str {
        self.input.message_type.as_deref().unwrap_or(RAW)
    }

    fn message(&self) -> Message<'_> {
        let message = self.input.message.as_ref().map(Blob::bytes);
        let message = message.unwrap_or_default();
        match self.message_type() {
            RAW => Message::Raw(message),
            _ => Message::Digest(message),
        }
    }

    /// The private key, and the algorithm that it has, once everything has been checked that can be
    /// refused.
    fn prepare<'e>(
        &self,
        api: &Api,
        under: &Under<'_>,
        entry: &'e Arc<KeyEntry>,
        operation: &str,
        paid: &mut Paid,
    ) -> Result<(&'e PrivateKey, SigningAlgorithm), ApiError> {
        let tokens = self.input.grant_tokens.as_deref();
        api.check_grant_tokens(under, &[entry], tokens)?;
        usage(entry, KeyUsage::SignVerify, operation)?;
        state(entry)?;
        let incompatible = || incompatible(entry, self.algorithm());
        let pair = entry.secret.as_deref().and_then(|secret| secret.pair());
        let pair = pair.ok_or_else(incompatible)?;
        if self.algorithm() == PREHASHED && pair.spec().family() == Family::Edwards {
            return Err(unsupported("SigningAlgorithm ED25519_PH_SHA_512"));
        }
        let algorithm: SigningAlgorithm = self.algorithm().parse().map_err(|_| incompatible())?;
        if !algorithm.fits(pair.spec()) {
            return Err(incompatible());
        }
        let invalid = |message| ApiError::new(KmsErrorCode::ValidationException, message);
        let of_type = |what| {
            let (kind, name) = (self.message_type(), algorithm.name());
            invalid(format!("MessageType {kind} {what} algorithm {name}."))
        };
        if self.message_type() == "EXTERNAL_MU" {
            return Err(of_type("is not valid for"));
        }
        algorithm
            .check(self.message())
            .map_err(|error| match error {
                SignatureError::DigestLength => {
                    let name = algorithm.name();
                    invalid(format!("Digest is invalid length for algorithm {name}."))
                }
                _ => of_type("is not valid for"),
            })?;
        api.charge(under, Some(entry.key.id), paid)?;
        dry_run(self.input.dry_run)?;
        Ok((pair, algorithm))
    }
}

/// Checks the message of a signature or MAC.
pub(super) fn check_message(message: Option<&Blob>, violations: &mut Violations) {
    match message {
        None => violations.unnamed("message", "Member must not be null"),
        Some(message) => violations.blob("message", message.bytes().len(), MESSAGE_BYTES_MAX),
    }
}

/// `Sign`
pub(super) fn sign(api: &Api, requester: &Requester, body: &[u8], thread: Thread) -> Weighed {
    let asked = Asked::decode(body, false)?;
    if thread == Thread::Async && asked.algorithm().starts_with("RSA") {
        return Ok(None);
    }
    let reply = perform(
        api,
        requester,
        &asked,
        Action::Sign,
        |pair, algorithm, object| {
            let signed = signature::sign(pair, algorithm, asked.message(), api.entropy.probe()?);
            object.base64("Signature", &signed.map_err(ApiError::internal)?);
            Ok(())
        },
    );
    reply.map(Some)
}

/// `Verify`
pub(super) fn verify(api: &Api, requester: &Requester, body: &[u8]) -> Answer {
    let asked = Asked::decode(body, true)?;
    let given = asked.input.signature.as_ref().map(Blob::bytes);
    let given = given.unwrap_or_default();
    perform(
        api,
        requester,
        &asked,
        Action::Verify,
        |pair, algorithm, object| {
            let verified = signature::verify(pair, algorithm, asked.message(), given);
            verified.map_err(|_| ApiError::bare(KmsErrorCode::KMSInvalidSignatureException))?;
            object.flag("SignatureValid", true);
            Ok(())
        },
    )
}

fn perform(
    api: &Api,
    requester: &Requester,
    asked: &Asked<'_>,
    action: Action,
    work: impl Fn(&PrivateKey, SigningAlgorithm, &mut Object) -> Result<(), ApiError>,
) -> Answer {
    let named = [
        (ConditionKey::SigningAlgorithm, asked.algorithm()),
        (ConditionKey::MessageType, asked.message_type()),
    ];
    let key_id = asked.input.key_id.as_deref().unwrap_or_default();
    let mut paid = Paid::default();
    api.under_last_check(requester, |under| {
        let caller = under.caller(action).with(Members::Texts(&named));
        let request = caller.key(key_id, under.snapshot)?;
        let entry = request.request().entry();
        let operation = caller.action.bare_name();
        let (pair, algorithm) = asked.prepare(api, under, entry, operation, &mut paid)?;
        let mut object = Object::new();
        object.plain("KeyId", &entry.arn);
        work(pair, algorithm, &mut object)?;
        object.plain("SigningAlgorithm", algorithm.name());
        Ok(object.end().about(entry))
    })
}
