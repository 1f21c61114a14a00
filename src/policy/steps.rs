//! The bound on the work of a decision: a number of steps, each about a nanosecond or two of
//! arithmetic, counted while the decision is made.
//!
//! The author of a policy must not be able to block a core with it. A decision that takes more than
//! `STEPS_MAX` is denied (AUTH-1: a request that is not known to be allowed is not allowed). On a
//! thread that serves connections it stops after `BRIEF_STEPS_MAX`, see `briefly`, and the caller
//! of this module makes it again on a thread where no request waits behind it.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The most steps of a decision. The 50,000 grants of a key, each with eight pairs, against a
/// context of as many take 3.2 million. The worst policy and request reach the bound in less than
/// 20 ms (section 37210e5 of benches/RESULTS.md).
pub(crate) const STEPS_MAX: u64 = 5_000_000;
/// The most steps on a thread that serves connections: a fifth of a millisecond. A policy of a
/// hundred statements takes a thousand steps.
const BRIEF_STEPS_MAX: u64 = 65_536;

thread_local! {
    static LIMIT: Cell<u64> = const { Cell::new(STEPS_MAX) };
}

/// Runs `work`; the decisions in it are brief.
pub fn briefly<T>(work: impl FnOnce() -> T) -> T {
    struct Reset(u64);
    impl Drop for Reset {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _reset = Reset(LIMIT.replace(BRIEF_STEPS_MAX));
    work()
}

/// A future whose decisions are brief.
pub struct Briefly<F>(pub F);

impl<F: Future + Unpin> Future for Briefly<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        briefly(|| Pin::new(&mut self.0).poll(cx))
    }
}

/// The remaining steps of a decision.
pub(super) struct Steps {
    left: Cell<u64>,
}

impl Steps {
    /// As many steps as a decision may take on this thread now.
    pub(super) fn here() -> Self {
        Self::of(LIMIT.get())
    }

    pub(super) const fn of(steps: u64) -> Self {
        Self {
            left: Cell::new(steps),
        }
    }

    /// No bound, for uses that are not a decision.
    pub(super) const fn unbounded() -> Self {
        Self::of(u64::MAX)
    }

    /// Counts this many steps.
    pub(super) fn spend(&self, steps: usize) {
        self.left.set(self.left.get().saturating_sub(steps as u64));
    }

    /// Whether no steps are left: findings from here on decide nothing.
    pub(super) fn are_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// How many are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brief_decision_has_fewer_steps_and_the_next_has_all_of_them() {
        assert_eq!(Steps::here().left(), STEPS_MAX);
        assert_eq!(briefly(|| Steps::here().left()), BRIEF_STEPS_MAX);
        let panicked = std::panic::catch_unwind(|| briefly(|| panic!("as it is meant to")));
        assert!(panicked.is_err());
        assert_eq!(Steps::here().left(), STEPS_MAX);
    }

    #[test]
    fn steps_end_and_stay_ended() {
        let steps = Steps::of(3);
        steps.spend(2);
        assert!(!steps.are_spent());
        steps.spend(usize::MAX);
        assert!(steps.are_spent());
    }
}
