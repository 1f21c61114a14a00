//! Limits on the wire: a single request is refused in the form that SDKs retry, and a batch waits.

use crate::server::daemon::{ADMIN, ALIAS, Daemon, PROVISIONER, Setup};
use crate::server::wire::Request;
use keymill::{rates, transport};
use serde_json::{Value, json};
use std::time::Duration;

const HOST: &str = "localhost";
const BLOB_BYTES: usize = 96;

async fn limited(keys_per_second: u64) -> Daemon {
    limited_with(keys_per_second, transport::Limits::default()).await
}

async fn limited_with(keys_per_second: u64, limits: transport::Limits) -> Daemon {
    Daemon::start_with(Setup {
        limits,
        rates: rates::Config {
            principal_keys_per_second: keys_per_second,
            ..rates::Config::default()
        },
        ..Setup::default()
    })
    .await
}

fn mint() -> Request {
    Request::mint(HOST)
}

fn batch(count: u64) -> Request {
    let body = json!({"KeyId": ALIAS, "KeySpec": "AES_256", "Count": count});
    Request::post("/v1/data-keys", HOST, &body)
}

#[tokio::test]
async fn a_single_request_beyond_the_limit_is_refused_at_once() {
    let daemon = limited(2).await;
    let (mut tcp, mut unix) = (daemon.over_tcp().await, daemon.over_unix().await);
    let signed = mint().signed(&PROVISIONER);
    // One principal, over either transport.
    tcp.ask(&signed).await.done();
    unix.ask(&mint()).await.done();
    for _ in 0..3 {
        let message = tcp.ask(&signed).await.refusal(400, "ThrottlingException");
        let expected = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
        assert_eq!(message, expected);
        unix.ask(&mint()).await.refusal(400, "ThrottlingException");
    }
    // Another principal has its own limit, and the connection is as good as before.
    tcp.ask(&mint().signed(&ADMIN)).await.done();
    daemon.clock.advance(Duration::from_millis(500));
    tcp.ask(&signed).await.done();
    tcp.ask(&signed).await.refusal(400, "ThrottlingException");
    let throttled = daemon.metric(r#"keymill_throttled_total{scope="principal"}"#);
    assert_eq!(throttled, Some(7.0));
    let counted = r#"keymill_requests_total{operation="GenerateDataKeyWithoutPlaintext",code="ThrottlingException"}"#;
    assert_eq!(daemon.metric(counted), Some(7.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_beyond_the_limit_comes_as_fast_as_the_limit_lets_it() {
    let daemon = limited(1000).await;
    let mut wire = daemon.over_unix().await;
    wire.send(batch(1500).bytes()).await;
    assert_eq!(wire.peek_head().await, 200);
    // Meanwhile single requests have the other half of the burst.
    let mut other = daemon.over_unix().await;
    for _ in 0..500 {
        other.ask(&mint()).await.done();
    }
    let reader = tokio::spawn(async move { wire.answer().await });
    // The clock moves only when the test moves it. Half of the burst must be there again, besides
    // the thousand keys that are left.
    while !reader.is_finished() {
        daemon.clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    let answer = reader.await.unwrap();
    assert!(!answer.cut);
    assert_eq!(answer.body.len(), 1500 * BLOB_BYTES);
    let moved = daemon.clock.monotonic();
    assert!(moved >= Duration::from_millis(1500), "{moved:?}");
    let throttled = daemon.metric(r#"keymill_throttled_total{scope="principal"}"#);
    assert_eq!(throttled, Some(0.0), "waiting is no refusal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_in_vain_ends_with_the_refusal() {
    let limits = transport::Limits {
        write_timeout_ms: 100,
        ..transport::Limits::default()
    };
    let daemon = limited_with(10, limits).await;
    let mut unix = daemon.over_unix().await;
    // Half of the burst is there, and the clock does not move.
    let answer = unix
        .ask(&batch(6).with("accept", "application/x-ndjson"))
        .await;
    let lines = answer.text().lines();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, blobs) = lines.split_last().unwrap();
    assert_eq!(last["__type"], "ThrottlingException", "{last}");
    assert_eq!(blobs.len(), 5);
    // Before the first key, it has a status.
    let answer = daemon.over_unix().await.ask(&batch(1)).await;
    answer.refusal(400, "ThrottlingException");
    let throttled = daemon.metric(r#"keymill_throttled_total{scope="principal"}"#);
    assert_eq!(throttled, Some(2.0));
}
