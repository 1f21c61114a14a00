//! `POST /v1/data-keys/bind`: a stream of containers in, the same stream with a wrapped key for each row out.
//!
//! ```text
//! bytes ─► messages ─► containers ─► columns ─► authorize each ─► mint, bind ─► record ─► the same rows
//!           bounded     decoded      contexts    row, anew for     in an epoch    and     and three columns
//!                                                every chunk       of its own    digest
//! ```
//!
//! Every row is bound to its own encryption context, and authorized with it as a single call would be. Every chunk is authorized, minted and checked anew (POOL-4, POOL-5), as in
//! a batch; what its first refused row is about is told, and nothing of the chunk leaves. Chunks are slices of the record batches that came; a record batch of more rows comes back as several.
//!
//! What is held at a time: one message, one record batch, the dictionaries, and one chunk of the answer; all of them bounded.

use crate::api::batch::{ACTION, DataKeys};
use crate::api::minting::Minting;
use crate::api::trail::{Event, Outcome, Resources};
use crate::api::usability::data_key_material;
use crate::api::{Api, ApiError, Requester, Under};
use crate::audit::{Recorded, RowsDigest};
use crate::context::EncryptionContext;
use crate::envelope::blob_bytes;
use crate::key::KeyId;
use crate::key::arn::AliasName;
use crate::keystore::KeyEntry;
use crate::limit::{Exceeded, Paid, Urgency};
use crate::pool::Stamp;
use answer::Answer;
use arrow_array::RecordBatch;
use asked::Asked;
use bytes::Bytes;
use containers::{Containers, Item};
use messages::Messages;
use std::sync::Arc;

mod answer;
mod asked;
pub mod columns;
mod containers;
mod extents;
mod messages;

/// Where the endpoint is.
pub const PATH: &str = "/v1/data-keys/bind";
/// What it takes and what it answers.
pub const MEDIA_TYPE: &str = "application/vnd.apache.arrow.stream";

/// `eventName` of its audit records: one for each chunk, with the count and the digest of all rows up to its end.
const EVENT: &str = "Bind";
/// Canonical bytes of the contexts of one chunk, past which it ends: dictionaries make long contexts of few bytes.
const CHUNK_CONTEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A stream under way.
pub struct Bind {
    api: Arc<Api>,
    requester: Requester,
    asked: Asked,
    /// From the first row on.
    key: Option<Named>,
    messages: Messages,
    containers: Containers,
    /// From the schema on.
    answer: Option<Answer>,
    batch: Option<Pending>,
    /// All of the body is here.
    is_closed: bool,
    minting: Minting,
    digest: RowsDigest,
    /// Rows handed out.
    rows: u64,
}

/// The key that the name meant when the first row came.
struct Named {
    arn: String,
    /// The alias by which it was asked for, if by one.
    alias: Option<AliasName>,
    id: KeyId,
}

/// A record batch, and how far it has come.
struct Pending {
    batch: RecordBatch,
    /// Rows of it that were handed out.
    from: usize,
    /// The next chunk, while its limits make it wait.
    due: Option<Due>,
}

/// A chunk that is yet to be made.
struct Due {
    rows: usize,
    paid: Paid,
}

/// The rows of one chunk: runs of rows that have the same context, and why the row after them can have none, if so.
#[derive(Default)]
struct Work {
    runs: Vec<(EncryptionContext, usize)>,
    defect: Option<ApiError>,
}

impl Work {
    fn rows(&self) -> usize {
        self.runs.iter().map(|(_, rows)| rows).sum()
    }
}

/// What there is of a stream when it is asked for more.
#[derive(Debug)]
pub enum Step {
    /// Nothing: more of the body is needed.
    Hungry,
    /// A chunk of the answer, which may leave once [`Bind::durable`] has returned.
    Rows(Vec<u8>, Recorded),
    /// The answer's end; with a record if there were no rows.
    End(Vec<u8>, Option<Recorded>),
    /// Nothing yet: a limit has been reached. It is to be asked again after the wait.
    Wait(Exceeded),
}

