//! The cost of a pooled key: through the pool, whose unit between cores is a magazine, beside a
//! bounded lock-free queue of single keys; and the cost for a request that finds none.
//!
//! The pool is the real one, with its fillers. A run takes at most a quarter of the lane and then
//! waits, uncounted, for the fillers where they have been rung for: every take is a hit.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;

use crossbeam::queue::ArrayQueue;
use keymill::clock::{Clock, Timestamp};
use keymill::context::EncryptionContext;
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{self, Epoch, PooledKey};
use keymill::key::data_key::DataKeyLength;
use keymill::key::material::BackingKey;
use keymill::key::{KeyId, KmsKey};
use keymill::keystore::KeyEntry;
use keymill::metrics::Metrics;
use keymill::pool::{CloneWord, Config, Pool};
use side_by_side::rows::Goal;
use side_by_side::{Question, Side, by_runs, slowest};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LENGTH: DataKeyLength = DataKeyLength::AES_256;
/// Keys of the lane, and of the queue beside it.
const LANE_KEYS: usize = 65_536;
/// Keys of one run across threads: many lanes full, so that waking a filler that sleeps is a small
/// part of it.
const ACROSS_KEYS: u32 = 16 * 65_536;
/// Taken by all threads together before the lane is looked at: from anywhere above the low
/// watermark, half the lane, it holds so many.
const RUN: usize = LANE_KEYS / 4;
/// Keys minted at a time where they go into the queue.
const MINT: usize = 64;

fn main() {
    let supply = Supply::new();
    let mut questions = questions(&supply);
    side_by_side::answer(&mut questions);
    supply.pool.shut_down();
}

fn questions(supply: &Arc<Supply>) -> Vec<Question> {
    let mut questions = Vec::new();
    for (name, threads) in [("take, one thread", 1), ("take, two threads at once", 2)] {
        questions.push(Question::new(
            name,
            1,
            vec![
                Side::new("pool", taken(supply, threads, from_pool)),
                Side::new("ArrayQueue", taken(supply, threads, from_queue)),
            ],
        ));
    }
    let across = Question::new(
        "one thread takes what another mints",
        ACROSS_KEYS,
        vec![
            Side::new("pool, fillers at work", across_pool(supply)),
            Side::new("ArrayQueue", across_queue(supply)),
        ],
    );
    questions.push(across.row(
        "queue, per key, two threads",
        ["pool, fillers at work", "ArrayQueue"],
        Goal::AtMost(0.4),
    ));
    questions.push(Question::new(
        "a request's key, 64 bytes of context",
        1,
        vec![
            Side::new("hit: take, bind, compare the clone word", hit(supply)),
            Side::new("miss: mint and bind", miss(supply)),
        ],
    ));
    questions
}

/// Where keys come from: a pool with a lane of one key, and the queue.
struct Supply {
    entry: Arc<KeyEntry>,
    entropy: Arc<Entropy>,
    pool: Arc<Pool>,
    clone_word: Arc<CloneWord>,
    word: u64,
    queue: ArrayQueue<PooledKey>,
}

impl Supply {
    fn new() -> Arc<Self> {
        let config = Config {
            lane_keys_min: LANE_KEYS,
            lane_keys_max: LANE_KEYS,
            ..Config::default()
        };
        let entropy = Arc::new(Entropy::os());
        let clone_word = Arc::new(CloneWord::new());
        let pool = Pool::new(
            config,
            Arc::clone(&entropy),
            Clock::system(),
            Arc::clone(&clone_word),
            &Metrics::new().unwrap(),
        );
        Arc::new(Self {
            entry: entry(&entropy),
            entropy,
            pool: pool.unwrap(),
            word: clone_word.read(),
            clone_word,
            queue: ArrayQueue::new(LANE_KEYS),
        })
    }

    fn take(&self) -> Option<PooledKey> {
        self.pool.take(&self.entry, LENGTH, self.word)
    }

    /// Waits until a run's keys are there and the fillers have gone to sleep, which they do at the
    /// high watermark alone.
    fn fill_lane(&self) {
        let depth = || self.pool.lanes().first().map(|lane| lane.depth);
        if depth().is_none() {
            // A lane begins with its first miss.
            drop(self.take());
        }
        if depth().is_some_and(|depth| depth >= LANE_KEYS / 2) {
            return;
        }
        while depth().is_none_or(|depth| depth < LANE_KEYS) {
            self.pool.tick();
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn fill_queue(&self, keys: usize) {
        let mut epoch = self.epoch();
        while self.queue.len() < keys {
            let mut minted = epoch.mint(LENGTH, MINT, Duration::ZERO).unwrap();
            while let Some(key) = minted.take() {
                drop(self.queue.push(key));
            }
        }
    }

    fn epoch(&self) -> Epoch {
        let id = self.entry.key.id;
        Epoch::begin(
            id,
            self.entry.current().unwrap(),
            &self.entropy,
            Duration::ZERO,
        )
        .unwrap()
    }
}

fn entry(entropy: &Entropy) -> Arc<KeyEntry> {
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes).unwrap();
    let id = KeyId::from_random(bytes);
    let material = BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(0), entropy).unwrap();
    Arc::new(KeyEntry {
        key: KmsKey::new(id, "111122223333".parse().unwrap(), Timestamp(0)),
        arn: String::new(),
        materials: vec![Arc::new(material)],
        secret: None,
        fence: 1,
    })
}

