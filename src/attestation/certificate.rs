//! One certificate of an attestation document, and what it may be used for.
//!
//! `x509-cert` parses it. Its key is on P-384 and its signature ECDSA with SHA-384. Extensions that
//! are critical and not understood are refused, and so are constraints on names, which are not
//! evaluated.

use crate::clock::Timestamp;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use std::time::Duration;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Error, Reader, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
/// Bytes of a point of P-384 that is not compressed.
const POINT_BYTES: usize = 97;

/// Why a certificate is refused, as the end of a sentence.
type Fault = &'static str;

/// A certificate that has been parsed.
pub(super) struct Certificate {
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// When its validity begins and ends, in seconds since 1970.
    validity: (Duration, Duration),
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    /// Its key, a point of P-384.
    pub(super) key: Vec<u8>,
    /// What is signed, as it is in the certificate.
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate in DER.
    pub(super) fn parse(der: &[u8]) -> Result<Self, Fault> {
        const NOT_X509: Fault = "is not an X.509 certificate in DER";
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| NOT_X509)?;
        let signed = signed(der).map_err(|_| NOT_X509)?;
        let certificate = parsed.tbs_certificate();
        if certificate.version() != Version::V3 {
            return Err("is not of version 3");
        }
        let algorithm = parsed.signature_algorithm();
        if algorithm.oid != ECDSA_WITH_SHA384
            || algorithm.parameters.is_some()
            || certificate.signature() != algorithm
        {
            return Err("is not signed by ECDSA with SHA-384");
        }
        let key = certificate.subject_public_key_info();
        let point = key.subject_public_key.as_bytes().unwrap_or_default();
        let parameters = key.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        if key.algorithm.oid != ID_EC_PUBLIC_KEY
            || curve != Some(SECP384R1)
            || point.len() != POINT_BYTES
        {
            return Err("does not have a key on P-384");
        }
        let extensions = certificate.extensions().map_or(&[][..], Vec::as_slice);
        let (constraints, usage) = understood(extensions)?;
        let validity = certificate.validity();
        Ok(Self {
            issuer: certificate.issuer().to_der().map_err(|_| NOT_X509)?,
            subject: certificate.subject().to_der().map_err(|_| NOT_X509)?,
            validity: (
                validity.not_before.to_unix_duration(),
                validity.not_after.to_unix_duration(),
            ),
            constraints,
            usage,
            key: point.to_vec(),
            signed: signed.to_vec(),
            signature: parsed.signature().as_bytes().ok_or(NOT_X509)?.to_vec(),
        })
    }

    /// Checks that it is valid at this time.
    pub(super) fn check_validity(&self, now: Timestamp) -> Result<(), Fault> {
        let now = Duration::from_secs(now.unix_seconds());
        let (begins, ends) = self.validity;
        if now < begins {
            return Err("is not valid yet");
        }
        if ends < now {
            return Err("has expired");
        }
        Ok(())
    }

    /// Checks that it is an authority, which `below` further ones may follow.
    pub(super) fn check_authority(&self, below: usize) -> Result<(), Fault> {
        let constraints = self.constraints.as_ref().filter(|found| found.ca);
        let constraints = constraints.ok_or("is not an authority")?;
        let length = constraints.path_len_constraint;
        if length.is_some_and(|length| usize::from(length) < below) {
            return Err("has more authorities below it than it allows");
        }
        if !self.usage.as_ref().is_some_and(KeyUsage::key_cert_sign) {
            return Err("may not sign certificates");
        }
        Ok(())
    }

    /// Checks that it may sign a document.
    pub(super) fn check_signer(&self) -> Result<(), Fault> {
        let constraints = self.constraints.as_ref();
        if constraints.is_some_and(|found| found.ca || found.path_len_constraint.is_some()) {
            return Err("is an authority, and signs a document");
        }
        if !self.usage.as_ref().is_some_and(KeyUsage::digital_signature) {
            return Err("may not sign documents");
        }
        Ok(())
    }

    /// Checks that the authority has this name and has signed it.
    pub(super) fn check_issued_by(&self, issuer: &Self) -> Result<(), Fault> {
        if self.issuer != issuer.subject {
            return Err("is not of the authority before it");
        }
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, &issuer.key);
        let verified = key.verify(&self.signed, &self.signature);
        verified.map_err(|_| "is not signed by the authority before it")
    }
}

/// What a certificate may be used for. Each extension is there once.
fn understood(
    extensions: &[Extension],
) -> Result<(Option<BasicConstraints>, Option<KeyUsage>), Fault> {
    let (mut constraints, mut usage) = (None, None);
    for (at, extension) in extensions.iter().enumerate() {
        let id = extension.extn_id;
        if extensions[..at].iter().any(|other| other.extn_id == id) {
            return Err("has an extension twice");
        }
        let value = extension.extn_value.as_bytes();
        match id {
            BASIC_CONSTRAINTS => {
                let read = BasicConstraints::from_der(value);
                constraints = Some(read.map_err(|_| "has broken basic constraints")?);
            }
            KEY_USAGE => {
                let read = KeyUsage::from_der(value);
                usage = Some(read.map_err(|_| "has a broken key usage")?);
            }
            NAME_CONSTRAINTS => return Err("has constraints on names"),
            _ if extension.critical => return Err("has a critical extension that is not known"),
            _ => {}
        }
    }
    Ok((constraints, usage))
}

/// The bytes of a certificate that are signed (`tbsCertificate`).
fn signed(der: &[u8]) -> Result<&[u8], Error> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|inner| {
        let signed = inner.tlv_bytes()?;
        // The algorithm and the signature, which were parsed already.
        inner.tlv_bytes()?;
        inner.tlv_bytes()?;
        Ok(signed)
    })
}
