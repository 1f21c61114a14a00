//! Opens each row's blob without returning the key. A column beside the row says why a blob does
//! not open.
//!
//! Each row is authorized as `Decrypt` would be: `kms:Decrypt` on the key that the blob names,
//! under the row's context. A refused row does not end the stream: its place in the answer has the
//! reason, and the audit log has the first refusal of each chunk.

use crate::api::Resources;
use crate::api::admission::check_key;
use crate::api::attempt::Attempt;
use crate::api::blob_key::{self, KeyOfBlob};
use crate::api::cipher::SYMMETRIC_DEFAULT;
use crate::api::decrypt::{self, Sealed};
use crate::api::members::Members;
use crate::api::{ApiError, ErrorCode};
use crate::columns::ContextSource;
use crate::envelope::AnyBlob;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::policy::ConditionKey;
use crate::rates::Paid;
use crate::stream::chunk::OutputChunk;
use crate::stream::output::Projection;
use crate::stream::query::{Query, shown};
use crate::stream::sealed_rows::{BLOB, Row, SealedRows, check_columns, own_cipher};
use crate::stream::transform::{Advance, Cursor, Progress, Transform};
use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde_json::json;
use std::sync::Arc;

const ACTION: Action = Action::Decrypt;
const MEMBERS: [(ConditionKey, &str); 1] = [(ConditionKey::EncryptionAlgorithm, SYMMETRIC_DEFAULT)];
/// The column that is added: null where a row's blob opens.
const REFUSAL: &str = "refusal";

/// Opens.
pub(super) struct Verifier {
    contexts: ContextSource,
    kept: Projection,
}

/// Of each row why it does not open, or the key that it does under.
type Opened = Vec<Result<Arc<KeyEntry>, ApiError>>;

impl Verifier {
    /// What the query asks for; and the same for the audit log.
    pub(super) fn from_query(query: Query) -> Result<(Self, Vec<u8>), ApiError> {
        let contexts = query.contexts()?;
        let (columns, constants) = shown(&contexts);
        let record = json!({"ContextColumns": columns, "EncryptionContext": constants});
        let transform = Self {
            contexts,
            kept: Projection::default(),
        };
        Ok((transform, record.to_string().into_bytes()))
    }
}

/// Takes what the limits ask for, then opens every row that the caller may open.
fn open(
    cursor: &Cursor<'_>,
    under: &Attempt<'_>,
    sealed_rows: &SealedRows<'_>,
    paid: &mut Paid,
) -> Result<Result<Opened, Progress>, ApiError> {
    let count = sealed_rows.rows.len();
    if let Err(exceeded) = cursor.take(under, [sealed_rows.key], count, paid) {
        return Ok(Err(Progress::Throttled(count, exceeded)));
    }
    // The key, once it is decided for all contexts: it is the same for every row.
    let mut decided = None;
    let mut opened = Opened::with_capacity(count);
    for row in &sealed_rows.rows {
        opened.push(match row {
            Ok(row) => open_row(cursor, under, row, &mut decided),
            Err(error) => Err(ApiError::new(error.code(), error.message().to_owned())),
        });
    }
    let is_ours = |error: &ApiError| error.code() == ErrorCode::KMSInternalException;
    match opened
        .iter()
        .position(|row| row.as_ref().is_err_and(is_ours))
    {
        None => Ok(Ok(opened)),
        Some(at) => match opened.into_iter().nth(at) {
            Some(Err(error)) => Err(cursor.at_row(at, error)),
            _ => Err(ApiError::internal("a row that failed is gone")),
        },
    }
}

fn open_row<'a>(
    cursor: &Cursor<'_>,
    under: &'a Attempt<'_>,
    row: &'a Row<'_>,
    decided: &mut Option<&'a Arc<KeyEntry>>,
) -> Result<Arc<KeyEntry>, ApiError> {
    let blob = AnyBlob::parse(row.blob).ok();
    let entry = match (*decided, &blob) {
        (Some(entry), Some(_)) => entry,
        _ => {
            let caller = under
                .caller(ACTION)
                .under(&row.context)
                .with(Members::Texts(&MEMBERS));
            let of_blob = KeyOfBlob {
                blob: blob.as_ref(),
                named: None,
            };
            let request = blob_key::authorize(caller, of_blob, under.snapshot)?;
            let entry = request.request().entry();
            *decided = (!request.reads_context()).then_some(entry);
            entry
        }
    };
    check_key(entry, ACTION)?;
    let cipher = own_cipher(entry, &row.context)?;
    let (sealed, entropy) = (Sealed::Blob(blob), &cursor.api.entropy);
    decrypt::open(entry, &cipher, &row.context, &sealed, entropy)?;
    Ok(Arc::clone(entry))
}

impl Transform for Verifier {
    fn begin(&mut self, schema: &Schema) -> Result<SchemaRef, ApiError> {
        check_columns(schema, [&self.contexts])?;
        self.kept = Projection::new(schema, &[BLOB, REFUSAL], &[REFUSAL])?;
        let added = [Field::new(REFUSAL, DataType::Utf8, true)];
        Ok(self.kept.and(schema, added))
    }

    fn chunk(&mut self, cursor: &Cursor<'_>, rows: &RecordBatch, paid: &mut Paid) -> Advance {
        let sealed_rows = SealedRows::of(cursor, rows, &self.contexts, None)?;
        let outcome = cursor
            .api
            .under_last_check(cursor.requester, |under| {
                open(cursor, under, &sealed_rows, paid)
            })
            .map_err(|error| cursor.at_row(0, error))?;
        let opened = match outcome {
            Ok(opened) => opened,
            Err(wait) => return Ok(wait),
        };
        let count = opened.len();
        // A row that opens has a null in the column of refusals; the first refusal is recorded.
        let (mut refusals, mut blobs) = (StringBuilder::new(), Vec::new());
        let (mut refusal, mut key) = (None, None);
        for (at, (opened, row)) in opened.into_iter().zip(&sealed_rows.rows).enumerate() {
            if let Ok(row) = row {
                blobs.extend_from_slice(row.blob);
            }
            match opened {
                Ok(entry) => {
                    refusals.append_null();
                    key.get_or_insert(entry);
                }
                Err(error) => {
                    refusals.append_value(told(&error));
                    refusal.get_or_insert_with(|| cursor.at_row(at, error));
                }
            }
        }
        let mut columns = self.kept.columns(&rows.slice(0, count));
        let refusals: ArrayRef = Arc::new(refusals.finish());
        columns.push(refusals);
        Ok(Progress::Done(Box::new(OutputChunk {
            rows: count,
            columns,
            blobs: Buffer::from_vec(blobs),
            resources: Resources {
                key,
                ..Resources::default()
            },
            refusal,
        })))
    }
}

/// A refusal as its row has it.
fn told(error: &ApiError) -> String {
    match error.message() {
        "" => error.code().name().to_owned(),
        message => format!("{}: {message}", error.code().name()),
    }
}
