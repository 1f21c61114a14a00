//! The addresses of a daemon, taken before anything is served.

use crate::config::Config;
use crate::transport;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::{TcpListener, UnixListener};

/// Bound, not yet served.
pub struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) tcp_address: SocketAddr,
    pub(super) unix: UnixListener,
    pub(super) socket: PathBuf,
    pub(super) admin: TcpListener,
    pub(super) admin_address: SocketAddr,
}

/// An address that cannot be had: one line that names the setting and the flag.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{address} is taken by another process: choose another with {flag} (or {key}); port 0 takes a free one"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The setting.
        key: &'static str,
        /// The flag.
        flag: &'static str,
    },
    /// Another refusal of the operating system.
    #[error("cannot listen on {address} ({key}): {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The setting.
        key: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The Unix socket.
    #[error("cannot listen on the Unix socket (listen.socket): {0}")]
    Unix(io::Error),
}

impl Listeners {
    /// Takes the addresses of `config`. The store's lock is held already: a socket that lies there is stale.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let listen = &config.listen;
        let (tcp, tcp_address) = bind_tcp(listen.tcp, "listen.tcp", "--listen").await?;
        let (admin, admin_address) =
            bind_tcp(listen.admin, "listen.admin", "--admin-listen").await?;
        let unix =
            transport::unix::bind(&listen.socket, listen.socket_mode.0).map_err(BindError::Unix)?;
        Ok(Self {
            tcp,
            tcp_address,
            unix,
            socket: listen.socket.clone(),
            admin,
            admin_address,
        })
    }
}

async fn bind_tcp(
    address: SocketAddr,
    key: &'static str,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { address, key, flag },
        _ => BindError::Tcp {
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
    async fn port_0_takes_a_free_port_and_a_taken_one_names_the_flag() {
        let free = ([127, 0, 0, 1], 0).into();
        let (listener, address) = bind_tcp(free, "listen.tcp", "--listen").await.unwrap();
        assert_ne!(address.port(), 0);
        let refused = bind_tcp(address, "listen.tcp", "--listen")
            .await
            .err()
            .unwrap();
        let expected = format!(
            "{address} is taken by another process: choose another with --listen (or listen.tcp)"
        );
        assert!(refused.to_string().starts_with(&expected), "{refused}");
        drop(listener);
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_refused() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let foreign = ([192, 0, 2, 1], 1).into();
        let refused = bind_tcp(foreign, "listen.admin", "--admin-listen")
            .await
            .err()
            .unwrap();
        assert!(
            refused
                .to_string()
                .starts_with("cannot listen on 192.0.2.1:1 (listen.admin):"),
            "{refused}"
        );
    }
}
