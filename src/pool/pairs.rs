//! Lanes of key pairs, which are made before a request needs them.
//!
//! A pair does not depend on a KMS key, so there is one lane for each spec. A request that takes a
//! pair seals its private key under the request's KMS key and binds it to the request's context. A
//! lane begins with the first request of its spec. Threads of its own at the lowest priority keep
//! it full: one RSA pair would hold up a filler for longer than the lanes of data keys last. Unlike
//! with data keys, a miss waits, for the same threads and in a queue of bounded length (POOL-6); a
//! taker that finds a pair never waits (POOL-7). A pair is dropped at the pool's maximum age. A
//! lane that is not used is dropped as well and begins anew with the next request. Pairs made under
//! another clone word are never handed out (POOL-5).

use super::queue::Queue;
use super::watermark::{Bell, Watermarks};
use super::{Config, DROPS_MAX, LaneStatus, Purge, filler, lane, lock, thread_number};
use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::metrics::Metrics;
use crate::pool::CloneWord;
use crossbeam::queue::SegQueue;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// The most requests of one spec that wait for a pair; further ones are asked to try again.
pub const WAITING_MAX: usize = 32;
/// How long a request waits: while all cores are busy, a thread of the lowest priority may make no
/// progress.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A pair and the clone word under which it was made. Secret: no `Clone`, no `Debug`.
pub struct PooledPair {
    /// The pair.
    pub key: PrivateKey,
    /// The pair must not be handed out under another clone word.
    pub clone_word: u64,
    made_at: Duration,
}

/// Why a request that waited got no pair.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// Too many requests wait already, or the wait took too long.
    #[error("too many requests wait for key pairs")]
    Busy,
    /// The pair for this request could not be made: the entropy source or aws-lc failed, the
    /// machine was cloned meanwhile, or the pool was shut down.
    #[error("no key pair could be made")]
    NotMade,
}

/// The lanes of pairs of one process.
pub struct Pairs {
    /// The pairs that a lane holds; 0: none is made ahead.
    per_spec: usize,
    age_max: Duration,
    lanes: [PairLane; PairSpec::ALL.len()],
    fillers: usize,
    entropy: Arc<Entropy>,
    clock: Clock,
    clone_word: Arc<CloneWord>,
    bell: Bell,
    shut_down: AtomicBool,
    minted: metrics::Counter,
    purged: [metrics::Counter; Purge::REASONS.len()],
    /// Started at the first request.
    threads: Mutex<Option<rayon::ThreadPool>>,
}

struct PairLane {
    spec: PairSpec,
    ready: Queue<PooledPair>,
    waiting: SegQueue<oneshot::Sender<PooledPair>>,
    /// Requests that wait. They are counted apart from the queue: a request that has gone away
    /// leaves a harmless entry there.
    waiters: AtomicUsize,
    /// Whether a pair of this spec was requested since the lane was last dropped.
    begun: AtomicBool,
    filling: AtomicBool,
    /// Pairs that are being made, counted before they exist (POOL-2).
    reserved: AtomicUsize,
    /// Monotonic microseconds of the latest request.
    taken_at: AtomicU64,
}

/// One unit of a counter ([`PairLane::waiters`], [`PairLane::reserved`]), given back when dropped.
struct Reservation<'a>(&'a AtomicUsize);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PairLane {
    fn new(spec: PairSpec, fillers: usize) -> Self {
        Self {
            spec,
            ready: Queue::new(fillers),
            waiting: SegQueue::new(),
            waiters: AtomicUsize::new(0),
            begun: AtomicBool::new(false),
            filling: AtomicBool::new(false),
            reserved: AtomicUsize::new(0),
            taken_at: AtomicU64::new(0),
        }
    }

    /// The request that has waited longest and is still waiting.
    fn waiter(&self) -> Option<oneshot::Sender<PooledPair>> {
        std::iter::from_fn(|| self.waiting.pop()).find(|waiter| !waiter.is_closed())
    }

    fn is_low(&self, capacity: usize) -> bool {
        self.begun.load(Ordering::SeqCst)
            && self.ready.full() < Watermarks::of_capacity(capacity).low
    }

    fn wants_filling(&self, capacity: usize) -> bool {
        let marks = Watermarks::of_capacity(capacity);
        let filling = marks.fill(self.ready.full(), self.filling.load(Ordering::SeqCst));
        self.filling.store(filling, Ordering::SeqCst);
        filling && self.begun.load(Ordering::SeqCst)
    }

