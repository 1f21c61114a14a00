//! `POST /v1/data-keys/bind`, `…/rewrap`, `…/verify`: a stream of containers in, the same stream
//! out, with a wrapped key for each row, with each row's blob sealed anew, or with why it does not
//! open.
//!
//! ```text
//! bytes ─► messages ─► decoder ─► contexts ─► authorize each ─► mint and bind,   ─► record ─► the same rows
//!           bounded                of each      row, anew for    open and seal,      and      and the columns
//!                                  row          every chunk      or open             digest   of the task
//! ```
//!
//! Every row has its own encryption context, and is authorized with it as a single call would be.
//! Every chunk is authorized, made and checked anew (POOL-4, POOL-5), as in a batch. The error
//! names the first refused row and its fault, and nothing of the chunk leaves. Chunks are slices of
//! the record batches that came; a record batch of more rows comes back as several.
//!
//! Memory holds at a time one message, one record batch, the dictionaries (twice while one grows,
//! and as they were sent last), and one chunk of the answer. Each is bounded by the bytes of a
//! message's body.

use crate::api::trail::{Event, Outcome};
use crate::api::{Api, ApiError, Requester, Resources};
use crate::audit::{Recorded, RowsDigest};
use crate::columns::shown::Counted;
use crate::rates::{Exceeded, Paid};
use crate::stream::chunk::CHUNK_ROWS;
use crate::stream::chunk::OutputChunk;
use crate::stream::decoder::{Change, Decoder, Item};
use crate::stream::messages::{self, Bounds, Messages};
use crate::stream::minter::Minter;
use crate::stream::output::Encoder;
use crate::stream::purpose::Purpose;
use crate::stream::query::Query;
use crate::stream::rewrapper::Rewrapper;
use crate::stream::transform::{Cursor, Progress, Transform};
use crate::stream::verifier::Verifier;
use arrow_array::RecordBatch;
use bytes::Bytes;
use std::sync::Arc;

/// A stream under way.
pub struct RowStream {
    api: Arc<Api>,
    requester: Requester,
    purpose: Purpose,
    transform: Box<dyn Transform>,
    /// The query as a JSON object, for the audit log.
    record: Vec<u8>,
    messages: Messages,
    decoder: Decoder,
    /// From the schema on.
    encoder: Option<Encoder>,
    batch: Option<InputBatch>,
    /// All of the body is here.
    is_closed: bool,
    digest: RowsDigest,
    /// Rows handed out.
    rows: u64,
}

/// A record batch, and how far it has come.
struct InputBatch {
    batch: RecordBatch,
    /// Rows of it that were handed out.
    from: usize,
    /// The next chunk, while its limits make it wait.
    waiting: Option<WaitingChunk>,
}

/// A chunk that is yet to be made.
struct WaitingChunk {
    rows: usize,
    paid: Paid,
}

/// What there is of a stream when it is asked for more.
#[derive(Debug)]
pub enum Step {
    /// Nothing: more of the body is needed.
    Hungry,
    /// A chunk of the answer, which may leave once [`RowStream::durable`] has returned.
    Rows(Vec<u8>, Recorded),
    /// The answer's end; with a record if there were no rows.
    End(Vec<u8>, Option<Recorded>),
    /// Nothing yet: a limit has been reached. It is to be asked again after the wait.
    Wait(Exceeded),
}

impl Api {
    /// Begins a stream as its query asks.
    ///
    /// # Errors
    /// [`ApiError`] if the query asks for nothing that there could be. Whether the caller may is
    /// decided for each row.
    pub fn containers(
        self: &Arc<Self>,
        requester: &Requester,
        purpose: Purpose,
        query: &str,
    ) -> Result<RowStream, ApiError> {
        let (transform, record) = begin(purpose, query).map_err(|error| {
            let event = Event::own(purpose.event(), true, b"");
            self.refuse(requester, event, error, None)
        })?;
        Ok(RowStream {
            api: Arc::clone(self),
            requester: requester.clone(),
            purpose,
            transform,
            record,
            messages: Messages::new(Bounds::REQUEST),
            decoder: Decoder::new(Bounds::REQUEST),
            encoder: None,
            batch: None,
            is_closed: false,
            digest: RowsDigest::default(),
            rows: 0,
        })
    }
}

fn begin(purpose: Purpose, query: &str) -> Result<(Box<dyn Transform>, Vec<u8>), ApiError> {
    let query = Query::parse(purpose, query)?;
    Ok(match purpose {
        Purpose::Bind => {
            let (transform, record) = Minter::from_query(query)?;
            (Box::new(transform), record)
        }
        Purpose::Rewrap => {
            let (transform, record) = Rewrapper::from_query(query)?;
            (Box::new(transform), record)
        }
        Purpose::Verify => {
            let (transform, record) = Verifier::from_query(query)?;
            (Box::new(transform), record)
        }
    })
}

