//! Listeners to the service: connection permits, bounds, drain. Knows nothing of KMS operations.

use crate::api::Api;
use crate::auth::{PeerMap, Verifier};
use crate::clock::Clock;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

pub mod admin;
pub mod http;
pub mod unix;

/// Bounds of every listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Open connections of each listener at most; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Milliseconds from the accept, or from the last response's end, to the end of a request's head.
    pub head_timeout_ms: u64,
    /// Milliseconds for a request's body.
    pub body_timeout_ms: u64,
    /// Milliseconds that a batch waits for its reader.
    pub write_timeout_ms: u64,
    /// Seconds that requests in flight are given after SIGTERM or SIGINT.
    pub drain_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_timeout_ms: 60_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 60_000,
            drain_seconds: 30,
        }
    }
}

/// What every connection is served with.
pub struct Service {
    /// The operations.
    pub api: Arc<Api>,
    /// Principals by access key.
    pub keystore: Arc<Keystore>,
    /// Signatures.
    pub verifier: Verifier,
    /// Time.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves a TCP listener until `shutdown` turns true, then drains: returns when no connection is left or the deadline has passed.
pub async fn serve_tcp(
    _service: Arc<Service>,
    _listener: TcpListener,
    _shutdown: watch::Receiver<bool>,
) {
    todo!()
}

/// Serves a Unix socket likewise. `peers` names the principals of unsigned requests; admin routes are open to `operator_uid`, the uid that the daemon runs as.
pub async fn serve_unix(
    _service: Arc<Service>,
    _listener: UnixListener,
    _peers: PeerMap,
    _operator_uid: u32,
    _shutdown: watch::Receiver<bool>,
) {
    todo!()
}
