//! Custom key stores, and the keys in them, against a proxy on this machine.

use super::ErrorCode as Code;
use super::*;
use crate::keystore::{Connection, KeyStoreEntry};
use crate::tls_files::tests::Authority;
use crate::xks_proxy::ErrorName;
use crate::xks_proxy::host::tests::server::{Asked, Reply, Server, ok, refused};
use crate::xks_proxy::sealed::integrity_value;
use rustls::version::TLS13;
use sha2::{Digest, Sha256};
use std::sync::Mutex;

mod data_path;
mod refusals;
mod unavailable;

const HOST: &str = "proxy.example";
const URI_PATH: &str = "/orders/kms/xks/v1";
const SECRET: &str = "0123456789abcdefghijABCDEFGHIJ/+=0123456789";
/// From [`NOW`] to 2026-06-01, within the time of the certificates.
const TO_2026: Duration = Duration::from_secs(80_272_000);
pub(crate) const NOT_CONNECTED: &str = "This KMS key is in a custom key store that is not connected to its external key store proxy. Connect the external key store \
     and try the request again.";

type Act = Box<dyn FnOnce() + Send>;

/// What the proxy does.
#[derive(Default)]
struct Mode {
    refuses: Option<ErrorName>,
    /// Before it answers an operation on a key.
    acts: Option<Act>,
    /// Of the key `disabled`, and of the whole fleet.
    is_unavailable: bool,
}

/// A daemon, and the proxy of other keys that it may call.
pub(crate) struct Scene {
    pub(crate) bench: Bench,
    server: Server,
    mode: Arc<Mutex<Mode>>,
    _authority: Authority,
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn bytes_of(body: &Value, member: &str) -> Vec<u8> {
    let text = body[member].as_str().unwrap_or_default();
    base64_simd::STANDARD.decode_to_vec(text).unwrap()
}

/// Turns every bit, and authenticates text and additional data.
fn tag(additional: &[u8], text: &[u8]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(additional).chain_update(text);
    *hash.finalize().first_chunk().unwrap()
}

fn on_key(operation: &str, body: &Value) -> Reply {
    let turned = |member: &str| -> Vec<u8> {
        let bytes = bytes_of(body, member);
        bytes.into_iter().map(|byte| !byte).collect()
    };
    let additional = bytes_of(body, "additionalAuthenticatedData");
    match operation {
        "metadata" => ok(&json!({
            "keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "ENABLED",
        })),
        "encrypt" => {
            let (text, vector, metadata) = (turned("plaintext"), [2; 12], b"1");
            let tag = tag(&additional, &text);
            let value = integrity_value(&additional, metadata, &vector, &text, &tag);
            ok(&json!({
                "ciphertext": base64(&text),
                "initializationVector": base64(&vector),
                "authenticationTag": base64(&tag),
                "ciphertextMetadata": base64(metadata),
                "ciphertextDataIntegrityValue": base64(&value),
            }))
        }
        _ => {
            let text = bytes_of(body, "ciphertext");
            if bytes_of(body, "authenticationTag") != tag(&additional, &text) {
                return refused(ErrorName::InvalidCiphertextException);
            }
            ok(&json!({"plaintext": base64(&turned("ciphertext"))}))
        }
    }
}

fn answer(asked: &Asked, mode: &Mutex<Mode>) -> Reply {
    let found = asked.path.rsplit_once("/kms/xks/v1");
    let Some((_, path)) = found.filter(|(prefix, _)| prefix.starts_with("/orders")) else {
        return refused(ErrorName::InvalidUriPathException);
    };
    let (acts, refuses, is_unavailable) = {
        let mut mode = mode.lock().unwrap();
        let on_key = path != "/health";
        let acts = mode.acts.take_if(|_| on_key);
        (acts, mode.refuses, mode.is_unavailable)
    };
    if let Some(act) = acts {
        act();
    }
    if let Some(name) = refuses {
        return refused(name);
    }
    let status = if is_unavailable {
        "UNAVAILABLE"
    } else {
        "ACTIVE"
    };
    match path.split('/').collect::<Vec<_>>()[1..] {
        ["health"] => ok(&json!({
            "xksProxyFleetSize": 1, "xksProxyVendor": "v", "xksProxyModel": "m", "ekmVendor": "e",
            "ekmFleetDetails": [{"id": "a", "model": "b", "healthStatus": status}],
        })),
        ["keys", "none", _] => refused(ErrorName::KeyNotFoundException),
        ["keys", "small", _] => ok(&json!({
            "keySpec": "AES_128", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "ENABLED",
        })),
        ["keys", "disabled", _] => ok(&json!({
            "keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "DISABLED",
        })),
        ["keys", _, operation] => on_key(operation, &asked.body),
        _ => refused(ErrorName::InvalidUriPathException),
    }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let (authority, mode) = (Authority::new(), Arc::<Mutex<Mode>>::default());
        let of_server = Arc::clone(&mode);
        let tls = authority.server(HOST, &TLS13);
        let server = Server::new(tls, move |asked| answer(asked, &of_server)).await;
        let host = |host: &str, address: String| xks_proxy::Config {
            host: host.to_owned(),
            address,
            ca_file: authority.path.clone(),
            certificate: Default::default(),
            private_key: Default::default(),
            // Many tests run at a time.
            timeout_ms: 5000,
        };
        let hosts = BTreeMap::from([
            ("vault".to_owned(), host(HOST, server.address.to_string())),
            (
                "nowhere".to_owned(),
                host("nowhere.example", "127.0.0.1:1".to_owned()),
            ),
        ]);
        let bench = Bench::with_proxies(&hosts).await;
        bench.api.clock.advance(TO_2026);
        Self {
            bench,
            server,
            mode,
            _authority: authority,
        }
    }

