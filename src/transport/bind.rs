//! The body of a stream of containers' answer: it reads the request's body as hyper asks for more of it, so that a slow reader slows the writer at the other
//! end, and what is held stays within the bounds of one message and one chunk.
//!
//! The first chunk is made before the head of the answer is sent: what is refused by then has a status and an error of its own. Later, the answer ends
//! without the marker that ends an Arrow stream, and its connection is cut.
//!
//! Decoding, authorizing and binding a chunk keep a processor busy for some milliseconds: all of that happens on threads of `makers`, as in a batch.

use crate::api::{self, ApiError, KmsErrorCode, RequestId, Step};
use crate::transport::batch::{EndedEarly, PAUSE_MAX, PAUSE_MIN};
use crate::transport::makers::Makers;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The request's body.
pub(super) enum Input {
    /// Read already.
    Whole(Option<Bytes>),
    /// On its way; `None` once it has ended.
    Streamed(Option<Box<Incoming>>),
}

impl Input {
    /// What is left of a body that was on its way.
    pub(super) fn into_incoming(self) -> Option<Incoming> {
        match self {
            Self::Whole(_) => None,
            Self::Streamed(incoming) => incoming.map(|incoming| *incoming),
        }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, ApiError> {
        let incoming = match self {
            Self::Whole(bytes) => return Ok(bytes.take()),
            Self::Streamed(None) => return Ok(None),
            Self::Streamed(Some(incoming)) => incoming,
        };
        match tokio::time::timeout(idle, incoming.frame()).await {
            // Trailers hold nothing for us.
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            // The framing is broken or the peer is gone.
            Ok(Some(Err(_))) => Err(ApiError::bare(KmsErrorCode::SerializationException)),
            Ok(None) => {
                *self = Self::Streamed(None);
                Ok(None)
            }
            Err(_) => {
                let message = format!("Nothing of the body came for {} ms.", idle.as_millis());
                let code = KmsErrorCode::RequestTimeoutException;
                Err(ApiError::new(code, message))
            }
        }
    }
}

/// What a stream is held to.
pub(super) struct Bounds {
    pub(super) makers: Makers,
    /// How long a chunk waits for its limits.
    pub(super) patience: Duration,
    /// How long the request's body may stand still.
    pub(super) idle: Duration,
    /// What it holds among the streams that may be open; given back with the rest.
    pub(super) _place: OwnedSemaphorePermit,
}

/// Reads, binds, and waits.
struct Stream {
    request: RequestId,
    /// `None` if its thread panicked.
    rows: Option<api::Containers>,
    input: Input,
    /// Read, not yet used.
    unused: Bytes,
    bounds: Bounds,
}

/// A part of the answer; the last one is told apart.
enum Part {
    More(Bytes),
    Last(Bytes),
}

impl Stream {
    async fn next(&mut self) -> Result<Part, ApiError> {
        let part = self.part().await;
        part.inspect_err(|error| {
            tracing::warn!(
                request_id = %self.request,
                code = error.code().name(),
                message = error.message(),
                source = error.source().map(tracing::field::display),
                handed_out = self.rows.as_ref().map(api::Containers::rows),
                "a stream of containers ended early"
            );
        })
    }

    async fn part(&mut self) -> Result<Part, ApiError> {
        let mut waited = Duration::ZERO;
        loop {
            self.fill().await?;
            let exceeded = match self.step().await? {
                Step::Hungry => continue,
                Step::Rows(bytes, recorded) => {
                    self.rows()?.durable(recorded).await?;
                    return Ok(Part::More(bytes.into()));
                }
                Step::End(bytes, recorded) => {
                    if let Some(recorded) = recorded {
                        self.rows()?.durable(recorded).await?;
                    }
                    return Ok(Part::Last(bytes.into()));
                }
                Step::Wait(exceeded) => exceeded,
            };
            if waited >= self.bounds.patience {
                return Err(self.rows()?.throttled(exceeded));
            }
            let pause = exceeded.wait.clamp(PAUSE_MIN, PAUSE_MAX);
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }

    fn rows(&mut self) -> Result<&mut api::Containers, ApiError> {
        self.rows.as_mut().ok_or_else(lost)
    }

    /// Reads until there is something to do.
    async fn fill(&mut self) -> Result<(), ApiError> {
        loop {
            let rows = self.rows.as_mut().ok_or_else(lost)?;
            rows.feed(&mut self.unused)?;
            if rows.is_sated() {
                return Ok(());
            }
            match self.input.next(self.bounds.idle).await {
                Ok(Some(bytes)) => self.unused = bytes,
                Ok(None) => rows.close()?,
                Err(error) => return Err(rows.end_before_a_row(error)),
            }
        }
    }

    async fn step(&mut self) -> Result<Step, ApiError> {
        let mut rows = self.rows.take().ok_or_else(lost)?;
        let work = move || {
            let step = rows.step();
            (rows, step)
        };
        let (rows, step) = self.bounds.makers.make(work).await.ok_or_else(lost)?;
        self.rows = Some(rows);
        step
    }
}

fn lost() -> ApiError {
    ApiError::internal("a stream of containers has lost its maker")
}

type Made = (Stream, Result<Part, ApiError>);

/// The answer on its way to its reader.
pub(super) struct Bind {
    /// What was made before the head was sent.
    first: Option<Bytes>,
    /// At most one of these two is there; neither is the end.
    stream: Option<Stream>,
    making: Option<Pin<Box<dyn Future<Output = Made> + Send>>>,
}

impl Bind {
    /// Begins to answer: the first chunk is there when this returns.
    ///
    /// # Errors
    /// The refusal, and what is left of the request's body.
    pub(super) async fn begin(
        request: RequestId,
        rows: api::Containers,
        input: Input,
        bounds: Bounds,
    ) -> Result<Self, (ApiError, Option<Incoming>)> {
        let mut stream = Stream {
            request,
            rows: Some(rows),
            input,
            unused: Bytes::new(),
            bounds,
        };
        let (first, stream) = match stream.next().await {
            Ok(Part::More(bytes)) => (bytes, Some(stream)),
            Ok(Part::Last(bytes)) => (bytes, None),
            Err(error) => return Err((error, stream.input.into_incoming())),
        };
        Ok(Self {
            first: Some(first),
            stream,
            making: None,
        })
    }
}

impl Body for Bind {
    type Data = Bytes;
    type Error = EndedEarly;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EndedEarly>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(mut stream) = self.stream.take() {
            self.making = Some(Box::pin(async move {
                let made = stream.next().await;
                (stream, made)
            }));
        }
        let Some(making) = &mut self.making else {
            return Poll::Ready(None);
        };
        let (stream, made) = ready!(making.as_mut().poll(cx));
        self.making = None;
        Poll::Ready(Some(match made {
            Ok(Part::More(bytes)) => {
                self.stream = Some(stream);
                Ok(Frame::data(bytes))
            }
            Ok(Part::Last(bytes)) => Ok(Frame::data(bytes)),
            Err(_) => Err(EndedEarly),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.stream.is_none() && self.making.is_none()
    }
}
