//! Rows that a daemon works on: a record batch there and record batches back, in a call on a
//! connection that is kept.
//!
//! A call is small enough for a signature over it, so it is the same on every transport.

use crate::bulk::client::{Client, Target};
use crate::bulk::connection::Connection;
use crate::bulk::daemons::Daemons;
use crate::bulk::patience::Patience;
use crate::bulk::source::{KeyIdentity, SourceError};
use crate::columns::Texts;
use crate::envelope::blob::{BlobHeader, CiphertextBlob};
use crate::key::KeyId;
use crate::key::arn::Arn;
use crate::stream::MEDIA_TYPE;
use crate::stream::Purpose;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::Cursor;

/// Bytes of the values in the rows of one call: a signed body has at most 1 MiB, with offsets and
/// padding.
pub const CALL_BYTES_MAX: usize = 768 * 1024;
/// Rows of one call: with as many columns as a context can have, their offsets still fit.
pub const CALL_ROWS_MAX: usize = 8 * 1024;
/// Bytes of an answer beyond its rows: schema and dictionaries.
const ANSWER_BYTES_MORE: usize = 1 << 20;
/// Bytes of a record batch beyond its values: its head, and for each column its node, its buffers
/// and their padding.
const BATCH_BYTES_MORE: usize = 1024;
const COLUMN_BYTES_MORE: usize = 256;
/// What an Arrow stream ends with.
const STREAM_END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Columns that an answer has and a call does not.
const ANSWER_COLUMNS_MORE: usize = 8;
/// Everything but what RFC 3986 calls unreserved, as signatures want it.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A parameter's value in a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Calls of one worker.
pub struct Stream {
    connection: Connection,
    path: String,
}

impl Stream {
    /// Calls of the endpoint of `purpose` with this query, on a connection that is made when it is
    /// needed.
    ///
    /// # Errors
    /// [`SourceError::Connection`], when this process cannot start a runtime.
    pub fn new(daemons: &Daemons, purpose: Purpose, query: &str) -> Result<Self, SourceError> {
        Ok(Self {
            connection: Connection::new(daemons)?,
            path: format!("{}?{query}", purpose.path()),
        })
    }

    /// The daemon that was called last.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.connection.client()
    }

    /// Sends these rows and returns the answer: as many rows, each with at most `more` new bytes.
    ///
    /// An answer may be cut: the daemon refuses a row behind the first ones of a call, or goes
    /// away. What came whole is kept and the rest is sent again, for a while if nothing came. So a
    /// row that is refused becomes the first of a call, where the refusal names it.
    ///
    /// # Errors
    /// [`SourceError`]; the daemon's refusal names its row as [`refused_row`] reads it.
    pub fn call(
        &mut self,
        rows: &RecordBatch,
        more: usize,
    ) -> Result<Vec<RecordBatch>, SourceError> {
        let (mut patience, mut answer, mut done) = (Patience::default(), Vec::new(), 0);
        loop {
            let rest = rows.slice(done, rows.num_rows() - done);
            let mut bytes = Vec::new();
            let sent = self.send(&rest, more, &mut bytes);
            let Err(error) = sent else {
                answer.extend(read(self.client(), bytes, rest.num_rows())?);
                return Ok(answer);
            };
            let whole = match error {
                SourceError::Connection { .. } => whole_batches(bytes),
                _ => return Err(behind(done, error)),
            };
            if whole.is_empty() {
                patience.wait(error, &self.client().stop)?;
                continue;
            }
            patience = Patience::default();
            done += row_count(&whole);
            answer.extend(whole);
            if done >= rows.num_rows() {
                return Ok(answer);
            }
        }
    }

    /// Sends rows, and appends the answer to `bytes` as it comes.
    fn send(
        &mut self,
        rows: &RecordBatch,
        more: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let body = encode(rows).map_err(|error| self.client().answered(error.to_string()))?;
        let bytes_max = body.len() + answer_bytes_max(rows, more);
        let target = Target {
            path: &self.path,
            operation: None,
            content_type: MEDIA_TYPE,
            accept: MEDIA_TYPE,
        };
        let response = self.connection.call_patiently(&target, body.into())?;
        let mut incoming = response.into_body();
        while let Some(next) = self.connection.next(&mut incoming)? {
            if bytes.len() + next.len() > bytes_max {
                return Err(self.client().answered("with more than was asked for"));
            }
            bytes.extend_from_slice(&next);
        }
        Ok(())
    }
}

/// The record batches at the beginning of an answer that was cut.
fn whole_batches(answer: Vec<u8>) -> Vec<RecordBatch> {
    let reader = StreamReader::try_new(Cursor::new(answer), None);
    let batches = reader.into_iter().flatten().map_while(Result::ok);
    batches.filter(|batch| batch.num_rows() > 0).collect()
}

fn row_count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// The refusal of a row, counted among all rows of a call of which `done` were answered before.
fn behind(done: usize, error: SourceError) -> SourceError {
    match refused_row(error) {
        Ok((row, code, message)) => SourceError::Refused {
            code,
            message: format!("Row {}: {message}", done + row),
        },
        Err(error) => error,
    }
}

