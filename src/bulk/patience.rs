//! Waiting for a daemon that is restarted.

use crate::bulk::source::SourceError;
use std::time::Duration;

/// How long a job waits for a daemon that it has reached before.
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
    /// `error`, if waiting does not help, or has not helped for two minutes.
    pub fn wait(&mut self, error: SourceError) -> Result<(), SourceError> {
        let SourceError::Connection { endpoint, reason } = &error else {
            return Err(error);
        };
        if self.waited >= Duration::from_secs(SECONDS_MAX) {
            return Err(error);
        }
        if self.waited.is_zero() {
            tracing::warn!(
                endpoint,
                reason,
                seconds_at_most = SECONDS_MAX,
                "the connection broke; waiting for the daemon"
            );
        }
        self.pause = (2 * self.pause).clamp(PAUSE_MIN, PAUSE_MAX);
        std::thread::sleep(self.pause);
        self.waited += self.pause;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_connection_is_waited_for_and_not_for_ever() {
        let broken = || SourceError::Connection {
            endpoint: "unix:/absent".to_owned(),
            reason: "Connection refused".to_owned(),
        };
        let mut patience = Patience::default();
        assert!(patience.wait(broken()).is_ok());
        assert_eq!((patience.waited, patience.pause), (PAUSE_MIN, PAUSE_MIN));
        assert!(patience.wait(SourceError::MaterialChanged).is_err());
        patience.waited = Duration::from_secs(SECONDS_MAX);
        assert!(patience.wait(broken()).is_err());
    }
}
