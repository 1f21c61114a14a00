//! Files with certificates and keys for TLS: PEM (RFC 7468), of bounded size; a key file must have
//! few readers. Both sides of connections have such files: this daemon's listener, and its calls to
//! other servers.
//!
//! What this module does not do: decide which authorities a side trusts, or speak TLS.

use crate::file::{self, Exposed, Owners, open};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// The most bytes of a file: the CRLs of large authorities have some MiB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a file of authorities at most: those of all the world have a quarter of a megabyte.
const BUNDLE_BYTES_MAX: u64 = 8 << 20;
/// Permission bits that a key file must not have: any right for others, and more than reading for
/// its group.
const KEY_MODE_FORBIDDEN: u32 = 0o037;

/// Why files for TLS cannot be used. Each error prints as one line with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Reading failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Users other than the owner and its group may read the key, or users other than the owner may
    /// write it.
    #[error("TLS key {path} has mode {mode:04o}: allow no more than 0640 (chmod 640 {path})")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key belongs to another user.
    #[error(
        "TLS key {path} belongs to uid {owner}, this process runs as uid {uid}: change its owner (chown {uid} {path}, or root)"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The file's owner.
        owner: u32,
        /// The user that this process runs as.
        uid: u32,
    },
    /// The file has no object of the expected kind.
    #[error("{path} contains no {what} in PEM")]
    Absent {
        /// The file.
        path: PathBuf,
        /// The kind of object that was expected.
        what: &'static str,
    },
    /// The content of the file cannot be used.
    #[error("{path} cannot be used: {problem}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The key belongs to another certificate.
    #[error("TLS key {key} does not belong to the first certificate of {certificate}")]
    Mismatch {
        /// The certificate chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The cryptographic provider has no TLS 1.3.
    #[error("TLS 1.3 is not available: {0}")]
    Provider(rustls::Error),
}

impl TlsError {
    /// The refusal of a file's content.
    #[must_use]
    pub fn refused(path: &Path, problem: &dyn fmt::Display) -> Self {
        let (path, problem) = (path.to_owned(), problem.to_string());
        Self::Refused { path, problem }
    }
}

/// Marks from which a replaced or changed file is recognised; `None` where the file cannot be read.
/// The time of the inode's last change moves with every write and every `chmod`, and a link with a
/// new target leads to another inode.
pub type Stamps = Vec<Option<[i64; 5]>>;

/// The marks of these files.
#[must_use]
pub fn stamps<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Stamps {
    let stamp = |path| {
        let file = fs::metadata(path).ok()?;
        let [device, inode, size] = [file.dev(), file.ino(), file.size()].map(u64::cast_signed);
        Some([device, inode, size, file.ctime(), file.ctime_nsec()])
    };
    paths.map(stamp).collect()
}

/// The authorities in a file, or, without one, those of this machine.
///
/// # Errors
/// When the file cannot be used, or there is not one authority.
pub fn authorities(file: Option<&Path>) -> Result<RootCertStore, Box<dyn Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(path) => {
            let pem = open::named_bytes(path, BUNDLE_BYTES_MAX)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate?)?;
            }
        }
        None => {
            // Some of a machine's certificates break today's rules. They are left out.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("it has no certificate of an authority".into());
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
///
/// # Errors
/// [`TlsError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    objects(path, "certificate")
}

/// The CRLs of a file, at least one.
///
/// # Errors
/// [`TlsError`].
pub fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    objects(path, "certificate revocation list")
}

/// A chain, which was read from the file `certificate`, together with the key in the file `key`.
///
/// # Errors
/// [`TlsError`].
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    certificate: &Path,
    key: &Path,
) -> Result<CertifiedKey, TlsError> {
    let mut private = private_key(key)?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private);
    private.zeroize();
    let signing = signing.map_err(|error| TlsError::refused(key, &error))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        Err(error) => Err(TlsError::refused(certificate, &error)),
    }
}

/// The error of TLS that `error` comes from, if it does.
#[must_use]
pub fn tls_error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            // Its source is the source of what it wraps, and not what it wraps.
            Some(error) => error
                .get_ref()
                .map(|wrapped| wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn objects<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let text = read(path, |_| Ok(()))?;
    let parsed: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    let objects = parsed.map_err(|error| TlsError::refused(path, &error))?;
    if objects.is_empty() {
        let path = path.to_owned();
        return Err(TlsError::Absent { path, what });
    }
    Ok(objects)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, |metadata| {
        let guarded = file::guard(metadata, Owners::OwnUserOrRoot, KEY_MODE_FORBIDDEN);
        guarded.map_err(|exposed| {
            let path = path.to_owned();
            match exposed {
                Exposed::Mode { mode } => TlsError::Mode { path, mode },
                Exposed::Owner { owner, uid } => TlsError::Owner { path, owner, uid },
            }
        })
    })?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsError::Absent {
            path: path.to_owned(),
            what: "private key without a passphrase",
        }),
        // The parser's own error is not shown: it may repeat bytes of the key.
        Err(_) => Err(TlsError::refused(path, &"damaged PEM")),
    }
}

/// Reads a file if `check` accepts its metadata. They are those of the open file, so that the file
/// that was checked is the file that is read.
fn read(
    path: &Path,
    check: impl FnOnce(&fs::Metadata) -> Result<(), TlsError>,
) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let io = |source| TlsError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open::named(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    check(&metadata)?;
    if metadata.len() > FILE_BYTES_MAX {
        let problem = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(TlsError::refused(path, &problem));
    }
    // The buffer has room for the whole file and for the read that finds its end. It never moves,
    // so that no part of a key stays behind in old memory.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 64;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(io)?;
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests;
