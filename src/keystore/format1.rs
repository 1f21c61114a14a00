//! Stores of format 1: they are verified by the rules of that format and rewritten when they are
//! first opened.
//!
//! Format 1 had a table `roster` with the term of each record in the clear, to name a wrong record.
//! With copies from two times, an attacker knew the differences of those terms and could solve for
//! sets of records that can be put back without changing the sum. So stores of this format are not
//! written any more, and `keystore.seen` refuses one when the store was of a later format before.

use crate::crypto::secret::Secret;
use crate::keystore::RootKey;
use crate::keystore::record::{self, Corrupt, Head, Kind, Record, Term};
use std::collections::BTreeMap;

/// Kind, id and term of each row except the head.
pub(super) type Roster = Vec<(Kind, String, Vec<u8>)>;

/// The key of the terms of this format.
pub(super) fn term_key(root: &RootKey) -> Secret<32> {
    root.subkey("head sum")
}

/// Checks that `records`, each of which opens, are exactly those of the roster and of the head.
pub(super) fn verify(
    key: &Secret<32>,
    head: &Head,
    records: &[Record],
    roster: &[(Kind, String, Vec<u8>)],
) -> Result<(), Corrupt> {
    let listed = roster.iter();
    let mut roster: BTreeMap<_, _> = listed
        .map(|(kind, id, term)| ((*kind, &**id), term))
        .collect();
    let mut sum: Term = [0; 32];
    for record in records {
        let (kind, id) = (record.kind, &record.id);
        let term = record::term(key, record);
        match roster.remove(&(kind, id.as_str())) {
            None => return Err(Corrupt::Added(kind, id.clone())),
            Some(listed) if *listed != term => {
                return Err(Corrupt::Replaced(kind, id.clone(), record.revision));
            }
            Some(_) => record::toggle(&mut sum, &term),
        }
    }
    if let Some(((kind, id), _)) = roster.pop_first() {
        return Err(Corrupt::Missing(kind, id.to_owned()));
    }
    // The roster could be edited together with the records; the sealed head could not.
    let found = records.len() as u64;
    if sum != head.sum || found != head.records {
        return Err(Corrupt::Set {
            revision: head.revision,
            found,
            expected: head.records,
        });
    }
    Ok(())
}
