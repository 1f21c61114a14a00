//! KMS keys with their policies and grants, aliases and principals: open the store, read a snapshot, apply a change; the only writer.
//!
//! In memory there is one immutable [`Snapshot`] behind an atomic pointer: readers never lock. A change is decided on the current
//! snapshot, sealed, committed in one transaction together with the head, and only then published, under the next revision: what is not
//! durable is never seen (STORE-1). Changes are serialized. When the outcome of a commit is unknown, further changes are refused until a restart has read
//! what the store holds.
//!
//! Beside the store lie `<store>.lock`, held exclusively while it is open, and `<store>.seen`, the highest revision that this host has seen. What
//! remains is a whole old store given to a host without memory of a newer one.
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
use body::Entry;
use record::{Corrupt, Head, Kind, Record, Sealer};
use sqlite::{Commit, Contents, SqliteStore, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

mod body;
#[cfg(fuzzing)]
pub use body::fuzz as fuzz_body;
mod error;
mod grant_token;
mod import_token;
pub mod lock;
pub mod record;
pub mod root_key;
pub mod snapshot;
pub mod sqlite;

pub use error::KeystoreError;
pub use grant_token::GrantTokens;
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
    writer: Mutex<Writer>,
}

/// What only the writer needs; a tokio mutex, since a commit is awaited under it.
struct Writer {
    store: Box<dyn Store>,
    sealer: Sealer,
    head: Head,
    shares: BTreeMap<(Kind, String), [u8; 32]>,
    seen: Option<lock::SeenFile>,
    halted: bool,
    _lock: Option<StoreLock>,
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
        // Complete or absent: killed before the rename, it leaves no store, and the next call begins anew.
        let unfinished = path.with_extension("new");
        for left in ["new", "new-wal", "new-shm"] {
            root_key::remove_if_there(&path.with_extension(left)).map_err(io)?;
        }
        let mut store = SqliteStore::create(&unfinished).await?;
        let sealer = Sealer::create(root, &entropy)?;
        let head = Head {
            revision: 1,
            records: 0,
            sum: [0; 32],
        };
        let record = sealer.seal_head(&head, &entropy)?;
        store
            .commit(Commit {
                expected: 0,
                head: record,
                puts: Vec::new(),
                removals: Vec::new(),
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

    /// Opens the store at `path`: takes its lock, verifies everything, and only then opens it for writing.
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
        let loaded = Self::verify(path, SqliteStore::read(path).await?, root, &region)?;
        let store = Box::new(SqliteStore::connect(path).await?);
        let mut seen = lock::SeenFile::beside(path);
        seen.raise(loaded.head.revision)?;
        Ok(Self::assemble(
            store,
            loaded,
            region,
            entropy,
            metrics,
            Some(seen),
            Some(lock),
        ))
    }

    /// Verifies the store at `path` as [`Self::open`] does, takes no lock, and opens nothing for writing.
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
            lock::SeenFile::beside(path)
                .check(loaded.head.revision)
                .map(|()| loaded)
        });
        checked.map_err(|source| KeystoreError::Corrupt {
            path: path.to_owned(),
            source,
        })
    }

    fn assemble(
        store: Box<dyn Store>,
        loaded: Loaded,
        region: Region,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
        seen: Option<lock::SeenFile>,
        lock: Option<StoreLock>,
    ) -> Self {
        let Loaded {
            sealer,
            head,
            shares,
            snapshot,
            session_token_key,
            grant_tokens,
            import_tokens,
        } = loaded;
        snapshot.count(&metrics);
        let writer = Writer {
            store,
            sealer,
            head,
            shares,
            seen,
            halted: false,
            _lock: lock,
        };
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            region,
            grant_tokens,
            import_tokens,
            entropy,
            metrics,
            session_token_key,
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

    /// Decides a change on the current snapshot, makes it durable, and publishes the next snapshot. Changes are serialized; what
    /// `decide` returns is final only when this returns.
    ///
    /// # Errors
    /// What `decide` refused, or [`KeystoreError`]; in both cases nothing has changed.
    pub async fn apply<T, E: From<KeystoreError>>(
        &self,
        decide: impl FnOnce(&Snapshot) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        let mut writer = self.writer.lock().await;
        if writer.halted {
            return Err(KeystoreError::Halted.into());
        }
        let (changes, outcome) = decide(&self.snapshot.load())?;
        if !changes.is_empty() {
            self.write(&mut writer, changes).await?;
        }
        Ok(outcome)
    }

    /// Closes the store's files: the write-ahead log is folded into the store.
    ///
    /// # Errors
    /// [`KeystoreError`]; what was acknowledged is durable all the same.
    pub async fn close(self) -> Result<(), KeystoreError> {
        self.writer.into_inner().store.close().await
    }

    async fn write(&self, writer: &mut Writer, changes: Vec<Change>) -> Result<(), KeystoreError> {
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.revision = writer.head.revision + 1;
        let mut head = Head {
            revision: next.revision,
            ..writer.head
        };
        let mut shares = writer.shares.clone();
        let (mut puts, mut removals) = (Vec::new(), Vec::new());
        for change in changes {
            let (kind, id, plaintext) = next.change(change, &self.region);
            let name = (kind, id.clone());
            if let Some(share) = shares.remove(&name) {
                record::toggle(&mut head.sum, &share);
                head.records -= 1;
            }
            let Some(plaintext) = plaintext else {
                removals.push(name);
                continue;
            };
            let record = writer
                .sealer
                .seal(kind, id, next.revision, &plaintext, &self.entropy)?;
            let share = writer.sealer.share(&record);
            record::toggle(&mut head.sum, &share);
            head.records += 1;
            shares.insert(name, share);
            puts.push((record, share));
        }
        let record = writer.sealer.seal_head(&head, &self.entropy)?;
        let commit = Commit {
            expected: writer.head.revision,
            head: record,
            puts,
            removals,
        };
        // Set before the commit is awaited: whoever drops this future in the middle leaves the outcome unknown too.
        writer.halted = true;
        let clock = crate::clock::Clock::system();
        writer.store.commit(commit).await?;
        self.metrics.keystore_commits.increment(1);
        self.metrics
            .keystore_commit_seconds
            .record(clock.monotonic());
        if let Some(seen) = &mut writer.seen {
            seen.raise(head.revision)?;
        }
        writer.head = head;
        writer.shares = shares;
        writer.halted = false;
        next.count(&self.metrics);
        self.snapshot.store(Arc::new(next));
        Ok(())
    }
}

