//! Custom key stores, and the keys of other key managers that KMS keys in them stand for.
//!
//! Source: AWS KMS API reference, `CustomKeyStoresListEntry` and `CreateKey`.

use std::fmt;
use std::str::FromStr;

/// The id of a custom key store: `cks-` and 17 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyStoreId(u128);

/// The text is not the id of a custom key store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a custom key store")]
pub struct InvalidKeyStoreId;

const PREFIX: &str = "cks-";
const DIGITS: usize = 17;
const BITS: u32 = 68;
const _: () = assert!(BITS as usize == 4 * DIGITS, "a digit has four bits");

impl KeyStoreId {
    /// The id of these random bytes, of which it takes 68 bits.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes) >> (u128::BITS - BITS))
    }
}

impl fmt::Display for KeyStoreId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}{:0DIGITS$x}", self.0)
    }
}

impl FromStr for KeyStoreId {
    type Err = InvalidKeyStoreId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyStoreId> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidKeyStoreId)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != DIGITS || !digits.bytes().all(is_digit) {
            return Err(InvalidKeyStoreId);
        }
        let number = u128::from_str_radix(digits, 16).map_err(|_| InvalidKeyStoreId)?;
        Ok(Self(number))
    }
}

/// `XksKeyId`: the name of an external key for its proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExternalKeyId(Box<str>);

/// The text is not an `XksKeyId`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an external key")]
pub struct InvalidExternalKeyId;

impl ExternalKeyId {
    /// The most characters.
    pub const CHARACTERS_MAX: usize = 128;

    /// Whether text has only the characters of such an id, and one at least.
    #[must_use]
    pub fn has_characters(text: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExternalKeyId {
    type Err = InvalidExternalKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidExternalKeyId> {
        if text.len() <= Self::CHARACTERS_MAX && Self::has_characters(text) {
            return Ok(Self(text.into()));
        }
        Err(InvalidExternalKeyId)
    }
}

/// What a KMS key in an external key store is beside what other keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InKeyStore {
    /// The key store.
    pub id: KeyStoreId,
    /// The external key.
    pub external_key: ExternalKeyId,
    /// Whether the key store is connected. The record of the key store has it, and not that of the
    /// key: a snapshot fills it in.
    pub is_connected: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse() {
        let id = KeyStoreId::from_random([0xab; 16]);
        assert_eq!(id.to_string(), "cks-abababababababab".to_owned() + "a");
        assert_eq!(
            KeyStoreId::from_random([0; 16]).to_string(),
            "cks-00000000000000000"
        );
        for text in ["cks-1234567890abcdef0", "cks-00000000000000000"] {
            assert_eq!(text.parse::<KeyStoreId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "cks-",
            "cks-1234567890abcdef",
            "cks-1234567890abcdef01",
            "cks-1234567890ABCDEF0",
            "cks-+234567890abcdef0",
            "cks_1234567890abcdef0",
            "1234567890abcdef0",
        ] {
            assert_eq!(text.parse::<KeyStoreId>(), Err(InvalidKeyStoreId), "{text}");
        }
    }

    #[test]
    fn external_keys_have_the_names_that_aws_takes() {
        let long = "a".repeat(128);
        for text in ["a", "orders-main-1", "A_b.c-9", &long] {
            assert_eq!(text.parse::<ExternalKeyId>().unwrap().as_str(), text);
        }
        let longer = "a".repeat(129);
        for text in ["", "a b", "a/b", "ä", &longer] {
            assert_eq!(text.parse::<ExternalKeyId>(), Err(InvalidExternalKeyId));
        }
    }
}
