//! Calls of proxies on this machine, over TLS, good or with one fault each.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::metrics::Metrics;
use crate::tls_files::tests::Authority;
use crate::xks_proxy::sealed::{Sealed, integrity_value};
use crate::xks_proxy::{
    ErrorName, ExternalKeyId, Proxies, ProxyAddress, ProxyCredential, RequestMetadata, Store,
};
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use server::{Asked, Reply, Server, ok, refused};
use std::collections::BTreeMap;
use std::path::Path;

mod faults;
pub(crate) mod server;
mod signature;
mod tls;

/// 2026-06-01, within the time of the certificates.
const NOW: Timestamp = Timestamp(1_780_272_000_000_000);
const HOST: &str = "proxy.example";
const URI_PATH: &str = "/orders/kms/xks/v1";
const ACCESS_KEY_ID: &str = "XKSPABCDEFGHIJKLMN27";
const SECRET: &str = "0123456789abcdefghijABCDEFGHIJ/+=0123456789";
const REGION: &str = "eu-central-1";
const METADATA: RequestMetadata<'_> = RequestMetadata {
    principal: "arn:aws:iam::111122223333:user/a",
    operation: "Encrypt",
    request_id: "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
    key_arn: Some("arn:aws:kms:eu-central-1:111122223333:key/k"),
    via_service: None,
};

/// A daemon that may call one proxy.
struct Caller {
    proxies: Proxies,
    clock: Clock,
    metrics: Metrics,
    address: ProxyAddress,
    credential: ProxyCredential,
    id: ExternalKeyId,
}

fn config(address: SocketAddr, ca_file: &Path) -> Config {
    Config {
        host: HOST.to_owned(),
        address: address.to_string(),
        ca_file: ca_file.to_owned(),
        certificate: PathBuf::new(),
        private_key: PathBuf::new(),
        // Many tests run at a time.
        timeout_ms: 5000,
    }
}

impl Caller {
    fn new(config: Config) -> Self {
        let (clock, metrics) = (Clock::manual(NOW), Metrics::new().unwrap());
        let configs = BTreeMap::from([("vault".to_owned(), config)]);
        let secret = SecretBytes::copy_of(SECRET.as_bytes());
        Self {
            proxies: Proxies::new(&configs, &clock, &metrics).unwrap(),
            clock,
            metrics,
            address: ProxyAddress::parse(&format!("https://{HOST}"), URI_PATH).unwrap(),
            credential: ProxyCredential::new(ACCESS_KEY_ID, secret).unwrap(),
            id: "orders.1".parse().unwrap(),
        }
    }

    /// That calls a server which answers so.
    async fn of(
        authority: &Authority,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> (Self, Server) {
        let server = Server::new(authority.server(HOST, &TLS13), answer).await;
        (Self::new(config(server.address, &authority.path)), server)
    }

    fn store(&self) -> Store<'_> {
        Store {
            address: &self.address,
            credential: &self.credential,
            region: REGION,
        }
    }

    fn host(&self) -> &Host {
        &self.proxies.hosts[HOST]
    }

    async fn health(&self) -> Result<(), ProxyError> {
        let health = self.proxies.health(&self.store(), &METADATA).await;
        health.map(drop)
    }

    async fn encrypt(&self) -> Result<Sealed, ProxyError> {
        let (store, proxies) = (self.store(), &self.proxies);
        proxies
            .encrypt(&store, &METADATA, &self.id, b"text", b"context")
            .await
    }
}

