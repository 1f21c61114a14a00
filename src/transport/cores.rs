//! One runtime for each core, each on a thread of its own: a connection is given to one of them and
//! stays there.
//!
//! Work stealing would wake a second thread for nearly every request of a few microseconds, and
//! lets the threads of crowded cores hold each other up; under a thousand connections its p99 is
//! twice as long. Listeners accept elsewhere, so that a busy core never keeps a new connection from
//! an idle one.

use crate::metrics::seed_hash_maps;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// What a runtime is given for work of its blocking threads that has not ended.
const END: Duration = Duration::from_millis(100);

/// The running threads; they end when this is dropped.
pub struct Cores {
    handles: Vec<Handle>,
    threads: Vec<Thread>,
}

struct Thread {
    /// Dropping it ends the thread.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Cores {
    /// Starts a thread for each core that this process may run on.
    ///
    /// # Errors
    /// When the operating system refuses a thread, or what a runtime is made of.
    pub fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut started = Self {
            handles: Vec::with_capacity(cores),
            threads: Vec::with_capacity(cores),
        };
        for core in 0..cores {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            started.handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel();
            let thread = thread::Builder::new().name(format!("core-{core}"));
            let thread = thread.spawn(move || run(runtime, stopped))?;
            started.threads.push(Thread { stop, thread });
        }
        Ok(started)
    }

    /// Where connections can be given to.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

fn run(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    seed_hash_maps();
    // An error is the sender's end, which is what it waits for.
    let _ended = runtime.block_on(stopped);
    runtime.shutdown_timeout(END);
}

impl Drop for Cores {
    fn drop(&mut self) {
        let threads = self.threads.drain(..).map(|core| (core.stop, core.thread));
        let (stops, threads): (Vec<_>, Vec<_>) = threads.unzip();
        // All of them first: they end side by side.
        drop(stops);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a core's thread ended in a panic: please report this as a fault");
            }
        }
    }
}

/// The core with the fewest connections.
///
/// # Panics
/// When there is none.
pub(super) fn least_busy(cores: &[Handle]) -> &Handle {
    let tasks = |core: &&Handle| core.metrics().num_alive_tasks();
    cores
        .iter()
        .min_by_key(tasks)
        .expect("a service has a core at least")
}
