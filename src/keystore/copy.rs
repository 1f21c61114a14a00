//! Copies a keystore from an embedded store into a database that nodes share, or from there into an
//! embedded store.
//!
//! Every record is authenticated on its way, and stays as it is to the byte: its row is sealed with
//! the store's id, which the copy keeps. There is one exception. The head of this host's audit log
//! has no name in an embedded store, and the node's name in a shared one. The copy goes on at a
//! revision that neither the source nor this host has seen, so that one is never taken for the
//! other. The source is left as it is.
//!
//! **Into a database** the records come in batches, each a transaction of its own, under a
//! [mark](super::record) that is in the place of the head. When all are there, they are read back
//! and held to the head that they will have; that replaces the mark, last of all. A copy that was
//! broken off is not a store, and the next run goes on with it: what is there already and the same
//! is not written again, whatever has changed in the source meanwhile.
//!
//! **Into a file** they come under another name, which is given up for the real one when everything
//! was read back and is durable. A copy that was broken off leaves nothing that counts.

use crate::crypto::entropy::Entropy;
use crate::key::regions::Regions;
use crate::keystore::carried::{Carried, Renamed};
use crate::keystore::checked::{Checked, Summary};
use crate::keystore::postgres::{Access, Filling, PostgresStore};
use crate::keystore::reading::{Pages, Place, Reading, Records};
use crate::keystore::record::{Corrupt, Record, Sealer};
use crate::keystore::replaced;
use crate::keystore::seen::SeenFile;
use crate::keystore::{KeystoreError, RootKey, StoreLock, node, store_file};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Removals of one batch at most.
const REMOVALS_MAX: usize = 256;

/// Where a keystore is copied from, and where to.
#[derive(Clone)]
pub enum Way {
    /// From an embedded store.
    IntoDatabase {
        /// The SQLite file.
        from: PathBuf,
        /// Whether that is a backup, which may be older than what this host has seen.
        is_backup: bool,
        /// The database.
        to: Access,
    },
    /// From a shared store, which no node has open.
    IntoFile {
        /// The database.
        from: Access,
        /// The SQLite file, which must not be there.
        to: PathBuf,
    },
}

/// A copy that was not done yet.
pub struct Copy<'a> {
    /// From where to where.
    pub way: Way,
    /// The file beside which this host has what belongs to its store: the name of its node, and
    /// what it has seen.
    pub host: &'a Path,
    /// The root key of both.
    pub root: &'a RootKey,
    /// The Regions that are served.
    pub regions: &'a Regions,
    /// Randomness.
    pub entropy: &'a Entropy,
}

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It brings records.
    Copying,
    /// It reads back what it has brought.
    Verifying,
}

/// A copy that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What the source has.
    pub source: Summary,
    /// The revision at which the copy goes on.
    pub revision: u64,
    /// The records of the copy.
    pub records: u64,
    /// Those that this run has written. An earlier one may have written the others.
    pub written: u64,
    /// The node whose audit log is continued; empty if there is none.
    pub node: String,
}

impl Copy<'_> {
    /// Does it. `progress` is given the number of records so far.
    ///
    /// # Errors
    /// [`KeystoreError`]; the source is unchanged, and what is there of the copy is not a store.
    pub async fn run(
        &self,
        progress: &mut (dyn FnMut(Phase, u64) + Send),
    ) -> Result<Copied, KeystoreError> {
        match &self.way {
            Way::IntoDatabase {
                from,
                is_backup,
                to,
            } => self.to_database(from, *is_backup, to, progress).await,
            Way::IntoFile { from, to } => self.to_file(from, to, progress).await,
        }
    }

    async fn to_database(
        &self,
        from: &Path,
        is_backup: bool,
        to: &Access,
        progress: &mut (dyn FnMut(Phase, u64) + Send),
    ) -> Result<Copied, KeystoreError> {
        if !from.exists() {
            let path = from.to_owned();
            return Err(KeystoreError::Absent { path });
        }
        // A backup has no writer, and its folder gets no file of ours.
        let lock = match is_backup {
            true => None,
            false => Some(StoreLock::acquire(from)?),
        };
        let checked = self.checked(Place::File(from.to_owned())).await?;
        if !is_backup {
            not_older(&checked, from)?;
        }
        let seen = [from, self.host].map(SeenFile::beside);
        let revision = self.next_revision(&checked, &seen)?;
        let sealer = Arc::clone(checked.sealer());
        let mark = sealer.seal_mark(self.entropy)?;
        let name = to.url.to_string();
        let may_replace = |found: &Record| may_replace(found, &sealer, &name);
        let mut filling = Filling::begin(to.clone(), mark, may_replace).await?;
        let node = node::name(self.host, self.entropy)?;
        let renamed = Renamed {
            from: String::new(),
            to: node.clone(),
        };
        let mut carried = Carried::renaming(revision, checked, Some(renamed));
        let place = Place::Database(to.clone());
        let there = Reading::begin(place.clone(), Pages::AsTheyCome).await?;
        let copying = &mut |done| progress(Phase::Copying, done);
        let there = there.one_by_one();
        let written = fill(&mut filling, there, &mut carried, self.entropy, copying).await?;
        let reading = Reading::begin(place, Pages::AsTheyCome).await?;
        let back = Checked::held_to(carried.opened(), reading, sealer, self.regions);
        read_back(back, progress).await?;
        finish(filling, carried.head(self.entropy)?, to).await?;
        drop(lock);
        Ok(copied(&carried, written, node))
    }

    async fn to_file(
        &self,
        from: &Access,
        to: &Path,
        progress: &mut (dyn FnMut(Phase, u64) + Send),
    ) -> Result<Copied, KeystoreError> {
        let place = replaced::Place::take(to)?;
        if to.exists() {
            return Err(KeystoreError::Occupied {
                store: to.display().to_string(),
                reason: "it is there already: move it away, or name another file".to_owned(),
            });
        }
        let checked = self.checked(Place::Database(from.clone())).await?;
        not_older(&checked, self.host)?;
        let seen = [to, self.host].map(SeenFile::beside);
        let revision = self.next_revision(&checked, &seen)?;
        let (sealer, before) = (Arc::clone(checked.sealer()), checked.head().clone());
        let node = node::known(self.host)?.unwrap_or_default();
        let renamed = (!node.is_empty()).then(|| Renamed {
            from: node.clone(),
            to: String::new(),
        });
        let mut carried = Carried::renaming(revision, checked, renamed);
        let unfinished = place.unfinished();
        let mut written = 0;
        let copying = |done| {
            written = done;
            progress(Phase::Copying, done);
        };
        let head = store_file::write(&unfinished, &mut carried, self.entropy, copying).await?;
        let reading = Reading::begin(Place::File(unfinished), Pages::Checked).await?;
        let back = Checked::with_sealer(reading, sealer, self.regions)?;
        read_back(back, progress).await?;
        // There is no lock that would keep nodes away.
        if PostgresStore::new(from.clone()).head().await? != Some(before) {
            let store = from.url.to_string();
            return Err(KeystoreError::Moved { store });
        }
        let left = to.with_added_extension("before-copy");
        place.fill(&head, &left).await?;
        Ok(copied(&carried, written, node))
    }

    async fn checked(&self, place: Place) -> Result<Checked, KeystoreError> {
        let reading = Reading::begin(place, Pages::Checked).await?;
        Checked::with_root(reading, self.root, self.regions)
    }

    /// A revision above the source's, and above what this host has seen.
    fn next_revision(&self, source: &Checked, seen: &[SeenFile]) -> Result<u64, KeystoreError> {
        let mut highest = source.opened().revision;
        for file in seen {
            let seen = file.revision();
            let seen = seen.map_err(|reason| source.place().corrupt(reason))?;
            highest = highest.max(seen.unwrap_or(0));
        }
        Ok(highest + 1)
    }
}

