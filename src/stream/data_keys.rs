//! `POST /v1/data-keys`: any number of data keys under one key, of one length, bound to one
//! context, produced as they are consumed.
//!
//! Every chunk is authorized, minted and checked anew (POOL-4, POOL-5): a principal removed, a
//! policy changed, a grant retired, a key disabled or a machine cloned in mid-stream ends the batch
//! at the end of a chunk. Each mints in epochs of its own rather than emptying a lane, so bulk
//! never takes what online requests wait for, and none is left for a twin to go on with.
//!
//! Where a limit is in force, chunks are as large as it yields in a moment, and a chunk whose keys
//! are not there yet is asked for again later.

use crate::api::Resources;
use crate::api::admission::check_key;
use crate::api::attempt::Attempt;
use crate::api::generate::{check_length, no_length};
use crate::api::key_reference::KeyReference;
use crate::api::trail::{Event, Outcome};
use crate::api::usability::material;
use crate::api::validation::Violations;
use crate::api::wire::{self, ContextMember, Text};
use crate::api::{Api, ApiError, ErrorCode, Requester};
use crate::audit::{Recorded, RowsDigest};
use crate::context::EncryptionContext;
use crate::envelope::{self, blob_bytes};
use crate::key::arn::AliasName;
use crate::key::data_key::DataKeyLength;
use crate::key::material::{BackingKey, KeyMaterialId};
use crate::key::regions::RegionalId;
use crate::keystore::KeyEntry;
use crate::operation::Action;
use crate::rates::{Exceeded, Paid, Urgency};
use crate::stream::chunk::CHUNK_ROWS;
use std::sync::Arc;

/// Where the endpoint is.
pub const PATH: &str = "/v1/data-keys";
/// The key's ARN, in an answer's head.
pub const KEY_ARN: &str = "keymill-key-arn";
/// The id of the key's material, in an answer's head.
pub const KEY_MATERIAL_ID: &str = "keymill-key-material-id";
/// The length of each blob in bytes, in an answer's head.
pub const BLOB_BYTES: &str = "keymill-blob-bytes";

pub(super) const ACTION: Action = Action::GenerateDataKeyWithoutPlaintext;
/// `eventName` of its audit records: one for each chunk, with the count and the digest of all rows
/// up to its end.
const EVENT: &str = "DataKeys";

wire::input! {
    #[serde(deny_unknown_fields)]
    struct Input<'a> {
        key_id: Text<'a>,
        key_spec: Text<'a>,
        number_of_bytes: Option<i64>,
        encryption_context: ContextMember,
        count: Option<i64>,
    }
}

/// A batch under way.
pub struct DataKeys {
    api: Arc<Api>,
    requester: Requester,
    /// The ARN of the key that the name meant when the batch began.
    key_arn: String,
    /// The alias by which the batch was asked for, if by one.
    alias: Option<AliasName>,
    key: RegionalId,
    material: KeyMaterialId,
    length: DataKeyLength,
    context: EncryptionContext,
    count: u64,
    handed_out: u64,
    /// Keys of a chunk at most.
    chunk_keys: usize,
    /// The next chunk, while its limits make it wait.
    waiting: Option<WaitingChunk>,
    /// The request's body, and the rows that were handed out, for the audit log.
    body: Vec<u8>,
    digest: RowsDigest,
}

/// A chunk that is yet to be made.
struct WaitingChunk {
    keys: usize,
    paid: Paid,
}

/// What there is of a batch when it is asked for its next chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// So many blobs, which may leave once [`DataKeys::durable`] has returned.
    Blobs(usize, Recorded),
    /// No more.
    End,
    /// Nothing yet: a limit has been reached. It is to be asked again after the wait.
    Wait(Exceeded),
}

