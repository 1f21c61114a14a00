//! Threads that make the chunks of batches and streams, one for each core, at the priority of the
//! pool's fillers.
//!
//! A chunk keeps a processor busy for milliseconds. At normal priority, a single request that
//! arrives meanwhile waits for the scheduler's next tick, some milliseconds. At SCHED_IDLE it is
//! served at once, and bulk work runs whenever the core is free (row "online p99 beside a stream of
//! containers at full speed" of benches/RESULTS.md).

use crate::pool::lower_priority;
use crate::rates::LogLines;
use crate::transport::connection::BUFFER_BYTES_MAX;
use crate::transport::shares::Shares;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Log lines about panics.
static PANICS: LogLines = LogLines::new();
/// Bytes of a chunk as it is sent: 8,192 keys of `AES_256` as octets.
pub(super) const CHUNK_BYTES_MAX: usize = 768 * 1024;
/// The most bytes that a batch holds while it is not read: the buffer of hyper up to its bound, the
/// chunk that exceeds the bound, and the data from which that chunk was made.
pub(super) const HELD_BYTES_MAX: u64 = BUFFER_BYTES_MAX as u64 + 2 * CHUNK_BYTES_MAX as u64;
/// Bytes of the state of a batch.
pub(super) const STATE_BYTES: u64 = 16 * 1024;
/// The most bytes that all batches hold together: 64 batches that are not read, or thousands of a
/// few hundred keys.
const BATCHES_BYTES_MAX: u64 = 64 * (HELD_BYTES_MAX + STATE_BYTES);
/// The most streams of containers at the same time. Each may hold a message of 16 MiB and its
/// results.
const STREAMS_MAX: u64 = 64;

/// The threads, and the shares of what they make. Clones share them.
#[derive(Clone)]
pub struct Makers {
    threads: Arc<ThreadPool>,
    /// Shares of the memory for batches, counted in bytes.
    pub(super) batches: Shares,
    /// Shares of the streams of containers that may be open.
    pub(super) streams: Shares,
}

impl Makers {
    /// Starts a thread for each core that this process may run on.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start() -> Result<Self, ThreadPoolBuildError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = ThreadPoolBuilder::new()
            .num_threads(cores)
            .thread_name(|number| format!("bulk-{number}"))
            .start_handler(|_| lower_priority())
            // The caller that waits is told that its work is lost.
            .panic_handler(|_| {
                if let Some(left_out) = PANICS.admit() {
                    tracing::error!(
                        left_out,
                        "a chunk's making ended in a panic: please report this as a fault"
                    );
                }
            })
            .build()?;
        Ok(Self {
            threads: Arc::new(threads),
            batches: Shares::new(BATCHES_BYTES_MAX),
            streams: Shares::new(STREAMS_MAX),
        })
    }

    /// Runs `work` on one of the threads; `None` if it panicked.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, made) = oneshot::channel();
        self.threads.spawn_fifo(move || {
            // The caller that waited may have gone.
            drop(done.send(work()));
        });
        made.await.ok()
    }

    /// Runs `work` on one of the threads with what is in `place`, which is empty meanwhile. `None`
    /// if it was empty before, or if the work panicked.
    pub(super) async fn make_with<S: Send + 'static, T: Send + 'static>(
        &self,
        place: &mut Option<S>,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Option<T> {
        let mut state = place.take()?;
        let worked = move || {
            let made = work(&mut state);
            (state, made)
        };
        let (state, made) = self.make(worked).await?;
        *place = Some(state);
        Some(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_and_a_panic_is_told_to_whom_it_concerns_alone() {
        let makers = Makers::start().unwrap();
        assert_eq!(makers.make(|| 7).await, Some(7));
        let none: Option<()> = makers.make(|| panic!("as it is meant to")).await;
        assert_eq!(none, None);
        assert_eq!(makers.make(|| 8).await, Some(8));
    }
}
