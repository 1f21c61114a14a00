//! How an operation is performed: on which thread, and whether it waits or changes the store.

use crate::api::proxied::Proxied;
use crate::api::{Answer, Api, ApiError, Reply, Requester};
use std::pin::Pin;
use std::sync::Arc;

/// The thread that an operation is performed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    /// One that serves other requests too: nothing on it takes longer than a fraction of a
    /// millisecond.
    Async,
    /// One of its own.
    Own,
}

/// What an operation ends with that may find itself too long for the thread: `None`, and is
/// performed once more on one of its own.
pub(super) type Weighed = Result<Option<Reply>, ApiError>;
pub(super) type Weighing = fn(&Api, &Requester, &[u8], Thread) -> Weighed;

/// The same for an operation that may need answers of external key store proxies, with those that
/// it has.
pub(super) type Relaying = fn(&Api, &Requester, &[u8], Thread, &Proxied) -> Weighed;

/// A call under way.
pub(super) type Changed = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How an operation is performed.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Without waiting for anything.
    AtOnce(fn(&Api, &Requester, &[u8]) -> Answer),
    /// Without waiting, unless the request takes milliseconds of arithmetic.
    Weighing(Weighing),
    /// As [`Self::Weighing`], and with a key in an external key store after waiting for its proxy;
    /// dropped with its caller.
    Relaying(Relaying),
    /// After waiting for something else than the store; dropped with its caller.
    Waiting(fn(Arc<Api>, Requester, Vec<u8>) -> Changed),
    /// By changing the store: runs to its end whatever becomes of the caller.
    Changing(fn(Arc<Api>, Requester, Vec<u8>) -> Changed),
}
