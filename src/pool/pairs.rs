//! Lanes of key pairs: the work that no request should wait for, done before anybody asks.
//!
//! A pair does not depend on a KMS key, so there is one lane for each spec; a private key is sealed under the KMS key, and bound to the context, of whoever takes it.
//! A lane begins with the first request of its spec and is kept full by threads of its own, at the lowest priority: one RSA pair would hold up a filler for longer
//! than the lanes of data keys last. Here a miss waits, for the same threads and in a queue of bounded length (POOL-6); a taker that finds a pair waits for nobody
//! (POOL-7). A lane that nobody takes from is dropped after the pool's age, and begins anew with the next request. Pairs made under another clone word are never
//! handed out (POOL-5).

use super::queue::Queue;
use super::watermark::{Bell, Watermarks};
use super::{Config, DROPS_MAX, LaneStatus, Purge, filler, lane, lock, thread_number};
use crate::clock::Clock;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::metrics::Metrics;
use crate::pool::CloneWord;
use crossbeam::queue::SegQueue;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests of one spec that wait for a pair; whoever comes after them is told to come again.
pub const WAITING_MAX: usize = 32;
/// How long one waits: where all cores are busy with other things, a thread of the lowest priority may not come to an end.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A pair, and what it was made under. A secret: no `Clone`, no `Debug`.
pub struct PooledPair {
    /// The pair.
    pub key: PrivateKey,
    /// It must not leave under another one.
    pub clone_word: u64,
}

/// Too many wait already, or it took too long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait for key pairs")]
pub struct Busy;

/// The lanes of one process.
pub struct Pairs {
    /// Pairs that a lane holds; 0: none is made before it is asked for.
    per_spec: usize,
    age_max: Duration,
    lanes: [Lane; PairSpec::ALL.len()],
    fillers: usize,
    clock: Clock,
    clone_word: Arc<CloneWord>,
    bell: Bell,
    shut_down: AtomicBool,
    minted: metrics::Counter,
    purged: [metrics::Counter; Purge::REASONS.len()],
    /// Started with the first request.
    threads: Mutex<Option<rayon::ThreadPool>>,
}

struct Lane {
    spec: PairSpec,
    ready: Queue<PooledPair>,
    waiting: SegQueue<oneshot::Sender<PooledPair>>,
    /// Requests that wait, counted by themselves: one that has gone away leaves an entry in the queue that costs nobody anything.
    waiters: AtomicUsize,
    /// Whether anybody has asked for a pair of this spec since the lane was last dropped.
    begun: AtomicBool,
    filling: AtomicBool,
    /// Pairs being made, counted before they exist (POOL-2).
    reserved: AtomicUsize,
    /// Monotonic microseconds of the latest request.
    taken_at: AtomicU64,
}

/// One of [`Lane::waiters`].
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Lane {
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

    /// The request that has waited longest and still does.
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

    /// Reserves room for one pair, if there is any.
    fn reserve(&self, capacity: usize) -> Option<Place<'_>> {
        let reserved = self.reserved.fetch_add(1, Ordering::SeqCst);
        let place = Place(&self.reserved);
        (self.ready.full() + reserved < capacity).then_some(place)
    }
}

