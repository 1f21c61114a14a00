//! The verified content of a store: the only way from its rows to a snapshot.

use crate::crypto::secret::Secret;
use crate::key::regions::Regions;
use crate::keystore::body::{self, Entry};
use crate::keystore::record::{self, Corrupt, FORMAT_OF_OLD, Head, Kind, Record, Sealer, Term};
use crate::keystore::seen::SeenFile;
use crate::keystore::store::Contents;
use crate::keystore::terms::Terms;
use crate::keystore::{GrantTokens, ImportTokens, RootKey, Snapshot, format1, related};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::Path;
use std::sync::Arc;

/// Records that are decoded before the next are: so many entries are there twice.
const BATCH: usize = 8192;

/// The result of loading, and the keys that are derived from the root key.
pub(super) struct Loaded {
    pub(super) sealer: Sealer,
    /// The head's row.
    pub(super) row: Record,
    /// The format in which the store was found.
    pub(super) format: u8,
    pub(super) verified: Verified,
    pub(super) session_token_key: Arc<Secret<32>>,
    pub(super) grant_tokens: GrantTokens,
    pub(super) import_tokens: ImportTokens,
}

/// The verified records of one revision.
pub(super) struct Verified {
    /// Of a store of format 1, with the terms of later formats.
    pub(super) head: Head,
    pub(super) terms: Terms,
    pub(super) snapshot: Snapshot,
}

impl Loaded {
    /// Verifies the content as [`Self::verify`] does, and that it is not older than what the host
    /// of the store at `path` has seen.
    pub(super) fn verify_seen(
        contents: Contents,
        root: &RootKey,
        regions: &Regions,
        path: &Path,
    ) -> Result<Self, Corrupt> {
        let loaded = Self::verify(contents, root, regions)?;
        SeenFile::beside(path).check(&loaded.row, loaded.format)?;
        Ok(loaded)
    }

    pub(super) fn verify(
        contents: Contents,
        root: &RootKey,
        regions: &Regions,
    ) -> Result<Self, Corrupt> {
        let row = head_record(&contents)?.clone();
        let (sealer, head) = Sealer::open_head(root, &row)?;
        let format = head.format;
        // A store of format 1 is also checked against its roster.
        let verified = if format == FORMAT_OF_OLD {
            check_tables(&contents, &head)?;
            let verified = Verified::opened(&contents, &sealer, head, regions)?;
            let records: Vec<_> = others(&contents).collect();
            format1::verify(root, &head, &records, &contents.roster)?;
            verified
        } else {
            Verified::of(&contents, &sealer, head, regions)?
        };
        Ok(Self {
            sealer,
            row,
            format,
            verified,
            session_token_key: Arc::new(root.subkey("session tokens")),
            grant_tokens: GrantTokens::new(root),
            import_tokens: ImportTokens::new(root),
        })
    }
}

impl Verified {
    /// Verifies a store that was open before.
    pub(super) fn again(
        contents: &Contents,
        sealer: &Sealer,
        regions: &Regions,
    ) -> Result<Self, Corrupt> {
        let head = sealer.open_own_head(head_record(contents)?)?;
        Self::of(contents, sealer, head, regions)
    }

    fn of(
        contents: &Contents,
        sealer: &Sealer,
        head: Head,
        regions: &Regions,
    ) -> Result<Self, Corrupt> {
        check_tables(contents, &head)?;
        let verified = Self::opened(contents, sealer, head, regions)?;
        if verified.head != head {
            return Err(Corrupt::Set {
                revision: head.revision,
                found: verified.head.records,
                expected: head.records,
            });
        }
        Ok(verified)
    }

    /// Reads the records and computes the head that belongs to them, which may differ from the
    /// store's head.
    fn opened(
        contents: &Contents,
        sealer: &Sealer,
        head: Head,
        regions: &Regions,
    ) -> Result<Self, Corrupt> {
        let mut terms = Terms::new(sealer.name_key());
        let mut sum = [0; 32];
        let mut snapshot = Snapshot::empty(head.revision);
        // Each record must open, be no newer than the head, and occur once; the caller compares the
        // sum.
        let records: Vec<&Record> = others(contents).collect();
        let threads = threads(records.len());
        let open = |record: &&Record| opened(record, sealer, &head, regions);
        let batches = records.chunks(BATCH).flat_map(|batch| match &threads {
            Some(threads) => threads.install(|| batch.par_iter().map(open).collect::<Vec<_>>()),
            None => batch.iter().map(open).collect(),
        });
        for (record, opened) in records.iter().zip(batches) {
            let (term, entry) = opened?;
            record::toggle(&mut sum, &term);
            // The sum is an XOR, in which two equal terms cancel out: it does not show a pair.
            if terms
                .insert(&(record.kind, record.id.clone()), term)
                .is_some()
            {
                return Err(Corrupt::Twice(record.kind, record.id.clone()));
            }
            snapshot.put(entry);
        }
        related::relate(&mut snapshot)?;
        snapshot.check_key_stores()?;
        let head = Head {
            format: head.format,
            revision: head.revision,
            records: terms.len() as u64,
            sum,
        };
        Ok(Self {
            head,
            terms,
            snapshot,
        })
    }
}

/// The term and the content of a record, if it opens and is not newer than the head.
fn opened(
    record: &Record,
    sealer: &Sealer,
    head: &Head,
    regions: &Regions,
) -> Result<(Term, Entry), Corrupt> {
    let plaintext = sealer.open(record)?;
    if record.revision > head.revision {
        let (kind, id) = (record.kind, record.id.clone());
        return Err(Corrupt::Newer(kind, id, record.revision));
    }
    let entry = body::decode(record, &plaintext, regions)?;
    Ok((sealer.term(record), entry))
}

/// The threads that open so many records, one for each core. A small store needs none, nor does a
/// process that can have none.
fn threads(records: usize) -> Option<ThreadPool> {
    let threads = || ThreadPoolBuilder::new().thread_name(|at| format!("load-{at}"));
    (records > BATCH).then(|| threads().build().ok()).flatten()
}

/// The one head: with a second record, their order would decide which counts.
fn head_record(contents: &Contents) -> Result<&Record, Corrupt> {
    let mut heads = contents
        .records
        .iter()
        .filter(|record| record.kind == Kind::Head);
    match (heads.next(), heads.next()) {
        (Some(head), None) => Ok(head),
        (None, _) => Err(Corrupt::NoHead),
        (Some(_), Some(second)) => Err(Corrupt::Twice(Kind::Head, second.id.clone())),
    }
}

fn others(contents: &Contents) -> impl Iterator<Item = &Record> {
    let records = contents.records.iter();
    records.filter(|record| record.kind != Kind::Head)
}

/// Checks the tables' format against that of the head. The head is sealed, the tables are not. They
/// have been the same since format 2.
fn check_tables(contents: &Contents, head: &Head) -> Result<(), Corrupt> {
    let (tables, head) = (contents.format, head.format);
    if (tables == FORMAT_OF_OLD) != (head == FORMAT_OF_OLD) {
        return Err(Corrupt::Mixed { tables, head });
    }
    Ok(())
}
