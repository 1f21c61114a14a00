//! The rows of an Arrow IPC stream or file that a command reads by itself, from a file or from
//! standard input, with the bounds of a file.
//!
//! A file is a stream between a mark and a footer (Arrow columnar format, "IPC File Format"). It is
//! read from its beginning, so the footer, which repeats where the batches are, is not needed.

use crate::api::ApiError;
use crate::stream::decoder::{Change, Decoder, Item};
use crate::stream::messages::{Bounds, CONTINUATION, Messages};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use std::io::{self, Read};

/// What a file begins with, padded to eight bytes, and ends with.
const MARK: &[u8; 6] = b"ARROW1";
const HEAD: &[u8; 8] = b"ARROW1\0\0";
/// Words of eight bytes that the mark is padded with, and the first one behind it: up to 64 bytes.
const PADDING_WORDS_MAX: usize = 8;
/// The refusal of a file that has something else than a stream behind its mark.
const NOT_A_STREAM: &str = "it is an Arrow file that cannot be read from its beginning, as those of Polars' write_ipc; write a stream instead (write_ipc_stream)";
/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Why there are no more rows.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not an Arrow stream or file, or has what is not supported.
    #[error("{0}")]
    Unusable(String),
}

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        // The words of a daemon, to which the input is a body.
        let message = error.message().trim_end_matches('.');
        let body = "The body is not an Arrow IPC stream";
        Self::Unusable(message.replacen(body, "it is not an Arrow IPC stream or file", 1))
    }
}

/// Reads rows.
pub struct RowReader<R> {
    input: R,
    is_file: bool,
    /// Bytes that are read and not used yet.
    unused: Bytes,
    messages: Messages,
    decoder: Decoder,
    schema: SchemaRef,
    has_deltas: bool,
}

