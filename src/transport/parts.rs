//! The body of an answer that is made part by part when hyper asks for more: a slow reader slows
//! the making, and memory is bounded.
//!
//! The first part is made before the head is sent, so that a refusal by then has its own status and
//! error. An answer that fails later shows it: it ends with an error text, if its form has a place
//! for one, or is cut. The parts that were made are sent before the connection is cut.

use crate::api::{ApiError, RequestId};
use crate::rates::LogLines;
use crate::transport::flushed;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Log lines about answers that ended early.
static ENDED: LogLines = LogLines::new();

/// A part of an answer; the last one is marked.
pub(super) enum Part {
    More(Bytes),
    Last(Bytes),
}

/// Makes the parts of an answer.
pub(super) trait PartSource: Send + Unpin + 'static {
    /// The name of the answer in the log.
    const WHAT: &'static str;

    /// Makes the next part. It is not called again after an error.
    fn next(&mut self) -> impl Future<Output = Result<Part, ApiError>> + Send;

    /// The error text, in the form of the answer, of an answer that failed after its head; `None`
    /// if the form has no place for it.
    fn last_words(&self, error: &ApiError) -> Option<Bytes>;

    /// The keys or rows that were handed out; `None` if the maker is lost.
    fn handed_out(&self) -> Option<u64>;

    /// The bytes of the whole answer, where they are known.
    fn bytes(&self) -> Option<u64>;
}

type Making<P> = Pin<Box<dyn Future<Output = (P, Result<Part, ApiError>)> + Send>>;

/// An answer on its way to its reader.
pub(super) struct Answer<P> {
    request: RequestId,
    /// The part that was made before the head was sent.
    first: Option<Bytes>,
    state: State<P>,
    bytes_left: Option<u64>,
}

enum State<P> {
    Ready(P),
    Making(Making<P>),
    /// It has failed; its connection is cut once all earlier parts are sent.
    Failed,
    Ended,
}

/// The answer failed after its head was sent.
#[derive(Debug, thiserror::Error)]
#[error("the answer ended early")]
pub(super) struct EndedEarly;

impl<P: PartSource> Answer<P> {
    /// Begins to answer: the first part is made when this returns.
    ///
    /// # Errors
    /// The refusal, and the maker of the parts.
    pub(super) async fn begin(request: RequestId, mut parts: P) -> Result<Self, (ApiError, P)> {
        let bytes_left = parts.bytes();
        let (first, state) = match parts.next().await {
            Ok(Part::More(bytes)) => (bytes, State::Ready(parts)),
            Ok(Part::Last(bytes)) => (bytes, State::Ended),
            Err(error) => return Err((error, parts)),
        };
        Ok(Self {
            request,
            first: Some(first),
            state,
            bytes_left,
        })
    }

    /// Ends an answer that has failed: logs it, and returns its last bytes.
    fn failed(&mut self, parts: &P, error: &ApiError) -> Option<Bytes> {
        if let Some(left_out) = ENDED.admit() {
            tracing::warn!(
                request_id = %self.request,
                what = P::WHAT,
                code = error.code().name(),
                refusal = error.message(),
                source = error.source().map(ToString::to_string),
                handed_out = parts.handed_out(),
                left_out,
                "an answer ended early"
            );
        }
        let words = parts.last_words(error);
        self.state = match words {
            Some(_) => State::Ended,
            None => State::Failed,
        };
        words
    }

