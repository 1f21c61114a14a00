//! Rows that have the same as an earlier row, among any number of them, in bounded memory.
//!
//! Each row is kept as its place and 128 bits of SipHash. The hash keys are drawn for each job, so
//! a table cannot be made to collide on purpose; two of 10^10 rows do by chance with 2^-62. Entries
//! are sorted into buckets by their first bits; entries that do not fit into memory are appended to
//! a file that has no name, so that a process that is killed leaves nothing. At the end each bucket
//! is read and compared by itself, several at once, and sorted where two of its entries are alike.

use crate::file::open;
use crate::table::{RowPosition, TableError};
use rayon::prelude::*;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of the entries that are held in memory.
const MEMORY_BYTES: usize = 192 << 20;
/// Buckets; each has to fit into memory in the end: 240 MB of 10^10 rows.
const BUCKETS: usize = 1024;
/// Entries of one block of a bucket, and what one entry takes.
const BLOCK_ENTRIES: usize = 512;
const ENTRY_BYTES: usize = 24;
/// Permission bits of the file that takes what memory does not hold: it has no name but for a
/// moment.
const SPILL_MODE: u32 = 0o600;
/// Bits of a place that are its row's number; the others are its file's.
const ROW_BITS: u32 = 44;

/// The hash's two halves, and the place.
type Entry = [u64; 3];

/// Hashes the values to compare; clones hash alike.
#[derive(Clone)]
pub struct Fingerprint(RandomState, RandomState);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(RandomState::new(), RandomState::new())
    }
}

impl Fingerprint {
    /// The entry of a row.
    #[must_use]
    pub fn of(&self, bytes: &[u8], place: RowPosition) -> Entry {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(bytes);
            hasher.finish()
        };
        let at = (place.file as u64) << ROW_BITS | place.row;
        [half(&self.0), half(&self.1), at]
    }
}

/// Two rows that have the same; the earlier one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Twins {
    /// The row that is one too many.
    pub later: RowPosition,
    /// The first that has the same.
    pub first: RowPosition,
}

/// Entries of many rows.
pub struct Distinct {
    /// What the file without a name is called for a moment.
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    buckets: Vec<Bucket>,
    blocks: usize,
    spill: Option<Spill>,
}

/// The blocks of a bucket; the one that is being filled is found at once.
#[derive(Clone, Default)]
struct Bucket {
    full: Vec<Vec<Entry>>,
    open: Vec<Entry>,
}

impl Bucket {
    /// Adds an entry; returns whether a block begins with it.
    fn push(&mut self, entry: Entry) -> bool {
        let begins = self.open.len() == self.open.capacity();
        if begins {
            let open = Vec::with_capacity(BLOCK_ENTRIES);
            let full = std::mem::replace(&mut self.open, open);
            self.full.extend(Some(full).filter(|full| !full.is_empty()));
        }
        self.open.push(entry);
        begins
    }

    /// The entries, of which none is left in it.
    fn take(&mut self) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.full).concat();
        entries.append(&mut std::mem::take(&mut self.open));
        entries
    }
}

struct Spill {
    file: File,
    bytes: u64,
    /// Of each bucket: where its pieces are, and how many entries they have.
    pieces: Vec<Vec<(u64, usize)>>,
}

impl Distinct {
    /// None yet; what does not fit into memory goes to a file that is called `path` for a moment.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let held = Held {
            buckets: vec![Bucket::default(); BUCKETS],
            ..Held::default()
        };
        Self {
            path,
            held: Mutex::new(held),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When there is no room for what does not fit into memory.
    pub fn add(&self, entries: &[Entry]) -> Result<(), TableError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let bucket = usize::try_from(entry[0] >> (u64::BITS - BUCKETS.ilog2()))?;
            held.blocks += usize::from(held.buckets[bucket].push(*entry));
        }
        if held.blocks * BLOCK_ENTRIES * ENTRY_BYTES > MEMORY_BYTES {
            held.spill(&self.path)
                .map_err(|error| TableError::note("write", &self.path, error))?;
        }
        Ok(())
    }

    /// How many rows have the same as an earlier one, and `max` of them at most and one more, in
    /// order.
    ///
    /// # Errors
    /// When what did not fit into memory cannot be read.
    pub fn twins(self, max: usize) -> Result<(u64, Vec<Twins>), TableError> {
        let path = self.path;
        let Held {
            mut buckets, spill, ..
        } = self
            .held
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let count = AtomicU64::new(0);
        let found: Mutex<Vec<Twins>> = Mutex::default();
        buckets
            .par_iter_mut()
            .enumerate()
            .try_for_each(|(number, bucket)| {
                // One bucket: its entries in memory and those in the file.
                let mut entries = bucket.take();
                if let Some(spill) = &spill {
                    spill.read(number, &mut entries)?;
                }
                if are_distinct(&entries) {
                    return Ok(());
                }
                // By hash, then by place.
                entries.sort_unstable();
                let mut first: Option<Entry> = None;
                for entry in entries {
                    match first {
                        // Sorted by place within a hash, so the first is the earliest row.
                        Some(first) if first[..2] == entry[..2] => {
                            count.fetch_add(1, Ordering::Relaxed);
                            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                            if found.len() <= max {
                                found.push(Twins {
                                    later: place(entry[2]),
                                    first: place(first[2]),
                                });
                            }
                        }
                        _ => first = Some(entry),
                    }
                }
                Ok(())
            })
            .map_err(|error: std::io::Error| TableError::note("read", &path, error))?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable();
        Ok((count.into_inner(), found))
    }
}

