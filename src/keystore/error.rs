//! Why a store is refused, and what to do about it.

use crate::crypto::entropy::EntropyError;
use crate::keystore::record::{Corrupt, TABLES};
use std::path::PathBuf;

/// Why the store could not be opened, read or written. Each error prints as one line that names the
/// file or record and the remedy.
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
    /// Another process has opened the store.
    #[error("store {path} is in use by process {holder}: stop it, or go through it")]
    InUse {
        /// The store.
        path: PathBuf,
        /// The process id, or `of unknown id`.
        holder: String,
        /// The socket on which the daemon of this folder listens by default.
        socket: PathBuf,
    },
    /// The file is not a database, or its pages are damaged.
    #[error("store {path} is damaged or is not a store ({reason}): restore a backup")]
    Damaged {
        /// The store.
        path: PathBuf,
        /// The error text of SQLite.
        reason: String,
    },
    /// The file is another program's database.
    #[error("store {path} is another program's database: name a keymill store")]
    Foreign {
        /// The store.
        path: PathBuf,
    },
    /// The tables have the format of a later version.
    #[error(
        "store {path} was written by a newer keymill (tables of format {format}, this build knows {TABLES}): upgrade keymill, or go back to the copy from before its upgrade, {path}.before-{format}"
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        format: i64,
    },
    /// No store goes back to an older format.
    #[error(
        "store {store} is of format {found} and does not go back to format {asked}: restore a backup from before its upgrade, with the release of that time"
    )]
    Downgrade {
        /// The store.
        store: String,
        /// Its format.
        found: u8,
        /// The format that was asked for.
        asked: u8,
    },
    /// A store of an older format is not upgraded without a copy of it.
    #[error(
        "store {path} is of an older format, and a copy of it cannot be kept in {copy}: {reason}; make room for it, or make the folder writable: the store is unchanged"
    )]
    NoCopy {
        /// The store.
        path: PathBuf,
        /// The copy.
        copy: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The records contradict each other or the head.
    #[error("store {path} {source}")]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// The contradiction, with the remedy.
        source: Corrupt,
    },
    /// Another process has changed the store.
    #[error("store {path} was changed by another process: it is read again")]
    Conflict {
        /// The store.
        path: PathBuf,
    },
    /// The name leads to another file than the one that was opened, or to none.
    #[error(
        "store {path} is not the file that was opened: it, or its write-ahead log, was removed, moved or replaced under the running daemon; put it back, or stop keymill and restore a backup"
    )]
    Replaced {
        /// The store.
        path: PathBuf,
    },
    /// The change may or may not be durable.
    #[error(
        "store {path} could not be written ({reason}): free space or repair the disk; keymill then continues by itself"
    )]
    Commit {
        /// The store.
        path: PathBuf,
        /// The error text of SQLite.
        reason: String,
    },
    /// The store's database cannot be reached, or refuses; nothing was written.
    #[error("store {store} cannot be used ({reason}): nothing was changed")]
    Unreachable {
        /// The store.
        store: String,
        /// The cause, with the remedy where there is one.
        reason: String,
    },
    /// Another node has changed the shared store first; nothing was written.
    #[error("store {store} is changed by other nodes without a pause: try again")]
    Lost {
        /// The store.
        store: String,
    },
    /// The shared store was sent a change and did not answer: it may or may not be durable.
    #[error(
        "it is unknown whether store {store} took a change ({reason}): keymill looks again by itself"
    )]
    Unanswered {
        /// The store.
        store: String,
        /// The cause.
        reason: String,
    },
    /// The store is read once at a time, and is being read.
    #[error("store {store} is being read for another check or backup: try again when that is done")]
    BeingRead {
        /// The store.
        store: String,
    },
    /// The shared store has no keystore in it.
    #[error(
        "store {store} is empty: check store.url, or create a store there with the first `keymill serve`"
    )]
    Empty {
        /// The store.
        store: String,
    },
    /// A store is not copied to where something is already.
    #[error("nothing is copied into store {store}: {reason}")]
    Occupied {
        /// The store.
        store: String,
        /// What is there, with the remedy.
        reason: String,
    },
    /// Another run of a copy has put its mark there.
    #[error(
        "another copy into store {store} has taken this one's place: it goes on with what is there; run one at a time"
    )]
    Overtaken {
        /// The store.
        store: String,
    },
    /// A store that is copied was changed meanwhile.
    #[error(
        "store {store} was changed while it was copied: stop every daemon that has it open, and run the same command again; what is there of the copy is not a store"
    )]
    Moved {
        /// The store.
        store: String,
    },
    /// An earlier commit's outcome is unknown, and the store could not be opened again so far.
    #[error(
        "the store takes no change until an earlier failure is over; keymill tries again by itself: {reason}"
    )]
    Halted {
        /// The error of the last try.
        reason: String,
    },
    /// The entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl KeystoreError {
    /// Whether a commit that failed so has certainly changed nothing.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. })
    }
}
