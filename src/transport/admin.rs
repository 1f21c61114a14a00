//! `/metrics`, `/live`, `/ready` and `/status` on a listener of their own.
//!
//! Nothing here needs a credential, and nothing here is secret. `Host` must be the listen address
//! or localhost: a web page whose attacker makes its name resolve to this machine (DNS rebinding)
//! sends that name. A caller on another host is shown what scrapers and probes need, and no more:
//! no `/status`, and no reason at `/ready`.

use crate::audit::Audit;
use crate::clock::Clock;
use crate::keystore::Halt;
use crate::metrics::{Metrics, passing_gauge};
use crate::pool::{LaneStatus, Pool};
use crate::transport::connection::{self, Bounds, Counts};
use crate::transport::places::Place;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use renderer::Renderer;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

mod renderer;

/// Scrapers and probes are few, and their requests are small.
pub const CONNECTIONS_MAX: usize = 64;
const BOUNDS: Bounds = Bounds {
    connections_max: CONNECTIONS_MAX,
    // Clients ask as soon as they are connected. A client that keeps its connection can connect
    // again.
    head_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    drain: Duration::from_secs(1),
};

/// The sources of the admin listener's answers.
pub struct Admin {
    /// The metrics at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The pool, whose depths are read at each scrape.
    pub pool: Arc<Pool>,
    /// Whether the daemon is ready to serve.
    pub ready: Arc<AtomicBool>,
    /// The audit log: no key is issued while it cannot be written.
    pub audit: Arc<Audit>,
    /// The state of the store: no key is created or disabled while it takes no change.
    pub store: Arc<Halt>,
    /// The JSON members of `/status` that do not change.
    pub facts: serde_json::Value,
    /// Those that do, besides the pool's lanes.
    pub live: Live,
}

/// Makes the changing members of `/status` at each look, which may take milliseconds.
pub type Live = Box<dyn Fn() -> serde_json::Map<String, serde_json::Value> + Send + Sync>;

