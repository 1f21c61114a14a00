//! KMS keys with their policies and grants, aliases and principals: opens the store, reads a
//! snapshot, applies changes. It is the store's only writer.
//!
//! In memory there is one immutable [`Snapshot`] behind an atomic pointer, so readers never lock. A
//! change is decided on the current snapshot, sealed, committed in one transaction together with
//! the head, and only then published, under the next revision. A change that is not durable is
//! never seen (STORE-1), and a durable change is in force. Changes are serialized. When the outcome
//! of a commit is unknown, the store is opened again, and its content is verified and published.
//! Until that has succeeded, further changes are refused, and [`Halt`] holds the reason.
//!
//! Two files are beside the store: `<store>.lock`, locked exclusively while the store is open, and
//! `<store>.seen`, the highest revision that this host has seen. One attack remains: a whole old
//! store on a host that does not remember a newer one.
//!
//! This module does not decide who may change what, and does not purge the pool after a change.

use crate::clock::{Clock, Timestamp};
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::key::KeyId;
use crate::key::arn::{AccountId, AliasName};
use crate::key::key_store::KeyStoreId;
use crate::key::regions::{RegionNumber, RegionalId, Regions};
use crate::keystore::last_use::{LastUse, UsesShard};
use crate::metrics::Metrics;
use crate::policy::grant::GrantId;
use crate::policy::{Grant, KeyPolicy};
use arc_swap::{ArcSwap, ArcSwapOption};
use last_backup::LastBackup;
use loaded::Loaded;
use opening::Verified;
use reading::Place;
use record::{Corrupt, FORMAT, FORMAT_OF_MEMORY, Record, Sealer};
use seen::SeenFile;
use sqlite::SqliteStore;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::{Mutex, Semaphore};
use writer::{SideFiles, WriteContext, Writer};

mod access_key;
mod body;
#[doc(hidden)]
pub use body::fuzz as fuzz_body;
pub mod carried;
pub mod checked;
pub mod copy;
mod embedded;
mod entry;
mod error;
mod format1;
pub mod freshness;
mod grant_token;
mod halt;
mod import_token;
mod key_store;
pub mod last_backup;
pub mod last_use;
mod loaded;
pub mod lock;
mod node;
mod opening;
pub mod postgres;
pub mod raising;
pub mod reading;
pub mod record;
pub(crate) mod related;
pub mod replaced;
pub mod root_key;
mod seen;
mod shared;
pub mod snapshot;
pub mod sqlite;
pub mod store;
pub mod store_file;
mod terms;
mod upgrade;
mod writer;

pub use access_key::{AccessKey, draw_id};
pub use entry::{Alias, AuditHead, KeyDraft, KeyEntry, PrincipalEntry};
pub use error::KeystoreError;
pub use grant_token::GrantTokens;
pub use halt::Halt;
pub use import_token::{ImportToken, ImportTokens};
pub use key_store::{Connection, ConnectionError, KeyStoreEntry};
pub use lock::StoreLock;
pub use root_key::{RootKey, RootKeyError, RootKeyFile, Seal, shares};
pub use shared::{Follower, SharedStore};
pub use snapshot::{Due, Snapshot, expired};

/// One change of the store. Several changes can be applied in one transaction.
#[derive(Clone)]
pub enum Change {
    /// Creates or replaces a key (metadata and all material generations).
    PutKey(KeyDraft),
    /// Removes a key and its material permanently.
    RemoveKey(RegionalId),
    /// Creates or replaces an alias.
    PutAlias(Alias),
    /// Removes an alias.
    RemoveAlias(RegionNumber, AccountId, AliasName),
    /// Creates or replaces a principal with its access keys and policies.
    PutPrincipal(PrincipalEntry),
    /// Removes a principal by ARN.
    RemovePrincipal(String),
    /// Attaches a policy to a key and replaces the policy that it has.
    PutKeyPolicy(RegionalId, Arc<KeyPolicy>),
    /// Removes a key's policy, so that the default policy applies.
    RemoveKeyPolicy(RegionalId),
    /// Creates or replaces a grant.
    PutGrant(Arc<Grant>),
    /// Removes a grant of a key.
    RemoveGrant(RegionalId, GrantId),
    /// Replaces the head of a node's audit log.
    PutAuditHead(String, AuditHead),
    /// Removes the head of the audit log of a node that is no more.
    RemoveAuditHead(String),
    /// Sets the time since which uses of keys are recorded.
    PutUsesSince(Timestamp),
    /// Replaces the last uses of the keys of a shard; with none of them, removes their record.
    PutLastUses(UsesShard, Vec<(RegionalId, Arc<LastUse>)>),
    /// Creates or replaces a custom key store.
    PutKeyStore(KeyStoreEntry),
    /// Removes a custom key store, in which no key may be.
    RemoveKeyStore(KeyStoreId),
}

