//! Why a root key cannot be made or used.

use crate::crypto::entropy::EntropyError;
use crate::pkcs11::TokenError;
use std::path::PathBuf;

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
    /// The file is sealed, and no passphrase is named.
    #[error(
        "root key {path} is sealed under a passphrase: name the file that has it in store.passphrase_file, and no [pkcs11]"
    )]
    Sealed {
        /// The file.
        path: PathBuf,
    },
    /// The file is sealed under a key in a token, and no token is named, or a passphrase as well.
    #[error(
        "root key {path} is sealed under a key in a PKCS #11 token: name it in [pkcs11], and leave store.passphrase_file empty"
    )]
    InToken {
        /// The file.
        path: PathBuf,
    },
    /// The token's key is not that of the file.
    #[error(
        "root key {path} does not open with the key in PKCS #11 token {token:?}: it is another one, or the root key is damaged"
    )]
    OtherToken {
        /// The file.
        path: PathBuf,
        /// The token's label.
        token: String,
    },
    /// The token does not work.
    #[error("root key: {0}")]
    Token(TokenError),
    /// A passphrase or a token is named, and the file is not sealed.
    #[error(
        "root key {path} is in the clear, though store.passphrase_file or [pkcs11] is set: seal it with `keymill root seal`, or leave the settings empty"
    )]
    Clear {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase is not that of the file.
    #[error(
        "root key {path} does not open with the passphrase in {passphrase}: it is another one, or the root key is damaged"
    )]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// The file with the passphrase.
        passphrase: PathBuf,
    },
    /// The passphrase cannot be read, or is not good enough.
    #[error("the passphrase of the root key, {path}, {reason}")]
    PassphraseFile {
        /// The file with the passphrase.
        path: PathBuf,
        /// What is wrong, without a subject.
        reason: String,
    },
    /// There is not enough memory to open the file.
    #[error("root key {path} cannot be opened: Argon2id's memory is not there")]
    Memory {
        /// The file.
        path: PathBuf,
    },
    /// The entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}
