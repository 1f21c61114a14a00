//! Puts an embedded store in the place of another one, on purpose: a backup that is restored.
//!
//! The store that was there is kept under another name. The new one goes on at a revision that this
//! host has not seen yet, so what the host remembers stays true, and neither the store that was
//! replaced nor an older copy is taken for the present one.
//!
//! A process that is killed on the way leaves the old store or the new one, whole, under the name.

use crate::keystore::seen::SeenFile;
use crate::keystore::sqlite::SqliteStore;
use crate::keystore::store::Store;
use crate::keystore::store_file::WrittenHead;
use crate::keystore::{KeystoreError, StoreLock, root_key};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The name of the new file until it has its place.
const UNFINISHED: &str = "restoring";

/// The place of a store that no other process has open.
pub struct Place {
    path: PathBuf,
    _lock: StoreLock,
}

impl Place {
    /// Takes the lock of the store at `path`, whether or not it is there.
    ///
    /// # Errors
    /// [`KeystoreError::InUse`] or [`KeystoreError::Io`].
    pub fn take(path: &Path) -> Result<Self, KeystoreError> {
        Ok(Self {
            _lock: StoreLock::acquire(path)?,
            path: path.to_owned(),
        })
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that the new store is written to.
    #[must_use]
    pub fn unfinished(&self) -> PathBuf {
        self.path.with_extension(UNFINISHED)
    }

    /// A revision above `present` and above what this host has seen.
    ///
    /// # Errors
    /// [`KeystoreError::Corrupt`], when it cannot be read what the host has seen.
    pub fn next_revision(&self, present: u64) -> Result<u64, KeystoreError> {
        let seen = SeenFile::beside(&self.path).revision();
        let seen = seen.map_err(|source| KeystoreError::Corrupt {
            path: self.path.clone(),
            source,
        })?;
        Ok(present.max(seen.unwrap_or(0)) + 1)
    }

    /// Puts the new store, which is whole and durable, in place, and keeps the old one as `kept`.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn fill(&self, head: &WrittenHead, kept: &Path) -> Result<(), KeystoreError> {
        let path = &self.path;
        let io = |source: io::Error| KeystoreError::Io {
            path: path.clone(),
            source,
        };
        if path.exists() {
            self.fold().await;
        }
        // A log that is left belongs to the old store. SQLite would apply it to the new one.
        for ending in ["-wal", "-shm"] {
            move_if_there(&with(path, ending), &with(kept, ending)).map_err(io)?;
        }
        if path.exists() {
            fs::hard_link(path, kept).map_err(io)?;
        }
        root_key::sync_folder_of(path).map_err(io)?;
        fs::rename(self.unfinished(), path).map_err(io)?;
        root_key::sync_folder_of(path).map_err(io)?;
        SeenFile::beside(path).raise(&head.row, head.format)
    }

    /// Moves the write-ahead log into the old store, if it can be opened.
    async fn fold(&self) {
        let folded = match SqliteStore::connect(&self.path).await {
            Ok(store) => Box::new(store).close().await,
            Err(error) => Err(error),
        };
        if let Err(error) = folded {
            tracing::warn!(%error, "the store that is replaced is kept as it is, with its log beside it");
        }
    }
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
