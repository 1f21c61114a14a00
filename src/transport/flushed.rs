//! Whether everything that a connection was given to write has been sent.
//!
//! hyper drops the unsent part of an answer when the answer's body fails. A body that is about to
//! fail waits here first, until hyper has written everything it was given and has flushed its
//! stream. So the head and the finished part of the body are sent before the connection is cut.
//! Each connection is one task: its body waits and its stream reports within that task.

use std::cell::Cell;
use std::task::{Context, Poll};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// The body does not wait.
    Idle,
    Awaited,
    Done,
}

tokio::task_local! {
    static FLUSH: Cell<Flush>;
}

/// Serves a connection; within it, [`poll`] and [`tell`] work.
pub(super) fn scope<F: Future>(connection: F) -> impl Future<Output = F::Output> {
    FLUSH.scope(Cell::new(Flush::Idle), connection)
}

/// Ready once the connection's stream was flushed after the first call; ready at once outside of a
/// connection.
pub(super) fn poll() -> Poll<()> {
    let asked = FLUSH.try_with(|flush| match flush.get() {
        Flush::Done => {
            flush.set(Flush::Idle);
            Poll::Ready(())
        }
        Flush::Idle | Flush::Awaited => {
            flush.set(Flush::Awaited);
            Poll::Pending
        }
    });
    asked.unwrap_or(Poll::Ready(()))
}

/// Records that the connection's stream was flushed, and wakes the body that waits for it.
pub(super) fn tell(cx: &Context<'_>) {
    // Outside of a connection there is no body that waits.
    let _outside = FLUSH.try_with(|flush| {
        if flush.get() == Flush::Awaited {
            flush.set(Flush::Done);
            cx.waker().wake_by_ref();
        }
    });
}
