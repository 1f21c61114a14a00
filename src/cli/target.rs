//! Which store a command works on, or which daemon.

use crate::cli::failure::Failure;
use crate::config::{Config, Environment};
use crate::daemon::OpenError;
use crate::endpoint::Endpoint;
use crate::keystore::RootKey;
use clap::Args;
use std::path::{Path, PathBuf};

/// The configuration file in a folder of `keymill dev`.
pub(super) const FILE_IN_FOLDER: &str = "keymill.toml";

/// What a command works on.
pub enum Target<D = Endpoint> {
    /// The store of this configuration, opened by this process.
    Store(Box<Config>),
    /// A running daemon, or several.
    Daemon(D),
}

/// Where the daemons of a job listen: one, or several, each named once.
#[cfg(feature = "bulk")]
pub(super) struct Endpoints {
    pub(super) first: Endpoint,
    pub(super) more: Vec<Endpoint>,
}

/// A store, by the folder or by the configuration file that names it.
#[derive(Args, Clone)]
pub(super) struct StoreArguments {
    /// The folder of a `keymill dev`
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// The configuration file of a `keymill serve`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A store, or the Unix socket of a daemon: what operators' commands work on.
#[derive(Args, Clone)]
pub(super) struct OperatorTarget {
    #[command(flatten)]
    store: StoreArguments,
    /// The Unix socket of a running daemon, as unix:PATH [default: KEYMILL_ENDPOINT]
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["dir", "config"])]
    endpoint: Option<Endpoint>,
}

/// A store, or endpoints of daemons: what bulk jobs work on.
#[cfg(feature = "bulk")]
#[derive(Args, Clone)]
pub(super) struct JobTarget {
    #[command(flatten)]
    store: StoreArguments,
    /// A running daemon: unix:PATH, http://HOST:PORT or https://HOST:PORT; may be given more than
    /// once, for the daemons of a fleet [default: KEYMILL_ENDPOINT]
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["dir", "config"])]
    endpoint: Vec<Endpoint>,
}

impl OperatorTarget {
    /// The store or the daemon that was named.
    ///
    /// # Errors
    /// [`Failure`] with every mistake, or when nothing was named.
    pub(super) fn target(&self, environment: &Environment) -> Result<Target, Failure> {
        let named = || named_daemon(self.endpoint.as_ref(), environment);
        target(&self.store, named, environment)
    }
}

#[cfg(feature = "bulk")]
impl JobTarget {
    /// The store or the daemons that were named.
    ///
    /// # Errors
    /// [`Failure`] with every mistake, or when nothing was named.
    pub(super) fn target(&self, environment: &Environment) -> Result<Target<Endpoints>, Failure> {
        let named = || named_daemons(&self.endpoint, environment);
        target(&self.store, named, environment)
    }
}

impl StoreArguments {
    /// The configuration of the store; `None` when none is named.
    ///
    /// # Errors
    /// [`Failure`] with every mistake.
    pub(super) fn config(&self, environment: &Environment) -> Result<Option<Config>, Failure> {
        let file = match (&self.dir, &self.config) {
            (Some(dir), _) => file_in(dir)?,
            (None, Some(file)) => file.clone(),
            (None, None) => return Ok(None),
        };
        let loaded = Config::load(Some(&file), environment, &[])?;
        Ok(Some(loaded.config))
    }
}

/// The root key of a store that is called `store`, which is there.
///
/// # Errors
/// [`OpenError`].
pub(super) fn root_key(config: &Config, store: &str) -> Result<RootKey, OpenError> {
    let file = config.root_key_file();
    if !file.exists() {
        let (root_key, store) = (file.path, store.into());
        return Err(OpenError::RootKeyAbsent { root_key, store });
    }
    Ok(file.read()?)
}

/// Flags come before the variable.
fn target<D>(
    store: &StoreArguments,
    named: impl FnOnce() -> Result<Option<D>, Failure>,
    environment: &Environment,
) -> Result<Target<D>, Failure> {
    if let Some(config) = store.config(environment)? {
        return Ok(Target::Store(Box::new(config)));
    }
    named()?.map(Target::Daemon).ok_or_else(|| {
        Failure::usage(
            "name a store with --dir or --config, or a running daemon with --endpoint or KEYMILL_ENDPOINT",
        )
    })
}

/// The daemons that were named, for a command that works on no store.
///
/// # Errors
/// [`Failure`], when none was named, or one twice.
#[cfg(feature = "bulk")]
pub(super) fn daemons(
    endpoints: &[Endpoint],
    environment: &Environment,
) -> Result<Endpoints, Failure> {
    let named = named_daemons(endpoints, environment)?;
    named.ok_or_else(|| Failure::usage("name a running daemon with --endpoint or KEYMILL_ENDPOINT"))
}

/// Those of the flags, or that of the variable.
#[cfg(feature = "bulk")]
fn named_daemons(
    endpoints: &[Endpoint],
    environment: &Environment,
) -> Result<Option<Endpoints>, Failure> {
    let named = named_daemon(endpoints.first(), environment)?;
    let more = endpoints.get(1..).unwrap_or_default();
    for (at, endpoint) in more.iter().enumerate() {
        if endpoints[..=at].contains(endpoint) {
            return Err(Failure::usage(format!(
                "--endpoint {endpoint} is there twice: name each daemon once"
            )));
        }
    }
    Ok(named.map(|first| Endpoints {
        first,
        more: more.to_vec(),
    }))
}

/// That of the flag, or that of the variable. No other variable configures it, and none may be
/// misspelt.
fn named_daemon(
    endpoint: Option<&Endpoint>,
    environment: &Environment,
) -> Result<Option<Endpoint>, Failure> {
    Config::check_variables(environment)?;
    match (endpoint, environment.variable(Environment::ENDPOINT)) {
        (Some(endpoint), _) => Ok(Some(endpoint.clone())),
        (None, Some(text)) => {
            let endpoint = text.parse();
            let refused =
                |error| Failure::usage(format!("{} = {text:?}: {error}", Environment::ENDPOINT));
            Ok(Some(endpoint.map_err(refused)?))
        }
        (None, None) => Ok(None),
    }
}

fn file_in(dir: &Path) -> Result<PathBuf, Failure> {
    let file = dir.join(FILE_IN_FOLDER);
    let shown = file.display();
    match file.try_exists() {
        Ok(true) => Ok(file),
        Ok(false) => Err(Failure::configuration(format!(
            "{shown} does not exist: name a folder that `keymill dev` has made, or a file with --config"
        ))),
        // What cannot be seen may well be there.
        Err(error) => Err(Failure::configuration(format!(
            "{shown}: {error}: a store is for the user it belongs to; others go through its daemon with --endpoint"
        ))),
    }
}
