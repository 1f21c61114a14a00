//! The body of a batch: chunks of blobs, each made when hyper asks for it, so that a slow reader slows the making and memory stays constant.
//!
//! Making a chunk keeps a processor busy for half a millisecond (`AES_256` octets) to some ten (1,024-byte keys): it happens on a thread of `makers`,
//! and never on the runtime's own threads, where single requests would wait behind it. While one chunk is on its way the
//! next is made. What is small is made where it is asked for. A chunk that has to wait for a limit waits on a timer, and holds neither a thread nor a permit.
//!
//! A batch that ends early says so: octets end before `Content-Length`, lines with the error in place of the count, and an Arrow stream without its marker, the connection cut.

use crate::api::bind::BlobRows;
use crate::api::{ApiError, Chunk, DataKeys, RequestId};
use crate::audit::Recorded;
use crate::limit::Exceeded;
use crate::transport::makers::Makers;
use crate::transport::route::Form;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes of blobs that are made on the spot: less than a tenth of a millisecond, about what handing over to a thread costs.
const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Buffers that a batch keeps for its next chunks: one is being filled while another is on its way.
const BUFFERS_MAX: usize = 2;
/// Between two looks at a limit that has been reached: the timer's resolution, and the time after which a batch is authorized anew.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A batch on its way to its reader.
pub(super) struct Batch {
    request: RequestId,
    /// At most one of these two is there; neither is the end.
    maker: Option<Maker>,
    making: Option<Pin<Box<dyn Future<Output = Made> + Send>>>,
    makers: Makers,
    /// How long a chunk waits for its limits.
    patience: Duration,
    form: Form,
    /// Known only of octets.
    bytes_left: Option<u64>,
}

/// A chunk, or why there is none; and the maker, unless its thread panicked.
type Made<T = Bytes> = (Option<Maker>, Result<T, ApiError>);

/// The batch was refused, or failed, after the head of its answer had been sent.
#[derive(Debug, thiserror::Error)]
#[error("the batch ended early")]
pub(super) struct EndedEarly;

impl Batch {
    /// The body of `keys` in `form`, made by `makers`; no chunk waits longer than `patience` for a limit.
    pub(super) fn new(
        keys: DataKeys,
        form: Form,
        request: RequestId,
        makers: Makers,
        patience: Duration,
    ) -> Self {
        let maker = Maker::new(keys, form);
        Self {
            request,
            form,
            bytes_left: (form == Form::Octets).then(|| maker.bytes()),
            maker: Some(maker),
            making: None,
            makers,
            patience,
        }
    }

