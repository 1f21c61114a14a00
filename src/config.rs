//! The configuration: the `Config` of each component, nested, and the source of each setting.
//!
//! Settings come from a TOML file, then from `KEYMILL_SECTION__KEY` variables of the environment,
//! then from flags; the last one that names a key wins. Relative paths are relative to the folder
//! of the file, whatever their source; a file that is only read may be a credential of systemd.
//! Every mistake is reported in one run, with its place, its key and the allowed values. The sample
//! file, `config/keymill.toml`, is the manual; a test compares it with the defaults and with the
//! ranges of [`allowed`].
//!
//! This module does not open anything that a setting names.

use crate::attestation;
use crate::auth::signatures::Signatures;
use crate::file::open;
use crate::key::arn::AccountId;
use crate::key::regions::Regions;
use crate::keystore::freshness::Look;
use crate::keystore::postgres::{Access, DatabaseUrl};
use crate::keystore::{RootKeyFile, Seal, SharedStore};
use crate::web_identity::issuer;
use crate::xks::{external_key, key_store};
use crate::{audit, pkcs11, pool, rates, transport, xks_proxy};
use layers::Layers;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use strum::IntoStaticStr;

pub mod allowed;
mod credentials;
pub mod environment;
pub mod layers;
pub mod sockets;
mod suggestion;
mod together;

pub use environment::Environment;
pub use layers::{Flag, Origin, Setting};
pub use sockets::{OVERFLOW_ID, Socket, SocketMode, SocketPeers};

/// Every setting of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The Region in ARNs and signatures; of several, the home Region.
    pub region: String,
    /// Several Regions, the home Region first; empty for one.
    pub regions: Vec<String>,
    /// The partition in ARNs.
    pub partition: String,
    /// The account of keys and principals.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub account: AccountId,
    /// The keystore.
    pub store: Store,
    /// The addresses for requests.
    pub listen: Listen,
    /// The principals of unsigned callers of the Unix socket.
    pub peers: SocketPeers,
    /// Further Unix sockets, by name.
    pub sockets: BTreeMap<String, Socket>,
    /// Other issuers whose tokens are taken, by name.
    pub issuers: BTreeMap<String, issuer::Config>,
    /// External key stores of AWS, by name.
    pub xks: BTreeMap<String, key_store::Config>,
    /// Their external keys, by name.
    pub xks_keys: BTreeMap<String, external_key::Config>,
    /// External key store proxies that may be called, by name.
    pub xks_proxies: BTreeMap<String, xks_proxy::Config>,
    /// Whose attestation documents are believed.
    pub attestation: attestation::Config,
    /// The token with the key that the root key is sealed under.
    pub pkcs11: pkcs11::Config,
    /// TLS of the TCP listener.
    pub tls: transport::tls::Config,
    /// The bounds of every listener.
    pub limits: transport::Limits,
    /// The limits on keys per second.
    pub rates: rates::Config,
    /// How many keys to make ahead of requests.
    pub pool: pool::Config,
    /// How signatures are verified.
    pub signatures: Signatures,
    /// The audit log.
    pub audit: audit::Config,
    /// The log.
    pub log: Log,
}

/// The keystore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The SQLite file; of a shared store, where this host keeps what belongs to it.
    pub path: PathBuf,
    /// The file with the root key.
    pub root_key: PathBuf,
    /// The file with the passphrase that the root key is sealed under; empty for one in the clear.
    pub passphrase_file: PathBuf,
    /// The database of a shared store; empty for the SQLite file.
    pub url: String,
    /// The same database, past a pooler, for notifications; empty for none.
    pub notify_url: String,
    /// The file with the database's password; empty for none.
    pub password_file: PathBuf,
    /// The file with the authorities of its certificate; empty for those of the machine.
    pub ca_file: PathBuf,
    /// Time between two looks at a shared store.
    pub poll_ms: u64,
    /// How old what a node serves may become.
    pub max_staleness_ms: u64,
    /// What confirms it.
    pub freshness: Look,
    /// The least revision of a store that is opened.
    pub revision_min: u64,
}

