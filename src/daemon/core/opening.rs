//! Opens the store that the configuration names, or makes it where that is meant: never in the
//! place of one that is only missing.

use crate::audit;
use crate::config::Config;
use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::daemon::core::{Announce, OpenError, Opening};
use crate::keystore::{Keystore, KeystoreError, SharedStore};
use crate::metrics::Metrics;
use std::sync::Arc;

/// A store, and the other key that the root key gives.
pub(super) struct Opened {
    pub(super) keystore: Keystore,
    pub(super) audit_key: Secret<32>,
}

/// Opens the store, or creates it if there is none and `opening` permits it. One that is below the
/// least revision is closed again.
pub(super) async fn keystore(
    config: &Config,
    opening: Opening,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Opened, OpenError> {
    let opened = whatever_is_there(config, opening, entropy, metrics).await?;
    let revision = opened.keystore.snapshot().revision;
    let least = config.store.revision_min;
    if revision >= least {
        return Ok(opened);
    }
    opened.keystore.close().await?;
    Err(OpenError::Older {
        store: config.store.shown(),
        revision,
        least,
    })
}

async fn whatever_is_there(
    config: &Config,
    opening: Opening,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Opened, OpenError> {
    if let Some(shared) = config.store.shared() {
        return shared_keystore(config, &shared, opening, entropy, metrics).await;
    }
    let (store, root_key) = (&config.store.path, &config.root_key_file());
    let (entropy, metrics) = (Arc::clone(entropy), Arc::clone(metrics));
    let regions = config.served_regions();
    if store.exists() {
        if !root_key.exists() {
            let (root_key, store) = (root_key.path.clone(), store.clone());
            return Err(OpenError::RootKeyAbsent { root_key, store });
        }
        let root = root_key.read()?;
        let keystore = Keystore::open(store, &root, regions, entropy, metrics).await?;
        return Ok(Opened {
            keystore,
            audit_key: audit::key(&root),
        });
    }
    let announce = may_create(config, opening)?;
    Keystore::begin(store)?;
    let root = if root_key.exists() {
        root_key.read()?
    } else {
        let root = root_key.create(&entropy)?;
        // Before anything else can fail: a later start would not announce it.
        announce(root_key);
        root
    };
    let keystore = Keystore::create(store, &root, regions, entropy, metrics).await?;
    Ok(Opened {
        keystore,
        audit_key: audit::key(&root),
    })
}

/// Opens a shared store, as another node; the first one makes it, if there is none and `opening`
/// permits that. Its root key may be there already: nodes are given a copy.
async fn shared_keystore(
    config: &Config,
    shared: &SharedStore,
    opening: Opening,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Opened, OpenError> {
    let (name, root_key) = (shared.access.url.to_string(), &config.root_key_file());
    let is_begun = shared.is_begun().await?;
    let announce = match opening {
        _ if is_begun => None,
        Opening::Existing => return Err(KeystoreError::Empty { store: name }.into()),
        Opening::First(announce) => {
            check_absent(config)?;
            Some(announce)
        }
        Opening::Anew(announce) => {
            Keystore::forget(&shared.path)?;
            Some(announce)
        }
    };
    let root = match announce {
        _ if root_key.exists() => root_key.read()?,
        None => {
            let (root_key, store) = (root_key.path.clone(), name.into());
            return Err(OpenError::RootKeyAbsent { root_key, store });
        }
        Some(announce) => {
            let root = root_key.create(entropy)?;
            // Before anything else can fail: a later start would not announce it.
            announce(root_key);
            root
        }
    };
    if announce.is_some() {
        shared.begin(&root, entropy).await?;
    }
    let (entropy, metrics) = (Arc::clone(entropy), Arc::clone(metrics));
    let opened = shared.open(&root, config.served_regions(), entropy, metrics);
    Ok(Opened {
        keystore: opened.await?,
        audit_key: audit::key(&root),
    })
}

/// Decides whether an empty store may be made. Returns the announcer of its root key.
fn may_create(config: &Config, opening: Opening) -> Result<Announce, OpenError> {
    let store = config.store.path.clone();
    match opening {
        Opening::Existing => Err(KeystoreError::Absent { path: store }.into()),
        Opening::First(announce) => {
            check_absent(config)?;
            Ok(announce)
        }
        Opening::Anew(announce) => {
            Keystore::forget(&store)?;
            Ok(announce)
        }
    }
}

/// Checks that a first start may make the store of `config`, which does not exist, and that it can
/// use a root key that is there.
///
/// # Errors
/// [`OpenError`].
pub fn check_absent(config: &Config) -> Result<(), OpenError> {
    match config.store.shared() {
        Some(shared) => {
            if let Some(found) = left_of_node(config)? {
                let store = shared.access.url.to_string();
                return Err(OpenError::SharedStoreAbsent { store, found });
            }
        }
        None => {
            if let Some(found) = left_of_earlier_store(config)? {
                let store = config.store.path.clone();
                return Err(OpenError::StoreAbsent { store, found });
            }
        }
    }
    if config.store.root_key.exists() {
        config.root_key_file().read()?;
    }
    Ok(())
}

/// A trace of what this host has seen of a store, if there is one.
fn left_of_node(config: &Config) -> Result<Option<String>, OpenError> {
    let seen = Keystore::seen_path(&config.store.path);
    if seen.exists() {
        return Ok(Some(format!("{}, a host's memory of it,", seen.display())));
    }
    left_of_log(config)
}

/// A trace of an earlier store, if there is one. A root key beside a store whose making was begun
/// is not a trace: a first start that was killed leaves it.
fn left_of_earlier_store(config: &Config) -> Result<Option<String>, OpenError> {
    let (store, root_key) = (&config.store.path, &config.store.root_key);
    if root_key.exists() && !Keystore::is_begun(store) {
        return Ok(Some(format!("root key {}", root_key.display())));
    }
    left_of_node(config)
}

/// The audit log of an earlier store, if there is one.
fn left_of_log(config: &Config) -> Result<Option<String>, OpenError> {
    let log = &config.audit.path;
    let beside = |source| OpenError::Beside {
        path: log.clone(),
        source,
    };
    match std::fs::read_dir(log) {
        Ok(mut entries) => {
            let has_log = entries.try_fold(false, |found, entry| {
                let is_log = entry?.path().extension() == Some("jsonl".as_ref());
                Ok(found || is_log)
            });
            let has_log = has_log.map_err(beside)?;
            Ok(has_log.then(|| format!("audit log {}", log.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // Opening the audit log will report what it is.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(beside(error)),
    }
}
