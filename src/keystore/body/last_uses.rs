//! The record of the last uses of all keys. There is one such record, and it is replaced whole, so
//! that all keys in use take one write a minute and not one each.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::regions::Regions;
use crate::keystore::body::{encode as encode_body, split};
use crate::keystore::last_use::{LastUse, LastUses};
use crate::keystore::record::Record;
use crate::operation::Operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastUsesBody {
    since: u64,
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

pub(in crate::keystore) fn encode(uses: &LastUses, regions: &Regions) -> SecretBytes {
    let body = |last: &LastUse| LastUseBody {
        operation: last.operation.name().to_owned(),
        time: last.time.0,
        event_id: last.event_id.clone(),
        request_id: last.request_id.clone(),
    };
    let by_key = uses.by_key.iter();
    let metadata = LastUsesBody {
        since: uses.since.0,
        keys: by_key
            .map(|(key, last)| (regions.written_key(*key), body(last)))
            .collect(),
    };
    encode_body(&metadata, &[])
}

pub(super) fn decode(
    record: &Record,
    plaintext: &SecretBytes,
    regions: &Regions,
) -> Option<LastUses> {
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
    let by_key = body.keys.into_iter().map(last_use);
    let uses = LastUses {
        since: Timestamp(body.since),
        by_key: by_key.collect::<Option<_>>()?,
    };
    // There is only one such record.
    (record.id.is_empty() && secrets.is_empty()).then_some(uses)
}
