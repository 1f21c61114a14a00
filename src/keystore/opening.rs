//! Opens the records of one state of a store on all cores, while it is still being read. A batch is
//! freed as soon as it is opened.
//!
//! Each record must open, be no newer than the head, and be there once; at the end all of them must
//! be those of the head.

use crate::crypto::secret::Secret;
use crate::key::regions::Regions;
use crate::keystore::format1::{self, Roster};
use crate::keystore::reading::{self, Reading};
use crate::keystore::record::{self, Corrupt, FORMAT_OF_OLD, Head, Kind, Record, Sealer, Term};
use crate::keystore::snapshot::Entries;
use crate::keystore::terms::{self, Name, NameDigest, Terms};
use crate::keystore::{KeystoreError, Snapshot, body, related};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::task::{JoinHandle, spawn_blocking};

/// Batches for each core that are being opened or wait for it.
const BATCHES_PER_CORE: usize = 2;

/// The verified records of one revision.
pub(super) struct Verified {
    /// Of a store of format 1, with the terms of later formats.
    pub(super) head: Head,
    pub(super) terms: Terms,
    pub(super) snapshot: Snapshot,
}

/// What was opened of a state of a store so far.
struct Opening {
    opener: Arc<Opener>,
    terms: HashMap<NameDigest, Term>,
    sum: Term,
    entries: Entries,
    old: Option<Old>,
}

/// What a store of format 1 is verified with.
pub(super) struct Old {
    pub(super) term_key: Secret<32>,
    pub(super) roster: Roster,
    /// All of them.
    pub(super) records: Vec<Record>,
}

/// What threads open records with.
struct Opener {
    sealer: Arc<Sealer>,
    head: Head,
    regions: Regions,
    name_key: Arc<Secret<32>>,
}

/// A batch of records that were opened.
#[derive(Default)]
struct Opened {
    named: Vec<(Name, NameDigest, Term)>,
    entries: Entries,
}

impl Verified {
    /// Verifies a store that was open before.
    pub(super) async fn again(
        reading: Reading,
        sealer: &Arc<Sealer>,
        regions: &Regions,
    ) -> Result<Self, KeystoreError> {
        match sealer.open_own_head(reading.head()) {
            Ok(head) => Self::of(reading, sealer, head, regions, None).await,
            Err(source) => Err(reading.refused(source).await),
        }
    }

    /// Verifies what is read against this head. A store of format 1 has `old` beside it.
    ///
    /// # Panics
    /// When the work on the records has panicked.
    pub(super) async fn of(
        mut reading: Reading,
        sealer: &Arc<Sealer>,
        head: Head,
        regions: &Regions,
        old: Option<Old>,
    ) -> Result<Self, KeystoreError> {
        // The head is sealed, the tables are not. They have been the same since format 2.
        let (tables, format) = (reading.format(), head.format);
        if (tables == FORMAT_OF_OLD) != (format == FORMAT_OF_OLD) {
            let head = format;
            return Err(reading.refused(Corrupt::Mixed { tables, head }).await);
        }
        let mut opening = Opening::begin(Arc::clone(sealer), head, regions, old);
        if let Err(source) = opening.open_all(&mut reading).await? {
            return Err(reading.refused(source).await);
        }
        let verified = match spawn_blocking(|| opening.end()).await {
            Ok(verified) => verified,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        verified.map_err(|source| reading.place().corrupt(source))
    }
}

impl Opening {
    /// Nothing is opened yet.
    fn begin(sealer: Arc<Sealer>, head: Head, regions: &Regions, old: Option<Old>) -> Self {
        Self {
            opener: Arc::new(Opener {
                name_key: sealer.name_key(),
                sealer,
                head,
                regions: regions.clone(),
            }),
            terms: HashMap::new(),
            sum: [0; 32],
            entries: Entries::default(),
            old,
        }
    }

    /// Opens what is read. The inner error is of the first record that is wrong: those behind it
    /// were not all read.
    ///
    /// # Panics
    /// When the work on a batch has panicked.
    async fn open_all(
        &mut self,
        reading: &mut Reading,
    ) -> Result<Result<(), Corrupt>, KeystoreError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let mut under_way = VecDeque::new();
        while let Some(rows) = reading.rows().await? {
            let records = match reading::known(rows) {
                Ok(records) => records,
                Err(source) => return Ok(Err(source)),
            };
            if let Some(old) = &mut self.old {
                old.records.extend_from_slice(&records);
            }
            let opener = Arc::clone(&self.opener);
            under_way.push_back(spawn_blocking(move || opener.open(records)));
            if under_way.len() >= cores * BATCHES_PER_CORE
                && let Some(first) = under_way.pop_front()
                && let Err(source) = self.take(done(first).await)
            {
                return Ok(Err(source));
            }
        }
        for batch in under_way {
            if let Err(source) = self.take(done(batch).await) {
                return Ok(Err(source));
            }
        }
        Ok(Ok(()))
    }

    fn take(&mut self, opened: Result<Opened, Corrupt>) -> Result<(), Corrupt> {
        let Opened { named, entries } = opened?;
        for ((kind, id), digest, term) in named {
            record::toggle(&mut self.sum, &term);
            // The sum is an XOR, in which two equal terms cancel out: it does not show a pair.
            if self.terms.insert(digest, term).is_some() {
                return Err(Corrupt::Twice(kind, id));
            }
        }
        self.entries.append(entries);
        Ok(())
    }

    /// What was opened, if it goes together and is what the head says.
    fn end(self) -> Result<Verified, Corrupt> {
        let Opener { head, .. } = *self.opener;
        let found = self.terms.len() as u64;
        let mut snapshot = Snapshot::of(head.revision, self.entries);
        related::relate(&mut snapshot)?;
        snapshot.check_key_stores()?;
        match &self.old {
            Some(old) => format1::verify(&old.term_key, &head, &old.records, &old.roster)?,
            None if (found, self.sum) == (head.records, head.sum) => {}
            None => {
                return Err(Corrupt::Set {
                    revision: head.revision,
                    found,
                    expected: head.records,
                });
            }
        }
        Ok(Verified {
            head: Head {
                records: found,
                sum: self.sum,
                ..head
            },
            terms: Terms::of(Arc::clone(&self.opener.name_key), self.terms),
            snapshot,
        })
    }
}

impl Opener {
    fn open(&self, records: Vec<Record>) -> Result<Opened, Corrupt> {
        let mut opened = Opened::default();
        for record in records {
            let (kind, id) = (record.kind, record.id.as_str());
            // With a second head, their order would decide which counts.
            if kind == Kind::Head {
                return Err(Corrupt::Twice(kind, record.id));
            }
            let plaintext = self.sealer.open(&record)?;
            if record.revision > self.head.revision {
                return Err(Corrupt::Newer(kind, record.id, record.revision));
            }
            let entry = body::decode(&record, &plaintext, &self.regions)?;
            opened.entries.push(entry);
            let digest = terms::digest(&self.name_key, kind, id);
            let term = self.sealer.term(&record);
            opened.named.push(((kind, record.id), digest, term));
        }
        Ok(opened)
    }
}

async fn done(batch: JoinHandle<Result<Opened, Corrupt>>) -> Result<Opened, Corrupt> {
    match batch.await {
        Ok(opened) => opened,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
