//! A stream of containers. It reads the request's body as hyper asks for more of the answer, so
//! that a slow reader slows the writer at the other end. It never holds more than one message and
//! one chunk.
//!
//! An answer that fails ends without the end marker of an Arrow stream, and its connection is cut.
//!
//! Decoding, authorizing and binding a chunk keeps a processor busy for some milliseconds. That
//! happens on threads of `makers`, as for a batch.

use crate::api::{ApiError, ErrorCode};
use crate::stream::{RowStream, Step};
use crate::transport::batch::{PAUSE_MAX, PAUSE_MIN};
use crate::transport::makers::Makers;
use crate::transport::parts::{Part, PartSource};
use crate::transport::shares::Share;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;

/// The request's body.
pub(super) enum Input {
    /// The whole body, which was read already.
    Whole(Option<Bytes>),
    /// A body that is still arriving; `None` once it has ended.
    Streamed(Option<Box<Incoming>>),
}

impl Input {
    /// The unread rest of a body that was still arriving.
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
            // Trailers are not used.
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            // The framing is broken, or the peer has gone.
            Ok(Some(Err(_))) => Err(ApiError::bare(ErrorCode::SerializationException)),
            Ok(None) => {
                *self = Self::Streamed(None);
                Ok(None)
            }
            Err(_) => {
                let message = format!("Nothing of the body came for {} ms.", idle.as_millis());
                let code = ErrorCode::RequestTimeoutException;
                Err(ApiError::new(code, message))
            }
        }
    }
}

/// The bounds of a stream.
pub(super) struct Bounds {
    pub(super) makers: Makers,
    /// How long a chunk waits for limits.
    pub(super) patience: Duration,
    /// How long the request's body may pause.
    pub(super) idle: Duration,
    /// This stream's share of the streams that may be open, given back when it ends.
    pub(super) _share: Share,
}

/// A stream of containers on its way.
pub(super) struct Stream {
    /// `None` if its thread has panicked.
    rows: Option<RowStream>,
    input: Input,
    /// Bytes that are read and not used yet.
    unused: Bytes,
    bounds: Bounds,
}

impl Stream {
    pub(super) fn new(rows: RowStream, input: Input, bounds: Bounds) -> Self {
        Self {
            rows: Some(rows),
            input,
            unused: Bytes::new(),
            bounds,
        }
    }

    /// The unread rest of the request's body.
    pub(super) fn into_incoming(self) -> Option<Incoming> {
        self.input.into_incoming()
    }

    fn rows(&mut self) -> Result<&mut RowStream, ApiError> {
        self.rows.as_mut().ok_or_else(lost)
    }

    /// Reads until the rows can make a step.
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
        let makers = &self.bounds.makers;
        let step = makers.make_with(&mut self.rows, RowStream::step).await;
        step.ok_or_else(lost)?
    }
}

impl PartSource for Stream {
    const WHAT: &'static str = "a stream of containers";

    async fn next(&mut self) -> Result<Part, ApiError> {
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

    /// `None`: an Arrow stream has no place for an error text.
    fn last_words(&self, _error: &ApiError) -> Option<Bytes> {
        None
    }

    fn handed_out(&self) -> Option<u64> {
        self.rows.as_ref().map(RowStream::rows)
    }

    fn bytes(&self) -> Option<u64> {
        None
    }
}

fn lost() -> ApiError {
    ApiError::internal("a stream of containers has lost its maker")
}
