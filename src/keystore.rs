//! KMS keys with their policies and grants, aliases and principals: open the store, read a
//! snapshot, apply a change; the only writer.
//!
//! In memory there is one immutable [`Snapshot`] behind an atomic pointer: readers never lock. A
//! change is decided on the current snapshot, sealed, committed in one transaction together with
//! the head, and only then published, under the next revision: what is not durable is never seen
//! (STORE-1), and what is durable is in force. Changes are serialized. When the outcome of a commit
//! is unknown, the store is opened anew and what it holds is verified and published; until that has
//! succeeded, further changes are refused, and [`Halt`] says why.
//!
//! Beside the store lie `<store>.lock`, held exclusively while it is open, and `<store>.seen`, the
//! highest revision that this host has seen. What remains is a whole old store given to a host
//! without memory of a newer one.
//!
//! What this module does not do: decide who may change what, or purge the pool after a change.

use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::key::KeyId;
use crate::key::arn::{AccountId, AliasName, Region};
use crate::key::last_use::LastUses;
use crate::metrics::Metrics;
use crate::policy::grant::GrantId;
use crate::policy::{Grant, KeyPolicy};
use arc_swap::ArcSwap;
use loaded::{Loaded, Verified};
use record::{FORMAT, Head, Sealer};
use seen::SeenFile;
use sqlite::{Commit, Contents, SqliteStore, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use writer::{Means, Writer};

mod body;
#[doc(hidden)]
pub use body::fuzz as fuzz_body;
mod error;
mod format1;
mod grant_token;
mod halt;
mod import_token;
mod loaded;
pub mod lock;
pub mod record;
pub mod root_key;
mod seen;
pub mod snapshot;
pub mod sqlite;
mod writer;

pub use error::KeystoreError;
pub use grant_token::GrantTokens;
pub use halt::Halt;
pub use import_token::{ImportToken, ImportTokens};
pub use lock::StoreLock;
pub use root_key::{RootKey, RootKeyError};
pub use snapshot::{
    AccessKey, Alias, AuditHead, KeyDraft, KeyEntry, PrincipalEntry, Snapshot, expired,
};

/// One change of the store; several are applied in one transaction.
pub enum Change {
    /// Creates or replaces a key (metadata and all material generations).
    PutKey(KeyDraft),
    /// Removes a key and its material for good.
    RemoveKey(KeyId),
    /// Creates or replaces an alias.
    PutAlias(Alias),
    /// Removes an alias.
    RemoveAlias(AccountId, AliasName),
    /// Creates or replaces a principal with its access keys and policies.
    PutPrincipal(PrincipalEntry),
    /// Removes a principal by ARN.
    RemovePrincipal(String),
    /// Attaches a policy to a key, in the place of the one that it has.
    PutKeyPolicy(KeyId, Arc<KeyPolicy>),
    /// Removes a key's policy: the default policy is left.
    RemoveKeyPolicy(KeyId),
    /// Creates or replaces a grant.
    PutGrant(Arc<Grant>),
    /// Removes a grant of a key.
    RemoveGrant(KeyId, GrantId),
    /// Replaces the head of the audit log.
    PutAuditHead(AuditHead),
    /// Replaces the last uses of the keys.
    PutLastUses(Arc<LastUses>),
}

/// The keystore of one process.
pub struct Keystore {
    snapshot: ArcSwap<Snapshot>,
    region: Region,
    grant_tokens: GrantTokens,
    import_tokens: ImportTokens,
    entropy: Arc<Entropy>,
    metrics: Arc<Metrics>,
    session_token_key: Arc<Secret<32>>,
    halt: Arc<Halt>,
    /// A tokio mutex, since a commit is awaited under it.
    writer: Mutex<Writer>,
}

impl Keystore {
    /// Makes a new, empty store at `path`, which must not exist.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn create(
        path: &Path,
        root: &RootKey,
        region: Region,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KeystoreError> {
        let lock = StoreLock::acquire(path)?;
        let io = |source| KeystoreError::Io {
            path: path.to_owned(),
            source,
        };
        if path.exists() {
            return Err(io(std::io::ErrorKind::AlreadyExists.into()));
        }
        // Complete or absent: killed before the rename, it leaves no store, and the next call
        // begins anew, in the same file: at no moment is there neither.
        let unfinished = unfinished(path);
        for left in ["new-wal", "new-shm"] {
            root_key::remove_if_there(&path.with_extension(left)).map_err(io)?;
        }
        let mut store = SqliteStore::create(&unfinished).await?;
        let sealer = Sealer::create(root, &entropy)?;
        let record = sealer.seal_head(&Head::first(), &entropy)?;
        store
            .commit(Commit {
                expected: 0,
                head: record,
                puts: Vec::new(),
                removals: Vec::new(),
                takes_secrets: false,
            })
            .await?;
        // Closing folds the write-ahead log in and syncs the file, so the name moves alone.
        Box::new(store).close().await?;
        std::fs::rename(&unfinished, path)
            .and_then(|()| root_key::sync_folder_of(path))
            .map_err(io)?;
        drop(lock);
        Self::open(path, root, region, entropy, metrics).await
    }

    /// Leaves word at `path` that a store is being made there: to be called before its root key is.
    ///
    /// # Errors
    /// [`KeystoreError::Io`].
    pub fn begin(path: &Path) -> Result<(), KeystoreError> {
        let path = unfinished(path);
        let made = SqliteStore::make_file(&path);
        made.map_err(|source| KeystoreError::Io { path, source })
    }

    /// Whether a store was being made at `path`, and is not done.
    #[must_use]
    pub fn is_begun(path: &Path) -> bool {
        unfinished(path).exists()
    }

    /// The file that remembers the store at `path`.
    #[must_use]
    pub fn seen_path(path: &Path) -> PathBuf {
        path.with_extension("seen")
    }

    /// Gives the memory of an earlier store at `path` up, on purpose.
    ///
    /// # Errors
    /// [`KeystoreError::Io`].
    pub fn forget(path: &Path) -> Result<(), KeystoreError> {
        let path = Self::seen_path(path);
        let removed = root_key::remove_if_there(&path);
        removed.map_err(|source| KeystoreError::Io { path, source })
    }

    /// Opens the store at `path`: takes its lock, verifies everything, and only then opens it for
    /// writing.
    ///
    /// # Errors
    /// [`KeystoreError`]; the store is left as it was.
    pub async fn open(
        path: &Path,
        root: &RootKey,
        region: Region,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KeystoreError> {
        if !path.exists() {
            return Err(KeystoreError::Absent {
                path: path.to_owned(),
            });
        }
        let lock = StoreLock::acquire(path)?;
        let mut loaded = Self::verify(path, SqliteStore::read(path).await?, root, &region)?;
        let mut store = SqliteStore::connect(path).await?;
        let mut head = loaded.verified.head;
        if loaded.format != FORMAT {
            let before = head.revision;
            head.revision += 1;
            let record = loaded.sealer.seal_head(&head, &entropy)?;
            store.rewrite(before, record).await?;
            tracing::info!(
                revision = head.revision,
                "the store was of format {} and is of format {FORMAT} now",
                loaded.format
            );
        }
        let mut seen = SeenFile::beside(path);
        seen.raise(head.revision, FORMAT)?;
        loaded.verified.head = head;
        loaded.verified.snapshot.revision = head.revision;
        let beside = (Some(seen), Some(lock));
        let store = Box::new(store);
        Ok(Self::assemble(
            path, store, loaded, beside, region, entropy, metrics,
        ))
    }

    /// Verifies the store at `path` as [`Self::open`] does, takes no lock, and opens nothing for
    /// writing.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn check(path: &Path, root: &RootKey, region: &Region) -> Result<(), KeystoreError> {
        Self::verify(path, SqliteStore::read(path).await?, root, region).map(|_| ())
    }

    fn verify(
        path: &Path,
        contents: Contents,
        root: &RootKey,
        region: &Region,
    ) -> Result<Loaded, KeystoreError> {
        let loaded = Loaded::verify(contents, root, region);
        let checked = loaded.and_then(|loaded| {
            let revision = loaded.verified.head.revision;
            SeenFile::beside(path)
                .check(revision, loaded.format)
                .map(|()| loaded)
        });
        checked.map_err(|source| KeystoreError::Corrupt {
            path: path.to_owned(),
            source,
        })
    }

    fn assemble(
        path: &Path,
        store: Box<dyn Store>,
        loaded: Loaded,
        (seen, lock): (Option<SeenFile>, Option<StoreLock>),
        region: Region,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Verified {
            head,
            terms,
            snapshot,
        } = loaded.verified;
        snapshot.count(&metrics);
        let path = path.to_owned();
        let writer = Writer::new(path, store, loaded.sealer, (head, terms), seen, lock);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            region,
            grant_tokens: loaded.grant_tokens,
            import_tokens: loaded.import_tokens,
            entropy,
            session_token_key: loaded.session_token_key,
            halt: Arc::new(Halt::new(metrics.keystore_halted.clone())),
            metrics,
            writer: Mutex::new(writer),
        }
    }

    /// The current view; cheap, never locks.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The revision of the current view, for a last check.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.snapshot.load().revision
    }

    /// The partition and Region of the ARNs.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What session tokens are sealed under: a sub-key of the root key.
    #[must_use]
    pub fn session_token_key(&self) -> &Arc<Secret<32>> {
        &self.session_token_key
    }

    /// What issues and reads grant tokens.
    #[must_use]
    pub fn grant_tokens(&self) -> &GrantTokens {
        &self.grant_tokens
    }

    /// What issues and reads import tokens.
    #[must_use]
    pub fn import_tokens(&self) -> &ImportTokens {
        &self.import_tokens
    }

    /// Whether the store takes changes.
    #[must_use]
    pub fn halt(&self) -> &Arc<Halt> {
        &self.halt
    }

    /// Decides a change on the current snapshot, makes it durable, and publishes the next snapshot.
    /// Changes are serialized; what `decide` returns is final only when this returns.
    ///
    /// # Errors
    /// What `decide` refused, and nothing has changed; or [`KeystoreError`]. Of
    /// [`KeystoreError::Commit`] the outcome was unknown: the change is in force if the store
    /// turned out to hold it.
    pub async fn apply<T, E: From<KeystoreError>>(
        &self,
        decide: impl FnOnce(&Snapshot) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        let current = self.snapshot.load_full();
        let (changes, outcome) = decide(&current)?;
        if changes.is_empty() {
            return Ok(outcome);
        }
        match writer.write(&current, changes, &self.means()).await {
            Ok(next) => self.publish(next),
            Err(error) => {
                if writer.is_in_doubt() {
                    self.halt.set(error.to_string());
                    tracing::error!(%error, "a change of the store failed: it is opened anew");
                    // At once: what has become durable all the same is not to wait, and until it is
                    // known, nothing is answered.
                    writer.retry.at = Duration::ZERO;
                    let _halted = self.settle(&mut writer).await;
                }
                return Err(error.into());
            }
        }
        Ok(outcome)
    }

    /// Looks whether the store is still where it was opened, and opens one anew whose last commit
    /// has an unknown outcome, unless it was tried a moment ago. To be called every second or so.
    ///
    /// # Errors
    /// [`KeystoreError::Halted`]: it still takes no change.
    pub async fn heal(&self) -> Result<(), KeystoreError> {
        match self.writer.try_lock() {
            Ok(mut writer) => {
                if !writer.is_in_doubt()
                    && let Err(error) = writer.check_in_place()
                {
                    tracing::error!(%error, "the store is gone: nothing is answered until it is back");
                    self.halt.set(error.to_string());
                    self.halt.set_unknown(true);
                }
                self.settle(&mut writer).await
            }
            // Somebody changes it, and settles it first.
            Err(_) => Ok(()),
        }
    }

    async fn settle(&self, writer: &mut Writer) -> Result<(), KeystoreError> {
        if !writer.is_in_doubt() {
            return Ok(());
        }
        if writer.may_retry() {
            match self.reopen(writer).await {
                Ok(()) => {
                    self.halt.set_unknown(false);
                    if self.halt.clear() {
                        tracing::info!("the store takes changes again");
                    }
                    return Ok(());
                }
                Err(error) => self.halt.set(error.to_string()),
            }
        }
        self.halt.set_unknown(writer.is_unknown());
        let reason = self.halt.reason();
        let reason =
            reason.map_or_else(|| "a change was broken off".to_owned(), |it| it.to_string());
        Err(KeystoreError::Halted { reason })
    }

    async fn reopen(&self, writer: &mut Writer) -> Result<(), KeystoreError> {
        let means = self.means();
        if let Some(found) = writer.reread(&means).await? {
            self.publish(found);
        }
        let revision = writer.prove(&means).await?;
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.revision = revision;
        self.publish(next);
        Ok(())
    }

    fn publish(&self, next: Snapshot) {
        next.count(&self.metrics);
        self.snapshot.store(Arc::new(next));
    }

    fn means(&self) -> Means<'_> {
        Means {
            region: &self.region,
            entropy: &self.entropy,
            metrics: &self.metrics,
        }
    }

    /// Closes the store's files: the write-ahead log is folded into the store.
    ///
    /// # Errors
    /// [`KeystoreError`]; what was acknowledged is durable all the same.
    pub async fn close(self) -> Result<(), KeystoreError> {
        self.writer.into_inner().store.close().await
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests;
