//! When the store was last backed up, as this host knows it: a file beside the store, and a metric.
//!
//! The file is one line, `<seconds since 1970> revision <revision>`. It is written when the command
//! that made a backup has verified it, by the daemon or, where none runs, by the command itself.

use crate::clock::Timestamp;
use crate::file::open;
use crate::keystore::checked::Checked;
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::{Keystore, KeystoreError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// The most bytes of the file that are read.
const LINE_BYTES_MAX: u64 = 64;
/// Time to wait for another reading to end.
const TURN_TIME_MAX: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });

/// A backup that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// When that was, in seconds since 1970.
    pub unix_seconds: u64,
    /// The revision of the store in it.
    pub revision: u64,
}

impl Backup {
    /// One that was verified now.
    #[must_use]
    pub fn at(now: Timestamp, revision: u64) -> Self {
        Self {
            unix_seconds: now.unix_seconds(),
            revision,
        }
    }

    /// What is known of the last backup of the store whose side files are at `path`. A file that
    /// cannot be read counts as none.
    #[must_use]
    pub fn last(path: &Path) -> Option<Self> {
        let path = file(path);
        match open::own_text(&path, LINE_BYTES_MAX) {
            Ok(text) => {
                let parsed = parse(&text);
                if parsed.is_none() {
                    tracing::warn!(path = %path.display(), "it does not say when the last backup was");
                }
                parsed
            }
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the last backup is not known");
                }
                None
            }
        }
    }

    /// Records it beside the store whose side files are at `path`.
    ///
    /// # Errors
    /// [`KeystoreError::Io`].
    pub fn record(self, path: &Path) -> Result<(), KeystoreError> {
        let path = file(path);
        let line = format!("{} revision {}\n", self.unix_seconds, self.revision);
        let written = open::write_whole(&path, line.as_bytes(), 0o600);
        written.map_err(|source| KeystoreError::Io { path, source })
    }
}

fn file(path: &Path) -> PathBuf {
    path.with_extension("backup")
}

fn parse(text: &str) -> Option<Backup> {
    let mut words = text.split_whitespace();
    let unix_seconds = words.next()?.parse().ok()?;
    let (Some("revision"), Some(revision), None) = (words.next(), words.next(), words.next())
    else {
        return None;
    };
    let revision = revision.parse().ok()?;
    Some(Backup {
        unix_seconds,
        revision,
    })
}

/// The last backup of an open store.
#[derive(Default)]
pub(super) struct LastBackup {
    /// Where the store's side files are; `None` for a store of a test.
    path: Option<PathBuf>,
    known: Mutex<Option<Backup>>,
}

/// The whole store on its way out, checked. The store is read once at a time.
pub struct StoreReading {
    /// What is read.
    pub checked: Checked,
    _once: OwnedSemaphorePermit,
}

impl Keystore {
    /// Sets where its records and its side files are.
    pub(super) fn placed(mut self, place: Place, path: &Path) -> Self {
        let known = Backup::last(path);
        self.metrics.backup(known.map(|backup| backup.unix_seconds));
        self.place = Some(place);
        self.last_backup = LastBackup {
            path: Some(path.to_owned()),
            known: Mutex::new(known),
        };
        self
    }

    /// The last backup that this host knows of.
    #[must_use]
    pub fn last_backup(&self) -> Option<Backup> {
        let known = self.last_backup.known.lock();
        known.map_or(None, |known| *known)
    }

    /// Records that a backup was verified.
    ///
    /// # Errors
    /// [`KeystoreError::Io`].
    pub fn record_backup(&self, backup: Backup) -> Result<(), KeystoreError> {
        if let Some(path) = &self.last_backup.path {
            backup.record(path)?;
        }
        self.metrics.backup(Some(backup.unix_seconds));
        if let Ok(mut known) = self.last_backup.known.lock() {
            *known = Some(backup);
        }
        Ok(())
    }

    /// Begins to read the whole store as it is now, over a connection of its own.
    ///
    /// # Errors
    /// [`KeystoreError`]; [`KeystoreError::BeingRead`] while another reading is under way.
    pub async fn read_all(&self) -> Result<StoreReading, KeystoreError> {
        let store = || self.name.clone();
        // A reader that was killed is noticed a moment later.
        let once = Arc::clone(&self.read_once).acquire_owned();
        let being_read = || KeystoreError::BeingRead { store: store() };
        let once = timeout(TURN_TIME_MAX, once)
            .await
            .map_err(|_| being_read())?;
        let once = once.map_err(|_| being_read())?;
        let place = self.place.clone();
        let place = place.ok_or_else(|| KeystoreError::Empty { store: store() })?;
        let reading = Reading::begin(place, Pages::AsTheyCome).await?;
        let sealer = Arc::clone(&self.sealer);
        Ok(StoreReading {
            checked: Checked::with_sealer(reading, sealer, &self.regions)?,
            _once: once,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_backed_up_is_read_back_and_a_damaged_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystore.db");
        assert_eq!(Backup::last(&path), None);
        let backup = Backup {
            unix_seconds: 1_800_000_000,
            revision: 12,
        };
        backup.record(&path).unwrap();
        assert_eq!(Backup::last(&path), Some(backup));
        for text in [
            "",
            "x",
            "12",
            "12 revision",
            "12 revision x",
            "1 revision 2 3",
            "1 format 2",
        ] {
            std::fs::write(file(&path), text).unwrap();
            assert_eq!(Backup::last(&path), None, "{text}");
        }
    }
}
