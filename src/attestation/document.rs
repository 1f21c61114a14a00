//! The form of an attestation document: `COSE_Sign1` (RFC 9052, section 4.2) around a map in CBOR.
//!
//! `coset` and `ciborium` read it, within bounds that are checked before: bytes, levels of nesting,
//! and a protected header that can hold one algorithm and nothing else.

use crate::attestation::error::AttestationError;
use crate::attestation::measurements::{Measurements, Platform};
use crate::clock::Timestamp;
use crate::policy::Measurement;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use coset::cbor::Value;
use coset::cbor::de::from_reader_with_recursion_limit;
use coset::iana::{Algorithm, CborTag};
use coset::{AsCborValue, CoseSign1, HeaderBuilder, RegisteredLabelWithPrivate};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Bytes of the map (section 3.1 of the attestation process).
const PAYLOAD_BYTES_MAX: usize = 16_384;
/// Bytes of everything around it: two headers, the lengths, a signature.
const AROUND_BYTES_MAX: usize = 256;
/// Bytes of the protected header: `{1: -35}` has four.
const PROTECTED_BYTES_MAX: usize = 8;
/// Levels that values are nested in; the deepest, a register in its map, is at the third.
const DEPTH_MAX: usize = 8;
/// Characters of a module's id. The specification has no bound; AWS's ids have fewer than 50.
const MODULE_ID_BYTES_MAX: usize = 256;
/// Bytes of a certificate, and of a public key (section 2.2).
const CERTIFICATE_BYTES: RangeInclusive<usize> = 1..=1024;
/// Bytes of what the enclave adds for its own use (section 2.2).
const USER_DATA_BYTES_MAX: usize = 1024;
/// Authorities of a chain. The specification has no bound; AWS's chains have four.
const BUNDLE_MAX: usize = 8;

/// A document that has the right form, and is not verified.
pub struct Document {
    signed: CoseSign1,
    /// What was measured.
    pub measurements: Measurements,
    /// When it was made, to the millisecond.
    pub time: Timestamp,
    /// The certificate that it is signed with, in DER.
    pub certificate: Vec<u8>,
    /// The authorities, from the root to that which has signed the certificate.
    pub bundle: Vec<Vec<u8>>,
    /// The key that answers are sealed to.
    pub public_key: Option<Vec<u8>>,
}

type Parsed<T> = Result<T, AttestationError>;

fn malformed<T>(part: &'static str) -> Parsed<T> {
    Err(AttestationError::Malformed(part))
}

impl Document {
    /// The most bytes of a document.
    pub const BYTES_MAX: usize = PAYLOAD_BYTES_MAX + AROUND_BYTES_MAX;

    /// Reads a document.
    ///
    /// # Errors
    /// [`AttestationError::Malformed`], with the part that is.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        if bytes.len() > Self::BYTES_MAX {
            return malformed("it has more than 16640 bytes");
        }
        let signed = signed(bytes)?;
        let payload = signed.payload.as_deref().unwrap_or_default();
        if payload.is_empty() || payload.len() > PAYLOAD_BYTES_MAX {
            return malformed("the payload does not have 1 to 16384 bytes");
        }
        let mut members = Members::of(value(payload, "the payload is not CBOR")?)?;
        let module_id = members.module_id()?;
        members.digest()?;
        let time = members.timestamp()?;
        let (platform, registers) = members.registers()?;
        let certificate =
            members.required_bytes("certificate", "certificate is not 1 to 1024 bytes")?;
        let bundle = members.bundle()?;
        let public_key = members.bytes(
            "public_key",
            CERTIFICATE_BYTES,
            "public_key is not 1 to 1024 bytes",
        )?;
        let most = 0..=USER_DATA_BYTES_MAX;
        members.bytes(
            "user_data",
            most.clone(),
            "user_data is not up to 1024 bytes",
        )?;
        members.bytes("nonce", most, "nonce is not up to 1024 bytes")?;
        Ok(Self {
            signed,
            measurements: Measurements::new(platform, module_id, registers),
            time,
            certificate,
            bundle,
            public_key,
        })
    }

    /// Checks that the holder of the key of this point of P-384 has signed it.
    ///
    /// # Errors
    /// [`AttestationError::Signature`].
    pub fn verify(&self, signer: &[u8]) -> Parsed<()> {
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, signer);
        let verified = self
            .signed
            .verify_signature(b"", |signature, signed| key.verify(signed, signature));
        verified.map_err(|_| AttestationError::Signature)
    }
}

/// One value in CBOR, with nothing behind it.
fn value(mut bytes: &[u8], fault: &'static str) -> Parsed<Value> {
    match from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX) {
        Ok(value) if bytes.is_empty() => Ok(value),
        _ => malformed(fault),
    }
}

