//! Wall and monotonic time as a value that is passed in, so that no test sleeps and no other module
//! reads a clock. This is the only place that calls the system's clocks.

pub mod calendar;

use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time `duration` after this one; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// A source of time: the system's, or one that a test moves by hand.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System {
        start: Instant,
        /// The time of day when the clock was made, and the time since the machine's start.
        wall: Timestamp,
        boot: Duration,
    },
    Manual {
        start: Timestamp,
        wall_micros: Arc<AtomicU64>,
        monotonic_micros: Arc<AtomicU64>,
    },
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn system() -> Self {
        Self {
            source: Source::System {
                start: Instant::now(),
                wall: time_of_day(),
                boot: since_boot(),
            },
        }
    }

    /// A clock that shows `wall` until [`Self::advance`] moves it.
    #[must_use]
    pub fn manual(wall: Timestamp) -> Self {
        Self {
            source: Source::Manual {
                start: wall,
                wall_micros: Arc::new(AtomicU64::new(wall.0)),
                monotonic_micros: Arc::new(AtomicU64::new(0)),
            },
        }
    }

    /// Moves a manual clock, wall and monotonic alike; a system clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual {
            wall_micros,
            monotonic_micros,
            ..
        } = &self.source
        {
            let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            wall_micros.fetch_add(micros, Ordering::SeqCst);
            monotonic_micros.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// Moves only the time of day of a manual clock, as a user does who sets it.
    pub fn step(&self, by: Duration) {
        if let Source::Manual { wall_micros, .. } = &self.source {
            let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            wall_micros.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// The time of day, which may step.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::System { .. } => time_of_day(),
            Source::Manual { wall_micros, .. } => Timestamp(wall_micros.load(Ordering::SeqCst)),
        }
    }

    /// A time that two clocks agree has come, for acts that cannot be undone. It is not after the
    /// time of day. It is also not after the time of day at which this clock was made, plus the
    /// time that has passed since (including the machine's sleep), less `grace`. So a time of day
    /// that was wrong from the start is trusted after `grace`, and one that steps later is trusted
    /// only when as much time has really passed.
    #[must_use]
    pub fn confirmed(&self, grace: Duration) -> Timestamp {
        let start = match &self.source {
            Source::System { wall, .. } => *wall,
            Source::Manual { start, .. } => *start,
        };
        let passed = self.awake_or_asleep();
        let grace = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
        let steady = start.after(passed).0.saturating_sub(grace);
        self.now().min(Timestamp(steady))
    }

    /// Time since this clock was made, including the machine's sleep; it never steps back.
    #[must_use]
    pub fn awake_or_asleep(&self) -> Duration {
        match &self.source {
            Source::System { boot, .. } => since_boot().saturating_sub(*boot),
            Source::Manual { .. } => self.monotonic(),
        }
    }

    /// Time since this clock was made; it never steps back.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.source {
            Source::System { start, .. } => start.elapsed(),
            Source::Manual {
                monotonic_micros, ..
            } => Duration::from_micros(monotonic_micros.load(Ordering::SeqCst)),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
fn time_of_day() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.unwrap_or_default().as_micros();
    Timestamp(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Time since the machine's start, including its sleep. No user can set it.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// TLS checks certificates at this clock's time too.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.now().unix_seconds();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_time_has_come_when_two_clocks_say_so() {
        let clock = Clock::manual(Timestamp(0).after(HOUR * 100));
        let at = |hours: u32| Timestamp(0).after(HOUR * hours);
        assert_eq!(clock.confirmed(HOUR), at(99));
        // A user sets the time of day eight days ahead.
        clock.step(HOUR * 192);
        assert_eq!(clock.confirmed(HOUR), at(99));
        clock.advance(HOUR * 2);
        assert_eq!((clock.now(), clock.confirmed(HOUR)), (at(294), at(101)));
        // A time of day that is behind limits the result too.
        let system = Clock::system();
        assert!(system.confirmed(Duration::ZERO) <= system.now());
        assert!(system.confirmed(Duration::ZERO).after(HOUR) > system.now());
    }
}