impl Api {
    /// Begins a stream: the query `key`, `spec` or `bytes`, `context`, `pair`.
    ///
    /// # Errors
    /// [`ApiError`] if the query asks for nothing that there could be. Whether the caller may is decided for each row.
    pub fn bind(self: &Arc<Self>, requester: &Requester, query: &str) -> Result<Bind, ApiError> {
        let asked = Asked::parse(query).inspect_err(|error| {
            let refused = Outcome::Refused(error, None);
            // Where it cannot be kept, nothing leaves all the same.
            let _counted = self.tell(requester, Event::own(EVENT, true, b""), &refused);
        })?;
        Ok(Bind {
            api: Arc::clone(self),
            requester: requester.clone(),
            asked,
            key: None,
            messages: Messages::default(),
            containers: Containers::default(),
            answer: None,
            batch: None,
            is_closed: false,
            minting: Minting::default(),
            digest: RowsDigest::default(),
            rows: 0,
        })
    }
}

impl Bind {
    /// Rows of a chunk at most.
    pub const CHUNK_ROWS: usize = DataKeys::CHUNK_KEYS;

    /// Rows handed out so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether [`Self::step`] has something to do before it needs more of the body.
    #[must_use]
    pub fn is_sated(&self) -> bool {
        self.is_closed || self.batch.is_some() || self.messages.is_complete()
    }

