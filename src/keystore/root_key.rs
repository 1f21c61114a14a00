//! The root key: 256 secret bits in a file of their own, and the sub-keys that are derived from
//! them by labels.
//!
//! File format, version 1: one line, `keymill-root-key-v1 ` and 64 hex digits. Version 2 is sealed
//! under a passphrase (`passphrase`) or a key in an HSM (`token`). The mode is 0600; a
//! file with a wider mode is refused, unless systemd has made it for this process (a credential).

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::file::{self, Exposed, Owners, open, secret};
use crate::pkcs11;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

mod error;
mod passphrase;
mod sealed;
pub mod shares;
mod token;

pub use error::RootKeyError;
use sealed::Refused;

/// The file of a root key, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKeyFile {
    /// The file.
    pub path: PathBuf,
    /// What it is sealed under.
    pub seal: Seal,
}

/// What a root key is sealed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// Nothing: it is in the clear.
    Clear,
    /// The passphrase in this file.
    Passphrase(PathBuf),
    /// A key in a token.
    Token(pkcs11::Config),
}

/// The key that seals every record at rest. If it is lost, every data key that was ever wrapped is
/// lost.
pub struct RootKey(Secret<32>);

const PREFIX: &str = "keymill-root-key-v1 ";
const FILE_BYTES: usize = PREFIX.len() + 64 + 1;

impl RootKeyFile {
    /// A root key in the clear.
    #[must_use]
    pub fn clear(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seal: Seal::Clear,
        }
    }

    /// Whether there is such a file.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Draws a new root key and writes it, as [`Self::write`] does.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub fn create(&self, entropy: &Entropy) -> Result<RootKey, RootKeyError> {
        let key = RootKey(entropy.draw_secret::<32>()?);
        self.write(&key, entropy)?;
        Ok(key)
    }

    /// Writes a root key to a file that must not exist: mode 0600, durable before this returns.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub fn write(&self, key: &RootKey, entropy: &Entropy) -> Result<(), RootKeyError> {
        let line = self.line(key, entropy)?;
        write_once(&self.path, line.as_bytes()).map_err(|source| self.io(source))
    }

    /// Writes a root key in the place of the file, which is wholly old or new.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub fn replace(&self, key: &RootKey, entropy: &Entropy) -> Result<(), RootKeyError> {
        let line = self.line(key, entropy)?;
        open::write_whole(&self.path, line.as_bytes(), 0o600).map_err(|source| self.io(source))
    }

    /// Reads the root key, from a file that only its owner may read.
    ///
    /// # Errors
    /// [`RootKeyError`].
    pub fn read(&self) -> Result<RootKey, RootKeyError> {
        let file = self.guarded()?;
        // With this capacity the text never moves, so one wipe leaves no copy.
        let mut bytes = Zeroizing::new(Vec::with_capacity(sealed::LINE_BYTES_MAX + 1));
        let read = file
            .take(sealed::LINE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes);
        read.map_err(|source| self.io(source))?;
        let path = || self.path.clone();
        let line = std::str::from_utf8(&bytes);
        let line = line.map_err(|_| RootKeyError::Format { path: path() })?;
        let forms = [PREFIX, passphrase::PREFIX, token::PREFIX];
        let form = forms.iter().position(|prefix| line.starts_with(prefix));
        let opened = match (&self.seal, form) {
            (Seal::Clear, Some(0)) => parsed(line).ok_or(Refused::Form),
            (Seal::Passphrase(file), Some(1)) => passphrase::open(line, &passphrase_in(file)?),
            (Seal::Token(config), Some(2)) => token::open(line, config),
            (_, None) => Err(Refused::Form),
            (_, Some(0)) => return Err(RootKeyError::Clear { path: path() }),
            (_, Some(1)) => return Err(RootKeyError::Sealed { path: path() }),
            (_, Some(_)) => return Err(RootKeyError::InToken { path: path() }),
        };
        opened.map(RootKey).map_err(|refused| self.refused(refused))
    }

    fn line(&self, key: &RootKey, entropy: &Entropy) -> Result<Zeroizing<String>, RootKeyError> {
        let sealed = match &self.seal {
            Seal::Clear => return Ok(written(&key.0)),
            Seal::Passphrase(file) => {
                let phrase = passphrase_in(file)?;
                if phrase.len() < passphrase::PASSPHRASE_BYTES_MIN {
                    return Err(RootKeyError::PassphraseFile {
                        path: file.clone(),
                        reason: format!(
                            "has fewer than {} bytes: take several words, or the output of `openssl rand -hex 16`",
                            passphrase::PASSPHRASE_BYTES_MIN
                        ),
                    });
                }
                passphrase::seal(&key.0, &phrase, entropy)
            }
            Seal::Token(config) => token::seal(&key.0, config, entropy),
        };
        sealed
            .map(Zeroizing::new)
            .map_err(|refused| self.refused(refused))
    }

    /// The open file, which belongs to this process's user and is for no other.
    fn guarded(&self) -> Result<std::fs::File, RootKeyError> {
        let file = open::named(&self.path).map_err(|source| self.io(source))?;
        // The metadata are those of the open file and not of the path, so the file that was checked
        // is read.
        let metadata = file.metadata().map_err(|source| self.io(source))?;
        file::guard_secret(&metadata, Owners::OwnUser).map_err(|exposed| {
            let path = self.path.clone();
            match exposed {
                Exposed::Mode { mode } => RootKeyError::Mode { path, mode },
                Exposed::Owner { owner, uid } => RootKeyError::Owner { path, owner, uid },
            }
        })?;
        Ok(file)
    }

    fn io(&self, source: std::io::Error) -> RootKeyError {
        let path = self.path.clone();
        RootKeyError::Io { path, source }
    }

    fn refused(&self, refused: Refused) -> RootKeyError {
        let path = self.path.clone();
        match (refused, &self.seal) {
            (Refused::Form, _) => RootKeyError::Format { path },
            (Refused::Memory, _) => RootKeyError::Memory { path },
            (Refused::Entropy, _) => RootKeyError::Entropy(EntropyError),
            (Refused::Token(error), _) => RootKeyError::Token(error),
            (Refused::Key, Seal::Token(config)) => RootKeyError::OtherToken {
                path,
                token: config.name(),
            },
            (Refused::Key, Seal::Passphrase(passphrase)) => RootKeyError::Passphrase {
                path,
                passphrase: passphrase.clone(),
            },
            (Refused::Key, Seal::Clear) => RootKeyError::Format { path },
        }
    }

    /// The text that is shown when a root key was created.
    #[must_use]
    pub fn notice(&self) -> String {
        let path = self.path.display();
        let mut text = format!(
            "created root key {path}: it seals every key of this store. If you lose it, every data key ever wrapped is lost and cannot be \
             recovered. Keep a copy apart from the store and its backups, for example: install -m 600 {path} /media/safe/keymill-root.key"
        );
        match &self.seal {
            Seal::Clear => {}
            Seal::Passphrase(passphrase) => text.push_str(&format!(
                ". It opens with the passphrase in {} alone: keep that too, in another place",
                passphrase.display()
            )),
            Seal::Token(config) => text.push_str(&format!(
                ". It opens with token {:?} alone: keep shares of it too (keymill root export), or a copy of the token",
                config.name()
            )),
        }
        text
    }
}

