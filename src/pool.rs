//! The pool: wrapped data keys that are made before a request needs them.
//!
//! A **lane** holds interchangeable pooled keys for one (KMS key, data key spec); each is encrypted
//! already and not yet bound to an encryption context, so one lane serves every context.
//! **Fillers** are low-priority threads of a private rayon pool, with an epoch each. They mint
//! **magazines** of keys and publish them in work-stealing deques, from which takers steal. A
//! request takes one key and binds it. When the lane has no key, that is a miss, and the request
//! mints its own key at once: a lane is a bonus, never a dependency (POOL-6). A change to a KMS key
//! moves its fence. Keys that were minted under another fence or clone word are dropped when they
//! are found, and a request compares both once more as its last act. A lane begins with its first
//! miss, grows with demand between a floor and a ceiling, and gives its memory back when it is not
//! used. All lanes share one budget, of which every account has its part.
//!
//! This module does not know who may take a key, does not bind keys, and does not serve lengths
//! that have no lane (all but 32 and 16 bytes).

use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::envelope::PooledKey;
use crate::key::KeyId;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::metrics::Metrics;
use arc_swap::ArcSwap;
use budget::{Budget, SPARE_AFTER};
use emptied::Emptied;
use lane::{Lane, MAGAZINE_KEYS, Magazine};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use watermark::{Bell, Watermarks};

mod budget;
pub mod clone_word;
mod emptied;
mod filler;
pub mod lane;
pub mod pairs;
mod queue;
pub mod stamp;
mod sync;
mod watermark;

pub use clone_word::CloneWord;
pub(crate) use filler::lower_priority;
pub use lane::LaneId;
pub use pairs::{Pairs, PooledPair};
pub use stamp::{LastCheck, LastSection, Stamp};

/// How many keys to make ahead of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether to pool at all. If not, every request mints from an epoch of its own.
    pub enabled: bool,
    /// Filler threads; 0 means one for each core.
    pub fillers: usize,
    /// The capacity of a new lane, in keys.
    pub lane_keys_min: usize,
    /// The capacity that a busy lane may grow to, in keys.
    pub lane_keys_max: usize,
    /// The most pooled keys of all lanes together.
    pub keys_max: usize,
    /// After this many seconds, pooled keys are dropped unused, and an unused lane gives its memory
    /// back.
    pub age_max_seconds: u64,
    /// The number of key pairs that are held for each spec in use; 0: each pair is made when a
    /// request needs it.
    pub pairs_per_spec: usize,
}

impl Config {
    /// The bytes that `keys_max` keys take; 0 where there is no pool.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        let keys = if self.enabled { self.keys_max } else { 0 };
        (keys as u64).saturating_mul(size_of::<PooledKey>() as u64)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            fillers: 0,
            lane_keys_min: 4096,
            lane_keys_max: 262_144,
            keys_max: 4_194_304,
            age_max_seconds: 900,
            pairs_per_spec: 16,
        }
    }
}

/// Why pooled keys were dropped unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// The KMS key was changed.
    Fence,
    /// The machine or process may have been cloned.
    Clone,
    /// The keys were too old, or their lane was not used.
    Age,
    /// The lane was taken down for other lanes: it was idle, or its account held more than its
    /// share.
    Share,
    /// More takers at one instant than there are slots for opened magazines.
    Overflow,
    /// The pool was shut down.
    Shutdown,
}

impl Purge {
    /// The label of `keymill_pool_purged_total`.
    pub const REASONS: [&'static str; 6] =
        ["fence", "clone", "age", "share", "overflow", "shutdown"];

    fn reason(self) -> &'static str {
        Self::REASONS[self as usize]
    }
}

/// The state of one lane, for metrics and the status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// `<key id>/<spec>`, `pairs/<spec>`
    pub lane: String,
    /// Keys in full magazines.
    pub depth: usize,
    /// Below so many keys it is filled.
    pub low: usize,
    /// The keys that the lane may hold.
    pub capacity: usize,
}

/// How many stale magazines one taker drops before it reports a miss: a purge is not a request's
/// work.
const DROPS_MAX: usize = 8;

/// The pool of one process.
pub struct Pool {
    config: Config,
    fillers: usize,
    entropy: Arc<Entropy>,
    clock: Clock,
    clone_word: Arc<CloneWord>,
    /// Monotonic microseconds as of the latest tick. Takers use this time and read no clock: the
    /// age of a pooled key is a matter of minutes.
    now: AtomicU64,
    lanes: ArcSwap<BTreeMap<LaneId, Arc<Lane>>>,
    /// Locked while the set of lanes or their capacities change; a taker that finds a key never
    /// locks it.
    growing: Mutex<Budget>,
    emptied: Emptied<Magazine>,
    bell: Bell,
    shut_down: AtomicBool,
    minted: metrics::Counter,
    purged: [metrics::Counter; Purge::REASONS.len()],
    threads: Mutex<Option<rayon::ThreadPool>>,
    pairs: Arc<Pairs>,
}

