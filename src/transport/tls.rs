//! TLS 1.3 on the TCP listener: its files, which are read again when they change, and the identity
//! of a client by its certificate.
//!
//! Certificate, key, client CA and CRL make one `rustls::ServerConfig` behind one pointer, so that
//! all of them change at once. Files that cannot be loaded change nothing: the old ones stay in
//! force, and an error is logged. Connections keep the files of their handshake. Sessions are not
//! resumed, so that a client's certificate is verified, against the current CRL, at each handshake.
//!
//! This module does not do TLS 1.2 (RFC 8446 has been enough for every SDK for years), early data
//! (which can be replayed), or SNI (there is one certificate).

use crate::auth::certificate::not_after;
use crate::auth::{Client, ClientMap};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;
use crate::tls_files::{self, Stamps, TlsError};
use ::metrics::{Counter, Gauge};
use arc_swap::ArcSwap;
use files::Files;
use named::Named;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod files;
mod handshake;
mod named;

/// The one protocol that is offered (ALPN).
const HTTP_1_1: &[u8] = b"http/1.1";

/// The TLS configuration of the TCP listener. An empty path means that there is no such file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The certificate chain, PEM. With it and `key` the listener speaks TLS.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The CA of client certificates, PEM. With it clients are asked for one.
    pub client_ca: PathBuf,
    /// The certificates that it has revoked, PEM.
    pub client_crl: PathBuf,
    /// Whether a client must have a certificate.
    pub client_certificate: ClientCertificate,
    /// The common names of client certificates; with none, every name is taken.
    pub client_common_names: Vec<String>,
    /// Seconds between two checks whether the files have changed.
    pub reload_seconds: u64,
    /// From SPIFFE ids or subjects to the ARNs of principals.
    pub clients: BTreeMap<String, String>,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// A client without one must sign its requests.
    Optional,
    /// A client without one is refused in the handshake.
    Required,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_ca: PathBuf::new(),
            client_crl: PathBuf::new(),
            client_certificate: ClientCertificate::Optional,
            client_common_names: Vec::new(),
            reload_seconds: 60,
            clients: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

/// The TLS state of a listener.
pub struct Tls {
    clients: Arc<ArcSwap<ClientMap>>,
    reload_seconds: AtomicU64,
    clock: Clock,
    current: ArcSwap<ServerConfig>,
    /// Locked while the files are read, so that the newest load is in force last.
    tried: Mutex<Tried>,
    expiry: Gauge,
    reload_failures: Counter,
    metrics: Arc<Metrics>,
}

/// The last attempt to load.
struct Tried {
    files: Files,
    stamps: Stamps,
    failed: bool,
}

impl Tls {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(config: &Config, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let files = Files::of(config);
        // The stamps are taken before the files are read, so that a change meanwhile is noticed.
        let stamps = files.stamps();
        let (server, end) = server_config(&files, &clock)?;
        let names = config.clients.clone();
        let tls = Self {
            clients: Arc::new(ArcSwap::from_pointee(ClientMap { names })),
            reload_seconds: config.reload_seconds.into(),
            clock,
            current: ArcSwap::from_pointee(server),
            tried: Mutex::new(Tried {
                files,
                stamps,
                failed: false,
            }),
            expiry: metrics.tls_certificate_expiry(),
            reload_failures: metrics.tls_reload_failures(),
            metrics,
        };
        tls.tell_end(end);
        Ok(tls)
    }