/// The structure around the map, with or without its tag.
fn signed(bytes: &[u8]) -> Parsed<CoseSign1> {
    const FAULT: &str = "it is not a COSE_Sign1";
    let value = match value(bytes, FAULT)? {
        Value::Tag(tag, value) if tag == CborTag::CoseSign1 as u64 => *value,
        value => value,
    };
    let parts = value.as_array().map(Vec::as_slice);
    let Some(
        [
            Value::Bytes(protected),
            Value::Map(unprotected),
            Value::Bytes(_),
            Value::Bytes(_),
        ],
    ) = parts
    else {
        return malformed(FAULT);
    };
    if !unprotected.is_empty() {
        return malformed("its unprotected header is not empty");
    }
    const PROTECTED: &str = "its protected header is not {1: -35}, which is ES384";
    if protected.len() > PROTECTED_BYTES_MAX {
        return malformed(PROTECTED);
    }
    let Ok(signed) = CoseSign1::from_cbor_value(value) else {
        return malformed(FAULT);
    };
    let es384 = RegisteredLabelWithPrivate::Assigned(Algorithm::ES384);
    if signed.protected.header != HeaderBuilder::new().algorithm_label(es384).build() {
        return malformed(PROTECTED);
    }
    Ok(signed)
}

/// The members of the map that are still to be read.
struct Members(BTreeMap<String, Value>);

impl Members {
    fn of(payload: Value) -> Parsed<Self> {
        let Value::Map(pairs) = payload else {
            return malformed("the payload is not a map");
        };
        let mut members = BTreeMap::new();
        for (name, value) in pairs {
            let Value::Text(name) = name else {
                return malformed("a member's name is not a text");
            };
            if members.insert(name, value).is_some() {
                return malformed("a member is there twice");
            }
        }
        Ok(Self(members))
    }

    /// A member. One that is null is absent: so the hypervisor writes those that it was not given.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn module_id(&mut self) -> Parsed<String> {
        match self.take("module_id") {
            Some(Value::Text(id)) if (1..=MODULE_ID_BYTES_MAX).contains(&id.len()) => Ok(id),
            _ => malformed("module_id is not a text of 1 to 256 bytes"),
        }
    }

    fn digest(&mut self) -> Parsed<()> {
        match self.take("digest") {
            Some(Value::Text(digest)) if digest == "SHA384" => Ok(()),
            _ => malformed("digest is not SHA384"),
        }
    }

    fn timestamp(&mut self) -> Parsed<Timestamp> {
        let number = self
            .take("timestamp")
            .and_then(|value| value.into_integer().ok());
        let milliseconds = number.and_then(|number| u64::try_from(number).ok());
        match milliseconds.and_then(|milliseconds| milliseconds.checked_mul(1000)) {
            Some(microseconds) if microseconds > 0 => Ok(Timestamp(microseconds)),
            _ => malformed("timestamp is not a number of milliseconds"),
        }
    }

    fn registers(&mut self) -> Parsed<(Platform, BTreeMap<u8, Vec<u8>>)> {
        match (self.take("pcrs"), self.take("nitrotpm_pcrs")) {
            (Some(pcrs), None) => {
                let found = registers(pcrs, Measurement::PCRS, Platform::Enclave);
                let found = found.map(|found| (Platform::Enclave, found));
                found.map_or_else(|| malformed("pcrs are not registers of an enclave"), Ok)
            }
            (None, Some(pcrs)) => {
                let found = registers(pcrs, Measurement::NITRO_TPM_PCRS, Platform::NitroTpm);
                let found = found.map(|found| (Platform::NitroTpm, found));
                found.map_or_else(|| malformed("nitrotpm_pcrs are not registers of a TPM"), Ok)
            }
            _ => malformed("neither pcrs nor nitrotpm_pcrs, or both"),
        }
    }

    fn bundle(&mut self) -> Parsed<Vec<Vec<u8>>> {
        const FAULT: &str = "cabundle is not 1 to 8 certificates of 1 to 1024 bytes";
        let certificates = match self.take("cabundle") {
            Some(Value::Array(list)) if (1..=BUNDLE_MAX).contains(&list.len()) => list,
            _ => return malformed(FAULT),
        };
        let bytes = |value: Value| match value {
            Value::Bytes(bytes) if CERTIFICATE_BYTES.contains(&bytes.len()) => Ok(bytes),
            _ => malformed(FAULT),
        };
        certificates.into_iter().map(bytes).collect()
    }

    fn required_bytes(&mut self, name: &str, fault: &'static str) -> Parsed<Vec<u8>> {
        let bytes = self.bytes(name, CERTIFICATE_BYTES, fault)?;
        bytes.map_or_else(|| malformed(fault), Ok)
    }

    fn bytes(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
        fault: &'static str,
    ) -> Parsed<Option<Vec<u8>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bytes(bytes)) if length.contains(&bytes.len()) => Ok(Some(bytes)),
            Some(_) => malformed(fault),
        }
    }
}

/// Registers by index, each below `count` and there once, with a length that the platform has.
fn registers(pcrs: Value, count: u8, of: Platform) -> Option<BTreeMap<u8, Vec<u8>>> {
    let pairs = pcrs.into_map().ok()?;
    let mut found = BTreeMap::new();
    for (index, value) in pairs {
        let index = u8::try_from(index.into_integer().ok()?).ok()?;
        let value = value.into_bytes().ok()?;
        let fits = index < count && of.register_bytes().contains(&value.len());
        if !fits || found.insert(index, value).is_some() {
            return None;
        }
    }
    (!found.is_empty()).then_some(found)
}