/// Serves until `shutdown` turns true. `Host` must be `address` or localhost.
///
/// # Errors
/// When the operating system refuses a thread.
pub fn serve(
    admin: Arc<Admin>,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: watch::Receiver<bool>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let state = Arc::new(AdminService::new(admin, address)?);
    let clock = Clock::system();
    let counts = Counts::of(&state.admin.metrics, "admin", CONNECTIONS_MAX);
    let connect = move |stream: TcpStream, place: Arc<Place>| {
        let (state, clock) = (Arc::clone(&state), clock.clone());
        let from = Distance::of(stream.peer_addr());
        let service = service_fn(move |request: Request<_>| {
            let (state, clock, place) = (Arc::clone(&state), clock.clone(), Arc::clone(&place));
            async move {
                let (head, _) = request.into_parts();
                let path = head.uri.path();
                // No caller is authenticated here; a connection counts as known from its first
                // request on.
                place.begin();
                let mut answer = state.answer(from, &head.method, path, &head.headers).await;
                place.rest(clock.monotonic());
                if place.is_last() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        ready(Ok((stream, service)))
    };
    Ok(async move {
        let here = [Handle::current()];
        connection::serve(listener, "admin", BOUNDS, counts, &here, connect, shutdown).await;
    })
}

/// How far away a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    /// On this host: by its loopback address, which the kernel takes from no other.
    Here,
    /// Anywhere.
    Beyond,
}

impl Distance {
    fn of(peer: io::Result<SocketAddr>) -> Self {
        match peer {
            Ok(peer) if peer.ip().to_canonical().is_loopback() => Self::Here,
            _ => Self::Beyond,
        }
    }
}

/// The service of the admin listener.
struct AdminService {
    admin: Arc<Admin>,
    address: SocketAddr,
    metrics: Renderer,
    status: Renderer,
}

impl AdminService {
    fn new(admin: Arc<Admin>, address: SocketAddr) -> io::Result<Self> {
        let shown = Arc::clone(&admin);
        let render = move || {
            // As of now: a look at a store that does not answer takes its time to fail.
            if let Some(freshness) = shown.store.freshness() {
                let stale = u8::from(freshness.is_stale());
                shown.metrics.keystore_stale.set(stale);
            }
            exposition(&shown.metrics, &shown.pool.lanes())
        };
        let told = Arc::clone(&admin);
        let status = move || {
            let mut text = told.status().to_string();
            text.push('\n');
            text
        };
        Ok(Self {
            admin,
            address,
            metrics: Renderer::start(render)?,
            status: Renderer::start(status)?,
        })
    }

    async fn answer(
        &self,
        from: Distance,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        // This check comes first: a web page must not read even the metrics.
        if !is_for(headers, self.address) {
            return plain(
                StatusCode::FORBIDDEN,
                "the Host header must be the listen address or localhost\n",
            );
        }
        if method != Method::GET && method != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match path {
            "/metrics" => rendered(
                "text/plain; version=0.0.4; charset=utf-8",
                self.metrics.render().await,
            ),
            "/live" => plain(StatusCode::OK, "live\n"),
            "/ready" => match self.admin.not_ready() {
                None => plain(StatusCode::OK, "ready\n"),
                Some(reason) => {
                    // It names files, and hosts of the database.
                    let text = match from {
                        Distance::Here => format!("not ready: {reason}\n"),
                        Distance::Beyond => "not ready\n".to_owned(),
                    };
                    plain(StatusCode::SERVICE_UNAVAILABLE, text)
                }
            },
            "/status" if from == Distance::Here => {
                rendered("application/json", self.status.render().await)
            }
            _ => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }
}

impl Admin {
    /// Why the daemon is not ready; `None` when it is.
    fn not_ready(&self) -> Option<String> {
        if !self.ready.load(Ordering::SeqCst) {
            return Some("it is starting or draining".to_owned());
        }
        if !self.audit.is_writable() {
            return Some("the audit log cannot be written: the cause was logged".to_owned());
        }
        let halted = self.store.reason();
        halted.map(|reason| format!("the store takes no changes: {reason}"))
    }

    /// What `/status` says.
    pub fn status(&self) -> serde_json::Value {
        let facts = self.facts.as_object();
        let mut status = facts.cloned().unwrap_or_default();
        status.extend((self.live)());
        let reason = self.not_ready();
        status.insert("ready".to_owned(), reason.is_none().into());
        status.insert("not_ready_because".to_owned(), reason.into());
        if let Some(freshness) = self.store.freshness() {
            let store = serde_json::json!({
                "confirmed_seconds_ago": freshness.age().as_secs_f64(),
                "stale": freshness.is_stale(),
                "problem": freshness.problem(),
            });
            status.insert("shared_store".to_owned(), store);
        }
        let lane = |lane: LaneStatus| {
            serde_json::json!({
                "lane": lane.lane,
                "depth": lane.depth,
                "low_watermark": lane.low,
                "capacity": lane.capacity,
            })
        };
        let lanes = self.pool.lanes().into_iter().map(lane).collect();
        status.insert("lanes".to_owned(), serde_json::Value::Array(lanes));
        serde_json::Value::Object(status)
    }
}

/// All metrics, including those of the present lanes.
fn exposition(metrics: &Metrics, lanes: &[LaneStatus]) -> String {
    let series = |value: fn(&LaneStatus) -> usize| {
        lanes
            .iter()
            .map(move |lane| (lane.lane.as_str(), value(lane)))
    };
    metrics.render()
        + &passing_gauge("keymill_pool_depth", "lane", series(|lane| lane.depth))
        + &passing_gauge(
            "keymill_pool_capacity",
            "lane",
            series(|lane| lane.capacity),
        )
}

/// Whether there is one `Host` and it is `address` or localhost. On an unspecified address
/// (`0.0.0.0`, `[::]`) every address of the machine is the listen address, and an address in digits
/// cannot be rebound.
fn is_for(headers: &HeaderMap, address: SocketAddr) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let authority: Option<Authority> = host.to_str().ok().and_then(|host| host.parse().ok());
    let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@')) else {
        return false;
    };
    let text = authority.as_str();
    let host = authority.host();
    let port = match text.len() - host.len() {
        0 => None,
        _ => match authority.port_u16() {
            Some(port) => Some(port),
            None => return false,
        },
    };
    if host.eq_ignore_ascii_case("localhost") {
        return port.is_none_or(|port| port == address.port());
    }
    let digits = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(ip) = digits.parse::<IpAddr>() else {
        return false;
    };
    // Without a port it is the scheme's port, which is the listen address only if that is 80.
    port.unwrap_or(80) == address.port() && (ip == address.ip() || address.ip().is_unspecified())
}

fn rendered(media_type: &'static str, text: Option<String>) -> Response<Full<Bytes>> {
    match text {
        Some(text) => answer(StatusCode::OK, media_type, text),
        None => {
            tracing::error!(media_type, "an answer could not be rendered");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "failed\n")
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