    /// Reads the files that `config` names and checks that they can be used.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(config: &Config, clock: &Clock) -> Result<(), TlsError> {
        server_config(&Files::of(config), clock).map(|_| ())
    }

    /// The interval at which to call [`Self::reload_if_changed`].
    #[must_use]
    pub fn reload_every(&self) -> Duration {
        Duration::from_secs(self.reload_seconds.load(Ordering::Relaxed))
    }

    /// Puts `config` in force and reads its files again; new connections use them. Files that
    /// cannot be used are logged, and then files, and the clients of other ones, stay as they
    /// are. This blocks on files, so it must not run on a runtime's thread.
    ///
    /// # Errors
    /// [`TlsError`], when the files cannot be used.
    pub fn reload(&self, config: &Config) -> Result<(), TlsError> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::of(config);
        let are_others = files != tried.files;
        let loaded = self.try_to_load(&files);
        match &loaded {
            Ok(stamps) => {
                *tried = Tried {
                    files,
                    stamps: stamps.clone(),
                    failed: false,
                };
            }
            // The timer goes on with the files that are in force.
            Err(_) if are_others => {}
            Err(_) => tried.failed = true,
        }
        if loaded.is_ok() || !are_others {
            let names = config.clients.clone();
            self.clients.store(Arc::new(ClientMap { names }));
            self.reload_seconds
                .store(config.reload_seconds, Ordering::Relaxed);
        }
        loaded.map(|_| ())
    }

    /// Reloads when a file has changed since the last try, or that try has failed. This blocks on
    /// files.
    pub fn reload_if_changed(&self) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = tried.files.stamps();
        if tried.failed || tried.stamps != stamps {
            tried.stamps = stamps;
            tried.failed = self.try_to_load(&tried.files).is_err();
        }
    }

    /// Reads files; those that can be used are in force then. Returns their marks from before.
    fn try_to_load(&self, files: &Files) -> Result<Stamps, TlsError> {
        let stamps = files.stamps();
        match server_config(files, &self.clock) {
            Ok((server, end)) => {
                self.current.store(Arc::new(server));
                tracing::info!("TLS files were read: new connections use them");
                self.tell_end(end);
                Ok(stamps)
            }
            Err(error) => {
                self.reload_failures.increment(1);
                tracing::error!(%error, "TLS files cannot be used: the old ones stay in force");
                Err(error)
            }
        }
    }

    fn tell_end(&self, end: Timestamp) {
        let (end, now) = (end.unix_seconds(), self.clock.now().unix_seconds());
        if end <= now {
            tracing::warn!("the TLS certificate has expired: clients will refuse it");
        }
        // Exact: seconds have far fewer bits than the 53 of a double.
        self.expiry.set(end as f64);
    }

    /// The client whose certificate a handshake has verified.
    fn client(&self, connection: &ServerConnection) -> Option<Client> {
        let certificate = connection.peer_certificates()?.first()?;
        let client = Client::of_certificate(certificate);
        if client.is_none() {
            tracing::debug!("a client certificate has no usable name, or several");
        }
        client
    }
}

/// The configuration from the files, and the time at which the first certificate of the chain
/// expires.
fn server_config(files: &Files, clock: &Clock) -> Result<(ServerConfig, Timestamp), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = tls_files::certificates(&files.certificate)?;
    let end = end(files, &chain)?;
    let certified = tls_files::certified(chain, &files.certificate, &files.key)?;
    let versioned =
        ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Provider)?;
    let builder = match &files.client_ca {
        None => versioned.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in tls_files::certificates(ca)? {
                let added = roots.add(certificate);
                added.map_err(|error| TlsError::refused(ca, &error))?;
            }
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(crl) = &files.client_crl {
                let crls = tls_files::revocation_lists(crl)?;
                verifier = verifier.with_crls(crls).enforce_revocation_expiration();
            }
            // A client without a certificate has to sign its requests.
            if !files.client_required {
                verifier = verifier.allow_unauthenticated();
            }
            let of = files.client_crl.as_ref().unwrap_or(ca);
            let verifier = verifier.build();
            let verifier = verifier.map_err(|error| TlsError::refused(of, &error))?;
            versioned.with_client_cert_verifier(Named::over(verifier, &files.client_common_names))
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // No resumption: each handshake verifies the client's certificate.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok((server, end))
}

fn end(files: &Files, chain: &[CertificateDer<'_>]) -> Result<Timestamp, TlsError> {
    let ends: Option<Vec<Timestamp>> = chain
        .iter()
        .map(|certificate| not_after(certificate))
        .collect();
    let end = ends.and_then(|ends| ends.into_iter().min());
    end.ok_or_else(|| TlsError::refused(&files.certificate, &"not a certificate of X.509"))
}

#[cfg(test)]
mod tests;