    /// Reserves room for one pair, if there is room.
    fn reserve(&self, capacity: usize) -> Option<Reservation<'_>> {
        let reserved = self.reserved.fetch_add(1, Ordering::SeqCst);
        let place = Reservation(&self.reserved);
        (self.ready.full() + reserved < capacity).then_some(place)
    }
}

impl Pairs {
    /// Makes empty lanes; no thread runs before the first request.
    pub(super) fn new(
        config: &Config,
        fillers: usize,
        entropy: &Arc<Entropy>,
        clock: Clock,
        clone_word: Arc<CloneWord>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            per_spec: if config.enabled {
                config.pairs_per_spec
            } else {
                0
            },
            age_max: Duration::from_secs(config.age_max_seconds),
            lanes: PairSpec::ALL.map(|spec| PairLane::new(spec, fillers)),
            fillers,
            entropy: Arc::clone(entropy),
            clock,
            clone_word,
            bell: Bell::new(fillers),
            shut_down: AtomicBool::new(false),
            minted: metrics.pool_minted.clone(),
            purged: Purge::REASONS.map(|reason| metrics.pool_purged(reason)),
            threads: Mutex::new(None),
        })
    }

    /// Takes a pair that was made under `clone_word`. `None` is a miss: call [`Self::wait`].
    pub fn take(&self, spec: PairSpec, clone_word: u64) -> Option<PooledPair> {
        let lane = self.lane(spec);
        let now = self.clock.monotonic();
        lane.taken_at.store(lane::micros(now), Ordering::Relaxed);
        // Stored once: takers on other cores read this cache line.
        if !lane.begun.load(Ordering::SeqCst) {
            lane.begun.store(true, Ordering::SeqCst);
        }
        let mut found = None;
        for _ in 0..DROPS_MAX {
            let Some(pair) = lane.ready.acquire(thread_number()) else {
                break;
            };
            match self.stale(&pair, clone_word, now) {
                Some(reason) => self.count(reason, 1),
                None => {
                    found = Some(*pair);
                    break;
                }
            }
        }
        if lane.is_low(self.per_spec) {
            self.bell.ring();
        }
        found
    }

    /// The reason why a pair must not be used; `None` when it may be used.
    fn stale(&self, pair: &PooledPair, clone_word: u64, now: Duration) -> Option<Purge> {
        if pair.clone_word != clone_word {
            Some(Purge::Clone)
        } else if now.saturating_sub(pair.made_at) > self.age_max {
            Some(Purge::Age)
        } else {
            None
        }
    }

    /// Waits for a pair, behind the requests that wait already.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(self: &Arc<Self>, spec: PairSpec) -> Result<PooledPair, WaitError> {
        let (_place, receiver) = self.join_queue(spec)?;
        self.start();
        self.bell.ring();
        match tokio::time::timeout(WAIT_MAX, receiver).await {
            Ok(Ok(pair)) => Ok(pair),
            Ok(Err(_)) => Err(WaitError::NotMade),
            Err(_) => Err(WaitError::Busy),
        }
    }

    fn join_queue(
        &self,
        spec: PairSpec,
    ) -> Result<(Reservation<'_>, oneshot::Receiver<PooledPair>), WaitError> {
        let lane = self.lane(spec);
        // Counted first, so that two requests cannot both take the last place.
        let before = lane.waiters.fetch_add(1, Ordering::SeqCst);
        let place = Reservation(&lane.waiters);
        if before >= WAITING_MAX || self.is_shut_down() {
            return Err(WaitError::Busy);
        }
        let (sender, receiver) = oneshot::channel();
        lane.waiting.push(sender);
        Ok((place, receiver))
    }

    /// Starts the threads if they are not running.
    fn start(self: &Arc<Self>) {
        let mut threads = lock(&self.threads);
        if threads.is_some() || self.is_shut_down() {
            return;
        }
        let built = rayon::ThreadPoolBuilder::new()
            .num_threads(self.fillers)
            .thread_name(|filler| format!("pairs-{filler}"))
            .start_handler(|_| filler::lower_priority())
            .build();
        match built {
            Ok(built) => {
                for filler in 0..self.fillers {
                    let pairs = Arc::clone(self);
                    built.spawn(move || pairs.run(filler));
                }
                *threads = Some(built);
            }
            Err(error) => tracing::error!(%error, "no threads for key pairs"),
        }
    }

    /// Fills until the pool shuts down.
    fn run(&self, filler: usize) {
        let mut first = filler;
        while !self.is_shut_down() {
            self.bell.answer(filler);
            match self.step(filler, first) {
                Some(next) => first = next,
                None => self.bell.sleep(filler),
            }
        }
    }

    /// Makes one pair: for a request that waits, else for a lane that is not full. Lanes take
    /// turns, from number `first` on. Returns the lane to begin with next time, or `None` when
    /// there was nothing to do.
    fn step(&self, filler: usize, first: usize) -> Option<usize> {
        let turns = || (0..self.lanes.len()).map(|turn| (first + turn) % self.lanes.len());
        let next = |at: usize| (at + 1) % self.lanes.len();
        // Requests that wait come before lanes that only run low.
        for at in turns() {
            let lane = &self.lanes[at];
            if let Some(waiter) = lane.waiter() {
                let ready = lane.ready.acquire(filler).map(|pair| *pair);
                let (word, now) = (self.clone_word.read(), self.clock.monotonic());
                let ready = ready.filter(|pair| self.stale(pair, word, now).is_none());
                let pair = ready.or_else(|| self.generate(lane.spec))?;
                // If the request gave up meanwhile, the pair goes to the lane.
                if let Err(unwanted) = waiter.send(pair) {
                    let made_at = unwanted.made_at;
                    lane.ready.publish(filler, Box::new(unwanted), made_at);
                }
                return Some(next(at));
            }
        }
        for at in turns() {
            let lane = &self.lanes[at];
            if lane.wants_filling(self.per_spec)
                && let Some(_room) = lane.reserve(self.per_spec)
            {
                let pair = self.generate(lane.spec)?;
                let made_at = pair.made_at;
                lane.ready.publish(filler, Box::new(pair), made_at);
                return Some(next(at));
            }
        }
        None
    }

    /// Makes a new pair. `None` when the entropy source or aws-lc fails, or the machine was cloned
    /// meanwhile.
    fn generate(&self, spec: PairSpec) -> Option<PooledPair> {
        let clone_word = self.clone_word.read();
        let probed = self.entropy.probe().inspect_err(|error| {
            tracing::error!(%error, spec = spec.name(), "no key pair was made");
        });
        let generated = PrivateKey::generate(spec, probed.ok()?);
        let key = generated.inspect_err(|error| {
            tracing::error!(%error, spec = spec.name(), "no key pair was made");
        });
        let key = key.ok()?;
        self.minted.increment(1);
        if self.clone_word.read() != clone_word {
            self.count(Purge::Clone, 1);
            return None;
        }
        Some(PooledPair {
            key,
            clone_word,
            made_at: self.clock.monotonic(),
        })
    }

    /// Drops pairs that are too old and lanes that are not used, and rings for lanes that are low.
    pub(super) fn tick(&self, now: Duration) {
        let mut low = false;
        let oldest = now.saturating_sub(self.age_max);
        for lane in &self.lanes {
            let old = lane.ready.drop_older(oldest, |pair| pair.made_at);
            self.count(Purge::Age, old.len());
            let taken_at = Duration::from_micros(lane.taken_at.load(Ordering::Relaxed));
            if now.saturating_sub(taken_at) > self.age_max
                && lane.begun.swap(false, Ordering::SeqCst)
            {
                self.count(Purge::Age, lane.ready.drain().count());
            }
            low |= lane.is_low(self.per_spec) || lane.waiters.load(Ordering::SeqCst) > 0;
        }
        if low {
            self.bell.ring();
        }
    }

    /// The state of the lanes that are in use.
    pub(super) fn status(&self) -> impl Iterator<Item = LaneStatus> {
        let begun = |lane: &&PairLane| lane.begun.load(Ordering::SeqCst);
        self.lanes.iter().filter(begun).map(|lane| LaneStatus {
            lane: format!("pairs/{}", lane.spec.name()),
            depth: lane.ready.full(),
            low: Watermarks::of_capacity(self.per_spec).low,
            capacity: self.per_spec,
        })
    }

    /// Stops the threads, refuses all requests that wait, and drops every pair.
    pub(super) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
        self.bell.ring();
        drop(lock(&self.threads).take());
        for lane in &self.lanes {
            while lane.waiting.pop().is_some() {}
            self.count(Purge::Shutdown, lane.ready.drain().count());
        }
    }

    fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::SeqCst)
    }

    fn lane(&self, spec: PairSpec) -> &PairLane {
        // The lanes are in the order of the specs.
        &self.lanes[spec as usize]
    }

    fn count(&self, reason: Purge, pairs: usize) {
        self.purged[reason as usize].increment(pairs as u64);
    }
}

#[cfg(test)]
mod tests;
