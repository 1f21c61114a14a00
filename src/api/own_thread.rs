//! Work that would keep a thread busy for longer than others may wait behind it: arithmetic of
//! milliseconds and more, and decisions that take more steps than a brief one may.
//!
//! A call is first performed where it came in, with brief decisions. One that could not be decided
//! so has changed nothing, and is performed again on a thread of its own, where a decision may take
//! all of its steps. Their number is bounded, so that one core is left for all other calls.

use crate::api::handler::{Changed, Thread, Weighing};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::policy::steps::{Briefly, briefly};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How long a call whose decision takes long waits for its turn: a hundred decisions' time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Turns of what takes long.
pub(super) struct Turns {
    /// To draw the material of asymmetric keys, as many as cores: seconds of arithmetic must not
    /// take all threads.
    generating: Semaphore,
    /// To decide at length: half of the cores.
    deciding: Semaphore,
}

impl Turns {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            generating: Semaphore::new(cores),
            deciding: Semaphore::new((cores / 2).max(1)),
        }
    }
}

impl Api {
    /// Performs an operation that may find itself too long for this thread.
    pub(super) async fn weighed(
        self: &Arc<Self>,
        handler: Weighing,
        requester: &Requester,
        body: &[u8],
    ) -> Answer {
        let done = |reply: Option<_>| {
            reply.ok_or_else(|| {
                ApiError::internal("an operation that found no thread to its liking")
            })
        };
        let work = move |api: &Arc<Self>, who: &Requester, body: &[u8]| {
            handler(api, who, body, Thread::Own).and_then(done)
        };
        match briefly(|| handler(self, requester, body, Thread::Async)) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => {
                let (api, who, body) = (Arc::clone(self), requester.clone(), body.to_vec());
                let done = tokio::task::spawn_blocking(move || work(&api, &who, &body));
                Box::pin(done).await.map_err(ApiError::internal)?
            }
            Err(error) if error.is_undecided() => {
                Box::pin(self.at_length(requester, body, work)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Performs an operation that waits for something.
    pub(super) async fn waiting(
        self: &Arc<Self>,
        handler: fn(Arc<Self>, Requester, Vec<u8>) -> Changed,
        requester: &Requester,
        body: &[u8],
    ) -> Answer {
        let call = handler(Arc::clone(self), requester.clone(), body.to_vec());
        match Briefly(call).await {
            Err(error) if error.is_undecided() => {
                let here = Handle::current();
                let work = move |api: &Arc<Self>, who: &Requester, body: &[u8]| {
                    here.block_on(handler(Arc::clone(api), who.clone(), body.to_vec()))
                };
                self.at_length(requester, body, work).await
            }
            answer => answer,
        }
    }

    /// Runs work that decides at length on a thread of its own, when it is its turn.
    pub(crate) async fn at_length(
        self: &Arc<Self>,
        requester: &Requester,
        body: &[u8],
        work: impl FnOnce(&Arc<Self>, &Requester, &[u8]) -> Answer + Send + 'static,
    ) -> Answer {
        self.at_length_with(requester, body, work).await?
    }

    /// As [`Self::at_length`], for work that ends with something else.
    pub(super) async fn at_length_with<T: Send + 'static>(
        self: &Arc<Self>,
        requester: &Requester,
        body: &[u8],
        work: impl FnOnce(&Arc<Self>, &Requester, &[u8]) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.deciding.acquire()).await;
        let Ok(turn) = turn else {
            return Err(ApiError::new(
                ErrorCode::ThrottlingException,
                "Too many requests that take long to decide on. Reduce the frequency of your calls.",
            ));
        };
        let _turn = turn.map_err(ApiError::internal)?;
        let (api, requester, body) = (Arc::clone(self), requester.clone(), body.to_vec());
        let done = tokio::task::spawn_blocking(move || work(&api, &requester, &body));
        done.await.map_err(ApiError::internal)
    }

    /// Does what takes up to seconds of arithmetic on a thread of its own, when it is its turn.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.turns.generating.acquire().await;
        let _turn = turn.map_err(ApiError::internal)?;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(ApiError::internal)
    }
}
