//! How large the chunks of a stream are, and what they hold.

use super::*;

#[tokio::test]
async fn a_stream_waits_for_its_limits() {
    let rates = rates::Config {
        principal_keys_per_second: 100,
        ..rates::Config::default()
    };
    let bench = Bench::with_rates(&rates).await;
    let id = bench.key().await;
    let alice = bench.allowed("alice", &["kms:*"]).await;
    let mut bind = bench.bind(&alice, &query(&id));
    let mut body = Bytes::from(stream(&[containers(7, 120)]));
    let mut waits = 0;
    while bind.rows() < 120 {
        bind.feed(&mut body).unwrap();
        if let Step::Wait(exceeded) = bind.step().unwrap() {
            waits += 1;
            bench.api.clock.advance(exceeded.wait);
        }
    }
    assert!(waits > 10, "{waits}");
}

#[tokio::test]
async fn long_contexts_make_short_chunks() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let long = ["a", "b"].map(|one| one.repeat(8000));
    let rows = 1200;
    let values = (0..rows).map(|row| long[row % 2].as_str());
    let tenants: DictionaryArray<Int32Type> = values.collect();
    let sent = batch([("tenant", Arc::new(tenants) as ArrayRef)]);
    let asked = format!("key={id}&spec=AES_256&context=tenant");
    let lengths: Vec<_> = bench
        .bound(&asked, &[sent])
        .unwrap()
        .iter()
        .map(RecordBatch::num_rows)
        .collect();
    assert!(
        lengths.len() == 3 && lengths.iter().sum::<usize>() == rows,
        "{lengths:?}"
    );
}

#[tokio::test]
async fn parts_of_a_batch_carry_their_own_text_alone() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let names = (0..4 * CHUNK).map(|row| format!("a name that is not part of its view {row}"));
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(names));
    let sent = stream(&[batch([("tenant", views)])]);
    let mut bind = bench.bind(&bench.admin, &format!("key={id}&bytes=1&context=tenant"));
    let answer = run(&mut bind, &sent, usize::MAX).unwrap();
    let added = 4 * CHUNK * (24 + 24 + 1 + 16 + 4 + 4 + 4);
    assert!(
        answer.len() < sent.len() + added + 100_000,
        "{}",
        answer.len()
    );
    assert_eq!(read(&answer).len(), 4);
}