    fn made(
        &mut self,
        maker: Option<Maker>,
        chunk: Result<Bytes, ApiError>,
    ) -> Result<Bytes, EndedEarly> {
        let chunk = match chunk {
            Ok(chunk) => {
                self.maker = maker.filter(|maker| maker.keys_left() > 0);
                chunk
            }
            Err(error) => {
                tracing::warn!(
                    request_id = %self.request,
                    code = error.code().name(),
                    source = error.source().map(tracing::field::display),
                    handed_out = maker.as_ref().map(|maker| maker.keys.handed_out()),
                    count = maker.as_ref().map(|maker| maker.keys.count()),
                    "a batch ended early"
                );
                if self.form != Form::Lines {
                    return Err(EndedEarly);
                }
                let mut line = error.body();
                line.push(b'\n');
                Bytes::from(line)
            }
        };
        if let Some(left) = &mut self.bytes_left {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        Ok(chunk)
    }
}

impl Body for Batch {
    type Data = Bytes;
    type Error = EndedEarly;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EndedEarly>>> {
        if let Some(maker) = self.maker.take() {
            let makers = self.makers.clone();
            self.making = Some(Box::pin(in_time(maker, makers, self.patience)));
        }
        let Some(making) = &mut self.making else {
            return Poll::Ready(None);
        };
        let (maker, chunk) = ready!(making.as_mut().poll(cx));
        self.making = None;
        let chunk = self.made(maker, chunk);
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.maker.is_none() && self.making.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes_left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The next chunk, as soon as its limits let it.
async fn in_time(mut maker: Maker, makers: Makers, patience: Duration) -> Made {
    let mut waited = Duration::ZERO;
    loop {
        let (back, piece) = if maker.next_bytes() <= INLINE_BYTES_MAX {
            let piece = maker.piece();
            (Some(maker), piece)
        } else {
            on_a_thread(maker, &makers).await
        };
        let exceeded = match piece {
            Ok(Piece::Chunk(chunk, recorded)) => {
                let durable = match &back {
                    Some(maker) => maker.keys.durable(recorded).await,
                    None => Err(lost()),
                };
                return (back, durable.map(|()| chunk));
            }
            Ok(Piece::Wait(exceeded)) => exceeded,
            Err(error) => return (back, Err(error)),
        };
        // Whoever says that he has to wait is there.
        let Some(waiting) = back else {
            return (None, Err(lost()));
        };
        if waited >= patience {
            let error = waiting.keys.throttled(exceeded);
            return (Some(waiting), Err(error));
        }
        let pause = exceeded.wait.clamp(PAUSE_MIN, PAUSE_MAX);
        tokio::time::sleep(pause).await;
        waited += pause;
        maker = waiting;
    }
}

fn lost() -> ApiError {
    ApiError::internal("a batch has lost its maker")
}

async fn on_a_thread(mut maker: Maker, makers: &Makers) -> Made<Piece> {
    let work = move || {
        let piece = maker.piece();
        (Some(maker), piece)
    };
    makers
        .make(work)
        .await
        .unwrap_or_else(|| (None, Err(lost())))
}

/// What makes the chunks of one batch.
struct Maker {
    keys: DataKeys,
    encoding: Encoding,
    buffers: Arc<Buffers>,
}

/// What a maker has when it is asked for the next chunk.
enum Piece {
    Chunk(Bytes, Recorded),
    Wait(Exceeded),
}

enum Encoding {
    Octets,
    Lines {
        /// What follows the blob in every line.
        rest: Vec<u8>,
        /// The blobs of one chunk before they are encoded.
        blobs: Vec<u8>,
    },
    /// From the first chunk on.
    Arrow(Option<Box<BlobRows>>),
}

impl Maker {
    fn new(keys: DataKeys, form: Form) -> Self {
        let encoding = match form {
            Form::Octets => Encoding::Octets,
            Form::Lines => Encoding::Lines {
                rest: rest_of_line(keys.key_arn(), &keys.material().to_string()),
                blobs: Vec::new(),
            },
            Form::Arrow => Encoding::Arrow(None),
        };
        Self {
            keys,
            encoding,
            buffers: Arc::default(),
        }
    }

    /// Of all blobs.
    fn bytes(&self) -> u64 {
        self.keys
            .count()
            .saturating_mul(self.keys.blob_bytes() as u64)
    }

    fn keys_left(&self) -> u64 {
        self.keys.count().saturating_sub(self.keys.handed_out())
    }

    /// Of the blobs of the next chunk.
    fn next_bytes(&self) -> u64 {
        (self.keys.next_keys() * self.keys.blob_bytes()) as u64
    }

    fn piece(&mut self) -> Result<Piece, ApiError> {
        let mut out = self.buffers.take();
        let made = match &mut self.encoding {
            Encoding::Octets => self.keys.next_chunk(&mut out)?,
            Encoding::Lines { rest, blobs } => {
                blobs.clear();
                let made = self.keys.next_chunk(blobs)?;
                for blob in blobs.chunks_exact(self.keys.blob_bytes()) {
                    append_line(blob, rest, &mut out);
                }
                made
            }
            Encoding::Arrow(rows) => {
                let mut blobs = Vec::new();
                let made = self.keys.next_chunk(&mut blobs)?;
                if !blobs.is_empty() {
                    let rows = match rows {
                        Some(rows) => rows,
                        None => rows.insert(Box::new(BlobRows::begin(&self.keys)?)),
                    };
                    out.extend(rows.rows(blobs)?);
                    if self.keys.handed_out() == self.keys.count() {
                        out.extend(rows.end()?);
                    }
                }
                made
            }
        };
        let recorded = match made {
            Chunk::Blobs(_, recorded) => recorded,
            Chunk::End => return Err(ApiError::internal("a batch ended before its count")),
            Chunk::Wait(exceeded) => {
                self.buffers.put_back(out);
                return Ok(Piece::Wait(exceeded));
            }
        };
        if self.keys_left() == 0 && matches!(self.encoding, Encoding::Lines { .. }) {
            let end = format!("{{\"End\":{{\"Count\":{}}}}}\n", self.keys.count());
            out.extend_from_slice(end.as_bytes());
        }
        let chunk = Bytes::from_owner(Lease {
            buffer: out,
            home: Arc::clone(&self.buffers),
        });
        Ok(Piece::Chunk(chunk, recorded))
    }
}

/// `","KeyId":"<arn>","KeyMaterialId":"<id>"}` and the end of the line.
fn rest_of_line(key_arn: &str, key_material_id: &str) -> Vec<u8> {
    let (arn, id) = (
        serde_json::Value::from(key_arn),
        serde_json::Value::from(key_material_id),
    );
    format!("\",\"KeyId\":{arn},\"KeyMaterialId\":{id}}}\n").into_bytes()
}

fn append_line(blob: &[u8], rest: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"CiphertextBlob\":\"");
    base64_simd::STANDARD.encode_append(blob, out);
    out.extend_from_slice(rest);
}

/// Buffers that come back when hyper has written them: a new one for each chunk would fault in all of its pages again.
#[derive(Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.pop().unwrap_or_default()
    }

