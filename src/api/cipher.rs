//! How a key encrypts and decrypts what callers bring: by the envelope, or by its public key.

use crate::api::usability::{in_key_store, incompatible};
use crate::api::validation::Violations;
use crate::api::{ApiError, ErrorCode};
use crate::context::EncryptionContext;
use crate::crypto::encryption::EncryptionAlgorithm;
use crate::crypto::entropy::Entropy;
use crate::crypto::pair::PrivateKey;
use crate::envelope;
use crate::key::material::{BackingKey, KeyMaterialId};
use crate::key::spec::KeySpec;
use crate::keystore::KeyEntry;
use std::sync::Arc;

/// `EncryptionAlgorithm`, in the endpoint's order.
const ALGORITHMS: &str = "RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT";
/// The algorithm of requests that name none.
pub(crate) const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";

/// Checks a member that names an algorithm.
pub(crate) fn check_algorithm<'a>(
    member: &str,
    algorithm: Option<&'a str>,
    violations: &mut Violations,
) -> Option<&'a str> {
    violations.one_of(member, algorithm, ALGORITHMS)
}

/// Whether decryption by an algorithm takes milliseconds, and so a thread of its own: by RSA.
pub(crate) fn is_slow(algorithm: &str) -> bool {
    matches!(algorithm.parse(), Ok(EncryptionAlgorithm::Oaep(_)))
}

/// A key with the algorithm that it is used with.
pub(crate) enum Cipher<'a> {
    /// The current material.
    Symmetric(&'a Arc<BackingKey>),
    /// The material that goes with an external key: [`Proxied`](crate::api::proxied::Proxied)
    /// encrypts and decrypts.
    External(&'a BackingKey),
    Pair(&'a PrivateKey, EncryptionAlgorithm),
}

impl<'a> Cipher<'a> {
    /// Of a key whose usage and state fit, if it has this algorithm and takes this context.
    pub(crate) fn of(
        entry: &'a KeyEntry,
        algorithm: &str,
        context: &EncryptionContext,
    ) -> Result<Self, ApiError> {
        let incompatible = || incompatible(entry, algorithm);
        if let Some(inner) = entry.inner() {
            return match algorithm {
                SYMMETRIC_DEFAULT => Ok(Self::External(inner)),
                _ => Err(incompatible()),
            };
        }
        if entry.key.spec == KeySpec::Symmetric {
            return match entry.current() {
                Some(material) if algorithm == SYMMETRIC_DEFAULT => Ok(Self::Symmetric(material)),
                _ => Err(incompatible()),
            };
        }
        let algorithm: EncryptionAlgorithm = algorithm.parse().map_err(|_| incompatible())?;
        let pair = entry.pair().ok_or_else(incompatible)?;
        if algorithm.plaintext_bytes_max(pair.spec()).is_none() {
            return Err(incompatible());
        }
        if context.pairs().next().is_some() {
            let message = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
            return Err(ApiError::new(ErrorCode::ValidationException, message));
        }
        Ok(Self::Pair(pair, algorithm))
    }

    /// As the answer spells it.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Symmetric(_) | Self::External(_) => SYMMETRIC_DEFAULT,
            Self::Pair(_, algorithm) => algorithm.name(),
        }
    }

    /// The material that encrypts alone, if it has an id.
    pub(crate) fn material(&self) -> Option<&'a Arc<BackingKey>> {
        match self {
            Self::Symmetric(material) => Some(material),
            Self::External(_) | Self::Pair(..) => None,
        }
    }

    /// The id of the material, if it has one.
    pub(crate) fn material_id(&self) -> Option<KeyMaterialId> {
        match self {
            Self::Symmetric(material) => Some(material.id()),
            Self::External(inner) => Some(inner.id()),
            Self::Pair(..) => None,
        }
    }

    /// Refuses a plaintext that is too long for a public key.
    pub(crate) fn check_length(&self, plaintext: usize) -> Result<(), ApiError> {
        let Self::Pair(pair, algorithm) = self else {
            return Ok(());
        };
        let max = algorithm.plaintext_bytes_max(pair.spec());
        let max = max.unwrap_or_default();
        if plaintext <= max {
            return Ok(());
        }
        let message = format!(
            "Algorithm {} and key spec {} cannot encrypt data larger than {max} bytes.",
            algorithm.name(),
            pair.spec().name()
        );
        Err(ApiError::new(ErrorCode::ValidationException, message))
    }

    /// The ciphertext of 1..=4096 bytes under this key, whose material is here.
    pub(crate) fn encrypt(
        &self,
        entry: &KeyEntry,
        context: &EncryptionContext,
        plaintext: &[u8],
        entropy: &Entropy,
    ) -> Result<Vec<u8>, ApiError> {
        match self {
            Self::Symmetric(material) => {
                let id = entry.key.id;
                Ok(envelope::seal(id, material, context, plaintext, entropy)?)
            }
            Self::External(_) => Err(in_key_store(entry)),
            Self::Pair(pair, algorithm) => {
                let sealed = algorithm.encrypt(pair, plaintext, entropy.probe()?);
                sealed.map_err(ApiError::internal)
            }
        }
    }
}
