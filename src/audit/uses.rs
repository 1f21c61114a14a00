//! The last use of each key, read from the records on their way to the log. A request does nothing
//! for it, and records that a killed process left in the journal count too.
//!
//! A record is a use when it is of a successful call of an operation that uses a key (a `DryRun`
//! never succeeds), or of a batch with rows. The uses are written into the store together with the
//! log's head, and are held here until then. A start reads the log's last file again, which it
//! reads for the chain anyway. So a killed process forgets uses of its last minute only if a new
//! file was begun in that minute.

use crate::audit::record::{KEYMILL, KMS, XKS};
use crate::clock::Timestamp;
use crate::key::regions::{RegionalId, Regions};
use crate::keystore::last_use::{LastUse, LastUses, UsesShard};
use crate::keystore::{Change, Snapshot};
use crate::operation::Operation;
use crate::policy::parse_date;
use memchr::{memchr, memmem, memrchr_iter};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The text between the parameters and the resources. Quotes in a value are escaped, so the last
/// occurrence in a record is ours.
const RESOURCES: &[u8] = b",\"responseElements\":null,\"resources\":[";

/// How many ends of records are remembered. A record with a remembered end is of keys whose last
/// use was noted already, and is not parsed.
const REPEATED_MAX: usize = 16;

/// Shards that are written in one change, so that others do not wait for all of them.
pub(super) const SHARDS_MAX: usize = 64;

/// The last uses of keys that are not known to be in the store.
pub(super) struct Uses {
    /// Those of the keys.
    regions: Regions,
    /// When this log began; the store may know an earlier one.
    since: Timestamp,
    /// Locked by the writer for one group, by callers that ask, and by each change that writes
    /// them; nothing is awaited under it. If it is poisoned, its entries are still whole.
    unwritten: Mutex<BTreeMap<RegionalId, Arc<LastUse>>>,
}

