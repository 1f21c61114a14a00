//! The composition root: opens, binds, serves, and on a signal stops everything in reverse order.
//!
//! There are three steps, so that each failure is one line before anything is served:
//! [`Core::open`] opens the store, [`Listeners::bind`] takes the addresses, [`Daemon::start`]
//! serves. On SIGTERM or SIGINT the daemon reports that it is not ready, accepts nothing new,
//! answers the requests in progress (for at most `limits.drain_seconds`), stops the fillers, drops
//! the pool and closes the store. A second signal ends it at once: everything that was acknowledged
//! is durable.
//!
//! This module does not read a configuration and prints nothing.

use crate::auth::Verifier;
use crate::config::Config;
use crate::keystore::Snapshot;
use crate::service_manager;
use crate::transport::admin::{self, Admin};
use crate::transport::{self, Cores, Makers, Service};
use crate::web_identity::WebIdentities;
use crate::xks;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

mod core;
mod descriptors;
mod listeners;
mod reload;
mod status;
mod strangers;
mod upkeep;

pub use self::core::{Announce, Core, OpenError, Opening, check_absent};
pub use descriptors::{TooFew, connections_each};
pub use listeners::{ClaimError, ListenError, Listeners};
pub use reload::Source;
pub use strangers::Stranger;

use reload::Reload;
use upkeep::Upkeep;

/// Time for what follows the drain: the last records of the audit log, and the end of the store.
const CLOSING: Duration = Duration::from_secs(15);

/// What the service manager shows of a daemon.
const SERVING: &str = "serving requests";
const DRAINING: &str = "answering the last requests";

/// A daemon that serves.
pub struct Daemon {
    core: Core,
    address: SocketAddr,
    scheme: &'static str,
    admin_address: SocketAddr,
    socket: PathBuf,
    ready: Arc<AtomicBool>,
    /// How long its requests may take when it ends.
    drain: Duration,
    /// Turns true when no new connections are accepted.
    shutdown: watch::Sender<bool>,
    /// Turns true after the drain: until then `/ready` answers that the daemon is not ready.
    admin_shutdown: watch::Sender<bool>,
    servers: JoinSet<String>,
    admin: JoinSet<()>,
    upkeep: Upkeep,
    /// The runtimes of the connections.
    cores: Cores,
}

/// How a daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has drained.
    Drained,
    /// A second signal ended it at once.
    Cut,
    /// This listener ended without being told to.
    Failed(String),
}

impl Daemon {
    /// Serves the operations of `core` on `listeners`. SIGHUP has the configuration read again from
    /// `source`.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a signal handler, or allows too few open files
    /// to serve.
    pub fn start(
        config: &Config,
        core: Core,
        listeners: Listeners,
        source: Source,
        memory_locked: bool,
    ) -> std::io::Result<Self> {
        core.metrics.memory_locked(memory_locked);
        let snapshot = core.keystore.snapshot();
        Stranger::all(config, &snapshot)
            .iter()
            .for_each(Stranger::log);
        warn_of_issuers(&core.api.web_identities, &snapshot);
        log_clone_sources(config, &core);
        let reload = Reload::new(source, &core, &listeners);
        let (shutdown, shutting_down) = watch::channel(false);
        let (admin_shutdown, admin_shutting_down) = watch::channel(false);
        let ready = Arc::new(AtomicBool::new(false));
        let cores = Cores::start()?;
        let makers = Makers::start().map_err(std::io::Error::other)?;
        // Counted after everything that stays open was opened.
        let connections_max = connections_each(config).map_err(std::io::Error::other)?;
        let told = Arc::new(Admin {
            metrics: Arc::clone(&core.metrics),
            pool: Arc::clone(&core.pool),
            ready: Arc::clone(&ready),
            audit: Arc::clone(&core.audit),
            store: Arc::clone(core.keystore.halt()),
            facts: facts(config, &core, memory_locked),
            live: status::live(config, &core),
        });
        let service = Arc::new(Service {
            api: Arc::clone(&core.api),
            keystore: Arc::clone(&core.keystore),
            account: config.account,
            verifier: Verifier::new(
                core.keystore.regions(),
                config.skew_max(),
                Arc::clone(core.keystore.session_token_key()),
            ),
            clock: core.clock.clone(),
            limits: transport::Limits {
                connections_max,
                ..config.limits.clone()
            },
            metrics: Arc::clone(&core.metrics),
            cores: cores.handles().to_vec(),
            makers,
            told: Arc::clone(&told),
            xks: xks::Proxy::new(
                &config.xks,
                &config.xks_keys,
                config.skew_max(),
                core.keystore.session_token_key(),
            ),
        });
        let mut servers = JoinSet::new();
        let (tcp, tls) = (listeners.tcp, listeners.tls);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (served, down) = (Arc::clone(&service), shutting_down.clone());
        servers.spawn(async move {
            match tls {
                Some(tls) => transport::serve_tls(served, tcp, tls, down).await,
                None => transport::serve_tcp(served, tcp, down).await,
            }
            "listen.tcp".to_owned()
        });
        for (listener, socket) in listeners.unix {
            let name = socket.name.clone();
            let (service, down) = (Arc::clone(&service), shutting_down.clone());
            servers.spawn(async move {
                transport::serve_unix(service, listener, socket, down).await;
                name
            });
        }
        let mut admin = JoinSet::new();
        admin.spawn(admin::serve(
            told,
            listeners.admin,
            listeners.admin_address,
            admin_shutting_down,
        )?);
        let upkeep = Upkeep::start(&core, reload, cores.handles())?;
        ready.store(true, Ordering::SeqCst);
        core.metrics.ready.set(1);
        service_manager::ready(SERVING);
        tracing::info!(
            endpoint = %format_args!("{scheme}://{}", listeners.tcp_address),
            socket = %listeners.socket.display(),
            admin = %format_args!("http://{}", listeners.admin_address),
            "ready"
        );
        Ok(Self {
            core,
            address: listeners.tcp_address,
            scheme,
            admin_address: listeners.admin_address,
            socket: listeners.socket,
            ready,
            drain: Duration::from_secs(config.limits.drain_seconds),
            shutdown,
            admin_shutdown,
            servers,
            admin,
            upkeep,
            cores,
        })
    }

