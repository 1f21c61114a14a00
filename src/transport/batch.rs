//! A batch of keys as chunks of blobs. Each chunk is made when hyper asks for it, so that a slow
//! reader slows the making and memory stays constant.
//!
//! Deciding on a chunk and making it keeps a processor busy. That happens on a thread of `makers`
//! and never on the runtime's own threads, where single requests would wait behind it. While one
//! chunk is sent, the next is made. A chunk that must wait for a limit waits on a timer, and holds
//! neither a thread nor a permit.
//!
//! A batch that ends early shows it: octets end before `Content-Length`, lines end with the error
//! in place of the count, and an Arrow stream ends without its marker when the connection is cut.

use crate::api::{ApiError, ErrorCode};
use crate::audit::Recorded;
use crate::rates::Exceeded;
use crate::stream::{BlobRows, Chunk, DataKeys};
use crate::transport::makers::{CHUNK_BYTES_MAX, HELD_BYTES_MAX, Makers, STATE_BYTES};
use crate::transport::parts::{Part, PartSource};
use crate::transport::route::Form;
use crate::transport::shares::Share;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Buffers that a batch keeps for its next chunks: one is filled while another is sent.
const BUFFERS_MAX: usize = 2;
/// The shortest wait for a limit that was reached, the timer's resolution; and the longest, after
/// which the batch is authorized again.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A batch on its way to its reader.
pub(super) struct Batch {
    /// `None` if its thread has panicked.
    maker: Option<Maker>,
    /// The first chunk.
    made: Option<Result<Piece, ApiError>>,
    makers: Makers,
    /// How long a chunk waits for limits.
    patience: Duration,
    form: Form,
    /// The bytes of all blobs.
    bytes: u64,
}

impl Batch {
    /// Makes the first chunk of `keys` in `form`, if there is room for the batch; `makers` make the
    /// other chunks. A chunk waits for a limit no longer than `patience`.
    ///
    /// # Errors
    /// The refusal, when other batches hold too much.
    pub(super) fn new(
        mut keys: DataKeys,
        form: Form,
        makers: Makers,
        patience: Duration,
    ) -> Result<Self, ApiError> {
        let encoding = Encoding::of(&keys, form);
        let each = encoding.bytes_each(keys.blob_bytes());
        let all = keys.count().saturating_mul(each as u64);
        let held = all.min(HELD_BYTES_MAX) + STATE_BYTES;
        // The memory of the whole batch is reserved before its first chunk is made.
        let Some(share) = makers.batches.take(keys.holder(), held) else {
            return Err(keys.end(too_many()));
        };
        keys.set_chunk_keys(CHUNK_BYTES_MAX / each);
        let bytes = keys.count().saturating_mul(keys.blob_bytes() as u64);
        let mut maker = Maker {
            keys,
            encoding,
            buffers: Arc::new(Buffers::new(share)),
        };
        Ok(Self {
            made: Some(maker.piece()),
            maker: Some(maker),
            makers,
            patience,
            form,
            bytes,
        })
    }

    /// The keys; `None` when their thread has panicked.
    pub(super) fn keys(&self) -> Option<&DataKeys> {
        self.maker.as_ref().map(|maker| &maker.keys)
    }

    /// The next chunk, or the limit for which it must wait.
    async fn piece(&mut self) -> Result<Piece, ApiError> {
        if let Some(made) = self.made.take() {
            return made;
        }
        let piece = self.makers.make_with(&mut self.maker, Maker::piece).await;
        piece.ok_or_else(lost)?
    }
}

impl PartSource for Batch {
    const WHAT: &'static str = "a batch";

