//! A thread that renders what is asked for, one after the other.
//!
//! Rendering drains the histograms' samples, which takes milliseconds after a busy while. A thread
//! of its own, rather than one that is made for it: hash maps take their seed from the operating
//! system, once for each thread, and a thread that is made when that source has failed could not
//! tell that it has.

use crate::metrics::seed_hash_maps;
use crate::transport::admin::CONNECTIONS_MAX;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use tokio::sync::oneshot;

/// Where what was rendered goes.
type Waiting = oneshot::Sender<String>;

/// The thread; it ends when this is dropped.
pub(super) struct Renderer(SyncSender<Waiting>);

impl Renderer {
    /// Starts the thread, which calls `render` for each that asks.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn start(render: impl Fn() -> String + Send + 'static) -> io::Result<Self> {
        // Each connection asks for one at a time.
        let (asked, waiting) = sync_channel(CONNECTIONS_MAX);
        let work = move || run(&waiting, render);
        thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(work)?;
        Ok(Self(asked))
    }

    /// What is rendered; `None` if that panicked, or too many wait.
    pub(super) async fn render(&self) -> Option<String> {
        let (done, rendered) = oneshot::channel();
        self.0.try_send(done).ok()?;
        rendered.await.ok()
    }
}

fn run(waiting: &Receiver<Waiting>, render: impl Fn() -> String) {
    seed_hash_maps();
    for done in waiting {
        // A client that has gone does not want it any more.
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
