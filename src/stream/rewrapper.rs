//! Each row's blob opened and sealed anew: under another key, another generation of its key, or
//! another context. Its plaintext leaves no chunk.
//!
//! As `ReEncrypt` for each row: `kms:ReEncryptFrom` on the key that the blob names, under the row's
//! context, and `kms:ReEncryptTo` on the destination under the context to come.

use crate::api::ApiError;
use crate::api::Resources;
use crate::api::admission::check_key;
use crate::api::attempt::Attempt;
use crate::api::blob_key::{self, KeyOfBlob};
use crate::api::cipher::SYMMETRIC_DEFAULT;
use crate::api::decrypt::{self, Sealed};
use crate::api::members::Members;
use crate::columns::ContextSource;
use crate::envelope::AnyBlob;
use crate::key::regions::RegionalId;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::rates::Paid;
use crate::stream::chunk::OutputChunk;
use crate::stream::output::{BlobColumns, Projection};
use crate::stream::pinned_key::PinnedKey;
use crate::stream::query::{Query, shown};
use crate::stream::sealed_rows::{Row, SealedRows, check_columns, own_cipher};
use crate::stream::transform::{Advance, Cursor, Progress, Transform};
use arrow_array::RecordBatch;
use arrow_array::builder::BinaryBuilder;
use arrow_schema::{Schema, SchemaRef};
use serde_json::json;
use std::sync::Arc;

const FROM: Action = Action::ReEncryptFrom;
const TO: Action = Action::ReEncryptTo;

/// Opens and seals.
pub(super) struct Rewrapper {
    key: PinnedKey,
    contexts: ContextSource,
    new_contexts: Option<ContextSource>,
    kept: Projection,
    added: BlobColumns,
}

/// The two keys of a chunk.
struct Keys {
    source: Arc<KeyEntry>,
    destination: Arc<KeyEntry>,
}

impl Rewrapper {
    /// What the query asks for; and the same for the audit log.
    pub(super) fn from_query(query: Query) -> Result<(Self, Vec<u8>), ApiError> {
        let key_id = query.destination()?;
        let (contexts, new_contexts) = (query.contexts()?, query.new_contexts()?);
        let (columns, constants) = shown(&contexts);
        let (new_columns, new_constants) = new_contexts.as_ref().map(shown).unzip();
        let record = json!({
            "DestinationKeyId": key_id,
            "ContextColumns": columns,
            "SourceEncryptionContext": constants,
            "DestinationContextColumns": new_columns,
            "DestinationEncryptionContext": new_constants,
        });
        let transform = Self {
            key: PinnedKey::new(key_id),
            contexts,
            new_contexts,
            kept: Projection::default(),
            added: BlobColumns::default(),
        };
        Ok((transform, record.to_string().into_bytes()))
    }

