//! How an embedded store is made: whole, or not at all.

use crate::crypto::entropy::Entropy;
use crate::key::regions::Regions;
use crate::keystore::record::{Head, Sealer};
use crate::keystore::sqlite::SqliteStore;
use crate::keystore::store::{Commit, Store};
use crate::keystore::{Keystore, KeystoreError, RootKey, StoreLock, root_key};
use crate::metrics::Metrics;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Keystore {
    /// Makes a new, empty store at `path`, which must not exist.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn create(
        path: &Path,
        root: &RootKey,
        regions: Regions,
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
        // The store is made under another name and then renamed. A process that is killed before
        // that leaves no store, and the next call starts again in the same unfinished file.
        let unfinished = unfinished(path);
        for left in ["new-wal", "new-shm"] {
            root_key::remove_if_there(&path.with_extension(left)).map_err(io)?;
        }
        let mut store = SqliteStore::create(&unfinished).await?;
        let sealer = Sealer::create(root, &entropy)?;
        let record = sealer.seal_head(&Head::first(), &entropy)?;
        store
            .commit(Commit {
                expected_head: None,
                expected: 0,
                head: record,
                puts: Vec::new(),
                removals: Vec::new(),
                takes_secrets: false,
                request: uuid::Uuid::nil(),
            })
            .await?;
        // Closing moves the write-ahead log into the file and syncs it, so the rename moves
        // everything.
        Box::new(store).close().await?;
        std::fs::rename(&unfinished, path)
            .and_then(|()| root_key::sync_folder_of(path))
            .map_err(io)?;
        drop(lock);
        Self::open(path, root, regions, entropy, metrics).await
    }

    /// Records at `path` that a store is being made there. Call it before the root key is made.
    ///
    /// # Errors
    /// [`KeystoreError::Io`].
    pub fn begin(path: &Path) -> Result<(), KeystoreError> {
        let path = unfinished(path);
        let made = SqliteStore::make_file(&path);
        made.map_err(|source| KeystoreError::Io { path, source })
    }

    /// Whether making a store at `path` was begun and not finished.
    #[must_use]
    pub fn is_begun(path: &Path) -> bool {
        unfinished(path).exists()
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}
