//! Rows bound by a running daemon, with the caller's rights: a call of the bind endpoint for each few thousand rows, on a connection that is kept.
//!
//! Only the columns that contexts are made of are sent. A call is small enough for a signature over it, so it is the same on every transport.

use crate::api::bind::columns::{ContextPairs, Texts};
use crate::api::bind::{MEDIA_TYPE, PATH};
use crate::bulk::client::{Connection, Target};
use crate::bulk::{Daemon, KeyIdentity, SourceError};
use crate::envelope::blob::{BlobHeader, CiphertextBlob};
use crate::envelope::blob_bytes;
use crate::key::KeyId;
use crate::key::arn::Arn;
use crate::key::data_key::DataKeyLength;
use crate::provision::binder::{BindError, Binder, Contexts, Source};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of contexts in one call: a signed body has at most 1 MiB, with offsets and padding.
const CALL_TEXT_BYTES_MAX: usize = 768 * 1024;
/// Rows of one call: with as many columns as a context can have, their offsets still fit.
const CALL_ROWS_MAX: usize = 8 * 1024;
/// Bytes of an answer beyond its rows: schema, dictionaries, and what a chunk has around it.
const ANSWER_BYTES_MORE: usize = 1 << 20;
/// Everything but what RFC 3986 calls unreserved, as signatures want it.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Blobs from a daemon.
#[derive(Clone)]
pub struct Remote {
    /// The daemon.
    pub daemon: Daemon,
    /// The key as the caller names it.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// What contexts are made of.
    pub pairs: ContextPairs,
}

impl Source for Remote {
    type Binder = RemoteBinder;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn binder(&self) -> Result<RemoteBinder, SourceError> {
        Ok(RemoteBinder {
            connection: self.daemon.connection()?,
            path: self.path(),
            remote: self.clone(),
        })
    }
}

impl Remote {
    fn path(&self) -> String {
        let text = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        let length = match self.length {
            DataKeyLength::AES_256 => "spec=AES_256".to_owned(),
            DataKeyLength::AES_128 => "spec=AES_128".to_owned(),
            length => format!("bytes={}", length.bytes()),
        };
        let columns = text(&self.pairs.columns.join(","));
        let pairs = self.pairs.constants.iter();
        let pairs =
            pairs.map(|(name, value)| format!("&pair={}", text(&format!("{name}={value}"))));
        let pairs: String = pairs.collect();
        let key = text(&self.key);
        format!("{PATH}?key={key}&{length}&context={columns}{pairs}")
    }
}

/// Binds over one connection.
pub struct RemoteBinder {
    remote: Remote,
    connection: Connection,
    path: String,
}

impl Binder for RemoteBinder {
    fn begin(&mut self, _rows: u64) -> Result<(), SourceError> {
        Ok(())
    }

