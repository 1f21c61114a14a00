//! The root certificates whose documents are believed: the trust decision of an operator.

use crate::attestation::certificate::Certificate;
use crate::file::open;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The most bytes of a file of roots; a root has some 800.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Whose attestation documents are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Files of root certificates in PEM. None: no document is believed.
    pub roots: Vec<PathBuf>,
}

impl Config {
    /// Files of roots.
    pub const ROOTS_MAX: usize = 16;
}

/// Root certificates, in DER.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<Vec<u8>>);

/// A file of roots that cannot be used. Each error prints as one line.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Reading failed.
    #[error("attestation.roots: {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content of the file is not root certificates.
    #[error("attestation.roots: {path} cannot be used: {problem}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
}

impl Roots {
    /// Reads the files of a configuration.
    ///
    /// # Errors
    /// [`RootError`] for the first file that is not one of root certificates: of P-384, and of
    /// authorities that may sign certificates.
    pub fn read(config: &Config) -> Result<Self, RootError> {
        let mut roots = Vec::new();
        for path in &config.roots {
            let io = |source| RootError::Io {
                path: path.clone(),
                source,
            };
            let text = open::named_bytes(path, FILE_BYTES_MAX).map_err(io)?;
            roots.extend(of_file(path, &text)?);
        }
        Ok(Self(roots))
    }

    /// These certificates in DER, unchecked: for tests and fuzzing.
    #[must_use]
    pub fn of(roots: Vec<Vec<u8>>) -> Self {
        Self(roots)
    }

    /// Whether there is none.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this certificate is one of them, to the byte.
    #[must_use]
    pub fn contain(&self, der: &[u8]) -> bool {
        self.0.iter().any(|root| root == der)
    }
}

fn of_file(path: &Path, text: &[u8]) -> Result<Vec<Vec<u8>>, RootError> {
    let refused = |problem: String| RootError::Refused {
        path: path.to_owned(),
        problem,
    };
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| refused(error.to_string()))?;
    if found.is_empty() {
        return Err(refused("there is no certificate in PEM in it".to_owned()));
    }
    for (number, der) in found.iter().enumerate() {
        let certificate = Certificate::parse(der);
        let checked = certificate.and_then(|certificate| certificate.check_authority(0));
        checked.map_err(|fault| refused(format!("certificate {} {fault}", number + 1)))?;
    }
    Ok(found.into_iter().map(|der| der.to_vec()).collect())
}
