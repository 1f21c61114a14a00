//! Notices to the service manager (sd_notify(3)), and how often it wants to hear from this process
//! (sd_watchdog_enabled(3)).
//!
//! A notice waits as long as the service manager does not read it, so that none may be sent from a
//! thread that has requests to serve.

use sd_notify::NotifyState;
use std::time::Duration;

/// The shortest time between two notices: a service manager asks for seconds.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// This process serves, after its start or after it has read its configuration again. `status` is
/// one line for an operator.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// This process reads its configuration again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => unheard(&error),
    }
}

/// This process takes no new connections, and ends when it has answered its requests, after
/// `at_most`. The service manager waits for as long, also where its unit says less.
pub fn stopping(status: &str, at_most: Duration) {
    let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros),
        NotifyState::Status(status),
    ]);
}

/// This process still serves.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// The time between two calls of [`alive`]: half of what the service manager waits, as
/// sd_watchdog_enabled(3) recommends. `None` where it does not wait for any.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
    patience.map(|patience| (patience / 2).max(INTERVAL_MIN))
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        unheard(&error);
    }
}

fn unheard(error: &std::io::Error) {
    tracing::warn!(%error, "the service manager (NOTIFY_SOCKET) was not notified");
}
