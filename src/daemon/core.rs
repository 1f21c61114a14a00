//! Everything behind the listeners: the opened store, the pool and the operations on both.

use crate::api::{Api, Parts};
use crate::audit::{self, Audit};
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::entropy::{Entropy, OsEntropy};
use crate::crypto::secret::Secret;
use crate::keystore::{Keystore, KeystoreError, RootKey, RootKeyError};
use crate::limit::Limits;
use crate::metrics::Metrics;
use crate::pool::{self, CloneWord, Pool};
use std::path::PathBuf;
use std::sync::Arc;

/// An opened store and what works on it.
pub struct Core {
    /// Time.
    pub clock: Clock,
    /// Randomness; failures are counted.
    pub entropy: Arc<Entropy>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Keys, aliases, principals.
    pub keystore: Arc<Keystore>,
    /// Whether the machine or process may have a twin.
    pub clone_word: Arc<CloneWord>,
    /// Pooled keys.
    pub pool: Arc<Pool>,
    /// Where every call is recorded.
    pub audit: Arc<Audit>,
    /// The operations.
    pub api: Arc<Api>,
    /// The root key file, if this opening has created it: whoever did so is to be told how to keep it.
    pub new_root_key: Option<PathBuf>,
}

/// What to do when there is no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Refuse.
    Existing,
    /// Create it, and the root key if there is none either.
    CreateIfAbsent,
}

/// Why a store and what works on it cannot be opened. Each prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The store.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The store is there, its root key is not.
    #[error(
        "root key {root_key} does not exist, and store {store} cannot be read without it: restore it from your copy"
    )]
    RootKeyAbsent {
        /// The root key file.
        root_key: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// The metrics recorder.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The fillers' threads.
    #[error("cannot start the pool's threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl Core {
    /// Opens the store of `config`, with the pool as `pool` says.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: &Config,
        pool: pool::Config,
        opening: Opening,
    ) -> Result<Self, OpenError> {
        let metrics = Arc::new(Metrics::new()?);
        let entropy = Arc::new(Entropy::new(
            Box::new(OsEntropy),
            metrics.entropy_failures.clone(),
        ));
        let Opened {
            keystore,
            audit_key,
            new_root_key,
        } = keystore(config, opening, &entropy, &metrics).await?;
        let keystore = Arc::new(keystore);
        let clock = Clock::system();
        let audit = {
            let (config, clock) = (config.audit.clone(), clock.clone());
            let (entropy, metrics) = (Arc::clone(&entropy), Arc::clone(&metrics));
            let sealed = keystore.snapshot().audit_head;
            let open = move || Audit::open(&config, audit_key, sealed, clock, &entropy, &metrics);
            Arc::new(blocking(open).await?)
        };
        audit.seal_head(&keystore).await?;
        let clone_word = Arc::new(CloneWord::new());
        metrics.clone_word_source(clone_word.source());
        let pool = Pool::new(
            pool,
            Arc::clone(&entropy),
            clock.clone(),
            Arc::clone(&clone_word),
            &metrics,
        )?;
        let parts = Parts {
            keystore: Arc::clone(&keystore),
            pool: Arc::clone(&pool),
            clone_word: Arc::clone(&clone_word),
            entropy: Arc::clone(&entropy),
            clock: clock.clone(),
            limits: Limits::new(&config.rates),
            audit: Arc::clone(&audit),
        };
        let api = Api::new(parts, &metrics);
        // Before anybody can ask for what is under it: its date may have passed while nothing ran.
        if let Err(error) = api.drop_expired_material(clock.now()).await {
            let error = error.source().map(tracing::field::display);
            tracing::error!(
                error,
                "imported material whose date has come was not dropped"
            );
        }
        Ok(Self {
            clock,
            entropy,
            metrics,
            keystore,
            clone_word,
            pool,
            audit,
            api,
            new_root_key,
        })
    }

    /// Stops the fillers, drops every pooled key, writes the last records, seals the head of the audit log and closes the store.
    ///
    /// # Errors
    /// [`KeystoreError`]; what was acknowledged is durable all the same.
    pub async fn close(self) -> Result<(), KeystoreError> {
        self.pool.shut_down();
        let audit = Arc::clone(&self.audit);
        blocking(move || audit.close()).await;
        self.audit.seal_head(&self.keystore).await?;
        drop(self.api);
        match Arc::into_inner(self.keystore) {
            Some(keystore) => keystore.close().await,
            // A request outlasted the drain; the next opening folds the log in.
            None => Ok(()),
        }
    }
}

