//! The four operations, for a caller that is known to be the key store's principal.
//!
//! The order of checks: the request, the external key, who calls in AWS, what the key may be used
//! for; then those of the KMS API (`api::admission`): the KMS key, the principal's rights, the
//! key's state, the limits.

use crate::api::admission::Ask;
use crate::api::blob_key::does_not_open;
use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT};
use crate::api::key_reference::KeyReference;
use crate::api::members::Members;
use crate::api::trail::Event;
use crate::api::usability::incompatible;
use crate::api::wire::{Blob, Object};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::context::EncryptionContext;
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::SecretBytes;
use crate::crypto::xaes::TAG_BYTES;
use crate::key::KeyState;
use crate::key::material::BackingKey;
use crate::key::spec::KeySpec;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::operation::xks::XksOperation;
use crate::policy::ConditionKey;
use crate::policy::steps::briefly;
use crate::xks::error::in_words_of_xks;
use crate::xks::external_key::ExternalKey;
use crate::xks::request::{Asked, Refused, Request, bytes, parameters};
use crate::xks::sealed::{self, ExternalSecret, Metadata, Sealed, ToOpen, VECTOR_BYTES};
use crate::xks::{KeyStore, Target};
use crate::xks_proxy::sealed::{AES_256, DECRYPT, ENCRYPT};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The name of this product, as the health status spells it.
const VENDOR: &str = "Keymill";
const MODEL: &str = concat!("Keymill ", env!("CARGO_PKG_VERSION"));

impl Api {
    /// Performs what AWS KMS asks for, and records it. The error is in the words of XKS.
    ///
    /// # Errors
    /// [`ApiError`]: the operation is refused or failed, or cannot be recorded.
    pub async fn call_xks(
        self: &Arc<Self>,
        target: &Target<'_>,
        requester: &Requester,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        let call = Call::of(target);
        let mut performed = briefly(|| call.perform(self, requester, body));
        if let Err(error) = &performed.answer
            && error.is_undecided()
        {
            let work = move |api: &Arc<Self>, who: &Requester, body: &[u8]| {
                call.perform(api, who, body).answer
            };
            performed.answer = Box::pin(self.at_length(requester, body, work)).await;
        }
        let Performed { parameters, answer } = performed;
        let event = Event::of_xks(target.operation, &parameters);
        let answer = answer.map_err(in_words_of_xks);
        let told = self.told(requester, event, answer).await;
        told.map_err(in_words_of_xks)
    }
}

/// One call, without what it borrows.
struct Call {
    operation: XksOperation,
    store: String,
    id: String,
    /// `None` where the key store has no key of this id.
    key: Option<Arc<ExternalKey>>,
}

/// How a call ended, and what its audit record says of it.
struct Performed {
    parameters: Vec<u8>,
    answer: Answer,
}

impl Call {
    fn of(target: &Target<'_>) -> Self {
        let store: &KeyStore = target.store;
        Self {
            operation: target.operation,
            store: store.name().to_owned(),
            id: target.external_key_id.to_owned(),
            key: store.key(target.external_key_id).cloned(),
        }
    }

    fn perform(&self, api: &Api, requester: &Requester, body: &[u8]) -> Performed {
        match Request::parse(self.operation, body) {
            Ok(request) => Performed {
                parameters: parameters(Some(&request.metadata), &self.id),
                answer: self.answer(api, requester, &request),
            },
            Err(Refused { error, metadata }) => Performed {
                parameters: parameters(metadata.as_deref(), &self.id),
                answer: Err(error),
            },
        }
    }