fn copied(carried: &Carried, written: u64, node: String) -> Copied {
    let head = carried.opened();
    Copied {
        source: carried.summary(),
        revision: head.revision,
        records: head.records,
        written,
        node,
    }
}

/// Refuses a source that is older than what this host has seen of it.
fn not_older(source: &Checked, path: &Path) -> Result<(), KeystoreError> {
    let checked = SeenFile::beside(path).check(source.head(), source.opened().format);
    checked.map_err(|reason| source.place().corrupt(reason))
}

/// Only an unfinished copy of the same store is gone on with.
fn may_replace(found: &Record, sealer: &Sealer, store: &str) -> Result<(), KeystoreError> {
    if sealer.is_own_mark(found) {
        return Ok(());
    }
    let reason = match sealer.open_own_head(found) {
        Ok(head) => format!(
            "it has this keystore already, at revision {}: check it with `keymill store check`; to copy it once more, drop its schema keymill before",
            head.revision
        ),
        Err(Corrupt::Unfinished) => {
            "it has an unfinished copy of another keystore: name another database".to_owned()
        }
        Err(_) => "it has another keystore, or one under another root key: name another database"
            .to_owned(),
    };
    let store = store.to_owned();
    Err(KeystoreError::Occupied { store, reason })
}

/// Brings what is `there` to what is carried. Returns how many records were written.
async fn fill(
    filling: &mut Filling,
    mut there: Records,
    carried: &mut Carried,
    entropy: &Entropy,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, KeystoreError> {
    let (mut done, mut written) = (0, 0);
    let mut next = there.next().await?;
    while let Some(records) = carried.next(entropy).await? {
        done += records.len() as u64;
        let (mut puts, mut removals) = (Vec::new(), Vec::new());
        for record in records {
            while let Some(old) = next.take_if(|old| old.name() < record.name()) {
                removals.push((old.kind, old.id));
                next = there.next().await?;
            }
            let same = next.take_if(|old| old.name() == record.name());
            if same.is_some() {
                next = there.next().await?;
            }
            if same.as_ref() != Some(&record) {
                puts.push(record);
            }
        }
        written += puts.len() as u64;
        if !puts.is_empty() || !removals.is_empty() {
            filling.write(puts, &removals).await?;
        }
        progress(done);
    }
    let mut removals = Vec::new();
    while let Some(old) = next {
        removals.push((old.kind, old.id));
        next = there.next().await?;
        if removals.len() == REMOVALS_MAX || next.is_none() {
            filling.write(Vec::new(), &removals).await?;
            removals.clear();
        }
    }
    Ok(written)
}

/// Authenticates what was written, and holds it to its head.
async fn read_back(
    mut back: Checked,
    progress: &mut (dyn FnMut(Phase, u64) + Send),
) -> Result<(), KeystoreError> {
    while let Some(mut batch) = back.next().await? {
        if let Some(source) = batch.findings.pop() {
            return Err(back.place().corrupt(source));
        }
        progress(Phase::Verifying, back.summary().records);
    }
    Ok(())
}

/// Finishes the copy, also where the answer to that is lost.
async fn finish(filling: Filling, head: Record, to: &Access) -> Result<(), KeystoreError> {
    match filling.finish(head.clone()).await {
        Err(unanswered @ KeystoreError::Unanswered { .. }) => {
            let found = PostgresStore::new(to.clone()).head().await?;
            match found == Some(head) {
                true => Ok(()),
                false => Err(unanswered),
            }
        }
        other => other,
    }
}