/// A path, unless it is empty.
fn set(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

impl Store {
    /// What it is called.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.shared() {
            Some(shared) => shared.access.url.to_string(),
            None => self.path.display().to_string(),
        }
    }

    /// How another database is reached that has the same password and authorities.
    #[must_use]
    pub fn access(&self, url: DatabaseUrl) -> Access {
        Access {
            url,
            password_file: set(&self.password_file),
            ca_file: set(&self.ca_file),
        }
    }

    /// The shared store, if it is one.
    #[must_use]
    pub fn shared(&self) -> Option<SharedStore> {
        let access = |url: &String| url.parse().ok().map(|url| self.access(url));
        Some(SharedStore {
            access: access(&self.url)?,
            direct: access(&self.notify_url),
            look_every: Duration::from_millis(self.poll_ms),
            age_max: Duration::from_millis(self.max_staleness_ms),
            confirmed_by: self.freshness,
            path: self.path.clone(),
        })
    }
}

/// The addresses for requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// HTTP, on a loopback address; or HTTP over TLS.
    pub tcp: SocketAddr,
    /// The daemon's own Unix socket, which the command line uses too.
    pub socket: PathBuf,
    /// Its permission bits.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub socket_mode: SocketMode,
    /// Metrics and health, on a loopback address; or on any, where that is said.
    pub admin: SocketAddr,
    /// Whether `admin` may be an address that is not loopback.
    pub admin_beyond_loopback: bool,
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// One line of text or one JSON object for each event.
    pub format: LogFormat,
    /// The least severe events that are written.
    pub level: LogLevel,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The least severe events that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// An operator should look at it.
    Warn,
    /// Changes of state, a handful each hour.
    Info,
    /// One event for each connection.
    Debug,
    /// One event for each request.
    Trace,
}

impl LogLevel {
    /// The value of the setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Default for Config {
    /// Loopback, authentication on, bounds on.
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            regions: Vec::new(),
            partition: "aws".to_owned(),
            account: "111122223333".parse().expect("12 digits"),
            store: Store {
                path: "keystore.db".into(),
                root_key: "root.key".into(),
                passphrase_file: PathBuf::new(),
                url: String::new(),
                notify_url: String::new(),
                password_file: PathBuf::new(),
                ca_file: PathBuf::new(),
                poll_ms: 1000,
                max_staleness_ms: 10_000,
                revision_min: 0,
                freshness: Look::Read,
            },
            listen: Listen {
                tcp: ([127, 0, 0, 1], 5645).into(),
                socket: "keymill.sock".into(),
                socket_mode: SocketMode::DEFAULT,
                admin: ([127, 0, 0, 1], 5646).into(),
                admin_beyond_loopback: false,
            },
            peers: SocketPeers::default(),
            sockets: BTreeMap::new(),
            issuers: BTreeMap::new(),
            xks: BTreeMap::new(),
            xks_keys: BTreeMap::new(),
            xks_proxies: BTreeMap::new(),
            attestation: attestation::Config::default(),
            pkcs11: pkcs11::Config::default(),
            tls: transport::tls::Config::default(),
            limits: transport::Limits::default(),
            rates: rates::Config::default(),
            pool: pool::Config::default(),
            signatures: Signatures::default(),
            audit: audit::Config::default(),
            log: Log {
                format: LogFormat::Text,
                level: LogLevel::Info,
            },
        }
    }
}

/// A configuration, and the source of each of its settings.
pub struct Loaded {
    /// The configuration, with absolute paths.
    pub config: Config,
    /// The settings as they were given, by dotted key.
    pub settings: BTreeMap<String, Setting>,
}

/// A setting that is refused, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, the variable or the flag.
    pub place: String,
    /// The problem, and the allowed values.
    pub problem: String,
}