/// Waits on a thread of its own for what waits for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A panic there is one here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A store, and what else the root key gives.
struct Opened {
    keystore: Keystore,
    audit_key: Secret<32>,
    new_root_key: Option<PathBuf>,
}

/// Opens the store, or creates it where `opening` says so and there is none.
async fn keystore(
    config: &Config,
    opening: Opening,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Opened, OpenError> {
    let (store, root_key) = (&config.store.path, &config.store.root_key);
    let (entropy, metrics) = (Arc::clone(entropy), Arc::clone(metrics));
    let region = config.arn_region();
    if store.exists() {
        if !root_key.exists() {
            let (root_key, store) = (root_key.clone(), store.clone());
            return Err(OpenError::RootKeyAbsent { root_key, store });
        }
        let root = RootKey::read(root_key)?;
        let keystore = Keystore::open(store, &root, region, entropy, metrics).await?;
        return Ok(Opened {
            keystore,
            audit_key: audit::key(&root),
            new_root_key: None,
        });
    }
    if opening == Opening::Existing {
        let path = store.clone();
        return Err(KeystoreError::Absent { path }.into());
    }
    let new_root_key = (!root_key.exists()).then(|| root_key.clone());
    let root = match &new_root_key {
        Some(path) => RootKey::create(path, &entropy)?,
        None => RootKey::read(root_key)?,
    };
    let keystore = Keystore::create(store, &root, region, entropy, metrics).await?;
    Ok(Opened {
        keystore,
        audit_key: audit::key(&root),
        new_root_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use std::path::Path;

    fn config(folder: &Path) -> Config {
        let file = folder.join("keymill.toml");
        let loaded = Config::read(Some((&file, "")), &Environment::default(), &[]);
        loaded.unwrap().config
    }

    fn unpooled() -> pool::Config {
        pool::Config {
            enabled: false,
            ..pool::Config::default()
        }
    }

    async fn refusal(config: &Config, opening: Opening) -> String {
        let opened = Core::open(config, unpooled(), opening).await;
        opened.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn a_store_is_created_once_and_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let line = refusal(&config, Opening::Existing).await;
        assert!(line.contains("does not exist"), "{line}");
        assert!(!config.store.root_key.exists());
        let core = Core::open(&config, unpooled(), Opening::CreateIfAbsent)
            .await
            .unwrap();
        assert_eq!(core.new_root_key.as_ref(), Some(&config.store.root_key));
        let line = refusal(&config, Opening::Existing).await;
        assert!(
            line.contains("in use") && line.contains("--endpoint unix:"),
            "{line}"
        );
        core.close().await.unwrap();
        let core = Core::open(&config, unpooled(), Opening::Existing)
            .await
            .unwrap();
        assert_eq!(core.new_root_key, None);
        core.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_store_without_its_root_key_gets_no_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let core = Core::open(&config, unpooled(), Opening::CreateIfAbsent)
            .await
            .unwrap();
        core.close().await.unwrap();
        std::fs::remove_file(&config.store.root_key).unwrap();
        let line = refusal(&config, Opening::CreateIfAbsent).await;
        assert!(line.contains("restore it from your copy"), "{line}");
        assert!(!config.store.root_key.exists());
    }

    #[tokio::test]
    async fn a_root_key_that_is_there_is_used_for_a_new_store() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        RootKey::create(&config.store.root_key, &Entropy::os()).unwrap();
        let before = std::fs::read(&config.store.root_key).unwrap();
        let core = Core::open(&config, unpooled(), Opening::CreateIfAbsent)
            .await
            .unwrap();
        assert_eq!(core.new_root_key, None);
        core.close().await.unwrap();
        assert_eq!(std::fs::read(&config.store.root_key).unwrap(), before);
    }
}
