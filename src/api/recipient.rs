//! `Recipient`: the plaintext of an answer, sealed to code that has proved what it is.
//!
//! A request with a `Recipient` gets its plaintext in no other way (ATTEST-1): what an operation
//! would answer in the clear goes through [`Receiver::put`], which either writes it or seals it.
//! The document is verified before policies are asked, since they decide on its measurements. Its
//! verification takes as long as many answers, so the caller pays for the request before it.

use crate::api::handler::Thread;
use crate::api::members::Members;
use crate::api::validation::Violations;
use crate::api::wire::{self, Blob, Object, Text};
use crate::api::{Api, ApiError, ErrorCode, Reply, Requester, unsupported};
use crate::attestation::{AttestationError, Attested};
use crate::crypto::enveloped_data::SealError;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Bytes of an `AttestationDocument` (AWS KMS API reference). Real ones have some 5,000.
const DOCUMENT_BYTES_MAX: usize = 262_144;
/// `KeyEncryptionAlgorithm`
const ALGORITHMS: &str = "RSAES_OAEP_SHA_256";

wire::input! {
    struct Input<'a> {
        key_encryption_algorithm: Text<'a>,
        attestation_document: Option<Blob>,
    }
}

/// The member `Recipient` of a request, if it has one.
pub(super) struct Recipient<'a>(Option<Input<'a>>);

/// Who gets the plaintext of an answer.
pub(super) enum Receiver {
    /// The caller.
    Caller,
    /// The code that a document is about.
    Attested(Box<Attested>),
}

impl<'a> Recipient<'a> {
    /// Reads the member. Without a configured root it is not built.
    pub(super) fn read(api: &Api, member: Option<&'a RawValue>) -> Result<Self, ApiError> {
        let Some(member) = member else {
            return Ok(Self(None));
        };
        if api.attestations.are_none() {
            return Err(unsupported("Recipient"));
        }
        let input = wire::decode(member.get().as_bytes()).map_err(|error| error.about("Recipient"));
        Ok(Self(Some(input?)))
    }

    /// Checks its own members. The service model requires neither of them; a request without them
    /// asks for nothing that could be done.
    pub(super) fn check(&self, violations: &mut Violations) {
        if let Some(input) = &self.0 {
            let algorithm = input.key_encryption_algorithm.as_deref();
            violations.required_one_of("recipient.keyEncryptionAlgorithm", algorithm, ALGORITHMS);
            let document = input.attestation_document.as_ref();
            violations.blob(
                "recipient.attestationDocument",
                document,
                DOCUMENT_BYTES_MAX,
            );
        }
    }

    /// Verifies the document, on a thread of its own: `None` on one that others wait for.
    pub(super) fn receiver(
        &self,
        api: &Api,
        requester: &Requester,
        thread: Thread,
    ) -> Result<Option<Receiver>, ApiError> {
        match self.document() {
            None => Ok(Some(Receiver::Caller)),
            Some(_) if thread == Thread::Async => Ok(None),
            Some(document) => {
                charge(api, requester)?;
                Receiver::of(api, document).map(Some)
            }
        }
    }

    /// Verifies the document on a thread of its own.
    pub(super) async fn receiver_elsewhere(
        &self,
        api: &Arc<Api>,
        requester: &Requester,
    ) -> Result<Receiver, ApiError> {
        let Some(document) = self.document() else {
            return Ok(Receiver::Caller);
        };
        charge(api, requester)?;
        let (own, document) = (Arc::clone(api), document.to_vec());
        let verified = tokio::task::spawn_blocking(move || Receiver::of(&own, &document));
        verified.await.map_err(ApiError::internal)?
    }

    fn document(&self) -> Option<&[u8]> {
        let input = self.0.as_ref()?;
        input.attestation_document.as_ref().map(Blob::bytes)
    }
}

/// Takes the request's one key from the caller's limit. The document may still be refused.
fn charge(api: &Api, requester: &Requester) -> Result<(), ApiError> {
    api.read(requester, |attempt| attempt.charge(None))
}

impl Receiver {
    fn of(api: &Api, document: &[u8]) -> Result<Self, ApiError> {
        let attested = api.attestations.verify(document, api.clock.now());
        Ok(Self::Attested(Box::new(attested?)))
    }

    /// What conditions ask of the request: these members, and the measurements.
    pub(super) fn members<'a>(&'a self, named: &'a [(ConditionKey, &'a str)]) -> Members<'a> {
        match self {
            Self::Caller => Members::Texts(named),
            Self::Attested(attested) => Members::Attested(named, &attested.measurements),
        }
    }

    /// What the request has paid already.
    pub(super) fn paid(&self) -> Paid {
        match self {
            Self::Caller => Paid::default(),
            Self::Attested(_) => Paid::of_principal(),
        }
    }

    /// Whether the caller itself gets the plaintext.
    pub(super) fn is_caller(&self) -> bool {
        matches!(self, Self::Caller)
    }

    /// Writes a plaintext under the name of its member; or that member empty, as AWS does, and the
    /// plaintext sealed.
    pub(super) fn put(
        &self,
        api: &Api,
        object: &mut Object,
        name: &str,
        plaintext: &[u8],
    ) -> Result<(), ApiError> {
        let Self::Attested(attested) = self else {
            object.base64(name, plaintext);
            return Ok(());
        };
        let sealed = attested.key.seal(plaintext, &api.entropy)?;
        object.base64("CiphertextForRecipient", &sealed);
        object.plain(name, "");
        Ok(())
    }

    /// Notes the recipient of the plaintext for the audit log.
    pub(super) fn note(&self, reply: Reply) -> Reply {
        match self {
            Self::Caller => reply,
            Self::Attested(attested) => reply.sealed_to(attested.measurements.audited()),
        }
    }
}

/// AWS publishes neither the code nor the words.
impl From<AttestationError> for ApiError {
    fn from(error: AttestationError) -> Self {
        Self::new(ErrorCode::ValidationException, error.to_string())
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        Self::internal(error)
    }
}
