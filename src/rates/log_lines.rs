//! Log lines that a caller can cause. They are bounded by kind, so that a caller cannot fill the
//! disk of the log. Metrics and the audit log count every event.

use crate::clock::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most lines of one kind in one [`WINDOW`]: enough to see the problem.
const LINES_MAX: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// The log lines of one kind.
pub struct LogLines(Mutex<Option<Window>>);

struct Window {
    clock: Clock,
    began: Duration,
    admitted: u64,
    left_out: u64,
}

impl Default for LogLines {
    fn default() -> Self {
        Self::new()
    }
}

impl LogLines {
    /// None so far.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether one more line may be written, and how many were suppressed since the last one.
    #[must_use]
    pub fn admit(&self) -> Option<u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| Window::new(Clock::system()))
            .admit()
    }
}

impl Window {
    fn new(clock: Clock) -> Self {
        Self {
            began: clock.monotonic(),
            clock,
            admitted: 0,
            left_out: 0,
        }
    }

    fn admit(&mut self) -> Option<u64> {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.began) >= WINDOW {
            self.began = now;
            self.admitted = 0;
        }
        if self.admitted >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn hold_8_lines_of_a_kind_are_bounded_and_those_that_were_left_out_are_counted() {
        let clock = Clock::manual(Timestamp(0));
        let mut window = Window::new(clock.clone());
        let mut admitted = |count: u64| {
            (0..count)
                .filter_map(|_| window.admit())
                .collect::<Vec<_>>()
        };
        assert_eq!(admitted(LINES_MAX + 7), [0; 20]);
        clock.advance(WINDOW - Duration::from_millis(1));
        assert!(admitted(1).is_empty());
        clock.advance(Duration::from_millis(1));
        assert_eq!(admitted(2), [8, 0], "the next line counts them, once");
    }
}
