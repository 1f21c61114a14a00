//! Models of the concurrent parts: the pool's hand-out-once, wake-up and fence protocol, and the
//! bucket of a limit, over their own files.
//!
//! Each file is included by path with loom's types in the place of its `sync`; `--cfg loom` over
//! the whole crate could not compile. crossbeam's deque and cell are not what is modelled: plain
//! stand-ins behind loom's mutex take their place.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    clippy::modulo_one,
    clippy::unwrap_used,
    reason = "the included files have more than the models use"
)]

#[path = "../src/rates/bucket.rs"]
mod bucket;
#[path = "../src/pool/queue.rs"]
mod queue;
#[path = "../src/pool/stamp.rs"]
mod stamp;
#[path = "../src/pool/watermark.rs"]
mod watermark;

mod sync {
    pub(super) use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(super) use loom::thread::{self, Thread};
    pub(super) use std::sync::OnceLock;

    use std::collections::VecDeque;
    use std::ops::Deref;
    use std::sync::Arc;

    pub(super) const SLOTS: usize = 1;
    pub(super) const SHARDS: usize = 1;

    pub(super) struct CachePadded<T>(T);

    impl<T> CachePadded<T> {
        pub(super) fn new(value: T) -> Self {
            Self(value)
        }
    }

    impl<T> Deref for CachePadded<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    pub(super) struct AtomicCell<T>(Mutex<T>);

    impl<T> AtomicCell<T> {
        pub(super) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }
        pub(super) fn swap(&self, value: T) -> T {
            std::mem::replace(&mut self.0.lock().unwrap(), value)
        }
        pub(super) fn take(&self) -> T
        where
            T: Default,
        {
            self.swap(T::default())
        }
    }

    pub(super) enum Steal<T> {
        Success(T),
        Empty,
        Retry,
    }

    pub(super) struct Worker<T>(Arc<Mutex<VecDeque<T>>>);
    pub(super) struct Stealer<T>(Arc<Mutex<VecDeque<T>>>);

    impl<T> Worker<T> {
        pub(super) fn new_fifo() -> Self {
            Self(Arc::new(Mutex::new(VecDeque::new())))
        }
        pub(super) fn stealer(&self) -> Stealer<T> {
            Stealer(Arc::clone(&self.0))
        }
        pub(super) fn push(&self, value: T) {
            self.0.lock().unwrap().push_back(value);
        }
    }

    impl<T> Stealer<T> {
        pub(super) fn steal(&self) -> Steal<T> {
            self.0
                .lock()
                .unwrap()
                .pop_front()
                .map_or(Steal::Empty, Steal::Success)
        }
    }
}

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// POOL-8: a tick drops the old magazine while a taker and a filler work. Every key leaves at most
/// once, and the young key is still there.
#[test]
fn pool_8_a_tick_beside_a_taker() {
    loom::model(|| {
        let queue = Arc::new(queue::Queue::<Vec<u8>>::new(1));
        queue.publish(0, Box::new(vec![1]), Duration::ZERO);
        queue.publish(0, Box::new(vec![2]), Duration::from_secs(9));
        let taker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.acquire(0).map(|magazine| *magazine))
        };
        let age = |magazine: &Vec<u8>| Duration::from_secs(u64::from(magazine[0] == 2) * 9);
        let old = queue.drop_older(Duration::from_secs(5), age);
        let taken = taker.join().unwrap();
        let mut keys: Vec<u8> = old.into_iter().flat_map(|magazine| *magazine).collect();
        assert!(!keys.contains(&2), "a young one was dropped");
        keys.extend(taken.into_iter().flatten());
        keys.extend(queue.drain().flat_map(|magazine| *magazine));
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        assert_eq!(queue.full(), 0);
    });
}

/// POOL-1: two takers and a filler; a magazine of two keys and one of one. Every key leaves at most
/// once, and what is not taken or dropped for want of a slot is still there.
#[test]
fn pool_1_hand_out_once() {
    loom::model(|| {
        let queue = Arc::new(queue::Queue::<Vec<u8>>::new(1));
        queue.publish(0, Box::new(vec![1, 2]), Duration::ZERO);
        let take = |queue: &queue::Queue<Vec<u8>>| {
            let mut magazine = queue.acquire(0)?;
            let key = magazine.pop();
            if !magazine.is_empty() {
                drop(queue.put_back(0, magazine));
            }
            key
        };
        let taker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || take(&queue))
        };
        let filler = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.publish(0, Box::new(vec![3]), Duration::ZERO))
        };
        let mut keys: Vec<u8> = take(&queue).into_iter().collect();
        keys.extend(taker.join().unwrap());
        filler.join().unwrap();
        keys.extend(queue.drain().flat_map(|magazine| *magazine));
        let mut unique = keys.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), keys.len(), "a key left twice: {keys:?}");
        assert!(unique.len() >= 2, "keys were lost: {keys:?}");
        assert_eq!(queue.full(), 0);
    });
}

