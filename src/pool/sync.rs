//! What the concurrent parts of the pool are built on. The loom models put loom's types, and a
//! stand-in for the deque, in the place of this file; everything else of `queue`, `watermark` and
//! `stamp` is the same code.

pub(super) use crossbeam::atomic::AtomicCell;
pub(super) use crossbeam::deque::{Steal, Stealer, Worker};
pub(super) use crossbeam::utils::CachePadded;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Mutex, OnceLock};
pub(super) use std::thread::{self, Thread};

/// Opened magazines beside each other; more takers than this at the same instant drop what they
/// opened.
pub(super) const SLOTS: usize = 16;
/// Requests in their last section are counted on so many cache lines.
pub(super) const SHARDS: usize = 8;