    fn answer(&self, api: &Api, requester: &Requester, request: &Request<'_>) -> Answer {
        if let Asked::Health = request.asked {
            return health(api, requester, &self.store);
        }
        let key = self.key.as_deref().ok_or_else(|| {
            let message = format!("This key store has no external key {}.", self.id);
            ApiError::new(ErrorCode::KeyNotFoundException, message)
        })?;
        if let Some(member) = key.denied(request.metadata.call()) {
            let message = format!("The external key is not for this {member}.");
            return Err(ApiError::new(ErrorCode::AccessDeniedException, message));
        }
        match &request.asked {
            Asked::Health | Asked::KeyMetadata => key_metadata(api, requester, key),
            Asked::Encrypt {
                plaintext,
                additional,
                with_integrity_value,
            } => {
                check_usage(key, ENCRYPT)?;
                // Its answer promises that the ciphertext can be decrypted.
                if *with_integrity_value {
                    check_usage(key, DECRYPT)?;
                }
                let work = Encrypt {
                    plaintext,
                    additional: bytes(additional.as_ref()),
                    with_integrity_value: *with_integrity_value,
                };
                work.perform(api, requester, key)
            }
            Asked::Decrypt {
                ciphertext,
                vector,
                tag,
                metadata,
                additional,
            } => {
                check_usage(key, DECRYPT)?;
                let work = Decrypt {
                    metadata: Metadata::parse(bytes(metadata.as_ref())),
                    vector: vector.bytes().as_array(),
                    text: ciphertext.bytes(),
                    tag,
                    additional: bytes(additional.as_ref()),
                };
                work.perform(api, requester, key)
            }
        }
    }
}

fn check_usage(key: &ExternalKey, usage: &str) -> Result<(), ApiError> {
    if key.is_for(usage) {
        return Ok(());
    }
    let message = format!("The external key is not for {usage}.");
    let code = ErrorCode::InvalidKeyUsageException;
    Err(ApiError::new(code, message))
}

/// `GetHealthStatus`: the principal may still sign, the store is known, and randomness and the
/// cipher work under a key that was drawn for this. That the audit log can be written shows when
/// this call is recorded.
fn health(api: &Api, requester: &Requester, store: &str) -> Answer {
    api.read(requester, |_| Ok(()))?;
    check_cipher(&api.entropy)?;
    // A store that takes no changes serves all the same.
    let status = match api.keystore.halt().reason() {
        None => "ACTIVE",
        Some(_) => "DEGRADED",
    };
    let mut member = Object::with_room(256);
    member.plain("id", store);
    member.plain("model", MODEL);
    member.plain("healthStatus", status);
    let mut object = Object::with_room(512);
    object.number("xksProxyFleetSize", 1);
    object.plain("xksProxyVendor", VENDOR);
    object.plain("xksProxyModel", MODEL);
    object.plain("ekmVendor", VENDOR);
    object.list("ekmFleetDetails", std::iter::once(member));
    Ok(object.end().public())
}

fn check_cipher(entropy: &Entropy) -> Result<(), ApiError> {
    const TEXT: &[u8] = b"a test key, drawn for one health check";
    let secret = ExternalSecret::of_test(entropy.draw_secret()?);
    let sealed = Sealed::seal(&secret, 1, b"", TEXT, entropy)?;
    sealed.verify(&secret, b"", TEXT)
}

impl Sealed {
    /// Fails unless this opens to `plaintext`.
    fn verify(
        &self,
        secret: &ExternalSecret,
        additional: &[u8],
        plaintext: &[u8],
    ) -> Result<(), ApiError> {
        let metadata = Metadata::parse(&self.metadata);
        let opened = metadata.and_then(|metadata| {
            let sealed = ToOpen {
                metadata,
                vector: &self.vector,
                text: &self.text,
                tag: &self.tag,
            };
            sealed::open(secret, additional, &sealed).ok()
        });
        match opened {
            Some(opened) if bool::from(opened.expose().ct_eq(plaintext)) => Ok(()),
            _ => Err(ApiError::internal("a ciphertext did not open again")),
        }
    }
}

/// `GetKeyMetadata`
fn key_metadata(api: &Api, requester: &Requester, key: &ExternalKey) -> Answer {
    let reference = KeyReference::parse(key.key());
    api.read(requester, |attempt| {
        let ask = Ask::on(Action::DescribeKey, &reference);
        let admitted = attempt.admit(ask, |_| Ok(()))?;
        let KeyEntry { key: kms_key, .. } = &**admitted.entry();
        // AWS KMS takes keys of no other spec.
        let spec = match kms_key.spec {
            KeySpec::Symmetric if kms_key.key_store.is_none() => AES_256,
            other => other.name(),
        };
        let status = match kms_key.state {
            KeyState::Enabled => "ENABLED",
            _ => "DISABLED",
        };
        let mut object = Object::with_room(256);
        object.plain("keySpec", spec);
        object.text_list("keyUsage", key.usage());
        object.plain("keyStatus", status);
        admitted.answer(object.end().public())
    })
}