impl Uses {
    /// No use is known yet.
    pub(super) fn since(now: Timestamp, regions: Regions) -> Self {
        Self {
            regions,
            since: now,
            unwritten: Mutex::default(),
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, BTreeMap<RegionalId, Arc<LastUse>>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the uses in `lines`: records that are later than all noted before, or the same records
    /// again.
    pub(super) fn note(&self, lines: &[u8]) {
        let mut unwritten = self.unwritten();
        let mut noted = HashSet::new();
        let mut repeated: Vec<&[u8]> = Vec::with_capacity(REPEATED_MAX);
        let mut end = lines.len();
        // From the last line on: most loads are of few keys, and only the last use of a key counts.
        for start in memrchr_iter(b'\n', &lines[..end.saturating_sub(1)])
            .map(|at| at + 1)
            .chain([0])
        {
            let line = &lines[start..end];
            end = start;
            if repeated.iter().any(|tail| line.ends_with(tail)) {
                continue;
            }
            let Some(used) = Used::parse(line) else {
                continue;
            };
            if repeated.len() < REPEATED_MAX {
                repeated.push(used.tail);
            }
            for key in used.keys(&self.regions) {
                if noted.insert(key)
                    && let Some(last) = used.last_use()
                {
                    unwritten.insert(key, Arc::new(last));
                }
            }
        }
    }

    /// The time since which all uses are known, and the last use of this key. The snapshot is taken
    /// while nothing is being removed here.
    pub(super) fn of(
        &self,
        key: RegionalId,
        snapshot: impl FnOnce() -> Arc<Snapshot>,
    ) -> (Timestamp, Option<LastUse>) {
        let unwritten = self.unwritten();
        let snapshot = snapshot();
        let stored = snapshot.last_uses.as_ref();
        let last = match unwritten.get(&key) {
            Some(last) if is_news(key, last, stored) => Some(last),
            _ => stored.and_then(|stored| stored.by_key.get(&key)),
        };
        let since = stored.map_or(self.since, |stored| stored.since);
        (since, last.map(|last| LastUse::clone(last)))
    }

    /// What is to be written into the store next; nothing when the store has all uses. Those that
    /// it has, and those of keys that are gone, are forgotten here.
    pub(super) fn next_changes(&self, snapshot: &Snapshot) -> Vec<Change> {
        let stored = snapshot.last_uses.as_ref();
        // What a former build wrote is taken apart in one change.
        let apart = stored.filter(|stored| stored.is_one_record);
        let apart_keys = apart.into_iter().flat_map(|stored| stored.by_key.keys());
        let mut shards: BTreeSet<_> = apart_keys.map(|key| UsesShard::of(*key)).collect();
        let most = shards.len().max(SHARDS_MAX);
        let mut unwritten = self.unwritten();
        let mut done = Vec::new();
        for (key, last) in unwritten.iter() {
            if !snapshot.keys.contains_key(key) || !is_news(*key, last, stored) {
                done.push(*key);
            } else if shards.len() < most || shards.contains(&UsesShard::of(*key)) {
                shards.insert(UsesShard::of(*key));
            } else {
                break;
            }
        }
        for key in done {
            unwritten.remove(&key);
        }
        let since = match stored {
            Some(stored) => stored.is_one_record.then_some(stored.since),
            None => Some(self.since),
        };
        let shards = shards.into_iter().map(|shard| {
            let uses = uses_of(shard, stored, &unwritten, snapshot);
            Change::PutLastUses(shard, uses)
        });
        let since = since.map(Change::PutUsesSince);
        since.into_iter().chain(shards).collect()
    }
}

/// Whether the store does not have this use, nor a later one.
fn is_news(key: RegionalId, last: &LastUse, stored: Option<&LastUses>) -> bool {
    let stored = stored.and_then(|stored| stored.by_key.get(&key));
    stored.is_none_or(|stored| stored.time <= last.time && **stored != *last)
}

/// The last uses of the keys of a shard that are not gone.
fn uses_of(
    shard: UsesShard,
    stored: Option<&LastUses>,
    unwritten: &BTreeMap<RegionalId, Arc<LastUse>>,
    snapshot: &Snapshot,
) -> Vec<(RegionalId, Arc<LastUse>)> {
    let written = stored.into_iter().flat_map(|stored| stored.of_shard(shard));
    let news = unwritten
        .range(shard.first_key()..)
        .take_while(|(key, _)| UsesShard::of(**key) == shard)
        .filter(|(key, last)| is_news(**key, last, stored));
    let uses: BTreeMap<_, _> = written.chain(news).collect();
    let uses = uses.into_iter();
    uses.filter(|(key, _)| snapshot.keys.contains_key(*key))
        .map(|(key, last)| (*key, Arc::clone(last)))
        .collect()
}

/// A record of a use of a key.
struct Used<'a> {
    operation: Operation,
    time: &'a str,
    request_id: &'a str,
    event_id: &'a str,
    /// The rest of the line, from [`RESOURCES`] on.
    tail: &'a [u8],
}

impl<'a> Used<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let at = memmem::rfind(line, RESOURCES)?;
        let (before, tail) = line.split_at(at);
        let says = |text: &[u8]| memmem::find(tail, text).is_some();
        // A call that failed is not a use, nor is a batch without rows.
        if says(b",\"errorCode\":") || says(b"\"count\":0,") {
            return None;
        }
        // In the order of a record's members. Text of the caller comes only after these.
        let mut members = Members(before);
        let time = members.next(b"\"eventTime\":\"")?;
        let source = members.next(b"\"eventSource\":\"")?;
        let name = members.next(b"\"eventName\":\"")?;
        Some(Self {
            operation: operation(source, name)?,
            time,
            request_id: members.next(b"\"requestID\":\"")?,
            event_id: members.next(b"\"eventID\":\"")?,
            tail,
        })
    }

    /// The keys among the resources: one, or both keys of a blob that was re-encrypted.
    fn keys<'r>(&self, regions: &'r Regions) -> impl Iterator<Item = RegionalId> + use<'a, 'r> {
        let mut resources = Members(self.tail);
        std::iter::from_fn(move || resources.next(b"{\"ARN\":\""))
            .filter_map(|arn| regions.key_of(arn))
    }

    fn last_use(&self) -> Option<LastUse> {
        Some(LastUse {
            operation: self.operation,
            time: parse_date(self.time)?,
            event_id: self.event_id.to_owned(),
            request_id: self.request_id.to_owned(),
        })
    }
}

/// The KMS operation that a record counts as. A batch counts as the operation that it repeats. The
/// records of a bulk job name the key that its blobs are under at the end.
fn operation(source: &str, name: &str) -> Option<Operation> {
    let name = match (source, name) {
        (KMS, name) => name,
        (KEYMILL, "DataKeys" | "Bind" | "Export" | "Provision") => {
            "GenerateDataKeyWithoutPlaintext"
        }
        (KEYMILL, "Rewrap") => "ReEncrypt",
        (KEYMILL, "VerifyBlobs") | (XKS, "XksDecrypt") => "Decrypt",
        (XKS, "XksEncrypt") => "Encrypt",
        _ => return None,
    };
    Operation::using_a_key(name)
}

/// Reads consecutive members of a record whose values are text without escapes.
struct Members<'a>(&'a [u8]);

impl<'a> Members<'a> {
    /// The value of the next member that begins with `begin`.
    fn next(&mut self, begin: &[u8]) -> Option<&'a str> {
        let at = memmem::find(self.0, begin)? + begin.len();
        let rest = &self.0[at..];
        let (value, rest) = rest.split_at(memchr(b'"', rest)?);
        self.0 = rest;
        std::str::from_utf8(value).ok()
    }
}

#[cfg(test)]
mod tests;
