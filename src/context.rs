//! The encryption context: name–value pairs that are authenticated with a ciphertext. They have one
//! canonical form, which is made where the request is parsed and is carried from there.

use smallvec::SmallVec;

mod runs;

pub use runs::{ContextNames, ContextRef, ContextRuns};

/// A canonical form of up to this many bytes is stored inline, without an allocation: two pairs of
/// the lengths that container ids and tenants have.
const SHORT_BYTES: usize = 104;
/// As many pairs are sorted without an allocation.
const FEW_PAIRS: usize = 8;

/// Name–value pairs authenticated with the ciphertext. The caller's order is irrelevant: pairs are
/// held sorted by the UTF-8 bytes of their names, which are unique.
///
/// Canonical bytes (injective): none when there are no pairs, else `count: u16 BE`, then for each
/// pair `length: u16 BE ‖ name ‖ length: u16 BE ‖ value`. Text is taken as sent: no Unicode
/// normalisation, trimming or case folding.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncryptionContext {
    canonical: SmallVec<[u8; SHORT_BYTES]>,
}

/// Why pairs are not an encryption context.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContext {
    /// A name occurs twice.
    #[error("an encryption context names each pair once")]
    DuplicateName,
    /// The canonical bytes exceed [`EncryptionContext::BYTES_MAX`].
    #[error("an encryption context has at most 8192 bytes in canonical form")]
    TooLarge,
}

impl EncryptionContext {
    /// Canonical bytes at most: 512 AES blocks of additional data, the bound of the published
    /// analysis of AWS's own mode.
    pub const BYTES_MAX: usize = 8192;

    /// Makes the context of these pairs, given in any order.
    ///
    /// # Errors
    /// [`InvalidContext`].
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, InvalidContext> {
        let mut pairs: SmallVec<[(N, V); FEW_PAIRS]> = pairs.into_iter().collect();
        if pairs.is_empty() {
            return Ok(Self::default());
        }
        pairs.sort_by(|a, b| a.0.as_ref().as_bytes().cmp(b.0.as_ref().as_bytes()));
        if pairs
            .windows(2)
            .any(|pair| pair[0].0.as_ref() == pair[1].0.as_ref())
        {
            return Err(InvalidContext::DuplicateName);
        }
        let bytes: usize = 2 + pairs
            .iter()
            .map(|(n, v)| 4 + n.as_ref().len() + v.as_ref().len())
            .sum::<usize>();
        if bytes > Self::BYTES_MAX {
            return Err(InvalidContext::TooLarge);
        }
        let texts = pairs.iter().flat_map(|(n, v)| [n.as_ref(), v.as_ref()]);
        Ok(Self::of(pairs.len(), bytes, texts))
    }

    /// Makes the context of pairs that come sorted by name, with at most one allocation. Pairs in
    /// another order are accepted too and then sorted.
    ///
    /// # Errors
    /// [`InvalidContext`].
    pub fn from_sorted_pairs<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Self, InvalidContext> {
        match Size::of(pairs.clone())? {
            None => Self::from_pairs(pairs),
            Some(Size { count: 0, .. }) => Ok(Self::default()),
            Some(Size { count, bytes }) => Ok(Self::of(count, bytes, texts(pairs))),
        }
    }

    /// Writes the canonical form, which has `bytes` bytes: `count` pairs, whose names and values
    /// are `texts` in turn.
    fn of<'a>(count: usize, bytes: usize, texts: impl Iterator<Item = &'a str>) -> Self {
        // The size is known, so the room is filled in place and never grows.
        let (mut short, mut long) = ([0; SHORT_BYTES], Vec::new());
        let is_short = bytes <= SHORT_BYTES;
        let room = if is_short {
            &mut short[..bytes]
        } else {
            long.resize(bytes, 0);
            &mut *long
        };
        write(room, count, texts);
        let canonical = if is_short {
            SmallVec::from_buf_and_len(short, bytes)
        } else {
            SmallVec::from_vec(long)
        };
        Self { canonical }
    }

    /// A context with the same names and empty values.
    ///
    /// # Panics
    /// Never: the result is shorter than this context.
    #[must_use]
    pub fn names(&self) -> Self {
        let names = self.pairs().map(|(name, _)| (name, ""));
        Self::from_pairs(names).expect("shorter than a context that there is")
    }

    /// The bytes that are authenticated.
    #[must_use]
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.canonical.is_empty()
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let count = self.canonical.first_chunk();
        count.map_or(0, |count| usize::from(u16::from_be_bytes(*count)))
    }

    /// The pairs, sorted by name.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.raw_pairs()
            .map(|(name, value)| (text(name), text(value)))
    }

    /// The values of the pairs whose names equal `name` when ASCII case is ignored.
    pub fn values_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.raw_pairs()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| text(value))
    }

    fn raw_pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.canonical.get(2..).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (name, after) = split_text(rest);
            let (value, after) = split_text(after);
            rest = after;
            Some((name, value))
        })
    }
}

