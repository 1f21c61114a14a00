//! A filler: one thread of a private rayon pool, at the lowest priority of the operating system.
//!
//! It mints a magazine for each lane that wants one, publishes it, and sleeps when no lane does. It
//! has its own epoch for each lane, so filling takes no shared lock.

use crate::envelope::{Epoch, MintedKeys};
use crate::pool::lane::{Lane, LaneId, MAGAZINE_KEYS, Magazine};
use crate::pool::stamp::Stamp;
use crate::pool::{Pool, Purge};
use std::collections::HashMap;
use std::sync::Arc;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Lowers the calling thread to SCHED_IDLE: it runs when no other thread wants the core. Measured:
/// at normal priority a refill makes the tail of a busy server 77 times longer; for SCHED_IDLE see
/// the rows "tail while both cores refill" of benches/RESULTS.md.
pub(crate) fn lower_priority() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let priority = ThreadPriority::Min;
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, policy) {
        tracing::warn!(?error, "a thread of the background keeps its priority");
    }
}

/// A filler's epochs, each with the stamp under which it began.
#[derive(Default)]
pub(super) struct Epochs(HashMap<LaneId, (Epoch, Stamp)>);

/// Fills until the pool shuts down.
pub(super) fn run(pool: &Pool, filler: usize) {
    let mut epochs = Epochs::default();
    while !pool.is_shut_down() {
        // Before the lanes are looked at: a ring from here on ends the sleep below (POOL-3).
        pool.bell.answer(filler);
        let lanes = pool.lanes.load();
        let mut busy = false;
        for lane in lanes.values() {
            busy |= lane.wants_filling() && fill(pool, lane, filler, &mut epochs);
        }
        if !busy {
            // An idle filler keeps no secrets: its epochs end now.
            epochs.0.clear();
            drop(lanes);
            pool.bell.sleep(filler);
        }
    }
}

/// Mints and publishes one magazine. Returns whether there may be more to do.
pub(super) fn fill(pool: &Pool, lane: &Lane, filler: usize, epochs: &mut Epochs) -> bool {
    if !lane.reserve() {
        return false;
    }
    let published = mint(pool, lane, epochs).map(|magazine| {
        lane.filled(pool.clock.monotonic());
        let minted_at = magazine.minted_at;
        lane.queue.publish(filler, magazine, minted_at);
        pool.minted.increment(MAGAZINE_KEYS as u64);
    });
    lane.release();
    published.is_some()
}

/// Mints a magazine for the lane's current entry. `None` when the entropy source fails (the bell
/// will ring again) or the lane was purged.
fn mint(pool: &Pool, lane: &Lane, epochs: &mut Epochs) -> Option<Box<Magazine>> {
    let entry = lane.entry.load_full()?;
    let stamp = Stamp {
        fence: entry.fence,
        clone_word: pool.clone_word.read(),
    };
    let now = pool.clock.monotonic();
    let current = entry.current()?;
    let begin = || Epoch::begin(entry.key.id, current, &pool.entropy, now).ok();
    // An epoch of another fence or clone word must not mint any more.
    let (epoch, made_under) = match epochs.0.remove(&lane.id) {
        Some(epoch) if epoch.1 == stamp => epoch,
        _ => (begin()?, stamp),
    };
    let mut epoch = epoch;
    // A used magazine brings its buffers along.
    let mut magazine = pool.emptied.take().unwrap_or_else(|| {
        Box::new(Magazine {
            keys: MintedKeys::new(),
            stamp,
            minted_at: now,
        })
    });
    (magazine.stamp, magazine.minted_at) = (stamp, now);
    let (keys, length) = (&mut magazine.keys, lane.id.length);
    // The epoch may be at its limit; a new one has room for any magazine.
    if epoch.mint_into(keys, length, MAGAZINE_KEYS, now).is_err() {
        epoch = begin()?;
        epoch.mint_into(keys, length, MAGAZINE_KEYS, now).ok()?;
    }
    epochs.0.insert(lane.id, (epoch, made_under));
    // The machine was cloned meanwhile: neither the keys nor the epochs may be used.
    if pool.clone_word.read() != stamp.clone_word {
        epochs.0.clear();
        pool.count(Purge::Clone, magazine.keys.len());
        return None;
    }
    Some(magazine)
}

/// Starts `fillers` threads that each run until the pool shuts down.
pub(super) fn start(
    pool: &Arc<Pool>,
    fillers: usize,
) -> Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(fillers)
        .thread_name(|filler| format!("filler-{filler}"))
        .start_handler(|_| lower_priority())
        .build()?;
    for filler in 0..fillers {
        let pool = Arc::clone(pool);
        threads.spawn(move || run(&pool, filler));
    }
    Ok(threads)
}
