//! The lanes of pairs, step by step.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::entropy::faulty::FaultyEntropy;
use PairSpec::EccNistP256 as P256;

fn pairs(per_spec: usize) -> (Arc<Pairs>, Arc<CloneWord>, Clock) {
    of_entropy(per_spec, Entropy::os())
}

fn of_entropy(per_spec: usize, entropy: Entropy) -> (Arc<Pairs>, Arc<CloneWord>, Clock) {
    let config = Config {
        pairs_per_spec: per_spec,
        age_max_seconds: 10,
        ..Config::default()
    };
    let (clock, word) = (Clock::manual(Timestamp(0)), Arc::new(CloneWord::new()));
    let metrics = Metrics::new().unwrap();
    let entropy = Arc::new(entropy);
    let parts = (clock.clone(), Arc::clone(&word));
    let pairs = Pairs::new(&config, 1, &entropy, parts.0, parts.1, &metrics);
    (pairs, word, clock)
}

/// Makes pairs until there is nothing to do.
fn fill(pairs: &Pairs) -> usize {
    let steps = std::iter::successors(pairs.step(0, 0), |next| pairs.step(0, *next));
    steps.count()
}

fn depth(pairs: &Pairs) -> Vec<(String, usize)> {
    let lanes = pairs.status();
    lanes.map(|lane| (lane.lane, lane.depth)).collect()
}

#[test]
fn lanes_stand_in_the_order_of_the_specs() {
    let (pairs, ..) = pairs(1);
    for spec in PairSpec::ALL {
        assert_eq!(pairs.lane(spec).spec, spec);
    }
}

#[test]
fn a_lane_begins_with_its_first_request_and_holds_what_it_may() {
    let (pairs, word, _) = pairs(3);
    assert_eq!((fill(&pairs), depth(&pairs)), (0, Vec::new()));
    assert!(pairs.take(P256, word.read()).is_none());
    assert_eq!(fill(&pairs), 3);
    assert_eq!(depth(&pairs), [("pairs/ECC_NIST_P256".to_owned(), 3)]);
    let taken: Vec<_> = (0..4).map(|_| pairs.take(P256, word.read())).collect();
    let mut keys: Vec<_> = taken
        .iter()
        .flatten()
        .map(|pair| pair.key.public_der())
        .collect();
    assert_eq!(keys.len(), 3);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 3, "each leaves once (POOL-1)");
}

#[test]
fn pool_6_whoever_waits_is_served_first_in_turn_and_in_bounded_number() {
    let (pairs, word, _) = pairs(1);
    assert!(pairs.take(P256, word.read()).is_none());
    let mut line: Vec<_> = (0..WAITING_MAX)
        .map(|_| pairs.join_queue(P256).unwrap())
        .collect();
    assert_eq!(pairs.join_queue(P256).err(), Some(WaitError::Busy));
    let other = pairs.join_queue(PairSpec::EccSecgP256K1).unwrap();
    // The first in line gives up: no pair is made for it, and its place is free.
    drop(line.remove(0));
    let last = pairs.join_queue(P256).unwrap();
    assert_eq!(fill(&pairs), WAITING_MAX + 1 + 1);
    for (_place, mut receiver) in line.into_iter().chain([last, other]) {
        assert!(receiver.try_recv().is_ok());
    }
    assert_eq!(depth(&pairs), [("pairs/ECC_NIST_P256".to_owned(), 1)]);
}

#[test]
fn pool_5_a_pair_of_another_clone_word_never_leaves() {
    let (pairs, word, _) = pairs(2);
    let before = word.read();
    assert!(pairs.take(P256, before).is_none());
    fill(&pairs);
    word.handle().fetch_add(1, Ordering::SeqCst);
    assert!(pairs.take(P256, word.read()).is_none());
    fill(&pairs);
    let pair = pairs.take(P256, word.read()).unwrap();
    assert_ne!(pair.clone_word, before);
}

#[test]
fn an_unused_lane_is_dropped_and_begins_anew() {
    let (pairs, word, clock) = pairs(2);
    assert!(pairs.take(P256, word.read()).is_none());
    fill(&pairs);
    clock.advance(Duration::from_secs(10));
    pairs.tick(clock.monotonic());
    assert_eq!(depth(&pairs).len(), 1);
    clock.advance(Duration::from_secs(1));
    pairs.tick(clock.monotonic());
    assert_eq!((depth(&pairs).len(), fill(&pairs)), (0, 0));
    assert!(pairs.take(P256, word.read()).is_none());
    assert_eq!(fill(&pairs), 2);
}

/// The pair goes at its age even though its lane is in constant use.
#[test]
fn pool_8_a_pair_goes_at_its_age_and_is_never_handed_out_older() {
    let (pairs, word, clock) = pairs(4);
    assert!(pairs.take(P256, word.read()).is_none());
    assert_eq!(fill(&pairs), 4);
    clock.advance(Duration::from_secs(6));
    assert!((0..3).all(|_| pairs.take(P256, word.read()).is_some()));
    assert_eq!(fill(&pairs), 3, "one of the first is left");
    pairs.tick(clock.monotonic());
    assert_eq!(depth(&pairs)[0].1, 4);
    clock.advance(Duration::from_secs(5));
    pairs.tick(clock.monotonic());
    assert_eq!(depth(&pairs)[0].1, 3, "the one of 11 seconds went");
    clock.advance(Duration::from_secs(6));
    assert!(
        pairs.take(P256, word.read()).is_none(),
        "what no tick has dropped yet is not handed out"
    );
}

#[tokio::test]
async fn rng_1_a_failing_source_makes_no_pair_and_who_waits_is_told() {
    let faulty = FaultyEntropy::default();
    let entropy = Entropy::new(Box::new(faulty.clone()), metrics::Counter::noop());
    let (pairs, word, _) = of_entropy(2, entropy);
    assert!(pairs.take(P256, word.read()).is_none());
    faulty.0.store(true, Ordering::SeqCst);
    assert_eq!(pairs.wait(P256).await.err(), Some(WaitError::NotMade));
    assert_eq!((fill(&pairs), depth(&pairs)[0].1), (0, 0));
    faulty.0.store(false, Ordering::SeqCst);
    assert!(pairs.wait(P256).await.is_ok());
}

#[tokio::test]
async fn threads_serve_who_waits_and_a_shut_down_turns_everybody_away() {
    let (pairs, word, _) = pairs(0);
    let pair = pairs.wait(P256).await.unwrap();
    assert_eq!(pair.clone_word, word.read());
    let (_place, receiver) = pairs.join_queue(PairSpec::Rsa4096).unwrap();
    pairs.shut_down();
    assert!(receiver.await.is_err());
    assert_eq!(pairs.wait(P256).await.err(), Some(WaitError::Busy));
}
