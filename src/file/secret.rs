//! A secret of one line in a file: a password, or a passphrase.

use crate::file::{self, Exposed, Owners, open};
use std::io::{self, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of such a file at most.
const BYTES_MAX: usize = 4096;

/// Reads the secret, without the line feed behind it. The file belongs to this process's user, or
/// to root as a credential of systemd does.
///
/// # Errors
/// A sentence without its subject, which is the file.
pub fn line(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let io = |error: io::Error| error.to_string();
    let file = open::named(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    file::guard_secret(&metadata, Owners::OwnUserOrRoot).map_err(|exposed| match exposed {
        Exposed::Mode { mode } => {
            format!("has mode {mode:04o}: allow only its owner to read it (chmod 600)")
        }
        Exposed::Owner { owner, uid } => {
            format!("belongs to uid {owner}, this process runs as uid {uid}: change its owner")
        }
    })?;
    // With this capacity the bytes never move, so one wipe leaves no copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    let read = file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(io)?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("has more than {BYTES_MAX} bytes"));
    }
    while bytes
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(bytes)
}
