//! The four operations against a real store: names, statuses and messages of refusals, and what
//! the audit log says.

use super::*;
use crate::api::tests::fence::{at_once, between};
use crate::api::tests::limits::{SECOND, TOO_FAST};
use crate::api::tests::{ACCOUNT, Bench, allowing, decoded, encoded, key_arn};
use crate::api::{ApiError, Requester};
use crate::policy::Principal;
use crate::rates;
use crate::xks::error::status;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering;

mod paths;
mod refusals;

const PREFIX: &str = "/orders/kms/xks/v1";
const PRINCIPAL: &str = "arn:aws:iam::111122223333:user/aws-kms";
/// "Hello World!" and "project=nile,department=marketing", as in the specification.
const TEXT: &str = "SGVsbG8gV29ybGQh";
const ADDITIONAL: &str = "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n";

type Told = Result<Value, (u16, &'static str, String)>;

/// A store with a KMS key, alias/orders, and a key store with external keys for it.
struct Fixture {
    bench: Bench,
    proxy: Proxy,
    who: Arc<Principal>,
    key: String,
}

/// An external key for alias/orders, in the key store "orders".
fn external(id: &str) -> external_key::Config {
    external_key::Config {
        store: "orders".to_owned(),
        id: id.to_owned(),
        key: "alias/orders".to_owned(),
        usage: external_key::USAGES.map(str::to_owned).to_vec(),
        aws_principals: Vec::new(),
        kms_operations: Vec::new(),
        kms_key_arns: Vec::new(),
    }
}

fn proxy(keys: Vec<external_key::Config>) -> Proxy {
    let store = |uri_path: &str| key_store::Config {
        uri_path: uri_path.to_owned(),
        principal: PRINCIPAL.to_owned(),
        regions: vec!["eu-central-1".to_owned(), "us-east-1".to_owned()],
        client_common_names: Vec::new(),
    };
    let stores = [("orders", PREFIX), ("bare", "/kms/xks/v1")];
    let stores = stores.map(|(name, path)| (name.to_owned(), store(path)));
    let named = |(at, key): (usize, external_key::Config)| (format!("k{at}"), key);
    let keys = keys.into_iter().enumerate().map(named).collect();
    let token_key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
    Proxy::new(&stores.into(), &keys, Duration::from_secs(300), &token_key)
}

impl Fixture {
    async fn new() -> Self {
        Self::with(&rates::Config::default(), vec![external("main")]).await
    }

    async fn with(rates: &rates::Config, keys: Vec<external_key::Config>) -> Self {
        let bench = Bench::with_rates(rates).await;
        let rights = ["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"];
        let who = bench.principal("aws-kms", allowing(&rights)).await;
        let key = bench.key().await;
        bench.alias("alias/orders", &key).await;
        Self {
            bench,
            proxy: proxy(keys),
            who,
            key,
        }
    }

    /// Calls with a body, as it is.
    async fn raw(&self, path: &str, body: &[u8]) -> Told {
        let path = format!("{PREFIX}{path}");
        let target = self.proxy.target(&path).unwrap().unwrap();
        let requester = Requester::local(Arc::clone(&self.who));
        let answer = self.bench.api.call_xks(&target, &requester, body).await;
        told(answer.map(|reply| serde_json::from_slice(reply.body()).unwrap()))
    }

    async fn call(&self, path: &str, body: &Value) -> Told {
        self.raw(path, body.to_string().as_bytes()).await
    }

    async fn encrypt(&self) -> Value {
        self.call("/keys/main/encrypt", &to_encrypt())
            .await
            .unwrap()
    }

    /// Expects a refusal of a call of the external key "main".
    async fn refused(&self, operation: &str, body: &Value, expected: (u16, &str, &str)) {
        let answer = self.call(&format!("/keys/main/{operation}"), body).await;
        let (status, name, message) = answer.unwrap_err();
        assert_eq!(
            (status, name, message.as_str()),
            expected,
            "{operation} {body}"
        );
    }
}

fn told(answer: Result<Value, ApiError>) -> Told {
    answer.map_err(|error| {
        let code = error.code();
        (
            status(code).as_u16(),
            code.name(),
            error.message().to_owned(),
        )
    })
}

fn metadata(operation: &str) -> Value {
    json!({
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "kmsOperation": operation,
        "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
        "kmsViaService": "ebs",
    })
}

fn to_encrypt() -> Value {
    json!({
        "requestMetadata": metadata("Encrypt"),
        "additionalAuthenticatedData": ADDITIONAL,
        "plaintext": TEXT,
        "encryptionAlgorithm": "AES_GCM",
        "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
    })
}

/// The request that opens the answer of one that encrypts.
fn to_decrypt(sealed: &Value) -> Value {
    let mut body = json!({
        "requestMetadata": metadata("Decrypt"),
        "additionalAuthenticatedData": ADDITIONAL,
        "encryptionAlgorithm": "AES_GCM",
    });
    for member in [
        "ciphertext",
        "ciphertextMetadata",
        "initializationVector",
        "authenticationTag",
    ] {
        body[member] = sealed[member].clone();
    }
    body
}

fn without(mut body: Value, member: &str) -> Value {
    body.as_object_mut().unwrap().remove(member).unwrap();
    body
}

fn with(mut body: Value, member: &str, value: impl Into<Value>) -> Value {
    body[member] = value.into();
    body
}

/// What the refusal of whatever does not open is.
const UNOPENED: (u16, &str, &str) = (400, "InvalidCiphertextException", "");

#[tokio::test]
async fn what_is_encrypted_is_decrypted() {
    let fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    let of = |member: &str| decoded(&sealed[member]);
    assert_eq!(sealed.as_object().unwrap().len(), 5);
    assert_eq!(of("ciphertext").len(), 12);
    assert_eq!(of("initializationVector").len(), 12);
    assert_eq!(of("authenticationTag").len(), 16);
    let metadata = of("ciphertextMetadata");
    assert_eq!((metadata.len(), &metadata[..5]), (17, &[1, 0, 0, 0, 1][..]));
    let mut hash = Sha256::new();
    hash.update(decoded(&ADDITIONAL.into()));
    for member in [
        "ciphertextMetadata",
        "initializationVector",
        "ciphertext",
        "authenticationTag",
    ] {
        hash.update(of(member));
    }
    let value: [u8; 32] = hash.finalize().into();
    assert_eq!(sealed["ciphertextDataIntegrityValue"], encoded(&value));
    let opened = fixture
        .call("/keys/main/decrypt", &to_decrypt(&sealed))
        .await;
    assert_eq!(opened.unwrap(), json!({ "plaintext": TEXT }));
    // Only an answer that was asked for an integrity value has one.
    let body = without(to_encrypt(), "ciphertextDataIntegrityValueAlgorithm");
    let body = without(body, "additionalAuthenticatedData");
    let sealed = fixture.call("/keys/main/encrypt", &body).await.unwrap();
    assert!(sealed.get("ciphertextDataIntegrityValue").is_none());
    let body = without(to_decrypt(&sealed), "additionalAuthenticatedData");
    let opened = fixture.call("/keys/main/decrypt", &body).await;
    assert_eq!(opened.unwrap(), json!({ "plaintext": TEXT }));
}

#[tokio::test]
async fn what_the_specification_asks_for_has_room() {
    let fixture = Fixture::new().await;
    let long_arn = format!("arn:aws:iam::123456789012:user/{}", "a".repeat(2017));
    for (plaintext, additional) in [(0, 0), (1, 8192), (4300, 8192)] {
        let (text, additional) = (encoded(&vec![7; plaintext]), encoded(&vec![9; additional]));
        let body = with(to_encrypt(), "plaintext", text.as_str());
        let mut body = with(body, "additionalAuthenticatedData", additional.as_str());
        body["requestMetadata"]["awsPrincipalArn"] = long_arn.as_str().into();
        // Members that a later specification has.
        body["requestMetadata"]["sourceIdentity"] = json!({"a": [1, null]});
        body["later"] = json!(["x"]);
        body["requestMetadata"]["kmsOperation"] = "BulkEncrypt".into();
        let sealed = fixture.call("/keys/main/encrypt", &body).await.unwrap();
        let body = with(
            to_decrypt(&sealed),
            "additionalAuthenticatedData",
            additional.as_str(),
        );
        let opened = fixture.call("/keys/main/decrypt", &body).await.unwrap();
        assert_eq!(opened["plaintext"], text.as_str());
    }
}

#[tokio::test]
async fn key_metadata_are_those_of_the_configuration_and_of_the_key() {
    let keys = vec![
        external("main"),
        external_key::Config {
            usage: vec!["ENCRYPT".to_owned()],
            ..external("one")
        },
        external_key::Config {
            usage: Vec::new(),
            ..external("none")
        },
    ];
    let fixture = Fixture::with(&rates::Config::default(), keys).await;
    let body = json!({ "requestMetadata": metadata("DescribeKey") });
    let ask = async |id: &str| {
        let path = format!("/keys/{id}/metadata");
        fixture.call(&path, &body).await.unwrap()
    };
    let told = |usage: Value, status: &str| json!({ "keySpec": "AES_256", "keyUsage": usage, "keyStatus": status });
    assert_eq!(
        ask("main").await,
        told(json!(["ENCRYPT", "DECRYPT"]), "ENABLED")
    );
    assert_eq!(ask("one").await, told(json!(["ENCRYPT"]), "ENABLED"));
    assert_eq!(ask("none").await, told(json!([]), "ENABLED"));
    fixture.bench.done_to("DisableKey", &fixture.key).await;
    assert_eq!(ask("one").await, told(json!(["ENCRYPT"]), "DISABLED"));
    let body = json!({"KeyId": fixture.key});
    fixture.bench.done("ScheduleKeyDeletion", body).await;
    assert_eq!(ask("one").await, told(json!(["ENCRYPT"]), "DISABLED"));
}

#[tokio::test]
async fn a_rotation_leaves_what_was_encrypted_before_readable() {
    let fixture = Fixture::new().await;
    let before = fixture.encrypt().await;
    fixture
        .bench
        .done_to("RotateKeyOnDemand", &fixture.key)
        .await;
    let after = fixture.encrypt().await;
    let generation = |sealed: &Value| decoded(&sealed["ciphertextMetadata"])[4];
    assert_eq!((generation(&before), generation(&after)), (1, 2));
    for sealed in [before, after] {
        let opened = fixture
            .call("/keys/main/decrypt", &to_decrypt(&sealed))
            .await;
        assert_eq!(opened.unwrap()["plaintext"], TEXT);
    }
}

#[tokio::test]
async fn two_external_keys_of_one_kms_key_do_not_open_each_others() {
    let keys = vec![external("main"), external("other")];
    let fixture = Fixture::with(&rates::Config::default(), keys).await;
    let sealed = fixture.encrypt().await;
    let (status, name, message) = fixture
        .call("/keys/other/decrypt", &to_decrypt(&sealed))
        .await
        .unwrap_err();
    assert_eq!((status, name, message.as_str()), UNOPENED);
}

#[tokio::test]
async fn the_health_is_that_of_store_and_generator() {
    let fixture = Fixture::new().await;
    let body = json!({"requestMetadata": {"kmsOperation": "KmsHealthCheck", "kmsRequestId": "1"}});
    let health = |status: &str| {
        let model = concat!("Keymill ", env!("CARGO_PKG_VERSION"));
        json!({
            "xksProxyFleetSize": 1,
            "xksProxyVendor": "Keymill",
            "xksProxyModel": model,
            "ekmVendor": "Keymill",
            "ekmFleetDetails": [{"id": "orders", "model": model, "healthStatus": status}],
        })
    };
    assert_eq!(fixture.call("/health", &body).await, Ok(health("ACTIVE")));
    let halt = fixture.bench.api.keystore.halt();
    halt.set("the disk is full".to_owned());
    assert_eq!(fixture.call("/health", &body).await, Ok(health("DEGRADED")));
    halt.clear();
    fixture.bench.faults.0.store(true, Ordering::SeqCst);
    let failed = Err((500, "InternalException", String::new()));
    assert_eq!(fixture.call("/health", &body).await, failed);
    fixture.bench.faults.0.store(false, Ordering::SeqCst);
    halt.set_unknown(true);
    assert_eq!(fixture.call("/health", &body).await, failed);
}

#[tokio::test]
async fn pool_4_a_change_between_work_and_last_check_is_seen() {
    let fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    let message = format!("{} is disabled.", key_arn(&fixture.key));
    for (operation, body) in [("encrypt", to_encrypt()), ("decrypt", to_decrypt(&sealed))] {
        let (api, key) = (
            Arc::clone(&fixture.bench.api),
            json!({"KeyId": fixture.key}),
        );
        between(1, move || at_once(&api, "DisableKey", &key));
        let expected = (400, "InvalidStateException", message.as_str());
        fixture.refused(operation, &body, expected).await;
        fixture.bench.done_to("EnableKey", &fixture.key).await;
    }
}

#[tokio::test]
async fn a_limit_of_the_principal_is_one_of_the_key_store() {
    let limit = rates::Config {
        principals: [(PRINCIPAL.to_owned(), 2)].into(),
        ..rates::Config::default()
    };
    let fixture = Fixture::with(&limit, vec![external("main")]).await;
    let sealed = fixture.encrypt().await;
    fixture.encrypt().await;
    let expected = (429, "ThrottlingException", TOO_FAST);
    fixture.refused("encrypt", &to_encrypt(), expected).await;
    fixture
        .refused("decrypt", &to_decrypt(&sealed), expected)
        .await;
    // What uses no key is not limited.
    let body = json!({ "requestMetadata": metadata("DescribeKey") });
    fixture.call("/keys/main/metadata", &body).await.unwrap();
    fixture.bench.api.clock.advance(SECOND);
    fixture.encrypt().await;
}

#[tokio::test]
async fn audit_1_a_record_has_what_aws_says_and_nothing_secret() {
    let fixture = Fixture::new().await;
    let mut body = to_encrypt();
    body["requestMetadata"]["sourceIdentity"] = "alice".into();
    body["requestMetadata"]["nested"] = json!({"a": "\n"});
    let sealed = fixture.call("/keys/main/encrypt", &body).await.unwrap();
    let decrypt = to_decrypt(&sealed);
    fixture.call("/keys/main/decrypt", &decrypt).await.unwrap();
    let wrong = with(decrypt, "authenticationTag", encoded(&[0; 16]).as_str());
    fixture.refused("decrypt", &wrong, UNOPENED).await;
    fixture.raw("/keys/gone/encrypt", b"{").await.unwrap_err();
    let records = fixture.bench.records();
    let records: Vec<_> = records
        .iter()
        .filter(|record| record["eventSource"] == "kms-xks-proxy")
        .collect();
    let [encrypted, decrypted, refused, malformed] = records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(encrypted["eventName"], "XksEncrypt");
    assert_eq!(encrypted["userIdentity"]["arn"], PRINCIPAL);
    let said = json!({
        "externalKeyId": "main",
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "kmsOperation": "Encrypt",
        "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
        "kmsViaService": "ebs",
    });
    let other = json!({"sourceIdentity": "alice", "nested": {"a": "\n"}});
    let with_other = with(said.clone(), "otherMetadata", other);
    assert_eq!(encrypted["requestParameters"], with_other);
    assert_eq!(encrypted["resources"][0]["ARN"], key_arn(&fixture.key));
    assert!(encrypted["additionalEventData"]["keyMaterialId"].is_string());
    assert_eq!(encrypted["responseElements"], Value::Null);
    assert_eq!(decrypted["eventName"], "XksDecrypt");
    assert_eq!(decrypted["errorCode"], Value::Null);
    assert_eq!(refused["errorCode"], "InvalidCiphertextException");
    assert_eq!(
        refused["requestParameters"],
        with(said, "kmsOperation", "Decrypt")
    );
    assert_eq!(malformed["errorCode"], "ValidationException");
    assert_eq!(
        malformed["requestParameters"],
        json!({"externalKeyId": "gone"})
    );
    let text = serde_json::to_string(&records).unwrap();
    for secret in [TEXT, "Hello World", ADDITIONAL] {
        assert!(!text.contains(secret), "{secret}");
    }
    for member in ["ciphertext", "authenticationTag", "initializationVector"] {
        assert!(!text.contains(sealed[member].as_str().unwrap()), "{member}");
    }
}

#[tokio::test]
async fn a_use_from_aws_is_a_use_of_the_key() {
    let fixture = Fixture::new().await;
    fixture.encrypt().await;
    let told = fixture.bench.done_to("GetKeyLastUsage", &fixture.key).await;
    assert_eq!(told["KeyLastUsage"]["Operation"], "Encrypt", "{told}");
}
