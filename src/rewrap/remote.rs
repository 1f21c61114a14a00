//! Blobs opened and sealed by a running daemon, with the caller's rights: a call of the rewrap
//! endpoint for each few thousand rows.
//!
//! Blobs and contexts are sent, and nothing else of the table.

use crate::bulk::parquet::properties::{ContextsBuilder, column};
use crate::bulk::stream::{self, CALL_BYTES_MAX, CALL_ROWS_MAX, Stream, encoded};
use crate::bulk::{Client, KeyIdentity, SourceError};
use crate::context::EncryptionContext;
use crate::envelope::blob::{OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use crate::rewrap::sealer::{Row, SealError, Sealer, Sealers};
use crate::stream::Purpose;
use arrow_array::builder::BinaryBuilder;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_schema::ArrowError;
use std::sync::Arc;

/// Bytes of a blob at most.
const BLOB_BYTES_MAX: usize = OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX;
/// The column of the contexts to come.
const NEW_CONTEXT: &str = "new_encryption_context";

/// A daemon that rewraps.
pub struct Remote {
    /// Calls the daemon.
    pub client: Client,
    /// The destination as the caller names it.
    pub key: String,
    /// Whether blobs are bound to another context than before.
    pub has_new_context: bool,
}

impl Sealers for Remote {
    type Sealer = RemoteSealer;

    fn key_arn(&self) -> Option<&str> {
        None
    }

    fn sealer(&self) -> Result<RemoteSealer, SourceError> {
        let mut query = format!("key={}", encoded(&self.key));
        if self.has_new_context {
            query.push_str("&new-map=");
            query.push_str(NEW_CONTEXT);
        }
        Ok(RemoteSealer(Stream::new(
            &self.client,
            Purpose::Rewrap,
            &query,
        )?))
    }
}

/// Seals over one connection.
pub struct RemoteSealer(Stream);

impl Sealer for RemoteSealer {
    fn begin(&mut self, _rows: u64) {}

    fn seal(
        &mut self,
        rows: &[Row<'_>],
        out: &mut BinaryBuilder,
    ) -> Result<KeyIdentity, SealError> {
        let mut key: Option<KeyIdentity> = None;
        let mut from = 0;
        while from < rows.len() {
            let sizes = rows[from..].iter().map(|row| {
                let contexts = std::iter::once(&row.context).chain(&row.new_context);
                row.blob.len()
                    + contexts
                        .map(|context| context.canonical().len())
                        .sum::<usize>()
            });
            // As many rows as fit into the body of one signed call.
            let end = from + next_call(sizes);
            let of_call = self.call(&rows[from..end], out).map_err(|error| {
                match stream::refused_row(error) {
                    Ok((row, code, message)) => SealError::Row {
                        at: from + row,
                        code,
                        message,
                    },
                    Err(error) => error.into(),
                }
            })?;
            // All rows of a part are under one generation.
            if *key.get_or_insert_with(|| of_call.clone()) != of_call {
                return Err(SourceError::MaterialChanged.into());
            }
            from = end;
        }
        let none = || self.0.client().answered("no rows");
        Ok(key.ok_or_else(none)?)
    }

    fn end(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}

impl RemoteSealer {
    fn call(
        &mut self,
        rows: &[Row<'_>],
        out: &mut BinaryBuilder,
    ) -> Result<KeyIdentity, SourceError> {
        let blobs = rows.iter().map(|row| row.blob);
        let contexts = rows.iter().map(|row| &row.context);
        let new: Option<Vec<_>> = rows.iter().map(|row| row.new_context.as_ref()).collect();
        let batch = batch(blobs, contexts, new).map_err(|error| self.0.client().broken(&error))?;
        let answer = self.0.call(&batch, BLOB_BYTES_MAX)?;
        stream::blobs(self.0.client(), &answer, None, |blob| {
            out.append_value(blob)
        })
    }
}

/// How many rows of these sizes fit into one call, at least one.
pub fn next_call(sizes: impl Iterator<Item = usize>) -> usize {
    let mut all = 0;
    let fitting = sizes.take(CALL_ROWS_MAX).take_while(|bytes| {
        // The lengths of a blob, of a map, and of two texts or so.
        all += bytes + 4 * size_of::<i32>();
        all <= CALL_BYTES_MAX
    });
    fitting.count().max(1)
}

/// A record batch of blobs, their contexts, and those to come.
///
/// # Errors
/// [`ArrowError`], when there is more than fits into one.
pub fn batch<'a>(
    blobs: impl Iterator<Item = &'a [u8]>,
    contexts: impl Iterator<Item = &'a EncryptionContext>,
    new: Option<Vec<&'a EncryptionContext>>,
) -> Result<RecordBatch, ArrowError> {
    let maps = |contexts: &mut dyn Iterator<Item = &'a EncryptionContext>| {
        let mut maps = ContextsBuilder::default();
        for context in contexts {
            maps.append(context.pairs())?;
        }
        Ok::<_, ArrowError>(maps.finish())
    };
    let blobs: ArrayRef = Arc::new(BinaryArray::from_iter_values(blobs));
    let mut columns = vec![
        (column::CIPHERTEXT_BLOB, blobs),
        (column::ENCRYPTION_CONTEXT, maps(&mut { contexts })?),
    ];
    if let Some(new) = new {
        columns.push((NEW_CONTEXT, maps(&mut new.into_iter())?));
    }
    RecordBatch::try_from_iter(columns)
}
