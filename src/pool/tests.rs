//! The guarantees of the pool; each test is named after the one that it shows.

use super::*;
use crate::clock::Timestamp;
use crate::context::EncryptionContext;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::entropy::faulty::FaultyEntropy;
use crate::key::material::BackingKey;
use crate::key::{KeyId, KmsKey};
use filler::{Epochs, fill};
use proptest::prelude::*;
use std::collections::HashSet;

mod shares;

/// A pool whose fillers are run by hand, and the parts around it.
struct Bench {
    pool: Arc<Pool>,
    clock: Clock,
    word: Arc<CloneWord>,
    faulty: FaultyEntropy,
    epochs: Epochs,
}

fn two_fillers() -> Config {
    Config {
        fillers: 2,
        ..small()
    }
}

fn small() -> Config {
    Config {
        fillers: 1,
        lane_keys_min: 256,
        lane_keys_max: 1024,
        keys_max: 2048,
        ..Config::default()
    }
}

impl Bench {
    fn new(config: Config) -> Self {
        let faulty = FaultyEntropy::default();
        let entropy = Arc::new(Entropy::new(
            Box::new(faulty.clone()),
            metrics::Counter::noop(),
        ));
        let clock = Clock::manual(Timestamp(0));
        let word = Arc::new(CloneWord::new());
        let metrics = Metrics::new().unwrap();
        let pool =
            Pool::without_fillers(config, entropy, clock.clone(), Arc::clone(&word), &metrics);
        Self {
            pool,
            clock,
            word,
            faulty,
            epochs: Epochs::default(),
        }
    }

    fn take(&self, entry: &Arc<KeyEntry>) -> Option<Vec<u8>> {
        let key = self
            .pool
            .take(entry, DataKeyLength::AES_256, self.word.read())?;
        let mut blob = Vec::new();
        key.bind(&EncryptionContext::default(), &mut blob);
        Some(blob)
    }

    /// Does the work of a filler until no lane wants more.
    fn fill(&mut self) -> usize {
        let lanes = self.pool.lanes.load_full();
        let mut magazines = 0;
        while lanes
            .values()
            .any(|lane| lane.wants_filling() && fill(&self.pool, lane, 0, &mut self.epochs))
        {
            magazines += 1;
        }
        magazines
    }

    fn depth(&self) -> usize {
        self.pool.lanes().iter().map(|lane| lane.depth).sum()
    }

    /// A pool whose lane of `entry` is full.
    fn warm(config: Config, entry: &Arc<KeyEntry>) -> Self {
        let mut bench = Self::new(config);
        assert!(bench.take(entry).is_none(), "the first is a miss");
        assert!(bench.fill() > 0);
        bench
    }
}

fn entry(number: u8, fence: u64) -> Arc<KeyEntry> {
    of(number, "111122223333", fence)
}

fn of_account(number: u8, account: &str) -> Arc<KeyEntry> {
    of(number, account, 1)
}

fn of(number: u8, account: &str, fence: u64) -> Arc<KeyEntry> {
    let id = KeyId::from_random([number; 16]);
    let material =
        BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(0), &Entropy::os()).unwrap();
    let key = KmsKey::new(id, account.parse().unwrap(), Timestamp(0));
    Arc::new(KeyEntry {
        key,
        arn: String::new(),
        materials: vec![Arc::new(material)],
        secret: None,
        fence,
    })
}

fn with_fence(entry: &Arc<KeyEntry>, fence: u64) -> Arc<KeyEntry> {
    let materials = entry.materials.clone();
    Arc::new(KeyEntry {
        key: entry.key.clone(),
        arn: String::new(),
        materials,
        secret: None,
        fence,
    })
}

#[test]
fn pool_1_a_key_leaves_once_to_many_takers() {
    let entry = entry(1, 1);
    let mut bench = Bench::warm(
        Config {
            lane_keys_min: 8192,
            lane_keys_max: 8192,
            keys_max: 8192,
            ..small()
        },
        &entry,
    );
    let mut blobs = Vec::new();
    for _ in 0..3 {
        bench.fill();
        blobs.extend(std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| std::iter::from_fn(|| bench.take(&entry)).collect::<Vec<_>>())
                })
                .collect();
            takers
                .into_iter()
                .flat_map(|taker| taker.join().unwrap())
                .collect::<Vec<_>>()
        }));
    }
    assert!(blobs.len() > 3 * 8192 * 9 / 10, "{}", blobs.len());
    let nonces: HashSet<&[u8]> = blobs.iter().map(|blob| &blob[24..48]).collect();
    assert_eq!(nonces.len(), blobs.len(), "no nonce twice");
}

