//! Certificates of the tests: authorities and what they issue, and TLS clients that trust them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;

/// The day until which what is issued is good, in a year that the daemon's clock is far from.
const END: (i32, u8, u8) = (2040, 1, 1);

/// Who issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, PEM.
    pub(crate) pem: String,
}

/// A certificate to be, of a client by default.
pub(crate) struct Draft {
    pub(crate) common_name: &'static str,
    pub(crate) uris: Vec<&'static str>,
    pub(crate) server: bool,
    pub(crate) from: (i32, u8, u8),
    pub(crate) to: (i32, u8, u8),
    pub(crate) serial: u64,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            common_name: "client",
            uris: Vec::new(),
            server: false,
            from: (2020, 1, 1),
            to: END,
            serial: 1,
        }
    }
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    pub(crate) fn issue(&self, draft: Draft) -> Issued {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, draft.common_name);
        let uris = draft.uris.iter();
        let uris = uris.map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        let purpose = if draft.server {
            let address = [127, 0, 0, 1].into();
            params.subject_alt_names.push(SanType::IpAddress(address));
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        };
        params.extended_key_usages = vec![purpose];
        let date = |(year, month, day)| date_time_ymd(year, month, day);
        (params.not_before, params.not_after) = (date(draft.from), date(draft.to));
        params.serial_number = Some(draft.serial.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn client(&self, common_name: &'static str) -> Issued {
        self.issue(Draft {
            common_name,
            ..Draft::default()
        })
    }

    /// For 127.0.0.1.
    pub(crate) fn server(&self) -> Issued {
        self.issue(Draft {
            common_name: "server",
            server: true,
            ..Draft::default()
        })
    }

    /// A list that revokes these serial numbers, and is to be renewed on a day.
    pub(crate) fn revoked(&self, serials: &[u64], next_update: (i32, u8, u8)) -> String {
        let (year, month, day) = next_update;
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(year, month, day),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A TLS client.
pub(crate) struct Client<'a> {
    pub(crate) trusts: &'a Authority,
    pub(crate) shows: Option<&'a Issued>,
    pub(crate) version: &'static SupportedProtocolVersion,
    pub(crate) protocols: &'static [&'static str],
}

impl<'a> Client<'a> {
    /// TLS 1.3 and HTTP/1.1, with a certificate or without.
    pub(crate) fn new(trusts: &'a Authority, shows: Option<&'a Issued>) -> Self {
        Self {
            trusts,
            shows,
            version: &rustls::version::TLS13,
            protocols: &["http/1.1"],
        }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.trusts.pem.as_bytes());
        roots.add(root.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(Issued { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let chain = chain.map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let protocols = self.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
