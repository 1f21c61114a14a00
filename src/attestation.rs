//! Attestation documents of AWS Nitro: which code asks, and to which key its answer is sealed.
//!
//! A `Recipient` of AWS KMS is such a document. The hypervisor of an instance has signed it for an
//! enclave, or for the TPM of the instance: it has measurements of what runs there, which policies
//! compare, and a public key, which only that code has the private half of. So the plaintext of an
//! answer passes through the caller's hands and cannot be read there.
//!
//! Whose documents are believed is the operator's decision: a list of root certificates, empty by
//! default. Without one, no document is looked at. A document is judged in this order: its form,
//! each certificate from the root to its own, its signature, its time, its key.
//!
//! Sources: AWS Nitro Enclaves, "Nitro Enclaves Attestation Process", in the repository
//! `aws-nitro-enclaves-nsm-api`; RFC 9052 (COSE), RFC 8949 (CBOR), RFC 5280 (certificates).
//!
//! What this module does not do: decide whether the measurements are the right ones (`policy`), or
//! keep a document from being used twice: its answers open with the same private key alone.

use crate::clock::Timestamp;
use crate::crypto::enveloped_data::RecipientKey;
use crate::metrics::Metrics;
use ::metrics::Counter;
use document::Document;
use std::time::Duration;

mod certificate;
mod chain;
pub mod document;
pub mod error;
pub mod measurements;
pub mod roots;

pub use error::AttestationError;
pub use measurements::{InvalidMeasurements, Measurements};
pub use roots::{Config, RootError, Roots};

/// The most that a document's time may differ from the time here, either way. AWS does not say
/// what it allows.
const AGE_MAX: Duration = Duration::from_secs(300);

/// The roots whose documents are believed.
pub struct Attestations {
    roots: Roots,
    taken: Counter,
    refused: [Counter; AttestationError::LABELS.len()],
}

/// What a document has proved.
pub struct Attested {
    /// What was measured of the code.
    pub measurements: Measurements,
    /// The key that its answers are sealed to.
    pub key: RecipientKey,
}

impl Attestations {
    /// Believes documents of these roots.
    #[must_use]
    pub fn new(roots: Roots, metrics: &Metrics) -> Self {
        Self {
            roots,
            taken: metrics.attestation_documents("ok"),
            refused: AttestationError::LABELS.map(|label| metrics.attestation_documents(label)),
        }
    }

    /// Whether no root is configured.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.roots.are_none()
    }

    /// What a document proves now. It takes close to a millisecond: four signatures on P-384 for a
    /// root, two authorities and a module.
    ///
    /// # Errors
    /// [`AttestationError`], in the order of the module's description.
    pub fn verify(&self, document: &[u8], now: Timestamp) -> Result<Attested, AttestationError> {
        let judged = judge(document, &self.roots, now);
        match &judged {
            Ok(_) => self.taken.increment(1),
            Err(error) => self.refused[error.label()].increment(1),
        }
        judged
    }
}

/// Judges a document by these roots and this time.
///
/// # Errors
/// As [`Attestations::verify`].
pub fn judge(document: &[u8], roots: &Roots, now: Timestamp) -> Result<Attested, AttestationError> {
    let document = Document::parse(document)?;
    let signer = chain::verify(&document.bundle, &document.certificate, roots, now)?;
    document.verify(&signer)?;
    check_time(document.time, now)?;
    let key = document.public_key.ok_or(AttestationError::NoKey)?;
    let key = RecipientKey::from_der(&key).map_err(|_| AttestationError::Key)?;
    let measurements = document.measurements;
    Ok(Attested { measurements, key })
}

fn check_time(time: Timestamp, now: Timestamp) -> Result<(), AttestationError> {
    if time.after(AGE_MAX) < now {
        return Err(AttestationError::Old);
    }
    if now.after(AGE_MAX) < time {
        return Err(AttestationError::Early);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