    /// The URL for AWS clients. Where port 0 was configured, it has the real port.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The address for Prometheus.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The path of the daemon's own Unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Serves until a signal arrives, then drains and closes.
    pub async fn run(mut self, mut signals: Signals) -> Ending {
        let failed = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "draining");
                None
            }
            // A listener ends only when it is told to, or when it panics.
            ended = self.servers.join_next() => {
                let listener = ended.and_then(Result::ok).unwrap_or_else(|| "a listener".to_owned());
                tracing::error!(listener, "a listener ended without being told to; draining");
                Some(listener)
            }
        };
        tokio::select! {
            () = self.stop() => failed.map_or(Ending::Drained, Ending::Failed),
            name = signals.next() => {
                tracing::warn!(signal = name, "a second signal: ending at once");
                Ending::Cut
            }
        }
    }

    async fn stop(mut self) {
        self.ready.store(false, Ordering::SeqCst);
        self.core.metrics.ready.set(0);
        // The drain does not wait for a service manager that does not listen.
        let at_most = self.drain + CLOSING;
        drop(spawn_blocking(move || {
            service_manager::stopping(DRAINING, at_most);
        }));
        self.shutdown.send_replace(true);
        while self.servers.join_next().await.is_some() {}
        self.admin_shutdown.send_replace(true);
        while self.admin.join_next().await.is_some() {}
        self.upkeep.stop().await;
        let closed = self.core.close().await;
        // Only now: a change continues after its caller has gone, and the store waits for it.
        drop(self.cores);
        match closed {
            Ok(()) => tracing::info!("stopped"),
            Err(error) => {
                tracing::error!(%error, "the store was not closed cleanly; acknowledged changes are durable")
            }
        }
    }
}

/// Logs roles that trust an issuer that is not in the configuration any more: the holders of its
/// tokens are refused.
fn warn_of_issuers(identities: &WebIdentities, snapshot: &Snapshot) {
    for (arn, entry) in snapshot.principals.iter() {
        let trust = entry.trust_policy.as_deref();
        let account = entry.principal.account;
        if let Some(issuer) = trust.and_then(|trust| identities.unknown_in(trust, account)) {
            tracing::warn!(
                %arn,
                issuer,
                "a role trusts an issuer that is not configured"
            );
        }
    }
}

/// Logs the sources of the clone word, and warns when none of them sees a restored snapshot.
fn log_clone_sources(config: &Config, core: &Core) {
    let sources = core
        .clone_word
        .sources()
        .iter()
        .map(|one| format!("{} ({})", one.name, one.window))
        .collect::<Vec<_>>()
        .join(", ");
    tracing::info!(sources, "clone word: source (window)");
    if config.pool.enabled && !core.clone_word.sees_snapshots() {
        tracing::warn!(
            "this process cannot detect a restored snapshot: two machines that are resumed from \
             one would hand out the same keys. If that can happen here, give the machine \
             /dev/vmclock0, let the daemon read the kernel's log (see config/keymill.service), or set pool.enabled = false"
        );
    }
}

/// The facts for `/status` that do not change while the daemon runs.
fn facts(config: &Config, core: &Core, memory_locked: bool) -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "regions": config.region_names(),
        "account": config.account.as_str(),
        "aes_accelerated": aes::hardware_accelerated(),
        "memory_locked": memory_locked,
        "clone_word_sources": core.clone_word.sources(),
        "pool_enabled": config.pool.enabled,
        "started_at_unix_seconds": core.clock.now().unix_seconds(),
    })
}

/// SIGTERM and SIGINT. SIGHUP does not end the daemon: it has the configuration read again.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Caught from the start, so that it does not end the process.
    _hangup: Signal,
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
