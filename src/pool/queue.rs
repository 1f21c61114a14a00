//! The lock-free queue of one lane: full magazines in work-stealing deques, one for each filler,
//! and opened magazines in a few slots.
//!
//! A filler publishes with one store, so a filler that is stopped in the middle of a push is
//! invisible and delays no taker (POOL-7). A bounded array queue would let a preempted producer
//! hold up its takers (row "longest wait of a taker while fillers are preempted" of
//! benches/RESULTS.md). A taker swaps an opened magazine out of its slot, takes a key, and swaps it
//! back. The holder of the box owns the keys, so a key leaves once (POOL-1).

use super::sync::{
    AtomicCell, AtomicUsize, CachePadded, Mutex, Ordering, SLOTS, Steal, Stealer, Worker,
};
use std::collections::VecDeque;
use std::time::Duration;

/// Holds one opened magazine, on a cache line of its own.
type Slot<M> = CachePadded<AtomicCell<Option<Box<M>>>>;

/// The filler's end of its deque, and the time at which each magazine in it was made, oldest first.
struct OwnerEnd<M> {
    worker: Worker<Box<M>>,
    made: VecDeque<Duration>,
    /// How many entries of stolen magazines were removed from `made`.
    forgotten: usize,
}

/// The takers' end of a deque.
struct TakerEnd<M> {
    stealer: Stealer<Box<M>>,
    /// How many magazines were stolen.
    stolen: AtomicUsize,
}

impl<M> OwnerEnd<M> {
    fn forget_stolen(&mut self, front: &TakerEnd<M>) {
        while self.forgotten != front.stolen.load(Ordering::SeqCst) {
            self.forgotten = self.forgotten.wrapping_add(1);
            self.made.pop_front();
        }
    }
}

/// The queue of one lane, of magazines `M`.
pub(super) struct Queue<M> {
    /// Filler `i` alone locks worker `i`, except for a tick that looks at the ages. The lock makes
    /// the filler's end shareable.
    workers: Box<[Mutex<OwnerEnd<M>>]>,
    stealers: Box<[TakerEnd<M>]>,
    opened: Box<[Slot<M>]>,
    /// The number of full magazines: a hint for watermarks and metrics, exact while no call is in
    /// progress.
    full: AtomicUsize,
}

impl<M> Queue<M> {
    /// An empty queue for so many fillers.
    pub(super) fn new(fillers: usize) -> Self {
        let workers: Vec<Worker<Box<M>>> = (0..fillers).map(|_| Worker::new_fifo()).collect();
        let front = |worker: &Worker<Box<M>>| TakerEnd {
            stealer: worker.stealer(),
            stolen: AtomicUsize::new(0),
        };
        let stealers = workers.iter().map(front).collect();
        let opened = (0..SLOTS)
            .map(|_| CachePadded::new(AtomicCell::new(None)))
            .collect();
        let back = |worker| {
            Mutex::new(OwnerEnd {
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

    /// The number of full magazines.
    pub(super) fn full(&self) -> usize {
        self.full.load(Ordering::SeqCst)
    }

    /// Publishes a full magazine of filler `filler`. `made_at` must not be earlier than in the call
    /// before.
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

    /// Takes an opened magazine, or else a full one. `start` spreads takers over the slots.
    pub(super) fn acquire(&self, start: usize) -> Option<Box<M>> {
        let slots = self.opened.len();
        (0..slots)
            .find_map(|at| self.opened[(start + at) % slots].take())
            .or_else(|| self.steal(start))
    }

    /// Puts an opened magazine back. When every slot is taken, returns it for the caller to drop.
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

    /// Takes out the magazines that were made before `oldest`. Only one call may run at a time. An
    /// opened magazine may be out of sight for a moment: a taker then opens another.
    pub(super) fn drop_older(
        &self,
        oldest: Duration,
        made_at: impl Fn(&M) -> Duration,
    ) -> Vec<Box<M>> {
        let mut old = Vec::new();
        let mut sort = |magazine: Box<M>| {
            let is_old = made_at(&magazine) < oldest;
            // A magazine that finds no slot is dropped as well: those in the slots are as young.
            if is_old {
                old.push(magazine);
            } else {
                old.extend(self.put_back(0, magazine));
            }
            is_old
        };
        for slot in &self.opened {
            slot.take().map(&mut sort);
        }
        for (back, front) in self.workers.iter().zip(&self.stealers) {
            // A filler that was stopped while it publishes holds the lock. The next call looks
            // again.
            let Ok(mut back) = back.try_lock() else {
                continue;
            };
            loop {
                back.forget_stolen(front);
                let is_old = back.made.front().is_some_and(|made| *made < oldest);
                // A taker may have stolen the old magazine meanwhile; this one is then young.
                if !is_old || !self.steal_from(front).is_some_and(&mut sort) {
                    break;
                }
            }
        }
        old
    }

    /// Does what [`Self::publish`] does up to the push itself, and then waits, as a preempted
    /// filler would.
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

    fn steal_from(&self, front: &TakerEnd<M>) -> Option<Box<M>> {
        loop {
            match front.stealer.steal() {
                Steal::Success(magazine) => {
                    front.stolen.fetch_add(1, Ordering::SeqCst);
                    self.full.fetch_sub(1, Ordering::SeqCst);
                    return Some(magazine);
                }
                // Another thread was faster, so the queue as a whole made progress.
                Steal::Retry => {}
                Steal::Empty => return None,
            }
        }
    }
}
