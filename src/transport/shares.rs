//! Shares of a resource that is held for as long as a reader likes. The whole is bounded, and no
//! principal can hold all of it.
//!
//! A principal may hold as much as it leaves free: half when it is alone, and less the more others
//! hold. So there is always something left for a principal that holds nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The whole resource. Clones refer to the same one.
#[derive(Clone)]
pub(super) struct Shares(Arc<State>);

struct State {
    all: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    sum: u64,
    /// By the lasting ARN of a principal: all sessions of a role count as one.
    of: HashMap<String, u64>,
}

/// A share, given back when dropped.
pub(super) struct Share {
    shares: Shares,
    holder: String,
    count: u64,
}

impl Shares {
    pub(super) fn new(all: u64) -> Self {
        let held = Mutex::default();
        Self(Arc::new(State { all, held }))
    }

    /// Takes a share of `count` for a principal, unless it would then hold more than is left free.
    pub(super) fn take(&self, holder: &str, count: u64) -> Option<Share> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.of.get(holder).copied().unwrap_or_default();
        let sum = held.sum.checked_add(count)?;
        if own + count > self.0.all.checked_sub(sum)? {
            return None;
        }
        held.sum = sum;
        match held.of.get_mut(holder) {
            Some(own) => *own += count,
            None => drop(held.of.insert(holder.to_owned(), count)),
        }
        Some(Share {
            shares: self.clone(),
            holder: holder.to_owned(),
            count,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self
            .shares
            .0
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.sum -= self.count;
        if let Some(own) = held.of.get_mut(&self.holder) {
            *own -= self.count;
            if *own == 0 {
                held.of.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(shares: &Shares, holder: &str) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(holder, 1)).collect()
    }

    #[test]
    fn hold_6_nobody_holds_more_than_is_left() {
        let shares = Shares::new(64);
        let first = all(&shares, "a");
        assert_eq!(first.len(), 32, "half, alone");
        let second = all(&shares, "b");
        assert_eq!(second.len(), 16);
        let third = all(&shares, "c");
        assert_eq!(third.len(), 8);
        assert!(shares.take("a", 1).is_none());
        assert!(shares.take("d", 1).is_some(), "a newcomer is served");
        drop((first, second, third));
        let held = shares.0.held.lock().unwrap();
        assert!(held.sum == 0 && held.of.is_empty(), "nothing is kept");
    }

    #[test]
    fn what_is_larger_than_all_is_refused() {
        let shares = Shares::new(100);
        for count in [51, 100, 101, u64::MAX] {
            assert!(shares.take("a", count).is_none(), "{count}");
        }
        let _half = shares.take("a", 50).unwrap();
        assert!(shares.take("b", u64::MAX).is_none());
        assert!(shares.take("b", 25).is_some());
    }
}
