//! Reads one state of a store from its first record to its last, with few of them in memory at a
//! time: in the order of kind and id for checks, backups and restores, as they come for a start.
//!
//! A task of its own reads over a connection of its own. It waits while its reader is busy, and
//! ends when the reader does. Nothing is changed, and no change of the store waits for it; but
//! while it runs, an embedded store cannot empty its write-ahead log.

use crate::keystore::KeystoreError;
use crate::keystore::format1::Roster;
use crate::keystore::postgres::{Access, Order};
use crate::keystore::record::{Corrupt, Kind, Record};
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

mod database;
mod file;
mod start;

/// Records of one batch at most.
const BATCH_RECORDS_MAX: usize = 256;
/// Sealed bytes of one batch, about: the batch is full with the record that reaches them.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 2;

/// Where a store's records are.
#[derive(Clone)]
pub enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// A database that nodes share.
    Database(Access),
    /// What a test has in memory.
    #[cfg(test)]
    Memory(Memory),
}

/// Reads what a test has in memory.
#[cfg(test)]
#[derive(Clone)]
pub struct Memory(pub(super) std::sync::Arc<ReadMemory>);

#[cfg(test)]
type ReadMemory = dyn Fn() -> Result<(Begun, Vec<Record>), KeystoreError> + Send + Sync;

impl Place {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Database(access) => access.url.to_string(),
            #[cfg(test)]
            Self::Memory(_) => "memory".to_owned(),
        }
    }

    pub(super) fn corrupt(&self, source: Corrupt) -> KeystoreError {
        let path = self.name().into();
        KeystoreError::Corrupt { path, source }
    }
}

/// Whether the pages of an SQLite file are checked before its records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// All of them, those of the index among them.
    Checked,
    /// As they come.
    AsTheyCome,
}

/// A row of the store.
pub(super) enum Row {
    Record(Record),
    /// Of a kind that this build does not know.
    Unknown(String),
}

/// For what a store is read.
#[derive(Clone, Copy)]
enum Purpose {
    /// In order.
    Check(Pages),
    /// In no order; with all pages of an SQLite file checked meanwhile, and its roster.
    Start,
}

/// What is known of a state of a store before its records.
pub(super) struct Begun {
    /// The format of the tables.
    pub(super) format: u8,
    pub(super) head: Record,
    /// Of a store of format 1 that is read for a start; empty for others.
    pub(super) roster: Roster,
}

/// One state of a store on its way here.
pub struct Reading {
    place: Place,
    begun: Begun,
    batches: mpsc::Receiver<Result<Vec<Row>, KeystoreError>>,
    /// Dropped with it.
    _task: JoinSet<()>,
}

impl Reading {
    /// Begins to read: the head is here when this returns.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn begin(place: Place, pages: Pages) -> Result<Self, KeystoreError> {
        Self::begin_for(Purpose::Check(pages), place).await
    }

    /// Begins to read as a start does, which needs no order. Whether the pages of an SQLite file
    /// are intact is known when the last rows are here.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub(super) async fn start(place: Place) -> Result<Self, KeystoreError> {
        Self::begin_for(Purpose::Start, place).await
    }

    async fn begin_for(purpose: Purpose, place: Place) -> Result<Self, KeystoreError> {
        let (send, batches) = mpsc::channel(BATCHES_AHEAD);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let mut task = JoinSet::new();
        let read = place.clone();
        task.spawn(async move {
            let mut out = Out {
                begun: Some(begun),
                batches: send,
                rows: Vec::new(),
                bytes: 0,
            };
            let read = match (&read, purpose) {
                (Place::File(path), Purpose::Check(pages)) => {
                    file::read(path, pages, &mut out).await
                }
                (Place::File(path), Purpose::Start) => start::read(path, &mut out).await,
                (Place::Database(access), Purpose::Check(_)) => {
                    database::read(access, Order::ByName, &mut out).await
                }
                (Place::Database(access), Purpose::Start) => {
                    database::read(access, Order::Any, &mut out).await
                }
                #[cfg(test)]
                (Place::Memory(read), _) => memory(read, &mut out).await,
            };
            out.end(read).await;
        });
        let failed = || KeystoreError::Io {
            path: place.name().into(),
            source: std::io::Error::other("reading it has stopped"),
        };
        let begun = has_begun.await.map_err(|_| failed())??;
        Ok(Self {
            place,
            begun,
            batches,
            _task: task,
        })
    }

    /// The store that is read.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The format of its tables.
    pub(super) fn format(&self) -> u8 {
        self.begun.format
    }

    /// The roster of a store of format 1.
    pub(super) fn take_roster(&mut self) -> Roster {
        std::mem::take(&mut self.begun.roster)
    }

    /// The head's row.
    #[must_use]
    pub fn head(&self) -> &Record {
        &self.begun.head
    }

    /// The next rows; `None` behind the last ones.
    pub(super) async fn rows(&mut self) -> Result<Option<Vec<Row>>, KeystoreError> {
        self.batches.recv().await.transpose()
    }

    /// Why what was read is refused, which its reader has found out. All of it is read first: what
    /// is wrong with the pages says more.
    pub(super) async fn refused(mut self, source: Corrupt) -> KeystoreError {
        loop {
            match self.rows().await {
                Ok(Some(_)) => {}
                Ok(None) => return self.place.corrupt(source),
                Err(error) => return error,
            }
        }
    }

    /// The next records; `None` behind the last ones.
    ///
    /// # Errors
    /// [`KeystoreError`], also for a record of an unknown kind.
    pub async fn records(&mut self) -> Result<Option<Vec<Record>>, KeystoreError> {
        let Some(rows) = self.rows().await? else {
            return Ok(None);
        };
        let known = known(rows).map_err(|source| self.place.corrupt(source));
        known.map(Some)
    }
}

