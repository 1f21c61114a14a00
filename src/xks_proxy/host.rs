//! A host that may be called, `[xks_proxies.NAME]` in the configuration, and the connections to it.
//!
//! A call takes the connection that was used last, or makes one, and puts it back when it has its
//! answer. One that the other side has closed meanwhile often shows so only when a request is sent
//! on it: the request is then sent once more, on a new one. Every operation of a proxy may be done
//! twice.

use crate::clock::Clock;
use crate::tls_files::{self, Stamps, TlsError, tls_error_in};
use crate::xks_proxy::connection::{Answer, Broken, Connection, Prepared};
use crate::xks_proxy::error::ProxyError;
use crate::xks_proxy::look_up::LookUp;
use ::metrics::Counter;
use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// Calls of a host that may be under way: those of 1,800 a second (AWS KMS quotas, requests of an
/// external key store) that each take all of AWS KMS's 250 ms.
const CALLS_MAX: usize = 450;
/// Idle connections to a host that are kept: as many calls of 1,800 a second as are under way with
/// the 35 ms that the specification advises.
const IDLE_MAX: usize = 64;
/// How long an idle connection is kept. Servers close them after a minute or so.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// A host that may be called. An empty text or path means that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its DNS name, which its certificate must be for.
    pub host: String,
    /// Where it is: an IP address and a port. Without it, the addresses of its name at port 443.
    #[serde(default)]
    pub address: String,
    /// The authorities that vouch for it; those of this machine without it.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// The certificate chain that it is shown, with [`Self::private_key`].
    #[serde(default)]
    pub certificate: PathBuf,
    /// Its key.
    #[serde(default)]
    pub private_key: PathBuf,
    /// Milliseconds for a whole call, its connection included.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// What AWS KMS waits (specification, "Performance").
fn default_timeout_ms() -> u64 {
    250
}

impl Config {
    /// The most hosts.
    pub const HOSTS_MAX: usize = 100;
}

/// Files of a host that cannot be used, as one line.
#[derive(Debug, thiserror::Error)]
#[error("xks_proxies.{name}.{setting}: {reason}")]
pub struct FilesError {
    name: String,
    setting: &'static str,
    reason: String,
}

/// What a call waits for.
#[derive(Clone, Copy)]
enum Stage {
    LookUp,
    Connection,
    Handshake,
    Answer,
}

impl Stage {
    const ALL: [&'static str; 4] = [
        "the look-up of its name",
        "the connection",
        "the handshake of TLS",
        "the answer",
    ];
}

/// How far a call has come.
#[derive(Default)]
struct Progress(AtomicUsize);

impl Progress {
    fn is_at(&self, stage: Stage) {
        self.0.store(stage as usize, Ordering::Relaxed);
    }

    fn words(&self) -> &'static str {
        Stage::ALL[self.0.load(Ordering::Relaxed)]
    }
}

/// A host, and the connections to it.
pub(super) struct Host {
    name: String,
    config: Config,
    server_name: ServerName<'static>,
    address: Option<SocketAddr>,
    look_up: LookUp,
    clock: Clock,
    tls: ArcSwap<ClientConfig>,
    /// Of the files when they were read last; `None` after they could not be used.
    stamps: Mutex<Option<Stamps>>,
    reload_failures: Counter,
    room: Semaphore,
    /// The one that was used last is at the end.
    idle: Mutex<Vec<Connection>>,
}

impl Host {
    /// `None` for a host that is not a DNS name: `config` has refused it before.
    pub(super) fn new(
        name: &str,
        config: &Config,
        clock: &Clock,
        reload_failures: Counter,
    ) -> Result<Option<Self>, FilesError> {
        let Ok(server_name) = ServerName::try_from(config.host.clone()) else {
            return Ok(None);
        };
        let stamps = stamps(config);
        let tls = client_config(name, config, clock)?;
        Ok(Some(Self {
            name: name.to_owned(),
            config: config.clone(),
            server_name,
            address: config.address.parse().ok(),
            look_up: LookUp::new(&config.host, clock.clone()),
            clock: clock.clone(),
            tls: ArcSwap::from_pointee(tls),
            stamps: Mutex::new(Some(stamps)),
            reload_failures,
            room: Semaphore::new(CALLS_MAX),
            idle: Mutex::default(),
        }))
    }

    /// Sends a request, and waits for its answer as long as the configuration says.
    pub(super) async fn call(&self, request: &Prepared) -> Result<Answer, ProxyError> {
        let Ok(_place) = self.room.try_acquire() else {
            return Err(ProxyError::Busy);
        };
        let progress = Progress::default();
        let time = Duration::from_millis(self.config.timeout_ms);
        let answered = tokio::time::timeout(time, self.exchange(request, &progress)).await;
        answered.unwrap_or_else(|_| {
            // Where a connection fell silent, those that are idle are most likely dead too.
            self.locked().clear();
            Err(ProxyError::TimedOut(progress.words()))
        })
    }

