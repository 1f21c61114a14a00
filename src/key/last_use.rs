//! When a KMS key was last used, and for what.
//!
//! Source: AWS KMS API reference, `GetKeyLastUsage`, `KeyLastUsageData`.

use crate::clock::Timestamp;
use crate::key::KeyId;
use std::collections::BTreeMap;

/// The operations that use a key: those that encrypt, decrypt, sign, verify, or derive something
/// with it.
const OPERATIONS: [&str; 12] = [
    "Decrypt",
    "DeriveSharedSecret",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "ReEncrypt",
    "Sign",
    "Verify",
    "VerifyMac",
];

/// The last successful cryptographic operation with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// One of those that use a key, see [`Self::operation`].
    pub operation: &'static str,
    /// When; the audit log has seconds.
    pub time: Timestamp,
    /// The id of its audit record, a UUID.
    pub event_id: String,
    /// The id of the request, a UUID.
    pub request_id: String,
}

impl LastUse {
    /// The operation of this name, if it is one that uses a key.
    #[must_use]
    pub fn operation(name: &str) -> Option<&'static str> {
        OPERATIONS.into_iter().find(|operation| *operation == name)
    }
}

/// The last uses of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUses {
    /// From when on uses were noted.
    pub since: Timestamp,
    /// By key; a key that has not been used since then has none.
    pub by_key: BTreeMap<KeyId, LastUse>,
}
