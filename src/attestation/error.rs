//! Why an attestation document is refused.

/// Why an attestation document is refused. No text of it comes from the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// It is not a document: this part of it is not what it must be.
    #[error("The attestation document is malformed: {0}.")]
    Malformed(&'static str),
    /// The first certificate of its bundle is not a configured root.
    #[error("The attestation document is not of a trusted root.")]
    UnknownRoot,
    /// A certificate of its chain, counted from 0 for the root, has this fault.
    #[error("Certificate {0} of the attestation document {1}.")]
    Certificate(usize, &'static str),
    /// Its certificate's key has not signed it.
    #[error("The signature of the attestation document does not verify.")]
    Signature,
    /// It is too old.
    #[error("The attestation document is more than 300 seconds old.")]
    Old,
    /// It comes from the future.
    #[error("The attestation document is from more than 300 seconds ahead.")]
    Early,
    /// It has no public key.
    #[error("The attestation document has no public_key.")]
    NoKey,
    /// Its public key is not one that plaintexts are sealed to.
    #[error(
        "The public_key of the attestation document is not an RSA key of 2048 bits in DER (SubjectPublicKeyInfo)."
    )]
    Key,
}

impl AttestationError {
    /// The labels of [`Self::label`].
    pub const LABELS: [&'static str; 7] = [
        "malformed",
        "unknown_root",
        "certificate",
        "signature",
        "old",
        "early",
        "key",
    ];

    /// The label of `keymill_attestation_documents_total`, by its place in [`Self::LABELS`].
    #[must_use]
    pub fn label(&self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::UnknownRoot => 1,
            Self::Certificate(..) => 2,
            Self::Signature => 3,
            Self::Old => 4,
            Self::Early => 5,
            Self::NoKey | Self::Key => 6,
        }
    }
}
