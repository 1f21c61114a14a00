//! The last use of each key, read from the records on their way to the log. A request does nothing
//! for it, and records that a killed process left in the journal count too.
//!
//! A record is a use when it is of a successful call of an operation that uses a key (a `DryRun`
//! never succeeds), or of a batch with rows. The known uses are written into the store together
//! with the log's head. A start reads the log's last file again, which it reads for the chain
//! anyway. So a killed process forgets uses of its last minute only if a new file was begun in that
//! minute.

use crate::audit::record::{KEYMILL, KMS, XKS};
use crate::clock::Timestamp;
use crate::key::regions::{RegionalId, Regions};
use crate::keystore::Snapshot;
use crate::keystore::last_use::{LastUse, LastUses};
use crate::operation::Operation;
use crate::policy::parse_date;
use memchr::{memchr, memmem, memrchr_iter};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The text between the parameters and the resources. Quotes in a value are escaped, so the last
/// occurrence in a record is ours.
const RESOURCES: &[u8] = b",\"responseElements\":null,\"resources\":[";

/// How many ends of records are remembered. A record with a remembered end is of keys whose last
/// use was noted already, and is not parsed.
const REPEATED_MAX: usize = 16;

/// The known last uses of the keys.
pub(super) struct Uses {
    /// Those of the keys.
    regions: Regions,
    /// Locked by the writer for one group, by callers that ask, and once a minute for a comparison;
    /// nothing is awaited under it. If it is poisoned, its entries are still whole.
    known: Mutex<LastUses>,
}

impl Uses {
    /// No use is known yet.
    pub(super) fn since(now: Timestamp, regions: Regions) -> Self {
        let known = LastUses {
            since: now,
            by_key: Default::default(),
        };
        Self {
            regions,
            known: Mutex::new(known),
        }
    }

    fn known(&self) -> MutexGuard<'_, LastUses> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the uses in `lines`: records that are later than all noted before, or the same records
    /// again.
    pub(super) fn note(&self, lines: &[u8]) {
        let mut known = self.known();
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
                    known.by_key.insert(key, last);
                }
            }
        }
    }

    /// The time since which all uses are known, and the last use of this key.
    pub(super) fn of(&self, key: RegionalId) -> (Timestamp, Option<LastUse>) {
        let known = self.known();
        (known.since, known.by_key.get(&key).cloned())
    }

    /// The uses to be written into the store; `None` when the store has them already. From then on
    /// the uses in the store from former processes are known here too, and keys that were removed
    /// are forgotten.
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
