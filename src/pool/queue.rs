//! The lock-free queue of one lane: full magazines in work-stealing deques, one for each filler, and opened magazines in a few slots.
//!
//! A filler publishes with one store, so a filler that is stopped in the middle of a push is invisible and delays nobody (POOL-7); a bounded array
//! queue was measured to hold its takers up for seconds behind a preempted producer. A taker swaps an opened magazine out of its slot, takes a key,
//! and swaps it back: whoever holds the box owns the keys, so a key leaves once (POOL-1).

use super::sync::{
    AtomicCell, AtomicUsize, CachePadded, Mutex, Ordering, SLOTS, Steal, Stealer, Worker,
};

/// A place for one opened magazine, on a cache line of its own.
type Slot<M> = CachePadded<AtomicCell<Option<Box<M>>>>;

/// The queue of one lane, of magazines `M`.
pub(super) struct Queue<M> {
    /// Only filler `i` ever locks worker `i`, so nobody waits: the lock makes the owner's half shareable, nothing else.
    workers: Box<[Mutex<Worker<Box<M>>>]>,
    stealers: Box<[Stealer<Box<M>>]>,
    opened: Box<[Slot<M>]>,
    /// Full magazines; a hint for watermarks and metrics, and exact when nobody is in the middle of a call.
    full: AtomicUsize,
}

impl<M> Queue<M> {
    /// An empty queue for so many fillers.
    pub(super) fn new(fillers: usize) -> Self {
        let workers: Vec<Worker<Box<M>>> = (0..fillers).map(|_| Worker::new_fifo()).collect();
        let stealers = workers.iter().map(Worker::stealer).collect();
        let opened = (0..SLOTS)
            .map(|_| CachePadded::new(AtomicCell::new(None)))
            .collect();
        let workers = workers.into_iter().map(Mutex::new).collect();
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

    /// Publishes a full magazine of filler `filler`.
    pub(super) fn publish(&self, filler: usize, magazine: Box<M>) {
        // Counted first: a taker that finds the magazine must not count below zero.
        self.full.fetch_add(1, Ordering::SeqCst);
        let worker = self.workers[filler]
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        worker.push(magazine);
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
        for at in 0..deques {
            loop {
                match self.stealers[(start + at) % deques].steal() {
                    Steal::Success(magazine) => {
                        self.full.fetch_sub(1, Ordering::SeqCst);
                        return Some(magazine);
                    }
                    // Somebody else was faster: the queue as a whole moved on.
                    Steal::Retry => {}
                    Steal::Empty => break,
                }
            }
        }
        None
    }
}