/// The records of a store, one by one.
pub struct Records {
    reading: Reading,
    batch: std::vec::IntoIter<Record>,
}

impl Reading {
    /// Its records, one by one.
    #[must_use]
    pub fn one_by_one(self) -> Records {
        Records {
            reading: self,
            batch: Vec::new().into_iter(),
        }
    }
}

impl Records {
    /// The next record; `None` behind the last one.
    ///
    /// # Errors
    /// [`KeystoreError`], also for a record of an unknown kind.
    pub async fn next(&mut self) -> Result<Option<Record>, KeystoreError> {
        loop {
            if let Some(record) = self.batch.next() {
                return Ok(Some(record));
            }
            match self.reading.records().await? {
                Some(batch) => self.batch = batch.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
async fn memory(read: &Memory, out: &mut Out) -> Result<(), KeystoreError> {
    let (begun, records) = read.0()?;
    let mut told = out.begin(begun);
    for record in records {
        if told.is_ok() {
            told = out.row(Row::Record(record)).await;
        }
    }
    Ok(())
}

/// The records of these rows.
pub(super) fn known(rows: Vec<Row>) -> Result<Vec<Record>, Corrupt> {
    let known = |row| match row {
        Row::Record(record) => Ok(record),
        Row::Unknown(name) => Err(Corrupt::Kind(name)),
    };
    rows.into_iter().map(known).collect()
}

/// Where the reading task puts what it finds.
pub(super) struct Out {
    begun: Option<tokio::sync::oneshot::Sender<Result<Begun, KeystoreError>>>,
    batches: mpsc::Sender<Result<Vec<Row>, KeystoreError>>,
    rows: Vec<Row>,
    bytes: usize,
}

/// The reader has gone.
pub(super) struct Gone;

impl Out {
    /// What is known before the first row.
    pub(super) fn begin(&mut self, begun: Begun) -> Result<(), Gone> {
        let sender = self.begun.take().ok_or(Gone)?;
        sender.send(Ok(begun)).map_err(|_| Gone)
    }

    /// Refuses a database that had no head.
    fn needs_head(&self, store: &str) -> Result<(), KeystoreError> {
        match self.begun {
            None => Ok(()),
            Some(_) => Err(KeystoreError::Empty {
                store: store.to_owned(),
            }),
        }
    }

    /// Whether the head is known.
    fn has_begun(&self) -> bool {
        self.begun.is_none()
    }

    /// Rows. It waits while the reader is busy.
    async fn rows(&mut self, rows: Vec<Row>) -> Result<(), Gone> {
        for row in rows {
            self.row(row).await?;
        }
        Ok(())
    }

    /// A row. It waits while the reader is busy.
    pub(super) async fn row(&mut self, row: Row) -> Result<(), Gone> {
        if let Row::Record(record) = &row {
            self.bytes += record.id.len() + record.body.len();
        }
        self.rows.push(row);
        if self.rows.len() < BATCH_RECORDS_MAX && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        self.batches.send(Ok(rows)).await.map_err(|_| Gone)
    }

    async fn end(mut self, read: Result<(), KeystoreError>) {
        let told = match (read, self.begun.take()) {
            (Err(error), Some(begun)) => begun.send(Err(error)).map_err(|_| Gone),
            (Err(error), None) => self.batches.send(Err(error)).await.map_err(|_| Gone),
            (Ok(()), _) if self.rows.is_empty() => Ok(()),
            (Ok(()), _) => self.batches.send(Ok(self.rows)).await.map_err(|_| Gone),
        };
        // A reader that has gone wants to know nothing.
        drop(told);
    }
}

/// A row by the name of its kind.
pub(super) fn row(kind: &str, id: String, revision: u64, body: Vec<u8>) -> Row {
    match kind.parse::<Kind>() {
        Ok(kind) => Row::Record(Record {
            kind,
            id,
            revision,
            body,
        }),
        Err(_) => Row::Unknown(kind.to_owned()),
    }
}
