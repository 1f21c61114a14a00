//! Listeners to the service: connections, bounds, drain. Knows nothing of KMS operations.
//!
//! ```text
//! listener ─► connection ──► http ──► auth ──► api ──► http ──► bytes
//!  room        TLS; bounds    route    head     one     batch: chunks made
//!  first       on head, write body     then     call    as the reader takes
//!              and drain      bound    body             them
//! ```
//!
//! Every connection, head, body and wait has a bound. A caller that has asked and closes its
//! sending half is answered; one that has gone is found out by the first write, and the rest of its
//! answer is dropped. A full listener lets go of strangers before it lets anybody wait (`places`).
//!
//! What this module does not do: HTTP/2, or decide who may do what.

use crate::api::Api;
use crate::auth::{Peer, Peers, Verifier};
use crate::clock::Clock;
use crate::key::arn::AccountId;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::policy::Principal;
use ::http::Request;
use caller::{Caller, Source};
use connection::Counts;
use http::{Front, Operator};
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
mod log_lines;
mod makers;
mod parts;
mod places;
mod request_body;
mod room;
mod route;
mod shares;
mod strangers;
mod tally;
pub mod tls;
pub mod unix;
mod write_timeout;

pub use cores::Cores;
pub use limits::Limits;
pub use makers::Makers;

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
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The runtimes that connections are spread over; one at least.
    pub cores: Vec<Handle>,
    /// The threads that make the chunks of batches and streams.
    pub makers: Makers,
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

/// Serves a TCP listener with TLS likewise. Unsigned requests are made by the principal of the
/// client's certificate.
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
    serve(service, "tls", None, listener, identify, shutdown).await;
}

/// A Unix socket and who connects to it.
pub struct Socket {
    /// The setting that names it.
    pub name: String,
    /// The principals of unsigned requests.
    pub peers: Peers,
    /// The uid that the daemon runs as, where its admin routes are open to it.
    pub operator_uid: Option<u32>,
}

/// Serves a Unix socket likewise.
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
    // Read once: whoever is given the connection later speaks with the rights of the process that
    // made it, as the kernel sees it too.
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
                uid: Some(peer.uid),
                arn: peers.principal(peer).map(ToOwned::to_owned),
                until: None,
            }
        });
        ready(caller.map(|caller| (stream, caller)))
    };
    serve(service, "unix", operator, listener, identify, shutdown).await;
}

/// `identify` makes the stream to be served of an accepted one, and finds out who is at its other
/// end.
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
    let front = Arc::new(Front::new(Arc::clone(&service), transport, operator));
    let connect = move |stream: L::Stream, place: Arc<Place>| {
        let (front, identified) = (Arc::clone(&front), identify(stream));
        async move {
            let (stream, caller) = identified.await?;
            let served = Arc::new((front, Caller { place, ..caller }));
            let service = service_fn(move |request: Request<Incoming>| {
                let served = Arc::clone(&served);
                async move {
                    let (front, caller) = &*served;
                    Ok::<_, Infallible>(front.respond(caller, request).await)
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
