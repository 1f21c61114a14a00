//! What a decision may cost: a number of steps, each about a nanosecond or two of arithmetic,
//! counted while it is made.
//!
//! Whoever writes a policy must not be able to hold a core with it. A decision that takes more
//! than `STEPS_MAX` is denied (AUTH-1: what is not known to be allowed is not allowed). On a
//! thread that serves connections it stops after `BRIEF_STEPS_MAX`, see `briefly`, and whoever
//! asked makes it again where nobody waits behind it.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Steps of a decision: the 50,000 grants of a key, each with eight pairs, against a context of
/// as many take 3.2 million, the worst policy and request reach the bound in less than 20 ms.
pub(crate) const STEPS_MAX: u64 = 5_000_000;
/// Steps on a thread that serves connections: a fifth of a millisecond. A policy of a hundred
/// statements takes a thousand.
const BRIEF_STEPS_MAX: u64 = 65_536;

thread_local! {
    static LIMIT: Cell<u64> = const { Cell::new(STEPS_MAX) };
}

/// Does `work`; the decisions in it are brief ones.
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

/// A future whose decisions are brief ones.
pub struct Briefly<F>(pub F);

impl<F: Future + Unpin> Future for Briefly<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        briefly(|| Pin::new(&mut self.0).poll(cx))
    }
}

/// What is left of a decision's steps.
pub(super) struct Steps {
    left: Cell<u64>,
}

impl Steps {
    /// As many as a decision may take on this thread now.
    pub(super) fn here() -> Self {
        Self::of(LIMIT.get())
    }

    pub(super) const fn of(steps: u64) -> Self {
        Self {
            left: Cell::new(steps),
        }
    }

    /// For what is no decision.
    pub(super) const fn unbounded() -> Self {
        Self::of(u64::MAX)
    }

    /// Counts so many steps.
    pub(super) fn spend(&self, steps: usize) {
        self.left.set(self.left.get().saturating_sub(steps as u64));
    }

    /// Whether there are none left: whatever is found from here on decides nothing.
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
