//! What a keystore asks of the place where its records are kept: the embedded store, a database
//! that many daemons share, or a test's double.

use crate::keystore::KeystoreError;
use crate::keystore::record::{Kind, Record};
use std::pin::Pin;
use uuid::Uuid;

/// For so many revisions, a shared store remembers a record that was removed. A node that is
/// further behind reads the whole store.
pub(super) const REMEMBERED_REVISIONS: u64 = if cfg!(test) { 8 } else { 100_000 };

/// A future that a [`Store`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeystoreError>> + Send + 'a>>;

/// One transaction.
pub struct Commit {
    /// The revision of the head before the transaction.
    pub expected: u64,
    /// The content of the head's row before it, if it is known: of a shared store, where another
    /// database may be in the place of the one that was read, with another head of that revision.
    pub expected_head: Option<Vec<u8>>,
    /// The head after the transaction.
    pub head: Record,
    /// Rows that are new or replaced.
    pub puts: Vec<Record>,
    /// Rows that are removed.
    pub removals: Vec<(Kind, String)>,
    /// Whether older records of these rows hold secrets that must not stay in the files.
    pub takes_secrets: bool,
    /// Names this transaction, so that a shared store can be asked what became of it.
    pub request: Uuid,
}

/// What has changed in a shared store since a revision, as one state of the store.
pub struct Changes {
    /// The head.
    pub head: Record,
    /// The records whose last change is later than that revision; each is there once.
    pub changed: Vec<Changed>,
}

/// A record that was written or removed.
pub struct Changed {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The revision of the change.
    pub revision: u64,
    /// The transaction of the change.
    pub request: Uuid,
    /// The sealed content; `None` when the record was removed.
    pub body: Option<Vec<u8>>,
}

/// The place where records are kept. It has only the few methods that a test double or a shared
/// database can offer too.
pub trait Store: Send {
    /// Checks that the store's names still lead to the files that were opened.
    ///
    /// # Errors
    /// [`KeystoreError::Replaced`] when they do not.
    fn check_in_place(&mut self) -> Result<(), KeystoreError>;
    /// Closes the files, which are then read again as at a start. The next commit opens them.
    fn let_go(&mut self) -> StoreFuture<'_, ()>;
    /// Makes a change durable, if the head is still at the expected revision.
    fn commit(&mut self, commit: Commit) -> StoreFuture<'_, ()>;
    /// Closes the files.
    fn close(self: Box<Self>) -> StoreFuture<'static, ()>;
    /// The store as one that other processes write to too; `None` when there are no others.
    fn shared(&mut self) -> Option<&mut dyn Shared> {
        None
    }
}

/// A store that other processes write to too. Its [`Store::commit`] fails in one of three ways:
/// with [`KeystoreError::Lost`] when another process was first, with [`KeystoreError::Unreachable`]
/// when nothing was written, and with [`KeystoreError::Unanswered`] when that is unknown.
pub trait Shared: Send {
    /// What has changed since `revision`.
    fn changes(&mut self, revision: u64) -> StoreFuture<'_, Changes>;
}

/// Looks at a shared store beside its writer, which may be waiting for a commit.
pub trait Watch: Send {
    /// The head as it is now.
    fn head(&mut self) -> StoreFuture<'_, Record>;
    /// The head as it is behind a write of this node, which is durable when this is answered.
    fn head_behind_write(&mut self) -> StoreFuture<'_, Record>;
    /// Ends when the store may have changed. It may never end: it is a hint, and nothing relies on
    /// it.
    fn hint(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
