//! The records of the last uses of keys: one of each shard, and one that says since when they are
//! recorded. Former builds wrote one record with both, which is read.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::regions::{RegionalId, Regions};
use crate::keystore::body::{encode as encode_body, split};
use crate::keystore::last_use::{LastUse, UsesRecord, UsesShard};
use crate::keystore::record::Record;
use crate::operation::Operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastUsesBody {
    /// Absent in the record of a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    keys: BTreeMap<String, LastUseBody>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastUseBody {
    operation: String,
    time: u64,
    event_id: String,
    request_id: String,
}

/// The record with the time since which uses are recorded.
pub(in crate::keystore) fn encode_since(since: Timestamp) -> SecretBytes {
    let body = LastUsesBody {
        since: Some(since.0),
        keys: BTreeMap::new(),
    };
    encode_body(&body, &[])
}

/// The record of a shard.
pub(in crate::keystore) fn encode(
    uses: &[(RegionalId, Arc<LastUse>)],
    regions: &Regions,
) -> SecretBytes {
    let body = |last: &LastUse| LastUseBody {
        operation: last.operation.name().to_owned(),
        time: last.time.0,
        event_id: last.event_id.clone(),
        request_id: last.request_id.clone(),
    };
    let keys = uses.iter();
    let metadata = LastUsesBody {
        since: None,
        keys: keys
            .map(|(key, last)| (regions.written_key(*key), body(last)))
            .collect(),
    };
    encode_body(&metadata, &[])
}

pub(super) fn decode(
    record: &Record,
    plaintext: &SecretBytes,
    regions: &Regions,
) -> Option<UsesRecord> {
    let (body, secrets) = split::<LastUsesBody>(plaintext)?;
    let last_use = |(key, last): (String, LastUseBody)| {
        let last = LastUse {
            operation: Operation::using_a_key(&last.operation)?,
            time: Timestamp(last.time),
            event_id: last.event_id,
            request_id: last.request_id,
        };
        Some((regions.read_key(&key).ok()?, last))
    };
    let keys = body.keys.into_iter().map(last_use);
    let keys: Vec<_> = keys.collect::<Option<_>>()?;
    if !secrets.is_empty() {
        return None;
    }
    if record.id.is_empty() {
        return Some(UsesRecord::Since(Timestamp(body.since?), keys));
    }
    // Each key is in the record of its own shard, and no other record of it counts.
    let belongs = |key: &RegionalId| UsesShard::of(*key).to_string() == record.id;
    let whole =
        body.since.is_none() && !keys.is_empty() && keys.iter().all(|(key, _)| belongs(key));
    whole.then_some(UsesRecord::OfShard(keys))
}
