//! Who watches a look at a table, and may end it early.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sees how far a look at a table is.
pub trait Watch: Sync {
    /// Whether it is to end early.
    fn is_stopped(&self) -> bool;

    /// It begins; of files with a footer it is known how many rows there are.
    fn begin(&self, rows: Option<u64>);

    /// So many more rows were looked at.
    fn seen(&self, rows: u64);

    /// It has ended.
    fn end(&self);
}

/// Stops it, and does not see how far it is.
impl Watch for AtomicBool {
    fn is_stopped(&self) -> bool {
        self.load(Ordering::Relaxed)
    }

    fn begin(&self, _rows: Option<u64>) {}

    fn seen(&self, _rows: u64) {}

    fn end(&self) {}
}