/// What loading found, verified.
struct Loaded {
    sealer: Sealer,
    head: Head,
    shares: BTreeMap<(Kind, String), [u8; 32]>,
    snapshot: Snapshot,
    session_token_key: Arc<Secret<32>>,
    grant_tokens: GrantTokens,
    import_tokens: ImportTokens,
}

impl Loaded {
    fn verify(contents: Contents, root: &RootKey, region: &Region) -> Result<Self, Corrupt> {
        let is_head = |record: &&Record| record.kind == Kind::Head;
        let record = contents
            .records
            .iter()
            .find(is_head)
            .ok_or(Corrupt::NoHead)?;
        let (sealer, head) = Sealer::open_head(root, record)?;
        let mut roster: BTreeMap<(Kind, String), Vec<u8>> = contents
            .roster
            .into_iter()
            .map(|(kind, id, share)| ((kind, id), share))
            .collect();
        let mut shares = BTreeMap::new();
        let mut sum = [0; 32];
        let mut snapshot = Snapshot {
            revision: head.revision,
            ..Snapshot::default()
        };
        for record in contents
            .records
            .iter()
            .filter(|record| record.kind != Kind::Head)
        {
            let plaintext = sealer.open(record)?;
            let name = (record.kind, record.id.clone());
            if record.revision > head.revision {
                return Err(Corrupt::Newer(
                    record.kind,
                    record.id.clone(),
                    record.revision,
                ));
            }
            let share = sealer.share(record);
            match roster.remove(&name) {
                None => return Err(Corrupt::Added(name.0, name.1)),
                Some(listed) if listed != share => {
                    return Err(Corrupt::Replaced(name.0, name.1, record.revision));
                }
                Some(_) => {}
            }
            record::toggle(&mut sum, &share);
            shares.insert(name, share);
            match body::decode(record, &plaintext, region)? {
                Entry::Key(key) => snapshot.put_key(key),
                Entry::Alias(alias) => snapshot.put_alias(alias),
                Entry::Principal(principal) => snapshot.put_principal(principal),
                Entry::KeyPolicy(key, policy) => snapshot.put_key_policy(key, policy),
                Entry::Grant(grant) => snapshot.put_grant(grant),
                Entry::Audit(head) => snapshot.audit_head = Some(head),
                Entry::Uses(uses) => snapshot.last_uses = Some(uses),
            }
        }
        if let Some(((kind, id), _)) = roster.pop_first() {
            return Err(Corrupt::Missing(kind, id));
        }
        if sum != head.sum || shares.len() as u64 != head.records {
            return Err(Corrupt::Sum);
        }
        Ok(Self {
            sealer,
            head,
            shares,
            snapshot,
            session_token_key: Arc::new(root.subkey("session tokens")),
            grant_tokens: GrantTokens::new(root),
            import_tokens: ImportTokens::new(root),
        })
    }
}

#[cfg(test)]
mod tests;