impl Api {
    /// Begins a batch: `{"KeyId", "KeySpec" | "NumberOfBytes", "EncryptionContext"?, "Count":
    /// 1..=2^32 - 1}`.
    ///
    /// # Errors
    /// [`ApiError`], as a single call would be refused. An unknown member is an error: this
    /// endpoint is ours.
    pub fn data_keys(
        self: &Arc<Self>,
        requester: &Requester,
        body: &[u8],
    ) -> Result<DataKeys, ApiError> {
        self.begin_data_keys(requester, body)
            .map_err(|error| self.refuse(requester, Event::own(EVENT, true, body), error, None))
    }

    fn begin_data_keys(
        self: &Arc<Self>,
        requester: &Requester,
        body: &[u8],
    ) -> Result<DataKeys, ApiError> {
        let input: Input<'_> = wire::decode(body)?;
        let mut violations = Violations::default();
        let key = violations.key_id("keyId", &input.key_id);
        let spec = input.key_spec.as_deref();
        let length = check_length(spec, input.number_of_bytes, &mut violations);
        if input.count.is_none() {
            violations.null("count");
        }
        let count = violations.number("count", input.count, 1, u32::MAX.into());
        let (key, count) = violations.check((key, count.unwrap_or(0)))?;
        let context = input.encryption_context.sound()?;
        let snapshot = self.keystore.snapshot();
        let attempt = self.attempt(requester, &snapshot)?;
        let caller = attempt.caller(ACTION).under(context);
        let request = caller.key(&key, &snapshot)?;
        // As with `GenerateDataKey`, the length is checked after the key was found.
        let length = length.ok_or_else(no_length)?;
        let entry = request.request().entry();
        let material = data_key_material(entry)?.id();
        Ok(DataKeys {
            api: Arc::clone(self),
            requester: requester.clone(),
            key_arn: entry.arn.clone(),
            alias: request.request().alias().cloned(),
            key: entry.key.regional_id(),
            material,
            length,
            context: context.clone(),
            count,
            handed_out: 0,
            chunk_keys: DataKeys::CHUNK_KEYS,
            waiting: None,
            body: body.to_vec(),
            digest: RowsDigest::default(),
        })
    }
}

impl DataKeys {
    /// Keys of a chunk at most, if no fewer are asked for.
    pub const CHUNK_KEYS: usize = CHUNK_ROWS;

    /// The ARN of the key.
    #[must_use]
    pub fn key_arn(&self) -> &str {
        &self.key_arn
    }

    /// The generation of the key's material that every blob of this batch is under.
    #[must_use]
    pub fn material(&self) -> KeyMaterialId {
        self.material
    }

    /// Bytes of each blob.
    #[must_use]
    pub fn blob_bytes(&self) -> usize {
        blob_bytes(self.length)
    }

    /// Blobs in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Blobs handed out so far.
    #[must_use]
    pub fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Whose it is: the lasting ARN of a principal.
    #[must_use]
    pub fn holder(&self) -> &str {
        self.requester.principal.lasting_arn()
    }

    /// Makes chunks smaller than [`Self::CHUNK_KEYS`]; at least one key.
    pub fn set_chunk_keys(&mut self, keys: usize) {
        self.chunk_keys = keys.clamp(1, Self::CHUNK_KEYS);
    }

    /// Blobs of the next chunk: at most [`Self::CHUNK_KEYS`], less where a limit is in force, none
    /// at the end.
    #[must_use]
    pub fn next_keys(&self) -> usize {
        if let Some(waiting) = &self.waiting {
            return waiting.keys;
        }
        let left = self.count - self.handed_out;
        let most = usize::try_from(left).map_or(self.chunk_keys, |left| left.min(self.chunk_keys));
        let rates = &self.api.rates;
        rates.bulk_keys(&self.requester.principal.arn, self.key, most)
    }