/// A configuration that is refused, with every mistake in it, one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Mistake { place, problem }) in self.mistakes.iter().enumerate() {
            let end = if at + 1 == self.mistakes.len() {
                ""
            } else {
                "\n"
            };
            write!(out, "{place}: {problem}{end}")?;
        }
        Ok(())
    }
}

/// The most bytes of a configuration file: the commented sample has some 20,000.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Config {
    /// Reads `file`, then the overrides of `environment` and `flags`. Without a file, the defaults
    /// apply, and paths are relative to the current folder.
    ///
    /// # Errors
    /// [`ConfigError`], with every mistake.
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        flags: &[Flag],
    ) -> Result<Loaded, ConfigError> {
        let text = file.map(|path| open::named_text(path, FILE_BYTES_MAX).map(|text| (path, text)));
        match text.transpose() {
            Ok(file) => {
                let file = file.as_ref().map(|(path, text)| (*path, text.as_str()));
                Self::read(file, environment, flags)
            }
            Err(error) => {
                let place = file.unwrap_or(Path::new("")).display().to_string();
                let problem = format!("cannot be read: {error}");
                let mistakes = vec![Mistake { place, problem }];
                Err(ConfigError { mistakes })
            }
        }
    }

    /// Refuses variables that are misspelt, for commands that read no configuration.
    ///
    /// # Errors
    /// [`ConfigError`], with every one of them.
    pub fn check_variables(environment: &Environment) -> Result<(), ConfigError> {
        let mut layers = Layers::of_defaults();
        layers.add_environment(environment);
        match layers.mistakes {
            none if none.is_empty() => Ok(()),
            mistakes => Err(ConfigError { mistakes }),
        }
    }

    /// Reads a configuration as [`Self::load`] does, from the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`], with every mistake.
    pub fn read(
        file: Option<(&Path, &str)>,
        environment: &Environment,
        flags: &[Flag],
    ) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::of_defaults();
        if let Some((path, text)) = file {
            layers.add_file(path, text);
        }
        layers.add_environment(environment);
        layers.add_flags(flags);
        layers.free_the_admin_port();
        layers.derive_the_partition();
        layers.check();
        let parsed: Option<Self> = layers.config();
        // Rules between settings need absolute paths and values that are valid alone.
        let config = parsed.and_then(|mut config| {
            let folder = file.and_then(|(path, _)| path.parent());
            let folder = folder.unwrap_or(Path::new(""));
            config.resolve_paths(folder, environment, &mut layers);
            config.check_together(&mut layers);
            layers.mistakes.is_empty().then_some(config)
        });
        match config {
            Some(config) => Ok(Loaded {
                config,
                settings: layers.settings,
            }),
            None => Err(ConfigError {
                mistakes: layers.mistakes,
            }),
        }
    }

    /// The root key's file, and what it is sealed under.
    #[must_use]
    pub fn root_key_file(&self) -> RootKeyFile {
        let seal = match set(&self.store.passphrase_file) {
            Some(file) => Seal::Passphrase(file),
            None if self.pkcs11.is_set() => Seal::Token(self.pkcs11.clone()),
            None => Seal::Clear,
        };
        RootKeyFile {
            path: self.store.root_key.clone(),
            seal,
        }
    }

    /// The Regions that are served.
    #[must_use]
    pub fn served_regions(&self) -> Regions {
        let others = self.regions.iter().skip(1).map(String::as_str);
        Regions::new(&self.partition, &self.region, others)
    }

    /// Their names, the home Region first.
    #[must_use]
    pub fn region_names(&self) -> Vec<String> {
        let regions = self.served_regions();
        regions.iter().map(|region| region.name.clone()).collect()
    }

    /// The ARN of a user of this account.
    #[must_use]
    pub fn user_arn(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:user/{name}", self.partition, self.account)
    }

    /// By how much a caller's clock may differ.
    #[must_use]
    pub fn skew_max(&self) -> Duration {
        Duration::from_secs(self.signatures.skew_seconds)
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
