//! The lock of a store's one writer, a file beside it.

use crate::file::open;
use crate::keystore::KeystoreError;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

/// The most bytes of a process id with its line feed.
const ID_BYTES_MAX: u64 = 32;

/// An exclusive lock on a store, held until this value is dropped or the process ends. The file
/// holds the process id.
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
        let mut file = open::own_or_new(&lock, 0o600).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // The process id is read for the message only; the lock does not depend on it.
                let text = open::own_text(&lock, ID_BYTES_MAX).unwrap_or_default();
                let holder = match text.trim() {
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
        // To close the file would not be enough: a child process between its fork and its exec has
        // the same open file, and with it the lock.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the store's lock could not be released; it ends with its file");
        }
    }
}
