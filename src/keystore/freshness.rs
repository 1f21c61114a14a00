//! For how long a node of a shared store has not heard from it.
//!
//! What a node serves is as old as the last look at the store that it finished, counted from when
//! that look was begun. Once that is longer ago than allowed, it hands nothing out, until the store
//! has confirmed again what is in force. The machine's sleep counts: a node that was suspended does
//! not go on with what it knew before.
//!
//! A read is answered by a primary that was deposed, too. Where a look must be a write that is
//! durable before it is answered, such a primary has to wait for its standby, which follows another
//! one by now: what it says confirms nothing.

use crate::clock::Clock;
use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A look is a write so often within the time for which what is served may be used.
const WRITES_IN_TIME: u32 = 3;

/// What a look at the store has done there; the lesser one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// It has read.
    #[default]
    Read,
    /// It has written, and what it wrote is durable.
    Write,
}

/// How old what is served is, and how old it may become.
pub struct Freshness {
    clock: Clock,
    age_max: Duration,
    /// The least that confirms what is in force.
    least: Look,
    /// When the last look that the store answered was begun, in microseconds of the clock. It
    /// orders no other memory: what it confirms was published before, behind an atomic pointer.
    confirmed: AtomicU64,
    /// Why the last look failed, if it did.
    problem: ArcSwapOption<String>,
}

impl Freshness {
    /// What was found just now by a look of the kind that it takes, `least`, and may become
    /// `age_max` old.
    #[must_use]
    pub fn new(clock: Clock, age_max: Duration, least: Look) -> Self {
        let fresh = Self {
            clock,
            age_max,
            least,
            confirmed: AtomicU64::new(0),
            problem: ArcSwapOption::empty(),
        };
        fresh.confirm(fresh.begin(), least);
        fresh
    }

    /// The present time, for [`Self::confirm`].
    #[must_use]
    pub fn begin(&self) -> Duration {
        self.clock.awake_or_asleep()
    }

    /// What the next look has to be.
    #[must_use]
    pub fn next_look(&self) -> Look {
        match self.age() * WRITES_IN_TIME >= self.age_max {
            true => self.least,
            false => Look::Read,
        }
    }

    /// Records that such a look that was begun then has found what is in force. Returns whether
    /// that is confirmed.
    pub fn confirm(&self, begun: Duration, look: Look) -> bool {
        if look < self.least {
            return false;
        }
        let begun = u64::try_from(begun.as_micros()).unwrap_or(u64::MAX);
        self.confirmed.fetch_max(begun, Ordering::SeqCst);
        self.problem.store(None);
        true
    }

    /// Records why a look has failed.
    pub fn failed(&self, problem: String) {
        self.problem.store(Some(Arc::new(problem)));
    }

    /// Why the last look has failed, if it has.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.load().as_deref().cloned()
    }

    /// How old what is served is.
    #[must_use]
    pub fn age(&self) -> Duration {
        let confirmed = Duration::from_micros(self.confirmed.load(Ordering::SeqCst));
        self.begin().saturating_sub(confirmed)
    }

    /// Whether it is too old to be served.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.age() > self.age_max
    }

    /// One line with the problem, while it is too old.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if !self.is_stale() {
            return None;
        }
        let problem = self.problem();
        let problem = problem.as_deref().unwrap_or("it does not answer");
        let seconds = self.age().as_secs();
        Some(format!(
            "the shared store has not confirmed for {seconds} seconds what is in force: {problem}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_as_old_as_the_begin_of_the_last_look_that_was_answered() {
        let clock = Clock::manual(Timestamp(0));
        let fresh = Freshness::new(clock.clone(), SECOND * 10, Look::Read);
        clock.advance(SECOND * 4);
        let begun = fresh.begin();
        clock.advance(SECOND * 3);
        fresh.confirm(begun, Look::Read);
        assert_eq!(fresh.age(), SECOND * 3);
        fresh.failed("no route".to_owned());
        fresh.failed("no route to host".to_owned());
        clock.advance(SECOND * 7);
        assert!(!fresh.is_stale() && fresh.reason().is_none(), "ten seconds");
        clock.advance(Duration::from_micros(1));
        assert!(fresh.is_stale());
        let reason = fresh.reason().unwrap();
        assert!(reason.contains("for 10 seconds") && reason.ends_with("no route to host"));
        // An answer to an earlier look comes late, and makes nothing older.
        fresh.confirm(begun, Look::Read);
        assert!(fresh.is_stale());
        fresh.confirm(fresh.begin(), Look::Read);
        assert!(!fresh.is_stale() && fresh.problem().is_none());
        fresh.confirm(begun, Look::Read);
        assert_eq!(fresh.age(), Duration::ZERO);
    }

    #[test]
    fn a_read_confirms_nothing_where_it_takes_a_write() {
        let clock = Clock::manual(Timestamp(0));
        let fresh = Freshness::new(clock.clone(), SECOND * 9, Look::Write);
        assert_eq!(fresh.next_look(), Look::Read, "it was written at the start");
        clock.advance(SECOND * 3);
        assert_eq!(
            fresh.next_look(),
            Look::Write,
            "three times within its time"
        );
        fresh.failed("it did not answer in time".to_owned());
        assert!(!fresh.confirm(fresh.begin(), Look::Read));
        assert_eq!(fresh.age(), SECOND * 3);
        assert!(fresh.problem().is_some());
        clock.advance(SECOND * 7);
        assert!(fresh.is_stale());
        assert!(fresh.confirm(fresh.begin(), Look::Write));
        assert!(!fresh.is_stale() && fresh.problem().is_none());
        assert_eq!(fresh.next_look(), Look::Read);
        let by_reads = Freshness::new(clock, SECOND * 9, Look::Read);
        assert_eq!(by_reads.next_look(), Look::Read);
        assert!(by_reads.confirm(by_reads.begin(), Look::Write));
    }
}
