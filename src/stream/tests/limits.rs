//! How a batch waits for its limits.

use super::ErrorCode as Code;
use super::*;
use crate::api::tests::limits::{SECOND, TOO_FAST, of_key, of_principal};
use crate::rates::Exceeded;

#[tokio::test]
async fn a_batch_takes_what_its_limit_yields_and_waits_for_the_rest() {
    let bench = Bench::with_rates(&of_principal(1000)).await;
    let id = bench.key().await;
    let all = bench.allowed("all", &["kms:*"]).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 1004});
    let mut batch = bench.batch(&all, body).unwrap();
    let (mut blobs, mut now) = (Vec::new(), Duration::ZERO);
    loop {
        match batch.next_chunk(&mut blobs).unwrap() {
            Chunk::End => break,
            Chunk::Blobs(keys, _) => assert!(keys == 10 || keys == 4, "{keys}"),
            Chunk::Wait(Exceeded { wait, .. }) => {
                assert!(wait <= Duration::from_millis(10), "{wait:?}");
                assert!(batch.next_keys() == 10 || batch.next_keys() == 4);
                bench.api.clock.advance(wait);
                now += wait;
            }
        }
    }
    assert_eq!(blobs.len(), 1004 * 96);
    // Half of the burst at once, the rest at the rate.
    assert_eq!(now, Duration::from_millis(504));
    assert_eq!(
        bench.throttles("principal"),
        0,
        "waiting does not count as a refusal"
    );
}

#[tokio::test]
async fn single_requests_come_before_batches() {
    let bench = Bench::with_rates(&of_key(100)).await;
    let id = bench.key().await;
    let bulk = bench.allowed("bulk", &["kms:*"]).await;
    let online = bench.allowed("online", &["kms:*"]).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 1000});
    let mut batch = bench.batch(&bulk, body).unwrap();
    let mut blobs = Vec::new();
    // The batch has half of the burst, single requests have the other, and then they have whatever
    // comes.
    while matches!(batch.next_chunk(&mut blobs).unwrap(), Chunk::Blobs(1, _)) {}
    assert_eq!(batch.handed_out(), 50);
    assert_eq!(bench.mints(&online, &id).await, 50);
    for _ in 0..100 {
        bench.api.clock.advance(SECOND / 100);
        let chunk = batch.next_chunk(&mut blobs).unwrap();
        assert!(matches!(chunk, Chunk::Wait(_)), "{chunk:?}");
        assert_eq!(bench.mints(&online, &id).await, 1);
    }
    bench.api.clock.advance(SECOND / 2);
    assert!(matches!(
        batch.next_chunk(&mut blobs).unwrap(),
        Chunk::Wait(_)
    ));
    bench.api.clock.advance(SECOND / 100);
    assert_eq!(batch.blobs(&mut blobs), 1);
}

#[tokio::test]
async fn a_batch_is_authorized_anew_while_it_waits() {
    let bench = Bench::with_rates(&of_key(1)).await;
    let id = bench.key().await;
    let all = bench.allowed("all", &["kms:*"]).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 2});
    let mut batch = bench.batch(&all, body).unwrap();
    let mut blobs = Vec::new();
    assert_eq!(batch.blobs(&mut blobs), 1);
    let Chunk::Wait(exceeded) = batch.next_chunk(&mut blobs).unwrap() else {
        panic!("there is no second key yet");
    };
    assert_eq!(exceeded.wait, SECOND);
    bench.done_to("DisableKey", &id).await;
    let refused = batch.next_chunk(&mut blobs).unwrap_err();
    assert_eq!(refused.code(), Code::DisabledException);
    let given_up = batch.throttled(exceeded);
    assert_eq!(
        (given_up.code(), given_up.message()),
        (Code::ThrottlingException, TOO_FAST)
    );
    assert_eq!(bench.throttles("key"), 1);
    assert_eq!(blobs.len(), 96);
}

/// The first ten are of the burst and have a record; one more is answered as any call beyond the
/// limit.
#[tokio::test]
async fn refusals_beyond_the_limit_are_answered_as_throttled() {
    let rates = rates::Config {
        refused_calls_per_second: 1,
        ..rates::Config::default()
    };
    let bench = Bench::with_rates(&rates).await;
    let id = bench.key().await;
    let denied = bench.allowed("denied", &["kms:Encrypt"]).await;
    let ask = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 2});
    for _ in 0..10 {
        let refused = bench.batch(&denied, ask.clone()).err().unwrap();
        assert_eq!(refused.0, Code::AccessDeniedException);
    }
    let refused = bench.batch(&denied, ask).err().unwrap();
    assert_eq!(refused.0, Code::ThrottlingException);
    // Streams are counted with batches: one that asks for nothing, and one that is not Arrow.
    let requester = Requester::local(Arc::clone(&denied));
    let containers = |query: &str| bench.api.containers(&requester, Purpose::Bind, query);
    let refused = containers("spec=AES_256").err().unwrap();
    assert_eq!(refused.code(), Code::ThrottlingException);
    let mut stream = containers(&format!("key={id}&spec=AES_256&context=id")).unwrap();
    let refused = stream.feed(&mut Bytes::from_static(b"not Arrow")).err();
    let refused = refused.or_else(|| stream.close().err()).unwrap();
    assert_eq!(refused.code(), Code::ThrottlingException);
    assert_eq!(bench.throttles("refused"), 3);
    bench.api.clock.advance(SECOND);
    let refused = containers("spec=AES_256").err().unwrap();
    assert_eq!(refused.code(), Code::ValidationException);
}
