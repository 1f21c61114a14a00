//! Everything behind the listeners: the opened store, the pool, and the operations on them.

use crate::api::{Api, Parts};
use crate::attestation::{Attestations, RootError, Roots};
use crate::audit::{self, Audit};
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::entropy::{Entropy, OsEntropy};
use crate::keystore::{Follower, Keystore, KeystoreError, RootKeyError, RootKeyFile};
use crate::metrics::Metrics;
use crate::pool::{self, CloneWord, Pool};
use crate::rates::Rates;
use crate::web_identity::WebIdentities;
use crate::xks_proxy::{FilesError, Proxies};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinSet;

mod opening;

pub use opening::check_absent;
use opening::{Opened, keystore};

/// An opened store and everything that works on it.
pub struct Core {
    /// Time.
    pub clock: Clock,
    /// Randomness, with its failures counted.
    pub entropy: Arc<Entropy>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Keys, aliases and principals.
    pub keystore: Arc<Keystore>,
    /// Detects clones of the machine or process.
    pub clone_word: Arc<CloneWord>,
    /// Pooled keys.
    pub pool: Arc<Pool>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// The operations.
    pub api: Arc<Api>,
    /// Looks at a shared store, as long as it is open.
    following: JoinSet<()>,
}

/// Informs the user about a root key whose file was just made, and how to keep it.
pub type Announce = fn(&RootKeyFile);

/// What to do when the store does not exist.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// Refuse.
    Existing,
    /// Create it and its root key, unless something of an earlier store exists. A root key, an
    /// audit log or a memory of a store without the store points to a disk that is not mounted or a
    /// misspelt path.
    First(Announce),
    /// Create it on purpose, under an existing root key if there is one.
    Anew(Announce),
}

/// Why the core cannot be opened. Each error prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The root key cannot be made or used.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The store cannot be made or opened.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The store exists, and its root key does not.
    #[error(
        "root key {root_key} does not exist, and store {store} cannot be read without it: restore it from your copy"
    )]
    RootKeyAbsent {
        /// The root key file.
        root_key: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// The store does not exist, and something that belongs to one does.
    #[error(
        "store {store} does not exist, but {found} does: mount its disk, correct store.path, or restore it from a backup; to begin with an empty store on purpose, ask once for a new one"
    )]
    StoreAbsent {
        /// The store.
        store: PathBuf,
        /// The thing that exists.
        found: String,
    },
    /// The shared store is empty, and something that belongs to one is there.
    #[error(
        "store {store} is empty, but {found} is there: correct store.url, or restore the database from a backup; to begin with an empty store on purpose, ask once for a new one"
    )]
    SharedStoreAbsent {
        /// The store.
        store: String,
        /// The thing that exists.
        found: String,
    },
    /// The store is older than the configuration says.
    #[error(
        "store {store} is at revision {revision}, below store.revision_min, {least}: an earlier copy was put in its place; put the newer one back, or lower the setting to go back on purpose"
    )]
    Older {
        /// The store.
        store: String,
        /// Its revision.
        revision: u64,
        /// The least one.
        least: u64,
    },
    /// A folder beside the store cannot be read.
    #[error("{path}: {source}")]
    Beside {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The roots of attestation documents cannot be used.
    #[error(transparent)]
    Roots(#[from] RootError),
    /// The files of an external key store proxy cannot be used.
    #[error(transparent)]
    Proxies(#[from] FilesError),
    /// The recorder of metrics cannot be built.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The threads of the fillers cannot be started.
    #[error("cannot start the pool's threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl Core {
    /// Opens the store of `config`, with a pool that `pool` configures.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: &Config,
        pool: pool::Config,
        opening: Opening,
    ) -> Result<Self, OpenError> {
        let metrics = Arc::new(Metrics::new()?);
        let attestations = Attestations::new(Roots::read(&config.attestation)?, &metrics);
        let entropy = Arc::new(Entropy::new(
            Box::new(OsEntropy),
            metrics.entropy_failures.clone(),
        ));
        let Opened {
            keystore,
            audit_key,
        } = keystore(config, opening, &entropy, &metrics).await?;
        let keystore = Arc::new(keystore);
        let clock = Clock::system();
        let audit = {
            let (config, clock) = (config.audit.clone(), clock.clone());
            let (entropy, metrics) = (Arc::clone(&entropy), Arc::clone(&metrics));
            let known = audit::Known {
                sealed: keystore.snapshot().audit_head(keystore.node()),
                node: keystore.name_in_logs().map(str::to_owned),
            };
            let regions = keystore.regions().clone();
            let open = move || {
                Audit::open(
                    &config,
                    audit_key,
                    Some(known),
                    &regions,
                    clock,
                    &entropy,
                    &metrics,
                )
            };
            Arc::new(blocking(open).await?)
        };
        audit.seal_head(&keystore).await?;
        let clone_word = Arc::new(CloneWord::new());
        for source in clone_word.sources() {
            metrics.clone_word_source(source.name, source.window);
        }
        let pool = Pool::new(
            pool,
            Arc::clone(&entropy),
            clock.clone(),
            Arc::clone(&clone_word),
            &metrics,
        )?;
        let xks_proxies = {
            let (configs, clock) = (config.xks_proxies.clone(), clock.clone());
            let metrics = Arc::clone(&metrics);
            blocking(move || Proxies::new(&configs, &clock, &metrics)).await?
        };
        let parts = Parts {
            keystore: Arc::clone(&keystore),
            pool: Arc::clone(&pool),
            clone_word: Arc::clone(&clone_word),
            entropy: Arc::clone(&entropy),
            clock: clock.clone(),
            rates: Rates::new(&config.rates, keystore.regions()),
            audit: Arc::clone(&audit),
            web_identities: WebIdentities::new(
                &config.issuers,
                &config.partition,
                config.account,
                &clock,
                &metrics,
            ),
            attestations,
            xks_proxies,
        };
        let api = Api::new(parts, &metrics);
        // Before the first request: material may have expired while the daemon was not running.
        if let Err(error) = api.drop_expired_material(clock.now()).await {
            let error = error.source().map(tracing::field::display);
            tracing::error!(
                error,
                "imported material whose date of expiry has come was not removed"
            );
        }
        let mut following = JoinSet::new();
        if let Some(shared) = config.store.shared() {
            let follower = shared.follower(Arc::clone(&keystore));
            following.spawn(follow(follower, Arc::clone(&pool)));
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
            following,
        })
    }

    /// Stops the fillers, drops every pooled key, writes the last records, seals the head of the
    /// audit log, and closes the store.
    ///
    /// # Errors
    /// [`KeystoreError`]; acknowledged changes are durable all the same.
    pub async fn close(mut self) -> Result<(), KeystoreError> {
        // A look that is broken off has changed nothing.
        self.following.shutdown().await;
        self.pool.shut_down();
        let audit = Arc::clone(&self.audit);
        blocking(move || audit.close()).await;
        self.audit.seal_head(&self.keystore).await?;
        drop(self.api);
        match Arc::into_inner(self.keystore) {
            Some(keystore) => keystore.close().await,
            // A request outlasted the drain; the next opening folds the write-ahead log in.
            None => Ok(()),
        }
    }
}

