//! Making a Unix socket: in a folder that exists, with the right mode, in place of a stale one.

use std::io;
use std::path::Path;
use tokio::net::UnixListener;

/// Binds `path` with permission bits `mode`; a socket that nobody listens on is replaced, anything else there is refused.
///
/// # Errors
/// What the operating system says, with the path in the message.
pub fn bind(_path: &Path, _mode: u32) -> io::Result<UnixListener> {
    todo!()
}
