//! The files of a listener with TLS.

use crate::tls_files::{self, Stamps};
use crate::transport::tls::{ClientCertificate, Config};
use std::path::PathBuf;

/// The paths of the files, and what is asked of client certificates.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_crl: Option<PathBuf>,
    pub(super) client_required: bool,
    pub(super) client_common_names: Vec<String>,
}

impl Files {
    pub(super) fn of(config: &Config) -> Self {
        let some = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        Self {
            certificate: config.certificate.clone(),
            key: config.key.clone(),
            client_ca: some(&config.client_ca),
            client_crl: some(&config.client_crl),
            client_required: config.client_certificate == ClientCertificate::Required,
            client_common_names: config.client_common_names.clone(),
        }
    }

    pub(super) fn stamps(&self) -> Stamps {
        let more = self.client_ca.iter().chain(&self.client_crl);
        tls_files::stamps([&self.certificate, &self.key].into_iter().chain(more))
    }
}
