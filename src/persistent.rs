//! A sorted map whose copies share their entries.
//!
//! To copy a map costs a pointer. To change a copy costs the path to the entry, which is as long as
//! the logarithm of the entries, and the 64 neighbours or fewer that lie in one chunk with it; the
//! other copies do not see it. So a reader keeps the map that it has, and each change has a map of
//! its own.
//!
//! The tree is that of `immutable-chunkmap`. That crate's own ranges go through every chunk before
//! their beginning; those here seek.

use immutable_chunkmap::map::{Map, NodeRef};
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, Index, RangeBounds};

/// Entries of a chunk of a map that may have many.
const CHUNK: usize = 64;
/// Nodes of a path that take no allocation. A million entries have fewer.
const PATH: usize = 20;

/// A sorted map. Chunks have room for `N` entries, used or not: small ones suit maps of which there
/// are many.
#[derive(Clone)]
pub struct PersistentMap<K: Ord + Clone, V: Clone, const N: usize = CHUNK>(Map<K, V, N>);

impl<K: Ord + Clone, V: Clone, const N: usize> PersistentMap<K, V, N> {
    /// The map of these entries, which come in the ascending order of their keys. It takes a
    /// fraction of the time of as many insertions, and all chunks but the last are full.
    #[must_use]
    pub fn of_sorted(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut entries = entries.into_iter();
        let mut map = Map::new();
        loop {
            let chunk: Vec<_> = entries.by_ref().take(N).collect();
            if chunk.is_empty() {
                return Self(map);
            }
            map = map.insert_many(chunk);
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// Whether the map has the key.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.get(key).is_some()
    }

    /// Adds an entry, and returns the value that the key had.
    pub fn insert(&mut self, key: impl Into<K>, value: V) -> Option<V> {
        self.0.insert_cow(key.into(), value)
    }

    /// Removes an entry, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove_cow(key)
    }

    /// The value of a key, to be changed; a default one is added where there is none.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.0.get_or_default_cow(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut_cow(key)
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.seek(|_| false)
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries from the first on whose key is not `before`. Those that are `before` must be the
    /// first ones of all.
    pub fn seek<'a>(
        &'a self,
        before: impl Fn(&K) -> bool + Clone + 'a,
    ) -> impl Iterator<Item = (&'a K, &'a V)> {
        let nodes = Nodes::seek(self.0.root(), &before);
        // Only the first node has entries of both kinds.
        let entries = nodes.flat_map(|node| node.pairs());
        entries.skip_while(move |(key, _)| before(key))
    }

    /// The entries of a range in order.
    pub fn range<'a, Q: Ord + ?Sized + 'a>(
        &'a self,
        range: impl RangeBounds<Q> + Clone + 'a,
    ) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let from = range.clone();
        let before = move |key: &K| match from.start_bound() {
            Bound::Included(first) => key.borrow() < first,
            Bound::Excluded(last) => key.borrow() <= last,
            Bound::Unbounded => false,
        };
        let within = move |key: &K| match range.end_bound() {
            Bound::Included(last) => key.borrow() <= last,
            Bound::Excluded(end) => key.borrow() < end,
            Bound::Unbounded => true,
        };
        self.seek(before).take_while(move |(key, _)| within(key))
    }
}

impl<K: Ord + Clone, I: Ord + Clone, V: Clone, const M: usize, const N: usize>
    PersistentMap<K, PersistentMap<I, V, M>, N>
{
    /// Removes an entry of the map of a key, and that map with the last of its entries.
    pub fn remove_within(&mut self, key: &K, inner: &I) -> Option<V> {
        let map = self.get_mut(key)?;
        let removed = map.remove(inner);
        if map.is_empty() {
            self.remove(key);
        }
        removed
    }
}

/// Nodes of the tree in the order of their entries.
struct Nodes<'a, K: Ord + Clone, V: Clone, const N: usize> {
    /// Each comes with its entries and the subtree on their right; the next one is the last.
    path: SmallVec<[NodeRef<'a, K, V, N>; PATH]>,
}

impl<'a, K: Ord + Clone, V: Clone, const N: usize> Nodes<'a, K, V, N> {
    /// From the node on that has the first entry that is not `before`.
    fn seek(root: Option<NodeRef<'a, K, V, N>>, before: &impl Fn(&K) -> bool) -> Self {
        let mut nodes = Self {
            path: SmallVec::new(),
        };
        let mut next = root;
        while let Some(node) = next {
            let is_before = node.pairs().last().is_some_and(|(key, _)| before(key));
            if is_before {
                next = node.right();
            } else {
                next = node.left();
                nodes.path.push(node);
            }
        }
        nodes
    }
}

