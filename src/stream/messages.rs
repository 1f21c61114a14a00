//! An Arrow IPC stream, cut into its messages: a prefix, metadata, a body. What a message says of
//! its own size is held against bounds before a byte of it is kept, and it is put together as its
//! bytes arrive, so that a claim alone costs nothing.
//!
//! Source: Arrow columnar format, "Serialization and Interprocess Communication (IPC)",
//! "Encapsulated message format" and "IPC Streaming Format".

use crate::api::{ApiError, ErrorCode};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::root_as_message_with_opts;
use bytes::{Buf, Bytes};
use flatbuffers::VerifierOptions;

/// The bounds of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of one message's body, as it comes and once it is decompressed: a record batch, or the
    /// values of a dictionary. All dictionaries together have no more.
    pub(super) body_bytes: usize,
}

impl Bounds {
    /// Those of a request: a stream holds a few times as many bytes, and there are many streams.
    pub(super) const REQUEST: Self = Self {
        body_bytes: 16 << 20,
    };
    /// Those of a file, which a command reads by itself: some writers put all rows into one batch.
    pub(super) const FILE: Self = Self {
        body_bytes: 1 << 30,
    };

    /// Elements of all arrays of one message, nested ones included, and rows: as many as its
    /// largest body has bits.
    pub(super) const fn elements(self) -> usize {
        8 * self.body_bytes
    }
}

/// Bytes of one message's metadata: a schema of a thousand columns, with what pandas writes about
/// them, has half of it.
pub(super) const METADATA_BYTES_MAX: usize = 1024 * 1024;
/// Tables of one message's metadata, three or four for a column: they may point at each other, so
/// that few bytes describe many.
const METADATA_TABLES_MAX: usize = 16 * 1024;
/// Bytes of one message's metadata when what several tables share is counted for each.
const METADATA_APPARENT_BYTES_MAX: usize = 4 * METADATA_BYTES_MAX;

/// What every message begins with since Arrow 0.15.
pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];
const PREFIX_BYTES: usize = 8;

/// One message, of whose metadata only the shape has been checked.
pub(super) struct Message {
    metadata: Vec<u8>,
    pub(super) body: Buffer,
}

impl Message {
    /// The metadata.
    pub(super) fn header(&self) -> Result<arrow_ipc::Message<'_>, ApiError> {
        header(&self.metadata)
    }
}

fn header(metadata: &[u8]) -> Result<arrow_ipc::Message<'_>, ApiError> {
    let bounds = VerifierOptions {
        max_tables: METADATA_TABLES_MAX,
        max_apparent_size: METADATA_APPARENT_BYTES_MAX,
        ..VerifierOptions::default()
    };
    // The place where the verifier stops is of no use to the sender.
    root_as_message_with_opts(&bounds, metadata)
        .map_err(|_| malformed("a message's metadata is not sound, or larger than a schema's"))
}

/// The body is not an Arrow IPC stream.
pub(super) fn malformed(what: impl std::fmt::Display) -> ApiError {
    let message = format!("The body is not an Arrow IPC stream: {what}.");
    ApiError::new(ErrorCode::SerializationException, message)
}

/// The refusal of a feature that the format has and this service does not read.
pub(super) fn unsupported(what: &str) -> ApiError {
    let message = format!("{what} are not supported here.");
    ApiError::new(ErrorCode::ValidationException, message)
}

/// The body is beyond a bound.
pub(super) fn too_large(what: &str, max: usize, unit: &str) -> ApiError {
    let message = format!("{what} has at most {max} {unit}.");
    ApiError::new(ErrorCode::RequestEntityTooLarge, message)
}

enum State {
    Prefix {
        bytes: [u8; PREFIX_BYTES],
        read: usize,
    },
    Metadata {
        bytes: Vec<u8>,
        length: usize,
    },
    Body {
        metadata: Vec<u8>,
        bytes: MutableBuffer,
        length: usize,
    },
    Complete(Message),
    Ended,
}