#[test]
fn pool_2_a_lane_stays_within_its_capacity_and_all_lanes_within_the_budget() {
    let mut bench = Bench::new(small());
    let entries: Vec<_> = (0..20).map(|number| entry(number, 1)).collect();
    for _ in 0..30 {
        for entry in &entries {
            while bench.take(entry).is_some() {}
        }
        bench.fill();
        for lane in bench.pool.lanes() {
            assert!(
                lane.depth <= lane.capacity && lane.capacity <= 1024,
                "{lane:?}"
            );
        }
        assert!(bench.depth() <= 2048);
    }
    assert_eq!(bench.depth(), 2048, "the budget is used");
    assert!(
        bench.pool.lanes().len() < 20,
        "a lane that does not fit is served by misses"
    );
    let mut alone = Bench::warm(small(), &entries[0]);
    for _ in 0..3 {
        while alone.take(&entries[0]).is_some() {}
        alone.fill();
    }
    assert_eq!(
        alone.depth(),
        1024,
        "demand makes a lane grow to its ceiling"
    );
}

#[test]
fn pool_3_a_low_lane_wakes_a_sleeping_filler() {
    let entropy = Arc::new(Entropy::os());
    let word = Arc::new(CloneWord::new());
    let metrics = Metrics::new().unwrap();
    let pool = Pool::new(
        small(),
        entropy,
        Clock::system(),
        Arc::clone(&word),
        &metrics,
    )
    .unwrap();
    let entry = entry(1, 1);
    let mut taken = 0;
    // This ends only if a filler wakes every time that the lane runs low.
    while taken < 5_000 {
        match pool.take(&entry, DataKeyLength::AES_256, word.read()) {
            Some(_) => taken += 1,
            None => std::thread::yield_now(),
        }
    }
    pool.shut_down();
    assert!(
        pool.take(&entry, DataKeyLength::AES_256, word.read())
            .is_none()
    );
}

#[test]
fn pool_4_keys_minted_under_an_older_fence_are_dropped() {
    let old = entry(1, 1);
    let mut bench = Bench::warm(small(), &old);
    let new = with_fence(&old, 2);
    while bench.depth() > 0 {
        assert!(
            bench.take(&new).is_none(),
            "nothing minted under the old fence leaves"
        );
    }
    bench.fill();
    assert!(bench.take(&new).is_some());
    assert!(
        bench.take(&old).is_none(),
        "nor anything minted under the new one to a request that still sees the old"
    );
    assert!(bench.take(&new).is_some());
    bench.pool.purge(new.key.id);
    assert_eq!(bench.depth(), 0);
    assert_eq!(
        bench.fill(),
        0,
        "a purged lane is not filled until the next taker"
    );
    assert!(bench.take(&new).is_none());
    assert!(bench.fill() > 0);
}

#[test]
fn pool_5_a_clone_event_drops_everything_made_before() {
    let entry = entry(1, 1);
    let mut bench = Bench::warm(small(), &entry);
    let first = bench.take(&entry).unwrap();
    bench.word.handle().fetch_add(1, Ordering::SeqCst);
    while bench.depth() > 0 {
        assert!(bench.take(&entry).is_none());
    }
    bench.fill();
    let second = bench.take(&entry).unwrap();
    assert_ne!(
        first[24..44],
        second[24..44],
        "the filler's epoch ended too"
    );
}

#[test]
fn pool_6_an_empty_lane_is_a_miss_at_once() {
    let entry = entry(1, 1);
    let bench = Bench::new(small());
    assert!((0..100).all(|_| bench.take(&entry).is_none()));
    let off = Bench::new(Config {
        enabled: false,
        ..small()
    });
    assert!(off.take(&entry).is_none() && off.pool.lanes().is_empty());
    let word = bench.word.read();
    assert!(
        bench
            .pool
            .take(&entry, DataKeyLength::new(33).unwrap(), word)
            .is_none()
    );
}

#[test]
fn pool_7_a_filler_stopped_in_mid_push_delays_nobody() {
    let entry = entry(1, 1);
    let bench = Bench::warm(two_fillers(), &entry);
    let lanes = bench.pool.lanes.load_full();
    let lane = lanes.values().next().unwrap();
    let depth = bench.depth();
    // Filler 1 holds its own worker, and has reserved room and counted a magazine that it never
    // pushes.
    let (stopped, stop) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!lane.reserve() || depth < 256);
            lane.queue.stop_in_mid_push(1, &stopped);
        });
        let resume = stop.recv().unwrap();
        let taken = std::iter::from_fn(|| bench.take(&entry)).count();
        assert_eq!(taken, depth, "every published key is taken");
        assert!(bench.take(&entry).is_none(), "and then a miss, at once");
        resume.send(()).unwrap();
    });
}

#[test]
fn pool_8_old_keys_are_dropped_and_idle_lanes_give_their_memory_back() {
    let entry = entry(1, 1);
    let mut bench = Bench::warm(small(), &entry);
    let pass = |bench: &Bench, seconds| {
        bench.clock.advance(Duration::from_secs(seconds));
        bench.pool.tick();
    };
    // The last magazine is opened, and younger ones are filled behind it.
    assert!((0..202).all(|_| bench.take(&entry).is_some()));
    pass(&bench, 500);
    bench.fill();
    pass(&bench, 401);
    let young = bench.depth();
    let taken = std::iter::from_fn(|| bench.take(&entry)).count();
    assert_eq!(taken, young, "whatever is too old is dropped when found");
    bench.fill();
    pass(&bench, 800);
    assert!(bench.take(&entry).is_some());
    pass(&bench, 101);
    assert_eq!(bench.depth(), 0, "too old, though the lane is in use");
    bench.fill();
    assert!(bench.take(&entry).is_some());
    pass(&bench, 901);
    assert!(bench.pool.lanes().is_empty());
    assert_eq!(lock(&bench.pool.growing).granted(), 0);
}

