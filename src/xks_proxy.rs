//! Calls of external key store proxies: external key managers that keep keys for this daemon, as
//! AWS KMS calls one ("hold your own key"). `xks` is the other side: a proxy of this daemon.
//!
//! **Deny by default:** the daemon calls only the hosts that the configuration names, whatever a
//! key store has as its endpoint (XKS-3). A call has one time for all of it; calls under way,
//! connections and answers have their bounds, and a redirect is not followed. An answer is taken
//! only as the specification has it, and a ciphertext only with its integrity value.
//!
//! Source: AWS KMS External Key Store Proxy API specification, version 1.0.3.
//!
//! What this module does not do: know key stores or KMS keys, or which of the two layers of
//! encryption it is handed.

use crate::auth::{ScopeService, Signing};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::operation::xks::XksOperation;
use crate::rates::LogLines;
use ::metrics::{Counter, Histogram};
use bytes::Bytes;
use connection::{Answer, Prepared};
use host::Host;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub mod address;
pub mod answer;
mod connection;
pub mod credential;
pub mod error;
pub mod host;
mod look_up;
pub mod request;
pub mod sealed;

pub use crate::key::key_store::ExternalKeyId;
pub use address::{InvalidAddress, ProxyAddress};
pub use answer::{ExternalKeyMetadata, Health, HealthStatus};
pub use credential::{InvalidCredential, ProxyCredential};
pub use error::{ErrorName, ProxyError};
pub use host::{Config, FilesError};
pub use request::RequestMetadata;
pub use sealed::{InvalidSealed, Sealed};

/// Between two looks at idle connections and at files of TLS.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(60);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The proxies that may be called.
pub struct Proxies {
    /// By host name.
    hosts: BTreeMap<String, Arc<Host>>,
    clock: Clock,
    tally: Tally,
}

/// A key store as its proxy knows it.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    /// Where its proxy is.
    pub address: &'a ProxyAddress,
    /// What requests are signed with.
    pub credential: &'a ProxyCredential,
    /// The Region that signatures are scoped to: that of the key store.
    pub region: &'a str,
}

/// What is counted, by operation.
struct Tally {
    ok: [Counter; XksOperation::ALL.len()],
    failed: [[Counter; ProxyError::LABELS_COUNT]; XksOperation::ALL.len()],
    seconds: [Histogram; XksOperation::ALL.len()],
}

impl Tally {
    fn new(metrics: &Metrics) -> Self {
        let name = |at: usize| XksOperation::ALL[at].name();
        Self {
            ok: std::array::from_fn(|at| metrics.xks_proxy_calls(name(at), "ok")),
            failed: std::array::from_fn(|at| {
                let label = ProxyError::label_at;
                std::array::from_fn(|error| metrics.xks_proxy_calls(name(at), label(error)))
            }),
            seconds: std::array::from_fn(|at| metrics.xks_proxy_call_seconds(name(at))),
        }
    }

    /// Counts nothing.
    fn none() -> Self {
        Self {
            ok: std::array::from_fn(|_| Counter::noop()),
            failed: std::array::from_fn(|_| std::array::from_fn(|_| Counter::noop())),
            seconds: std::array::from_fn(|_| Histogram::noop()),
        }
    }
}

