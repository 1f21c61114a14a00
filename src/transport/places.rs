//! The connections of one listener, and the choice of the one to close when the listener is full
//! and another waits.
//!
//! Connections without an authenticated request yet (in a handshake, a head or a body) are closed
//! first, in the order in which they came. If there are none, the connection is closed that has
//! been idle longest between two requests. A connection in an authenticated request is never
//! closed, from the end of its body or the beginning of its stream of containers on. So strangers
//! keep no caller out: their connections only displace each other, and a caller keeps its place
//! from its first request on.
//!
//! A connection writes its state into its own atomic. Nothing else is done for it while the
//! listener has room.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// No request on it was authenticated yet.
const STRANGER: u64 = 0;
/// An authenticated request is in progress.
const BUSY: u64 = u64::MAX;

/// The state of one connection for its listener.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// [`STRANGER`], [`BUSY`], or the time since which it is idle, in microseconds from 1 on.
    standing: AtomicU64,
    /// Whether the next answer is the last one.
    is_last: AtomicBool,
}

/// How a connection stood.
pub(super) struct Standing(u64);

impl Place {
    /// Records that a request was authenticated.
    pub(super) fn begin(&self) {
        self.standing.store(BUSY, Ordering::Relaxed);
    }

    /// Records that a request was authenticated whose caller is in no store. Returns how the
    /// connection stood before, see [`Self::again`].
    pub(super) fn begin_for_stranger(&self) -> Standing {
        Standing(self.standing.swap(BUSY, Ordering::Relaxed))
    }

    /// Records that such a request was refused: to any holder of a token, a
    /// refusal gives no standing.
    pub(super) fn again(&self, Standing(before): Standing) {
        self.standing.store(before, Ordering::Relaxed);
    }

