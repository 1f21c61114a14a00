//! Low and high watermarks with hysteresis, and the bell that wakes fillers.
//!
//! POOL-3, no lost wake-up: a filler clears the bell, issues a fence, looks at the depths, and
//! sleeps only while the bell has not rung again. A taker changes the depth, issues a fence, and
//! rings. Whichever fence comes first, either the filler sees the depth, or its sleep ends at once.

use super::sync::{AtomicBool, OnceLock, Ordering, Thread, fence, thread};

/// When to fill, in magazines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watermarks {
    /// Filling starts below this depth.
    pub(super) low: usize,
    /// Filling stops at this depth: the lane's capacity.
    pub(super) high: usize,
}

impl Watermarks {
    /// The watermarks of a lane of so many magazines: filling starts at half, so that the other
    /// half is a reserve.
    pub(super) fn of_capacity(magazines: usize) -> Self {
        Self {
            low: magazines.div_ceil(2),
            high: magazines,
        }
    }

    /// Whether to fill at this depth. `filling` is the answer of the last call.
    pub(super) fn fill(self, depth: usize, filling: bool) -> bool {
        depth < self.low || (filling && depth < self.high)
    }
}

/// Wakes fillers. Ringing takes no lock, so a preempted filler delays no caller.
pub(super) struct Bell {
    fillers: Box<[Sleeper]>,
}

struct Sleeper {
    rung: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Bell {
    pub(super) fn new(fillers: usize) -> Self {
        let sleeper = |_| Sleeper {
            rung: AtomicBool::new(false),
            thread: OnceLock::new(),
        };
        Self {
            fillers: (0..fillers).map(sleeper).collect(),
        }
    }

    /// Wakes every filler that sleeps.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        for filler in &self.fillers {
            if !filler.rung.swap(true, Ordering::SeqCst)
                && let Some(thread) = filler.thread.get()
            {
                thread.unpark();
            }
        }
    }

    /// Clears the bell: a ring after this call ends the next [`Self::sleep`]. Filler `filler` calls
    /// it on its own thread.
    pub(super) fn answer(&self, filler: usize) {
        self.fillers[filler].thread.get_or_init(thread::current);
        self.fillers[filler].rung.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Sleeps until the bell has rung since [`Self::answer`].
    pub(super) fn sleep(&self, filler: usize) {
        while !self.fillers[filler].rung.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn filling_starts_below_low_and_stops_at_high() {
        let marks = Watermarks::of_capacity(16);
        assert_eq!(marks, Watermarks { low: 8, high: 16 });
        assert!(marks.fill(7, false) && !marks.fill(8, false));
        assert!(marks.fill(15, true) && !marks.fill(16, true));
        assert!(
            Watermarks::of_capacity(1).fill(0, false),
            "the smallest lane is filled when empty"
        );
    }
}