    fn bind(
        &mut self,
        contexts: &Contexts<'_>,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, BindError> {
        let columns = contexts.rows.columns();
        let all: usize = contexts.runs.iter().map(|(_, rows)| rows).sum();
        let mut key: Option<KeyIdentity> = None;
        let mut from = 0;
        while from < all {
            let rows = next_call(columns, from, all);
            let end = rows.end;
            let of_call = self.call(columns, rows, out);
            let of_call = of_call.map_err(|error| at_row(from, error))?;
            if *key.get_or_insert_with(|| of_call.clone()) != of_call {
                return Err(SourceError::MaterialChanged.into());
            }
            from = end;
        }
        let none = || self.remote.daemon.answered("no rows");
        Ok(key.ok_or_else(none)?)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}

impl RemoteBinder {
    fn call(
        &mut self,
        columns: &[Texts<'_>],
        rows: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, SourceError> {
        let count = rows.len();
        let body = encode(&self.remote.pairs.columns, columns, rows);
        let body = body.map_err(|error| self.remote.daemon.broken(&error))?;
        let bytes_max = body.len() + count * blob_bytes(self.remote.length) + ANSWER_BYTES_MORE;
        let answer = self.answer(&body, bytes_max)?;
        self.read(answer, count, out)
    }

    /// The answer's bytes.
    fn answer(&mut self, body: &Bytes, bytes_max: usize) -> Result<Vec<u8>, SourceError> {
        let target = Target {
            path: &self.path,
            content_type: MEDIA_TYPE,
            accept: MEDIA_TYPE,
            operation: None,
        };
        let response = self.connection.call_patiently(&target, body.clone())?;
        let mut incoming = response.into_body();
        let mut bytes = Vec::new();
        while let Some(next) = self.connection.next(&mut incoming)? {
            if bytes.len() + next.len() > bytes_max {
                return Err(self.remote.daemon.answered("with more than was asked for"));
            }
            bytes.extend_from_slice(&next);
        }
        Ok(bytes)
    }

    /// Appends the blobs of an answer to `count` rows.
    fn read(
        &self,
        answer: Vec<u8>,
        count: usize,
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, SourceError> {
        let daemon = &self.remote.daemon;
        let odd = |error: ArrowError| daemon.answered(format!("with no Arrow stream: {error}"));
        let without = |name: &str| daemon.answered(format!("without {name}"));
        let (mut rows, mut key) = (0, None);
        for batch in StreamReader::try_new(Cursor::new(answer), None).map_err(odd)? {
            let batch = batch.map_err(odd)?;
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| without(name));
            let text = |name: &str| {
                let texts = Texts::of(column(name)?);
                let first = texts.as_ref().and_then(|texts| texts.text(0));
                first.map(ToOwned::to_owned).ok_or_else(|| without(name))
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let of_batch = KeyIdentity {
                arn: text("key_arn")?,
                material_id: text("key_material_id")?,
            };
            let blobs = column("ciphertext_blob")?.as_binary_opt::<i32>();
            let blobs = blobs.ok_or_else(|| without("ciphertext_blob"))?;
            let wanted = Wanted::of(&of_batch, self.remote.length);
            let mut wanted = wanted.ok_or_else(|| without("an ARN of a key"))?;
            for blob in blobs {
                let blob = blob.unwrap_or_default();
                wanted.check(blob).map_err(|what| daemon.answered(what))?;
                out.extend_from_slice(blob);
            }
            rows += batch.num_rows();
            if *key.get_or_insert_with(|| of_batch.clone()) != of_batch {
                return Err(SourceError::MaterialChanged);
            }
        }
        match key {
            Some(key) if rows == count => Ok(key),
            _ => Err(daemon.answered(format!("{rows} rows to {count}"))),
        }
    }
}

/// What every blob of an answer has in common.
struct Wanted {
    key_id: KeyId,
    bytes: usize,
    header: Option<BlobHeader>,
}

impl Wanted {
    fn of(key: &KeyIdentity, length: DataKeyLength) -> Option<Self> {
        let arn = Arn::split(&key.arn)?;
        Some(Self {
            key_id: arn.resource.strip_prefix("key/")?.parse().ok()?,
            bytes: blob_bytes(length),
            header: None,
        })
    }

    fn check(&mut self, blob: &[u8]) -> Result<(), &'static str> {
        let parsed = CiphertextBlob::parse(blob);
        let parsed = parsed.map_err(|_| "with bytes that are no ciphertext blob")?;
        let header = parsed.header();
        if header.key_id != self.key_id || *self.header.get_or_insert(header) != header {
            return Err("with a blob of another key");
        }
        match blob.len() == self.bytes {
            true => Ok(()),
            false => Err("with a blob of another length"),
        }
    }
}

/// The rows from `from` on that fit into one call.
fn next_call(columns: &[Texts<'_>], from: usize, all: usize) -> Range<usize> {
    let (mut end, mut bytes) = (from, 0);
    while end < all && end - from < CALL_ROWS_MAX {
        let texts = columns.iter().filter_map(|column| column.text(end));
        bytes += texts.map(str::len).sum::<usize>();
        bytes += size_of::<i32>() * columns.len();
        if bytes > CALL_TEXT_BYTES_MAX && end > from {
            break;
        }
        end += 1;
    }
    from..end
}

/// An Arrow stream of these columns.
fn encode(
    names: &[String],
    columns: &[Texts<'_>],
    rows: Range<usize>,
) -> Result<Bytes, ArrowError> {
    let arrays = columns.iter().map(|column| {
        let texts = rows.clone().map(|row| column.text(row));
        Arc::new(StringArray::from_iter(texts)) as ArrayRef
    });
    let batch = RecordBatch::try_from_iter_with_nullable(
        names
            .iter()
            .zip(arrays)
            .map(|(name, array)| (name, array, true)),
    )?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}

/// What a refusal says of a row of the call, told of the rows that were to be bound.
fn at_row(from: usize, error: SourceError) -> BindError {
    if let SourceError::Refused { code, message } = &error
        && let Some((row, rest)) = message
            .strip_prefix("Row ")
            .and_then(|rest| rest.split_once(": "))
        && let Ok(row) = row.parse::<usize>()
    {
        return BindError::Row {
            at: from.saturating_add(row),
            code: code.clone(),
            message: rest.to_owned(),
        };
    }
    error.into()
}

#[cfg(test)]
mod tests;
