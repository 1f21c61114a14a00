//! When a KMS key was last used, and for what.
//!
//! Source: AWS KMS API reference, `GetKeyLastUsage`, `KeyLastUsageData`.

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::operation::Operation;
use std::collections::BTreeMap;
/// The last successful cryptographic operation with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// A use of a key, by the operation's facts.
    pub operation: Operation,
    /// When; the audit log has seconds.
    pub time: Timestamp,
    /// The id of its audit record, a UUID.
    pub event_id: String,
    /// The id of the request, a UUID.
    pub request_id: String,
}

/// The last uses of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUses {
    /// From when on uses were noted.
    pub since: Timestamp,
    /// By key; a key that has not been used since then has none.
    pub by_key: BTreeMap<KeyId, LastUse>,
}
