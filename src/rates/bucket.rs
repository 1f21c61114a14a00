//! One bucket, as a single atomic number: the generic cell rate algorithm (ITU-T I.371, annex A),
//! which needs no timer to fill anything.
//!
//! The number is the time at which the bucket will be full again (the "theoretical arrival time").
//! A key moves it on by one interval. A request that would move it more than the burst beyond the
//! present is refused, and learns how long to wait. In any stretch of time no more keys leave than
//! the burst and the yield of the rate, for any number of callers and threads: the comparison and
//! the move are one compare-exchange.
//!
//! A bucket that is not used is **retired** before it is forgotten. Otherwise a request that still
//! holds it and a new bucket of the same name could give a burst each.

use super::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// Ticks of a nanosecond: an interval is rounded up to whole ticks, so a rate of ten million keys a
/// second is kept to 1 in 1,600. They last for 36 years.
const TICKS_PER_NANOSECOND: u64 = 16;
const TICKS_PER_SECOND: u64 = 1_000_000_000 * TICKS_PER_NANOSECOND;
/// In the place of a time: no request takes from this bucket any more.
const RETIRED: u64 = u64::MAX;

/// A monotonic time or a stretch of it, in ticks; saturates.
fn ticks(time: Duration) -> u64 {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    nanoseconds.saturating_mul(TICKS_PER_NANOSECOND)
}

/// How fast keys may leave, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    keys_per_second: u64,
    /// Ticks for each key.
    interval: u64,
    /// Keys at once; at least 1.
    burst: u64,
}

/// Which requests go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A single request: down to the last key.
    Online,
    /// A batch: only what it leaves the bucket half full with.
    Bulk,
}

impl Rate {
    /// `keys_per_second` keys a second, and at once as many as they make in `burst`. `None` for 0:
    /// there is no limit.
    pub(super) fn new(keys_per_second: u64, burst: Duration) -> Option<Self> {
        let at_once = u128::from(keys_per_second) * burst.as_nanos() / 1_000_000_000;
        (keys_per_second > 0).then(|| Self {
            keys_per_second,
            interval: TICKS_PER_SECOND.div_ceil(keys_per_second),
            burst: u64::try_from(at_once).unwrap_or(u64::MAX).max(1),
        })
    }

    /// Keys that may be missing of a full bucket after a take.
    pub(super) fn share(self, urgency: Urgency) -> u64 {
        match urgency {
            Urgency::Online => self.burst,
            Urgency::Bulk => self.burst.div_ceil(2),
        }
    }

    /// Keys that a batch takes at a time: what the rate makes in 10 ms, so that few of them need no
    /// chunk and no timer each, and many no long wait.
    pub(super) fn bulk_keys(self) -> u64 {
        (self.keys_per_second / 100).clamp(1, self.share(Urgency::Bulk))
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It would be there after this time, if no other request takes any.
    Wait(Duration),
    /// This is not the bucket of its name any more: look again.
    Retired,
}

/// A bucket of keys.
pub(super) struct Bucket {
    /// When it is full again, in ticks, or [`RETIRED`]. It publishes nothing but itself, so relaxed
    /// orderings suffice: what counts is that every change of it is a compare-exchange.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(now: Duration) -> Self {
        Self {
            full_at: AtomicU64::new(ticks(now).min(RETIRED - 1)),
        }
    }

    /// Takes `keys` keys, all or none.
    ///
    /// # Errors
    /// [`Refused`], when too few keys are left, or the bucket was retired.
    pub(super) fn take(
        &self,
        rate: Rate,
        keys: u64,
        urgency: Urgency,
        now: Duration,
    ) -> Result<(), Refused> {
        let now = ticks(now);
        let allowance = rate.interval.saturating_mul(rate.share(urgency));
        let cost = rate.interval.saturating_mul(keys);
        let after = |full_at: u64| full_at.max(now).saturating_add(cost).min(RETIRED - 1);
        let too_soon = |after: u64| (after - now.min(after)).saturating_sub(allowance);
        let take = |full_at: u64| {
            let after = after(full_at);
            (full_at != RETIRED && too_soon(after) == 0).then_some(after)
        };
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        match taken {
            Ok(_) => Ok(()),
            Err(RETIRED) => Err(Refused::Retired),
            Err(full_at) => {
                let wait = too_soon(after(full_at)).div_ceil(TICKS_PER_NANOSECOND);
                Err(Refused::Wait(Duration::from_nanos(wait)))
            }
        }
    }

    /// Retires the bucket if it has been full for `idle`. Nothing is lost with it: a new one is
    /// full too.
    pub(super) fn retire(&self, idle: Duration, now: Duration) -> bool {
        let (now, idle) = (ticks(now), ticks(idle));
        let retire = |full_at: u64| (full_at.saturating_add(idle) <= now).then_some(RETIRED);
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, retire)
            .is_ok()
    }

    /// Whether it is retired; never again otherwise.
    pub(super) fn is_retired(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) == RETIRED
    }
}
