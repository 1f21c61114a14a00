//! Rows that have blobs: what each is bound to, and what it is to be bound to.

use crate::api::cipher::{Cipher, SYMMETRIC_DEFAULT};
use crate::api::usability::in_key_store;
use crate::api::{ApiError, ErrorCode};
use crate::columns::Blobs;
use crate::columns::ContextSource;
use crate::columns::shown::kind;
use crate::context::EncryptionContext;
use crate::envelope::AnyBlob;
use crate::key::regions::RegionalId;
use crate::keystore::KeyEntry;
use crate::stream::chunk::CHUNK_CONTEXT_BYTES_MAX;
use crate::stream::transform::Cursor;
use arrow_array::RecordBatch;
use arrow_schema::Schema;

/// The column of blobs.
pub(super) const BLOB: &str = "ciphertext_blob";

/// One row.
pub(super) struct Row<'a> {
    pub(super) blob: &'a [u8],
    pub(super) context: EncryptionContext,
    /// `None` is the same.
    new_context: Option<EncryptionContext>,
}

impl Row<'_> {
    /// What the blob is to be bound to.
    pub(super) fn destination(&self) -> &EncryptionContext {
        self.new_context.as_ref().unwrap_or(&self.context)
    }
}

/// The rows of one chunk: those from the first on whose blobs name the same key, as far as they
/// name one.
pub(super) struct SealedRows<'a> {
    pub(super) key: Option<RegionalId>,
    /// Or why it cannot be one.
    pub(super) rows: Vec<Result<Row<'a>, ApiError>>,
}

impl<'a> SealedRows<'a> {
    /// At least one of these, unless there are none.
    pub(super) fn of(
        cursor: &Cursor<'_>,
        batch: &'a RecordBatch,
        contexts: &ContextSource,
        new_contexts: Option<&ContextSource>,
    ) -> Result<Self, ApiError> {
        let gone = || ApiError::internal("a column that was there is gone");
        let blobs = batch
            .column_by_name(BLOB)
            .and_then(Blobs::of)
            .ok_or_else(gone)?;
        let old = contexts.of(batch).map_err(invalid)?;
        let new = new_contexts
            .map(|source| source.of(batch))
            .transpose()
            .map_err(invalid)?;
        let (mut key, mut bytes) = (None, 0);
        let mut most = batch.num_rows();
        let mut rows = Vec::with_capacity(most);
        let mut at = 0;
        while at < most {
            let blob = blobs.get(at);
            let parsed = blob.and_then(|blob| AnyBlob::parse(blob).ok());
            // A chunk is under one key: a row of another key begins the next chunk.
            let named = parsed.map(|parsed| RegionalId {
                id: parsed.header().key_id,
                region: cursor.requester.region,
            });
            if let Some(of_row) = named {
                if *key.get_or_insert(of_row) != of_row {
                    break;
                }
                most = cursor.most(key, most).max(1);
            }
            // A row that cannot be read keeps its place: the caller decides whether it ends the
            // stream.
            let read = || {
                let blob = blob.ok_or_else(|| invalid(format!("Column {BLOB:?} is null.")))?;
                let new_context = new.as_ref().map(|new| new.of(at)).transpose();
                Ok(Row {
                    blob,
                    context: old.of(at).map_err(invalid)?,
                    new_context: new_context.map_err(invalid)?,
                })
            };
            let row = read();
            bytes += row.as_ref().map_or(0, |row| {
                row.context.canonical().len() + row.destination().canonical().len()
            });
            // Contexts are held while the chunk is made, so their bytes bound it too.
            if bytes > CHUNK_CONTEXT_BYTES_MAX && !rows.is_empty() {
                break;
            }
            rows.push(row);
            at += 1;
        }
        Ok(Self { key, rows })
    }
}

/// How a key encrypts and decrypts the blobs of rows. A key in an external key store does not: each
/// of its blobs takes a call of its proxy.
pub(super) fn own_cipher<'a>(
    entry: &'a KeyEntry,
    context: &EncryptionContext,
) -> Result<Cipher<'a>, ApiError> {
    match Cipher::of(entry, SYMMETRIC_DEFAULT, context)? {
        Cipher::External(_) => Err(in_key_store(entry)),
        cipher => Ok(cipher),
    }
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

/// Refuses a stream without a column of blobs, or without the columns of one of these contexts.
pub(super) fn check_columns<'a>(
    schema: &Schema,
    contexts: impl IntoIterator<Item = &'a ContextSource>,
) -> Result<(), ApiError> {
    let mut named = schema.fields().iter().filter(|field| field.name() == BLOB);
    match (named.next(), named.next()) {
        (Some(field), None) if Blobs::are(field.data_type()) => {}
        (Some(field), None) => {
            let kind = kind(field.data_type());
            let message = format!("Column {BLOB:?} is of type {kind}, and blobs are binary.");
            return Err(invalid(message));
        }
        (None, _) => return Err(invalid(format!("There is no column {BLOB:?}."))),
        (Some(_), Some(_)) => {
            return Err(invalid(format!("There are several columns {BLOB:?}.")));
        }
    }
    let mut contexts = contexts.into_iter();
    contexts.try_for_each(|source| source.check(schema).map_err(invalid))
}
