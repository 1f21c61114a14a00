//! The certificates of an attestation document: from a configured root to the one that has signed
//! it, in the order in which the document has them.
//!
//! No path is looked for, and every certificate must be of use. What is checked of each: its time,
//! its names, what it may be used for, how many may follow it, and its signature (RFC 5280, section
//! 6.1; the attestation process, section 3.2.3). There are no revocation lists in this PKI: the
//! certificates of its last levels are good for hours.

use crate::attestation::certificate::Certificate;
use crate::attestation::error::AttestationError;
use crate::attestation::roots::Roots;
use crate::clock::Timestamp;

/// Checks the chain of a document. Returns the key of its own certificate, a point of P-384.
pub(super) fn verify(
    bundle: &[Vec<u8>],
    certificate: &[u8],
    roots: &Roots,
    now: Timestamp,
) -> Result<Vec<u8>, AttestationError> {
    if !bundle.first().is_some_and(|root| roots.contain(root)) {
        return Err(AttestationError::UnknownRoot);
    }
    let ders = bundle.iter().map(Vec::as_slice).chain([certificate]);
    let mut above: Option<Certificate> = None;
    for (place, der) in ders.enumerate() {
        let fault = |fault| AttestationError::Certificate(place, fault);
        let one = Certificate::parse(der).map_err(fault)?;
        one.check_validity(now).map_err(fault)?;
        if place < bundle.len() {
            // Authorities between it and the document's own certificate.
            let below = bundle.len() - 1 - place;
            one.check_authority(below).map_err(fault)?;
        } else {
            one.check_signer().map_err(fault)?;
        }
        if let Some(issuer) = &above {
            one.check_issued_by(issuer).map_err(fault)?;
        }
        above = Some(one);
    }
    above.map_or(Err(AttestationError::UnknownRoot), |one| Ok(one.key))
}
