//! Limits: what is counted, who pays, and how a single request is refused.

use super::ErrorCode as Code;
use super::fence::{at_once, between};
use super::*;
use crate::rates::Config;
use std::collections::BTreeMap;

pub(crate) const TOO_FAST: &str =
    "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
const MINT: &str = "GenerateDataKeyWithoutPlaintext";
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn of_principal(keys_per_second: u64) -> Config {
    Config {
        principal_keys_per_second: keys_per_second,
        ..Config::default()
    }
}

pub(crate) fn of_key(keys_per_second: u64) -> Config {
    Config {
        kms_key_keys_per_second: keys_per_second,
        ..Config::default()
    }
}

fn of_both(keys_per_second: u64) -> Config {
    Config {
        kms_key_keys_per_second: keys_per_second,
        ..of_principal(keys_per_second)
    }
}

fn ask(id: &str) -> Value {
    json!({"KeyId": id, "KeySpec": "AES_256"})
}

impl Bench {
    async fn throttled(&self, principal: &Arc<Principal>, name: &str, body: &Value) {
        let code = Code::ThrottlingException;
        self.refused_as(principal, name, body.clone(), code, TOO_FAST)
            .await;
    }

    /// Mints for as long as it is let, and returns how often.
    pub(crate) async fn mints(&self, principal: &Arc<Principal>, id: &str) -> usize {
        for had in 0.. {
            match self.call_as(principal, MINT, ask(id)).await {
                Ok(_) => {}
                Err((Code::ThrottlingException, _)) => return had,
                Err(other) => panic!("{other:?}"),
            }
        }
        0
    }

    pub(crate) fn throttles(&self, scope: &str) -> u64 {
        self.counted(&format!("keymill_throttled_total{{scope=\"{scope}\"}}"))
    }
}

#[tokio::test]
async fn every_cryptographic_call_is_one_key_of_its_caller() {
    let bench = Bench::with_rates(&of_principal(1)).await;
    let id = bench.key().await;
    let sealed = bench
        .done("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await;
    let all = bench.allowed("all", &["kms:*"]).await;
    for (operation, body) in [
        (MINT, ask(&id)),
        ("GenerateDataKey", ask(&id)),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
        (
            "Decrypt",
            json!({"CiphertextBlob": sealed["CiphertextBlob"]}),
        ),
        ("GenerateRandom", json!({"NumberOfBytes": 32})),
    ] {
        assert!(bench.call_as(&all, operation, body.clone()).await.is_ok());
        bench.throttled(&all, operation, &body).await;
        bench.throttled(&all, MINT, &ask(&id)).await;
        bench.api.clock.advance(SECOND);
    }
    assert_eq!(
        (bench.throttles("principal"), bench.throttles("key")),
        (10, 0)
    );
    // What makes and opens no keys is not limited.
    for _ in 0..10 {
        let described = bench.call_as(&all, "DescribeKey", json!({"KeyId": id}));
        assert!(described.await.is_ok());
    }
}

#[tokio::test]
async fn the_keys_limit_is_shared_and_has_its_own_label() {
    let bench = Bench::with_rates(&of_key(4)).await;
    let (id, other) = (bench.key().await, bench.key().await);
    let alice = bench.allowed("alice", &["kms:*"]).await;
    let bob = bench.allowed("bob", &["kms:*"]).await;
    assert_eq!(bench.mints(&alice, &id).await, 4);
    assert_eq!(bench.mints(&bob, &id).await, 0);
    assert_eq!(bench.mints(&bob, &other).await, 4);
    assert_eq!(
        (bench.throttles("principal"), bench.throttles("key")),
        (0, 3)
    );
    let random = bench.call_as(&bob, "GenerateRandom", json!({"NumberOfBytes": 1}));
    assert!(random.await.is_ok(), "it is of no key");
    bench.api.clock.advance(SECOND);
    assert_eq!(bench.mints(&bob, &id).await, 4);
}

#[tokio::test]
async fn who_is_refused_otherwise_takes_nothing_from_any_limit() {
    let bench = Bench::with_rates(&of_both(2)).await;
    let id = bench.key().await;
    let denied = bench.allowed("denied", &["kms:Encrypt"]).await;
    let allowed = bench.allowed("allowed", &["kms:*"]).await;
    for _ in 0..20 {
        for (operation, body) in [
            (MINT, ask(&id)),
            ("GenerateRandom", json!({"NumberOfBytes": 1})),
        ] {
            let refused = bench.call_as(&denied, operation, body).await;
            assert_eq!(refused.unwrap_err().0, Code::AccessDeniedException);
        }
        for body in [ask("alias/none"), ask("foo"), json!({"KeyId": id})] {
            assert!(bench.call_as(&allowed, MINT, body).await.is_err());
        }
    }
    bench.done_to("DisableKey", &id).await;
    for _ in 0..20 {
        let refused = bench.call_as(&allowed, MINT, ask(&id)).await;
        assert_eq!(refused.unwrap_err().0, Code::DisabledException);
    }
    bench.done_to("EnableKey", &id).await;
    assert_eq!(bench.mints(&allowed, &id).await, 2);
    let encrypt = json!({"KeyId": id, "Plaintext": "AA=="});
    bench.throttled(&denied, "Encrypt", &encrypt).await;
    assert_eq!(
        bench.throttles("key"),
        1,
        "its own limit had all of its keys"
    );
}

#[tokio::test]
async fn a_dry_run_and_a_blob_that_does_not_open_count() {
    let bench = Bench::with_rates(&of_principal(2)).await;
    let id = bench.key().await;
    let all = bench.allowed("all", &["kms:*"]).await;
    let dry = json!({"KeyId": id, "KeySpec": "AES_256", "DryRun": true});
    let made = bench.done(MINT, ask(&id)).await;
    let wrong = json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": {"a": "b"}});
    for (operation, body, code) in [
        (MINT, dry.clone(), Code::DryRunOperationException),
        ("Decrypt", wrong.clone(), Code::InvalidCiphertextException),
    ] {
        let refused = bench.call_as(&all, operation, body).await;
        assert_eq!(refused.unwrap_err().0, code);
    }
    bench.throttled(&all, MINT, &dry).await;
    bench.throttled(&all, "Decrypt", &wrong).await;
}

#[tokio::test]
async fn a_request_that_starts_again_pays_once() {
    let bench = Bench::with_rates(&of_both(2)).await;
    let id = bench.key().await;
    let all = bench.allowed("all", &["kms:*"]).await;
    let api = Arc::clone(&bench.api);
    between(2, move || at_once(&api, "CreateKey", &json!({})));
    assert!(bench.call_as(&all, MINT, ask(&id)).await.is_ok());
    BETWEEN.set(None);
    assert_eq!(bench.mints(&all, &id).await, 1);
}

#[tokio::test]
async fn overrides_go_by_arn_and_the_operator_has_no_limit() {
    let arn = |name: &str| format!("arn:aws:iam::{ACCOUNT}:user/{name}");
    let bench = Bench::with_rates(&Config {
        principals: BTreeMap::from([(arn("fast"), 5), (arn("free"), 0)]),
        ..of_principal(1)
    })
    .await;
    let id = bench.key().await;
    for (name, keys) in [("slow", 1), ("fast", 5)] {
        let principal = bench.allowed(name, &["kms:*"]).await;
        assert_eq!(bench.mints(&principal, &id).await, keys, "{name}");
    }
    let free = bench.allowed("free", &["kms:*"]).await;
    for _ in 0..50 {
        assert!(bench.call_as(&free, MINT, ask(&id)).await.is_ok());
        bench.done(MINT, ask(&id)).await;
    }
}