impl Proxies {
    /// The proxies of a configuration, by the names of their tables. This blocks on files.
    ///
    /// # Errors
    /// [`FilesError`]: the first file that cannot be used.
    pub fn new(
        configs: &BTreeMap<String, Config>,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Self, FilesError> {
        let mut hosts = BTreeMap::new();
        for (name, config) in configs {
            let failures = metrics.tls_reload_failures();
            if let Some(host) = Host::new(name, config, clock, failures)? {
                hosts.insert(config.host.to_ascii_lowercase(), Arc::new(host));
            }
        }
        let tally = if hosts.is_empty() {
            Tally::none()
        } else {
            Tally::new(metrics)
        };
        Ok(Self {
            hosts,
            clock: clock.clone(),
            tally,
        })
    }

    /// No proxy: every call is refused.
    #[must_use]
    pub fn none(clock: &Clock) -> Self {
        Self {
            hosts: BTreeMap::new(),
            clock: clock.clone(),
            tally: Tally::none(),
        }
    }

    /// Reads the files that a configuration names and checks that they can be used. Calls nothing.
    ///
    /// # Errors
    /// [`FilesError`]: the first file that cannot be used.
    pub fn check(configs: &BTreeMap<String, Config>, clock: &Clock) -> Result<(), FilesError> {
        let mut configs = configs.iter();
        configs.try_for_each(|(name, config)| host::client_config(name, config, clock).map(drop))
    }

    /// Whether no host is configured.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether this host may be called.
    #[must_use]
    pub fn may_call(&self, address: &ProxyAddress) -> bool {
        self.hosts.contains_key(address.host())
    }

    /// Closes connections that are not used any more, and reads files of TLS that have changed,
    /// until it is stopped.
    pub fn keep(&self, tasks: &mut JoinSet<()>, stopped: &watch::Receiver<()>) {
        if self.are_none() {
            return;
        }
        let hosts: Vec<_> = self.hosts.values().map(Arc::clone).collect();
        let mut stopped = stopped.clone();
        tasks.spawn(async move {
            let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = interval.tick() => {}
                    _ = stopped.changed() => return,
                }
                for host in &hosts {
                    host.close_idle();
                    let host = Arc::clone(host);
                    let read = tokio::task::spawn_blocking(move || host.reload_if_changed());
                    // An error is a panic, which was printed already.
                    let _read = read.await;
                }
            }
        });
    }

    /// `GetHealthStatus`. Of the metadata, the operation and the request id are sent.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn health(
        &self,
        store: &Store<'_>,
        metadata: &RequestMetadata<'_>,
    ) -> Result<Health, ProxyError> {
        let body = request::health(metadata);
        let parse = |body: &[u8]| answer::health(body);
        self.call(store, XksOperation::XksGetHealthStatus, None, body, parse)
            .await
    }

    /// `GetKeyMetadata` of an external key.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn metadata(
        &self,
        store: &Store<'_>,
        metadata: &RequestMetadata<'_>,
        id: &ExternalKeyId,
    ) -> Result<ExternalKeyMetadata, ProxyError> {
        let body = request::key_metadata(metadata);
        let parse = |body: &[u8]| answer::key_metadata(body);
        self.call(
            store,
            XksOperation::XksGetKeyMetadata,
            Some(id),
            body,
            parse,
        )
        .await
    }

    /// `Encrypt` under an external key: at most [`sealed::TEXT_BYTES_MAX`] of text, and
    /// [`sealed::ADDITIONAL_BYTES_MAX`] of additional data, which every proxy takes.
    ///
    /// # Errors
    /// [`ProxyError`]: among others, the integrity value is not that of this text's ciphertext.
    pub async fn encrypt(
        &self,
        store: &Store<'_>,
        metadata: &RequestMetadata<'_>,
        id: &ExternalKeyId,
        plaintext: &[u8],
        additional: &[u8],
    ) -> Result<Sealed, ProxyError> {
        let body = request::encrypt(metadata, plaintext, additional);
        let parse = |body: &[u8]| answer::encrypted(body, plaintext.len(), additional);
        self.call(store, XksOperation::XksEncrypt, Some(id), body, parse)
            .await
    }

    /// `Decrypt` under an external key. The text is as secret as the one that was encrypted: here
    /// it is the ciphertext of another layer, and it is not wiped.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn decrypt(
        &self,
        store: &Store<'_>,
        metadata: &RequestMetadata<'_>,
        id: &ExternalKeyId,
        sealed: &Sealed,
        additional: &[u8],
    ) -> Result<Vec<u8>, ProxyError> {
        let body = request::decrypt(metadata, sealed, additional);
        let parse = |body: &[u8]| answer::decrypted(body, sealed.ciphertext().len());
        self.call(store, XksOperation::XksDecrypt, Some(id), body, parse)
            .await
    }

    /// Calls the proxy, counts the call, and logs its failure.
    async fn call<T>(
        &self,
        store: &Store<'_>,
        operation: XksOperation,
        id: Option<&ExternalKeyId>,
        body: Bytes,
        parse: impl Fn(&[u8]) -> Result<T, answer::InvalidAnswer>,
    ) -> Result<T, ProxyError> {
        let began = self.clock.monotonic();
        let called = async {
            let host = self.hosts.get(store.address.host());
            let host = host.ok_or_else(|| {
                let host = store.address.host().to_owned();
                ProxyError::NotConfigured(host)
            })?;
            let request = self.signed(store, operation, id, body);
            let Answer { status, body } = host.call(&request).await?;
            if status != StatusCode::OK {
                return Err(answer::refusal(status, &body));
            }
            Ok(parse(&body)?)
        };
        let called = called.await;
        let took = self.clock.monotonic().saturating_sub(began);
        self.tally.seconds[operation as usize].record(took);
        match &called {
            Ok(_) => self.tally.ok[operation as usize].increment(1),
            Err(error) => {
                self.tally.failed[operation as usize][error.label()].increment(1);
                log_failure(store.address.host(), operation, error);
            }
        }
        called
    }

    fn signed(
        &self,
        store: &Store<'_>,
        operation: XksOperation,
        id: Option<&ExternalKeyId>,
        body: Bytes,
    ) -> Prepared {
        let path = store.address.path(operation, id);
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(store.address.host());
        headers.insert(HOST, host.expect("a host name has characters of headers"));
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        let signing = Signing {
            access_key_id: store.credential.access_key_id(),
            secret_access_key: store.credential.secret(),
            session_token: None,
            region: store.region,
            service: ScopeService::Xks,
        };
        signing
            .sign(&Method::POST, &path, &mut headers, &body, self.clock.now())
            .expect("an access key id and a Region have characters of headers");
        Prepared {
            uri: Uri::try_from(path).expect("a path has characters of URIs"),
            headers,
            body,
        }
    }
}

/// Log lines by the label of an error.
static LINES: [LogLines; ProxyError::LABELS_COUNT] =
    [const { LogLines::new() }; ProxyError::LABELS_COUNT];

fn log_failure(host: &str, operation: XksOperation, error: &ProxyError) {
    if let Some(left_out) = LINES[error.label()].admit() {
        let operation = operation.name();
        tracing::warn!(
            host,
            operation,
            %error,
            left_out,
            "a call of an external key store proxy failed"
        );
    }
}
