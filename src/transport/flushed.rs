//! Whether all that a connection was given to write has left it.
//!
//! hyper drops what it holds of an answer when the answer's body fails. A body that is to be cut
//! waits here first, until hyper has written all that it was given and has flushed its stream, so
//! that the head and what was made of the body leave before the connection is cut. Each connection
//! is one task: its body asks and its stream answers within that task.

use std::cell::Cell;
use std::task::{Context, Poll};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Nobody waits.
    Idle,
    Awaited,
    Done,
}

tokio::task_local! {
    static FLUSH: Cell<Flush>;
}

/// Serves a connection: what is within may ask and tell.
pub(super) fn scope<F: Future>(connection: F) -> impl Future<Output = F::Output> {
    FLUSH.scope(Cell::new(Flush::Idle), connection)
}

/// Ready once the connection's stream was flushed after this was first asked; at once where there
/// is no connection.
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

/// Notes that the connection's stream has been flushed, and wakes the body that waits for it.
pub(super) fn tell(cx: &Context<'_>) {
    // Outside of a connection nobody waits.
    let _outside = FLUSH.try_with(|flush| {
        if flush.get() == Flush::Awaited {
            flush.set(Flush::Done);
            cx.waker().wake_by_ref();
        }
    });
}
