//! Whether the store takes changes and is known, readable without waiting for the store.

use crate::keystore::freshness::Freshness;
use arc_swap::ArcSwapOption;
use metrics::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The reason why the store takes no change, if it takes none.
pub struct Halt {
    reason: ArcSwapOption<String>,
    is_unknown: AtomicBool,
    gauge: Gauge,
    /// Of a shared store.
    freshness: Option<Freshness>,
}

impl Halt {
    /// A store that takes changes. `gauge` becomes 1 while the store takes none.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.set(0);
        Self {
            reason: ArcSwapOption::empty(),
            is_unknown: AtomicBool::new(false),
            gauge,
            freshness: None,
        }
    }

    /// The same of a store that other nodes change too.
    #[must_use]
    pub fn of_shared(gauge: Gauge, freshness: Freshness) -> Self {
        Self {
            freshness: Some(freshness),
            ..Self::new(gauge)
        }
    }

    /// How old what is served is, if the store is shared.
    #[must_use]
    pub fn freshness(&self) -> Option<&Freshness> {
        self.freshness.as_ref()
    }

    /// One line with the problem and its remedy, while the store takes no change.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<String>> {
        let stale = self.freshness.as_ref().and_then(Freshness::reason);
        stale.map(Arc::new).or_else(|| self.reason.load_full())
    }

    /// Whether the content of the store is unknown: a change may be durable that is not in force,
    /// so no request may be answered from memory. Of a shared store, that is so when it has not
    /// confirmed for too long what is in force.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.is_unknown.load(Ordering::Acquire)
            || self.freshness.as_ref().is_some_and(Freshness::is_stale)
    }

    /// Sets whether the content of the store is unknown.
    pub(crate) fn set_unknown(&self, is_unknown: bool) {
        self.is_unknown.store(is_unknown, Ordering::Release);
    }

    /// Records that the store takes no change.
    pub(crate) fn set(&self, reason: String) {
        self.gauge.set(1);
        self.reason.store(Some(Arc::new(reason)));
    }

    /// Records that the store takes changes. Returns whether it took none before.
    pub(crate) fn clear(&self) -> bool {
        self.gauge.set(0);
        self.reason.swap(None).is_some()
    }
}
