//! The fence: what a magazine carries, the last check of a request, and the quiet point of a change
//! (POOL-4).
//!
//! A request's **last section** lies between its last check and the hand-over of its response. The
//! request enters, compares the current fence, revision and clone word with those that it worked
//! under, hands over, and leaves. There is no I/O inside. A request that was overtaken by changes
//! twice does its work inside too. A change publishes its snapshot, waits for the **quiet point**
//! (every section that was entered before has been left), and is answered only then. A request
//! counts its section, issues a fence, and reads the values to compare. A change publishes, issues
//! a fence, and reads the counts. So either the change waits for the section, or the section sees
//! the change, however the snapshot itself is published. When a change is answered, no earlier
//! request can still pass its last check.
//!
//! Sections are counted in two phases, as in sleepable RCU. One flip would not do: a section that
//! reads the phase before the flip and is counted after the wait would escape the next change's
//! wait. With two flips each change waits for both phases.

use super::sync::{AtomicUsize, CachePadded, Mutex, Ordering, SHARDS, fence, thread};
use std::sync::Arc;

/// The fence and clone word under which a pooled key was minted. The key is handed out only under
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The KMS key's fence.
    pub fence: u64,
    /// The clone word.
    pub clone_word: u64,
}

/// Counts the requests that are in their last section.
pub struct LastCheck {
    phase: AtomicUsize,
    inside: [CachePadded<[AtomicUsize; 2]>; SHARDS],
    /// One quiet point at a time: only changes wait for this lock, never a request.
    changing: Mutex<()>,
}

impl Default for LastCheck {
    fn default() -> Self {
        let counters = || CachePadded::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        Self {
            phase: AtomicUsize::new(0),
            inside: std::array::from_fn(|_| counters()),
            changing: Mutex::new(()),
        }
    }
}

impl LastCheck {
    /// Enters the last section, which lasts until the returned value is dropped. `shard` is any
    /// number that differs between threads.
    pub fn enter(self: &Arc<Self>, shard: usize) -> LastSection {
        let shard = shard % SHARDS;
        let phase = self.phase.load(Ordering::SeqCst) & 1;
        self.inside[shard][phase].fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        LastSection {
            check: Arc::clone(self),
            shard,
            phase,
        }
    }

    /// Waits until every section that was entered before this call was left.
    pub fn quiesce(&self) {
        let _one_at_a_time = self
            .changing
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for _ in 0..2 {
            let phase = self.phase.fetch_add(1, Ordering::SeqCst) & 1;
            fence(Ordering::SeqCst);
            while self
                .inside
                .iter()
                .any(|shard| shard[phase].load(Ordering::SeqCst) != 0)
            {
                thread::yield_now();
            }
        }
    }
}

/// The last section of one request.
#[must_use]
pub struct LastSection {
    check: Arc<LastCheck>,
    shard: usize,
    phase: usize,
}

impl Drop for LastSection {
    fn drop(&mut self) {
        self.check.inside[self.shard][self.phase].fetch_sub(1, Ordering::SeqCst);
    }
}
