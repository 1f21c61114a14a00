//! A wrapped key for each row, minted for it and bound to its context.

use crate::api::Resources;
use crate::api::attempt::Attempt;
use crate::api::usability::material;
use crate::api::{Api, ApiError};
use crate::columns::ContextPairs;
use crate::context::ContextRuns;
use crate::envelope::{self, blob_bytes};
use crate::key::data_key::DataKeyLength;
use crate::keystore::KeyEntry;
use crate::rates::Paid;
use crate::stream::chunk::{CHUNK_CONTEXT_BYTES_MAX, OutputChunk};
use crate::stream::data_keys::{ACTION, data_key_material};
use crate::stream::output::{BlobColumns, Projection};
use crate::stream::pinned_key::PinnedKey;
use crate::stream::query::Query;
use crate::stream::transform::{Advance, Cursor, Progress, Transform};
use arrow_array::{BinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;

/// Mints and binds.
pub(super) struct Minter {
    key: PinnedKey,
    length: DataKeyLength,
    pairs: ContextPairs,
    /// Of the context's columns.
    places: Vec<usize>,
    kept: Projection,
    added: BlobColumns,
}

/// The contexts of the rows of one chunk, and why the row after them can have none, if so.
#[derive(Default)]
struct Contexts {
    runs: ContextRuns,
    defect: Option<ApiError>,
}

impl Minter {
    /// What the query asks for; and the same for the audit log.
    pub(super) fn from_query(query: Query) -> Result<(Self, Vec<u8>), ApiError> {
        let (key_id, length, record) = query.data_keys()?;
        let transform = Self {
            key: PinnedKey::new(key_id),
            length,
            pairs: query.pairs,
            places: Vec::new(),
            kept: Projection::default(),
            added: BlobColumns::default(),
        };
        Ok((transform, record))
    }

    fn contexts(
        &self,
        cursor: &Cursor<'_>,
        batch: &RecordBatch,
        most: usize,
    ) -> Result<Contexts, ApiError> {
        let rows = self.pairs.rows(batch, &self.places)?;
        let mut contexts = Contexts::default();
        for row in 0..most {
            // The rest of the rows is the next chunk.
            if contexts.runs.bytes() > CHUNK_CONTEXT_BYTES_MAX {
                break;
            }
            if let Err(error) = rows.push_context(row, &mut contexts.runs) {
                // Reported only after the rows before it were authorized.
                contexts.defect = Some(cursor.at_row(row, error.into()));
                break;
            }
        }
        Ok(contexts)
    }

    /// Whether the principal may use the key for each of these contexts, both in their present
    /// state.
    fn authorize(
        &mut self,
        cursor: &Cursor<'_>,
        under: &Attempt<'_>,
        runs: &ContextRuns,
    ) -> Result<Arc<KeyEntry>, ApiError> {
        let caller = under.caller(ACTION);
        let snapshot = under.snapshot;
        let (mut row, mut found) = (0, None);
        for (context, rows) in runs.iter() {
            let context = context.to_context();
            let caller = caller.under(&context);
            let at_row = |error| cursor.at_row(row, error);
            let is_first = found.is_none();
            let entry = match found.take() {
                Some(entry) => entry,
                None => Arc::clone(self.key.entry(caller, snapshot).map_err(at_row)?),
            };
            let allowed = self.key.authorize(caller, &entry, snapshot);
            let reads_context = allowed.map_err(at_row)?;
            if is_first {
                data_key_material(&entry).map_err(at_row)?;
            }
            found = Some(entry);
            row += rows;
            // Decided once for all rows.
            if !reads_context {
                break;
            }
        }
        found.ok_or_else(|| ApiError::internal("a chunk without rows"))
    }
}

impl Transform for Minter {
    fn begin(&mut self, schema: &Schema) -> Result<SchemaRef, ApiError> {
        self.places = self.pairs.places(schema)?;
        self.kept = Projection::new(schema, &[], &BlobColumns::NAMES)?;
        Ok(self.kept.and(schema, BlobColumns::fields()))
    }

    fn chunk(&mut self, cursor: &Cursor<'_>, rows: &RecordBatch, paid: &mut Paid) -> Advance {
        // The rates of the key decide how many rows the chunk has.
        let key = {
            let snapshot = cursor.api.keystore.snapshot();
            let under = cursor
                .api
                .attempt(cursor.requester, &snapshot)
                .map_err(|error| cursor.at_row(0, error))?;
            self.key.id(&under, ACTION)
        };
        let mut contexts = self.contexts(cursor, rows, cursor.most(key, rows.num_rows()))?;
        let count = contexts.runs.rows();
        if count == 0 {
            let defect = contexts.defect.take();
            return Err(defect.unwrap_or_else(|| ApiError::internal("a chunk without rows")));
        }
        // The last check may run the closure again, so it begins with no blobs.
        let (mut blobs, mut names_its_row) = (Vec::new(), false);
        let outcome = cursor
            .api
            .under_last_check(cursor.requester, |under| {
                blobs.clear();
                let entry = self
                    .authorize(cursor, under, &contexts.runs)
                    // A row without a context is refused after the rows before it were authorized.
                    .and_then(|entry| contexts.defect.take().map_or(Ok(entry), Err))
                    .inspect_err(|_| names_its_row = true)?;
                match cursor.take(under, [Some(entry.key.regional_id())], count, paid) {
                    Ok(()) => {
                        let (id, entropy) = (entry.key.id, &cursor.api.entropy);
                        let (material, runs) = (material(&entry)?, contexts.runs.iter());
                        envelope::mint_rows(id, material, self.length, entropy, runs, &mut blobs)?;
                        Ok(Ok(entry))
                    }
                    Err(exceeded) => Ok(Err(exceeded)),
                }
            })
            .map_err(|error| {
                if names_its_row {
                    error
                } else {
                    cursor.at_row(0, error)
                }
            })?;
        let entry = match outcome {
            Ok(entry) => entry,
            Err(exceeded) => return Ok(Progress::Throttled(count, exceeded)),
        };
        // The user's columns, then the columns of the blobs.
        let mut columns = self.kept.columns(&rows.slice(0, count));
        let offsets = OffsetBuffer::from_repeated_length(blob_bytes(self.length), count);
        let blobs = Buffer::from_vec(blobs);
        let column =
            BinaryArray::try_new(offsets, blobs.clone(), None).map_err(ApiError::internal)?;
        columns.extend(self.added.of(&entry, column)?);
        Ok(Progress::Done(Box::new(OutputChunk {
            rows: count,
            columns,
            blobs,
            resources: Resources {
                material: Some(material(&entry)?.id()),
                key: Some(entry),
                ..Resources::default()
            },
            refusal: None,
        })))
    }

    fn count(&self, api: &Api, rows: u64) {
        api.counters.bind.count(self.length, rows);
    }
}
