//! Failures to accept: all are counted, and a line is logged at most every 10 seconds.

use crate::clock::Clock;
use metrics::Counter;
use std::io;
use std::time::Duration;

/// The shortest interval between two log lines about failures to accept.
const FAILURES_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Failures to accept, logged together with their number.
pub(super) struct Failures {
    transport: &'static str,
    counted: Counter,
    clock: Clock,
    logged: Option<Duration>,
    since: u64,
}

impl Failures {
    pub(super) fn new(transport: &'static str, counted: Counter) -> Self {
        Self {
            transport,
            counted,
            clock: Clock::system(),
            logged: None,
            since: 0,
        }
    }

    /// Counts a failure of this side: a resource has run out.
    pub(super) fn count(&mut self, error: &io::Error) {
        self.counted.increment(1);
        self.log(error);
    }

    pub(super) fn log(&mut self, error: &io::Error) {
        self.since += 1;
        let now = self.clock.monotonic();
        let due = |logged: Duration| now.saturating_sub(logged) >= FAILURES_LOGGED_EVERY;
        if self.logged.is_none_or(due) {
            tracing::warn!(
                transport = self.transport,
                %error,
                failures = self.since,
                "connections could not be accepted"
            );
            self.logged = Some(now);
            self.since = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn failures_are_logged_with_their_number_once_in_a_while() {
        let mut failures = Failures::new("test", Counter::noop());
        failures.clock = Clock::manual(Timestamp(0));
        let error = io::Error::other("x");
        let mut unlogged = |after| {
            failures.clock.advance(after);
            failures.log(&error);
            failures.since
        };
        assert_eq!(unlogged(Duration::ZERO), 0);
        assert_eq!(unlogged(Duration::ZERO), 1);
        assert_eq!(unlogged(FAILURES_LOGGED_EVERY / 2), 2);
        assert_eq!(unlogged(FAILURES_LOGGED_EVERY / 2), 0);
        assert_eq!(unlogged(Duration::ZERO), 1);
    }
}
