//! The files of a listener with TLS: PEM (RFC 7468), bounded, the key's with few readers.

use crate::file::{self, Exposed, Owners, open};
use crate::transport::tls::{ClientCertificate, Config};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a file at most: CRLs of large authorities have some MiB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Permission bits that a key file must not have: anything for others, and more than reading for
/// its group.
const KEY_MODE_FORBIDDEN: u32 = 0o037;

/// Where everything is.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_crl: Option<PathBuf>,
    pub(super) client_required: bool,
}

/// Files for TLS that cannot be used. Each prints as one line that says what to do.
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
    /// Others than the owner and its group may read the key, or others than the owner may write it.
    #[error("TLS key {path} has mode {mode:04o}: allow no more than 0640 (chmod 640 {path})")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key belongs to somebody else.
    #[error(
        "TLS key {path} belongs to uid {owner}, this process runs as uid {uid}: change its owner (chown {uid} {path}, or root)"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Ours.
        uid: u32,
    },
    /// The file holds nothing of the kind.
    #[error("{path} holds no {what} in PEM")]
    Absent {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// What the file holds cannot be used.
    #[error("{path} cannot be used: {problem}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The key is another certificate's.
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
    pub(super) fn refused(path: &Path, problem: &dyn fmt::Display) -> Self {
        let (path, problem) = (path.to_owned(), problem.to_string());
        Self::Refused { path, problem }
    }
}

/// What tells that a file was replaced or written; `None` where it cannot be seen. The time of the
/// last change of its inode moves with every write and every `chmod`, and a link that points
/// elsewhere leads to another inode.
pub(super) type Stamps = Vec<Option<[i64; 5]>>;

impl Files {
    pub(super) fn of(config: &Config) -> Self {
        let some = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        Self {
            certificate: config.certificate.clone(),
            key: config.key.clone(),
            client_ca: some(&config.client_ca),
            client_crl: some(&config.client_crl),
            client_required: config.client_certificate == ClientCertificate::Required,
        }
    }

    pub(super) fn stamps(&self) -> Stamps {
        let more = self.client_ca.iter().chain(&self.client_crl);
        let paths = [&self.certificate, &self.key].into_iter().chain(more);
        let stamp = |path| {
            let file = fs::metadata(path).ok()?;
            let [device, inode, size] = [file.dev(), file.ino(), file.size()].map(u64::cast_signed);
            Some([device, inode, size, file.ctime(), file.ctime_nsec()])
        };
        paths.map(stamp).collect()
    }

    /// The certificates of a file, at least one.
    pub(super) fn certificates(
        &self,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        objects(path, "certificate")
    }

    /// The CRLs of a file, at least one.
    pub(super) fn revocation_lists(
        &self,
        path: &Path,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        objects(path, "certificate revocation list")
    }

    /// The chain with its key.
    pub(super) fn certified(
        &self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<CertifiedKey, TlsError> {
        let mut key = private_key(&self.key)?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
        key.zeroize();
        let signing = signing.map_err(|error| TlsError::refused(&self.key, &error))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            }),
            Err(error) => Err(TlsError::refused(&self.certificate, &error)),
        }
    }
}

fn objects<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let text = read(path, |_| Ok(()))?;
    let objects: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    let objects = objects.map_err(|error| TlsError::refused(path, &error))?;
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
        // Not what the parser says of it: it may repeat what it has read.
        Err(_) => Err(TlsError::refused(path, &"damaged PEM")),
    }
}

/// Reads a file whose metadata `check` takes: of the open file, so that what was checked is what is
/// read.
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
    // With room for all of it and the read that finds its end, so that no part of a key is left
    // behind where the buffer was before.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 64;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(io)?;
    Ok(text)
}
