//! What lies beside a store: the lock of its one writer, and the memory of the highest revision seen.

use crate::keystore::KeystoreError;
use crate::keystore::record::Corrupt;
use crate::keystore::root_key::sync_folder_of;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An exclusive lock on a store, held until it is dropped or the process ends. The file holds the process id.
pub struct StoreLock(File);

impl StoreLock {
    /// Takes the lock of the store at `path`.
    ///
    /// # Errors
    /// [`KeystoreError::InUse`] or [`KeystoreError::Io`].
    pub fn acquire(path: &Path) -> Result<Self, KeystoreError> {
        let lock = beside(path, "lock");
        let io = |source| KeystoreError::Io {
            path: lock.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(&lock).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&lock).unwrap_or_default();
                let holder = match holder.trim() {
                    "" => "of unknown id".to_owned(),
                    id => id.to_owned(),
                };
                let socket = path.with_file_name("keymill.sock");
                return Err(KeystoreError::InUse {
                    path: path.to_owned(),
                    holder,
                    socket,
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io)?;
        Ok(Self(file))
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Not by closing alone: a child process that is between its fork and its exec holds the same open file, and with it the lock.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the store's lock goes with its file");
        }
    }
}

/// The highest revision that this host has seen of a store: one decimal number in a file, replaced atomically.
pub struct SeenFile(PathBuf);

impl SeenFile {
    /// The file of the store at `path`.
    #[must_use]
    pub fn beside(path: &Path) -> Self {
        Self(beside(path, "seen"))
    }

    /// Refuses a head that is older than one seen.
    pub(super) fn check(&self, revision: u64) -> Result<(), Corrupt> {
        let Ok(text) = std::fs::read_to_string(&self.0) else {
            return Ok(());
        };
        let seen = text.trim().parse().unwrap_or(0);
        if revision < seen {
            let file = self.0.display().to_string();
            return Err(Corrupt::RolledBack {
                found: revision,
                seen,
                file,
            });
        }
        Ok(())
    }

    /// Remembers `revision`.
    pub(super) fn raise(&mut self, revision: u64) -> Result<(), KeystoreError> {
        let temporary = self.0.with_extension("seen.new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| writeln!(file, "{revision}").and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&temporary, &self.0))
            .and_then(|()| sync_folder_of(&self.0));
        written.map_err(|source| KeystoreError::Io {
            path: self.0.clone(),
            source,
        })
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}
