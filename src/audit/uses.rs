//! The last use of each key, read off the records on their way to the log: a request pays nothing
//! for it, and what a killed process leaves in the journal counts too.
//!
//! A record of a use is one of a successful call of an operation that uses a key (a `DryRun`
//! succeeds in nothing), and of a batch one with rows. What is known is written into the store with
//! the log's head; at a start the log's last file is read again, which is read for its chain
//! anyway. So a killed process forgets uses of its last minute only where that minute has begun a
//! file.

use crate::audit::record::{KEYMILL, KMS};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::key::last_use::{LastUse, LastUses};
use crate::keystore::Snapshot;
use crate::policy::parse_date;
use memchr::{memchr, memmem, memrchr_iter};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What stands between the parameters and the resources. Quotes in a value are escaped, so the last
/// of these in a record is ours.
const RESOURCES: &[u8] = b",\"responseElements\":null,\"resources\":[";

/// Ends of records that are known at once as those of keys whose last use has been noted: comparing
/// is cheaper than reading.
const REPEATED_MAX: usize = 16;

/// What is known of the keys' last uses.
pub(super) struct Uses {
    /// Held by the writer for one group, by whoever asks, and for a comparison once a minute;
    /// nothing awaits under it. A poisoned one holds whole entries all the same.
    known: Mutex<LastUses>,
}

impl Uses {
    /// Nothing yet.
    pub(super) fn since(now: Timestamp) -> Self {
        let known = LastUses {
            since: now,
            by_key: Default::default(),
        };
        Self {
            known: Mutex::new(known),
        }
    }

    fn known(&self) -> MutexGuard<'_, LastUses> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the uses in records that are later than all before, or these once more.
    pub(super) fn note(&self, lines: &[u8]) {
        let mut known = self.known();
        let mut noted = HashSet::new();
        let mut repeated: Vec<&[u8]> = Vec::with_capacity(REPEATED_MAX);
        let mut end = lines.len();
        // From the last on: most loads are of few keys, and of a key's uses only one counts.
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
            for key in used.keys() {
                if noted.insert(key)
                    && let Some(last) = used.last_use()
                {
                    known.by_key.insert(key, last);
                }
            }
        }
    }

    /// From when on the uses of all keys are known, and the last one of this key.
    pub(super) fn of(&self, key: KeyId) -> (Timestamp, Option<LastUse>) {
        let known = self.known();
        (known.since, known.by_key.get(&key).cloned())
    }

    /// What is to be written into the store, unless it has that already. What the store knows from
    /// former processes is known from then on; keys that are gone are forgotten.
    pub(super) fn unwritten(&self, snapshot: &Snapshot) -> Option<Arc<LastUses>> {
        let mut known = self.known();
        if let Some(stored) = &snapshot.last_uses {
            known.since = stored.since;
            for (key, last) in &stored.by_key {
                known.by_key.entry(*key).or_insert_with(|| last.clone());
            }
        }
        known
            .by_key
            .retain(|key, _| snapshot.keys.contains_key(key));
        let is_written = snapshot.last_uses.as_deref() == Some(&*known);
        (!is_written).then(|| Arc::new(known.clone()))
    }
}

/// A record of a use.
struct Used<'a> {
    operation: &'static str,
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
        if says(b",\"errorCode\":") || says(b"\"count\":0,") {
            return None;
        }
        // In the order in which a record has them; only what follows is anybody else's text.
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

    /// The keys among the resources: one, or the two of a blob that was moved.
    fn keys(&self) -> impl Iterator<Item = KeyId> + use<'a> {
        let mut resources = Members(self.tail);
        std::iter::from_fn(move || resources.next(b"{\"ARN\":\"")).filter_map(|arn| {
            let (_, id) = arn.rsplit_once(":key/")?;
            id.parse().ok()
        })
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

/// The operation of AWS KMS that a record is of. Batches are as many of it; a bulk job's records
/// are of the key that its blobs are under when it is done.
fn operation(source: &str, name: &str) -> Option<&'static str> {
    let name = match (source, name) {
        (KMS, name) => name,
        (KEYMILL, "DataKeys" | "Bind" | "Export" | "Provision") => {
            "GenerateDataKeyWithoutPlaintext"
        }
        (KEYMILL, "Rewrap") => "ReEncrypt",
        (KEYMILL, "VerifyBlobs") => "Decrypt",
        _ => return None,
    };
    LastUse::operation(name)
}

/// The members of a record whose values are texts without escapes, one after the other.
struct Members<'a>(&'a [u8]);

impl<'a> Members<'a> {
    /// The value of the next member that begins so.
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
