//! Rows bound by a running daemon, with the caller's rights: a call of the bind endpoint for each
//! few thousand rows.
//!
//! Only the columns that contexts are made of are sent.

use crate::bulk::stream::{self, CALL_BYTES_MAX, CALL_ROWS_MAX, Stream, encoded};
use crate::bulk::{Client, KeyIdentity, SourceError};
use crate::columns::{ContextPairs, Texts, names};
use crate::envelope::blob_bytes;
use crate::key::data_key::DataKeyLength;
use crate::provision::binder::{BindError, Binder, Binders, Contexts};
use crate::stream::Purpose;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use std::ops::Range;
use std::sync::Arc;

/// Blobs from a daemon.
#[derive(Clone)]
pub struct Remote {
    /// Calls the daemon.
    pub client: Client,
    /// The key as the caller names it.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// What contexts are made of.
    pub pairs: ContextPairs,
}

impl Binders for Remote {
    type Binder = RemoteBinder;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn binder(&self) -> Result<RemoteBinder, SourceError> {
        Ok(RemoteBinder {
            stream: Stream::new(&self.client, Purpose::Bind, &self.query())?,
            columns: self.pairs.columns.clone(),
            blob_bytes: blob_bytes(self.length),
        })
    }
}

impl Remote {
    fn query(&self) -> String {
        let length = match self.length {
            DataKeyLength::AES_256 => "spec=AES_256".to_owned(),
            DataKeyLength::AES_128 => "spec=AES_128".to_owned(),
            length => format!("bytes={}", length.bytes()),
        };
        let columns = encoded(&names::list(&self.pairs.columns));
        let pairs: String = self
            .pairs
            .constants
            .iter()
            .map(|(name, value)| format!("&constant={}", encoded(&format!("{name}={value}"))))
            .collect();
        format!(
            "key={}&{length}&context={columns}{pairs}",
            encoded(&self.key)
        )
    }
}

/// Binds over one connection.
pub struct RemoteBinder {
    stream: Stream,
    columns: Vec<String>,
    blob_bytes: usize,
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
            let of_call = self
                .call(columns, rows, out)
                .map_err(|error| at_row(from, error))?;
            if *key.get_or_insert_with(|| of_call.clone()) != of_call {
                return Err(SourceError::MaterialChanged.into());
            }
            from = end;
        }
        let none = || self.stream.client().answered("no rows");
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
        let rows = batch(&self.columns, columns, rows)
            .map_err(|error| self.stream.client().broken(&error))?;
        let answer = self.stream.call(&rows, self.blob_bytes)?;
        let bytes = Some(self.blob_bytes);
        let take = |blob: &[u8]| out.extend_from_slice(blob);
        stream::blobs(self.stream.client(), &answer, bytes, take)
    }
}

/// The rows from `from` on that fit into one call.
fn next_call(columns: &[Texts<'_>], from: usize, all: usize) -> Range<usize> {
    let (mut end, mut bytes) = (from, 0);
    while end < all && end - from < CALL_ROWS_MAX {
        let texts = columns.iter().filter_map(|column| column.text(end));
        bytes += texts.map(str::len).sum::<usize>();
        bytes += size_of::<i32>() * columns.len();
        if bytes > CALL_BYTES_MAX && end > from {
            break;
        }
        end += 1;
    }
    from..end
}

/// A record batch of these columns.
fn batch(
    names: &[String],
    columns: &[Texts<'_>],
    rows: Range<usize>,
) -> Result<RecordBatch, ArrowError> {
    let arrays = columns.iter().map(|column| {
        let texts = rows.clone().map(|row| column.text(row));
        Arc::new(StringArray::from_iter(texts)) as ArrayRef
    });
    let columns = names.iter().zip(arrays);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
}

/// The error for a refusal: it names a row of the call, and the error names the row among all that
/// were to be bound.
fn at_row(from: usize, error: SourceError) -> BindError {
    match stream::refused_row(error) {
        Ok((row, code, message)) => BindError::Row {
            at: from.saturating_add(row),
            code,
            message,
        },
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests;
