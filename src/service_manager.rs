//! The service manager that has started this process, such as systemd: the sockets that it passes,
//! and the notices that it takes. Elsewhere none are passed, and notices go nowhere.
//!
//! This module does not know the configuration: which sockets belong to a daemon, the daemon
//! decides.

mod notices;
mod sockets;

pub use notices::{alive, ready, reloading, stopping, watchdog};
pub use sockets::{PassedError, PassedSockets};
