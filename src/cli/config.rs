//! `keymill config`: whether a configuration is sound, and which settings are in force.

use crate::attestation::Roots;
use crate::cli::failure::{Failure, Status};
use crate::cli::{Addresses, ConfigFile, output, trust};
use crate::clock::Clock;
use crate::config::{Config, Environment, Loaded, Setting};
use crate::daemon::{self, OpenError};
use crate::keystore::{Keystore, Snapshot};
use crate::transport::tls::Tls;
use crate::web_identity::WebIdentities;
use crate::xks_proxy::Proxies;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

mod host;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Check a file and the store that it names, and show what would be in force; changes and binds
    /// nothing
    #[command(after_help = "Examples:\n  \
        keymill config check --config /etc/keymill/keymill.toml\n  \
        keymill config check --config keymill-dev/keymill.toml --json")]
    Check(Check),
    /// Show every setting in force and where it comes from; without a file, the defaults
    #[command(after_help = "Examples:\n  \
        keymill config show\n  \
        keymill config show --config /etc/keymill/keymill.toml --json")]
    Show(Show),
}

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    addresses: Addresses,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Show {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    addresses: Addresses,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command, environment: &Environment) -> Result<Status, Failure> {
    match command {
        Command::Check(Check {
            file,
            addresses,
            json,
        }) => {
            let loaded = Config::load(Some(&file.path), environment, &addresses.flags())?;
            for warning in trust::configuration(&file.path)? {
                output::notice(&format!("keymill: {warning}"));
            }
            // Beyond the text: the store opens or can be made, the folders can be used,
            // certificates, the files of issuers and proxies and the roots of attestation load, and
            // the host has what they need.
            let store = check_store(&loaded.config)?;
            host::check_folders(&loaded.config)?;
            if loaded.config.tls.is_on() {
                let checked = Tls::check(&loaded.config.tls, &Clock::system());
                checked.map_err(Failure::configuration)?;
            }
            WebIdentities::check(&loaded.config.issuers, &Clock::system())
                .map_err(Failure::configuration)?;
            Proxies::check(&loaded.config.xks_proxies, &Clock::system())
                .map_err(Failure::configuration)?;
            Roots::read(&loaded.config.attestation).map_err(Failure::configuration)?;
            for warning in host::warnings(&loaded.config, store.snapshot()) {
                output::notice(&format!("keymill: {warning}"));
            }
            if json {
                let settings = settings_json(&loaded.settings);
                output::json(&json!({ "store": store.word(), "settings": settings }))?;
            } else {
                output::result(&settings_text(&loaded.settings))?;
                let path = loaded.config.store.shown();
                let file = file.path.display();
                output::result(&match store {
                    Store::Verified(_) => format!("# {file} is sound, and so is the store {path}"),
                    Store::Absent => format!(
                        "# {file} is sound; there is no store {path} yet: the first `keymill serve` creates it"
                    ),
                })?;
            }
        }
        Command::Show(Show {
            config,
            addresses,
            json,
        }) => {
            let Loaded { settings, .. } =
                Config::load(config.as_deref(), environment, &addresses.flags())?;
            if json {
                output::json(&settings_json(&settings))?;
            } else {
                output::result(&settings_text(&settings))?;
            }
        }
    }
    Ok(Status::Done)
}

enum Store {
    Verified(Box<Snapshot>),
    Absent,
}

impl Store {
    fn word(&self) -> &'static str {
        match self {
            Self::Verified(_) => "verified",
            Self::Absent => "absent",
        }
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Verified(snapshot) => Some(snapshot),
            Self::Absent => None,
        }
    }
}

/// Reads and verifies the whole store, if there is one, over a read-only connection.
fn check_store(config: &Config) -> Result<Store, Failure> {
    let runtime = super::runtime()?;
    let (path, shared) = (&config.store.path, config.store.shared());
    let is_there = match &shared {
        Some(shared) => runtime.block_on(shared.is_begun())?,
        None => path.exists(),
    };
    if !is_there {
        daemon::check_absent(config)?;
        return Ok(Store::Absent);
    }
    let root = config.root_key_file().read();
    let root = root.map_err(OpenError::from)?;
    let regions = config.served_regions();
    let snapshot = match shared {
        Some(shared) => runtime.block_on(shared.check(&root, &regions))?,
        None => runtime.block_on(Keystore::check(path, &root, &regions))?,
    };
    Ok(Store::Verified(Box::new(snapshot)))
}

fn settings_text(settings: &BTreeMap<String, Setting>) -> String {
    let rows: Vec<_> = settings
        .iter()
        .map(|(key, setting)| {
            (
                format!("{key} = {}", setting.value),
                format!("# {}", setting.source),
            )
        })
        .collect();
    let rows: Vec<_> = rows
        .iter()
        .map(|(setting, source)| (setting.as_str(), source.clone()))
        .collect();
    output::columns(&rows)
}

fn settings_json(settings: &BTreeMap<String, Setting>) -> Value {
    let settings = settings.iter().map(|(key, setting)| {
        let value = json!({
            "value": setting.value,
            "source": setting.source.kind(),
            "place": setting.source.to_string(),
        });
        (key.clone(), value)
    });
    Value::Object(settings.collect::<Map<_, _>>())
}
