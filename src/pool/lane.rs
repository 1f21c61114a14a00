//! One lane: the pooled keys of one KMS key and data key spec, its size, and its purge.

use crate::clock::Timestamp;
use crate::envelope::MintedKeys;
use crate::key::KeyId;
use crate::key::arn::AccountId;
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::pool::queue::Queue;
use crate::pool::stamp::Stamp;
use crate::pool::watermark::Watermarks;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Keys in a full magazine: what crosses cores at once.
pub(super) const MAGAZINE_KEYS: usize = 64;

/// Which keys are interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The KMS key.
    pub key: KeyId,
    /// `AES_256` or `AES_128`.
    pub length: DataKeyLength,
}

/// Pooled keys of one epoch and stamp. A secret like the masks in it: no `Clone`, no `Debug`.
pub(super) struct Magazine {
    pub(super) keys: MintedKeys,
    pub(super) stamp: Stamp,
    pub(super) minted_at: Duration,
}

/// One lane.
pub(super) struct Lane {
    pub(super) id: LaneId,
    /// Whose the KMS key is.
    pub(super) account: AccountId,
    pub(super) queue: Queue<Magazine>,
    /// The key as the latest taker saw it; none after a purge, until the next taker.
    pub(super) entry: ArcSwapOption<KeyEntry>,
    /// The newest fence that a taker brought; only ever forward. Publishes nothing: the stamp of a
    /// magazine says what it was minted under.
    fence: AtomicU64,
    /// Magazines that may be full at once; grows with demand.
    capacity: AtomicUsize,
    filling: AtomicBool,
    /// Magazines being minted: counted against the capacity before they exist (POOL-2).
    reserved: AtomicUsize,
    /// Monotonic microseconds of the latest take, as the pool tells the time.
    taken_at: AtomicU64,
    /// Monotonic microseconds of the latest fill.
    filled_at: AtomicU64,
}

impl Lane {
    pub(super) fn new(id: LaneId, account: AccountId, fillers: usize, capacity: usize) -> Self {
        Self {
            id,
            account,
            queue: Queue::new(fillers),
            entry: ArcSwapOption::empty(),
            fence: AtomicU64::new(0),
            capacity: AtomicUsize::new(capacity),
            filling: AtomicBool::new(false),
            reserved: AtomicUsize::new(0),
            taken_at: AtomicU64::new(0),
            filled_at: AtomicU64::new(0),
        }
    }

    /// `<key id>/AES_256`: the metrics' label.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", self.id.key, self.id.length.spec())
    }

    /// In magazines.
    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::SeqCst)
    }

    pub(super) fn set_capacity(&self, magazines: usize) {
        self.capacity.store(magazines, Ordering::SeqCst);
    }

    /// Whether the depth is below the low watermark.
    pub(super) fn is_low(&self) -> bool {
        self.queue.full() < Watermarks::of_capacity(self.capacity()).low
    }

    /// Whether a filler should fill this lane now.
    pub(super) fn wants_filling(&self) -> bool {
        let marks = Watermarks::of_capacity(self.capacity());
        let filling = marks.fill(self.queue.full(), self.filling.load(Ordering::SeqCst));
        self.filling.store(filling, Ordering::SeqCst);
        filling && self.entry.load().is_some()
    }

    /// Reserves room for one magazine, if there is any.
    pub(super) fn reserve(&self) -> bool {
        let reserved = self.reserved.fetch_add(1, Ordering::SeqCst);
        let room = self.queue.full() + reserved < self.capacity();
        if !room {
            self.release();
        }
        room
    }

    pub(super) fn release(&self) {
        self.reserved.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a newer fence than `fence` is known here: whoever asks under it is behind, and would
    /// drop what was minted since.
    pub(super) fn is_newer_than(&self, fence: u64) -> bool {
        self.fence.load(Ordering::SeqCst) > fence
    }

    /// Makes `entry` the one to mint under, unless a newer one is there.
    pub(super) fn offer(&self, entry: &Arc<KeyEntry>) {
        self.fence.fetch_max(entry.fence, Ordering::SeqCst);
        let current = self.entry.load();
        if current
            .as_ref()
            .is_none_or(|current| current.fence < entry.fence)
        {
            self.entry.store(Some(Arc::clone(entry)));
        }
    }

    pub(super) fn taken(&self, now: Duration) {
        // Written only when the time has moved on: takers on other cores read this line.
        if self.taken_at.load(Ordering::Relaxed) != micros(now) {
            self.taken_at.store(micros(now), Ordering::Relaxed);
        }
    }

    pub(super) fn filled(&self, now: Duration) {
        self.filled_at.store(micros(now).max(1), Ordering::Relaxed);
    }

    /// How long nobody has taken a key.
    pub(super) fn idle(&self, now: Duration) -> Duration {
        Duration::from_micros(micros(now).saturating_sub(self.taken_at.load(Ordering::Relaxed)))
    }

    /// Whether a filler has ever published here.
    pub(super) fn was_filled(&self) -> bool {
        self.filled_at.load(Ordering::Relaxed) != 0
    }

    /// Drops everything, wiped, and returns how many keys that were.
    pub(super) fn purge(&self) -> usize {
        self.queue.drain().map(|magazine| magazine.keys.len()).sum()
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    Timestamp(0).after(duration).0
}
