//! When a KMS key was last used, and for what.
//!
//! Source: AWS KMS API reference, `GetKeyLastUsage`, `KeyLastUsageData`.

use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::key::regions::RegionalId;
use crate::operation::Operation;
use crate::persistent::PersistentMap;
use std::fmt;
use std::sync::Arc;

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
    pub by_key: PersistentMap<RegionalId, Arc<LastUse>>,
    /// Whether they are in one record, as former builds wrote them.
    pub is_one_record: bool,
}

impl LastUses {
    /// None are known.
    #[must_use]
    pub fn since(since: Timestamp) -> Self {
        Self {
            since,
            by_key: PersistentMap::default(),
            is_one_record: false,
        }
    }

    /// Those of a shard, in the order of the keys.
    pub fn of_shard(&self, shard: UsesShard) -> impl Iterator<Item = (&RegionalId, &Arc<LastUse>)> {
        let uses = self.by_key.seek(move |key| UsesShard::of(*key) < shard);
        uses.take_while(move |(key, _)| UsesShard::of(**key) == shard)
    }

    /// Notes a use, unless a later one is known.
    pub(super) fn note(&mut self, key: RegionalId, last: Arc<LastUse>) {
        let known = self.by_key.get(&key);
        if known.is_none_or(|known| known.time <= last.time) {
            self.by_key.insert(key, last);
        }
    }

    /// Puts these in the place of those of the shard.
    pub(super) fn replace(&mut self, shard: UsesShard, uses: Vec<(RegionalId, Arc<LastUse>)>) {
        let before: Vec<_> = self.of_shard(shard).map(|(key, _)| *key).collect();
        for key in before {
            self.by_key.remove(&key);
        }
        self.by_key.extend(uses);
    }
}

/// The keys whose last uses are in one record of the store: those whose ids have the same first 12
/// bits. Of few keys, each has a record of its own; of many, a use rewrites 1/4096 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsesShard(u16);

impl UsesShard {
    /// How many there are.
    pub const COUNT: usize = 1 << 12;

    /// The shard of a key.
    #[must_use]
    pub fn of(key: RegionalId) -> Self {
        let [first, second, ..] = *key.id.bytes();
        Self(u16::from_be_bytes([first, second]) >> 4)
    }

    /// The first of all keys that could be in it.
    #[must_use]
    pub fn first_key(self) -> RegionalId {
        let [first, second] = (self.0 << 4).to_be_bytes();
        let mut bytes = [0; 16];
        (bytes[0], bytes[1]) = (first, second);
        RegionalId::home(KeyId::from_parts(bytes, false))
    }
}

/// Three hex digits: the first three of the key ids.
impl fmt::Display for UsesShard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:03x}", self.0)
    }
}

/// Content of a record of last uses.
pub(super) enum UsesRecord {
    /// The time since which uses are recorded; and the uses of all keys, if a former build wrote
    /// the record.
    Since(Timestamp, Vec<(RegionalId, LastUse)>),
    /// The uses of the keys of a shard.
    OfShard(Vec<(RegionalId, LastUse)>),
}
