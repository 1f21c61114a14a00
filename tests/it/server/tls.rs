//! TLS from the outside: which clients are accepted, as which principal, and what changes while the
//! daemon runs.

use crate::server::bind;
use crate::server::certificates::{Authority, Client, Draft, Issued};
use crate::server::daemon::{ADMIN, ALIAS, Daemon, PROVISIONER, Setup, TlsFiles};
use crate::server::wire::{Answer, Request, Wire, within};
use keymill::transport::Limits;
use keymill::transport::tls::ClientCertificate;
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SPIFFE: &str = "spiffe://example.org/provisioner";
const MISSING: &str = "MissingAuthenticationTokenException";

/// An authority for the server, another for its clients, and a daemon on both.
struct Scene {
    server_ca: Authority,
    client_ca: Authority,
    daemon: Daemon,
}

impl Scene {
    async fn set(change: impl FnOnce(&mut Setup, &Authority, &Authority)) -> Self {
        let (server_ca, client_ca) = (Authority::new("server CA"), Authority::new("client CA"));
        let mut files = TlsFiles::new(&server_ca.server());
        files.config.client_ca = files.client_ca(&client_ca.pem);
        let names = [(SPIFFE, PROVISIONER), ("CN=admin", ADMIN)];
        let names = names.map(|(name, who)| (name.to_owned(), who.arn()));
        files.config.clients.extend(names);
        let mut setup = Setup {
            tls: Some(files),
            ..Setup::default()
        };
        change(&mut setup, &server_ca, &client_ca);
        let daemon = Daemon::start_with(setup).await;
        Self {
            server_ca,
            client_ca,
            daemon,
        }
    }

    async fn usual() -> Self {
        Self::set(|_, _, _| ()).await
    }

    async fn connect(&self, shows: Option<&Issued>) -> io::Result<Wire<TlsStream<TcpStream>>> {
        connect(&self.daemon, &Client::new(&self.server_ca, shows)).await
    }

    async fn ask(&self, shows: Option<&Issued>, request: &Request) -> Answer {
        self.connect(shows).await.unwrap().ask(request).await
    }

    /// Connects in vain; returns the alert that the daemon has sent, and counts its reason.
    async fn refused(&self, client: &Client<'_>, reason: &str) -> Option<AlertDescription> {
        let before = self.failures(reason);
        let error = match connect_raw(&self.daemon, client).await {
            Err(error) => error,
            // In TLS 1.3 a client learns of the refusal of its certificate only when it reads.
            Ok(mut stream) => within(stream.read_u8()).await.unwrap_err(),
        };
        // The daemon may still have to hear of it.
        let counted = async {
            while self.failures(reason) <= before {
                tokio::task::yield_now().await;
            }
        };
        within(counted).await;
        assert_eq!(self.failures(reason), before + 1.0, "{reason}: {error}");
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::AlertReceived(alert) => Some(*alert),
            _ => None,
        }
    }

    fn failures(&self, reason: &str) -> f64 {
        let series = format!("keymill_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        self.daemon.metric(&series).unwrap_or(0.0)
    }

    fn request(&self) -> Request {
        let host = self.daemon.host();
        Request::mint(&host)
    }
}

async fn connect(daemon: &Daemon, client: &Client<'_>) -> io::Result<Wire<TlsStream<TcpStream>>> {
    connect_raw(daemon, client).await.map(Wire::new)
}

async fn connect_raw(daemon: &Daemon, client: &Client<'_>) -> io::Result<TlsStream<TcpStream>> {
    let stream = within(TcpStream::connect(daemon.tcp)).await?;
    let name = ServerName::from(daemon.tcp.ip());
    let connector = TlsConnector::from(client.config());
    within(connector.connect(name, stream)).await
}

