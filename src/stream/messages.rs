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

/// Bytes of one message's body: a record batch, or the values of a dictionary.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one message's metadata: a schema of a thousand columns, with what pandas writes about
/// them, has half of it.
pub(super) const METADATA_BYTES_MAX: usize = 1024 * 1024;
/// Tables of one message's metadata, three or four for a column: they may point at each other, so
/// that few bytes describe many.
const METADATA_TABLES_MAX: usize = 16 * 1024;
/// Bytes of one message's metadata when what several tables share is counted for each.
const METADATA_APPARENT_BYTES_MAX: usize = 4 * METADATA_BYTES_MAX;

/// What every message begins with since Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];
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
pub(super) struct Messages(State);

impl Default for Messages {
    fn default() -> Self {
        Self(State::START)
    }
}

impl Messages {
    /// Takes of `input` what belongs to the next message, all or less.
    pub(super) fn push(&mut self, input: &mut Bytes) -> Result<(), ApiError> {
        while !input.is_empty() {
            match &mut self.0 {
                State::Prefix { bytes, read } => {
                    let piece = input.len().min(PREFIX_BYTES - *read);
                    input.copy_to_slice(&mut bytes[*read..*read + piece]);
                    *read += piece;
                    if *read == PREFIX_BYTES {
                        self.0 = after_prefix(*bytes)?;
                    }
                }
                State::Metadata { bytes, length } => {
                    let piece = input.len().min(*length - bytes.len());
                    bytes.extend_from_slice(&input.split_to(piece));
                    if bytes.len() == *length {
                        self.0 = after_metadata(std::mem::take(bytes))?;
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
                        self.0 = State::Complete(Message { metadata, body });
                    }
                }
                // The caller takes the message before it gives more bytes.
                State::Complete(_) => break,
                State::Ended => return Err(malformed("it goes on after its end")),
            }
        }
        Ok(())
    }

    /// Whether a whole message waits to be taken.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.0, State::Complete(_))
    }

    /// The message that is complete, if one is.
    pub(super) fn take(&mut self) -> Option<Message> {
        match std::mem::replace(&mut self.0, State::START) {
            State::Complete(message) => Some(message),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// Checks that the stream has ended where its bytes end. The format lets a writer leave the
    /// end-of-stream marker out; then a stream that was cut would look like a whole one.
    pub(super) fn check_end(&self) -> Result<(), ApiError> {
        match self.0 {
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

fn after_metadata(metadata: Vec<u8>) -> Result<State, ApiError> {
    let length = usize::try_from(header(&metadata)?.bodyLength())
        .map_err(|_| malformed("a body's length is negative"))?;
    if length > MESSAGE_BYTES_MAX {
        return Err(too_large("A message's body", MESSAGE_BYTES_MAX, "bytes"));
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