    fn data(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, EndedEarly>>> {
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl<P: PartSource> Body for Answer<P> {
    type Data = Bytes;
    type Error = EndedEarly;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EndedEarly>>> {
        if let Some(first) = self.first.take() {
            return self.data(first);
        }
        // One state at a time; `Ended` stays behind when a state is taken and not replaced.
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Failed if flushed::poll().is_pending() => {
                    self.state = State::Failed;
                    return Poll::Pending;
                }
                State::Failed => return Poll::Ready(Some(Err(EndedEarly))),
                State::Ready(mut parts) => {
                    self.state = State::Making(Box::pin(async move {
                        let made = parts.next().await;
                        (parts, made)
                    }));
                }
                State::Making(mut making) => {
                    let Poll::Ready((parts, made)) = making.as_mut().poll(cx) else {
                        self.state = State::Making(making);
                        return Poll::Pending;
                    };
                    match made {
                        Ok(Part::More(bytes)) => {
                            self.state = State::Ready(parts);
                            return self.data(bytes);
                        }
                        Ok(Part::Last(bytes)) => return self.data(bytes),
                        Err(error) => {
                            if let Some(words) = self.failed(&parts, &error) {
                                return self.data(words);
                            }
                        }
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes_left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;
    use crate::crypto::entropy::Entropy;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// One part, and then a refusal that repeats the caller's text.
    struct Failing(bool);

    const SENT: &str = "alias/a\n2026-01-01T00:00:00Z  INFO keymill: forged\u{1b}[31m";

    impl PartSource for Failing {
        const WHAT: &'static str = "a test";

        async fn next(&mut self) -> Result<Part, ApiError> {
            if !std::mem::replace(&mut self.0, true) {
                return Ok(Part::More(Bytes::from_static(b"made")));
            }
            Err(ApiError::new(ErrorCode::ValidationException, SENT))
        }

        fn last_words(&self, _error: &ApiError) -> Option<Bytes> {
            None
        }

        fn handed_out(&self) -> Option<u64> {
            Some(7)
        }

        fn bytes(&self) -> Option<u64> {
            None
        }
    }

    fn begun() -> Answer<Failing> {
        let id = RequestId::draw(&Entropy::os());
        let begun = Answer::begin(id, Failing(false)).now_or_never().unwrap();
        begun.map_err(|(error, _)| error).unwrap()
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn hold_8_what_a_caller_sent_forges_no_line_and_lines_are_bounded() {
        let (text, json) = (Log::default(), Log::default());
        let fail = || {
            let mut answer = begun();
            let mut frame = || answer.frame().now_or_never().unwrap();
            assert!(frame().unwrap().is_ok());
            assert!(
                frame().unwrap().is_err(),
                "no connection is to be waited for"
            );
            assert!(frame().is_none());
        };
        let builder = || tracing_subscriber::fmt().with_ansi(false);
        let log = text.clone();
        let subscriber = builder().with_writer(move || log.clone()).finish();
        tracing::subscriber::with_default(subscriber, fail);
        let log = json.clone();
        let subscriber = builder().with_writer(move || log.clone()).json();
        let subscriber = subscriber.flatten_event(true).finish();
        tracing::subscriber::with_default(subscriber, || (0..50).for_each(|_| fail()));
        let text = text.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            !text.contains('\u{1b}') && text.contains(r"alias/a\n2026"),
            "{text}"
        );
        let json = json.text();
        // 20 of a kind in all, of which another test may have used one.
        let lines = json.lines().count();
        assert!((18..=19).contains(&lines), "{lines}");
        for line in json.lines() {
            let members: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
            assert_eq!(members["refusal"], SENT);
            for name in members.keys() {
                let member = format!("{name:?}:");
                assert_eq!(line.matches(&member).count(), 1, "{name} in {line}");
            }
        }
    }

    #[tokio::test]
    async fn hold_7_what_was_made_is_flushed_before_the_answer_fails() {
        let served = flushed::scope(async {
            let mut answer = begun();
            assert!(answer.frame().await.unwrap().is_ok());
            assert!(answer.frame().now_or_never().is_none(), "not written yet");
            std::future::poll_fn(|cx| {
                flushed::tell(cx);
                Poll::Ready(())
            })
            .await;
            assert!(answer.frame().now_or_never().unwrap().unwrap().is_err());
        });
        served.await;
    }
}