impl<R: Read> RowReader<R> {
    /// Begins to read, up to the schema.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let mut head = word(&mut input)?;
        let is_file = head == HEAD;
        // Some writers pad the mark to more bytes than eight.
        for _ in 0..PADDING_WORDS_MAX {
            if !is_file || (head != HEAD && head != [0; HEAD.len()]) {
                break;
            }
            head = word(&mut input)?;
        }
        if is_file && !head.starts_with(&CONTINUATION) {
            return Err(unusable(NOT_A_STREAM));
        }
        let mut reader = Self {
            input,
            is_file,
            unused: head.into(),
            messages: Messages::new(Bounds::FILE),
            decoder: Decoder::new(Bounds::FILE),
            schema: SchemaRef::new(arrow_schema::Schema::empty()),
            has_deltas: false,
        };
        match reader.item() {
            Ok(Some(Item::Schema(schema))) => reader.schema = schema,
            Err(error) => return Err(error),
            Ok(_) => return Err(unusable("it is an Arrow stream without a schema")),
        }
        Ok(reader)
    }

    /// The columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether a dictionary has grown by deltas so far.
    #[must_use]
    pub fn has_deltas(&self) -> bool {
        self.has_deltas
    }

    /// The next batch with rows; `None` once all of the input is read, and it was whole.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        loop {
            match self.item()? {
                None => return Ok(None),
                Some(Item::Rows(batch)) if batch.num_rows() > 0 => return Ok(Some(batch)),
                Some(Item::Dictionary(Change::Grown)) => self.has_deltas = true,
                Some(_) => {}
            }
        }
    }

    fn item(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            self.messages.push_to_end(&mut self.unused)?;
            if let Some(message) = self.messages.take() {
                return Ok(Some(self.decoder.read(&message)?));
            }
            if self.messages.is_ended() {
                self.check_tail()?;
                return Ok(None);
            }
            self.unused = self.read()?;
            if self.unused.is_empty() {
                self.messages.check_end()?;
            }
        }
    }

    fn read(&mut self) -> Result<Bytes, ReadError> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match self.input.read(&mut bytes) {
                Ok(read) => {
                    bytes.truncate(read);
                    return Ok(bytes.into());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what is behind the end: of a file its footer, of a stream nothing.
    fn check_tail(&mut self) -> Result<(), ReadError> {
        let mut tail = [0; MARK.len()];
        let mut seen = 0_usize;
        loop {
            let bytes = match self.unused.is_empty() {
                true => self.read()?,
                false => std::mem::take(&mut self.unused),
            };
            if bytes.is_empty() {
                break;
            }
            seen = seen.saturating_add(bytes.len());
            let last = &bytes[bytes.len().saturating_sub(tail.len())..];
            tail.rotate_left(last.len());
            tail[MARK.len() - last.len()..].copy_from_slice(last);
        }
        match (self.is_file, seen) {
            (false, 0) => Ok(()),
            (false, _) => Err(unusable(
                "it is not an Arrow IPC stream or file: it goes on after its end",
            )),
            (true, _) if tail == *MARK => Ok(()),
            (true, _) => Err(unusable("the Arrow file ends without its footer")),
        }
    }
}

/// The next eight bytes, or all that there are.
fn word(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut word = Vec::with_capacity(HEAD.len());
    input.take(HEAD.len() as u64).read_to_end(&mut word)?;
    Ok(word)
}

fn unusable(message: &str) -> ReadError {
    ReadError::Unusable(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use arrow_ipc::writer::{FileWriter, StreamWriter};
    use arrow_schema::{DataType, Field, Schema, UnionFields, UnionMode};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let numbers = Arc::new(Int64Array::from(vec![1, 2, 3]));
        RecordBatch::try_from_iter([("n", numbers as _)]).unwrap()
    }

    fn written() -> [Vec<u8>; 2] {
        let batch = batch();
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        for _ in 0..2 {
            stream.write(&batch).unwrap();
            file.write(&batch).unwrap();
        }
        stream.finish().unwrap();
        file.finish().unwrap();
        [stream.into_inner().unwrap(), file.into_inner().unwrap()]
    }

    fn read(bytes: &[u8]) -> Result<usize, String> {
        let told = |error: ReadError| error.to_string();
        let mut reader = RowReader::open(bytes).map_err(told)?;
        let mut rows = 0;
        while let Some(next) = reader.next_batch().map_err(told)? {
            assert_eq!(next, batch());
            rows += next.num_rows();
        }
        Ok(rows)
    }

    #[test]
    fn a_stream_and_a_file_have_the_same_rows() {
        for bytes in written() {
            assert_eq!(read(&bytes), Ok(6));
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let [stream, file] = written();
        let cut = "it ends without its end-of-stream marker";
        let more = [&stream[..], b"x"].concat();
        for (bytes, said) in [
            (&b""[..], cut),
            (b"PAR1PAR1", "a message begins with no continuation marker"),
            (&stream[..stream.len() - 8], cut),
            (&stream[..stream.len() / 2], cut),
            (&stream[stream.len() - 8..], "without a schema"),
            (&more, "it goes on after its end"),
            (&file[..file.len() / 2], cut),
            (&file[..file.len() - 1], "ends without its footer"),
            (
                b"ARROW1\0\0\x04\0\0\0\xf2\xff\xff\xff",
                "write a stream instead",
            ),
        ] {
            let refused = read(bytes).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        let refused = read(b"{}").unwrap_err();
        assert_eq!(
            refused,
            "it is not an Arrow IPC stream or file: it ends without its end-of-stream marker"
        );
    }

    #[test]
    fn a_file_with_columns_that_are_refused_is_refused_for_them() {
        let fields = UnionFields::try_new([0], [Field::new("i", DataType::Int64, true)]).unwrap();
        let union = DataType::Union(fields, UnionMode::Sparse);
        let schema = Schema::new(vec![Field::new("u", union, false)]);
        let mut file = FileWriter::try_new(Vec::new(), &schema).unwrap();
        file.finish().unwrap();
        let refused = read(&file.into_inner().unwrap()).unwrap_err();
        assert!(
            refused.contains("Columns like \"u\", of type Union"),
            "{refused}"
        );
    }
}