impl State {
    const START: Self = Self::Prefix {
        bytes: [0; PREFIX_BYTES],
        read: 0,
    };
}

/// The messages of a stream whose bytes arrive in pieces of any size.
pub(super) struct Messages {
    state: State,
    bounds: Bounds,
}

impl Messages {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            state: State::START,
            bounds,
        }
    }

    /// Takes of `input` what belongs to the next message, all or less; nothing is behind the end.
    pub(super) fn push(&mut self, input: &mut Bytes) -> Result<(), ApiError> {
        self.push_to_end(input)?;
        match self.state {
            State::Ended if !input.is_empty() => Err(malformed("it goes on after its end")),
            _ => Ok(()),
        }
    }

    /// Takes of `input` what belongs to the next message, all or less, and nothing behind the end.
    pub(super) fn push_to_end(&mut self, input: &mut Bytes) -> Result<(), ApiError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Prefix { bytes, read } => {
                    let piece = input.len().min(PREFIX_BYTES - *read);
                    input.copy_to_slice(&mut bytes[*read..*read + piece]);
                    *read += piece;
                    if *read == PREFIX_BYTES {
                        self.state = after_prefix(*bytes)?;
                    }
                }
                State::Metadata { bytes, length } => {
                    let piece = input.len().min(*length - bytes.len());
                    bytes.extend_from_slice(&input.split_to(piece));
                    if bytes.len() == *length {
                        self.state = after_metadata(std::mem::take(bytes), self.bounds)?;
                    }
                }
                State::Body {
                    metadata,
                    bytes,
                    length,
                } => {
                    let piece = input.len().min(*length - bytes.len());
                    bytes.extend_from_slice(&input.split_to(piece));
                    if bytes.len() == *length {
                        let body = std::mem::take(bytes).into();
                        let metadata = std::mem::take(metadata);
                        self.state = State::Complete(Message { metadata, body });
                    }
                }
                // The caller takes the message before it gives more bytes.
                State::Complete(_) | State::Ended => break,
            }
        }
        Ok(())
    }

    /// Whether the end has come.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Whether a whole message waits to be taken.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete(_))
    }

    /// The message that is complete, if one is.
    pub(super) fn take(&mut self) -> Option<Message> {
        match std::mem::replace(&mut self.state, State::START) {
            State::Complete(message) => Some(message),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Checks that the stream has ended where its bytes end. The format lets a writer leave the
    /// end-of-stream marker out; then a stream that was cut would look like a whole one.
    pub(super) fn check_end(&self) -> Result<(), ApiError> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err(malformed("it ends without its end-of-stream marker")),
        }
    }
}

fn after_prefix(bytes: [u8; PREFIX_BYTES]) -> Result<State, ApiError> {
    let (continuation, length) = bytes.split_at(CONTINUATION.len());
    if continuation != CONTINUATION {
        return Err(malformed("a message begins with no continuation marker"));
    }
    let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
    if length == 0 {
        return Ok(State::Ended);
    }
    if length > METADATA_BYTES_MAX {
        return Err(too_large(
            "A message's metadata",
            METADATA_BYTES_MAX,
            "bytes",
        ));
    }
    let bytes = Vec::new();
    Ok(State::Metadata { bytes, length })
}

fn after_metadata(metadata: Vec<u8>, bounds: Bounds) -> Result<State, ApiError> {
    let length = usize::try_from(header(&metadata)?.bodyLength())
        .map_err(|_| malformed("a body's length is negative"))?;
    if length > bounds.body_bytes {
        return Err(too_large("A message's body", bounds.body_bytes, "bytes"));
    }
    if length == 0 {
        let body = Buffer::default();
        return Ok(State::Complete(Message { metadata, body }));
    }
    // Pages that nothing is written to take no memory.
    let bytes = MutableBuffer::with_capacity(length);
    Ok(State::Body {
        metadata,
        bytes,
        length,
    })
}
