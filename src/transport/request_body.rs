//! The body of a request: read within its bounds and those of all bodies together, or let go.

use crate::api::{ApiError, KmsErrorCode};
use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a request's body: room for the largest that KMS knows (a policy of 131,072 characters, an attestation document of 350 KB in base64).
const BODY_BYTES_MAX: u32 = 1024 * 1024;
/// Bytes of the bodies of one listener together, from before they are read until they are answered: a body is held before its signature can be compared, and a client
/// that knows an access key's id could have one held on each connection.
const TOGETHER_BYTES_MAX: usize = 32 * BODY_BYTES_MAX as usize;
/// Bytes of a body that is not counted among them: nearly every request's, and less than what its connection takes beside it.
const UNCOUNTED_BYTES_MAX: u64 = 8 * 1024;

/// Bytes and time of a refused request's body, past which its connection is given up.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// What is left of [`TOGETHER_BYTES_MAX`] on one listener.
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER_BYTES_MAX)))
    }

    /// Takes what a body may need, which is the most that there is where it does not say.
    fn take(&self, bytes: Option<u64>) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        if bytes.is_some_and(|bytes| bytes <= UNCOUNTED_BYTES_MAX) {
            return Ok(None);
        }
        let bytes = bytes.and_then(|bytes| u32::try_from(bytes).ok());
        let bytes = bytes.map_or(BODY_BYTES_MAX, |bytes| bytes.min(BODY_BYTES_MAX));
        let taken = Arc::clone(&self.0).try_acquire_many_owned(bytes);
        taken.map(Some).map_err(|_| {
            let message = format!(
                "Requests in progress hold {TOGETHER_BYTES_MAX} bytes of bodies, which is all there is room for. Try again."
            );
            ApiError::new(KmsErrorCode::ThrottlingException, message)
        })
    }
}

/// The body of a request.
pub(super) struct RequestBody {
    /// `None` once its answer has it.
    pub(super) incoming: Option<Incoming>,
    /// To its end.
    pub(super) is_read: bool,
    /// Its part of the room for all of them, until the request is answered.
    room: Option<OwnedSemaphorePermit>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming: Some(incoming),
            is_read: false,
            room: None,
        }
    }

    /// Reads it, once, within its bounds and `time`.
    ///
    /// # Errors
    /// `RequestEntityTooLarge`, `ThrottlingException` when there is no room, `RequestTimeoutException`, and `SerializationException` when it breaks off.
    pub(super) async fn read(&mut self, room: &Room, time: Duration) -> Result<Bytes, ApiError> {
        let Some(incoming) = &mut self.incoming else {
            return Err(ApiError::internal("a body is read once"));
        };
        let size = incoming.size_hint();
        // What `Content-Length` announces is refused before it is read, and before `100 Continue` asks for it.
        if size.lower() > u64::from(BODY_BYTES_MAX) {
            return Err(too_large());
        }
        self.room = room.take(size.upper())?;
        let read = Limited::new(incoming, BODY_BYTES_MAX as usize).collect();
        match tokio::time::timeout(time, read).await {
            Ok(Ok(body)) => {
                self.is_read = true;
                Ok(body.to_bytes())
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            // The framing is broken or the peer is gone; hyper closes the connection after this answer.
            Ok(Err(_)) => Err(ApiError::bare(KmsErrorCode::SerializationException)),
            Err(_) => {
                let message = format!("The body was not complete after {} ms.", time.as_millis());
                Err(ApiError::new(
                    KmsErrorCode::RequestTimeoutException,
                    message,
                ))
            }
        }
    }

    /// Lets go of what a refused request still has of its body, if that is little and here; whether it was.
    pub(super) async fn discard(&mut self, head: &Parts) -> bool {
        let Some(incoming) = &mut self.incoming else {
            return true;
        };
        if incoming.is_end_stream() {
            return true;
        }
        let bytes = incoming.size_hint().upper();
        // To read on would be to ask for it.
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
        let in_time = tokio::time::timeout(DISCARD_TIME, discard).await;
        in_time.is_ok_and(|is_over| is_over)
    }
}

pub(super) fn too_large() -> ApiError {
    let message = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
    ApiError::new(KmsErrorCode::RequestEntityTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_5_bodies_together_have_a_bound_and_small_ones_always_have_room() {
        let room = Room::new();
        let take = |bytes| room.take(bytes);
        // Those that do not say take the most; so do those that say too much.
        let mut held: Vec<_> = (0..31).map(|_| take(None).ok().unwrap()).collect();
        held.push(take(Some(u64::MAX)).ok().unwrap());
        assert!(held.iter().all(Option::is_some));
        for bytes in [None, Some(UNCOUNTED_BYTES_MAX + 1)] {
            let refused = take(bytes).err().unwrap();
            assert_eq!(refused.code(), KmsErrorCode::ThrottlingException);
        }
        for bytes in [0, 300, UNCOUNTED_BYTES_MAX] {
            assert!(take(Some(bytes)).is_ok_and(|taken| taken.is_none()));
        }
        held.pop();
        assert!(take(Some(u64::from(BODY_BYTES_MAX))).is_ok());
        assert!(take(Some(UNCOUNTED_BYTES_MAX + 1)).is_ok());
    }
}
