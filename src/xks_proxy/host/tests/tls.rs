//! Who vouches for a proxy and for its caller.

use super::server::Server;
use super::{Caller, HOST, NOW, config, proxy};
use crate::clock::Clock;
use crate::tls_files::tests::Authority;
use crate::xks_proxy::host::Config;
use crate::xks_proxy::{Proxies, ProxyError};
use rustls::version::{TLS12, TLS13};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

async fn tls_failure(config: Config) -> String {
    match Caller::new(config).health().await {
        Err(ProxyError::Tls(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_no_authority_vouches_for_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (by, host) in [
        (&theirs, HOST),
        (&ours, "other.example"),
        (&ours, "127.0.0.1"),
    ] {
        let server = Server::new(by.server(host, &TLS13), proxy).await;
        let reason = tls_failure(config(server.address, &ours.path)).await;
        assert!(reason.contains("certificate"), "{reason}");
        assert_eq!(server.asked().len(), 0);
    }
    // No TLS at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 x\r\n\r\n").await.unwrap();
        std::future::pending::<String>().await
    };
    let reason = tokio::select! {
        reason = tls_failure(config(address, &ours.path)) => reason,
        never = answers => never,
    };
    assert!(reason.contains("corrupt message"), "{reason}");
    // The time is this daemon's, too.
    let (caller, _server) = Caller::of(&ours, proxy).await;
    caller.clock.advance(Duration::from_secs(366 * 86_400));
    let called = caller.health().await;
    assert!(
        matches!(&called, Err(ProxyError::Tls(reason)) if reason.contains("expired")),
        "{called:?}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_configured() {
    let (ours, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    for version in [&TLS13, &TLS12] {
        let tls = ours.server_for(HOST, version, Some(&clients));
        let server = Server::new(tls, proxy).await;
        let plain = config(server.address, &ours.path);
        let showing = |authority: &Authority| {
            let (certificate, private_key) = authority.client();
            Config {
                certificate,
                private_key,
                ..plain.clone()
            }
        };
        tls_failure(plain.clone()).await;
        tls_failure(showing(&others)).await;
        assert_eq!(server.asked().len(), 0);
        assert_eq!(Caller::new(showing(&clients)).health().await, Ok(()));
    }
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Server::new(theirs.server(HOST, &TLS13), proxy).await;
    let caller = Caller::new(config(server.address, &ours.path));
    assert!(caller.health().await.is_err());
    caller.host().reload_if_changed();
    assert!(caller.health().await.is_err());
    std::fs::copy(&theirs.path, &ours.path).unwrap();
    caller.host().reload_if_changed();
    assert_eq!(caller.health().await, Ok(()));
    // What cannot be used changes nothing.
    std::fs::write(&ours.path, "").unwrap();
    caller.host().reload_if_changed();
    caller.host().locked().clear();
    assert_eq!(caller.health().await, Ok(()));
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn upkeep_reads_files_that_have_changed_until_it_is_stopped() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Server::new(theirs.server(HOST, &TLS13), proxy).await;
    let caller = Caller::new(config(server.address, &ours.path));
    assert!(caller.health().await.is_err());
    std::fs::copy(&theirs.path, &ours.path).unwrap();
    let (mut tasks, (stop, stopped)) = (JoinSet::new(), watch::channel(()));
    caller.proxies.keep(&mut tasks, &stopped);
    let mut looks = 0;
    while caller.health().await.is_err() {
        looks += 1;
        assert!(looks < 1000, "the files are not read");
        tokio::task::yield_now().await;
    }
    drop(stop);
    assert!(tasks.join_next().await.unwrap().is_ok());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let good = config(([127, 0, 0, 1], 1).into(), &authority.path);
    let (certificate, private_key) = authority.client();
    let (_, other_key) = authority.client();
    std::fs::copy(&authority.path, authority.path.with_extension("other")).unwrap();
    let absent = authority.path.with_file_name("absent.pem");
    let refusal = |config: Config| {
        let configs = BTreeMap::from([("vault".to_owned(), config)]);
        let checked = Proxies::check(&configs, &Clock::manual(NOW));
        checked
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert_eq!(refusal(good.clone()), "");
    let line = refusal(Config {
        ca_file: absent.clone(),
        ..good.clone()
    });
    let place = format!(
        "xks_proxies.vault.ca_file: {}: No such file",
        absent.display()
    );
    assert!(line.starts_with(&place), "{line}");
    let with = |certificate: &Path, private_key: &Path| Config {
        certificate: certificate.to_owned(),
        private_key: private_key.to_owned(),
        ..good.clone()
    };
    assert_eq!(refusal(with(&certificate, &other_key)), "");
    let line = refusal(with(&absent, &private_key));
    assert!(
        line.starts_with("xks_proxies.vault.certificate: "),
        "{line}"
    );
    let line = refusal(with(&authority.path, &private_key));
    assert!(
        line.contains("does not belong to the first certificate"),
        "{line}"
    );
}
