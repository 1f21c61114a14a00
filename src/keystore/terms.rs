//! The terms of all records, by the digests of their names.

use crate::crypto::secret::Secret;
use crate::keystore::record::{Kind, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Identifies a record: its kind and its id.
pub(super) type Name = (Kind, String);

/// The first half of a keyed digest of a name. No caller can choose two names with one digest.
type NameDigest = [u8; 16];

/// The terms of a set of records, which are secret as their sum is: see
/// [`record`](crate::keystore::record). A digest takes 16 bytes where a name takes a hundred.
///
/// It is not a hash map, which would now and then be rebuilt as a whole in the middle of a change.
pub(super) struct Terms {
    key: Arc<Secret<32>>,
    by_name: BTreeMap<NameDigest, Term>,
}

impl Terms {
    /// Those of no record; `key` is the key of the digests.
    pub(super) fn new(key: Arc<Secret<32>>) -> Self {
        let by_name = BTreeMap::new();
        Self { key, by_name }
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The term of a record.
    pub(super) fn get(&self, name: &Name) -> Option<&Term> {
        self.by_name.get(&self.digest(name))
    }

    /// Adds the term of a record, and returns the one that it had.
    pub(super) fn insert(&mut self, name: &Name, term: Term) -> Option<Term> {
        self.by_name.insert(self.digest(name), term)
    }

    /// Removes the term of a record, and returns it.
    pub(super) fn remove(&mut self, name: &Name) -> Option<Term> {
        self.by_name.remove(&self.digest(name))
    }

    fn digest(&self, (kind, id): &Name) -> NameDigest {
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        hasher.update(kind.name().as_bytes());
        // No kind has a space in its name.
        hasher.update(b" ").update(id.as_bytes());
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_those_of_their_names_alone() {
        let mut terms = Terms::new(Arc::new(Secret::filled(|bytes| bytes.fill(7))));
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
        assert_eq!((terms.get(&names[1]), terms.len()), (None, 3));
    }
}