impl std::fmt::Debug for EncryptionContext {
    /// Names only: values belong in the audit record, not in a log.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list()
            .entries(self.pairs().map(|(name, _)| name))
            .finish()
    }
}

/// Pairs that are sorted by name, and the bytes of their canonical form.
struct Size {
    count: usize,
    bytes: usize,
}

impl Size {
    /// `None` if the pairs are in another order.
    fn of<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>, InvalidContext> {
        let (mut count, mut bytes, mut before) = (0, 2, None);
        for (name, value) in pairs {
            if before.is_some_and(|before| before >= name) {
                return Ok(None);
            }
            before = Some(name);
            count += 1;
            bytes += 4 + name.len() + value.len();
        }
        if bytes > EncryptionContext::BYTES_MAX {
            return Err(InvalidContext::TooLarge);
        }
        Ok(Some(Self { count, bytes }))
    }
}

fn texts<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> impl Iterator<Item = &'a str> {
    pairs.flat_map(|(name, value)| [name, value])
}

/// Fills `room` with the canonical form of `count` pairs, whose names and values are `texts` in
/// turn.
fn write<'a>(mut room: &mut [u8], count: usize, texts: impl Iterator<Item = &'a str>) {
    put(&mut room, &length(count));
    for text in texts {
        put(&mut room, &length(text.len()));
        put(&mut room, text.as_bytes());
    }
}

/// A count or length that [`EncryptionContext::BYTES_MAX`] keeps below 2^16.
fn length(value: usize) -> [u8; 2] {
    u16::try_from(value)
        .expect("bounded by BYTES_MAX")
        .to_be_bytes()
}

/// Writes `bytes` to the start of `room` and moves `room` past them.
fn put(room: &mut &mut [u8], bytes: &[u8]) {
    let (here, rest) = std::mem::take(room).split_at_mut(bytes.len());
    here.copy_from_slice(bytes);
    *room = rest;
}

