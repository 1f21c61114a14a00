//! The keys of one issuer, as they were fetched last. One task fetches; requests only wait for it.
//!
//! A token with a key that is not known makes the task fetch at once, but not more often than once
//! a minute: any stranger can send such a token (WEB-3). While fetching fails, the keys that were
//! fetched last stay in use.

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::web_identity::algorithm::Algorithm;
use crate::web_identity::error::TokenError;
use crate::web_identity::fetch::{FetchError, Fetched, Source};
use crate::web_identity::key_set::{Key, KeySet, Unfit};
use metrics::{Counter, Gauge};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// How long a request waits for keys.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Tokens that may wait for keys at the same time, whichever issuer they are of. Their senders are
/// not known, and each holds a request of up to 64 KiB meanwhile.
pub(super) const WAITING_MAX: usize = 128;
/// Between two fetches that were caused by tokens with unknown keys.
const ASKED_INTERVAL: Duration = Duration::from_secs(60);
/// Pauses after a fetch that failed: doubled each time, up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The keys of one issuer.
pub(super) struct Keys {
    /// The name of the issuer in the configuration.
    name: String,
    source: Source,
    clock: Clock,
    state: watch::Sender<State>,
    wanted: Notify,
    /// Room for tokens that wait, which all issuers share.
    waiting: Arc<Semaphore>,
    /// When a token with an unknown key may cause a fetch again.
    next: Mutex<Duration>,
    fetched: Counter,
    failed: Counter,
    fetched_at: Gauge,
}

#[derive(Clone)]
struct State {
    set: Option<Arc<KeySet>>,
    /// Whether a fetch is under way.
    is_fetching: bool,
    /// Whether the last fetch failed.
    has_failed: bool,
    /// Fetches that have ended.
    fetches: u64,
}

impl State {
    fn find(&self, id: &str, algorithm: Algorithm) -> Result<Arc<Key>, Unfit> {
        let set = self.set.as_ref().ok_or(Unfit::Unknown)?;
        set.find(id, algorithm)
    }

    /// The refusal of a token whose key is not known.
    fn unknown(&self) -> TokenError {
        if self.has_failed || self.set.is_none() {
            TokenError::Unreachable
        } else {
            TokenError::UnknownKey
        }
    }
}

impl Keys {
    pub(super) fn new(
        name: &str,
        source: Source,
        waiting: &Arc<Semaphore>,
        clock: Clock,
        metrics: &Metrics,
    ) -> Self {
        let fetched_at = metrics.issuer_keys_fetched(name);
        fetched_at.set(0);
        Self {
            name: name.to_owned(),
            source,
            clock,
            // The first fetch begins with the task.
            state: watch::Sender::new(State {
                set: None,
                is_fetching: true,
                has_failed: false,
                fetches: 0,
            }),
            wanted: Notify::new(),
            waiting: Arc::clone(waiting),
            next: Mutex::new(Duration::ZERO),
            fetched: metrics.issuer_fetches(name, "ok"),
            failed: metrics.issuer_fetches(name, "failed"),
            fetched_at,
        }
    }

    /// The key of this id for this algorithm. Waits for a fetch that is under way, and causes one
    /// where that is due.
    pub(super) async fn find(
        &self,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<Arc<Key>, TokenError> {
        let misfit = TokenError::Invalid("its key is for another algorithm");
        let mut told = self.state.subscribe();
        let before = told.borrow_and_update().clone();
        match before.find(id, algorithm) {
            Ok(key) => return Ok(key),
            Err(Unfit::Algorithm) => return Err(misfit),
            Err(Unfit::Unknown) => {}
        }
        // No issuer has a key without an id, so no fetch brings it.
        if id.is_empty() {
            return Err(before.unknown());
        }
        // Strangers who wait for an issuer that is slow must not fill memory.
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(TokenError::Unreachable);
        };
        if !(before.is_fetching || self.ask()) {
            return Err(before.unknown());
        }
        let ended = told.wait_for(|state| state.fetches > before.fetches);
        match tokio::time::timeout(WAIT_MAX, ended).await {
            Ok(Ok(state)) => state.find(id, algorithm).map_err(|unfit| match unfit {
                Unfit::Algorithm => misfit,
                Unfit::Unknown => state.unknown(),
            }),
            _ => Err(TokenError::Unreachable),
        }
    }

    /// Asks for a fetch, if one is due.
    fn ask(&self) -> bool {
        let now = self.clock.monotonic();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = now >= *next;
        if is_due {
            *next = now + ASKED_INTERVAL;
            self.wanted.notify_one();
        }
        is_due
    }

    /// Fetches the keys, again and again, until it is stopped.
    pub(super) async fn keep(self: Arc<Self>, mut stopped: watch::Receiver<()>) {
        let mut failures = 0;
        loop {
            self.state.send_modify(|state| state.is_fetching = true);
            let fetched = tokio::select! {
                fetched = self.source.fetch() => fetched,
                _ = stopped.changed() => return,
            };
            let pause = self.take(fetched, &mut failures);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
                _ = stopped.changed() => return,
            }
        }
    }

    /// Takes over what was fetched. Returns the time until the next fetch.
    fn take(&self, fetched: Result<Fetched, FetchError>, failures: &mut u32) -> Duration {
        let issuer = &*self.name;
        match fetched {
            Ok(Fetched { keys, fresh_for }) => {
                if *failures > 0 {
                    tracing::info!(
                        issuer,
                        keys = keys.count(),
                        "the issuer's keys were fetched again"
                    );
                }
                *failures = 0;
                self.fetched.increment(1);
                // Exact: seconds have far fewer bits than the 53 of a double.
                self.fetched_at.set(self.clock.now().unix_seconds() as f64);
                let set = Some(Arc::new(keys));
                self.end(|state| state.set = set);
                fresh_for
            }
            Err(error) => {
                // The first of a row is logged; the metrics count them all.
                if *failures == 0 {
                    let has_keys = self.state.borrow().set.is_some();
                    tracing::error!(issuer, %error, has_keys, "the issuer's keys cannot be fetched: those that it had stay in use");
                }
                let pause = PAUSE_MIN * 2_u32.pow((*failures).min(5));
                *failures = failures.saturating_add(1);
                self.failed.increment(1);
                self.end(|state| state.has_failed = true);
                pause.min(PAUSE_MAX)
            }
        }
    }

    /// Ends a fetch.
    fn end(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            state.is_fetching = false;
            state.has_failed = false;
            state.fetches += 1;
            change(state);
        });
    }
}

#[cfg(test)]
mod tests;
