//! tests
use std::cell::RefCell;
thread_local! {
    static BETWEEN: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// What a test has put between a request's work and its last check.
pub(super) fn between_work_and_last_check() {
    if let Some(act) = BETWEEN.with_borrow_mut(Option::take) {
        act();
    }
}
