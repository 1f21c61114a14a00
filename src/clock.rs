//! Wall and monotonic time as a value that is passed in, so that no test sleeps and no module reads
//! a clock of its own. The only place that calls the system's clocks.

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

    /// This time and `duration` after it; saturates.
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
    },
    Manual {
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
            },
        }
    }

    /// A clock that stands at `wall` until [`Self::advance`] moves it.
    #[must_use]
    pub fn manual(wall: Timestamp) -> Self {
        Self {
            source: Source::Manual {
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
        } = &self.source
        {
            let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            wall_micros.fetch_add(micros, Ordering::SeqCst);
            monotonic_micros.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// The time of day; may step.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::System { .. } => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }
            Source::Manual { wall_micros, .. } => Timestamp(wall_micros.load(Ordering::SeqCst)),
        }
    }

    /// Time since this clock was made; never steps back.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.source {
            Source::System { start } => start.elapsed(),
            Source::Manual {
                monotonic_micros, ..
            } => Duration::from_micros(monotonic_micros.load(Ordering::SeqCst)),
        }
    }
}

/// Certificates are judged at this clock's time too.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.now().unix_seconds();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
