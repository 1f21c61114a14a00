//! The terms of all records, by the digests of their names.

use crate::crypto::secret::Secret;
use crate::keystore::record::{Kind, Term};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Identifies a record: its kind and its id.
pub(super) type Name = (Kind, String);

/// The first half of a keyed digest of a name. No caller can choose two names with one digest.
pub(super) type NameDigest = [u8; 16];

/// The terms of a set of records, which are secret as their sum is: see
/// [`record`](crate::keystore::record). A digest takes 16 bytes where a name takes a hundred.
///
/// It is not a hash map, which would now and then be rebuilt as a whole in the middle of a change.
pub(super) struct Terms {
    key: Arc<Secret<32>>,
    by_name: BTreeMap<NameDigest, Term>,
}

impl Terms {
    /// Those of a whole store; `key` is the key of the digests.
    pub(super) fn of(key: Arc<Secret<32>>, by_name: HashMap<NameDigest, Term>) -> Self {
        // In the order of the digests, so that its nodes are full.
        let by_name = by_name.into_iter().collect();
        Self { key, by_name }
    }

    /// The term of a record.
    pub(super) fn get(&self, (kind, id): &Name) -> Option<&Term> {
        self.by_name.get(&digest(&self.key, *kind, id))
    }

    /// Adds the term of a record, and returns the one that it had.
    pub(super) fn insert(&mut self, (kind, id): &Name, term: Term) -> Option<Term> {
        self.by_name.insert(digest(&self.key, *kind, id), term)
    }

    /// Removes the term of a record, and returns it.
    pub(super) fn remove(&mut self, (kind, id): &Name) -> Option<Term> {
        self.by_name.remove(&digest(&self.key, *kind, id))
    }
}

/// The digest of a record's name.
pub(super) fn digest(key: &Secret<32>, kind: Kind, id: &str) -> NameDigest {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(kind.name().as_bytes());
    // No kind has a space in its name.
    hasher.update(b" ").update(id.as_bytes());
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_those_of_their_names_alone() {
        let key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
        let whole = HashMap::from([(digest(&key, Kind::Alias, "a"), [8; 32])]);
        let mut terms = Terms::of(key, whole);
        let alias = (Kind::Alias, "a".to_owned());
        assert_eq!(terms.get(&alias), Some(&[8; 32]));
        let names = [
            (Kind::Key, "a".to_owned()),
            (Kind::Key, "b".to_owned()),
            (Kind::KeyPolicy, "a".to_owned()),
            (Kind::Uses, String::new()),
        ];
        for (name, byte) in names.iter().zip(1..) {
            assert_eq!(terms.insert(name, [byte; 32]), None);
        }
        for (name, byte) in names.iter().zip(1..) {
            assert_eq!(terms.get(name), Some(&[byte; 32]));
        }
        assert_eq!(terms.insert(&names[1], [9; 32]), Some([2; 32]));
        assert_eq!(terms.remove(&names[1]), Some([9; 32]));
        assert_eq!(terms.remove(&names[1]), None);
        assert_eq!(terms.get(&names[1]), None);
        assert_eq!(terms.remove(&alias), Some([8; 32]));
        assert_eq!(terms.by_name.len(), 3);
    }
}