fn healthy() -> Reply {
    ok(&json!({
        "xksProxyFleetSize": 1,
        "xksProxyVendor": "v",
        "xksProxyModel": "m",
        "ekmVendor": "e",
        "ekmFleetDetails": [{"id": "a", "model": "b", "healthStatus": "ACTIVE"}],
    }))
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn bytes_of(value: &Value) -> Vec<u8> {
    base64_simd::STANDARD
        .decode_to_vec(value.as_str().unwrap_or_default())
        .unwrap()
}

/// A proxy whose cipher turns every bit.
fn proxy(asked: &Asked) -> Reply {
    let turned = |member: &str| {
        let bytes = bytes_of(&asked.body[member]);
        bytes.into_iter().map(|byte| !byte).collect::<Vec<_>>()
    };
    let additional = bytes_of(&asked.body["additionalAuthenticatedData"]);
    match asked.path.strip_prefix(URI_PATH).unwrap() {
        "/health" => healthy(),
        "/keys/orders.1/metadata" => ok(&json!({
            "keySpec": "AES_256",
            "keyUsage": ["ENCRYPT", "DECRYPT"],
            "keyStatus": "ENABLED",
        })),
        "/keys/orders.1/encrypt" => {
            let (vector, tag, metadata) = ([2; 12], [3; 16], b"version 1");
            let text = turned("plaintext");
            let value = integrity_value(&additional, metadata, &vector, &text, &tag);
            ok(&json!({
                "ciphertext": base64(&text),
                "initializationVector": base64(&vector),
                "authenticationTag": base64(&tag),
                "ciphertextMetadata": base64(metadata),
                "ciphertextDataIntegrityValue": base64(&value),
            }))
        }
        "/keys/orders.1/decrypt" => ok(&json!({"plaintext": base64(&turned("ciphertext"))})),
        _ => refused(ErrorName::InvalidUriPathException),
    }
}

#[tokio::test]
async fn each_operation_is_asked_and_answered_over_one_connection() {
    let authority = Authority::new();
    for version in [&TLS13, &TLS12] {
        let server = Server::new(authority.server(HOST, version), proxy).await;
        let caller = Caller::new(config(server.address, &authority.path));
        let (proxies, store, id) = (&caller.proxies, caller.store(), &caller.id);
        let health = proxies.health(&store, &METADATA).await.unwrap();
        assert_eq!((health.fleet_size, health.managers.len()), (1, 1));
        let metadata = proxies.metadata(&store, &METADATA, id).await.unwrap();
        assert!(metadata.is_usable());
        let sealed = proxies
            .encrypt(&store, &METADATA, id, b"text", b"context")
            .await
            .unwrap();
        assert_eq!(
            (sealed.vector(), sealed.tag()),
            ([2; 12].as_slice(), &[3; 16])
        );
        assert_eq!(sealed.metadata(), b"version 1");
        assert_ne!(sealed.ciphertext(), b"text");
        let opened = proxies
            .decrypt(&store, &METADATA, id, &sealed, b"context")
            .await
            .unwrap();
        assert_eq!(opened, b"text");
        assert_eq!(server.connections(), 1);
        let asked = server.asked();
        let paths: Vec<_> = asked.iter().map(|one| one.path.as_str()).collect();
        let ends = [
            "health",
            "keys/orders.1/metadata",
            "keys/orders.1/encrypt",
            "keys/orders.1/decrypt",
        ];
        assert_eq!(paths, ends.map(|end| format!("{URI_PATH}/{end}")));
        for one in &asked {
            assert_eq!(
                (one.method.as_str(), one.header("host")),
                ("POST", Some(HOST))
            );
            assert_eq!(one.header("content-type"), Some("application/json"));
            signature::check(one);
        }
        assert_eq!(asked[2].body["plaintext"], base64(b"text"));
        assert_eq!(asked[3].body["ciphertextMetadata"], base64(b"version 1"));
    }
}

#[tokio::test]
async fn xks_3_a_host_that_is_not_named_is_not_called() {
    let authority = Authority::new();
    let (mut caller, server) = Caller::of(&authority, proxy).await;
    for host in [
        "other.example",
        "proxy.example.",
        "a.proxy.example",
        "localhost",
    ] {
        caller.address = ProxyAddress::parse(&format!("https://{host}"), URI_PATH).unwrap();
        assert!(!caller.proxies.may_call(&caller.address));
        let refusal = ProxyError::NotConfigured(host.to_owned());
        assert_eq!(caller.health().await, Err(refusal));
    }
    assert_eq!(server.connections(), 0);
    // Letters of a host's name are alike.
    caller.address = ProxyAddress::parse("https://PROXY.example", URI_PATH).unwrap();
    assert!(caller.proxies.may_call(&caller.address));
    assert_eq!(caller.health().await, Ok(()));
    let none = Proxies::none(&caller.clock);
    let called = none.health(&caller.store(), &METADATA).await;
    assert_eq!(called, Err(ProxyError::NotConfigured(HOST.to_owned())));
}

#[tokio::test]
async fn calls_are_counted_by_operation_and_result() {
    let authority = Authority::new();
    let (caller, _server) = Caller::of(&authority, proxy).await;
    caller.health().await.unwrap();
    let metrics = caller.metrics.render();
    let calls = |operation: &str, result: &str, count: u32| {
        format!(
            "keymill_xks_proxy_calls_total{{operation=\"{operation}\",result=\"{result}\"}} {count}"
        )
    };
    for line in [
        calls("XksGetHealthStatus", "ok", 1),
        calls("XksGetHealthStatus", "timed_out", 0),
        calls("XksDecrypt", "ok", 0),
        "keymill_xks_proxy_call_duration_seconds_count{operation=\"XksGetHealthStatus\"} 1"
            .to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn a_connection_that_died_idle_is_replaced_once() {
    let authority = Authority::new();
    // Each connection has one answer, and ends at the second request.
    let (caller, server) = Caller::of(&authority, |asked| match asked.of_connection {
        0 => proxy(asked),
        _ => Reply::Close,
    })
    .await;
    for connections in 1..=3 {
        assert_eq!(caller.health().await, Ok(()));
        assert_eq!(server.connections(), connections);
    }
    // A request is not sent a third time.
    let (caller, server) = Caller::of(&authority, |asked| match asked.number {
        0 => proxy(asked),
        _ => Reply::Close,
    })
    .await;
    assert_eq!(caller.health().await, Ok(()));
    let called = caller.health().await;
    assert!(
        matches!(called, Err(ProxyError::NotReachable(_))),
        "{called:?}"
    );
    assert_eq!((server.connections(), server.asked().len()), (2, 3));
    // Nor a second time on a connection that is new.
    let called = caller.health().await;
    assert!(
        matches!(called, Err(ProxyError::NotReachable(_))),
        "{called:?}"
    );
    assert_eq!((server.connections(), server.asked().len()), (3, 4));
}

#[tokio::test]
async fn idle_connections_are_few_and_not_old() {
    let authority = Authority::new();
    let (caller, server) = Caller::of(&authority, proxy).await;
    caller.health().await.unwrap();
    caller.clock.advance(IDLE_TIME - Duration::from_millis(1));
    caller.host().close_idle();
    assert_eq!(caller.host().locked().len(), 1);
    caller.health().await.unwrap();
    assert_eq!(server.connections(), 1);
    caller.clock.advance(IDLE_TIME);
    caller.health().await.unwrap();
    assert_eq!(server.connections(), 2);
    caller.clock.advance(IDLE_TIME);
    caller.host().close_idle();
    assert!(caller.host().locked().is_empty());
}

#[tokio::test]
async fn calls_under_way_are_bounded() {
    let authority = Authority::new();
    let (caller, server) = Caller::of(&authority, proxy).await;
    let places = caller
        .host()
        .room
        .acquire_many(u32::try_from(CALLS_MAX).unwrap())
        .await;
    assert_eq!(caller.health().await, Err(ProxyError::Busy));
    assert_eq!(server.connections(), 0);
    drop(places);
    // Calls that end give their places back, however they end.
    assert_eq!(caller.health().await, Ok(()));
    assert_eq!(caller.host().room.available_permits(), CALLS_MAX);
}