/// The keystore of one process.
pub struct Keystore {
    snapshot: ArcSwap<Snapshot>,
    regions: Regions,
    grant_tokens: GrantTokens,
    import_tokens: ImportTokens,
    sealer: Arc<Sealer>,
    /// Where its records are; `None` for a store of a test.
    place: Option<Place>,
    /// Held while they are read.
    read_once: Arc<Semaphore>,
    last_backup: LastBackup,
    entropy: Arc<Entropy>,
    metrics: Arc<Metrics>,
    session_token_key: Arc<Secret<32>>,
    halt: Arc<Halt>,
    /// The head's row that is in force, of a shared store.
    head: ArcSwapOption<Record>,
    /// Keys that other nodes have changed, until the pool is told of it. Nothing is awaited under
    /// the lock.
    changed_elsewhere: std::sync::Mutex<BTreeSet<KeyId>>,
    clock: Clock,
    /// What it is called in messages.
    name: String,
    /// Names this node among those of a shared store; empty for an embedded one.
    node: String,
    /// The format in which the store was found.
    format_at_start: u8,
    /// A tokio mutex, because a commit is awaited while it is locked.
    writer: Mutex<Writer>,
}

impl Keystore {
    /// The file that remembers the revision of the store at `path`.
    #[must_use]
    pub fn seen_path(path: &Path) -> PathBuf {
        path.with_extension("seen")
    }

    /// The revision that this host has seen of the store at `path`.
    ///
    /// # Errors
    /// [`Corrupt::Seen`].
    pub fn seen(path: &Path) -> Result<Option<u64>, Corrupt> {
        SeenFile::beside(path).revision()
    }

    /// Deletes the memory of an earlier store at `path`, on purpose.
    ///
    /// # Errors
    /// [`KeystoreError::Io`].
    pub fn forget(path: &Path) -> Result<(), KeystoreError> {
        let path = Self::seen_path(path);
        let removed = root_key::remove_if_there(&path);
        removed.map_err(|source| KeystoreError::Io { path, source })
    }

    /// Opens the store at `path`. Takes its lock and verifies everything before the store is opened
    /// for writing.
    ///
    /// # Errors
    /// [`KeystoreError`]; the store is then unchanged.
    pub async fn open(
        path: &Path,
        root: &RootKey,
        regions: Regions,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KeystoreError> {
        if !path.exists() {
            return Err(KeystoreError::Absent {
                path: path.to_owned(),
            });
        }
        let lock = StoreLock::acquire(path)?;
        let place = Place::File(path.to_owned());
        let mut loaded = Loaded::read(place.clone(), root, &regions, path).await?;
        let mut store = SqliteStore::connect(path).await?;
        let (mut head, mut row) = (loaded.verified.head, loaded.row.clone());
        // A store of an older format was verified in that format.
        if loaded.format != FORMAT {
            let upgraded = upgrade::upgrade(&mut store, path, root, &regions, &loaded, &entropy);
            (head, row) = upgraded.await?;
        }
        let mut seen = SeenFile::beside(path);
        seen.raise(&row, head.format)?;
        loaded.verified.head = head;
        loaded.verified.snapshot.revision = head.revision;
        let files = SideFiles {
            seen: Some(seen),
            lock: Some(lock),
        };
        let store = Box::new(store);
        let opened = Self::assemble(path, store, loaded, files, regions, entropy, metrics);
        Ok(opened.placed(place, path))
    }

    /// Verifies the store at `path` as [`Self::open`] does, without its lock and without opening
    /// anything for writing. Returns what is in it.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn check(
        path: &Path,
        root: &RootKey,
        regions: &Regions,
    ) -> Result<Snapshot, KeystoreError> {
        let place = Place::File(path.to_owned());
        let loaded = Loaded::read(place, root, regions, path).await?;
        Ok(loaded.verified.snapshot)
    }

    fn assemble(
        path: &Path,
        store: Box<dyn Store>,
        loaded: Loaded,
        files: SideFiles,
        regions: Regions,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Verified {
            head,
            terms,
            snapshot,
        } = loaded.verified;
        let format_at_start = loaded.format;
        snapshot.count(&metrics);
        let name = path.display().to_string();
        let path = path.to_owned();
        let sealer = loaded.sealer;
        let store = (store, loaded.place);
        let writer = Writer::new(path, store, Arc::clone(&sealer), head, terms, files);
        Self {
            sealer,
            place: None,
            read_once: Arc::new(Semaphore::new(1)),
            last_backup: LastBackup::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            regions,
            grant_tokens: loaded.grant_tokens,
            import_tokens: loaded.import_tokens,
            entropy,
            session_token_key: loaded.session_token_key,
            halt: Arc::new(Halt::new(metrics.keystore_halted.clone())),
            head: ArcSwapOption::empty(),
            changed_elsewhere: std::sync::Mutex::default(),
            clock: Clock::system(),
            name,
            node: String::new(),
            format_at_start,
            metrics,
            writer: Mutex::new(writer),
        }
    }

