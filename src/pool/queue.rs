//! The lock-free queue of one lane: full magazines in work-stealing deques, one for each filler,
//! and opened magazines in a few slots.
//!
//! A filler publishes with one store, so a filler that is stopped in the middle of a push is
//! invisible and delays nobody (POOL-7); a bounded array queue was measured to hold its takers up
//! for seconds behind a preempted producer. A taker swaps an opened magazine out of its slot, takes
//! a key, and swaps it back: whoever holds the box owns the keys, so a key leaves once (POOL-1).

use super::sync::{
    AtomicCell, AtomicUsize, CachePadded, Mutex, Ordering, SLOTS, Steal, Stealer, Worker,
};
use std::collections::VecDeque;
use std::time::Duration;

/// A place for one opened magazine, on a cache line of its own.
type Slot<M> = CachePadded<AtomicCell<Option<Box<M>>>>;

/// A filler's half of its deque, and when each magazine in it was made, the oldest first.
struct Back<M> {
    worker: Worker<Box<M>>,
    made: VecDeque<Duration>,
    /// As many as have left `made`, of those that have left the deque.
    forgotten: usize,
}

/// The takers' half.
struct Front<M> {
    stealer: Stealer<Box<M>>,
    /// Magazines that have left.
    stolen: AtomicUsize,
}

impl<M> Back<M> {
    fn forget_stolen(&mut self, front: &Front<M>) {
        while self.forgotten != front.stolen.load(Ordering::SeqCst) {
            self.forgotten = self.forgotten.wrapping_add(1);
            self.made.pop_front();
        }
    }
}

/// The queue of one lane, of magazines `M`.
pub(super) struct Queue<M> {
    /// Only filler `i` waits for worker `i`, and only for a tick that looks at the ages: the lock
    /// makes the owner's half shareable.
    workers: Box<[Mutex<Back<M>>]>,
    stealers: Box<[Front<M>]>,
    opened: Box<[Slot<M>]>,
    /// Full magazines; a hint for watermarks and metrics, and exact when nobody is in the middle of
    /// a call.
    full: AtomicUsize,
}

impl<M> Queue<M> {
    /// An empty queue for so many fillers.
    pub(super) fn new(fillers: usize) -> Self {
        let workers: Vec<Worker<Box<M>>> = (0..fillers).map(|_| Worker::new_fifo()).collect();
        let front = |worker: &Worker<Box<M>>| Front {
            stealer: worker.stealer(),
            stolen: AtomicUsize::new(0),
        };
        let stealers = workers.iter().map(front).collect();
        let opened = (0..SLOTS)
            .map(|_| CachePadded::new(AtomicCell::new(None)))
            .collect();
        let back = |worker| {
            Mutex::new(Back {
                worker,
                made: VecDeque::new(),
                forgotten: 0,
            })
        };
        let workers = workers.into_iter().map(back).collect();
        Self {
            workers,
            stealers,
            opened,
            full: AtomicUsize::new(0),
        }
    }

    /// Full magazines.
    pub(super) fn full(&self) -> usize {
        self.full.load(Ordering::SeqCst)
    }

    /// Publishes a full magazine of filler `filler`, made at `made_at`, which never goes back.
    pub(super) fn publish(&self, filler: usize, magazine: Box<M>, made_at: Duration) {
        // Counted first: a taker that finds the magazine must not count below zero.
        self.full.fetch_add(1, Ordering::SeqCst);
        let mut back = self.workers[filler]
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        back.forget_stolen(&self.stealers[filler]);
        back.made.push_back(made_at);
        back.worker.push(magazine);
    }

    /// An opened magazine, or else a full one; `start` spreads takers over the slots.
    pub(super) fn acquire(&self, start: usize) -> Option<Box<M>> {
        let slots = self.opened.len();
        (0..slots)
            .find_map(|at| self.opened[(start + at) % slots].take())
            .or_else(|| self.steal(start))
    }

    /// Puts an opened magazine back. Returns it when every slot is taken; it is then to be dropped.
    pub(super) fn put_back(&self, start: usize, magazine: Box<M>) -> Option<Box<M>> {
        let mut held = Some(magazine);
        for at in 0..self.opened.len() {
            held = self.opened[(start + at) % self.opened.len()].swap(held);
            held.as_ref()?;
        }
        held
    }

    /// Takes out everything, for a purge.
    pub(super) fn drain(&self) -> impl Iterator<Item = Box<M>> {
        let opened = self.opened.iter().filter_map(|slot| slot.take());
        opened.chain(std::iter::from_fn(|| self.steal(0)))
    }

    /// Takes out what was made before `oldest`. One call at a time. A magazine that was opened may
    /// be out of sight for a moment: then a taker opens another.
    pub(super) fn drop_older(
        &self,
        oldest: Duration,
        made_at: impl Fn(&M) -> Duration,
    ) -> Vec<Box<M>> {
        let mut old = Vec::new();
        let mut sort = |magazine: Box<M>| {
            let is_old = made_at(&magazine) < oldest;
            // One that finds no slot goes as well: those in the slots are as young.
            match is_old {
                true => old.push(magazine),
                false => old.extend(self.put_back(0, magazine)),
            }
            is_old
        };
        for slot in &self.opened {
            slot.take().map(&mut sort);
        }
        for (back, front) in self.workers.iter().zip(&self.stealers) {
            // A filler that was stopped while it publishes has the lock. Then the next call sees to
            // it.
            let Ok(mut back) = back.try_lock() else {
                continue;
            };
            loop {
                back.forget_stolen(front);
                let is_old = back.made.front().is_some_and(|made| *made < oldest);
                // A taker may have been faster, and this one be young.
                if !is_old || !self.steal_from(front).is_some_and(&mut sort) {
                    break;
                }
            }
        }
        old
    }

    /// As [`Self::publish`] up to the push itself, and then waits, as a preempted filler would.
    #[cfg(test)]
    pub(super) fn stop_in_mid_push(
        &self,
        filler: usize,
        stopped: &std::sync::mpsc::Sender<std::sync::mpsc::Sender<()>>,
    ) {
        self.full.fetch_add(1, Ordering::SeqCst);
        let _worker = self.workers[filler]
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let (resume, resumed) = std::sync::mpsc::channel();
        let told = stopped.send(resume).is_ok() && resumed.recv().is_ok();
        self.full.fetch_sub(usize::from(told), Ordering::SeqCst);
    }

    fn steal(&self, start: usize) -> Option<Box<M>> {
        let deques = self.stealers.len();
        (0..deques).find_map(|at| self.steal_from(&self.stealers[(start + at) % deques]))
    }

    fn steal_from(&self, front: &Front<M>) -> Option<Box<M>> {
        loop {
            match front.stealer.steal() {
                Steal::Success(magazine) => {
                    front.stolen.fetch_add(1, Ordering::SeqCst);
                    self.full.fetch_sub(1, Ordering::SeqCst);
                    return Some(magazine);
                }
                // Somebody else was faster: the queue as a whole moved on.
                Steal::Retry => {}
                Steal::Empty => return None,
            }
        }
    }
}
