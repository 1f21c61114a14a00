//! The section `[limits]`: how many connections a listener takes, and how long each wait may last.

use crate::transport::connection::Bounds;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bounds of every listener: the section `[limits]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most open connections of each listener. A full one closes connections that are not
    /// authenticated, and idle ones.
    pub connections_max: usize,
    /// Milliseconds for a TLS handshake.
    pub handshake_timeout_ms: u64,
    /// Milliseconds from the accept, or from the last response's end, to the end of a request's
    /// head.
    pub head_timeout_ms: u64,
    /// Milliseconds for the body of a request.
    pub body_timeout_ms: u64,
    /// Milliseconds that a response waits for a reader that takes nothing, and a batch for its
    /// limits.
    pub write_timeout_ms: u64,
    /// Seconds for requests in progress after SIGTERM or SIGINT.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            handshake_timeout_ms: 10_000,
            head_timeout_ms: 60_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 60_000,
            drain_seconds: 30,
        }
    }
}

impl Limits {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            connections_max: self.connections_max,
            head_timeout: Duration::from_millis(self.head_timeout_ms),
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            drain: Duration::from_secs(self.drain_seconds),
        }
    }
}