    /// Records that an authenticated request, if there was one, was answered.
    pub(super) fn rest(&self, now: Duration) {
        if self.is_busy() {
            let micros = u64::try_from(now.as_micros()).unwrap_or(BUSY - 2);
            self.standing.store(micros + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == BUSY
    }

    pub(super) fn is_strangers(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == STRANGER
    }

    /// The time since which it is idle between two requests.
    fn idle_since(&self) -> Option<u64> {
        let standing = self.standing.load(Ordering::Relaxed);
        (standing != STRANGER && standing != BUSY).then_some(standing)
    }

    /// Makes the next answer the last one.
    pub(super) fn close(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Ordering::Relaxed)
    }
}

/// The signal that a connection must close.
#[derive(Debug)]
pub(super) struct Notice(oneshot::Receiver<()>);

impl Notice {
    /// Returns when the connection must close. It must not be awaited again after that.
    pub(super) async fn given(&mut self) {
        // The sender is dropped when the listener ends, which has its own signal.
        if (&mut self.0).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// The listener's end of a connection.
struct Held {
    place: Arc<Place>,
    notice: oneshot::Sender<()>,
}

impl Held {
    fn has_ended(&self) -> bool {
        self.notice.is_closed()
    }
}

/// The places of one listener.
#[derive(Default)]
pub(super) struct Places {
    /// In order of arrival. Some have ended, and some are not strangers any more.
    fresh: VecDeque<Held>,
    /// Connections that were found not to be strangers. Some have ended.
    known: Vec<Held>,
    /// The number of both when ended connections were last removed.
    swept: usize,
}

impl Places {
    /// Makes the state of a new connection, and its signal to close.
    pub(super) fn take(&mut self) -> (Arc<Place>, Notice) {
        let held = self.fresh.len() + self.known.len();
        if held > 2 * self.swept.max(32) {
            self.fresh.retain(|held| !held.has_ended());
            self.known.retain(|held| !held.has_ended());
            self.swept = self.fresh.len() + self.known.len();
        }
        let place = Arc::<Place>::default();
        let (notice, given) = oneshot::channel();
        self.fresh.push_back(Held {
            place: Arc::clone(&place),
            notice,
        });
        (place, Notice(given))
    }

    /// Closes one connection, unless all are busy. Returns whether there was one.
    pub(super) fn let_one_go(&mut self) -> bool {
        while let Some(held) = self.fresh.pop_front() {
            if !held.place.is_strangers() {
                self.known.push(held);
            } else if held.notice.send(()).is_ok() {
                return true;
            }
        }
        self.known.retain(|held| !held.has_ended());
        let known = self.known.iter().enumerate();
        let idle = known.filter_map(|(at, held)| Some((held.place.idle_since()?, at)));
        let Some((_, idlest)) = idle.min() else {
            return false;
        };
        // A connection that has ended meanwhile has made room as well.
        let _ended = self.known.swap_remove(idlest).notice.send(());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections with these states: `None` is a stranger, `Some(None)` is busy, others are idle
    /// since that many seconds.
    fn places(standings: &[Option<Option<u64>>]) -> (Places, Vec<(Arc<Place>, Notice)>) {
        let mut places = Places::default();
        let taken = standings.iter().map(|standing| {
            let (place, notice) = places.take();
            if let Some(idle) = standing {
                place.begin();
                if let Some(seconds) = idle {
                    place.rest(Duration::from_secs(*seconds));
                }
            }
            (place, notice)
        });
        let taken = taken.collect();
        (places, taken)
    }

    /// The connections that were closed, in this order.
    fn let_go(places: &mut Places, taken: &mut [(Arc<Place>, Notice)]) -> Vec<usize> {
        let mut gone = Vec::new();
        while places.let_one_go() {
            for (at, (_, notice)) in taken.iter_mut().enumerate() {
                if !gone.contains(&at) && notice.0.try_recv().is_ok() {
                    gone.push(at);
                }
            }
        }
        gone
    }

    #[test]
    fn hold_2_strangers_go_first_then_the_idlest_and_the_busy_never() {
        let busy = Some(None);
        let idle = |seconds| Some(Some(seconds));
        let (mut places, mut taken) = places(&[idle(7), None, busy, idle(0), None, idle(3), busy]);
        assert_eq!(let_go(&mut places, &mut taken), [1, 4, 3, 5, 0]);
        // A busy one is let go once it is idle again.
        taken[2].0.rest(Duration::from_secs(9));
        assert!(places.let_one_go());
        assert!(taken[2].1.0.try_recv().is_ok());
        assert!(!places.let_one_go());
    }

    #[test]
    fn hold_2_a_stranger_whose_token_opens_no_role_has_no_standing() {
        let place = Place::default();
        let before = place.begin_for_stranger();
        assert!(place.is_busy());
        place.again(before);
        place.rest(Duration::from_secs(1));
        assert!(place.is_strangers());
        // A caller that was known stays known.
        place.begin();
        place.rest(Duration::from_secs(2));
        let before = place.begin_for_stranger();
        place.again(before);
        place.rest(Duration::from_secs(3));
        assert_eq!(place.idle_since(), Some(2_000_001));
    }

    #[test]
    fn a_request_that_nobody_authenticated_gives_no_standing() {
        let place = Place::default();
        place.rest(Duration::from_secs(1));
        assert!(place.is_strangers());
        place.begin();
        assert!(place.is_busy() && !place.is_strangers());
        place.rest(Duration::ZERO);
        assert!(!place.is_busy() && !place.is_strangers());
    }

    #[test]
    fn those_that_have_ended_are_forgotten() {
        let mut places = Places::default();
        let mut standing: Vec<_> = (0..10).map(|_| places.take()).collect();
        for (place, _) in &standing[5..] {
            place.begin();
        }
        for _ in 0..100_000 {
            drop(places.take());
        }
        let held = places.fresh.len() + places.known.len();
        assert!(held <= 65, "{held}");
        let gone = let_go(&mut places, &mut standing);
        assert_eq!(gone, [0, 1, 2, 3, 4]);
        drop(standing);
        assert!(!places.let_one_go());
        assert!(places.known.is_empty() && places.fresh.is_empty());
    }
}
