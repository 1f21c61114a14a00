//! Whether the store takes changes, for those who ask without waiting for it.

use arc_swap::ArcSwapOption;
use metrics::Gauge;
use std::sync::Arc;

/// Why the store takes no change; nothing as long as it does.
pub struct Halt {
    reason: ArcSwapOption<String>,
    gauge: Gauge,
}

impl Halt {
    /// Of a store that takes changes; `gauge` is 1 while it does not.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.set(0);
        Self {
            reason: ArcSwapOption::empty(),
            gauge,
        }
    }

    /// One line that says what is wrong and what to do, while the store takes no change.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<String>> {
        self.reason.load_full()
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
