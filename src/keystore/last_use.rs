//! When a KMS key was last used, and for what.
//!
//! Source: AWS KMS API reference, `GetKeyLastUsage`, `KeyLastUsageData`.

use crate::clock::Timestamp;
use crate::key::regions::RegionalId;
use crate::operation::Operation;
use std::collections::BTreeMap;
/// The last successful cryptographic operation with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// The operation; by its facts it is one that uses a key.
    pub operation: Operation,
    /// The time of the use, in seconds as in the audit log.
    pub time: Timestamp,
    /// The id of its audit record, a UUID.
    pub event_id: String,
    /// The id of the request, a UUID.
    pub request_id: String,
}

/// The last uses of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUses {
    /// The time since which uses are recorded.
    pub since: Timestamp,
    /// The last uses by key; a key without a use since then is absent.
    pub by_key: BTreeMap<RegionalId, LastUse>,
}
