//! The body of a request: read within its own bounds and those of all bodies together, or
//! discarded.

use crate::api::{ApiError, ErrorCode};
use crate::transport::room::{NoRoom, Part, Room};
use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The most bytes of a request's body: room for the largest that KMS has (a policy of 131,072
/// characters, an attestation document of 350 KB in base64).
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes of all bodies of one listener together, from their arrival until they are
/// answered.
pub(super) const TOGETHER_BYTES_MAX: usize = 32 * BODY_BYTES_MAX;
/// A body of at most this many bytes is not counted: nearly every request's body, and less than the
/// other memory of its connection.
const UNCOUNTED_BYTES_MAX: u64 = 8 * 1024;

/// The most bytes and time for the rest of a refused request's body; beyond them its connection is
/// closed.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
pub(super) const DISCARD_TIME: Duration = Duration::from_millis(250);

/// The body of a request.
pub(super) struct RequestBody {
    /// `None` once the answer has taken it.
    pub(super) incoming: Option<Incoming>,
    /// Whether it was read to its end.
    pub(super) is_read: bool,
    /// The bytes, once they were read.
    bytes: Bytes,
    /// Its part of the room for all bodies, until the request is answered.
    part: Option<Part>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming: Some(incoming),
            is_read: false,
            bytes: Bytes::new(),
            part: None,
        }
    }

    /// Whether it is known to have more than so many bytes.
    pub(super) fn is_longer_than(&self, bytes_max: u64) -> bool {
        let lower = self.incoming.as_ref().map(|body| body.size_hint().lower());
        lower.is_some_and(|bytes| bytes > bytes_max)
    }

    /// Whether its length is known, and is at most so many bytes.
    pub(super) fn is_within(&self, bytes_max: u64) -> bool {
        let upper = self.incoming.as_ref().map(|body| body.size_hint().upper());
        upper.is_some_and(|bytes| bytes.is_some_and(|bytes| bytes <= bytes_max))
    }

    /// Reads the body within its bounds and within `time`. A body that was read already is the same
    /// again.
    ///
    /// # Errors
    /// `RequestEntityTooLarge`, `ThrottlingException` when there is no room,
    /// `RequestTimeoutException`, and `SerializationException` when it breaks off.
    pub(super) async fn read(&mut self, room: &Room, time: Duration) -> Result<Bytes, ApiError> {
        if self.is_read {
            return Ok(self.bytes.clone());
        }
        let Some(incoming) = &mut self.incoming else {
            return Err(ApiError::internal("a body is read once"));
        };
        let size = incoming.size_hint();
        // A `Content-Length` that is too large is refused before the body is read, and before `100
        // Continue` asks for it.
        if size.lower() > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let is_counted = size.upper().is_none_or(|bytes| bytes > UNCOUNTED_BYTES_MAX);
        let limited = Limited::new(incoming, BODY_BYTES_MAX);
        let read = async {
            if !is_counted {
                return limited
                    .collect()
                    .await
                    .map_or_else(broken, |body| Ok(body.to_bytes()));
            }
            let part = self.part.insert(room.begin());
            // Boxed: otherwise the future of every request would have room for it.
            Box::pin(counted(limited, part)).await
        };
        let mut read = pin!(read);
        // Nearly every body has arrived with its head: then there is nothing to wait for, and no
        // timer is needed.
        let at_once = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
        let read = match at_once {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => tokio::time::timeout(time, read).await,
        };
        match read {
            Ok(Ok(body)) => {
                self.is_read = true;
                self.bytes = body.clone();
                Ok(body)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let message = format!("The body was not complete after {} ms.", time.as_millis());
                Err(ApiError::new(ErrorCode::RequestTimeoutException, message))
            }
        }
    }

    /// Discards the rest of a refused request's body, if it is small and arrives within `time`.
    /// Returns whether it was discarded.
    pub(super) async fn discard(&mut self, head: &Parts, time: Duration) -> bool {
        let Some(incoming) = &mut self.incoming else {
            return true;
        };
        if incoming.is_end_stream() {
            return true;
        }
        let bytes = incoming.size_hint().upper();
        // To read on would ask the client to send it.
        if head.headers.contains_key(EXPECT) || bytes.is_none_or(|bytes| bytes > DISCARD_BYTES_MAX)
        {
            return false;
        }
        let discard = async {
            loop {
                match incoming.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
        };
        let in_time = tokio::time::timeout(time, discard).await;
        in_time.is_ok_and(|is_over| is_over)
    }
}

/// Reads a body whose bytes are counted as they arrive.
async fn counted(mut body: Limited<&mut Incoming>, part: &mut Part) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            () = part.given_up() => return Err(no_room(NoRoom)),
            frame = body.frame() => frame,
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.or_else(broken)?.into_data() else {
            continue;
        };
        part.grow(data.len()).map_err(no_room)?;
        bytes.extend_from_slice(&data);
    }
    part.complete().map_err(no_room)?;
    Ok(bytes.freeze())
}

/// The error of a body that is too long, or whose framing is broken or whose peer has gone. hyper
/// closes the connection after this answer.
fn broken<T>(error: Box<dyn Error + Send + Sync>) -> Result<T, ApiError> {
    if error.is::<LengthLimitError>() {
        return Err(too_large());
    }
    Err(ApiError::bare(ErrorCode::SerializationException))
}

fn no_room(NoRoom: NoRoom) -> ApiError {
    let message = format!(
        "Requests in progress hold {TOGETHER_BYTES_MAX} bytes of bodies, which is all there is room for. Try again."
    );
    ApiError::new(ErrorCode::ThrottlingException, message)
}

pub(super) fn too_large() -> ApiError {
    let message = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
    ApiError::new(ErrorCode::RequestEntityTooLarge, message)
}