/// Whether no two entries of a bucket have the same, which is found out faster than they are
/// sorted. Half of the hash is compared, so it may say no where all are distinct, by chance.
fn are_distinct(entries: &[Entry]) -> bool {
    let hasher = BuildHasherDefault::<Hashed>::default();
    let mut seen = HashSet::with_capacity_and_hasher(entries.len(), hasher);
    entries.iter().all(|[_, hash, _]| seen.insert(*hash))
}

/// The hash of a number that is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn place(at: u64) -> RowPosition {
    RowPosition {
        file: usize::try_from(at >> ROW_BITS).unwrap_or(usize::MAX),
        row: at & ((1 << ROW_BITS) - 1),
    }
}

impl Held {
    /// Appends all that is held to the file.
    fn spill(&mut self, path: &Path) -> std::io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => {
                let file = open::anew(path, SPILL_MODE)?;
                // Without a name the file is gone when the process is.
                std::fs::remove_file(path)?;
                self.spill.insert(Spill {
                    file,
                    bytes: 0,
                    pieces: vec![Vec::new(); BUCKETS],
                })
            }
        };
        let mut bytes = Vec::new();
        for (bucket, pieces) in self.buckets.iter_mut().zip(&mut spill.pieces) {
            bytes.clear();
            for entry in bucket.take() {
                bytes.extend(entry.iter().flat_map(|word| word.to_be_bytes()));
            }
            // One piece for each bucket, so that a bucket is read without the others.
            if !bytes.is_empty() {
                spill.file.write_all_at(&bytes, spill.bytes)?;
                pieces.push((spill.bytes, bytes.len() / ENTRY_BYTES));
                spill.bytes += bytes.len() as u64;
            }
        }
        self.blocks = 0;
        Ok(())
    }
}

impl Spill {
    fn read(&self, bucket: usize, entries: &mut Vec<Entry>) -> std::io::Result<()> {
        for (at, count) in &self.pieces[bucket] {
            let mut bytes = vec![0; count * ENTRY_BYTES];
            self.file.read_exact_at(&mut bytes, *at)?;
            let (words, _) = bytes.as_chunks::<8>();
            let (of_entries, _) = words.as_chunks::<3>();
            entries.extend(of_entries.iter().map(|words| words.map(u64::from_be_bytes)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: usize, row: u64) -> RowPosition {
        RowPosition { file, row }
    }

    fn twins(
        texts: &[(&str, RowPosition)],
        spills: bool,
        max: usize,
    ) -> Vec<(RowPosition, RowPosition)> {
        let folder = tempfile::tempdir().unwrap();
        let (distinct, hash) = (
            Distinct::new(folder.path().join("spill")),
            Fingerprint::default(),
        );
        for (text, place) in texts {
            let entry = hash.of(text.as_bytes(), *place);
            distinct.add(&[entry]).unwrap();
            if spills {
                let path = folder.path().join("spill");
                distinct.held.lock().unwrap().spill(&path).unwrap();
                assert!(!path.exists(), "it has no name");
            }
        }
        let (_, found) = distinct.twins(max).unwrap();
        found
            .iter()
            .map(|twins| (twins.later, twins.first))
            .collect()
    }

    #[test]
    fn every_row_but_the_first_is_found_wherever_it_is() {
        let texts = [
            ("a", at(1, 7)),
            ("b", at(0, 1)),
            ("a", at(0, 0)),
            ("", at(0, 2)),
            ("a", at(1 << 19, 1 << 43)),
            ("c", at(2, 0)),
        ];
        for spills in [false, true] {
            let found = twins(&texts, spills, 10);
            let first = at(0, 0);
            assert_eq!(found, [(at(1, 7), first), (at(1 << 19, 1 << 43), first)]);
        }
        assert_eq!(twins(&texts, true, 0).len(), 1, "one more than asked for");
    }

    #[test]
    fn many_rows_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (distinct, hash) = (
            Distinct::new(folder.path().join("spill")),
            Fingerprint::default(),
        );
        for number in 0..100_000_u64 {
            let text = format!("container-{}", number % 99_999);
            distinct
                .add(&[hash.of(text.as_bytes(), at(0, number))])
                .unwrap();
        }
        let (count, found) = distinct.twins(10).unwrap();
        assert!(count >= found.len() as u64);
        let only = Twins {
            later: at(0, 99_999),
            first: at(0, 0),
        };
        assert_eq!(found, [only]);
    }
}