    /// Authorizes every row, takes what the limits ask for, then opens and seals.
    fn seal(
        &mut self,
        cursor: &Cursor<'_>,
        under: &Attempt<'_>,
        key: Option<RegionalId>,
        sound: &[Row<'_>],
        paid: &mut Paid,
    ) -> Result<Result<(Keys, BinaryBuilder), Progress>, ApiError> {
        let snapshot = under.snapshot;
        let destination_id = self.key.id(under, TO);
        let members = Members::SameKey(
            destination_id.is_some() && destination_id == key,
            SYMMETRIC_DEFAULT,
        );
        let mut rows = Vec::with_capacity(sound.len());
        // The keys, once it is decided for all contexts: they are the same for every row.
        let mut decided: Option<(&Arc<KeyEntry>, &Arc<KeyEntry>)> = None;
        for (at, row) in sound.iter().enumerate() {
            let at_row = |error| cursor.at_row(at, error);
            let blob = AnyBlob::parse(row.blob).ok();
            let (source, destination) = match (decided, &blob) {
                (Some(keys), Some(_)) => keys,
                _ => {
                    let from = under.caller(FROM).under(&row.context).with(members);
                    let to = under.caller(TO).under(row.destination()).with(members);
                    let of_blob = KeyOfBlob {
                        blob: blob.as_ref(),
                        named: None,
                    };
                    let source = blob_key::authorize(from, of_blob, snapshot).map_err(at_row)?;
                    let destination = self.key.entry(to, snapshot).map_err(at_row)?;
                    let allowed = self.key.authorize(to, destination, snapshot);
                    let reads_context = allowed.map_err(at_row)? || source.reads_context();
                    let keys = (source.request().entry(), destination);
                    decided = (!reads_context).then_some(keys);
                    keys
                }
            };
            let cipher = |entry, action, context| {
                check_key(entry, action)?;
                own_cipher(entry, context)
            };
            let opening = cipher(source, FROM, &row.context).map_err(at_row)?;
            let sealing = cipher(destination, TO, row.destination()).map_err(at_row)?;
            let sealed = Sealed::Blob(blob);
            rows.push((source, destination, opening, sealing, sealed));
        }
        let count = rows.len();
        let Some((source, destination, ..)) = rows.first() else {
            return Err(ApiError::internal("a chunk without rows"));
        };
        let keys = Keys {
            source: Arc::clone(source),
            destination: Arc::clone(destination),
        };
        let charged = [source, destination].map(|entry| Some(entry.key.regional_id()));
        if let Err(exceeded) = cursor.take(under, charged, count, paid) {
            return Ok(Err(Progress::Throttled(count, exceeded)));
        }
        let mut blobs = BinaryBuilder::new();
        for (at, (prepared, row)) in rows.iter().zip(sound).enumerate() {
            let (source, destination, opening, sealing, sealed) = prepared;
            let (context, entropy) = (row.destination(), &cursor.api.entropy);
            let opened = decrypt::open(source, opening, &row.context, sealed, entropy);
            let (_, plaintext) = opened.map_err(|error| cursor.at_row(at, error))?;
            let blob = sealing.encrypt(destination, context, plaintext.expose(), entropy)?;
            blobs.append_value(blob);
        }
        Ok(Ok((keys, blobs)))
    }
}

impl Transform for Rewrapper {
    fn begin(&mut self, schema: &Schema) -> Result<SchemaRef, ApiError> {
        let contexts = [&self.contexts].into_iter().chain(&self.new_contexts);
        check_columns(schema, contexts)?;
        self.kept = Projection::new(schema, &BlobColumns::NAMES, &BlobColumns::NAMES)?;
        Ok(self.kept.and(schema, BlobColumns::fields()))
    }

    fn chunk(&mut self, cursor: &Cursor<'_>, rows: &RecordBatch, paid: &mut Paid) -> Advance {
        let (contexts, new_contexts) = (self.contexts.clone(), self.new_contexts.clone());
        let SealedRows { key, rows: read } =
            SealedRows::of(cursor, rows, &contexts, new_contexts.as_ref())?;
        // A row that cannot be read ends the stream: no row may be left under the old key.
        let read = read.into_iter().enumerate();
        let sound = read
            .map(|(at, row)| row.map_err(|error| cursor.at_row(at, error)))
            .collect::<Result<Vec<_>, ApiError>>()?;
        let outcome = cursor.api.under_last_check(cursor.requester, |under| {
            self.seal(cursor, under, key, &sound, paid)
        })?;
        let (
            Keys {
                source,
                destination,
            },
            mut blobs,
        ) = match outcome {
            Ok(sealed) => sealed,
            Err(wait) => return Ok(wait),
        };
        let (count, blobs) = (sound.len(), blobs.finish());
        let mut columns = self.kept.columns(&rows.slice(0, count));
        let bytes = blobs.values().clone();
        columns.extend(self.added.of(&destination, blobs)?);
        Ok(Progress::Done(Box::new(OutputChunk {
            rows: count,
            columns,
            blobs: bytes,
            resources: Resources {
                material: destination.current().map(|material| material.id()),
                // The record names a second key only where the blobs moved.
                destination: (source.key.regional_id() != destination.key.regional_id())
                    .then_some(destination),
                key: Some(source),
                ..Resources::default()
            },
            refusal: None,
        })))
    }
}
