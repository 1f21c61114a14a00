//! The contexts of many rows.

use crate::context::{EncryptionContext, InvalidContext, Size, length, texts, write};
use smallvec::SmallVec;

/// An encryption context that is held elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContextRef<'a> {
    canonical: &'a [u8],
}

impl<'a> ContextRef<'a> {
    /// The bytes that are authenticated.
    #[must_use]
    pub fn canonical(self) -> &'a [u8] {
        self.canonical
    }

    /// The context.
    #[must_use]
    pub fn to_context(self) -> EncryptionContext {
        EncryptionContext {
            canonical: SmallVec::from_slice(self.canonical),
        }
    }
}

impl<'a> From<&'a EncryptionContext> for ContextRef<'a> {
    fn from(context: &'a EncryptionContext) -> Self {
        Self {
            canonical: context.canonical(),
        }
    }
}

/// The names of contexts that differ in their values alone, sorted, each as canonical forms have it
/// before its value; the first with the count of pairs.
pub struct ContextNames {
    names: Vec<Vec<u8>>,
    bytes: usize,
}

impl ContextNames {
    /// These names; `None` if there is none, one is there twice, or they are not sorted.
    #[must_use]
    pub fn of(names: &[&str]) -> Option<Self> {
        let bytes = 2 + names.iter().map(|name| 4 + name.len()).sum::<usize>();
        let is_sorted = names.is_sorted_by(|one, next| one < next);
        if names.is_empty() || !is_sorted || bytes > EncryptionContext::BYTES_MAX {
            return None;
        }
        let mut before = length(names.len()).to_vec();
        let names = names.iter().map(|name| {
            before.extend_from_slice(&length(name.len()));
            before.extend_from_slice(name.as_bytes());
            std::mem::take(&mut before)
        });
        let names = names.collect();
        Some(Self { names, bytes })
    }
}

/// The contexts of rows; those in a row that have the same, once. Their canonical forms lie end to
/// end, where they are made: a context is too large to be moved for each of a million rows
/// (benches/RESULTS.md, row "bind, Unix socket").
#[derive(Default)]
pub struct ContextRuns {
    canonical: Vec<u8>,
    runs: Vec<Run>,
    rows: usize,
}

struct Run {
    /// Where its context ends.
    end: usize,
    rows: usize,
}

impl ContextRuns {
    /// The next row has the context of these pairs, sorted by name or not. It shares that of the
    /// row before, if it is the same.
    ///
    /// # Errors
    /// [`InvalidContext`]; the row is not among them then.
    pub fn push<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<(), InvalidContext> {
        let from = self.canonical.len();
        match Size::of(pairs.clone())? {
            None => {
                let context = EncryptionContext::from_pairs(pairs)?;
                self.canonical.extend_from_slice(context.canonical());
            }
            Some(Size { count: 0, .. }) => {}
            Some(Size { count, bytes }) => {
                self.canonical.resize(from + bytes, 0);
                write(&mut self.canonical[from..], count, texts(pairs));
            }
        }
        self.end_row(from);
        Ok(())
    }

    /// The next row has the context of these values, one for each of the names. It shares that of
    /// the row before, if it is the same.
    ///
    /// # Errors
    /// [`InvalidContext::TooLarge`]; the row is not among them then.
    pub fn push_values(
        &mut self,
        names: &ContextNames,
        values: &[&str],
    ) -> Result<(), InvalidContext> {
        debug_assert_eq!(names.names.len(), values.len());
        let bytes = names.bytes + values.iter().map(|value| value.len()).sum::<usize>();
        if bytes > EncryptionContext::BYTES_MAX {
            return Err(InvalidContext::TooLarge);
        }
        let from = self.canonical.len();
        for (name, value) in names.names.iter().zip(values) {
            self.canonical.extend_from_slice(name);
            self.canonical.extend_from_slice(&length(value.len()));
            self.canonical.extend_from_slice(value.as_bytes());
        }
        self.end_row(from);
        Ok(())
    }

