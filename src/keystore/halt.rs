//! Whether the store takes changes, for those who ask without waiting for it.

use arc_swap::ArcSwapOption;
use metrics::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why the store takes no change; nothing as long as it does.
pub struct Halt {
    reason: ArcSwapOption<String>,
    is_unknown: AtomicBool,
    gauge: Gauge,
}

impl Halt {
    /// Of a store that takes changes; `gauge` is 1 while it does not.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.set(0);
        Self {
            reason: ArcSwapOption::empty(),
            is_unknown: AtomicBool::new(false),
            gauge,
        }
    }

    /// One line that says what is wrong and what to do, while the store takes no change.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<String>> {
        self.reason.load_full()
    }

    /// Whether what the store holds is unknown: a change may be durable that is not in force, and
    /// nothing may be answered from what is in memory.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.is_unknown.load(Ordering::Acquire)
    }

    /// From now on it is, or is no longer, known what the store holds.
    pub(crate) fn set_unknown(&self, is_unknown: bool) {
        self.is_unknown.store(is_unknown, Ordering::Release);
    }

    /// From now on it takes none.
    pub(crate) fn set(&self, reason: String) {
        self.gauge.set(1);
        self.reason.store(Some(Arc::new(reason)));
    }

    /// From now on it takes changes; whether it did not before.
    pub(crate) fn clear(&self) -> bool {
        self.gauge.set(0);
        self.reason.swap(None).is_some()
    }
}
