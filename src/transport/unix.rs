//! Makes a Unix socket in an existing folder, with the right mode, in place of a stale one.
//!
//! The mode is right before the first connection is possible. The process's umask is not changed,
//! because it belongs to all threads. Instead the socket is bound under a temporary name in the
//! same folder, where connections fail because it does not listen yet. It gets its mode, begins to
//! listen, and is renamed to its final name. A client that looks there finds the stale socket or a
//! live one, never none.
//!
//! This module does not keep two daemons apart that start at the same instant; the lock of the
//! store does that.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket};

/// The most bytes of a socket's path: `sun_path` has 108, the last of them a NUL (unix(7)).
const PATH_BYTES_MAX: usize = 107;
/// Connections that may wait to be accepted. The kernel's own bound (`net.core.somaxconn`) is at
/// most this on most machines.
const BACKLOG: u32 = 4096;

/// Binds `path` with permission bits `mode`. A socket without a listener is replaced; anything else
/// at that path is refused.
///
/// # Errors
/// The error of the operating system, with the path in its message.
///
/// # Panics
/// Outside of a tokio runtime, as every socket of tokio does.
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("socket {}: {error}", path.display()))
    };
    let temporary = beside(path);
    let longest = path.as_os_str().len().max(temporary.as_os_str().len());
    if longest > PATH_BYTES_MAX {
        let over = longest - PATH_BYTES_MAX;
        return Err(named(io::Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the path is {over} bytes longer than the kernel takes ({PATH_BYTES_MAX}): name a shorter folder"
            ),
        )));
    }
    vacant(path).map_err(named)?;
    // Left behind by a process that was killed between its bind and its rename.
    if is_socket(&temporary) {
        fs::remove_file(&temporary).map_err(named)?;
    }
    let socket = UnixSocket::new_stream().map_err(named)?;
    socket.bind(&temporary).map_err(named)?;
    let listening = fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|listener| fs::rename(&temporary, path).map(|()| listener));
    listening.map_err(|error| {
        drop(fs::remove_file(&temporary));
        named(error)
    })
}

/// Checks that `path` is free, or is a socket without a listener.
fn vacant(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something that is not a socket is there: move it away, or name another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "in use: another process listens on it; stop it, or name another path",
        )),
        // Its backlog is full, or the socket is not for this user: it is in use.
        Err(error) => Err(error),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// The temporary name. It is short, so that it rarely limits the path more than the final name.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.new", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn refusal(path: &Path) -> String {
        let error = bind(path, 0o600).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(!error.contains('\n'), "{error}");
        error
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        entries.map(|entry| name(entry).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_takes_connections() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        for mode in [0o600, 0o660, 0o666] {
            let listener = bind(&path, mode).unwrap();
            let permissions = fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode);
            assert_eq!(names(folder.path()), ["k.sock"]);
            let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'x');
            // The listener is dropped and its file stays, as after a kill: the next round replaces
            // it.
        }
    }

    #[tokio::test]
    async fn a_live_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        let live = bind(&path, 0o600).unwrap();
        assert!(refusal(&path).contains("in use"));
        assert_eq!(names(folder.path()), ["k.sock"]);
        // The first connection that it receives is the probe.
        live.accept().await.unwrap();
        let client = tokio::net::UnixStream::connect(&path);
        assert!(client.await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(refusal(&file).contains("not a socket"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert!(
            refusal(&link).contains("not a socket"),
            "not even a dangling link"
        );
        assert!(refusal(folder.path()).contains("not a socket"));
    }

    #[tokio::test]
    async fn places_that_cannot_be_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent/k.sock");
        assert!(refusal(&absent).contains("No such file"));
        let long = folder.path().join("x".repeat(PATH_BYTES_MAX));
        assert!(refusal(&long).contains("longer than the kernel takes (107)"));
        let left = PATH_BYTES_MAX - folder.path().as_os_str().len() - 1;
        let longest = folder.path().join("x".repeat(left));
        assert!(bind(&longest, 0o600).is_ok());
    }

    #[tokio::test]
    async fn a_killed_predecessors_temporary_name_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.sock");
        drop(std::os::unix::net::UnixListener::bind(beside(&path)).unwrap());
        bind(&path, 0o600).unwrap();
        assert_eq!(names(folder.path()), ["k.sock"]);
        fs::remove_file(&path).unwrap();
        fs::write(beside(&path), "precious").unwrap();
        assert!(refusal(&path).contains("in use"));
        assert_eq!(fs::read_to_string(beside(&path)).unwrap(), "precious");
    }
}
