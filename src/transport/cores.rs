//! One runtime for each core, each on its own thread. A connection is given to one of them and
//! stays there.
//!
//! With work stealing, nearly every request of a few microseconds would wake a second thread, and
//! the threads of crowded cores would hold each other up. Listeners accept on another runtime, so
//! that a busy core never keeps a new connection from an idle one.

use crate::metrics::seed_hash_maps;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// How long a runtime waits at its end for work on its blocking threads.
const END: Duration = Duration::from_millis(100);

/// The running threads, which end when this value is dropped.
pub struct Cores {
    handles: Vec<Handle>,
    threads: Vec<Thread>,
}

struct Thread {
    /// Ends the thread when dropped.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Cores {
    /// Starts a thread for each core that this process may run on.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a resource of a runtime.
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
            let thread = thread::Builder::new()
                .name(format!("core-{core}"))
                .spawn(move || run(runtime, stopped))?;
            started.threads.push(Thread { stop, thread });
        }
        Ok(started)
    }

    /// The runtimes, to give connections to.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

fn run(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    seed_hash_maps();
    // An error means that the sender was dropped, which is the signal to end.
    let _ended = runtime.block_on(stopped);
    runtime.shutdown_timeout(END);
}

impl Drop for Cores {
    fn drop(&mut self) {
        let threads = self.threads.drain(..).map(|core| (core.stop, core.thread));
        let (stops, threads): (Vec<_>, Vec<_>) = threads.unzip();
        // All are told first, so that they end side by side.
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
