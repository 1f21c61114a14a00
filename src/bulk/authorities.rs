//! Who may vouch for a daemon over TLS: the authorities of this machine, and those of a file.
//!
//! What this module does not do: leave a certificate unverified, show one of its own, TLS 1.2 (a
//! daemon speaks 1.3 alone).

use crate::clock::Clock;
use crate::file::open;
use crate::tls_files::tls_error_in;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// The one protocol that is spoken (ALPN).
const HTTP_1_1: &[u8] = b"http/1.1";
/// Bytes of a file of authorities at most: those of all the world have a quarter of a megabyte.
const BUNDLE_BYTES_MAX: u64 = 8 << 20;

/// Who may vouch for a daemon.
#[derive(Clone)]
pub struct Authorities(Arc<ClientConfig>);

/// Authorities that cannot be had. Each prints as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// Reading the file failed.
    #[error("{path}: {source}; name a file with the certificates of authorities, in PEM")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} cannot be used: {problem}; name a file with the certificates of authorities, in PEM"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// This machine has none, and no file was named.
    #[error(
        "this machine knows no certificate authorities; name the PEM file of the daemon's in AWS_CA_BUNDLE"
    )]
    Nobody,
    /// The cryptographic provider has no TLS 1.3.
    #[error("TLS 1.3 is not available: {0}")]
    Provider(rustls::Error),
}

impl Authorities {
    /// The authorities of this machine, as OpenSSL finds them, and those in the file `bundle`.
    /// Certificates are judged at `clock`'s time.
    ///
    /// # Errors
    /// [`AuthoritiesError`], when the file cannot be used, or no authority is known at all.
    pub fn load(bundle: Option<&Path>, clock: &Clock) -> Result<Self, AuthoritiesError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in native.errors {
            tracing::warn!(%error, "some of this machine's certificate authorities cannot be used");
        }
        // Some of a machine's certificates break today's rules. They are left out, and daemons with
        // certificates that they have issued are not trusted.
        roots.add_parsable_certificates(native.certs);
        if let Some(path) = bundle {
            add(&mut roots, path)?;
        }
        if roots.is_empty() {
            return Err(AuthoritiesError::Nobody);
        }
        Self::of(roots, clock)
    }

    fn of(roots: RootCertStore, clock: &Clock) -> Result<Self, AuthoritiesError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(AuthoritiesError::Provider)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.0))
    }
}

/// Adds every certificate of a file, which must have one.
fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), AuthoritiesError> {
    let path = || path.to_owned();
    let refused = |problem: String| AuthoritiesError::Refused {
        path: path(),
        problem,
    };
    let text =
        open::named_bytes(&path(), BUNDLE_BYTES_MAX).map_err(|source| AuthoritiesError::Io {
            path: path(),
            source,
        })?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| refused(error.to_string()))?;
    if found.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    for certificate in found {
        let added = roots.add(certificate);
        added.map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

/// Why TLS refused a daemon, and what to do about it; `None` when `error` does not come from TLS.
pub(super) fn objection(error: &(dyn Error + 'static)) -> Option<String> {
    let said = match tls_error_in(error)? {
        rustls::Error::InvalidCertificate(error) => return Some(of_certificate(error)),
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS; name it with http://, or turn on [tls] in its configuration"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it demands a client certificate, and this process has none; call it by its Unix socket on its host"
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(_) => {
            "it does not speak TLS 1.3; is it a keymill daemon of this version?"
        }
        other => return Some(format!("TLS failed: {other}")),
    };
    Some(said.to_owned())
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        // The latter where an authority of the same name is known that has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of no authority that is known here; name the PEM file of the one that issued it in AWS_CA_BUNDLE".to_owned()
        }
        CertificateError::NotValidForName => {
            "its certificate is for another name; name the daemon as its certificate does".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "its certificate is not for {} (it is for {}); name the daemon as its certificate does",
            expected.to_str(),
            match presented.as_slice() {
                [] => "no host".to_owned(),
                names => names.join(", "),
            }
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; replace it, or set this machine's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; set this machine's clock, or replace it".to_owned()
        }
        other => format!("its certificate cannot be used: {other}; have another one issued"),
    }
}

#[cfg(test)]
mod tests;
