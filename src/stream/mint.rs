//! Minting the keys of a chunk, on the caller's thread or on all threads of its pool.

use crate::context::ContextRef;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::envelope::{self, blob_bytes};
use crate::key::KeyId;
use crate::key::data_key::DataKeyLength;
use crate::key::material::BackingKey;

/// Rows of a chunk that is minted in two halves at least: waking a thread takes as long as minting
/// some hundred keys.
const HALVED_ROWS_MIN: usize = 2048;

/// The threads that a chunk may be made on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// The caller's alone.
    #[default]
    One,
    /// Those of the pool that the caller's thread belongs to, since they have nothing else to do. A
    /// chunk that is made while others wait would take one of them up in the midst of its own.
    All,
}

/// Keys to mint.
pub(super) struct Mint<'a> {
    pub(super) id: KeyId,
    pub(super) material: &'a BackingKey,
    pub(super) length: DataKeyLength,
    pub(super) entropy: &'a Entropy,
}

impl Mint<'_> {
    /// As [`envelope::mint_rows`]; each half in epochs of its own.
    ///
    /// # Errors
    /// [`EntropyError`]; the bytes in `out` must then not be used.
    pub(super) fn rows<'a>(
        &self,
        threads: Threads,
        runs: impl Iterator<Item = (ContextRef<'a>, usize)> + Clone + Sync,
        out: &mut Vec<u8>,
    ) -> Result<(), EntropyError> {
        let rows = runs.clone().map(|(_, rows)| rows).sum();
        if threads == Threads::One || rows < HALVED_ROWS_MIN {
            return self.part(runs, 0, rows, out);
        }
        let half = rows / 2;
        let mut rest = Vec::new();
        let (first, second) = rayon::join(
            || {
                out.reserve(rows * blob_bytes(self.length));
                self.part(runs.clone(), 0, half, out)
            },
            || self.part(runs.clone(), half, rows, &mut rest),
        );
        first.and(second)?;
        out.extend_from_slice(&rest);
        Ok(())
    }

    /// The rows from this one on, up to that one.
    fn part<'a>(
        &self,
        runs: impl Iterator<Item = (ContextRef<'a>, usize)> + Clone,
        from: usize,
        end: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), EntropyError> {
        let mut row = 0;
        let runs = runs.filter_map(move |(context, rows)| {
            let begin = row;
            row += rows;
            let rows = row.min(end).saturating_sub(begin.max(from));
            (rows > 0).then_some((context, rows))
        });
        let (id, material, length) = (self.id, self.material, self.length);
        envelope::mint_rows(id, material, length, self.entropy, runs, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::context::EncryptionContext;
    use crate::envelope::{CiphertextBlob, open};
    use std::collections::HashSet;

    #[test]
    fn halves_are_in_order_and_share_no_nonce() {
        let id = KeyId::from_random([7; 16]);
        let entropy = Entropy::os();
        let material = BackingKey::draw(id, 1, Timestamp(0), &entropy).unwrap();
        let mint = Mint {
            id,
            material: &material,
            length: DataKeyLength::AES_256,
            entropy: &entropy,
        };
        let contexts =
            ["a", "b", "c"].map(|value| EncryptionContext::from_pairs([("value", value)]).unwrap());
        // The half is within a run, and at the border of two.
        for lengths in [[1000, 3001, 1], [2000, 1, 2001], [4000, 0, 1]] {
            let runs: Vec<_> = contexts.iter().zip(lengths).collect();
            let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build();
            let mut out = b"before".to_vec();
            let refs = runs.iter();
            let refs = refs.map(|(context, rows)| (ContextRef::from(*context), *rows));
            let minted = threads
                .unwrap()
                .install(|| mint.rows(Threads::All, refs, &mut out));
            assert!(minted.is_ok());
            let blobs = out.strip_prefix(b"before").unwrap();
            let rows = runs
                .iter()
                .flat_map(|(context, rows)| vec![*context; *rows]);
            let blobs: Vec<_> = blobs.chunks(blob_bytes(mint.length)).zip(rows).collect();
            assert_eq!(blobs.len(), lengths.iter().sum::<usize>());
            for (blob, context) in &blobs {
                let blob = CiphertextBlob::parse(blob).unwrap();
                assert!(open(id, &material, context, &blob).is_ok());
            }
            let nonces: HashSet<_> = blobs.iter().map(|(blob, _)| &blob[24..48]).collect();
            let epochs: HashSet<_> = blobs.iter().map(|(blob, _)| &blob[24..44]).collect();
            assert_eq!((nonces.len(), epochs.len()), (blobs.len(), 2));
        }
    }
}
