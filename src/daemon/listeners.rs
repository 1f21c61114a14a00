//! The addresses of a daemon, which are taken before anything is served.

use crate::config::Config;
use crate::config::sockets::{FURTHER_SOCKETS, OWN_SOCKET};
use crate::daemon::Core;
use crate::tls_files::TlsError;
use crate::transport::tls::Tls;
use crate::transport::{self, Socket};
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

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
    /// The files of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Listeners {
    /// Takes the addresses of `config`. The store is locked already, so a socket that exists is
    /// stale.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(config: &Config, core: &Core) -> Result<Self, ListenError> {
        let tls = if config.tls.is_on() {
            let (clock, metrics) = (core.clock.clone(), Arc::clone(&core.metrics));
            Some(Arc::new(Tls::load(&config.tls, clock, metrics)?))
        } else {
            None
        };
        let listen = &config.listen;
        let (tcp, tcp_address) = bind_tcp(listen.tcp, "listen.tcp").await?;
        let (admin, admin_address) = bind_tcp(listen.admin, "listen.admin").await?;
        let socket = |name: String, operator_uid| Socket {
            peers: Arc::new(ArcSwap::from_pointee(config.peers_of(&name))),
            name,
            operator_uid,
        };
        let uid = rustix::process::geteuid().as_raw();
        let own = socket(OWN_SOCKET.to_owned(), Some(uid));
        let mut unix = vec![bind_unix(&listen.socket, listen.socket_mode.0, own)?];
        for (name, further) in &config.sockets {
            // Admin routes are closed here: root in a container that has this socket is not the
            // operator.
            let served = socket(format!("{FURTHER_SOCKETS}{name}"), None);
            unix.push(bind_unix(&further.path, further.mode.0, served)?);
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
    path: &Path,
    mode: u32,
    socket: Socket,
) -> Result<(UnixListener, Socket), ListenError> {
    match transport::unix::bind(path, mode) {
        Ok(listener) => Ok((listener, socket)),
        Err(source) => Err(ListenError::Unix {
            key: socket.name,
            source,
        }),
    }
}

async fn bind_tcp(
    address: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bound = TcpListener::bind(address).await.and_then(|listener| {
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
        let (listener, address) = bind_tcp(free, "listen.tcp").await.unwrap();
        assert_ne!(address.port(), 0);
        let refused = bind_tcp(address, "listen.tcp").await.err().unwrap();
        let expected = format!("{address} (listen.tcp) is taken by another process");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        drop(listener);
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_refused() {
        // TEST-NET-1 (RFC 5737) belongs to no host.
        let foreign = ([192, 0, 2, 1], 1).into();
        let refused = bind_tcp(foreign, "listen.admin").await.err().unwrap();
        assert!(
            refused
                .to_string()
                .starts_with("cannot listen on 192.0.2.1:1 (listen.admin):"),
            "{refused}"
        );
    }
}