fn from_pool(supply: &Supply) -> Option<PooledKey> {
    supply.take()
}

fn from_queue(supply: &Supply) -> Option<PooledKey> {
    supply.queue.pop()
}

/// Keys that are there already, taken by `threads` threads: wall-clock time of all of them, divided
/// among the keys.
fn taken(
    supply: &Arc<Supply>,
    threads: usize,
    take: fn(&Supply) -> Option<PooledKey>,
) -> impl FnMut(u64) -> Duration + use<> {
    let supply = Arc::clone(supply);
    by_runs(RUN, move |count| {
        supply.fill_lane();
        // By another thread, as fillers are others: neither side finds its keys in its own
        // cache.
        std::thread::scope(|scope| {
            scope.spawn(|| supply.fill_queue(count + threads));
        });
        let share = count.div_ceil(threads);
        let took = slowest(threads, || {
            for _ in 0..share {
                drop(black_box(take(&supply).expect("as many keys are there")));
            }
        });
        scaled(took, count, share * threads)
    })
}

/// `took` for so many keys, scaled to `count`.
fn scaled(took: Duration, count: usize, keys: usize) -> Duration {
    took.mul_f64(count as f64 / keys as f64)
}

/// The lane is drained while it is filled: what crosses cores is what was just minted.
fn across_pool(supply: &Arc<Supply>) -> impl FnMut(u64) -> Duration + use<> {
    let supply = Arc::clone(supply);
    move |times| {
        supply.fill_lane();
        while supply.take().is_some() {}
        let clock = Clock::system();
        for _ in 0..times * u64::from(ACROSS_KEYS) {
            while supply.take().is_none() {
                std::hint::spin_loop();
            }
        }
        clock.monotonic()
    }
}

fn across_queue(supply: &Arc<Supply>) -> impl FnMut(u64) -> Duration + use<> {
    let supply = Arc::clone(supply);
    move |times| {
        while supply.queue.pop().is_some() {}
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut epoch = supply.epoch();
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut minted) = epoch.mint(LENGTH, MINT, Duration::ZERO) else {
                        epoch = supply.epoch();
                        continue;
                    };
                    while let Some(mut key) = minted.take() {
                        while let Err(back) = supply.queue.push(key) {
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            key = back;
                        }
                    }
                }
            });
            let clock = Clock::system();
            for _ in 0..times * u64::from(ACROSS_KEYS) {
                while supply.queue.pop().is_none() {
                    std::hint::spin_loop();
                }
            }
            let took = clock.monotonic();
            stop.store(true, Ordering::Relaxed);
            took
        })
    }
}

fn context() -> EncryptionContext {
    let context = EncryptionContext::from_pairs([("container", "x".repeat(49))]).unwrap();
    assert_eq!(context.canonical().len(), 64);
    context
}

fn hit(supply: &Arc<Supply>) -> impl FnMut(u64) -> Duration + use<> {
    let supply = Arc::clone(supply);
    let (context, mut out) = (context(), Vec::new());
    by_runs(RUN, move |count| {
        supply.fill_lane();
        let clock = Clock::system();
        for _ in 0..count {
            out.clear();
            let word = supply.clone_word.read();
            let key = supply.pool.take(&supply.entry, LENGTH, word);
            key.expect("as many keys are there")
                .bind(&context, &mut out);
            assert_eq!(supply.clone_word.read(), word, "nobody cloned this machine");
            black_box(&out);
        }
        clock.monotonic()
    })
}

/// With a draw from the operating system and an epoch of its own.
fn miss(supply: &Arc<Supply>) -> impl FnMut(u64) -> Duration + use<> {
    let supply = Arc::clone(supply);
    let (context, mut out) = (context(), Vec::new());
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            out.clear();
            let (id, key) = (supply.entry.key.id, supply.entry.current().unwrap());
            let key = envelope::mint_one(id, key, LENGTH, &supply.entropy).unwrap();
            key.bind(&context, &mut out);
            black_box(&out);
        }
        clock.monotonic()
    }
}
