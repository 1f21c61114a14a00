//! One state of a store, read from its first record to its last, with each record authenticated and
//! all of them held to the head. It goes on behind a record that is damaged, so every one is named.
//!
//! What it does not do: compare the store with what this host has seen, or hold records to each
//! other beyond the head's sum (that a replica key has its primary key).

use crate::key::regions::Regions;
use crate::keystore::reading::{Place, Reading, Row};
use crate::keystore::record::{self, Corrupt, FORMAT_OF_OLD, Head, Kind, Record, Sealer, Term};
use crate::keystore::{KeystoreError, RootKey, body};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A store that is checked while it is read.
pub struct Checked {
    reading: Reading,
    sealer: Arc<Sealer>,
    /// What its records are held to.
    opened: Head,
    /// `None` only while it works.
    checker: Option<Box<Checker>>,
}

/// Some records, and what is wrong with others.
#[derive(Default)]
pub struct Batch {
    /// Those that are as they were written.
    pub records: Vec<Record>,
    /// A line for each of the others, and in the end for what is wrong with the whole.
    pub findings: Vec<Corrupt>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The head's revision.
    pub revision: u64,
    /// The records that were found, besides the head.
    pub records: u64,
    /// The same by the names of their kinds.
    pub kinds: BTreeMap<String, u64>,
    /// How many things are wrong.
    pub findings: u64,
}

struct Checker {
    sealer: Arc<Sealer>,
    regions: Regions,
    head: Head,
    sum: Term,
    found: u64,
    kinds: BTreeMap<&'static str, u64>,
    last: Option<(Kind, String)>,
    findings: u64,
    ended: bool,
}

impl Checked {
    /// Checks with the root key.
    ///
    /// # Errors
    /// [`KeystoreError::Corrupt`], when the head is not of this root key, or is of format 1.
    pub fn with_root(
        reading: Reading,
        root: &RootKey,
        regions: &Regions,
    ) -> Result<Self, KeystoreError> {
        let opened = Sealer::open_head(root, reading.head());
        let (sealer, head) = opened.map_err(|source| reading.place().corrupt(source))?;
        Self::new(reading, Arc::new(sealer), head, regions)
    }

    /// Checks with the keys of the same store.
    pub(super) fn with_sealer(
        reading: Reading,
        sealer: Arc<Sealer>,
        regions: &Regions,
    ) -> Result<Self, KeystoreError> {
        let head = sealer.open_own_head(reading.head());
        let head = head.map_err(|source| reading.place().corrupt(source))?;
        Self::new(reading, sealer, head, regions)
    }

    fn new(
        reading: Reading,
        sealer: Arc<Sealer>,
        head: Head,
        regions: &Regions,
    ) -> Result<Self, KeystoreError> {
        let (tables, head_format) = (reading.format(), head.format);
        if head_format == FORMAT_OF_OLD || tables == FORMAT_OF_OLD {
            let head = head_format;
            let source = match tables == head {
                true => Corrupt::OldFormat(head),
                false => Corrupt::Mixed { tables, head },
            };
            return Err(reading.place().corrupt(source));
        }
        Ok(Self::held_to(head, reading, sealer, regions))
    }

    /// Checks with the keys of the same store, and holds its records to `head`, whatever head is
    /// there.
    pub(super) fn held_to(
        head: Head,
        reading: Reading,
        sealer: Arc<Sealer>,
        regions: &Regions,
    ) -> Self {
        let checker = Checker {
            sealer: Arc::clone(&sealer),
            regions: regions.clone(),
            head,
            sum: [0; 32],
            found: 0,
            kinds: BTreeMap::new(),
            last: None,
            findings: 0,
            ended: false,
        };
        Self {
            reading,
            sealer,
            opened: head,
            checker: Some(Box::new(checker)),
        }
    }

    /// The store that is read.
    pub(super) fn place(&self) -> &Place {
        self.reading.place()
    }

    /// The keys of its records.
    pub(super) fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }

    /// What its records are held to.
    pub(super) fn opened(&self) -> Head {
        self.opened
    }

    /// The head's row.
    #[must_use]
    pub fn head(&self) -> &Record {
        self.reading.head()
    }

    /// The next records, with what is wrong; `None` behind the last ones.
    ///
    /// # Errors
    /// [`KeystoreError`], when it cannot be read on.
    ///
    /// # Panics
    /// When the work on a batch has panicked.
    pub async fn next(&mut self) -> Result<Option<Batch>, KeystoreError> {
        let rows = self.reading.rows().await?;
        let mut checker = self.checker.take().expect("it is put back below");
        // A batch keeps a thread busy for a millisecond.
        let work = move || {
            let batch = checker.take(rows);
            (checker, batch)
        };
        let (checker, batch) = match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.checker = Some(checker);
        Ok(batch)
    }

    /// What was read so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let checker = self.checker.as_deref();
        let kinds = checker.iter().flat_map(|checker| &checker.kinds);
        Summary {
            revision: self.reading.head().revision,
            records: checker.map_or(0, |checker| checker.found),
            kinds: kinds
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            findings: checker.map_or(0, |checker| checker.findings),
        }
    }
}

impl Checker {
    fn take(&mut self, rows: Option<Vec<Row>>) -> Option<Batch> {
        let mut batch = Batch::default();
        match rows {
            Some(rows) => {
                for row in rows {
                    match self.one(row) {
                        Ok(record) => batch.records.push(record),
                        Err(finding) => batch.findings.push(finding),
                    }
                }
            }
            None if std::mem::replace(&mut self.ended, true) => return None,
            // Where records are damaged, their sum cannot be right.
            None if self.findings > 0 => return None,
            None => batch.findings.extend(self.set().err()),
        }
        self.findings += batch.findings.len() as u64;
        Some(batch)
    }

    fn one(&mut self, row: Row) -> Result<Record, Corrupt> {
        self.found += 1;
        let record = match row {
            Row::Record(record) => record,
            Row::Unknown(name) => return Err(Corrupt::Kind(name)),
        };
        let (kind, id) = (record.kind, record.id.clone());
        *self.kinds.entry(kind.name()).or_default() += 1;
        let name = (kind, id.clone());
        // They are in order.
        if self.last.replace(name.clone()).as_ref() == Some(&name) {
            return Err(Corrupt::Twice(kind, id));
        }
        let plaintext = self.sealer.open(&record)?;
        if record.revision > self.head.revision {
            return Err(Corrupt::Newer(kind, id, record.revision));
        }
        body::decode(&record, &plaintext, &self.regions)?;
        record::toggle(&mut self.sum, &self.sealer.term(&record));
        Ok(record)
    }

    fn set(&self) -> Result<(), Corrupt> {
        let Head { records, sum, .. } = self.head;
        if self.found == records && self.sum == sum {
            return Ok(());
        }
        Err(Corrupt::Set {
            revision: self.head.revision,
            found: self.found,
            expected: records,
        })
    }
}
