//! Listeners and the way from a connection to the service: bounds, authentication, drain. This
//! module knows nothing about single KMS operations.
//!
//! ```text
//! listener ─► connection ──► http ──► auth ──► api ──► http ──► bytes
//!  room        TLS; bounds    route    head     one     batch: chunks made
//!  first       on head, write body     then     call    as the reader takes
//!              and drain      bound    body             them
//! ```
//!
//! Every connection, head, body and wait has a bound. A caller that closes its sending half after
//! its request is answered. A caller that has gone away is noticed at the first write, and the rest
//! of its answer is dropped. A full listener closes connections of callers that are not
//! authenticated before it makes another one wait (`places`).
//!
//! This module does not do HTTP/2, and does not decide who may do what.

use crate::api::Api;
use crate::auth::{Peer, Peers, Verifier};
use crate::clock::Clock;
use crate::key::arn::AccountId;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::policy::Principal;
use crate::xks;
use ::http::Request;
use admin::Admin;
use arc_swap::ArcSwap;
use caller::{Caller, Identity, Source};
use connection::Counts;
use http::{HttpEndpoint, Operator};
use hyper::body::Incoming;
use hyper::service::service_fn;
use places::Place;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

pub mod admin;
mod answered;
mod batch;
mod bind;
mod caller;
mod connection;
mod cores;
mod flushed;
pub mod http;
mod limits;
mod makers;
mod parts;
mod places;
mod request_body;
mod room;
mod route;
mod shares;
mod store;
mod strangers;
mod tally;
pub mod tls;
mod tls_details;
pub mod unix;
mod write_timeout;

pub use cores::Cores;
pub use limits::Limits;
pub use makers::Makers;

/// The transport that is encrypted, as metrics call it.
const TLS: &str = "tls";

/// Everything that a connection needs to be served.
pub struct Service {
    /// The operations.
    pub api: Arc<Api>,
    /// The keystore, which has the principals by access key.
    pub keystore: Arc<Keystore>,
    /// Verifies signatures.
    pub verifier: Verifier,
    /// The account of the operator at the daemon's own Unix socket.
    pub account: AccountId,
    /// The time of signatures, sessions and metrics.
    pub clock: Clock,
    /// Bounds.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The runtimes over which connections are spread; at least one.
    pub cores: Vec<Handle>,
    /// The threads that make the chunks of batches and streams.
    pub makers: Makers,
    /// What `/status` says, for the operator.
    pub told: Arc<Admin>,
    /// The external key stores of AWS, which are served over TLS alone.
    pub xks: xks::Proxy,
}

/// Serves a TCP listener until `shutdown` turns true, then drains: returns when no connection is
/// left or the deadline has passed.
pub async fn serve_tcp(
    service: Arc<Service>,
    listener: TcpListener,
    shutdown: watch::Receiver<bool>,
) {
    let identify = |stream: TcpStream| {
        let peer = stream.peer_addr();
        ready(peer.map(|peer| (stream, Caller::over_tcp(peer))))
    };
    serve(service, "tcp", None, listener, identify, shutdown).await;
}

/// Serves a TCP listener with TLS, until `shutdown` turns true and it has drained. The client's
/// certificate gives the principal of unsigned requests.
pub async fn serve_tls(
    service: Arc<Service>,
    listener: TcpListener,
    tls: Arc<Tls>,
    shutdown: watch::Receiver<bool>,
) {
    let time = Duration::from_millis(service.limits.handshake_timeout_ms);
    let identify = move |stream: TcpStream| {
        let tls = Arc::clone(&tls);
        async move { tls.accept(stream, time).await }
    };
    serve(service, TLS, None, listener, identify, shutdown).await;
}

/// A Unix socket and the principals of its callers.
pub struct Socket {
    /// The setting that names it.
    pub name: String,
    /// The principals of unsigned requests, which may be replaced while the socket is served.
    pub peers: Arc<ArcSwap<Peers>>,
    /// The daemon's own uid, on the socket where admin routes are open to it.
    pub operator_uid: Option<u32>,
}

/// Serves a Unix socket, until `shutdown` turns true and it has drained.
pub async fn serve_unix(
    service: Arc<Service>,
    listener: UnixListener,
    socket: Socket,
    shutdown: watch::Receiver<bool>,
) {
    let Socket {
        name,
        peers,
        operator_uid,
    } = socket;
    let operator = operator_uid.map(|uid| Operator {
        uid,
        principal: Principal::operator(uid, service.account),
    });
    let source = Source::Socket(name.into());
    // The peer is read once per connection: a process that is given the connection later has the
    // rights of the process that made it, as in the kernel's own view.
    let identify = move |stream: UnixStream| {
        let caller = stream.peer_cred().map(|credentials| {
            let peer = Peer {
                uid: credentials.uid(),
                gid: credentials.gid(),
            };
            Caller {
                place: Arc::default(),
                source: source.clone(),
                secure_transport: true,
                tls: None,
                uid: Some(peer.uid),
                identity: Identity::Peer(peer, Arc::clone(&peers)),
                until: None,
            }
        });
        ready(caller.map(|caller| (stream, caller)))
    };
    serve(service, "unix", operator, listener, identify, shutdown).await;
}

/// Serves a listener. `identify` turns an accepted stream into the stream to serve, and finds the
/// caller at its other end.
async fn serve<L, F, T>(
    service: Arc<Service>,
    transport: &'static str,
    operator: Option<Operator>,
    listener: L,
    identify: impl Fn(L::Stream) -> F + Send + Sync + 'static,
    shutdown: watch::Receiver<bool>,
) where
    L: connection::Listener,
    F: Future<Output = io::Result<(T, Caller)>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = service.limits.bounds();
    let counts = Counts::of(&service.metrics, transport, bounds.connections_max);
    let endpoint = Arc::new(HttpEndpoint::new(Arc::clone(&service), transport, operator));
    // Runs for each connection: identifies the caller, then makes the service of its requests.
    let connect = move |stream: L::Stream, place: Arc<Place>| {
        let (endpoint, identified) = (Arc::clone(&endpoint), identify(stream));
        async move {
            let (stream, caller) = identified.await?;
            let served = Arc::new((endpoint, Caller { place, ..caller }));
            let service = service_fn(move |request: Request<Incoming>| {
                let served = Arc::clone(&served);
                async move {
                    let (endpoint, caller) = &*served;
                    Ok::<_, Infallible>(endpoint.respond(caller, request).await)
                }
            });
            Ok((stream, service))
        }
    };
    let cores = &service.cores;
    connection::serve(
        listener, transport, bounds, counts, cores, connect, shutdown,
    )
    .await;
}