/// The members that conditions of policies see, as in the operations of AWS KMS.
const NAMED: [(ConditionKey, &str); 1] = [(ConditionKey::EncryptionAlgorithm, SYMMETRIC_DEFAULT)];

/// What `Encrypt` seals.
struct Encrypt<'a> {
    plaintext: &'a Blob,
    additional: &'a [u8],
    with_integrity_value: bool,
}

impl Encrypt<'_> {
    fn perform(&self, api: &Api, requester: &Requester, key: &ExternalKey) -> Answer {
        let reference = KeyReference::parse(key.key());
        let no_context = EncryptionContext::default();
        api.under_last_check(requester, |attempt| {
            let ask = Ask::on(Action::Encrypt, &reference)
                .context(&no_context)
                .members(Members::Texts(&NAMED));
            let admitted = attempt.admit(ask, |entry| symmetric(entry, &no_context))?;
            let (entry, material) = (admitted.entry(), admitted.prepared);
            let secret = ExternalSecret::derive(material, entry.key.id, key.id());
            admitted.answer(
                self.seal(&secret, material, &api.entropy)?
                    .with(Some(material)),
            )
        })
    }

    /// Seals, computes the integrity value, then opens again, in this order: see
    /// [`Sealed::integrity_value`].
    fn seal(
        &self,
        secret: &ExternalSecret,
        material: &BackingKey,
        entropy: &Entropy,
    ) -> Result<Reply, ApiError> {
        let (additional, plaintext) = (self.additional, self.plaintext.bytes());
        let generation = material.generation();
        let sealed = Sealed::seal(secret, generation, additional, plaintext, entropy)?;
        let value = self
            .with_integrity_value
            .then(|| sealed.integrity_value(additional));
        sealed.verify(secret, additional, plaintext)?;
        let mut object = Object::new();
        object.base64("authenticationTag", &sealed.tag);
        object.base64("ciphertext", &sealed.text);
        if let Some(value) = value {
            object.base64("ciphertextDataIntegrityValue", &value);
        }
        object.base64("ciphertextMetadata", &sealed.metadata);
        object.base64("initializationVector", &sealed.vector);
        Ok(object.end().public())
    }
}

/// What `Decrypt` opens.
struct Decrypt<'a> {
    /// `None` for metadata that were not made here.
    metadata: Option<Metadata>,
    /// `None` for one of 16 bytes: none of ours has them.
    vector: Option<&'a [u8; VECTOR_BYTES]>,
    text: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
    additional: &'a [u8],
}

impl Decrypt<'_> {
    fn perform(&self, api: &Api, requester: &Requester, key: &ExternalKey) -> Answer {
        let reference = KeyReference::parse(key.key());
        let no_context = EncryptionContext::default();
        api.under_last_check(requester, |attempt| {
            let ask = Ask::on(Action::Decrypt, &reference)
                .context(&no_context)
                .members(Members::Texts(&NAMED));
            let admitted = attempt.admit(ask, |entry| symmetric(entry, &no_context))?;
            let (material, plaintext) = self
                .open(admitted.entry(), key.id())
                .ok_or_else(does_not_open)?;
            let mut object = Object::new();
            object.base64("plaintext", plaintext.expose());
            admitted.answer(object.end().with(Some(material)))
        })
    }

    /// `None` when it does not open, for whatever reason.
    fn open<'k>(
        &self,
        entry: &'k KeyEntry,
        external_id: &str,
    ) -> Option<(&'k Arc<BackingKey>, SecretBytes)> {
        let (metadata, vector) = (self.metadata?, self.vector?);
        let material = entry.generation(metadata.generation)?;
        let secret = ExternalSecret::derive(material, entry.key.id, external_id);
        let sealed = ToOpen {
            metadata,
            vector,
            text: self.text,
            tag: self.tag,
        };
        let opened = sealed::open(&secret, self.additional, &sealed).ok()?;
        Some((material, opened))
    }
}

/// The current material of a symmetric key; `InvalidKeyUsageException` for other keys.
fn symmetric<'a>(
    entry: &'a Arc<KeyEntry>,
    no_context: &EncryptionContext,
) -> Result<&'a Arc<BackingKey>, ApiError> {
    let cipher = Cipher::of(entry, SYMMETRIC_DEFAULT, no_context)?;
    cipher
        .material()
        .ok_or_else(|| incompatible(entry, SYMMETRIC_DEFAULT))
}