    /// Appends the blobs of the next chunk, [`Self::next_keys`], to `out`, unless it has to wait.
    ///
    /// # Errors
    /// [`ApiError`]: the batch ends early, and nothing of the chunk is in `out`.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> Result<Chunk, ApiError> {
        let keys = self.next_keys();
        if keys == 0 {
            return Ok(Chunk::End);
        }
        // A chunk that waited for its limits goes on with what it has paid.
        let mut paid = self
            .waiting
            .take()
            .map(|waiting| waiting.paid)
            .unwrap_or_default();
        let from = out.len();
        let api = Arc::clone(&self.api);
        let requester = self.requester.clone();
        let outcome = api.under_last_check(&requester, |under| {
            // The last check may run the closure again, so blobs of an earlier attempt go.
            out.truncate(from);
            let entry = self.authorize(under)?;
            let (key, count) = (Some(self.key), keys as u64);
            match api.take(&under.principal, key, count, Urgency::Bulk, &mut paid) {
                Ok(()) => {
                    let (id, material) = (entry.key.id, material(&entry)?);
                    let rows = [(&self.context, keys)];
                    envelope::mint_rows(id, material, self.length, &api.entropy, rows, out)?;
                    Ok(Ok(entry))
                }
                Err(exceeded) => Ok(Err(exceeded)),
            }
        });
        match outcome {
            Ok(Ok(entry)) => {
                // AUDIT-1: the record comes before the blobs leave.
                let recorded = self
                    .tell(&entry, keys as u64, &out[from..])
                    .inspect_err(|_| out.truncate(from))?;
                self.handed_out += keys as u64;
                api.counters.batch.count(self.length, keys as u64);
                Ok(Chunk::Blobs(keys, recorded))
            }
            Ok(Err(exceeded)) => {
                self.waiting = Some(WaitingChunk { keys, paid });
                Ok(Chunk::Wait(exceeded))
            }
            Err(error) => {
                out.truncate(from);
                Err(self.end(error))
            }
        }
    }

    /// Records all that was handed out so far and these blobs.
    fn tell(
        &mut self,
        entry: &Arc<KeyEntry>,
        keys: u64,
        blobs: &[u8],
    ) -> Result<Recorded, ApiError> {
        self.digest.add(keys, blobs);
        let resources = Resources {
            key: Some(Arc::clone(entry)),
            material: Some(self.material),
            ..Resources::default()
        };
        let outcome = Outcome::Done(&resources, Some(self.digest.batch()));
        let event = Event::own(EVENT, true, &self.body);
        self.api.tell(&self.requester, event, &outcome)
    }

    /// Returns when a chunk may leave.
    ///
    /// # Errors
    /// [`ApiError`]: it must not.
    pub async fn durable(&self, chunk: Recorded) -> Result<(), ApiError> {
        self.api.durable(chunk).await
    }

    /// The refusal of a batch that has waited for long enough.
    pub fn throttled(&mut self, exceeded: Exceeded) -> ApiError {
        let error = self.api.throttled(exceeded);
        self.end(error)
    }

    /// Records what the batch ends with; returns the caller's answer.
    pub fn end(&mut self, error: ApiError) -> ApiError {
        let event = Event::own(EVENT, true, &self.body);
        let rows = Some(self.digest.batch());
        self.api.refuse(&self.requester, event, error, rows)
    }

    /// Whether the principal may use the key, both in their present state.
    fn authorize(&self, under: &Attempt<'_>) -> Result<Arc<KeyEntry>, ApiError> {
        let caller = under.caller(ACTION).under(&self.context);
        // By the key that the name meant when the batch began; the alias still counts where a
        // condition asks for it.
        let entry = caller.entry_not_alias(&KeyReference::parse(&self.key_arn), under.snapshot)?;
        caller.authorize_named(entry, self.alias.clone(), under.snapshot)?;
        if data_key_material(entry)?.id() != self.material {
            // The head has promised one generation for all. Rows that were handed out before stay
            // good.
            let message = format!("{} was rotated while the batch was under way.", entry.arn);
            return Err(ApiError::new(ErrorCode::ConflictException, message));
        }
        Ok(Arc::clone(entry))
    }
}

/// The material that new data keys are under, of a key that takes the operation.
pub(super) fn data_key_material(entry: &KeyEntry) -> Result<&Arc<BackingKey>, ApiError> {
    check_key(entry, ACTION)?;
    material(entry)
}