/// The passphrase in a file.
fn passphrase_in(path: &Path) -> Result<Zeroizing<Vec<u8>>, RootKeyError> {
    secret::line(path).map_err(|reason| RootKeyError::PassphraseFile {
        path: path.to_owned(),
        reason,
    })
}

/// The line of a root key in the clear.
fn written(key: &Secret<32>) -> Zeroizing<String> {
    // With this capacity the text never moves, so one wipe leaves no copy.
    let mut line = Zeroizing::new(String::with_capacity(FILE_BYTES));
    line.push_str(PREFIX);
    for byte in key.expose() {
        for digit in [byte >> 4, byte & 15] {
            line.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    line.push('\n');
    line
}

/// The root key of a line in the clear.
fn parsed(line: &str) -> Option<Secret<32>> {
    let digits = line.strip_prefix(PREFIX)?.strip_suffix('\n')?;
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Secret::try_filled(|key: &mut [u8; 32]| {
        for (byte, pair) in key.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
            *byte = digit(pair[0])
                .zip(digit(pair[1]))
                .map(|(high, low)| high << 4 | low)
                .ok_or(())?;
        }
        Ok::<(), ()>(())
    })
    .ok()
}

impl RootKey {
    /// A new root key without a file.
    #[cfg(test)]
    pub(crate) fn draw() -> Self {
        Self(Entropy::os().draw_secret::<32>().unwrap())
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
        let created = RootKeyFile::clear(&path).create(&Entropy::os()).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        let read = RootKeyFile::clear(&path).read().unwrap();
        assert!(created.subkey("a").ct_eq(read.subkey("a").expose()));
        assert!(!read.subkey("a").ct_eq(read.subkey("b").expose()));
        assert!(
            RootKeyFile::clear(&path).create(&Entropy::os()).is_err(),
            "never overwritten"
        );
        assert!(RootKeyFile::clear(&path).notice().contains("Keep a copy"));
    }

    #[test]
    fn wider_modes_and_damaged_files_are_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        RootKeyFile::clear(&path).create(&Entropy::os()).unwrap();
        for mode in [0o640, 0o604, 0o666, 0o620, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = RootKeyFile::clear(&path).read().err().unwrap().to_string();
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
            let error = RootKeyFile::clear(&path).read().err().unwrap().to_string();
            assert!(error.contains("restore it from your copy"), "{error}");
            assert!(
                !error.contains(good[20..].trim()),
                "the key is never printed"
            );
        }
    }
}
