//! Waiting for a daemon that is restarted, or for one of several.

use crate::bulk::source::SourceError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a job waits for daemons that are all away.
const SECONDS_MAX: u64 = 120;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pauses of one piece of work that is begun again.
#[derive(Default)]
pub struct Patience {
    pause: Duration,
    waited: Duration,
}

impl Patience {
    /// Waits, if `error` is that of a connection and there is patience left; the work is then to be
    /// begun again.
    ///
    /// # Errors
    /// [`SourceError::Stopped`] as soon as `stop` is set; `error`, if waiting does not help, or has
    /// not helped for two minutes.
    pub fn wait(&mut self, error: SourceError, stop: &AtomicBool) -> Result<(), SourceError> {
        let SourceError::Connection { endpoint, reason } = &error else {
            return Err(error);
        };
        if stop.load(Ordering::Relaxed) {
            return Err(SourceError::Stopped);
        }
        if self.waited >= Duration::from_secs(SECONDS_MAX) {
            return Err(error);
        }
        if self.waited.is_zero() {
            tracing::warn!(
                endpoint,
                reason,
                seconds_at_most = SECONDS_MAX,
                "the connection broke; trying again"
            );
        }
        self.pause = (2 * self.pause).clamp(PAUSE_MIN, PAUSE_MAX);
        pause(self.pause, stop)?;
        self.waited += self.pause;
        Ok(())
    }
}

/// Sleeps, and looks at `stop` every [`PAUSE_MIN`].
fn pause(mut left: Duration, stop: &AtomicBool) -> Result<(), SourceError> {
    while !left.is_zero() {
        let nap = left.min(PAUSE_MIN);
        std::thread::sleep(nap);
        left -= nap;
        if stop.load(Ordering::Relaxed) {
            return Err(SourceError::Stopped);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> SourceError {
        SourceError::Connection {
            endpoint: "unix:/absent".to_owned(),
            reason: "Connection refused".to_owned(),
        }
    }

    #[test]
    fn only_a_broken_connection_is_waited_for_and_not_for_ever() {
        let mut patience = Patience::default();
        let mut wait = |error| patience.wait(error, &AtomicBool::new(false));
        assert!(wait(broken()).is_ok());
        assert!(wait(SourceError::MaterialChanged).is_err());
        assert_eq!((patience.waited, patience.pause), (PAUSE_MIN, PAUSE_MIN));
        patience.waited = Duration::from_secs(SECONDS_MAX);
        let refused = patience.wait(broken(), &AtomicBool::new(false));
        assert!(matches!(refused, Err(SourceError::Connection { .. })));
    }

    #[test]
    fn a_wait_ends_when_the_job_is_stopped() {
        let stop = AtomicBool::new(false);
        let mut patience = Patience {
            pause: PAUSE_MAX,
            waited: PAUSE_MAX,
        };
        let waited = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| patience.wait(broken(), &stop));
            stop.store(true, Ordering::Relaxed);
            waiting.join().unwrap()
        });
        assert!(matches!(waited, Err(SourceError::Stopped)));
        assert_eq!(
            patience.waited, PAUSE_MAX,
            "the pause did not end by itself"
        );
        let stopped = Patience::default().wait(broken(), &stop);
        assert!(matches!(stopped, Err(SourceError::Stopped)));
    }
}