impl Pairs {
    /// Empty lanes; no thread runs before the first request.
    pub(super) fn new(
        config: &Config,
        fillers: usize,
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
            lanes: PairSpec::ALL.map(|spec| Lane::new(spec, fillers)),
            fillers,
            clock,
            clone_word,
            bell: Bell::new(fillers),
            shut_down: AtomicBool::new(false),
            minted: metrics.pool_minted.clone(),
            purged: Purge::REASONS.map(|reason| metrics.pool_purged(reason)),
            threads: Mutex::new(None),
        })
    }

    /// Takes a pair that was made under `clone_word`; none is a miss, for [`Self::wait`].
    pub fn take(&self, spec: PairSpec, clone_word: u64) -> Option<PooledPair> {
        let lane = self.lane(spec);
        let now = lane::micros(self.clock.monotonic());
        lane.taken_at.store(now, Ordering::Relaxed);
        if !lane.begun.load(Ordering::SeqCst) {
            lane.begun.store(true, Ordering::SeqCst);
        }
        let mut found = None;
        for _ in 0..DROPS_MAX {
            let Some(pair) = lane.ready.acquire(thread_number()) else {
                break;
            };
            if pair.clone_word == clone_word {
                found = Some(*pair);
                break;
            }
            self.count(Purge::Clone, 1);
        }
        if lane.is_low(self.per_spec) {
            self.bell.ring();
        }
        found
    }

    /// Waits for a pair, behind those who wait already.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn wait(self: &Arc<Self>, spec: PairSpec) -> Result<PooledPair, Busy> {
        let (_place, receiver) = self.stand_in_line(spec)?;
        self.start();
        self.bell.ring();
        match tokio::time::timeout(WAIT_MAX, receiver).await {
            Ok(Ok(pair)) => Ok(pair),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    fn stand_in_line(
        &self,
        spec: PairSpec,
    ) -> Result<(Place<'_>, oneshot::Receiver<PooledPair>), Busy> {
        let lane = self.lane(spec);
        let before = lane.waiters.fetch_add(1, Ordering::SeqCst);
        let place = Place(&lane.waiters);
        if before >= WAITING_MAX || self.is_shut_down() {
            return Err(Busy);
        }
        let (sender, receiver) = oneshot::channel();
        lane.waiting.push(sender);
        Ok((place, receiver))
    }

    /// Starts the threads, if they do not run yet.
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

    /// Makes one pair: for somebody who waits, else for a lane that is not full; lanes take turns from `first` on. Returns whose turn is next, or that there
    /// was nothing to do.
    fn step(&self, filler: usize, first: usize) -> Option<usize> {
        let turns = || (0..self.lanes.len()).map(|turn| (first + turn) % self.lanes.len());
        let next = |at: usize| (at + 1) % self.lanes.len();
        for at in turns() {
            let lane = &self.lanes[at];
            if let Some(waiter) = lane.waiter() {
                let ready = lane.ready.acquire(filler).map(|pair| *pair);
                let ready = ready.filter(|pair| pair.clone_word == self.clone_word.read());
                let pair = ready.or_else(|| self.generate(lane.spec))?;
                if let Err(unwanted) = waiter.send(pair) {
                    lane.ready.publish(filler, Box::new(unwanted));
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
                lane.ready.publish(filler, Box::new(pair));
                return Some(next(at));
            }
        }
        None
    }

    /// A new pair; none when aws-lc fails, or the machine was cloned in the middle.
    fn generate(&self, spec: PairSpec) -> Option<PooledPair> {
        let clone_word = self.clone_word.read();
        let generated = PrivateKey::generate(spec);
        let key = generated.inspect_err(|error| {
            tracing::error!(%error, spec = spec.name(), "no key pair was made");
        });
        let key = key.ok()?;
        self.minted.increment(1);
        if self.clone_word.read() != clone_word {
            self.count(Purge::Clone, 1);
            return None;
        }
        Some(PooledPair { key, clone_word })
    }

    /// Drops lanes that nobody uses, and rings for those that are low.
    pub(super) fn tick(&self, now: Duration) {
        let mut low = false;
        for lane in &self.lanes {
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

    /// The state of the lanes that were asked.
    pub(super) fn status(&self) -> impl Iterator<Item = LaneStatus> {
        let begun = |lane: &&Lane| lane.begun.load(Ordering::SeqCst);
        self.lanes.iter().filter(begun).map(|lane| LaneStatus {
            lane: format!("pairs/{}", lane.spec.name()),
            depth: lane.ready.full(),
            capacity: self.per_spec,
        })
    }

    /// Stops the threads, turns away whoever waits, and drops every pair.
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

    fn lane(&self, spec: PairSpec) -> &Lane {
        // The lanes stand in the order of the specs.
        &self.lanes[spec as usize]
    }

    fn count(&self, reason: Purge, pairs: usize) {
        self.purged[reason as usize].increment(pairs as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use PairSpec::EccNistP256 as P256;

    fn pairs(per_spec: usize) -> (Arc<Pairs>, Arc<CloneWord>, Clock) {
        let config = Config {
            pairs_per_spec: per_spec,
            age_max_seconds: 10,
            ..Config::default()
        };
        let (clock, word) = (Clock::manual(Timestamp(0)), Arc::new(CloneWord::new()));
        let metrics = Metrics::new().unwrap();
        let pairs = Pairs::new(&config, 1, clock.clone(), Arc::clone(&word), &metrics);
        (pairs, word, clock)
    }

    /// Works until there is nothing to do.
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
            .map(|_| pairs.stand_in_line(P256).unwrap())
            .collect();
        assert_eq!(pairs.stand_in_line(P256).err(), Some(Busy));
        let other = pairs.stand_in_line(PairSpec::EccSecgP256K1).unwrap();
        // The first in line goes away: nothing is made for it, and its place is free.
        drop(line.remove(0));
        let last = pairs.stand_in_line(P256).unwrap();
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

    #[tokio::test]
    async fn threads_serve_who_waits_and_a_shut_down_turns_everybody_away() {
        let (pairs, word, _) = pairs(0);
        let pair = pairs.wait(P256).await.unwrap();
        assert_eq!(pair.clone_word, word.read());
        let (_place, receiver) = pairs.stand_in_line(PairSpec::Rsa4096).unwrap();
        pairs.shut_down();
        assert!(receiver.await.is_err());
        assert_eq!(pairs.wait(P256).await.err(), Some(Busy));
    }
}