    /// This node's name among those of a shared store; empty for an embedded one.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The same where the files of its audit log have it: since a start at which the store was of a
    /// format whose releases know that.
    #[must_use]
    pub fn name_in_logs(&self) -> Option<&str> {
        let is_known = self.format_at_start >= FORMAT_OF_MEMORY && !self.node.is_empty();
        is_known.then_some(&*self.node)
    }

    /// The format of the store: of an embedded one the newest, of a shared one that of the head in
    /// force, which its operator raises.
    #[must_use]
    pub fn format(&self) -> u8 {
        let head = self.head.load();
        let head = head.as_deref().map(|row| self.sealer.open_own_head(row));
        // A head that is in force has been opened before.
        head.and_then(Result::ok).map_or(FORMAT, |head| head.format)
    }

    /// The current view. It never locks.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The revision of the current view, which a last check compares.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.snapshot.load().revision
    }

    /// The Regions of keys and aliases.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The key that seals session tokens: a sub-key of the root key.
    #[must_use]
    pub fn session_token_key(&self) -> &Arc<Secret<32>> {
        &self.session_token_key
    }

    /// Issues and reads grant tokens.
    #[must_use]
    pub fn grant_tokens(&self) -> &GrantTokens {
        &self.grant_tokens
    }

    /// Issues and reads import tokens.
    #[must_use]
    pub fn import_tokens(&self) -> &ImportTokens {
        &self.import_tokens
    }

    /// Whether the store takes changes, and why not.
    #[must_use]
    pub fn halt(&self) -> &Arc<Halt> {
        &self.halt
    }

    /// Decides a change on the current snapshot, makes it durable, and publishes the next snapshot.
    /// Changes are serialized. The result of `decide` is final only when this returns. In a shared
    /// store it is decided again when another node was first.
    ///
    /// # Errors
    /// The error of `decide`, when nothing has changed; or [`KeystoreError`]. With
    /// [`KeystoreError::Commit`] or [`KeystoreError::Unanswered`] the outcome was unknown: the
    /// change is in force if the store turned out to hold it.
    pub async fn apply<T, E: From<KeystoreError>>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        if self.halt.freshness().is_some() {
            return self.apply_shared(decide).await;
        }
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        let current = self.snapshot.load_full();
        let (changes, outcome) = decide(&current)?;
        let changes = related::followed(&current, changes);
        if changes.is_empty() {
            return Ok(outcome);
        }
        match writer.write(&current, changes, &self.write_context()).await {
            Ok(next) => self.publish(next),
            Err(error) => {
                if writer.is_in_doubt() {
                    self.halt.set(error.to_string());
                    tracing::error!(%error, "a change of the store failed: the store is opened again");
                    // Now and not at the next tick: the change may be durable after all, and until
                    // that is known, no request is answered.
                    writer.retry.at = Duration::ZERO;
                    let _halted = self.settle(&mut writer).await;
                }
                return Err(error.into());
            }
        }
        Ok(outcome)
    }

    /// Checks that the store's name still leads to the file that was opened. Opens a store again
    /// whose last commit has an unknown outcome, unless that was tried a moment ago. A timer calls
    /// this about every second.
    ///
    /// # Errors
    /// [`KeystoreError::Halted`]: the store still takes no change.
    pub async fn heal(&self) -> Result<(), KeystoreError> {
        match self.writer.try_lock() {
            // What is in doubt in a shared store is looked for by those who follow it.
            Ok(writer) if writer.is_shared() => Ok(()),
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
            // A change is in progress, and settles the store first.
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
        let reason = self.halt.reason().map_or_else(
            || "a change was interrupted".to_owned(),
            |reason| reason.to_string(),
        );
        Err(KeystoreError::Halted { reason })
    }

    async fn reopen(&self, writer: &mut Writer) -> Result<(), KeystoreError> {
        let context = self.write_context();
        if let Some(found) = writer.reread(&context).await? {
            self.publish(found);
        }
        let revision = writer.prove(&context).await?;
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.revision = revision;
        self.publish(next);
        Ok(())
    }

    fn publish(&self, next: Snapshot) {
        next.count(&self.metrics);
        self.snapshot.store(Arc::new(next));
    }

    fn write_context(&self) -> WriteContext<'_> {
        WriteContext {
            regions: &self.regions,
            entropy: &self.entropy,
            metrics: &self.metrics,
        }
    }

    /// Closes the store's files. The write-ahead log is moved into the store.
    ///
    /// # Errors
    /// [`KeystoreError`]; acknowledged changes are durable all the same.
    pub async fn close(self) -> Result<(), KeystoreError> {
        let mut writer = self.writer.into_inner();
        writer.settle_memory();
        writer.store.close().await
    }
}

#[cfg(test)]
pub(crate) mod tests;
