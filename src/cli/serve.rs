//! `keymill serve`, and what `keymill dev` has in common with it.

use crate::cli::failure::{Failure, Status};
use crate::cli::log::SetLevel;
use crate::cli::{Addresses, ConfigFile, log, output, trust};
use crate::config::{Config, Environment, Flag, Loaded, LogFormat};
use crate::daemon::{Core, Daemon, Ending, Listeners, Opening, Signals, Source};
use crate::keystore::{KeystoreError, RootKeyFile};
use crate::service_manager::PassedSockets;
use crate::{daemon, memory};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    keymill serve --config /etc/keymill/keymill.toml\n  \
    keymill serve --config keymill-dev/keymill.toml --listen 127.0.0.1:7000 --admin-listen 127.0.0.1:7001")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    addresses: Addresses,
    /// Refuse a store below this revision, on a host that remembers none [default: that of the
    /// configuration, else 0]
    #[arg(long, value_name = "REVISION")]
    store_revision_min: Option<u64>,
    /// Begin with an empty store although a root key or an audit log is there and the store is not
    #[arg(long)]
    new_store: bool,
}

/// What the runtime is given for tasks that ignored their end.
const RUNTIME_END: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let start = Start::new()?;
    let mut flags = arguments.addresses.flags();
    flags.extend(arguments.store_revision_min.map(|revision| Flag {
        name: "--store-revision-min",
        key: "store.revision_min",
        value: revision.to_string(),
    }));
    let configuration = Configuration::load(arguments.file.path, environment, flags)?;
    let opening = if arguments.new_store {
        Opening::Anew(announce_root_key)
    } else {
        FIRST
    };
    serve(
        start,
        opening,
        configuration,
        environment,
        async |_core| Ok(()),
        |_daemon, ()| Ok(()),
    )
}

/// A process that no signal ends any more but in order.
pub(super) struct Start {
    passed: PassedSockets,
    runtime: Runtime,
    signals: Signals,
}

impl Start {
    /// To be made before anything else: a SIGHUP on its way here would end the process.
    pub(super) fn new() -> Result<Self, Failure> {
        // Before there are threads.
        let passed = PassedSockets::of_process().map_err(Failure::configuration)?;
        let runtime = super::runtime()?;
        let entered = runtime.enter();
        let signals = Signals::catch().map_err(Failure::failed)?;
        drop(entered);
        Ok(Self {
            passed,
            runtime,
            signals,
        })
    }
}

/// A configuration, and the way to read it again.
pub(super) struct Configuration {
    pub(super) loaded: Loaded,
    file: PathBuf,
    environment: Environment,
    flags: Vec<Flag>,
}

impl Configuration {
    pub(super) fn load(
        file: PathBuf,
        environment: &Environment,
        flags: Vec<Flag>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            loaded: Config::load(Some(&file), environment, &flags)?,
            file,
            environment: environment.clone(),
            flags,
        })
    }

    /// Where a daemon reads it again, under the rules of the start.
    fn source(self, set_log_level: SetLevel) -> Source {
        let Self {
            loaded,
            file,
            environment,
            flags,
        } = self;
        let read = move || {
            warn_of_others(&file)?;
            Ok(Config::load(Some(&file), &environment, &flags)?)
        };
        Source {
            settings: loaded.settings,
            read: Box::new(move || read().map_err(|refused: Failure| refused.message)),
            set_log_level,
        }
    }
}

/// Refuses a configuration that others may change, or logs that they may.
fn warn_of_others(file: &Path) -> Result<(), Failure> {
    for warning in trust::configuration(file)? {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// Opens, binds, lets `prepare` change the store, serves, lets `announce` say so, and runs to the
/// end.
pub(super) fn serve<T>(
    start: Start,
    opening: Opening,
    configuration: Configuration,
    environment: &Environment,
    prepare: impl AsyncFnOnce(&Core) -> Result<T, Failure>,
    announce: impl FnOnce(&Daemon, T) -> Result<(), Failure>,
) -> Result<Status, Failure> {
    let config = &configuration.loaded.config.clone();
    if config.log.format == LogFormat::Json {
        output::speak_json();
    }
    let set_log_level = log::start(&config.log, environment);
    warn_of_others(&configuration.file)?;
    let source = configuration.source(set_log_level);
    let memory_locked = harden();
    let Start {
        passed,
        runtime,
        signals,
    } = start;
    let ending = runtime.block_on(async {
        let core = open(config, opening).await?;
        let (listeners, prepared) = match bind(config, &core, passed, prepare).await {
            Ok(bound) => bound,
            Err(failure) => {
                core.close().await?;
                return Err(failure);
            }
        };
        let daemon = Daemon::start(config, core, listeners, source, memory_locked)
            .map_err(Failure::failed)?;
        announce(&daemon, prepared)?;
        Ok(daemon.run(signals).await)
    });
    runtime.shutdown_timeout(RUNTIME_END);
    match ending? {
        Ending::Drained => Ok(Status::Done),
        Ending::Cut => Ok(Status::Interrupted),
        Ending::Failed(listener) => Err(Failure::failed(format!(
            "{listener} ended by itself: its cause is in the log above"
        ))),
    }
}

async fn bind<T>(
    config: &Config,
    core: &Core,
    passed: PassedSockets,
    prepare: impl AsyncFnOnce(&Core) -> Result<T, Failure>,
) -> Result<(Listeners, T), Failure> {
    let listeners = Listeners::bind(config, core, passed).await?;
    Ok((listeners, prepare(core).await?))
}

async fn open(config: &Config, opening: Opening) -> Result<Core, Failure> {
    let core = Core::open(config, config.pool.clone(), opening).await;
    let core = core.map_err(|error| match error {
        // The advice to go through the running daemon does not help a process that wants to serve.
        daemon::OpenError::Keystore(KeystoreError::InUse { path, holder, .. }) => {
            Failure::unavailable(format!(
                "store {} is in use by process {holder}: stop it first",
                path.display()
            ))
        }
        other => other.into(),
    })?;
    if !aes::hardware_accelerated() {
        tracing::warn!(
            "this processor has no AES instructions: AES runs in software, many times slower"
        );
    }
    Ok(core)
}

/// A store is made where nothing of an earlier one is.
pub(super) const FIRST: Opening = Opening::First(announce_root_key);

fn announce_root_key(file: &RootKeyFile) {
    output::notice(&file.notice());
}

/// Keeps secrets out of core dumps and swap; a refusal is logged once, and shows in
/// `keymill_memory_locked`.
fn harden() -> bool {
    if let Err(error) = memory::forbid_dumps() {
        tracing::warn!(%error, "core dumps could not be forbidden");
    }
    match memory::lock() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "memory is not locked and may be swapped out");
            false
        }
    }
}