    fn put_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

/// A buffer while it is a frame.
struct Lease {
    buffer: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.home.put_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_objects() {
        let rest = rest_of_line("arn:aws:kms:us-east-1:111122223333:key/\"1\\", "m\n");
        let mut out = Vec::new();
        append_line(&[0xff, 0, 1], &rest, &mut out);
        append_line(b"", &rest, &mut out);
        let lines = out.split(|byte| *byte == b'\n').collect::<Vec<_>>();
        assert_eq!((lines.len(), lines[2]), (3, &b""[..]));
        let first: serde_json::Value = serde_json::from_slice(lines[0]).unwrap();
        let expected = serde_json::json!({
            "CiphertextBlob": "/wAB",
            "KeyId": "arn:aws:kms:us-east-1:111122223333:key/\"1\\",
            "KeyMaterialId": "m\n",
        });
        assert_eq!(first, expected);
        assert!(lines[1].starts_with(b"{\"CiphertextBlob\":\"\",\"KeyId\":"));
    }

    #[test]
    fn buffers_come_back_when_the_last_reader_is_done() {
        let buffers = Arc::new(Buffers::default());
        let frame = |byte| {
            let mut buffer = buffers.take();
            let taken = buffer.capacity();
            buffer.extend_from_slice(&[byte; 100]);
            let home = Arc::clone(&buffers);
            (Bytes::from_owner(Lease { buffer, home }), taken)
        };
        let ((first, _), (second, taken)) = (frame(1), frame(2));
        assert_eq!(taken, 0, "the first is still being read");
        let part = first.slice(10..20);
        drop(first);
        assert_eq!(frame(3).1, 0, "a part of the first is still being read");
        assert_eq!(&part[..], [1; 10]);
        drop((part, second));
        assert_eq!(buffers.0.lock().unwrap().len(), BUFFERS_MAX);
        let (third, taken) = frame(4);
        assert!(taken >= 100 && third[..] == [4; 100], "used again, emptied");
    }
}
