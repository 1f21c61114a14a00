//! Handshakes with servers whose certificate is good, or has the one fault that each case names;
//! and files that hold no authorities.

use super::*;
use crate::clock::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

/// 2023-11-14, by the clock of each case.
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const HOST: &str = "kms.example";

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A server with a certificate of this authority, which `change` has made other than it should
    /// be.
    fn server(
        &self,
        version: &'static SupportedProtocolVersion,
        change: impl FnOnce(&mut CertificateParams),
    ) -> TlsAcceptor {
        let mut params = CertificateParams::new([HOST.to_owned(), "::1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(2023, 1, 1);
        params.not_after = date_time_ymd(2024, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Authorities that trust `authority` alone, whatever the machine trusts.
fn trusting(authority: &Authority) -> Authorities {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &authority.1).unwrap();
    let mut roots = RootCertStore::empty();
    add(&mut roots, &path).unwrap();
    Authorities::of(roots, &Clock::manual(NOW)).unwrap()
}

/// What comes of a connection to `host` behind which `serve` does what it does.
async fn outcome<S: Future<Output = ()>>(
    authorities: &Authorities,
    host: &str,
    serve: impl FnOnce(DuplexStream) -> S,
) -> Result<(), io::Error> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let call = async {
        let mut stream = authorities.connector().connect(name, near).await?;
        stream.read_u8().await.map(|_| ())
    };
    tokio::join!(call, serve(far)).0
}

/// The one line that a user reads of a server with such a certificate.
async fn objection_to(
    authorities: &Authorities,
    host: &str,
    server: TlsAcceptor,
) -> Option<String> {
    let answered = outcome(authorities, host, |stream| async move {
        if let Ok(mut stream) = server.accept(stream).await {
            stream.write_u8(1).await.ok();
        }
    });
    let line = objection(&answered.await.err()?).expect("TLS has an objection");
    assert!(!line.contains('\n'), "{line}");
    Some(line)
}

#[tokio::test]
async fn a_certificate_of_a_known_authority_is_taken() {
    let authority = Authority::new("ours");
    let authorities = trusting(&authority);
    for host in [HOST, "::1"] {
        let server = authority.server(&version::TLS13, |_| ());
        assert_eq!(objection_to(&authorities, host, server).await, None);
    }
}

#[tokio::test]
async fn certificates_with_a_fault_are_refused_with_what_to_do() {
    let authority = Authority::new("ours");
    let authorities = trusting(&authority);
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change, &[&str]); 6] = [
        (
            "kms.example.org",
            |_| (),
            &["is not for kms.example.org (", HOST, "name the daemon as"],
        ),
        ("127.0.0.1", |_| (), &["is not for 127.0.0.1 ("]),
        (
            HOST,
            |params| params.subject_alt_names.clear(),
            &["is not for kms.example (it is for no host)"],
        ),
        (
            HOST,
            |params| params.not_after = date_time_ymd(2023, 11, 1),
            &["has expired; replace it"],
        ),
        (
            HOST,
            |params| params.not_before = date_time_ymd(2023, 12, 1),
            &["is not valid yet; set this machine's clock"],
        ),
        (
            HOST,
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            &["cannot be used: ", "have another one issued"],
        ),
    ];
    for (host, change, says) in cases {
        let server = authority.server(&version::TLS13, change);
        let line = objection_to(&authorities, host, server).await.unwrap();
        for text in says {
            assert!(line.contains(text), "{line}");
        }
    }
}

#[tokio::test]
async fn other_authorities_are_refused_and_the_variable_is_named() {
    let authorities = trusting(&Authority::new("ours"));
    // One that was made anew has its name from before.
    for name in ["another", "ours"] {
        let server = Authority::new(name).server(&version::TLS13, |_| ());
        let line = objection_to(&authorities, HOST, server).await.unwrap();
        assert!(
            line.ends_with("name the PEM file of the one that issued it in AWS_CA_BUNDLE"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_authorities_of_the_machine_do_not_vouch_for_a_private_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, Authority::new("ours").1).unwrap();
    let authorities = Authorities::load(Some(&path), &Clock::manual(NOW)).unwrap();
    let server = Authority::new("another").server(&version::TLS13, |_| ());
    let line = objection_to(&authorities, HOST, server).await.unwrap();
    assert!(line.contains("no authority that is known here"), "{line}");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let authority = Authority::new("ours");
    let server = authority.server(&version::TLS12, |_| ());
    let line = objection_to(&trusting(&authority), HOST, server).await;
    assert!(line.unwrap().contains("does not speak TLS 1.3"));
}

#[tokio::test]
async fn what_is_no_tls_is_told_and_a_broken_connection_is_no_objection() {
    let authorities = trusting(&Authority::new("ours"));
    let plain = outcome(&authorities, HOST, |mut stream| async move {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    });
    let line = objection(&plain.await.unwrap_err()).unwrap();
    assert!(
        line.starts_with("it does not speak TLS; name it with http://"),
        "{line}"
    );
    let closed = outcome(&authorities, HOST, |stream| async move { drop(stream) });
    assert_eq!(objection(&closed.await.unwrap_err()), None);
}

#[test]
fn a_demand_for_a_client_certificate_is_told() {
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    let line = objection(&io::Error::other(alert)).unwrap();
    assert!(line.contains("by its Unix socket"), "{line}");
    assert_eq!(objection(&io::Error::other("anything else")), None);
}

#[test]
fn files_without_authorities_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new("ours").1;
    let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = KeyPair::generate().unwrap().serialize_pem();
    for (name, text, says) in [
        ("empty", String::new(), "it holds no certificate"),
        ("text", "trust me".to_owned(), "it holds no certificate"),
        ("key", key, "it holds no certificate"),
        ("cut", good[..good.len() / 2].to_owned(), "cannot be used: "),
        ("nonsense", der.to_owned(), "cannot be used: "),
        ("half", format!("{good}{der}"), "cannot be used: "),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let line = Authorities::load(Some(&path), &Clock::manual(NOW))
            .err()
            .unwrap()
            .to_string();
        assert!(
            line.starts_with(&path.display().to_string()) && line.contains(says),
            "{line}"
        );
        assert!(
            line.contains("; name a file with the certificates") && !line.contains('\n'),
            "{line}"
        );
    }
    let absent = folder.path().join("absent");
    let error = Authorities::load(Some(&absent), &Clock::manual(NOW)).err();
    assert!(matches!(error, Some(AuthoritiesError::Io { .. })));
}
