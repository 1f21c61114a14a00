//! One lane: the pooled keys of one KMS key and data key spec, its size, and its purge.

use crate::clock::Timestamp;
use crate::envelope::MintedKeys;
use crate::key::arn::{AccountId, Arn};
use crate::key::data_key::DataKeyLength;
use crate::key::regions::{RegionNumber, RegionalId};
use crate::keystore::KeyEntry;
use crate::pool::queue::Queue;
use crate::pool::stamp::Stamp;
use crate::pool::watermark::Watermarks;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Keys in a full magazine, the unit that moves between cores.
pub(super) const MAGAZINE_KEYS: usize = 64;

/// Identifies a lane: keys with the same id are interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The KMS key.
    pub key: RegionalId,
    /// `AES_256` or `AES_128`.
    pub length: DataKeyLength,
}

/// Pooled keys of one epoch and stamp. Secret like the masks in it: no `Clone`, no `Debug`.
pub(super) struct Magazine {
    pub(super) keys: MintedKeys,
    pub(super) stamp: Stamp,
    pub(super) minted_at: Duration,
}

/// One lane.
pub(super) struct Lane {
    pub(super) id: LaneId,
    label: String,
    /// The account of the KMS key.
    pub(super) account: AccountId,
    pub(super) queue: Queue<Magazine>,
    /// The key as the latest taker saw it; `None` after a purge, until the next taker.
    pub(super) entry: ArcSwapOption<KeyEntry>,
    /// The newest fence that a taker brought; it only increases. It orders no other memory: the
    /// stamp of a magazine holds the fence under which it was minted.
    fence: AtomicU64,
    /// The most full magazines; grows with demand.
    capacity: AtomicUsize,
    filling: AtomicBool,
    /// Magazines that are being minted: they count against the capacity before they exist (POOL-2).
    reserved: AtomicUsize,
    /// Monotonic microseconds of the latest take, in the pool's time of the last tick.
    taken_at: AtomicU64,
    /// Monotonic microseconds of the latest fill.
    filled_at: AtomicU64,
}

impl Lane {
    /// A lane of this key.
    pub(super) fn new(
        entry: &KeyEntry,
        length: DataKeyLength,
        fillers: usize,
        capacity: usize,
    ) -> Self {
        let key = entry.key.regional_id();
        let region = match key.region {
            RegionNumber::HOME => None,
            _ => Arn::split(&entry.arn).map(|arn| format!("{}/", arn.region)),
        };
        let region = region.unwrap_or_default();
        Self {
            id: LaneId { key, length },
            label: format!("{region}{}/{}", key.id, length.spec()),
            account: entry.key.account,
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

    /// The metrics' label: `<key id>/AES_256`, of another Region than the home Region
    /// `<Region>/<key id>/AES_256`.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The capacity in magazines.
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

    /// Whether the lane knows a newer fence than `fence`. A request with an older fence is behind,
    /// and would drop keys that are current.
    pub(super) fn is_newer_than(&self, fence: u64) -> bool {
        self.fence.load(Ordering::SeqCst) > fence
    }

    /// Makes `entry` the one to mint under, unless the lane knows a newer one.
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
        // Written only when the time has changed: takers on other cores read this cache line.
        if self.taken_at.load(Ordering::Relaxed) != micros(now) {
            self.taken_at.store(micros(now), Ordering::Relaxed);
        }
    }

    pub(super) fn filled(&self, now: Duration) {
        self.filled_at.store(micros(now).max(1), Ordering::Relaxed);
    }

    /// The time since the latest take.
    pub(super) fn idle(&self, now: Duration) -> Duration {
        Duration::from_micros(micros(now).saturating_sub(self.taken_at.load(Ordering::Relaxed)))
    }

    /// Whether a filler has ever published to this lane.
    pub(super) fn was_filled(&self) -> bool {
        self.filled_at.load(Ordering::Relaxed) != 0
    }

    /// Drops and wipes all keys, and returns how many there were.
    pub(super) fn purge(&self) -> usize {
        self.queue.drain().map(|magazine| magazine.keys.len()).sum()
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    Timestamp(0).after(duration).0
}