/// Drops what was pooled under keys that other nodes have changed.
async fn follow(mut follower: Follower, pool: Arc<Pool>) {
    loop {
        for key in follower.follow().await {
            pool.purge(key);
        }
    }
}

/// Runs `work`, which waits for a disk, on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A panic of the work is a panic here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    use crate::xks_proxy;
    use std::sync::{Mutex, PoisonError};
    use tempfile::TempDir;

    /// The root keys that were announced in all tests.
    static ANNOUNCED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    fn announce(file: &RootKeyFile) {
        assert!(file.exists(), "the announced file exists");
        let mut announced = ANNOUNCED.lock().unwrap_or_else(PoisonError::into_inner);
        announced.push(file.path.clone());
    }

    fn announced(config: &Config) -> usize {
        let announced = ANNOUNCED.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = announced.iter();
        paths.filter(|path| **path == config.store.root_key).count()
    }

    const FIRST: Opening = Opening::First(announce);

    /// A folder of its own, and the configuration of a daemon in it that was never started.
    fn fresh() -> (TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keymill.toml");
        let loaded = Config::read(Some((&file, "")), &Environment::default(), &[]);
        (folder, loaded.unwrap().config)
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

    /// Opens the store and closes it again.
    async fn opens(config: &Config, opening: Opening) {
        let core = Core::open(config, unpooled(), opening).await.unwrap();
        core.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_store_is_created_once_and_reopened() {
        let (_folder, config) = fresh();
        let line = refusal(&config, Opening::Existing).await;
        assert!(line.contains("does not exist"), "{line}");
        assert!(!config.store.root_key.exists());
        let core = Core::open(&config, unpooled(), FIRST).await.unwrap();
        assert_eq!(announced(&config), 1);
        let line = refusal(&config, Opening::Existing).await;
        assert!(
            line.contains("in use") && line.contains("go through it"),
            "{line}"
        );
        core.close().await.unwrap();
        opens(&config, Opening::Existing).await;
        assert_eq!(announced(&config), 1);
    }

    #[tokio::test]
    async fn files_of_a_proxy_that_cannot_be_used_are_named_at_the_start() {
        let (folder, mut config) = fresh();
        let proxy = xks_proxy::Config {
            host: "vault.example".to_owned(),
            address: String::new(),
            ca_file: folder.path().join("absent.pem"),
            certificate: PathBuf::new(),
            private_key: PathBuf::new(),
            timeout_ms: 250,
        };
        config.xks_proxies.insert("vault".to_owned(), proxy);
        let line = refusal(&config, FIRST).await;
        assert!(line.starts_with("xks_proxies.vault.ca_file: "), "{line}");
        config.xks_proxies.clear();
        opens(&config, FIRST).await;
    }

    #[tokio::test]
    async fn a_store_without_its_root_key_gets_no_new_one() {
        let (_folder, config) = fresh();
        opens(&config, FIRST).await;
        std::fs::remove_file(&config.store.root_key).unwrap();
        let line = refusal(&config, FIRST).await;
        assert!(line.contains("restore it from your copy"), "{line}");
        assert!(!config.store.root_key.exists());
    }

    #[tokio::test]
    async fn a_store_below_the_least_revision_is_refused_and_left_as_it_was() {
        let (_folder, mut config) = fresh();
        opens(&config, FIRST).await;
        config.store.revision_min = 1_000;
        let line = refusal(&config, FIRST).await;
        assert!(
            line.contains("below store.revision_min, 1000: an earlier copy"),
            "{line}"
        );
        config.store.revision_min = 1;
        opens(&config, FIRST).await;
    }

    #[tokio::test]
    async fn what_is_left_of_a_store_is_no_reason_to_serve_an_empty_one() {
        let (_folder, config) = fresh();
        opens(&config, FIRST).await;
        std::fs::remove_file(&config.store.path).unwrap();
        let (seen, root_key) = (
            Keystore::seen_path(&config.store.path),
            &config.store.root_key,
        );
        let root = std::fs::read(root_key).unwrap();
        for (found, gone) in [
            ("root key", root_key.as_path()),
            ("keystore.seen, a host's memory of it,", &seen),
            ("audit log", &config.audit.path),
        ] {
            let line = refusal(&config, FIRST).await;
            assert!(line.contains(found), "{line}");
            assert!(
                line.contains("ask once for a new one") && !line.contains('\n'),
                "{line}"
            );
            assert!(!config.store.path.exists());
            if gone.is_dir() {
                std::fs::remove_dir_all(gone).unwrap();
            } else {
                std::fs::remove_file(gone).unwrap();
            }
        }
        opens(&config, FIRST).await;
        assert_ne!(std::fs::read(root_key).unwrap(), root);
    }

    #[tokio::test]
    async fn an_empty_store_is_made_beside_a_root_key_on_purpose() {
        let (_folder, config) = fresh();
        RootKeyFile::clear(&config.store.root_key)
            .create(&Entropy::os())
            .unwrap();
        std::fs::write(Keystore::seen_path(&config.store.path), "99 format 2\n").unwrap();
        let before = std::fs::read(&config.store.root_key).unwrap();
        let core = Core::open(&config, unpooled(), Opening::Anew(announce)).await;
        core.unwrap().close().await.unwrap();
        assert_eq!(announced(&config), 0);
        assert_eq!(std::fs::read(&config.store.root_key).unwrap(), before);
    }

    #[tokio::test]
    async fn a_start_that_fails_after_the_root_key_was_made_has_told_of_it() {
        let (_folder, config) = fresh();
        std::fs::write(&config.audit.path, "no folder").unwrap();
        let line = refusal(&config, FIRST).await;
        assert!(line.contains("audit log"), "{line}");
        assert_eq!(announced(&config), 1);
        // The next start continues with what exists.
        std::fs::remove_file(&config.audit.path).unwrap();
        opens(&config, FIRST).await;
        assert_eq!(announced(&config), 1);
    }

    #[tokio::test]
    async fn a_first_start_that_was_killed_is_begun_again_with_its_root_key() {
        let (_folder, config) = fresh();
        // The state between the making of the two files.
        Keystore::begin(&config.store.path).unwrap();
        RootKeyFile::clear(&config.store.root_key)
            .create(&Entropy::os())
            .unwrap();
        let before = std::fs::read(&config.store.root_key).unwrap();
        opens(&config, FIRST).await;
        assert_eq!(std::fs::read(&config.store.root_key).unwrap(), before);
        assert!(!Keystore::is_begun(&config.store.path));
    }
}