/// POOL-3: whatever the interleaving, a depth below the low watermark ends with a filler that has
/// seen it. A lost wake-up is a deadlock, which loom reports.
#[test]
fn pool_3_no_lost_wake_up() {
    loom::model(|| {
        let bell = Arc::new(watermark::Bell::new(1));
        let depth = Arc::new(AtomicUsize::new(1));
        let filler = {
            let (bell, depth) = (Arc::clone(&bell), Arc::clone(&depth));
            thread::spawn(move || {
                loop {
                    bell.answer(0);
                    if depth.load(Ordering::SeqCst) == 0 {
                        return;
                    }
                    bell.sleep(0);
                }
            })
        };
        depth.store(0, Ordering::SeqCst);
        bell.ring();
        filler.join().unwrap();
    });
}

/// A fence that changes raise, the last answered change, and the last check of requests.
struct Fenced {
    check: Arc<stamp::LastCheck>,
    fence: AtomicUsize,
    answered: AtomicUsize,
}

impl Fenced {
    fn begin() -> Arc<Self> {
        Arc::new(Self {
            check: Arc::default(),
            fence: AtomicUsize::new(1),
            answered: AtomicUsize::new(1),
        })
    }

    /// A request that hands over under the fence that it sees in its last section.
    fn request(self: &Arc<Self>) -> thread::JoinHandle<()> {
        let this = Arc::clone(self);
        thread::spawn(move || {
            let section = this.check.enter(0);
            let seen = this.fence.load(Ordering::SeqCst);
            let answered = this.answered.load(Ordering::SeqCst);
            drop(section);
            assert!(
                answered <= seen,
                "handed over under fence {seen} after change {answered} was answered"
            );
        })
    }

    /// A change that raises the fence to `next`.
    fn change(&self, next: usize) {
        self.fence.store(next, Ordering::SeqCst);
        self.check.quiesce();
        self.answered.store(next, Ordering::SeqCst);
    }
}

/// POOL-4: a change publishes the next fence, waits for the quiet point, and is answered. A request
/// that passed its last check before must have been handed over by then; one that begins after the
/// answer must see the change.
#[test]
fn pool_4_fence() {
    loom::model(|| {
        let fenced = Fenced::begin();
        let request = fenced.request();
        fenced.change(2);
        request.join().unwrap();
    });
}

/// POOL-4 with two changes in a row: the second waits for a section that the first one's wait had
/// let through.
#[test]
fn pool_4_two_changes() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let fenced = Fenced::begin();
        let request = fenced.request();
        fenced.change(2);
        fenced.change(3);
        request.join().unwrap();
    });
}

/// A limit: two takers of an idle bucket, while the timer retires it. A taker that finds it retired
/// takes from its successor; together they get no more than one bucket held.
#[test]
fn limit_never_more_than_the_burst() {
    use bucket::{Bucket, Rate, Refused, Urgency};
    use std::time::Duration;

    loom::model(|| {
        let (second, now) = (Duration::from_secs(1), Duration::from_secs(9));
        let rate = Rate::new(1, second).unwrap();
        let buckets = Arc::new([Bucket::full(second), Bucket::full(now)]);
        let take = move |buckets: &[Bucket; 2]| {
            let taken = buckets[0].take(rate, 1, Urgency::Online, now);
            let taken = match taken {
                Err(Refused::Retired) => buckets[1].take(rate, 1, Urgency::Online, now),
                taken => taken,
            };
            usize::from(taken.is_ok())
        };
        let taker = {
            let buckets = Arc::clone(&buckets);
            thread::spawn(move || take(&buckets))
        };
        let timer = {
            let buckets = Arc::clone(&buckets);
            thread::spawn(move || buckets[0].retire(second, now))
        };
        let taken = take(&buckets) + taker.join().unwrap();
        timer.join().unwrap();
        assert_eq!(taken, 1);
    });
}
