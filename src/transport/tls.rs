//! TLS 1.3 on the TCP listener: the files that it stands on, read again when they change; who a
//! client is by its certificate.
//!
//! Certificate, key, client CA and CRL make one `rustls::ServerConfig` behind one pointer, so that
//! all of them change at once. What cannot be loaded changes nothing: the old ones stay in force,
//! and it is told. Connections keep what their handshake saw. Sessions are not resumed: a client's
//! certificate is verified, against the CRL of the day, at each handshake.
//!
//! What this module does not do: TLS 1.2 (RFC 8446 has been enough for every SDK for years), early
//! data (it can be sent again), SNI (there is one certificate).

use crate::auth::certificate::not_after;
use crate::auth::{Client, ClientMap};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;
use ::metrics::{Counter, Gauge};
use arc_swap::ArcSwap;
use files::{Files, Stamps};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod files;
mod handshake;

pub use files::TlsError;

/// The one protocol that is offered (ALPN).
const HTTP_1_1: &[u8] = b"http/1.1";

/// TLS of the TCP listener. An empty path is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The certificate chain, PEM; with it and `key` the listener speaks TLS.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who issues client certificates, PEM; with it they are asked for.
    pub client_ca: PathBuf,
    /// What they have revoked, PEM.
    pub client_crl: PathBuf,
    /// Whether a client must have a certificate.
    pub client_certificate: ClientCertificate,
    /// Seconds between two looks whether the files have changed.
    pub reload_seconds: u64,
    /// Principals' ARNs by SPIFFE id or subject.
    pub clients: BTreeMap<String, String>,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Whoever has none must sign.
    Optional,
    /// Whoever has none is refused in the handshake.
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

/// What a listener with TLS is served with.
pub struct Tls {
    files: Files,
    clients: ClientMap,
    reload_every: Duration,
    clock: Clock,
    current: ArcSwap<ServerConfig>,
    /// Held while the files are read, so that the newest load is the last.
    tried: Mutex<Tried>,
    expiry: Gauge,
    reload_failures: Counter,
    metrics: Arc<Metrics>,
}

/// The last attempt to load.
struct Tried {
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
        // Before the files are read: what changes meanwhile is looked at again.
        let stamps = files.stamps();
        let (server, end) = server_config(&files, &clock)?;
        let names = config.clients.clone();
        let tls = Self {
            files,
            clients: ClientMap { names },
            reload_every: Duration::from_secs(config.reload_seconds),
            clock,
            current: ArcSwap::from_pointee(server),
            tried: Mutex::new(Tried {
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

    /// Reads the files that `config` names, to see whether they are sound.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(config: &Config, clock: &Clock) -> Result<(), TlsError> {
        server_config(&Files::of(config), clock).map(|_| ())
    }

    /// How often [`Self::reload_if_changed`] is to be called.
    #[must_use]
    pub fn reload_every(&self) -> Duration {
        self.reload_every
    }

    /// Reads the files again; new connections meet what they hold. What cannot be used is told, and
    /// changes nothing. Reads files: not for a thread that must not wait.
    pub fn reload(&self) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        self.try_to_reload(&mut tried, self.files.stamps());
    }

    /// The same when a file has changed since the last attempt, or that attempt has failed.
    pub fn reload_if_changed(&self) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.files.stamps();
        if tried.failed || tried.stamps != stamps {
            self.try_to_reload(&mut tried, stamps);
        }
    }

    fn try_to_reload(&self, tried: &mut Tried, stamps: Stamps) {
        let loaded = server_config(&self.files, &self.clock);
        *tried = Tried {
            stamps,
            failed: loaded.is_err(),
        };
        match loaded {
            Ok((server, end)) => {
                self.current.store(Arc::new(server));
                tracing::info!("TLS files read: new connections meet them");
                self.tell_end(end);
            }
            Err(error) => {
                self.reload_failures.increment(1);
                tracing::error!(%error, "TLS files cannot be used: the old ones stay in force");
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

    /// The principal's ARN and the certificate that a handshake has verified.
    fn client(&self, connection: &ServerConnection) -> Option<Client> {
        let certificate = connection.peer_certificates()?.first()?;
        let client = Client::of_certificate(certificate);
        if client.is_none() {
            tracing::debug!("a client certificate names nobody, or several");
        }
        client
    }
}

/// What the files hold, and when the first certificate of the chain ends.
fn server_config(files: &Files, clock: &Clock) -> Result<(ServerConfig, Timestamp), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = files.certificates(&files.certificate)?;
    let end = end(files, &chain)?;
    let certified = files.certified(chain)?;
    let builder =
        ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(clock.clone()));
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in files.certificates(ca)? {
                let added = roots.add(certificate);
                added.map_err(|error| TlsError::refused(ca, &error))?;
            }
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(crl) = &files.client_crl {
                let crls = files.revocation_lists(crl)?;
                verifier = verifier.with_crls(crls).enforce_revocation_expiration();
            }
            if !files.client_required {
                verifier = verifier.allow_unauthenticated();
            }
            let of = files.client_crl.as_ref().unwrap_or(ca);
            let verifier = verifier.build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| TlsError::refused(of, &error))?)
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.alpn_protocols = vec![HTTP_1_1.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok((server, end))
}

fn end(files: &Files, chain: &[CertificateDer<'_>]) -> Result<Timestamp, TlsError> {
    let ends = chain.iter().map(|certificate| not_after(certificate));
    let ends: Option<Vec<Timestamp>> = ends.collect();
    let end = ends.and_then(|ends| ends.into_iter().min());
    end.ok_or_else(|| TlsError::refused(&files.certificate, &"not a certificate of X.509"))
}

#[cfg(test)]
mod tests;
