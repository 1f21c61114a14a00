//! A thread that renders texts on request, one after the other.
//!
//! Rendering drains the samples of histograms, which takes milliseconds after a busy time. The
//! thread is not made for each rendering: the standard library draws the seed of a thread's hash
//! maps from the operating system, and a thread that starts when that source has failed could not
//! report it.

use crate::metrics::seed_hash_maps;
use crate::transport::admin::CONNECTIONS_MAX;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use tokio::sync::oneshot;

/// The receiver of a rendered text.
type Waiting = oneshot::Sender<String>;

/// The thread, which ends when this value is dropped.
pub(super) struct Renderer(SyncSender<Waiting>);

impl Renderer {
    /// Starts the thread. It calls `render` for each request.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn start(render: impl Fn() -> String + Send + 'static) -> io::Result<Self> {
        // Each connection has at most one request at a time.
        let (asked, waiting) = sync_channel(CONNECTIONS_MAX);
        let work = move || run(&waiting, render);
        thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(work)?;
        Ok(Self(asked))
    }

    /// A rendered text; `None` if rendering panicked or too many requests wait.
    pub(super) async fn render(&self) -> Option<String> {
        let (done, rendered) = oneshot::channel();
        self.0.try_send(done).ok()?;
        rendered.await.ok()
    }
}

fn run(waiting: &Receiver<Waiting>, render: impl Fn() -> String) {
    seed_hash_maps();
    for done in waiting {
        // The client of this request may have gone.
        let _gone = done.send(render());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn each_that_asks_has_a_rendering_of_its_own() {
        let count = AtomicUsize::new(0);
        let render = move || count.fetch_add(1, Ordering::Relaxed).to_string();
        let renderer = Renderer::start(render).unwrap();
        for expected in ["0", "1"] {
            assert_eq!(renderer.render().await.as_deref(), Some(expected));
        }
    }

    #[tokio::test]
    async fn a_panic_is_no_answer() {
        let renderer = Renderer::start(|| panic!("asked for")).unwrap();
        assert_eq!(renderer.render().await, None);
        assert_eq!(renderer.render().await, None);
    }
}
