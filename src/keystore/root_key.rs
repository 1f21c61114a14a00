//! The root key: 256 secret bits in a file of their own, and the sub-keys that are derived from
//! them by labels.
//!
//! File format, version 1: one line, `keymill-root-key-v1 ` and 64 hex digits. The mode is 0600; a
//! file with a wider mode is refused, unless systemd has made it for this process (a credential).

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::file::{self, Exposed, Owners, open};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroize;

/// The key that seals every record at rest. If it is lost, every data key that was ever wrapped is
/// lost.
pub struct RootKey(Secret<32>);

/// Why a root key file cannot be made or used. Each error prints as one line with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Reading or writing failed.
    #[error("root key {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Users other than the owner may read or write the file.
    #[error(
        "root key {path} has mode {mode:04o}: allow only its owner to read it (chmod 600 {path})"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error(
        "root key {path} belongs to uid {owner}, this process runs as uid {uid}: change its owner (chown {uid} {path})"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The file's owner.
        owner: u32,
        /// The user that this process runs as.
        uid: u32,
    },
    /// The file is not a root key of a version that this build knows.
    #[error("root key {path} is damaged or is not a root key: restore it from your copy")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

const PREFIX: &str = "keymill-root-key-v1 ";
const FILE_BYTES: usize = PREFIX.len() + 64 + 1;

impl RootKey {
    /// Draws a new root key and writes it to `path`, which must not exist: mode 0600, durable
    /// before this returns.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub fn create(path: &Path, entropy: &Entropy) -> Result<Self, RootKeyError> {
        let key = entropy.draw_secret::<32>()?;
        // With this capacity the text never moves, so one wipe leaves no copy.
        let mut line = String::with_capacity(FILE_BYTES);
        line.push_str(PREFIX);
        for byte in key.expose() {
            for digit in [byte >> 4, byte & 15] {
                line.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        line.push('\n');
        let written = write_once(path, line.as_bytes());
        line.zeroize();
        written.map_err(|source| RootKeyError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self(key))
    }

    /// A new root key without a file.
    #[cfg(test)]
    pub(crate) fn draw() -> Self {
        Self(Entropy::os().draw_secret::<32>().unwrap())
    }

    /// Reads a root key, from a file that only its owner may read.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub fn read(path: &Path) -> Result<Self, RootKeyError> {
        let io = |source| RootKeyError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = open::named(path).map_err(io)?;
        // The metadata are those of the open file and not of the path, so the file that was checked
        // is read.
        let metadata = file.metadata().map_err(io)?;
        file::guard_secret(&metadata, Owners::OwnUser).map_err(|exposed| {
            let path = path.to_owned();
            match exposed {
                Exposed::Mode { mode } => RootKeyError::Mode { path, mode },
                Exposed::Owner { owner, uid } => RootKeyError::Owner { path, owner, uid },
            }
        })?;
        let format = || RootKeyError::Format {
            path: path.to_owned(),
        };
        // The length is fixed, so the secret can be read into its final place.
        if metadata.len() != FILE_BYTES as u64 {
            return Err(format());
        }
        let line = Secret::<FILE_BYTES>::try_filled(|line| file.read_exact(line)).map_err(io)?;
        let digits = line
            .expose()
            .strip_prefix(PREFIX.as_bytes())
            .and_then(|rest| rest.strip_suffix(b"\n"))
            .ok_or_else(format)?;
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        Secret::try_filled(|key: &mut [u8; 32]| {
            for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
                *byte = digit(pair[0])
                    .zip(digit(pair[1]))
                    .map(|(high, low)| high << 4 | low)
                    .ok_or(())?;
            }
            Ok::<(), ()>(())
        })
        .map(Self)
        .map_err(|()| format())
    }

    /// A key for one purpose: `HMAC-SHA-256(key = root key, label)`, the expansion step of HKDF
    /// (RFC 5869) for one block.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn subkey(&self, label: &str) -> Secret<32> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose())
            .expect("HMAC takes keys of every length");
        mac.update(b"keymill subkey v1 ");
        mac.update(label.as_bytes());
        mac.update(&[1]);
        Secret::filled(|bytes| {
            let mut output = mac.finalize().into_bytes();
            bytes.copy_from_slice(&output);
            output.as_mut_slice().zeroize();
        })
    }

    /// The text that is shown when a root key was created.
    #[must_use]
    pub fn notice(path: &Path) -> String {
        let path = path.display();
        format!(
            "created root key {path}: it seals every key of this store. If you lose it, every data key ever wrapped is lost and cannot be \
             recovered. Keep a copy apart from the store and its backups, for example: install -m 600 {path} /media/safe/keymill-root.key"
        )
    }
}

/// Writes a file that is complete or absent, and never replaces another file: a link, unlike a
/// rename, does not replace.
fn write_once(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = open::anew(&unfinished, 0o600)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished)?;
    linked?;
    sync_folder_of(path)
}

/// Removes a file that an earlier call may have left behind.
pub(super) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    open::sync_folder(folder.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_root_key_reads_back_and_derives_separate_subkeys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let created = RootKey::create(&path, &Entropy::os()).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        let read = RootKey::read(&path).unwrap();
        assert!(created.subkey("a").ct_eq(read.subkey("a").expose()));
        assert!(!read.subkey("a").ct_eq(read.subkey("b").expose()));
        assert!(
            RootKey::create(&path, &Entropy::os()).is_err(),
            "never overwritten"
        );
        assert!(RootKey::notice(&path).contains("Keep a copy"));
    }

    #[test]
    fn wider_modes_and_damaged_files_are_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        RootKey::create(&path, &Entropy::os()).unwrap();
        for mode in [0o640, 0o604, 0o666, 0o620, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = RootKey::read(&path).err().unwrap().to_string();
            assert!(
                error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 600"),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in [
            String::new(),
            good.replace("v1", "v2"),
            good.trim_end().to_owned(),
            good.replace(|c: char| c.is_ascii_digit(), "g"),
            format!("{good}x"),
        ] {
            std::fs::write(&path, &bad).unwrap();
            let error = RootKey::read(&path).err().unwrap().to_string();
            assert!(error.contains("restore it from your copy"), "{error}");
            assert!(
                !error.contains(good[20..].trim()),
                "the key is never printed"
            );
        }
    }
}
