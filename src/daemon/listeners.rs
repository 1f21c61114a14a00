//! The addresses of a daemon, which are taken before anything is served.

use crate::config::Config;
use crate::config::sockets::{OWN_SOCKET, SocketPlace};
use crate::daemon::Core;
use crate::service_manager::PassedSockets;
use crate::tls_files::TlsError;
use crate::transport::tls::Tls;
use crate::transport::{self, Socket};
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

mod claimed;

pub use claimed::ClaimError;
use claimed::Claimed;

/// Listeners that are bound and not served yet.
pub struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) tcp_address: SocketAddr,
    pub(super) tls: Option<Arc<Tls>>,
    /// The daemon's own socket, and the further ones.
    pub(super) unix: Vec<(UnixListener, Socket)>,
    pub(super) socket: PathBuf,
    pub(super) admin: TcpListener,
    pub(super) admin_address: SocketAddr,
}

/// Why an address cannot be bound: one line that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error(
        "{address} ({key}) is taken by another process: choose another; port 0 takes a free one"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The setting.
        key: &'static str,
    },
    /// Another error of the operating system.
    #[error("cannot listen on {address} ({key}): {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The setting.
        key: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A Unix socket cannot be bound.
    #[error("cannot listen on the Unix socket ({key}): {source}")]
    Unix {
        /// The setting.
        key: String,
        /// The cause.
        source: io::Error,
    },
    /// A socket of the service manager does not fit the configuration.
    #[error(transparent)]
    Passed(#[from] ClaimError),
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Listeners {
    /// Takes the addresses of `config`: the sockets that were passed, and for the rest its own. The
    /// store is locked already, so a socket of a daemon that exists is stale.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        config: &Config,
        core: &Core,
        passed: PassedSockets,
    ) -> Result<Self, ListenError> {
        let tls = if config.tls.is_on() {
            let (clock, metrics) = (core.clock.clone(), Arc::clone(&core.metrics));
            Some(Arc::new(Tls::load(&config.tls, clock, metrics)?))
        } else {
            None
        };
        let listen = &config.listen;
        let mut claimed = Claimed::of(config, passed)?;
        let settings = claimed.settings();
        if !settings.is_empty() {
            tracing::info!(settings, "sockets of the service manager");
        }
        let (tcp, tcp_address) = bind_tcp(listen.tcp, "listen.tcp", claimed.tcp).await?;
        let (admin, admin_address) = bind_tcp(listen.admin, "listen.admin", claimed.admin).await?;
        let uid = rustix::process::geteuid().as_raw();
        let mut unix = Vec::new();
        for place in config.socket_places() {
            let passed = claimed.unix.remove(&place.setting);
            let socket = Socket {
                peers: Arc::new(ArcSwap::from_pointee(config.peers_of(&place.setting))),
                // Admin routes are closed on further sockets: root in a container that has one is
                // not the operator.
                operator_uid: (place.setting == OWN_SOCKET).then_some(uid),
                name: place.setting.clone(),
            };
            unix.push((bind_unix(place, passed)?, socket));
        }
        Ok(Self {
            tcp,
            tcp_address,
            tls,
            unix,
            socket: listen.socket.clone(),
            admin,
            admin_address,
        })
    }
}

fn bind_unix(
    place: SocketPlace<'_>,
    passed: Option<std::os::unix::net::UnixListener>,
) -> Result<UnixListener, ListenError> {
    let bound = match passed {
        Some(listener) => UnixListener::from_std(listener),
        None => transport::unix::bind(place.path, place.mode.0),
    };
    bound.map_err(|source| ListenError::Unix {
        key: place.setting,
        source,
    })
}

async fn bind_tcp(
    address: SocketAddr,
    key: &'static str,
    passed: Option<std::net::TcpListener>,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bound = match passed {
        Some(listener) => TcpListener::from_std(listener),
        None => TcpListener::bind(address).await,
    };
    let bound = bound.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { address, key },
        _ => ListenError::Tcp {
            address,
            key,
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_0_takes_a_free_port_and_a_taken_one_names_the_setting() {
        let free = ([127, 0, 0, 1], 0).into();
        let (listener, address) = bind_tcp(free, "listen.tcp", None).await.unwrap();
        assert_ne!(address.port(), 0);
        let refused = bind_tcp(address, "listen.tcp", None).await.err().unwrap();
        let expected = format!("{address} (listen.tcp) is taken by another process");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        drop(listener);
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_refused() {
        // TEST-NET-1 (RFC 5737) belongs to no host.
        let foreign = ([192, 0, 2, 1], 1).into();
        let refused = bind_tcp(foreign, "listen.admin", None).await.err().unwrap();
        assert!(
            refused
                .to_string()
                .starts_with("cannot listen on 192.0.2.1:1 (listen.admin):"),
            "{refused}"
        );
    }
}