impl RowStream {
    /// Rows of a chunk at most.
    pub const CHUNK_ROWS: usize = CHUNK_ROWS;

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
    /// [`ApiError`]: this is not an Arrow stream, or it is beyond the bounds. The stream ends
    /// early.
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
            // Rows that are decoded already come before the next message.
            if let Some(input) = self.batch.take() {
                let chunk = self.chunk(input);
                return chunk.map_err(|error| self.end(error));
            }
            if let Some(message) = self.messages.take() {
                let read = self.decoder.read(&message).and_then(|item| {
                    match item {
                        Item::Schema(schema) => {
                            let schema = self.transform.begin(&schema)?;
                            self.encoder = Some(Encoder::begin(schema)?);
                        }
                        Item::Dictionary(Change::Replaced) => {}
                        // A sender of deltas reads them, and the answer is no longer for it.
                        Item::Dictionary(Change::Grown) => {
                            self.encoder.as_mut().map_or(Ok(()), Encoder::send_deltas)?;
                        }
                        Item::Rows(batch) => {
                            let input = InputBatch {
                                batch,
                                from: 0,
                                waiting: None,
                            };
                            self.batch = Some(input).filter(|new| new.batch.num_rows() > 0);
                        }
                    }
                    Ok(())
                });
                read.map_err(|error| self.end_before_a_row(error))?;
            } else if self.is_closed {
                // All bytes came: the stream must be whole.
                let last = self.last();
                return last.map_err(|error| self.end_before_a_row(error));
            } else {
                return Ok(Step::Hungry);
            }
        }
    }

    /// Records what the stream ends with; returns the caller's answer.
    pub fn end(&mut self, error: ApiError) -> ApiError {
        let event = Event::own(self.purpose.event(), true, &self.record);
        let rows = Some(self.digest.batch());
        self.api.refuse(&self.requester, event, error, rows)
    }

    /// Records a refusal for which no row is at fault.
    pub fn end_before_a_row(&mut self, error: ApiError) -> ApiError {
        let rows = Counted(self.rows, "row");
        self.end(error.about(format_args!("After {rows}")))
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
        let encoder = self.encoder.as_mut();
        // A stream without a schema.
        let encoder = encoder.ok_or_else(|| messages::malformed("it has no schema"))?;
        let end = encoder.finish()?;
        let recorded = match self.rows {
            0 => {
                let batch = Some(self.digest.batch());
                let nothing = Resources::default();
                Some(self.tell(&Outcome::Done(&nothing, batch))?)
            }
            _ => None,
        };
        Ok(Step::End(end, recorded))
    }

    fn chunk(&mut self, mut input: InputBatch) -> Result<Step, ApiError> {
        let left = input.batch.num_rows() - input.from;
        let cursor = Cursor {
            api: &self.api,
            requester: &self.requester,
            rows: self.rows,
        };
        // A chunk that waited for its limits goes on with what it has paid.
        let (most, mut paid) = match input.waiting.take() {
            Some(waiting) => (waiting.rows, waiting.paid),
            None => (left.min(Self::CHUNK_ROWS), Paid::default()),
        };
        let rows = input.batch.slice(input.from, most);
        let chunk = match self.transform.chunk(&cursor, &rows, &mut paid)? {
            Progress::Done(chunk) => *chunk,
            Progress::Throttled(rows, exceeded) => {
                input.waiting = Some(WaitingChunk { rows, paid });
                self.batch = Some(input);
                return Ok(Step::Wait(exceeded));
            }
        };
        let OutputChunk {
            rows,
            columns,
            blobs,
            resources,
            refusal,
        } = chunk;
        // Counted only if the record is kept: a chunk without a record does not leave.
        let mut digest = self.digest.clone();
        digest.add(rows as u64, &blobs);
        let encoder = self
            .encoder
            .as_mut()
            .ok_or_else(|| ApiError::internal("rows before their schema"))?;
        let bytes = encoder.rows(columns)?;
        let batch = Some(digest.batch());
        // AUDIT-1: the record comes before the rows leave.
        let recorded = self.tell(&match &refusal {
            None => Outcome::Done(&resources, batch),
            Some(error) => Outcome::Refused(error, batch),
        })?;
        self.transform.count(&self.api, rows as u64);
        self.digest = digest;
        self.rows += rows as u64;
        input.from += rows;
        self.batch = Some(input).filter(|left| left.from < left.batch.num_rows());
        Ok(Step::Rows(bytes, recorded))
    }

    fn tell(&self, outcome: &Outcome<'_>) -> Result<Recorded, ApiError> {
        let event = Event::own(self.purpose.event(), true, &self.record);
        self.api.tell(&self.requester, event, outcome)
    }
}
