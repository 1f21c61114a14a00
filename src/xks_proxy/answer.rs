//! Parses the answers of a proxy. Members that the specification does not know are passed over,
//! since it may get more.
//!
//! A reason says what is wrong and repeats nothing of an answer: it goes to the log, and an answer
//! may be a text that the proxy has decrypted.
//!
//! Source: AWS KMS External Key Store Proxy API specification, "API operations", "Error codes".

use crate::xks_proxy::error::{ErrorName, ProxyError};
use crate::xks_proxy::sealed::{AES_256, DECRYPT, ENCRYPT, InvalidSealed, Sealed};
use http::StatusCode;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use subtle::ConstantTimeEq;

/// The most usages of a key, and the most members of a fleet.
const ENTRIES_MAX: usize = 10;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAnswer(&'static str);

impl From<InvalidAnswer> for ProxyError {
    fn from(error: InvalidAnswer) -> Self {
        Self::InvalidResponse(error.to_string())
    }
}

/// How a proxy and what is behind it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How many proxies there are, at least 1.
    pub fleet_size: u64,
    /// The external key managers, 1 to 10.
    pub managers: Vec<HealthStatus>,
}

/// How an external key manager is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthStatus {
    /// It serves.
    Active,
    /// It serves, and something is wrong.
    Degraded,
    /// It does not serve.
    Unavailable,
}

/// What a proxy says of an external key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalKeyMetadata {
    /// Whether it is a 256-bit key of AES.
    pub is_aes_256: bool,
    /// Whether it encrypts.
    pub encrypts: bool,
    /// Whether it decrypts.
    pub decrypts: bool,
    /// Whether it may be used now.
    pub is_enabled: bool,
}

impl ExternalKeyMetadata {
    /// Whether a KMS key can stand on it.
    #[must_use]
    pub fn is_usable(self) -> bool {
        self.is_aes_256 && self.encrypts && self.decrypts && self.is_enabled
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HealthAnswer {
    xks_proxy_fleet_size: u64,
    #[serde(rename = "xksProxyVendor")]
    _proxy_vendor: String,
    #[serde(rename = "xksProxyModel")]
    _proxy_model: String,
    #[serde(rename = "ekmVendor")]
    _manager_vendor: String,
    ekm_fleet_details: Vec<ManagerMember>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagerMember {
    #[serde(rename = "id")]
    _id: String,
    #[serde(rename = "model")]
    _model: String,
    health_status: HealthStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetadataAnswer {
    key_spec: String,
    key_usage: Vec<String>,
    key_status: KeyStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum KeyStatus {
    Enabled,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncryptAnswer {
    ciphertext: Base64,
    initialization_vector: Base64,
    authentication_tag: Base64,
    ciphertext_metadata: Option<Base64>,
    ciphertext_data_integrity_value: Base64,
}

#[derive(Deserialize)]
struct DecryptAnswer {
    plaintext: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    error_name: String,
}

/// Bytes in the standard alphabet of base64, with their padding.
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = base64_simd::STANDARD.decode_to_vec(text);
        bytes.map(Self).map_err(|_| D::Error::custom("not base64"))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidAnswer> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(InvalidAnswer("it is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Eof | Category::Io => InvalidAnswer("its JSON ends early"),
        Category::Syntax => InvalidAnswer("it is not JSON"),
        Category::Data => InvalidAnswer("a member is missing, or not of its type"),
    })
}

/// Parses the answer to a request for health.
///
/// # Errors
/// [`InvalidAnswer`].
pub fn health(body: &[u8]) -> Result<Health, InvalidAnswer> {
    let answer: HealthAnswer = parse(body)?;
    if answer.xks_proxy_fleet_size == 0 {
        return Err(InvalidAnswer("xksProxyFleetSize is 0"));
    }
    if !(1..=ENTRIES_MAX).contains(&answer.ekm_fleet_details.len()) {
        return Err(InvalidAnswer("ekmFleetDetails has not 1 to 10 members"));
    }
    let managers = answer.ekm_fleet_details.iter();
    Ok(Health {
        fleet_size: answer.xks_proxy_fleet_size,
        managers: managers.map(|manager| manager.health_status).collect(),
    })
}

/// Parses the answer to a request for a key's metadata.
///
/// # Errors
/// [`InvalidAnswer`].
pub fn key_metadata(body: &[u8]) -> Result<ExternalKeyMetadata, InvalidAnswer> {
    let answer: MetadataAnswer = parse(body)?;
    if answer.key_usage.len() > ENTRIES_MAX {
        return Err(InvalidAnswer("keyUsage has more than 10 members"));
    }
    let is_for = |usage: &str| answer.key_usage.iter().any(|one| one == usage);
    Ok(ExternalKeyMetadata {
        is_aes_256: answer.key_spec == AES_256,
        encrypts: is_for(ENCRYPT),
        decrypts: is_for(DECRYPT),
        is_enabled: matches!(answer.key_status, KeyStatus::Enabled),
    })
}

/// Parses the answer to a request to encrypt so many bytes with this additional data, and checks
/// its integrity value.
///
/// # Errors
/// [`InvalidAnswer`].
pub fn encrypted(
    body: &[u8],
    plaintext_bytes: usize,
    additional: &[u8],
) -> Result<Sealed, InvalidAnswer> {
    let answer: EncryptAnswer = parse(body)?;
    let Base64(ciphertext) = answer.ciphertext;
    if ciphertext.len() != plaintext_bytes {
        return Err(InvalidAnswer("ciphertext is not as long as the plaintext"));
    }
    let tag = answer.authentication_tag.0.try_into();
    let tag = tag.map_err(|_| InvalidAnswer("authenticationTag has not 16 bytes"))?;
    let metadata = answer.ciphertext_metadata.map_or(Vec::new(), |of| of.0);
    let vector = answer.initialization_vector.0;
    let sealed = Sealed::new(ciphertext, &vector, tag, &metadata);
    let sealed = sealed.map_err(|invalid| match invalid {
        InvalidSealed::Ciphertext => InvalidAnswer("ciphertext is too long"),
        InvalidSealed::Vector => InvalidAnswer("initializationVector has not 12 or 16 bytes"),
        InvalidSealed::Metadata => InvalidAnswer("ciphertextMetadata has more than 20 bytes"),
    })?;
    let value = answer.ciphertext_data_integrity_value.0;
    if !bool::from(sealed.integrity_value(additional).ct_eq(&value)) {
        return Err(InvalidAnswer("ciphertextDataIntegrityValue is another one"));
    }
    Ok(sealed)
}

/// Parses the answer to a request to decrypt so many bytes.
///
/// # Errors
/// [`InvalidAnswer`].
pub fn decrypted(body: &[u8], ciphertext_bytes: usize) -> Result<Vec<u8>, InvalidAnswer> {
    let answer: DecryptAnswer = parse(body)?;
    let Base64(plaintext) = answer.plaintext;
    if plaintext.len() != ciphertext_bytes {
        return Err(InvalidAnswer("plaintext is not as long as the ciphertext"));
    }
    Ok(plaintext)
}

/// The error of an answer with a status other than 200.
#[must_use]
pub fn refusal(status: StatusCode, body: &[u8]) -> ProxyError {
    let name = match parse::<Refusal>(body) {
        Ok(refusal) => refusal.error_name.parse().ok(),
        Err(_) => None,
    };
    let unnamed = || {
        let status = status.as_u16();
        ProxyError::InvalidResponse(format!("status {status} without a known errorName"))
    };
    name.map_or_else(unnamed, |name: ErrorName| ProxyError::Refused(name))
}

#[cfg(test)]
mod tests;