    async fn exchange(
        &self,
        request: &Prepared,
        progress: &Progress,
    ) -> Result<Answer, ProxyError> {
        if let Some(connection) = self.idle() {
            progress.is_at(Stage::Answer);
            match self.answer(connection, request).await {
                Err(Broken::Unanswered(_)) => {}
                answered => return Ok(answered?),
            }
        }
        let connection = self.connect(progress).await?;
        progress.is_at(Stage::Answer);
        Ok(self.answer(connection, request).await?)
    }

    async fn answer(
        &self,
        mut connection: Connection,
        request: &Prepared,
    ) -> Result<Answer, Broken> {
        let answer = connection.send(request).await?;
        self.keep(connection);
        Ok(answer)
    }

    async fn connect(&self, progress: &Progress) -> Result<Connection, ProxyError> {
        let unreached = |error: std::io::Error| ProxyError::NotReachable(error.to_string());
        progress.is_at(Stage::LookUp);
        let addresses = match self.address {
            Some(address) => vec![address],
            None => self.look_up.addresses().await.map_err(unreached)?,
        };
        progress.is_at(Stage::Connection);
        let stream = TcpStream::connect(addresses.as_slice()).await;
        let stream = stream.map_err(unreached)?;
        // Without it a request in two segments waits for an acknowledgement.
        stream.set_nodelay(true).map_err(unreached)?;
        progress.is_at(Stage::Handshake);
        let connector = TlsConnector::from(self.tls.load_full());
        let secured = connector.connect(self.server_name.clone(), stream).await;
        let secured = secured.map_err(|error| match tls_error_in(&error) {
            Some(error) => ProxyError::Tls(error.to_string()),
            None => unreached(error),
        })?;
        Connection::over(secured).await
    }

    /// The connection that was used last, of those that are still open.
    fn idle(&self) -> Option<Connection> {
        let mut idle = self.locked();
        std::iter::from_fn(|| idle.pop()).find(|connection| self.is_fresh(connection))
    }

    fn is_fresh(&self, connection: &Connection) -> bool {
        let idle = self.clock.monotonic().saturating_sub(connection.idle_since);
        !connection.is_closed() && idle < IDLE_TIME
    }

    fn keep(&self, mut connection: Connection) {
        connection.idle_since = self.clock.monotonic();
        let mut idle = self.locked();
        if idle.len() < IDLE_MAX && !connection.is_closed() {
            idle.push(connection);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn close_idle(&self) {
        self.locked().retain(|connection| self.is_fresh(connection));
    }

    /// Reads the files again if one has changed, or could not be used; new connections use them.
    /// Files that cannot be used are logged and change nothing. This blocks on files.
    pub(super) fn reload_if_changed(&self) {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the files are read, so that a change meanwhile is noticed.
        let now = self::stamps(&self.config);
        if stamps.as_ref() == Some(&now) {
            return;
        }
        match client_config(&self.name, &self.config, &self.clock) {
            Ok(tls) => {
                *stamps = Some(now);
                self.tls.store(Arc::new(tls));
                self.locked().clear();
                let proxy = &*self.name;
                tracing::info!(proxy, "TLS files of an external key store proxy were read");
            }
            Err(error) => {
                *stamps = None;
                self.reload_failures.increment(1);
                tracing::error!(%error, "TLS files cannot be used: the old ones stay in force");
            }
        }
    }
}

fn stamps(config: &Config) -> Stamps {
    let paths = [&config.ca_file, &config.certificate, &config.private_key];
    tls_files::stamps(paths.into_iter())
}

/// TLS 1.2 or later that trusts the authorities of the configuration, and shows its certificate.
pub(super) fn client_config(
    name: &str,
    config: &Config,
    clock: &Clock,
) -> Result<ClientConfig, FilesError> {
    let failed = |setting: &'static str, reason: &dyn fmt::Display| FilesError {
        name: name.to_owned(),
        setting,
        reason: reason.to_string(),
    };
    let ca = &config.ca_file;
    let file = (!ca.as_os_str().is_empty()).then_some(ca.as_path());
    let roots = tls_files::authorities(file).map_err(|reason| match file {
        Some(path) => failed("ca_file", &format_args!("{}: {reason}", path.display())),
        None => failed(
            "ca_file",
            &format_args!("is not set, and of this machine {reason}"),
        ),
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("host", &error))?
        .with_root_certificates(roots);
    let mut tls = if config.certificate.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let (certificate, key) = (&config.certificate, &config.private_key);
        let certified = tls_files::certificates(certificate)
            .and_then(|chain| tls_files::certified(chain, certificate, key))
            .map_err(|error: TlsError| failed("certificate", &error))?;
        builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
pub(crate) mod tests;
