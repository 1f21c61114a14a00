//! The primitives that the concurrent parts of the pool use. The loom models replace this file by
//! one with loom's types and a stand-in for the deque; the rest of `queue`, `watermark` and `stamp`
//! is the same code.

pub(super) use crossbeam::atomic::AtomicCell;
pub(super) use crossbeam::deque::{Steal, Stealer, Worker};
pub(super) use crossbeam::utils::CachePadded;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Mutex, OnceLock};
pub(super) use std::thread::{self, Thread};

/// Slots for opened magazines. If more takers than this open magazines at the same instant, the
/// rest is dropped.
pub(super) const SLOTS: usize = 16;
/// The number of cache lines on which last sections are counted.
pub(super) const SHARDS: usize = 8;
