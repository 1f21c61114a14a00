//! `/metrics`, `/live` and `/ready` on a listener of their own.

use crate::metrics::Metrics;
use crate::pool::Pool;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the admin listener tells.
pub struct Admin {
    /// Rendered at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Depths, read at each scrape.
    pub pool: Arc<Pool>,
    /// Whether the daemon is ready to serve.
    pub ready: Arc<AtomicBool>,
    /// What `/status` answers with, as JSON, beside the pool's lanes.
    pub facts: serde_json::Value,
}

/// Serves until `shutdown` turns true. `Host` must be `address` or localhost.
pub async fn serve(
    _admin: Arc<Admin>,
    _listener: TcpListener,
    _address: SocketAddr,
    _shutdown: watch::Receiver<bool>,
) {
    todo!()
}
