//! Empty magazines on their way back to the fillers.
//!
//! A request does not free memory that a filler allocated. glibc's `free` takes the lock of the
//! arena that the memory came from, and a filler that is preempted in the middle of an allocation
//! holds that lock until it runs again. At its priority that is milliseconds later (POOL-7; row
//! "longest wait of a taker while fillers are preempted" of benches/RESULTS.md).

use crossbeam::atomic::AtomicCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many magazines may wait: more than takers empty while a filler is preempted.
const MAGAZINES_MAX: usize = 64;

/// A ring of cells. Its counters are hints for where to look; the thread that swaps a box out owns
/// it.
pub(super) struct Emptied<M> {
    places: Box<[AtomicCell<Option<Box<M>>>]>,
    put: AtomicUsize,
    taken: AtomicUsize,
}

impl<M> Emptied<M> {
    pub(super) fn new() -> Self {
        let places = std::iter::repeat_with(|| AtomicCell::new(None));
        Self {
            places: places.take(MAGAZINES_MAX).collect(),
            put: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// Gives a magazine back. A magazine that was not taken for a whole round is dropped here: the
    /// fillers sleep then and hold no lock.
    pub(super) fn put(&self, magazine: Box<M>) {
        let at = self.put.fetch_add(1, Ordering::Relaxed) % MAGAZINES_MAX;
        drop(self.places[at].swap(Some(magazine)));
    }

    /// Takes a magazine to fill again.
    pub(super) fn take(&self) -> Option<Box<M>> {
        let (put, taken) = (&self.put, &self.taken);
        let ahead = put
            .load(Ordering::Relaxed)
            .wrapping_sub(taken.load(Ordering::Relaxed));
        if ahead.cast_signed() <= 0 {
            return None;
        }
        let at = taken.fetch_add(1, Ordering::Relaxed) % MAGAZINES_MAX;
        self.places[at].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_once_and_in_order() {
        let emptied = Emptied::new();
        assert!(emptied.take().is_none());
        for number in 0..3 {
            emptied.put(Box::new(number));
        }
        let taken: Vec<_> = std::iter::from_fn(|| emptied.take()).collect();
        assert_eq!(taken, [0, 1, 2].map(Box::new));
        assert!(emptied.take().is_none());
    }

    #[test]
    fn a_full_ring_keeps_the_latest() {
        let emptied = Emptied::new();
        for number in 0..MAGAZINES_MAX + 3 {
            emptied.put(Box::new(number));
        }
        // The counters are one round apart and meet again.
        let taken = (0..2 * MAGAZINES_MAX).filter_map(|_| emptied.take());
        let mut taken: Vec<_> = taken.map(|number| *number).collect();
        taken.sort_unstable();
        assert_eq!(taken, (3..MAGAZINES_MAX + 3).collect::<Vec<_>>());
        emptied.put(Box::new(0));
        assert_eq!(emptied.take(), Some(Box::new(0)));
    }
}
