//! The lock of a store's one writer, a file beside it.

use crate::keystore::KeystoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An exclusive lock on a store, held until it is dropped or the process ends. The file holds the process id.
pub struct StoreLock(File);

impl StoreLock {
    /// Takes the lock of the store at `path`.
    ///
    /// # Errors
    /// [`KeystoreError::InUse`] or [`KeystoreError::Io`].
    pub fn acquire(path: &Path) -> Result<Self, KeystoreError> {
        let lock = path.with_extension("lock");
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
