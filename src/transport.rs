//! Listeners to the service: connection permits, bounds, drain. Knows nothing of KMS operations.
//!
//! ```text
//! listener ─► connection ──► http ──► auth ──► api ──► http ──► bytes
//!  permit      bounds on      route    head     one     batch: chunks made
//!  first       head, write    body     then     call    as the reader takes
//!              and drain      bound    body             them
//! ```
//!
//! Every connection, head, body and wait has a bound. When a caller hangs up, what was being done for him is dropped, but for changes of the store, which
//! `api` carries to their end.
//!
//! What this module does not do: TLS, HTTP/2, or decide who may do what.

use crate::api::Api;
use crate::auth::{Peer, PeerMap, Verifier};
use crate::clock::Clock;
use crate::key::arn::AccountId;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::policy::Principal;
use ::http::Request;
use connection::Bounds;
use http::{Caller, Front, Operator};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

pub mod admin;
mod batch;
mod connection;
pub mod http;
mod request_id;
mod route;
mod tally;
pub mod unix;
mod write_timeout;

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
    /// Milliseconds that a response waits for a reader that takes nothing of it, and a batch for its limits.
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

impl Config {
    fn bounds(&self) -> Bounds {
        Bounds {
            connections_max: self.connections_max,
            head_timeout: Duration::from_millis(self.head_timeout_ms),
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            drain: Duration::from_secs(self.drain_seconds),
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
    /// The account that the operator at a Unix socket acts in.
    pub account: AccountId,
    /// Time.
    pub clock: Clock,
    /// Bounds.
    pub config: Config,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves a TCP listener until `shutdown` turns true, then drains: returns when no connection is left or the deadline has passed.
pub async fn serve_tcp(
    service: Arc<Service>,
    listener: TcpListener,
    shutdown: watch::Receiver<bool>,
) {
    let stranger = Arc::new(Caller::default());
    let identify = move |_: &TcpStream| Ok(Arc::clone(&stranger));
    serve(service, "tcp", None, listener, identify, shutdown).await;
}

/// Serves a Unix socket likewise. `peers` names the principals of unsigned requests; admin routes are open to `operator_uid`, the uid that the daemon runs as.
pub async fn serve_unix(
    service: Arc<Service>,
    listener: UnixListener,
    peers: PeerMap,
    operator_uid: u32,
    shutdown: watch::Receiver<bool>,
) {
    let operator = Operator {
        uid: operator_uid,
        principal: Principal::operator(operator_uid, service.account),
    };
    // Read once: whoever is given the connection later speaks with the rights of the process that made it, as the kernel sees it too.
    let identify = move |stream: &UnixStream| {
        let credentials = stream.peer_cred()?;
        let peer = Peer {
            uid: credentials.uid(),
            gid: credentials.gid(),
        };
        Ok(Arc::new(Caller {
            uid: Some(peer.uid),
            arn: peers.principal(peer).map(ToOwned::to_owned),
        }))
    };
    serve(
        service,
        "unix",
        Some(operator),
        listener,
        identify,
        shutdown,
    )
    .await;
}

async fn serve<L: connection::Listener>(
    service: Arc<Service>,
    transport: &'static str,
    operator: Option<Operator>,
    listener: L,
    identify: impl Fn(&L::Stream) -> std::io::Result<Arc<Caller>>,
    shutdown: watch::Receiver<bool>,
) {
    let bounds = service.config.bounds();
    let connections = service.metrics.connections(transport);
    let front = Arc::new(Front::new(service, transport, operator));
    let connect = |stream: &L::Stream| {
        let (front, caller) = (Arc::clone(&front), identify(stream)?);
        Ok(service_fn(move |request: Request<Incoming>| {
            let (front, caller) = (Arc::clone(&front), Arc::clone(&caller));
            async move { Ok::<_, Infallible>(front.respond(&caller, request).await) }
        }))
    };
    connection::serve(listener, transport, bounds, connections, connect, shutdown).await;
}
