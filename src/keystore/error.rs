//! Why a store is refused, and what to do about it.

use crate::crypto::entropy::EntropyError;
use crate::keystore::record::Corrupt;
use std::path::PathBuf;

/// Why the store could not be opened, read or written. Each prints as one line that names the file
/// or record and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// There is no store.
    #[error(
        "store {path} does not exist: name the folder of an existing one, or create one with `keymill dev` or the first `keymill serve`"
    )]
    Absent {
        /// The store.
        path: PathBuf,
    },
    /// Reading or writing beside the store failed.
    #[error("store {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process has the store.
    #[error(
        "store {path} is in use by process {holder}: stop it, or go through it with --endpoint unix:{socket}"
    )]
    InUse {
        /// The store.
        path: PathBuf,
        /// Its process id, or what is known.
        holder: String,
        /// Where the daemon of this folder listens by default.
        socket: PathBuf,
    },
    /// No database, or one whose pages are damaged.
    #[error("store {path} is damaged or no store ({reason}): restore a backup")]
    Damaged {
        /// The store.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// A database of some other program.
    #[error("store {path} is another program's database: name a keymill store")]
    Foreign {
        /// The store.
        path: PathBuf,
    },
    /// A later version's tables.
    #[error(
        "store {path} was written by a newer keymill (tables of format {format}, this build knows 2): upgrade keymill"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        format: i64,
    },
    /// The records do not add up.
    #[error("store {path} {source}")]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// What is wrong, and what to do.
        source: Corrupt,
    },
    /// Somebody else has changed the store.
    #[error("store {path} was changed by another process: it is read anew")]
    Conflict {
        /// The store.
        path: PathBuf,
    },
    /// Its name leads to another file than the one that was opened, or to none.
    #[error(
        "store {path} is not the file that was opened: it, or its write-ahead log, was removed, moved or replaced under the running daemon; put it back, or stop keymill and restore a backup"
    )]
    Replaced {
        /// The store.
        path: PathBuf,
    },
    /// The change may or may not be durable.
    #[error(
        "store {path} could not be written ({reason}): free space or repair the disk; keymill goes on by itself"
    )]
    Commit {
        /// The store.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// An earlier commit's outcome is unknown, and the store could not be opened anew so far.
    #[error(
        "the store takes no change until an earlier failure is over, and is tried again by itself: {reason}"
    )]
    Halted {
        /// What the last try ended with.
        reason: String,
    },
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}
