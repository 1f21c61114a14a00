//! The body of an answer.

use crate::clock::Clock;
use crate::transport::batch::Batch;
use crate::transport::bind::Stream;
use crate::transport::parts::Answer;
use crate::transport::places::Place;
use crate::transport::store::StoreParts;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of an answer. Streams are boxed: hyper moves an answer around, and most answers have
/// only a few hundred bytes.
pub(super) type Answered = Either<Full<Bytes>, Box<Streamed>>;

/// A body that is made part by part.
pub(super) type PartedBody = Either<Answer<Batch>, Either<Answer<Stream>, Answer<StoreParts>>>;

/// A body that is made as its reader takes it. Its connection is busy until it is dropped.
pub(super) struct Streamed {
    stream: PartedBody,
    place: Arc<Place>,
    clock: Clock,
}

impl Streamed {
    pub(super) fn new(stream: PartedBody, place: &Arc<Place>, clock: &Clock) -> Answered {
        Either::Right(Box::new(Self {
            stream,
            place: Arc::clone(place),
            clock: clock.clone(),
        }))
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.place.rest(self.clock.monotonic());
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = <PartedBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.stream).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }
}
