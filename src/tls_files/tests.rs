//! What tests of TLS have in common, and which files are taken. More on the files is in
//! `transport/tls/tests.rs`.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// An authority, with its certificate in a file.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
    /// The file.
    pub(crate) path: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ours");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder,
            path,
        }
    }

    fn issue(&self, host: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    /// The TLS of a server with a certificate for `host`.
    pub(crate) fn server(
        &self,
        host: &str,
        version: &'static SupportedProtocolVersion,
    ) -> TlsAcceptor {
        self.server_for(host, version, None)
    }

    /// As [`Self::server`]; clients must have a certificate of the other authority.
    pub(crate) fn server_for(
        &self,
        host: &str,
        version: &'static SupportedProtocolVersion,
        clients_of: Option<&Self>,
    ) -> TlsAcceptor {
        let (certificate, key) = self.issue(host, ExtendedKeyUsagePurpose::ServerAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = match clients_of {
            None => builder.with_no_client_auth(),
            Some(other) => {
                let roots = Arc::new(authorities(Some(&other.path)).unwrap());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = builder.with_single_cert(vec![certificate.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// A client's certificate and its key, in files.
    pub(crate) fn client(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        let files = ["client.pem", "client.key"].map(|name| self.folder.path().join(name));
        let [certificate_file, key_file] = files;
        fs::write(&certificate_file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        (certificate_file, key_file)
    }
}

#[test]
fn a_file_of_authorities_has_one_at_least() {
    let authority = Authority::new();
    assert_eq!(authorities(Some(&authority.path)).unwrap().len(), 1);
    let file = authority.folder.path().join("other.pem");
    fs::write(&file, "").unwrap();
    let error = authorities(Some(&file)).unwrap_err().to_string();
    assert_eq!(error, "it has no certificate of an authority");
    let damaged = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
    fs::write(&file, damaged).unwrap();
    assert!(authorities(Some(&file)).is_err());
    fs::remove_file(&file).unwrap();
    let error = authorities(Some(&file)).unwrap_err().to_string();
    assert!(error.starts_with("No such file"), "{error}");
}