/// Two fillers take turns, and a taker looks into its own deque first. Magazines of the other deque
/// that are too old are dropped all the same, and neither depth nor capacity counts them.
#[test]
fn pool_8_the_oldest_go_first_from_every_deque() {
    let entry = entry(1, 1);
    let mut bench = Bench::new(two_fillers());
    assert!(bench.take(&entry).is_none());
    let fill_by = |bench: &mut Bench, filler, magazines| {
        let lanes = bench.pool.lanes.load_full();
        let lane = lanes.values().next().unwrap();
        for _ in 0..magazines {
            assert!(fill(&bench.pool, lane, filler, &mut bench.epochs));
        }
    };
    fill_by(&mut bench, 0, 1);
    fill_by(&mut bench, 1, 1);
    bench.clock.advance(Duration::from_secs(500));
    bench.pool.tick();
    fill_by(&mut bench, 0, 1);
    fill_by(&mut bench, 1, 1);
    assert!(bench.take(&entry).is_some(), "one is opened");
    bench.clock.advance(Duration::from_secs(401));
    bench.pool.tick();
    assert_eq!(bench.depth(), 128, "the young ones of both");
    assert_eq!(std::iter::from_fn(|| bench.take(&entry)).count(), 128);
    fill_by(&mut bench, 1, 2);
    bench.pool.tick();
    assert_eq!(bench.depth(), 128, "a tick leaves young keys");
    assert_eq!(std::iter::from_fn(|| bench.take(&entry)).count(), 128);
}

/// Masks and GHASH keys are held by types that can neither be printed nor cloned; see the
/// compile-fail examples at `envelope::epoch`. This test shows that a pool that shuts down keeps
/// none of them.
#[test]
fn pool_9_a_pool_that_shuts_down_keeps_no_key() {
    let entry = entry(1, 1);
    let bench = Bench::warm(small(), &entry);
    let lanes = bench.pool.lanes.load_full();
    assert!(bench.take(&entry).is_some());
    bench.pool.shut_down();
    assert!(
        lanes
            .values()
            .all(|lane| lane.queue.full() == 0 && lane.queue.acquire(0).is_none())
    );
}

#[test]
fn rng_1_a_failed_draw_fills_nothing_and_does_not_spin() {
    let entry = entry(1, 1);
    let mut bench = Bench::new(small());
    assert!(bench.take(&entry).is_none());
    bench.faulty.0.store(true, Ordering::SeqCst);
    assert_eq!(bench.fill(), 0);
    bench.faulty.0.store(false, Ordering::SeqCst);
    assert!(bench.fill() > 0);
}

#[test]
fn a_last_section_holds_up_a_change_that_came_later() {
    let check = Arc::new(LastCheck::default());
    let section = check.enter(3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            check.quiesce();
            done.store(true, Ordering::SeqCst);
        });
        for _ in 0..100 {
            // Other sections begin and end meanwhile.
            drop(check.enter(4));
            assert!(!done.load(Ordering::SeqCst));
            std::thread::yield_now();
        }
        drop(section);
    });
    assert!(done.load(Ordering::SeqCst));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Compares the pool step by step with a plain model of one lane: a count of keys, and the
    /// fence and clone word under which they were made.
    #[test]
    fn the_pool_agrees_with_a_plain_model(steps in prop::collection::vec(0..6u8, 1..60)) {
        let mut current = entry(1, 1);
        let mut bench = Bench::new(Config { lane_keys_max: 256, ..small() });
        bench.take(&current);
        let (mut keys, mut fresh, mut seen) = (0usize, true, HashSet::new());
        for step in steps {
            match step {
                0 | 1 => {
                    for _ in 0..100 {
                        let taken = bench.take(&current);
                        prop_assert!(taken.is_none() || (fresh && keys > 0), "a key from nowhere");
                        prop_assert!(taken.is_some() || !fresh || keys == 0, "a miss with keys at hand");
                        if let Some(blob) = taken {
                            keys -= 1;
                            prop_assert!(seen.insert(blob[24..48].to_vec()));
                        }
                    }
                    if !fresh { while bench.depth() > 0 { prop_assert!(bench.take(&current).is_none()); } keys = 0; fresh = true; }
                }
                2 | 3 => if fresh { bench.fill(); keys = keys.max(keys % 64 + bench.depth()); },
                4 => { current = with_fence(&current, current.fence + 1); fresh = false; }
                _ => { bench.word.handle().fetch_add(1, Ordering::SeqCst); fresh = false; }
            }
            prop_assert!(bench.depth() <= 256);
        }
    }
}
