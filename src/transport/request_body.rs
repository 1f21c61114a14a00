//! The body of a request, and what becomes of one that nobody wants.

use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::time::Duration;

/// Bytes and time of a refused request's body, past which its connection is given up.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// The body of a request.
pub(super) struct RequestBody {
    /// `None` once its answer has it.
    pub(super) incoming: Option<Incoming>,
    /// To its end.
    pub(super) is_read: bool,
}

impl RequestBody {
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