    /// How often the proxy was called.
    pub(crate) fn asked(&self) -> usize {
        self.server.asked().len()
    }

    fn refuses(&self, name: impl Into<Option<ErrorName>>) {
        self.mode.lock().unwrap().refuses = name.into();
    }

    /// A key store of this name.
    async fn store(&self, name: &str) -> String {
        let made = self.bench.done("CreateCustomKeyStore", asked(name)).await;
        made["CustomKeyStoreId"].as_str().unwrap().to_owned()
    }

    async fn described(&self, store: &str) -> Value {
        let body = json!({"CustomKeyStoreId": store});
        let mut answer = self.bench.done("DescribeCustomKeyStores", body).await;
        assert_eq!(answer["Truncated"], false);
        answer["CustomKeyStores"][0].take()
    }

    /// Connects, and waits for the end of it.
    async fn connect(&self, store: &str) -> Value {
        let body = json!({"CustomKeyStoreId": store});
        let done = self.bench.done("ConnectCustomKeyStore", body).await;
        assert_eq!(done, json!({}));
        loop {
            let described = self.described(store).await;
            if described["ConnectionState"] != "CONNECTING" {
                return described;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A key store that is connected.
    pub(crate) async fn connected(&self) -> String {
        let store = self.store("orders").await;
        assert_eq!(self.connect(&store).await["ConnectionState"], "CONNECTED");
        store
    }

    /// A key store that is connected, and a key in it.
    pub(crate) async fn key(&self) -> (String, String) {
        let store = self.connected().await;
        let created = self.bench.done("CreateKey", new_key(&store, "main")).await;
        let id = created["KeyMetadata"]["KeyId"].as_str().unwrap();
        (store, id.to_owned())
    }
}

/// The members of `CreateCustomKeyStore`.
fn asked(name: &str) -> Value {
    json!({
        "CustomKeyStoreName": name,
        "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
        "XksProxyConnectivity": "PUBLIC_ENDPOINT",
        "XksProxyUriEndpoint": format!("https://{HOST}"),
        "XksProxyUriPath": URI_PATH,
        "XksProxyAuthenticationCredential": {
            "AccessKeyId": "ABCDEFGHIJKLMNOPQR27", "RawSecretAccessKey": SECRET,
        },
    })
}

/// The members of `CreateKey`.
pub(crate) fn new_key(store: &str, external: &str) -> Value {
    json!({"Origin": "EXTERNAL_KEY_STORE", "CustomKeyStoreId": store, "XksKeyId": external})
}

#[tokio::test]
async fn a_key_store_is_made_connected_changed_and_deleted() {
    let scene = Scene::new().await;
    let bench = &scene.bench;
    let store = scene.store("orders").await;
    let named = json!({"CustomKeyStoreId": store});
    let expected = json!({
        "CustomKeyStoreId": store,
        "CustomKeyStoreName": "orders",
        "CustomKeyStoreType": "EXTERNAL_KEY_STORE",
        "ConnectionState": "DISCONNECTED",
        "CreationDate": 1_780_272_000.123,
        "XksProxyConfiguration": {
            "Connectivity": "PUBLIC_ENDPOINT", "AccessKeyId": "ABCDEFGHIJKLMNOPQR27",
            "UriEndpoint": "https://proxy.example", "UriPath": URI_PATH,
        },
    });
    assert_eq!(scene.described(&store).await, expected);
    assert_eq!(scene.connect(&store).await["ConnectionState"], "CONNECTED");
    // Again is not an error, and changes nothing.
    assert_eq!(scene.connect(&store).await["ConnectionState"], "CONNECTED");
    let renamed = with(named.clone(), "NewCustomKeyStoreName", json!("renamed"));
    bench.done("UpdateCustomKeyStore", renamed).await;
    let by_name = json!({"CustomKeyStoreName": "renamed"});
    let found = bench.done("DescribeCustomKeyStores", by_name).await;
    assert_eq!(found["CustomKeyStores"][0]["CustomKeyStoreId"], store);
    let moved = with(
        named.clone(),
        "XksProxyUriPath",
        json!("/orders-2/kms/xks/v1"),
    );
    bench.done("UpdateCustomKeyStore", moved).await;
    bench.done("DisconnectCustomKeyStore", named.clone()).await;
    bench.done("DeleteCustomKeyStore", named.clone()).await;
    let gone = Code::CustomKeyStoreNotFoundException;
    bench
        .refused("DescribeCustomKeyStores", named, gone, "")
        .await;
    let records = bench.records();
    let created = records
        .iter()
        .find(|one| one["eventName"] == "CreateCustomKeyStore");
    let created = created.unwrap();
    let parameters = json!({
        "customKeyStoreName": "orders", "customKeyStoreType": "EXTERNAL_KEY_STORE",
        "xksProxyConnectivity": "PUBLIC_ENDPOINT", "xksProxyUriEndpoint": "https://proxy.example",
        "xksProxyUriPath": URI_PATH,
    });
    assert_eq!(created["requestParameters"], parameters);
    assert_eq!(
        created["responseElements"],
        json!({"customKeyStoreId": store})
    );
    // A credential is in no record.
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("ABCDEFGHIJKLMNOPQR27"));
}

#[tokio::test]
async fn a_connection_that_fails_says_why_until_it_is_ended() {
    let scene = Scene::new().await;
    let store = scene.store("orders").await;
    let named = json!({"CustomKeyStoreId": store});
    scene.refuses(ErrorName::AuthenticationFailedException);
    let described = scene.connect(&store).await;
    assert_eq!(described["ConnectionState"], "FAILED");
    assert_eq!(described["ConnectionErrorCode"], "INVALID_CREDENTIALS");
    for operation in [
        "ConnectCustomKeyStore",
        "UpdateCustomKeyStore",
        "DeleteCustomKeyStore",
    ] {
        let message =
            format!("The custom key store {store} is FAILED, which is not valid for {operation}.");
        let body = with(named.clone(), "NewCustomKeyStoreName", json!("b"));
        let code = Code::CustomKeyStoreInvalidStateException;
        scene.bench.refused(operation, body, code, &message).await;
    }
    scene.bench.done("DisconnectCustomKeyStore", named).await;
    scene.refuses(None);
    scene.mode.lock().unwrap().is_unavailable = true;
    let described = scene.connect(&store).await;
    assert_eq!(described["ConnectionErrorCode"], "XKS_PROXY_NOT_REACHABLE");
}

#[tokio::test]
async fn what_a_killed_daemon_left_connecting_is_connected_by_the_next() {
    let scene = Scene::new().await;
    let store = scene.store("orders").await;
    let id = store.parse().unwrap();
    let entry = Arc::clone(&scene.bench.api.keystore.snapshot().key_stores[&id]);
    let left = KeyStoreEntry {
        connection: Connection::Connecting,
        ..KeyStoreEntry::clone(&entry)
    };
    let put = |_: &crate::keystore::Snapshot| {
        Ok::<_, ApiError>((vec![Change::PutKeyStore(left.clone())], ()))
    };
    scene.bench.api.keystore.apply(put).await.unwrap();
    scene.bench.api.connect_key_stores().await;
    let described = scene.described(&store).await;
    assert_eq!(described["ConnectionState"], "CONNECTED");
    // It stays so, whatever the proxy says at a start.
    scene.refuses(ErrorName::InternalException);
    scene.bench.api.greet_key_stores().await;
    scene.bench.api.connect_key_stores().await;
    let described = scene.described(&store).await;
    assert_eq!(described["ConnectionState"], "CONNECTED");
}

#[tokio::test]
async fn key_stores_are_listed_by_pages_in_their_account_and_region() {
    let scene = Scene::new().await;
    let bench = &scene.bench;
    let mut made = Vec::new();
    for number in 0..3 {
        let body = with(
            asked(&format!("store {number}")),
            "XksProxyUriPath",
            json!(format!("/orders-{number}/kms/xks/v1")),
        );
        made.push(bench.done("CreateCustomKeyStore", body).await["CustomKeyStoreId"].take());
    }
    made.sort_by_key(Value::to_string);
    let page = bench
        .done("DescribeCustomKeyStores", json!({"Limit": 2}))
        .await;
    assert_eq!(page["Truncated"], true);
    let next = json!({"Limit": 2, "Marker": page["NextMarker"]});
    let last = bench.done("DescribeCustomKeyStores", next).await;
    assert_eq!(last["Truncated"], false);
    let pages = [&page, &last].into_iter();
    let ids = pages.flat_map(|page| page["CustomKeyStores"].as_array().unwrap());
    let ids: Vec<_> = ids.map(|store| store["CustomKeyStoreId"].clone()).collect();
    assert_eq!(ids, made);
    // Of another account there are none, and none by id.
    let other = Principal::operator(0, OTHER.parse().unwrap());
    let none = bench
        .done_as(&other, "DescribeCustomKeyStores", json!({}))
        .await;
    assert_eq!(none["CustomKeyStores"], json!([]));
    let body = json!({"CustomKeyStoreId": made[0]});
    let answer = bench.call_as(&other, "DescribeCustomKeyStores", body).await;
    assert_eq!(answer, refusal(Code::CustomKeyStoreNotFoundException, ""));
}