#[tokio::test]
async fn a_signed_request_comes_through() {
    let scene = Scene::usual().await;
    let client = Client::new(&scene.server_ca, None);
    let stream = connect_raw(&scene.daemon, &client).await.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(
        session.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut wire = Wire::new(stream);
    let signed = scene.request().signed(&PROVISIONER);
    for _ in 0..3 {
        wire.ask(&signed).await.done();
    }
    let decrypt = json!({"CiphertextBlob": wire.ask(&signed).await.done()["CiphertextBlob"]});
    let decrypt = Request::kms("Decrypt", &scene.daemon.host(), &decrypt);
    wire.ask(&decrypt.signed(&ADMIN)).await.done();
    let open = scene
        .daemon
        .metric(r#"keymill_connections{transport="tls"}"#);
    assert_eq!(open, Some(1.0));
    let asked = r#"keymill_request_duration_seconds_count{operation="Decrypt",transport="tls"}"#;
    assert_eq!(scene.daemon.metric(asked), Some(1.0));
    // 2040-01-01T00:00:00Z.
    let end = "keymill_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(scene.daemon.metric(end), Some(2_208_988_800.0));
}

#[tokio::test]
async fn a_large_batch_comes_through() {
    let scene = Scene::usual().await;
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": 30_000});
    let batch = Request::post("/v1/data-keys", &scene.daemon.host(), &body);
    let answer = scene.ask(None, &batch.signed(&PROVISIONER)).await;
    assert!(!answer.cut && answer.body.len() == 30_000 * 96);
}

#[tokio::test]
async fn nothing_but_tls_1_3_and_http_1_1_is_spoken() {
    let scene = Scene::usual().await;
    let mut old = Client::new(&scene.server_ca, None);
    old.version = &rustls::version::TLS12;
    let alert = scene.refused(&old, "incompatible").await;
    assert_eq!(alert, Some(AlertDescription::ProtocolVersion));
    let mut other = Client::new(&scene.server_ca, None);
    other.protocols = &["h2"];
    let alert = scene.refused(&other, "protocol").await;
    assert_eq!(alert, Some(AlertDescription::NoApplicationProtocol));
    // A client that offers no protocol is taken to speak HTTP/1.1.
    other.protocols = &[];
    let mut wire = connect(&scene.daemon, &other).await.unwrap();
    wire.ask(&scene.request().signed(&PROVISIONER)).await.done();
}

#[tokio::test]
async fn a_client_that_does_not_know_us_says_so() {
    let scene = Scene::usual().await;
    let stranger = Authority::new("stranger");
    let client = Client::new(&stranger, None);
    let alert = scene.refused(&client, "refused_by_client").await;
    assert_eq!(alert, None, "the client speaks, not the daemon");
}

#[tokio::test]
async fn a_certificate_is_the_principal_that_its_name_is_mapped_to() {
    let scene = Scene::usual().await;
    let workload = scene.client_ca.issue(Draft {
        common_name: "admin",
        uris: vec![SPIFFE],
        ..Draft::default()
    });
    let mut wire = scene.connect(Some(&workload)).await.unwrap();
    let made = wire.ask(&scene.request()).await.done();
    let host = scene.daemon.host();
    let decrypt = json!({"CiphertextBlob": made["CiphertextBlob"]});
    let decrypt = Request::kms("Decrypt", &host, &decrypt);
    // The provisioner by its SPIFFE id, and not the admin by its subject.
    let answer = wire.ask(&decrypt).await;
    answer.refusal(400, "AccessDeniedException");
    let admin = scene.client_ca.client("admin");
    scene.ask(Some(&admin), &decrypt).await.done();
    // The same connection serves signed requests, and a wrong signature is refused.
    wire.ask(&decrypt.clone().signed(&ADMIN)).await.done();
    let mut broken = scene.request().signed(&PROVISIONER);
    broken.header("authorization").pop();
    let answer = wire.ask(&broken).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let bearer = scene.request().with("authorization", "Bearer x");
    let answer = wire.ask(&bearer).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn whoever_is_not_mapped_must_sign() {
    let scene = Scene::usual().await;
    let (signed, unsigned) = (scene.request().signed(&PROVISIONER), scene.request());
    let odd = |uris| {
        scene.client_ca.issue(Draft {
            common_name: "admin",
            uris,
            ..Draft::default()
        })
    };
    for certificate in [
        scene.client_ca.client("stranger"),
        scene.client_ca.client("Admin"),
        odd(vec!["spiffe://example.org/other"]),
        odd(vec![SPIFFE, "spiffe://example.org/other"]),
    ] {
        let mut wire = scene.connect(Some(&certificate)).await.unwrap();
        wire.ask(&unsigned).await.refusal(400, MISSING);
        wire.ask(&signed).await.done();
    }
    let answer = scene.ask(None, &unsigned).await;
    answer.refusal(400, MISSING);
    // The operator's routes are the socket's.
    let admin = scene.client_ca.client("admin");
    let body = json!({"Name": "x"});
    let administer = Request::post("/v1/admin/DeletePrincipal", &scene.daemon.host(), &body);
    let answer = scene.ask(Some(&admin), &administer).await;
    answer.refusal(403, "AccessDeniedException");
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_in_the_handshake() {
    let scene = Scene::usual().await;
    let foreign = Authority::new("client CA").client("admin");
    let draft = |from, to| {
        scene.client_ca.issue(Draft {
            common_name: "admin",
            from,
            to,
            ..Draft::default()
        })
    };
    // The daemon's clock is in January 2026.
    let expired = draft((2020, 1, 1), (2026, 1, 1));
    let early = draft((2026, 2, 1), (2040, 1, 1));
    let servers = scene.client_ca.server();
    for (certificate, reason) in [
        (&foreign, "certificate_invalid"),
        (&expired, "certificate_expired"),
        (&early, "certificate_expired"),
        (&servers, "certificate_invalid"),
    ] {
        let client = Client::new(&scene.server_ca, Some(certificate));
        let alert = scene.refused(&client, reason).await;
        assert!(alert.is_some(), "{reason}");
    }
}

#[tokio::test]
async fn a_required_certificate_is_required() {
    let scene = Scene::set(|setup, _, _| {
        let tls = setup.tls.as_mut().unwrap();
        tls.config.client_certificate = ClientCertificate::Required;
    });
    let scene = scene.await;
    let without = Client::new(&scene.server_ca, None);
    let alert = scene.refused(&without, "certificate_missing").await;
    assert_eq!(alert, Some(AlertDescription::CertificateRequired));
    let admin = scene.client_ca.client("admin");
    scene.ask(Some(&admin), &scene.request()).await.done();
}

#[tokio::test]
async fn a_certificate_of_another_common_name_is_refused() {
    let scene = Scene::set(|setup, _, _| {
        let tls = setup.tls.as_mut().unwrap();
        tls.config.client_common_names = vec!["admin".to_owned()];
    });
    let scene = scene.await;
    let other = scene.client_ca.client("other");
    let client = Client::new(&scene.server_ca, Some(&other));
    let alert = scene.refused(&client, "certificate_invalid").await;
    assert_eq!(alert, Some(AlertDescription::AccessDenied));
    // Of another authority, the right name is of no use.
    let foreign = Authority::new("client CA").client("admin");
    let client = Client::new(&scene.server_ca, Some(&foreign));
    scene.refused(&client, "certificate_invalid").await;
    let admin = scene.client_ca.client("admin");
    scene.ask(Some(&admin), &scene.request()).await.done();
}

#[tokio::test]
async fn what_is_revoked_or_may_be_is_refused() {
    let scene = Scene::set(|setup, _, client_ca| {
        let tls = setup.tls.as_mut().unwrap();
        tls.config.client_crl = tls.client_crl(&client_ca.revoked(&[7], (2040, 1, 1)));
    });
    let scene = scene.await;
    let numbered = |serial| {
        scene.client_ca.issue(Draft {
            common_name: "admin",
            serial,
            ..Draft::default()
        })
    };
    let (revoked, good) = (numbered(7), numbered(8));
    let client = Client::new(&scene.server_ca, Some(&revoked));
    scene.refused(&client, "certificate_revoked").await;
    scene.ask(Some(&good), &scene.request()).await.done();
    for list in [
        scene.client_ca.revoked(&[], (2026, 1, 1)),
        Authority::new("other").revoked(&[], (2040, 1, 1)),
    ] {
        scene.daemon.tls().client_crl(&list);
        scene.daemon.reload();
        let client = Client::new(&scene.server_ca, Some(&good));
        scene.refused(&client, "revocation_unknown").await;
    }
}

#[tokio::test]
async fn a_connection_outlives_its_clients_certificate_without_its_rights() {
    let scene = Scene::usual().await;
    let brief = scene.client_ca.issue(Draft {
        common_name: "admin",
        to: (2026, 1, 16),
        ..Draft::default()
    });
    let mut wire = scene.connect(Some(&brief)).await.unwrap();
    wire.ask(&scene.request()).await.done();
    scene.daemon.clock.advance(Duration::from_secs(86_400));
    wire.ask(&scene.request()).await.refusal(400, MISSING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_streams_containers_until_it_ends() {
    let scene = Scene::usual().await;
    let brief = scene.client_ca.issue(Draft {
        common_name: "admin",
        to: (2026, 1, 16),
        ..Draft::default()
    });
    // More than a signed request may have.
    let large = bind::of_tenant(&"x".repeat(300), 8000);
    let pieces = bind::pieces(&[large.clone(), large]);
    assert!(pieces[0].len() > 1 << 21);
    for ends in [false, true] {
        let wire = scene.connect(Some(&brief)).await.unwrap();
        let mut writer = bind::Writer::begin(wire).await;
        writer.send(&pieces[0]).await;
        assert_eq!(writer.0.peek_head().await, 200);
        if ends {
            scene.daemon.clock.advance(Duration::from_secs(86_400));
            writer.send(&pieces[1][..1000]).await;
            writer.send(&pieces[1][1000..]).await;
            assert!(bind::rows_of_cut(&writer.answer().await) <= 8000);
        } else {
            for piece in &pieces[2..] {
                writer.send(piece).await;
            }
            writer.send(b"").await;
            assert!(!writer.answer().await.cut);
        }
    }
    let stranger = bind::Writer::begin(scene.connect(None).await.unwrap()).await;
    stranger.answer().await.refusal(400, MISSING);
}

#[tokio::test]
async fn changed_files_are_in_force_for_new_connections() {
    let scene = Scene::usual().await;
    let mut old = scene.connect(None).await.unwrap();
    let signed = scene.request().signed(&PROVISIONER);
    old.ask(&signed).await.done();
    let next = Authority::new("next CA");
    scene.daemon.tls().server(&next.server());
    scene.daemon.reload_if_changed();
    old.ask(&signed).await.done();
    assert!(scene.connect(None).await.is_err());
    let mut new = connect(&scene.daemon, &Client::new(&next, None))
        .await
        .unwrap();
    new.ask(&signed).await.done();
}

#[tokio::test]
async fn broken_files_leave_the_old_ones_in_force_until_they_are_mended() {
    let scene = Scene::usual().await;
    let signed = scene.request().signed(&PROVISIONER);
    let files = scene.daemon.tls();
    let failures = || scene.daemon.metric("keymill_tls_reload_failures_total");
    assert_eq!(failures(), Some(0.0));
    scene.daemon.reload_if_changed();
    let (good, other) = (scene.server_ca.server(), scene.server_ca.server());
    let breaks: [&dyn Fn(); 5] = [
        &|| fs::write(&files.config.certificate, "nonsense").unwrap(),
        &|| fs::remove_file(&files.config.key).unwrap(),
        &|| fs::write(&files.config.key, &other.key).unwrap(),
        &|| fs::write(&files.config.client_ca, "").unwrap(),
        &|| {
            let wide = fs::Permissions::from_mode(0o644);
            fs::set_permissions(&files.config.key, wide).unwrap();
        },
    ];
    for (count, harm) in breaks.iter().enumerate() {
        harm();
        scene.daemon.reload_if_changed();
        assert_eq!(failures(), Some(count as f64 + 1.0));
        scene.ask(None, &signed).await.done();
        files.server(&good);
        files.client_ca(&scene.client_ca.pem);
        scene.daemon.reload_if_changed();
        assert_eq!(failures(), Some(count as f64 + 1.0));
        scene.ask(None, &signed).await.done();
    }
}

#[tokio::test]
async fn plain_http_is_closed_and_not_reset() {
    let scene = Scene::usual().await;
    let mut stream = TcpStream::connect(scene.daemon.tcp).await.unwrap();
    let request = scene.request().signed(&PROVISIONER);
    stream.write_all(&request.bytes()).await.unwrap();
    let mut received = Vec::new();
    within(stream.read_to_end(&mut received)).await.unwrap();
    // An alert of TLS, and nothing else.
    assert!(received.len() == 7 && received[0] == 21, "{received:?}");
    assert_eq!(scene.failures("not_tls"), 1.0);
}

#[tokio::test]
async fn a_handshake_that_stalls_counts_and_is_cut() {
    let scene = Scene::set(|setup, _, _| {
        setup.limits = Limits {
            handshake_timeout_ms: 100,
            ..Limits::default()
        };
    });
    let scene = scene.await;
    let mut silent = TcpStream::connect(scene.daemon.tcp).await.unwrap();
    // The beginning of a record.
    silent.write_all(&[22, 3, 1]).await.unwrap();
    let mut wire = Wire::new(silent);
    assert!(wire.is_closed().await);
    assert_eq!(scene.failures("timeout"), 1.0);
    drop(scene.connect(None).await.unwrap());
}

#[tokio::test]
async fn hold_2_a_handshake_that_stalls_makes_room() {
    let scene = Scene::set(|setup, _, _| {
        setup.limits = Limits {
            connections_max: 1,
            // Longer than the test waits.
            handshake_timeout_ms: 3_600_000,
            ..Limits::default()
        };
    });
    let scene = scene.await;
    let silent = TcpStream::connect(scene.daemon.tcp).await.unwrap();
    let answer = scene.ask(None, &scene.request().signed(&PROVISIONER)).await;
    answer.done();
    assert!(Wire::new(silent).is_closed().await);
}

#[tokio::test]
async fn a_handshake_in_progress_does_not_hold_up_the_drain() {
    let mut scene = Scene::usual().await;
    let silent = TcpStream::connect(scene.daemon.tcp).await.unwrap();
    let mut idle = scene.connect(None).await.unwrap();
    scene.daemon.begin_to_drain();
    assert!(idle.is_closed().await);
    // Within a minute, and so not by the deadline of the drain and that of the handshake together.
    scene.daemon.drained().await;
    assert!(Wire::new(silent).is_closed().await);
}
