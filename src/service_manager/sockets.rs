//! Listening sockets that the service manager has made before this process started, and keeps when
//! it ends (sd_listen_fds(3)).
//!
//! A connection that arrives between one process and the next waits in the socket's backlog, and is
//! not refused. A socket is known by its address, which the configuration has too. Its name
//! (`FileDescriptorName=`) is only shown, so that one unit may have several sockets.

use listenfd::ListenFd;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The sockets that were passed, less those that were taken from here. None by default.
#[derive(Default)]
pub struct PassedSockets(Vec<Passed>);

/// Why sockets that were passed cannot be used. Each error prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// The variables do not say which descriptors are sockets.
    #[error("the service manager's LISTEN_FDS and LISTEN_FDNAMES cannot be used: {0}")]
    Variables(io::Error),
    /// A descriptor is not a socket of a kind that is served.
    #[error(
        "the service manager passed the descriptor {name:?}, which is not a stream socket that listens on an IP address or at a path: \
         its unit may have ListenStream= alone, without Accept=yes"
    )]
    Kind {
        /// Its name.
        name: String,
    },
    /// The operating system refuses a socket.
    #[error("the socket {name:?} that the service manager passed cannot be used: {source}")]
    Io {
        /// Its name.
        name: String,
        /// The cause.
        source: io::Error,
    },
}

struct Passed {
    name: String,
    socket: Socket,
}

enum Socket {
    Tcp(SocketAddr, TcpListener),
    Unix(PathBuf, UnixListener),
}

impl PassedSockets {
    /// Takes the sockets that were passed to this process. To be called once and before it has
    /// other threads, because variables of the environment are removed.
    ///
    /// # Errors
    /// [`PassedError`].
    pub fn of_process() -> Result<Self, PassedError> {
        // Before anything owns them: they are for this process alone (LISTEN_PID), and close when
        // it starts another program.
        if sd_notify::listen_fds()
            .map_err(PassedError::Variables)?
            .len()
            == 0
        {
            // The names may be there all the same: those of another process.
            return Ok(Self::default());
        }
        let named = sd_notify::listen_fds_with_names().map_err(PassedError::Variables)?;
        let names: Vec<String> = named.map(|(_, name)| name).collect();
        let mut descriptors = ListenFd::from_env();
        let sockets = names.into_iter().enumerate();
        let sockets = sockets.map(|(at, name)| {
            Ok(match take(&mut descriptors, at) {
                Ok(Some(socket)) => Passed { name, socket },
                Ok(None) => return Err(PassedError::Kind { name }),
                Err(source) => return Err(PassedError::Io { name, source }),
            })
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// The socket that listens on this address, if one was passed.
    pub fn tcp(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let is_it =
            |one: &Passed| matches!(one.socket, Socket::Tcp(address, _) if address == wanted);
        let at = self.0.iter().position(is_it)?;
        match self.0.swap_remove(at).socket {
            Socket::Tcp(_, listener) => Some(listener),
            Socket::Unix(..) => None,
        }
    }

    /// The socket that listens at this path, if one was passed.
    pub fn unix(&mut self, wanted: &Path) -> Option<UnixListener> {
        let is_it = |one: &Passed| matches!(&one.socket, Socket::Unix(path, _) if path == wanted);
        let at = self.0.iter().position(is_it)?;
        match self.0.swap_remove(at).socket {
            Socket::Unix(_, listener) => Some(listener),
            Socket::Tcp(..) => None,
        }
    }

    /// One that is still here, as its address and its name.
    #[must_use]
    pub fn left(&self) -> Option<String> {
        self.0.first().map(Passed::to_string)
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Tcp(address, _) => write!(out, "{address}")?,
            Socket::Unix(path, _) => write!(out, "{}", path.display())?,
        }
        write!(out, " ({})", self.name.escape_debug())
    }
}

/// The listening socket at a place, or `None` where it is another thing.
fn take(descriptors: &mut ListenFd, at: usize) -> io::Result<Option<Socket>> {
    // Each refuses what is of another kind, and leaves it there for the next one.
    if let Ok(Some(listener)) = descriptors.take_unix_listener(at) {
        return unix(listener);
    }
    match descriptors.take_tcp_listener(at) {
        Ok(Some(listener)) => tcp(listener),
        _ => Ok(None),
    }
}

fn tcp(listener: TcpListener) -> io::Result<Option<Socket>> {
    if !is_listening(&listener)? {
        return Ok(None);
    }
    // As tokio needs it.
    listener.set_nonblocking(true)?;
    Ok(Some(Socket::Tcp(listener.local_addr()?, listener)))
}

fn unix(listener: UnixListener) -> io::Result<Option<Socket>> {
    if !is_listening(&listener)? {
        return Ok(None);
    }
    listener.set_nonblocking(true)?;
    // A name without a path (an abstract one) has no mode that would guard it.
    let address = listener.local_addr()?;
    let path = address.as_pathname().map(Path::to_owned);
    Ok(path.map(|path| Socket::Unix(path, listener)))
}

fn is_listening(socket: impl AsFd) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

#[cfg(test)]
impl PassedSockets {
    /// As if these had been passed, all of one unit.
    pub(crate) fn of(tcp: Vec<TcpListener>, unix: Vec<UnixListener>) -> Self {
        let tcp = tcp.into_iter().map(self::tcp);
        let sockets = tcp.chain(unix.into_iter().map(self::unix));
        let name = || "keymill.socket".to_owned();
        let passed = sockets.map(|socket| Passed {
            name: name(),
            socket: socket.unwrap().unwrap(),
        });
        Self(passed.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr as UnixAddress;

    #[test]
    fn a_socket_is_taken_once_by_its_address_and_the_others_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second) = (free(), free());
        let addresses = [&first, &second].map(|one| one.local_addr().unwrap());
        let at_path = UnixListener::bind(&path).unwrap();
        let mut passed = PassedSockets::of(vec![first, second], vec![at_path]);

        let other = ([127, 0, 0, 1], 1).into();
        assert!(passed.tcp(other).is_none());
        assert!(passed.unix(folder.path()).is_none());
        let taken = passed.tcp(addresses[1]).unwrap();
        assert_eq!(taken.local_addr().unwrap(), addresses[1]);
        assert!(passed.tcp(addresses[1]).is_none(), "it is taken once");
        assert!(passed.unix(&path).is_some());
        let left = format!("{} (keymill.socket)", addresses[0]);
        assert_eq!(passed.left(), Some(left));
        assert!(passed.tcp(addresses[0]).is_some());
        assert_eq!(passed.left(), None);
    }

    #[test]
    fn what_does_not_listen_at_a_path_is_of_another_kind() {
        let name = format!("keymill-{}", std::process::id());
        let named = UnixAddress::from_abstract_name(name).unwrap();
        let without_path = UnixListener::bind_addr(&named).unwrap();
        assert!(unix(without_path).unwrap().is_none());
        // A stream socket that is bound, and does not listen.
        let bound = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        );
        assert!(tcp(TcpListener::from(bound.unwrap())).unwrap().is_none());
    }
}