/// The most bytes of an answer beyond those that were sent. Where the caller's rate is low, each
/// row comes in a record batch of its own.
fn answer_bytes_max(rows: &RecordBatch, more: usize) -> usize {
    let columns = rows.num_columns() + ANSWER_COLUMNS_MORE;
    let of_row = more + BATCH_BYTES_MORE + columns * COLUMN_BYTES_MORE;
    ANSWER_BYTES_MORE + rows.num_rows() * of_row
}

/// The record batches of an answer to `count` rows.
///
/// # Errors
/// [`SourceError::Answer`], when it is not a stream of so many rows.
pub fn read(
    client: &Client,
    answer: Vec<u8>,
    count: usize,
) -> Result<Vec<RecordBatch>, SourceError> {
    let odd = |error: ArrowError| client.answered(format!("with no Arrow stream: {error}"));
    let is_whole = answer.ends_with(&STREAM_END);
    let batches = StreamReader::try_new(Cursor::new(answer), None)
        .map_err(odd)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(odd)?;
    // The reader takes an answer that was cut between two batches for whole.
    if !is_whole {
        return Err(client.answered("with an Arrow stream without its end"));
    }
    let rows = row_count(&batches);
    if rows == count {
        Ok(batches)
    } else {
        Err(client.answered(format!("{rows} rows to {count}")))
    }
}

fn encode(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.finish()?;
    writer.into_inner()
}

/// A column of an answer.
///
/// # Errors
/// [`SourceError::Answer`], when it is not there.
pub fn column<'a>(
    client: &Client,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a ArrayRef, SourceError> {
    let column = batch.column_by_name(name);
    column.ok_or_else(|| client.answered(format!("without {name}")))
}

/// Shows `take` every blob of an answer, and returns the key that all of them are under. They have
/// `bytes` bytes, where that is given.
///
/// # Errors
/// [`SourceError`], when they do not fit the request.
pub fn blobs(
    client: &Client,
    batches: &[RecordBatch],
    bytes: Option<usize>,
    mut take: impl FnMut(&[u8]),
) -> Result<KeyIdentity, SourceError> {
    let without = |name: &str| client.answered(format!("without {name}"));
    let mut key = None;
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let text = |name: &str| {
            let texts = Texts::of(column(client, batch, name)?);
            let first = texts.as_ref().and_then(|texts| texts.text(0));
            first.map(ToOwned::to_owned).ok_or_else(|| without(name))
        };
        let of_batch = KeyIdentity {
            arn: text("key_arn")?,
            material_id: text("key_material_id")?,
        };
        let blobs = column(client, batch, "ciphertext_blob")?
            .as_binary_opt::<i32>()
            .ok_or_else(|| without("ciphertext_blob"))?;
        let mut wanted =
            ExpectedBlobs::of(&of_batch, bytes).ok_or_else(|| without("an ARN of a key"))?;
        for blob in blobs {
            let blob = blob.unwrap_or_default();
            // A blob is checked before it is kept: a part with a foreign blob would be found too
            // late.
            wanted.check(blob).map_err(|what| client.answered(what))?;
            take(blob);
        }
        // All rows of a part are under one generation.
        if *key.get_or_insert_with(|| of_batch.clone()) != of_batch {
            return Err(SourceError::MaterialChanged);
        }
    }
    key.ok_or_else(|| client.answered("no rows"))
}

/// What every blob of an answer has in common.
struct ExpectedBlobs {
    key_id: KeyId,
    bytes: Option<usize>,
    header: Option<BlobHeader>,
}

impl ExpectedBlobs {
    fn of(key: &KeyIdentity, bytes: Option<usize>) -> Option<Self> {
        let arn = Arn::split(&key.arn)?;
        Some(Self {
            key_id: arn.resource.strip_prefix("key/")?.parse().ok()?,
            bytes,
            header: None,
        })
    }

    fn check(&mut self, blob: &[u8]) -> Result<(), &'static str> {
        let parsed =
            CiphertextBlob::parse(blob).map_err(|_| "with bytes that are not a ciphertext blob")?;
        let header = parsed.header();
        if header.key_id != self.key_id || *self.header.get_or_insert(header) != header {
            return Err("with a blob of another key");
        }
        if self.bytes.is_none_or(|bytes| bytes == blob.len()) {
            Ok(())
        } else {
            Err("with a blob of another length")
        }
    }
}

/// The row that a refusal names, counted within its call, with the KMS error code and the message;
/// or the error, if it names no row.
///
/// # Errors
/// Any other error, as it came.
pub fn refused_row(error: SourceError) -> Result<(usize, String, String), SourceError> {
    if let SourceError::Refused { code, message } = &error
        && let Some(rest) = message.strip_prefix("Row ")
        // A code without a message has nothing behind the row.
        && let Some((row, rest)) = rest.split_once(": ").or(rest
            .strip_suffix('.')
            .map(|row| (row, "")))
        && let Ok(row) = row.parse()
    {
        return Ok((row, code.clone(), rest.to_owned()));
    }
    Err(error)
}

#[cfg(test)]
mod tests;
