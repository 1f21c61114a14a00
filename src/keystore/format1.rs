//! Stores of format 1, which are verified as they were and rewritten at their first opening.
//!
//! Format 1 had a table `roster` with the term of each record in the clear, to name the record that
//! is wrong. Whoever had copies from two times knew the differences of those terms, and could solve
//! for sets of records that can be put back together without the sum moving. So no store of this
//! format is written any more, and `keystore.seen` refuses it once the store was of a later one.

use crate::keystore::RootKey;
use crate::keystore::record::{self, Corrupt, Head, Kind, Record, Term};
use std::collections::BTreeMap;

/// Kind, id and term of each row but the head.
pub(super) type Roster = Vec<(Kind, String, Vec<u8>)>;

/// Whether `records`, of which each opens, are those of the roster and of the head.
pub(super) fn verify(
    root: &RootKey,
    head: &Head,
    records: &[&Record],
    roster: &[(Kind, String, Vec<u8>)],
) -> Result<(), Corrupt> {
    let key = root.subkey("head sum");
    let listed = roster.iter();
    let mut roster: BTreeMap<_, _> = listed
        .map(|(kind, id, term)| ((*kind, &**id), term))
        .collect();
    let mut sum: Term = [0; 32];
    for record in records {
        let (kind, id) = (record.kind, &record.id);
        let term = record::term(&key, record);
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