    /// Ends a row, whose context is what begins here, unless the row before has the same.
    fn end_row(&mut self, from: usize) {
        self.rows += 1;
        let before = self.runs.len().checked_sub(2);
        let start = before.map_or(0, |before| self.runs[before].end);
        let end = self.canonical.len();
        match self.runs.last_mut() {
            Some(last) if self.canonical[start..from] == self.canonical[from..end] => {
                self.canonical.truncate(from);
                last.rows += 1;
            }
            _ => self.runs.push(Run { end, rows: 1 }),
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of all contexts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.canonical.len()
    }

    /// The contexts, each with the number of rows in a row that have it.
    pub fn iter(&self) -> impl Iterator<Item = (ContextRef<'_>, usize)> + Clone + Send + Sync {
        self.runs.iter().scan(0, |from, run| {
            let canonical = &self.canonical[std::mem::replace(from, run.end)..run.end];
            Some((ContextRef { canonical }, run.rows))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_known_names_are_the_contexts_of_their_pairs() {
        assert!(ContextNames::of(&[]).is_none());
        assert!(ContextNames::of(&["b", "a"]).is_none());
        assert!(ContextNames::of(&["a", "a"]).is_none());
        let long = "n".repeat(EncryptionContext::BYTES_MAX);
        assert!(ContextNames::of(&[&long]).is_none());
        let names = ContextNames::of(&["a", "bc"]).unwrap();
        let longest = "v".repeat(EncryptionContext::BYTES_MAX - 2 - 8 - 3);
        let too_long = format!("{longest}v");
        let rows = [
            ["1", "x"],
            ["1", "x"],
            ["", ""],
            ["1", "x"],
            [&longest, ""],
            ["", &longest],
        ];
        let (mut runs, mut expected) = (ContextRuns::default(), Vec::new());
        for values in &rows {
            let pairs = ["a", "bc"].into_iter().zip(*values);
            let context = EncryptionContext::from_pairs(pairs).unwrap();
            runs.push_values(&names, values).unwrap();
            let too_large = runs.push_values(&names, &[&too_long, ""]);
            assert_eq!(too_large, Err(InvalidContext::TooLarge));
            match expected.last_mut() {
                Some((last, rows)) if *last == context => *rows += 1,
                _ => expected.push((context, 1)),
            }
        }
        let seen = runs.iter();
        let seen: Vec<_> = seen
            .map(|(context, rows)| (context.to_context(), rows))
            .collect();
        assert_eq!(seen, expected);
        assert_eq!((runs.rows(), seen.len()), (6, 5));
    }

    #[test]
    fn runs_have_the_contexts_of_their_pairs() {
        let first = EncryptionContext::from_pairs([("n", "v")]).unwrap();
        for pairs in [
            &[][..],
            &[("a", "1")],
            &[("a", "1"), ("b", "2")],
            &[("b", "2"), ("a", "1")],
            &[("a", "1"), ("a", "2")],
        ] {
            let whole = EncryptionContext::from_pairs(pairs.iter().copied());
            let mut runs = ContextRuns::default();
            assert_eq!(runs.push([("n", "v")].into_iter()), Ok(()));
            let pushed = runs.push(pairs.iter().copied());
            assert_eq!(runs.push(pairs.iter().copied()), pushed);
            let mut expected = vec![(first.clone(), 1)];
            match (pushed, whole) {
                (Ok(()), Ok(context)) => expected.push((context, 2)),
                (pushed, whole) => assert_eq!(pushed.err(), whole.err()),
            }
            let seen = runs.iter();
            let seen = seen.map(|(context, rows)| (context.to_context(), rows));
            assert_eq!(seen.collect::<Vec<_>>(), expected);
            let bytes = expected
                .iter()
                .map(|(context, _)| context.canonical().len());
            let rows = expected.iter().map(|(_, rows)| rows);
            assert_eq!((runs.rows(), runs.bytes()), (rows.sum(), bytes.sum()));
        }
    }
}
