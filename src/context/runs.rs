//! The contexts of many rows.

use crate::context::{EncryptionContext, InvalidContext, Size, texts, write};
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
    /// The next row has the context of these pairs, sorted by name or not.
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
        let end = self.canonical.len();
        self.runs.push(Run { end, rows: 1 });
        self.rows += 1;
        Ok(())
    }

    /// The next row has the context of the one before; nothing without one.
    pub fn repeat(&mut self) {
        if let Some(last) = self.runs.last_mut() {
            last.rows += 1;
            self.rows += 1;
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
            runs.repeat();
            assert_eq!(runs.push([("n", "v")].into_iter()), Ok(()));
            let pushed = runs.push(pairs.iter().copied());
            runs.repeat();
            let mut expected = vec![(first.clone(), 1)];
            match (pushed, whole) {
                (Ok(()), Ok(context)) => expected.push((context, 2)),
                (pushed, whole) => {
                    assert_eq!(pushed.err(), whole.err());
                    expected[0].1 = 2;
                }
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