impl Pool {
    /// Builds the pool and starts its fillers.
    ///
    /// # Errors
    /// When the operating system refuses threads.
    pub fn new(
        config: Config,
        entropy: Arc<Entropy>,
        clock: Clock,
        clone_word: Arc<CloneWord>,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, rayon::ThreadPoolBuildError> {
        let pool = Self::without_fillers(config, entropy, clock, clone_word, metrics);
        if pool.config.enabled {
            let threads = filler::start(&pool, pool.fillers)?;
            *lock(&pool.threads) = Some(threads);
        }
        Ok(pool)
    }

    fn without_fillers(
        config: Config,
        entropy: Arc<Entropy>,
        clock: Clock,
        clone_word: Arc<CloneWord>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let fillers = if config.fillers == 0 {
            cores
        } else {
            config.fillers
        };
        let now = lane::micros(clock.monotonic());
        let word = Arc::clone(&clone_word);
        let pairs = Pairs::new(&config, fillers, &entropy, clock.clone(), word, metrics);
        let budget = Budget::new(config.keys_max / MAGAZINE_KEYS);
        Arc::new(Self {
            config,
            fillers,
            entropy,
            clock,
            clone_word,
            now: AtomicU64::new(now),
            lanes: ArcSwap::default(),
            growing: Mutex::new(budget),
            emptied: Emptied::new(),
            bell: Bell::new(fillers),
            shut_down: AtomicBool::new(false),
            minted: metrics.pool_minted.clone(),
            purged: Purge::REASONS.map(|reason| {
                let counter = metrics.pool_purged(reason);
                counter.increment(0);
                counter
            }),
            threads: Mutex::new(None),
            pairs,
        })
    }

    /// The pool of key pairs, which do not belong to a KMS key yet.
    #[must_use]
    pub fn pairs(&self) -> &Arc<Pairs> {
        &self.pairs
    }

    /// Whether keys of this length are pooled now.
    #[must_use]
    pub fn has_lanes_of(&self, length: DataKeyLength) -> bool {
        let pooled = matches!(length, DataKeyLength::AES_256 | DataKeyLength::AES_128);
        self.config.enabled && pooled && !self.is_shut_down()
    }

    /// Takes a pooled key of `entry` that was minted under its fence and under `clone_word`. `None`
    /// is a miss; this never waits.
    pub fn take(
        &self,
        entry: &Arc<KeyEntry>,
        length: DataKeyLength,
        clone_word: u64,
    ) -> Option<PooledKey> {
        if !self.has_lanes_of(length) {
            return None;
        }
        let id = LaneId {
            key: entry.key.regional_id(),
            length,
        };
        let lanes = self.lanes.load();
        // Without a lane this is the first miss. The guard is dropped before the set is replaced.
        let Some(lane) = lanes.get(&id) else {
            drop(lanes);
            self.add_lane(id, entry);
            return None;
        };
        // This request's snapshot is older than the lane's: it must not drop current keys.
        if lane.is_newer_than(entry.fence) {
            return None;
        }
        let stamp = Stamp {
            fence: entry.fence,
            clone_word,
        };
        let key = self.take_from(lane, stamp);
        if key.is_none() {
            // Only a miss updates the lane's entry: if the fillers do not know this entry, their
            // keys are stale, and that shows as misses.
            lane.offer(entry);
            self.grow(lane);
            if lane.is_low() {
                self.bell.ring();
            }
        }
        key
    }

    fn take_from(&self, lane: &Lane, stamp: Stamp) -> Option<PooledKey> {
        let (start, now) = (thread_number(), self.now());
        lane.taken(now);
        // Stale magazines are dropped on the way, but only a few.
        for _ in 0..DROPS_MAX {
            let mut magazine = lane.queue.acquire(start)?;
            // A magazine that was opened before was subtracted from the depth then.
            if magazine.keys.len() == MAGAZINE_KEYS && lane.is_low() {
                self.bell.ring();
            }
            if let Some(reason) = self.stale(&magazine, stamp, now) {
                self.count(reason, magazine.keys.len());
                continue;
            }
            let key = magazine.keys.take();
            if magazine.keys.is_empty() {
                self.emptied.put(magazine);
            } else if let Some(left) = lane.queue.put_back(start, magazine) {
                self.count(Purge::Overflow, left.keys.len());
            }
            if key.is_some() {
                return key;
            }
        }
        None
    }

    /// The reason why a magazine must not be used; `None` when it may be used.
    fn stale(&self, magazine: &Magazine, stamp: Stamp, now: Duration) -> Option<Purge> {
        if magazine.stamp.clone_word != stamp.clone_word {
            Some(Purge::Clone)
        } else if magazine.stamp.fence != stamp.fence {
            Some(Purge::Fence)
        } else if now.saturating_sub(magazine.minted_at) > self.age_max() {
            Some(Purge::Age)
        } else {
            None
        }
    }

    /// Adds a lane at its first miss, if the budget has room for the smallest lane.
    fn add_lane(&self, id: LaneId, entry: &Arc<KeyEntry>) {
        // A taker does not wait: if the set of lanes is changing now, the next miss adds this lane.
        let Ok(mut budget) = self.growing.try_lock() else {
            return;
        };
        let lanes = self.lanes.load();
        let capacity = self.config.lane_keys_min.div_ceil(MAGAZINE_KEYS);
        let account = entry.key.account;
        if !lanes.contains_key(&id) && budget.grant(account, capacity) {
            let lane = Lane::new(entry, id.length, self.fillers, capacity);
            lane.offer(entry);
            lane.taken(self.now());
            // Takers use the old map until the new one is stored.
            let mut next = BTreeMap::clone(&lanes);
            next.insert(id, Arc::new(lane));
            self.lanes.store(Arc::new(next));
        }
        self.bell.ring();
    }

    /// Doubles the capacity of a lane that was found empty, up to the ceiling and the budget.
    fn grow(&self, lane: &Lane) {
        // A taker does not wait: if lanes are growing now, the next miss tries again.
        let Ok(mut budget) = self.growing.try_lock() else {
            return;
        };
        let capacity = lane.capacity();
        let ceiling = self.config.lane_keys_max.div_ceil(MAGAZINE_KEYS);
        let next = (capacity * 2).min(ceiling);
        // A lane that was filled and is empty has more demand than it holds. A lane that was never
        // filled is not evidence of demand.
        let was_filled = lane.was_filled() && lane.queue.full() == 0;
        let account = lane.account;
        if was_filled && next > capacity && budget.grant(account, next - capacity) {
            lane.set_capacity(next);
        }
    }

    /// Drops every pooled key of a KMS key, and of those that are related to it, after the key was
    /// changed. Filling resumes with the first taker under the new fence.
    pub fn purge(&self, key: KeyId) {
        let lanes = self.lanes.load();
        for lane in lanes.values().filter(|lane| lane.id.key.id == key) {
            lane.entry.store(None);
            self.count(Purge::Fence, lane.purge());
        }
    }

    /// Drops keys that are too old, the oldest first, takes back the memory of lanes that are
    /// unused or that other lanes need more, and rings for lanes that are low. A timer calls this
    /// once a second.
    pub fn tick(&self) {
        let mut budget = lock(&self.growing);
        let now = self.clock.monotonic();
        self.pairs.tick(now);
        self.now.store(lane::micros(now), Ordering::Relaxed);
        let before = self.lanes.load();
        let oldest = now.saturating_sub(self.age_max());
        // First the keys that are too old, in every lane.
        for lane in before.values() {
            let old = lane.queue.drop_older(oldest, |magazine| magazine.minted_at);
            self.count(
                Purge::Age,
                old.iter().map(|magazine| magazine.keys.len()).sum(),
            );
        }
        // Then whole lanes: idle ones, and those that must give room to other accounts.
        let spare = budget.spare(&before, now);
        let mut lanes = BTreeMap::clone(&before);
        lanes.retain(|id, lane| {
            // A lane without an entry was purged, and its key has not been used since: the key may
            // be deleted.
            let idle_max = if lane.entry.load().is_some() {
                self.age_max()
            } else {
                self.age_max().min(SPARE_AFTER)
            };
            let reason = if spare.contains(id) {
                Purge::Share
            } else if lane.idle(now) > idle_max {
                Purge::Age
            } else {
                return true;
            };
            lane.entry.store(None);
            self.count(reason, lane.purge());
            budget.give_back(lane.capacity());
            false
        });
        if lanes.len() < before.len() {
            self.lanes.store(Arc::new(lanes));
        }
        // Takers ring only at a miss; the tick also wakes the fillers for lanes that ran low since.
        if self.lanes.load().values().any(|lane| lane.is_low()) {
            self.bell.ring();
        }
    }

    /// The state of every lane.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneStatus> {
        let status = |lane: &Arc<Lane>| LaneStatus {
            lane: lane.label().to_owned(),
            depth: lane.queue.full() * MAGAZINE_KEYS,
            low: Watermarks::of_capacity(lane.capacity()).low * MAGAZINE_KEYS,
            capacity: lane.capacity() * MAGAZINE_KEYS,
        };
        let lanes = self.lanes.load();
        lanes
            .values()
            .map(status)
            .chain(self.pairs.status())
            .collect()
    }

    /// Stops the fillers and drops every pooled key.
    pub fn shut_down(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
        self.bell.ring();
        self.pairs.shut_down();
        // Dropping a rayon pool does not wait for its threads. They see the flag; magazines that
        // they still publish are drained by the next line or dropped with the lane.
        drop(lock(&self.threads).take());
        for lane in self.lanes.swap(Arc::default()).values() {
            self.count(Purge::Shutdown, lane.purge());
        }
    }

    /// Monotonic time as of the latest tick.
    fn now(&self) -> Duration {
        Duration::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::SeqCst)
    }

    fn age_max(&self) -> Duration {
        Duration::from_secs(self.config.age_max_seconds)
    }

    fn count(&self, reason: Purge, keys: usize) {
        if keys > 0 {
            self.purged[reason as usize].increment(keys as u64);
            tracing::debug!(reason = reason.reason(), keys, "purged");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number for the calling thread, which spreads threads over shards and slots.
#[must_use]
pub fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}

#[cfg(test)]
mod tests;