impl<'a, K: Ord + Clone, V: Clone, const N: usize> Iterator for Nodes<'a, K, V, N> {
    type Item = NodeRef<'a, K, V, N>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.path.pop()?;
        let mut below = node.right();
        while let Some(next) = below {
            below = next.left();
            self.path.push(next);
        }
        Some(node)
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> Default for PersistentMap<K, V, N> {
    fn default() -> Self {
        Self(Map::new())
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug, const N: usize> fmt::Debug
    for PersistentMap<K, V, N>
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq, const N: usize> PartialEq for PersistentMap<K, V, N> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq, const N: usize> Eq for PersistentMap<K, V, N> {}

impl<Q: Ord + ?Sized, K: Ord + Clone + Borrow<Q>, V: Clone, const N: usize> Index<&Q>
    for PersistentMap<K, V, N>
{
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("an index is a key of the map")
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> Extend<(K, V)> for PersistentMap<K, V, N> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.0.insert_cow(key, value);
        }
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> FromIterator<(K, V)> for PersistentMap<K, V, N> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Small chunks, so that a few entries have a deep tree.
    type Small = PersistentMap<u16, u16, 2>;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u16),
        Remove(u16),
        Range(Bound<u16>, Bound<u16>),
    }

    fn bound() -> impl Strategy<Value = Bound<u16>> {
        prop_oneof![
            (0..300_u16).prop_map(Bound::Included),
            (0..300_u16).prop_map(Bound::Excluded),
            Just(Bound::Unbounded),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..300_u16, any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0..300_u16).prop_map(Step::Remove),
            1 => (bound(), bound()).prop_map(|(from, to)| Step::Range(from, to)),
        ]
    }

    /// Whether the standard's map would panic.
    fn is_backwards(from: Bound<u16>, to: Bound<u16>) -> bool {
        use Bound::{Excluded, Included, Unbounded};
        match (from, to) {
            (Unbounded, _) | (_, Unbounded) => false,
            (Excluded(from), Excluded(to)) => from >= to,
            (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from > to,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_the_standards_map_and_copies_stay_as_they_were(
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let (mut map, mut model) = (Small::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        copies.push((map.clone(), model.clone()));
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(map.remove(&key), model.remove(&key));
                    }
                    Step::Range(from, to) if is_backwards(from, to) => {
                        prop_assert_eq!(map.range((from, to)).count(), 0);
                    }
                    Step::Range(from, to) => {
                        let (found, expected) = (map.range((from, to)), model.range((from, to)));
                        prop_assert!(found.eq(expected), "{from:?} {to:?}");
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.is_empty(), model.is_empty());
            }
            copies.push((map, model));
            for (map, model) in copies {
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()));
                for key in 0..300 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                    prop_assert_eq!(map.contains_key(&key), model.contains_key(&key));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_map_of_sorted_entries_is_the_standards_map_and_stays_one(
            entries in prop::collection::btree_map(0..300_u16, any::<u16>(), 0..200),
            steps in prop::collection::vec(step(), 0..50),
        ) {
            let (mut map, mut model) = (Small::of_sorted(entries.clone()), entries);
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Step::Range(..) => {}
                }
            }
            prop_assert!(map.iter().eq(model.iter()));
            for key in 0..300 {
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
        }
    }

    #[test]
    fn a_range_looks_at_few_entries_before_it() {
        use std::cell::Cell;
        let map: PersistentMap<u32, ()> = (0..100_000).map(|key| (key, ())).collect();
        let looks = Cell::new(0);
        let before = |key: &u32| {
            looks.set(looks.get() + 1);
            *key < 70_000
        };
        assert_eq!(map.seek(before).next(), Some((&70_000, &())));
        assert!(looks.get() < 2 * CHUNK, "{}", looks.get());
    }

    #[test]
    fn values_are_changed_in_one_copy_alone() {
        let mut map: PersistentMap<u8, Vec<u8>> = PersistentMap::default();
        map.get_or_default(1).push(7);
        let copy = map.clone();
        map.get_or_default(1).push(8);
        map.get_mut(&1).unwrap().push(9);
        assert_eq!(map.get_mut(&2), None);
        assert_eq!((&map[&1], &copy[&1]), (&vec![7, 8, 9], &vec![7]));
        assert!(map != copy && copy == copy.clone());
        assert_eq!(format!("{copy:?}"), "{1: [7]}");
    }

    #[test]
    fn a_map_within_goes_with_its_last_entry() {
        let mut map: PersistentMap<u8, PersistentMap<u8, char>> = PersistentMap::default();
        map.get_or_default(1).extend([(1, 'a'), (2, 'b')]);
        assert_eq!(map.remove_within(&2, &1), None);
        assert_eq!(map.remove_within(&1, &3), None);
        assert_eq!(map.remove_within(&1, &1), Some('a'));
        assert_eq!(map.len(), 1);
        assert_eq!(map.remove_within(&1, &2), Some('b'));
        assert!(map.is_empty());
    }
}
