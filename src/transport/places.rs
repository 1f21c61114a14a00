//! The connections of one listener, and which of them is let go when it is full and another waits.
//!
//! Strangers go first, in the order in which they came: connections on which nobody has been
//! authenticated yet, be it in a handshake, a head or a body. Where there are none, it is the one
//! that has been idle longest between two requests. A connection in the middle of an authenticated
//! request is never let go, from when its body has come or its stream of containers begins. So
//! strangers keep no caller out: their connections only drive out each other, and a caller has its
//! place as soon as it has asked once.
//!
//! A connection writes its standing into an atomic of its own, and nothing else is done for it
//! while the listener has room.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Nobody has been authenticated yet.
const STRANGER: u64 = 0;
/// In the middle of an authenticated request.
const BUSY: u64 = u64::MAX;

/// What one connection is to its listener.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// [`STRANGER`], [`BUSY`], or since when it is idle, in microseconds from 1 on.
    standing: AtomicU64,
    /// Whether its next answer is its last.
    is_last: AtomicBool,
}

impl Place {
    /// A request on it has been authenticated.
    pub(super) fn begin(&self) {
        self.standing.store(BUSY, Ordering::Relaxed);
    }

    /// An authenticated request, if there was one, has been answered.
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

    /// Since when it is idle between two requests.
    fn idle_since(&self) -> Option<u64> {
        let standing = self.standing.load(Ordering::Relaxed);
        (standing != STRANGER && standing != BUSY).then_some(standing)
    }

    /// Has its next answer say that it is the last.
    pub(super) fn close(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Ordering::Relaxed)
    }
}

/// Tells a connection that it is let go.
#[derive(Debug)]
pub(super) struct Notice(oneshot::Receiver<()>);

impl Notice {
    /// Ends when it is let go; not to be waited for once more after that.
    pub(super) async fn given(&mut self) {
        // The sender is dropped when its listener ends, which has words of its own.
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
    /// In the order in which they came. Some have ended, and some are no strangers any more.
    fresh: VecDeque<Held>,
    /// Those that were found to be no strangers; some have ended.
    known: Vec<Held>,
    /// How many of both there were when those that have ended were last removed.
    swept: usize,
}

impl Places {
    /// A place for a new connection, and what it listens to.
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

    /// Lets one go, unless all are busy; whether there was one.
    pub(super) fn let_one_go(&mut self) -> bool {
        while let Some(held) = self.fresh.pop_front() {
            if !held.place.is_strangers() {
                self.known.push(held);
            } else if held.notice.send(()).is_ok() {
                return true;
            }
        }
        self.known.retain(|held| !held.has_ended());
        let idle = self.known.iter().enumerate();
        let idle = idle.filter_map(|(at, held)| Some((held.place.idle_since()?, at)));
        let Some((_, idlest)) = idle.min() else {
            return false;
        };
        // One that has ended since has made room as well.
        let _ended = self.known.swap_remove(idlest).notice.send(());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places as `standings` says: `None` is a stranger's, `Some(None)` a busy one, else idle since
    /// that many seconds.
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

    /// Which of them have been let go, in the order in which they were.
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