    /// Takes of `input` what it can use before the next [`Self::step`].
    ///
    /// # Errors
    /// [`ApiError`]: this is no Arrow stream, or one beyond the bounds. The stream ends early.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<(), ApiError> {
        let fed = self.messages.push(input);
        fed.map_err(|error| self.end_before_a_row(error))
    }

    /// Notes that the body has come to its end.
    ///
    /// # Errors
    /// [`ApiError`]: the Arrow stream has not.
    pub fn close(&mut self) -> Result<(), ApiError> {
        self.is_closed = true;
        let closed = self.messages.check_end();
        closed.map_err(|error| self.end_before_a_row(error))
    }

    /// Does the next thing: reads a message, or makes a chunk.
    ///
    /// # Errors
    /// [`ApiError`]: the stream ends early, and nothing of the chunk is left.
    pub fn step(&mut self) -> Result<Step, ApiError> {
        loop {
            if let Some(pending) = self.batch.take() {
                let made = self.chunk(pending);
                return made.map_err(|error| self.end(error));
            }
            if let Some(message) = self.messages.take() {
                let read = self.containers.read(&message).and_then(|item| {
                    match item {
                        Item::Schema(schema) => {
                            self.answer = Some(Answer::begin(&schema, &self.asked)?);
                        }
                        Item::Dictionary => {}
                        Item::Rows(batch) => {
                            let pending = Pending {
                                batch,
                                from: 0,
                                due: None,
                            };
                            self.batch = Some(pending).filter(|new| new.batch.num_rows() > 0);
                        }
                    }
                    Ok(())
                });
                read.map_err(|error| self.end_before_a_row(error))?;
            } else if self.is_closed {
                let last = self.last();
                return last.map_err(|error| self.end_before_a_row(error));
            } else {
                return Ok(Step::Hungry);
            }
        }
    }

    /// Records what the stream ends with; returns it.
    pub fn end(&mut self, error: ApiError) -> ApiError {
        let refused = Outcome::Refused(&error, Some(self.digest.batch()));
        let event = Event::own(EVENT, true, &self.asked.record);
        // Where that cannot be kept, nothing more leaves all the same.
        let _counted = self.api.tell(&self.requester, event, &refused);
        error
    }

    /// The same, where no row is at fault.
    pub fn end_before_a_row(&mut self, error: ApiError) -> ApiError {
        let rows = self.rows;
        self.end(error.about(format_args!("After {rows} rows")))
    }

    /// Returns when a chunk may leave.
    ///
    /// # Errors
    /// [`ApiError`]: it must not.
    pub async fn durable(&self, chunk: Recorded) -> Result<(), ApiError> {
        self.api.durable(chunk).await
    }

    /// The refusal of a stream that has waited for long enough.
    pub fn throttled(&mut self, exceeded: Exceeded) -> ApiError {
        let error = self.api.throttled(exceeded);
        self.end_before_a_row(error)
    }

    fn last(&mut self) -> Result<Step, ApiError> {
        let answer = self.answer.take();
        // A stream without a schema.
        let answer = answer.ok_or_else(|| messages::malformed("it has no schema"))?;
        let recorded = match self.rows {
            0 => {
                let batch = Some(self.digest.batch());
                let nothing = Resources::default();
                Some(self.tell(&Outcome::Done(&nothing, batch))?)
            }
            _ => None,
        };
        Ok(Step::End(answer.end()?, recorded))
    }

    fn chunk(&mut self, mut pending: Pending) -> Result<Step, ApiError> {
        let due = pending.due.take();
        let (most, mut paid) = match due {
            Some(due) => (due.rows, due.paid),
            None => {
                let rows = self.next_rows(&pending);
                let rows = rows.map_err(|error| self.at_row(0, error))?;
                (rows, Paid::default())
            }
        };
        let mut work = self.work(&pending, most)?;
        let rows = work.rows();
        if rows == 0 {
            let defect = work.defect.take();
            return Err(defect.unwrap_or_else(|| ApiError::internal("a chunk without rows")));
        }
        let api = Arc::clone(&self.api);
        let requester = self.requester.clone();
        let (mut blobs, mut names_its_row) = (Vec::new(), false);
        let outcome = api.under_last_check(&requester, |under| {
            blobs.clear();
            let entry = self
                .authorize(under, &work.runs)
                .and_then(|entry| work.defect.take().map_or(Ok(entry), Err));
            let entry = entry.inspect_err(|_| names_its_row = true)?;
            let (key, count) = (Some(entry.key.id), rows as u64);
            match api.take(&under.principal, key, count, Urgency::Bulk, &mut paid) {
                Ok(()) => {
                    self.mint_and_bind(under, &entry, &work.runs, &mut blobs)?;
                    Ok(Ok(entry))
                }
                Err(exceeded) => Ok(Err(exceeded)),
            }
        });
        let outcome = outcome.map_err(|error| match names_its_row {
            true => error,
            false => self.at_row(0, error),
        })?;
        let entry = match outcome {
            Ok(entry) => entry,
            Err(exceeded) => {
                pending.due = Some(Due { rows, paid });
                self.batch = Some(pending);
                return Ok(Step::Wait(exceeded));
            }
        };
        let answer = self.answer.as_mut();
        let answer = answer.ok_or_else(|| ApiError::internal("rows before their schema"))?;
        let mut digest = self.digest.clone();
        digest.add(rows as u64, &blobs);
        let bytes = answer.rows(&pending.batch.slice(pending.from, rows), &entry, blobs)?;
        let resources = Resources {
            material: entry.current().map(|material| material.id()),
            key: Some(entry),
            ..Resources::default()
        };
        let batch = Some(digest.batch());
        let recorded = self.tell(&Outcome::Done(&resources, batch))?;
        self.digest = digest;
        self.rows += rows as u64;
        pending.from += rows;
        self.batch = Some(pending).filter(|left| left.from < left.batch.num_rows());
        let counters = &self.api.counters.bind;
        counters.count(self.asked.length, false, rows as u64);
        Ok(Step::Rows(bytes, recorded))
    }

    fn tell(&self, outcome: &Outcome<'_>) -> Result<Recorded, ApiError> {
        let event = Event::own(EVENT, true, &self.asked.record);
        self.api.tell(&self.requester, event, outcome)
    }

    /// Rows of the next chunk at most, less where a limit is in force.
    fn next_rows(&self, pending: &Pending) -> Result<usize, ApiError> {
        let left = pending.batch.num_rows() - pending.from;
        let most = left.min(Self::CHUNK_ROWS);
        let key = match &self.key {
            Some(named) => Some(named.id),
            None => {
                let snapshot = self.api.keystore.snapshot();
                let under = self.api.under(&self.requester, &snapshot)?;
                let caller = under.caller(ACTION);
                caller.key_named(&self.asked.key_id, &snapshot)
            }
        };
        let principal = &self.requester.principal.arn;
        let limits = &self.api.limits;
        Ok(key.map_or(most, |key| limits.bulk_keys(principal, key, most)))
    }

    fn work(&self, pending: &Pending, most: usize) -> Result<Work, ApiError> {
        let batch = pending.batch.slice(pending.from, most);
        let answer = self.answer.as_ref();
        let places = answer.map(Answer::places).unwrap_or_default();
        let rows = self.asked.pairs.rows(&batch, places)?;
        let mut work = Work::default();
        let mut bytes = 0;
        for row in 0..most {
            if row > 0
                && rows.are_alike(row - 1, row)
                && let Some((_, count)) = work.runs.last_mut()
            {
                *count += 1;
                continue;
            }
            match rows.context(row) {
                Ok(context) => {
                    bytes += context.canonical().len();
                    if bytes > CHUNK_CONTEXT_BYTES_MAX {
                        break;
                    }
                    work.runs.push((context, 1));
                }
                Err(error) => {
                    work.defect = Some(self.at_row(row, error));
                    break;
                }
            }
        }
        Ok(work)
    }

    /// Whether the principal, as he is now, may use the key, as it is now, for each of these contexts.
    fn authorize(
        &mut self,
        under: &Under<'_>,
        runs: &[(EncryptionContext, usize)],
    ) -> Result<Arc<KeyEntry>, ApiError> {
        let caller = under.caller(ACTION);
        let snapshot = under.snapshot;
        let mut row = 0;
        let mut found = None;
        for (context, rows) in runs {
            let caller = caller.under(context);
            let at_row = |error| self.at_row(row, error);
            let entry = match (&found, &self.key) {
                (Some(entry), _) => *entry,
                // By the key that the name meant when the first row came; the alias still counts where a condition asks for it.
                (None, Some(named)) => caller
                    .entry_not_alias(&named.arn, snapshot)
                    .map_err(at_row)?,
                (None, None) => {
                    let request = caller.key(&self.asked.key_id, snapshot).map_err(at_row)?;
                    let entry = request.request().entry();
                    self.key = Some(Named {
                        arn: entry.arn.clone(),
                        alias: request.request().alias().cloned(),
                        id: entry.key.id,
                    });
                    entry
                }
            };
            let alias = self.key.as_ref().and_then(|named| named.alias.clone());
            let at_row = |error| self.at_row(row, error);
            caller
                .authorize_named(entry, alias, snapshot)
                .map_err(at_row)?;
            if found.is_none() {
                data_key_material(entry, caller.action.operation()).map_err(at_row)?;
            }
            found = Some(entry);
            row += rows;
        }
        let entry = found.ok_or_else(|| ApiError::internal("a chunk without rows"))?;
        Ok(Arc::clone(entry))
    }

    fn mint_and_bind(
        &mut self,
        under: &Under<'_>,
        entry: &KeyEntry,
        runs: &[(EncryptionContext, usize)],
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let stamp = Stamp {
            fence: entry.fence,
            clone_word: under.clone_word,
        };
        let length = self.asked.length;
        let now = self.api.clock.monotonic();
        let mut unminted: usize = runs.iter().map(|(_, rows)| rows).sum();
        out.reserve(unminted * blob_bytes(length));
        let mut runs = runs.iter().map(|(context, rows)| (context, *rows));
        let mut run = runs.next();
        while unminted > 0 {
            let count = unminted.min(Minting::KEYS_MAX);
            let entropy = &self.api.entropy;
            let minted = self
                .minting
                .mint(entropy, entry, stamp, length, count, now)?;
            unminted -= count;
            while let Some((context, rows)) = run.filter(|_| !minted.is_empty()) {
                let left = rows - minted.bind_many(rows, context, out);
                run = match left {
                    0 => runs.next(),
                    left => Some((context, left)),
                };
            }
        }
        Ok(())
    }

    /// `row` is counted within the chunk.
    fn at_row(&self, row: usize, error: ApiError) -> ApiError {
        let row = self.rows + row as u64;
        error.about(format_args!("Row {row}"))
    }
}
