//! The measurements of an attestation document, as conditions compare them and as the audit log has
//! them: in lower-case hex.

use crate::policy::Measurement;
use hex_simd::AsciiCase;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The registers of an enclave that the audit log has, beside the digest of its image.
const AUDITED_PCRS: [u8; 5] = [1, 2, 3, 4, 8];
/// The registers of a TPM that the audit log has.
const AUDITED_NITRO_TPM_PCRS: [u8; 6] = [4, 7, 8, 9, 16, 23];

/// What the measurements are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// An enclave: `pcrs`.
    Enclave,
    /// An instance with a TPM: `nitrotpm_pcrs`.
    NitroTpm,
}

impl Platform {
    /// The lengths that a register may have.
    #[must_use]
    pub fn register_bytes(self) -> &'static [usize] {
        match self {
            Self::Enclave => &[32, 48, 64],
            Self::NitroTpm => &[48],
        }
    }
}

/// Why no document has such measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMeasurements {
    /// Some are of an enclave, and some of a TPM.
    #[error("a document has the registers of an enclave or those of a TPM")]
    Platforms,
    /// A register has another length.
    #[error("a register of an enclave has 32, 48 or 64 bytes, and one of a TPM 48")]
    Length,
    /// Two names mean one register, as `ImageSha384` and `PCR0` do.
    #[error("a register is named twice")]
    Twice,
}

/// What was measured of the code that a document is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurements {
    platform: Platform,
    module_id: String,
    /// In hex, by index.
    registers: BTreeMap<u8, String>,
}

impl Measurements {
    /// Of these registers.
    pub(super) fn new(
        platform: Platform,
        module_id: String,
        registers: BTreeMap<u8, Vec<u8>>,
    ) -> Self {
        let hex = |(index, value)| (index, hex_simd::encode_to_string(value, AsciiCase::Lower));
        Self {
            platform,
            module_id,
            registers: registers.into_iter().map(hex).collect(),
        }
    }

    /// Measurements that no document has proved, to ask what policies make of them.
    ///
    /// # Errors
    /// [`InvalidMeasurements`], when no document could have them.
    pub fn supposed(
        named: impl IntoIterator<Item = (Measurement, Vec<u8>)>,
    ) -> Result<Self, InvalidMeasurements> {
        let (mut of, mut registers) = (None, BTreeMap::new());
        for (measurement, value) in named {
            let (platform, index) = place(measurement);
            if *of.get_or_insert(platform) != platform {
                return Err(InvalidMeasurements::Platforms);
            }
            if !platform.register_bytes().contains(&value.len()) {
                return Err(InvalidMeasurements::Length);
            }
            if registers.insert(index, value).is_some() {
                return Err(InvalidMeasurements::Twice);
            }
        }
        let platform = of.unwrap_or(Platform::Enclave);
        Ok(Self::new(platform, String::new(), registers))
    }

    /// The value of a condition key; an enclave has no register of a TPM, and the other way round.
    #[must_use]
    pub fn value(&self, measurement: Measurement) -> Option<&str> {
        let (platform, index) = place(measurement);
        let register = self.registers.get(&index).map(String::as_str);
        register.filter(|_| platform == self.platform)
    }

    /// The member `recipient` of an audit record, a JSON object (AWS KMS developer guide,
    /// "Monitoring requests for Nitro enclaves" and "… for NitroTPM").
    #[must_use]
    pub fn audited(&self) -> String {
        let mut members = Map::new();
        let mut put = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                members.insert(format!("attestationDocument{name}"), Value::from(value));
            }
        };
        put("ModuleId", Some(&self.module_id));
        put("EnclaveImageDigest", self.value(Measurement::ImageSha384));
        for index in AUDITED_PCRS {
            let name = format!("EnclavePCR{index}");
            put(&name, self.value(Measurement::Pcr(index)));
        }
        for index in AUDITED_NITRO_TPM_PCRS {
            let name = format!("NitroTPMPCR{index}");
            put(&name, self.value(Measurement::NitroTpmPcr(index)));
        }
        Value::Object(members).to_string()
    }
}

/// Where a measurement is found.
fn place(measurement: Measurement) -> (Platform, u8) {
    match measurement {
        Measurement::ImageSha384 => (Platform::Enclave, 0),
        Measurement::Pcr(index) => (Platform::Enclave, index),
        Measurement::NitroTpmPcr(index) => (Platform::NitroTpm, index),
    }
}