fn split_text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(length)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("made from text by the only constructor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sorted_pairs_make_the_same_and_others_are_sorted() {
        for pairs in [
            &[][..],
            &[("a", "1")],
            &[("a", "1"), ("b", "2")],
            &[("b", "2"), ("a", "1")],
            &[("a", "1"), ("a", "2")],
            &[("A", ""), ("a", ""), ("é", "ß")],
        ] {
            let sorted = EncryptionContext::from_sorted_pairs(pairs.iter().copied());
            assert_eq!(sorted, EncryptionContext::from_pairs(pairs.iter().copied()));
        }
        let large = "x".repeat(EncryptionContext::BYTES_MAX);
        let large = EncryptionContext::from_sorted_pairs([("a", &*large)].into_iter());
        assert_eq!(large, Err(InvalidContext::TooLarge));
    }

    #[test]
    fn names_are_what_contexts_of_the_same_columns_have_in_common() {
        let context = EncryptionContext::from_pairs([("b", "2"), ("a", "1")]).unwrap();
        let names = EncryptionContext::from_pairs([("a", ""), ("b", "")]).unwrap();
        assert_eq!(context.names(), names);
        let none = EncryptionContext::default();
        assert_eq!(none.names(), none);
        // On either side of the longest form without an allocation.
        for value_bytes in [SHORT_BYTES - 7, SHORT_BYTES - 6] {
            let value = "x".repeat(value_bytes);
            let context = EncryptionContext::from_pairs([("a", &*value)]).unwrap();
            assert_eq!(context.canonical().len(), 7 + value_bytes);
            assert_eq!(context.pairs().collect::<Vec<_>>(), [("a", &*value)]);
        }
    }

    #[test]
    fn canonical_bytes_are_sorted_counted_and_length_prefixed() {
        let context = EncryptionContext::from_pairs([("b", "2"), ("a", "é")]).unwrap();
        assert_eq!(
            context.canonical(),
            b"\0\x02\0\x01a\0\x02\xc3\xa9\0\x01b\0\x012"
        );
        assert_eq!(
            context.pairs().collect::<Vec<_>>(),
            [("a", "é"), ("b", "2")]
        );
        assert_eq!(
            EncryptionContext::from_pairs([("", ""); 0])
                .unwrap()
                .canonical(),
            b""
        );
    }

    #[test]
    fn the_form_is_injective_where_separators_are_not() {
        let one = EncryptionContext::from_pairs([("a", "b=c")]).unwrap();
        let other = EncryptionContext::from_pairs([("a=b", "c")]).unwrap();
        assert_ne!(one.canonical(), other.canonical());
    }

    #[test]
    fn duplicates_and_oversize_are_refused() {
        let twice = EncryptionContext::from_pairs([("a", "1"), ("a", "2")]);
        assert_eq!(twice.err(), Some(InvalidContext::DuplicateName));
        let value = "x".repeat(EncryptionContext::BYTES_MAX - 7);
        assert!(EncryptionContext::from_pairs([("a", &value)]).is_ok());
        let value = "x".repeat(EncryptionContext::BYTES_MAX - 6);
        assert_eq!(
            EncryptionContext::from_pairs([("a", &value)]).err(),
            Some(InvalidContext::TooLarge)
        );
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        prop::collection::btree_map(".{0,5}", ".{0,5}", 0..5)
            .prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn pairs_come_back_sorted_whatever_their_order(pairs in pairs(), seed: u64) {
            let context = EncryptionContext::from_pairs(pairs.clone()).unwrap();
            let mut shuffled = pairs.clone();
            shuffled.rotate_left(usize::try_from(seed % 5).unwrap() % pairs.len().max(1));
            shuffled.reverse();
            let again = EncryptionContext::from_pairs(shuffled).unwrap();
            prop_assert_eq!(context.canonical(), again.canonical());
            let back: Vec<_> = context.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            // A map of strings is sorted by their UTF-8 bytes.
            prop_assert_eq!(back, pairs);
        }

        #[test]
        fn different_pairs_have_different_canonical_bytes(one in pairs(), other in pairs()) {
            let canonical = |pairs: &[(String, String)]| {
                EncryptionContext::from_pairs(pairs.to_vec()).unwrap().canonical().to_vec()
            };
            prop_assert_eq!(canonical(&one) == canonical(&other), one == other);
        }
    }

    #[test]
    fn text_is_taken_as_sent() {
        // é composed and decomposed, cases, and spaces are different values.
        let values = ["\u{e9}", "e\u{301}", "E\u{301}", " \u{e9}", ""];
        for (at, one) in values.iter().enumerate() {
            for (other_at, other) in values.iter().enumerate() {
                let one = EncryptionContext::from_pairs([("n", one)]).unwrap();
                let other = EncryptionContext::from_pairs([("n", other)]).unwrap();
                assert_eq!(one == other, at == other_at);
            }
        }
    }

    #[test]
    fn values_are_found_by_names_without_regard_to_ascii_case() {
        let pairs = [
            ("Tenant", "1"),
            ("tenant", "2"),
            ("tenants", "3"),
            ("é", "4"),
        ];
        let context = EncryptionContext::from_pairs(pairs).unwrap();
        let found = |name| context.values_of(name).collect::<Vec<_>>();
        assert_eq!(found("TENANT"), ["1", "2"]);
        assert_eq!(found("é"), ["4"]);
        assert_eq!(context.len(), pairs.len());
        assert_eq!(EncryptionContext::default().len(), 0);
        for absent in ["É", "tenan", ""] {
            assert_eq!(found(absent), [""; 0], "{absent}");
        }
    }

    #[test]
    fn debug_output_names_names_alone() {
        let context = EncryptionContext::from_pairs([("tenant", "hidden")]).unwrap();
        assert_eq!(format!("{context:?}"), "[\"tenant\"]");
    }
}