    /// The next chunk, as soon as its limits permit it.
    async fn next(&mut self) -> Result<Part, ApiError> {
        let mut waited = Duration::ZERO;
        loop {
            let piece = self.piece().await?;
            let maker = self.maker.as_mut().ok_or_else(lost)?;
            let exceeded = match piece {
                Piece::Chunk(chunk, recorded) => {
                    maker.keys.durable(recorded).await?;
                    return Ok(match maker.keys_left() {
                        0 => Part::Last(chunk),
                        _ => Part::More(chunk),
                    });
                }
                Piece::Wait(exceeded) => exceeded,
            };
            if waited >= self.patience {
                return Err(maker.keys.throttled(exceeded));
            }
            let pause = exceeded.wait.clamp(PAUSE_MIN, PAUSE_MAX);
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }

    fn last_words(&self, error: &ApiError) -> Option<Bytes> {
        (self.form == Form::Lines).then(|| {
            let mut line = error.body();
            line.push(b'\n');
            line.into()
        })
    }

    fn handed_out(&self) -> Option<u64> {
        self.keys().map(DataKeys::handed_out)
    }

    fn bytes(&self) -> Option<u64> {
        (self.form == Form::Octets).then_some(self.bytes)
    }
}

pub(super) fn lost() -> ApiError {
    ApiError::internal("a batch has lost its maker")
}

fn too_many() -> ApiError {
    let message =
        "Too many batches wait for their readers. Read those that are open, or try again.";
    ApiError::new(ErrorCode::ThrottlingException, message)
}

/// Makes the chunks of one batch.
struct Maker {
    keys: DataKeys,
    encoding: Encoding,
    buffers: Arc<Buffers>,
}

/// The outcome of a request for the next chunk.
enum Piece {
    Chunk(Bytes, Recorded),
    Wait(Exceeded),
}

enum Encoding {
    Octets,
    Lines {
        /// The bytes after the blob in every line.
        rest: Vec<u8>,
        /// The blobs of one chunk before they are encoded.
        blobs: Vec<u8>,
    },
    /// `Some` from the first chunk on.
    Arrow(Option<Box<BlobRows>>),
}

impl Encoding {
    fn of(keys: &DataKeys, form: Form) -> Self {
        match form {
            Form::Octets => Self::Octets,
            Form::Lines => Self::Lines {
                rest: rest_of_line(keys.key_arn(), &keys.material().to_string()),
                blobs: Vec::new(),
            },
            Form::Arrow => Self::Arrow(None),
        }
    }

    /// Bytes of each key as it is sent; for an Arrow stream, the bytes of its blob.
    fn bytes_each(&self, blob_bytes: usize) -> usize {
        match self {
            Self::Octets | Self::Arrow(_) => blob_bytes,
            Self::Lines { rest, .. } => line_bytes(blob_bytes, rest),
        }
    }
}

impl Maker {
    fn keys_left(&self) -> u64 {
        self.keys.count().saturating_sub(self.keys.handed_out())
    }

    fn piece(&mut self) -> Result<Piece, ApiError> {
        // Blobs are minted straight into the outgoing buffer where the form permits it.
        let mut out = self.buffers.take();
        let made = match &mut self.encoding {
            Encoding::Octets => self.keys.next_chunk(&mut out)?,
            Encoding::Lines { rest, blobs } => {
                blobs.clear();
                let made = self.keys.next_chunk(blobs)?;
                let blob_bytes = self.keys.blob_bytes();
                out.reserve_exact(blobs.len() / blob_bytes * line_bytes(blob_bytes, rest));
                for blob in blobs.chunks_exact(blob_bytes) {
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
        // The count closes the lines only when every key is in them.
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

/// The rest of a line after the blob: `","KeyId":"<arn>","KeyMaterialId":"<id>"}` and the line
/// feed.
fn rest_of_line(key_arn: &str, key_material_id: &str) -> Vec<u8> {
    let (arn, id) = (
        serde_json::Value::from(key_arn),
        serde_json::Value::from(key_material_id),
    );
    format!("\",\"KeyId\":{arn},\"KeyMaterialId\":{id}}}\n").into_bytes()
}

const LINE_START: &[u8] = b"{\"CiphertextBlob\":\"";

fn line_bytes(blob_bytes: usize, rest: &[u8]) -> usize {
    LINE_START.len() + base64_simd::STANDARD.encoded_length(blob_bytes) + rest.len()
}

fn append_line(blob: &[u8], rest: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(LINE_START);
    base64_simd::STANDARD.encode_append(blob, out);
    out.extend_from_slice(rest);
}

/// Buffers that hyper gives back when they are written. A new buffer for each chunk would fault in
/// all of its pages (row "1,000,000 keys in one octet stream" of benches/RESULTS.md).
struct Buffers {
    idle: Mutex<Vec<Vec<u8>>>,
    /// Held until the last buffer is given back: hyper may hold all of a batch that is not read.
    _share: Share,
}

impl Buffers {
    fn new(share: Share) -> Self {
        Self {
            idle: Mutex::default(),
            _share: share,
        }
    }

    fn take(&self) -> Vec<u8> {
        let mut buffers = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.pop().unwrap_or_default()
    }

    fn put_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

/// A buffer that hyper holds as a frame.
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
    use crate::transport::shares::Shares;

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
        let buffers = Arc::new(Buffers::new(Shares::new(2).take("a", 1).unwrap()));
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
        assert_eq!(buffers.idle.lock().unwrap().len(), BUFFERS_MAX);
        let (third, taken) = frame(4);
        assert!(taken >= 100 && third[..] == [4; 100], "used again, emptied");
    }
}
