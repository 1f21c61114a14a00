//! What `rewrap` does: each blob is opened and sealed anew. And what opens one for `verify`.

use crate::audit::RowsDigest;
use crate::bulk::keys::{Operation, RowsError};
use crate::bulk::local::{Keys, LocalWork};
use crate::bulk::parquet::properties::{ContextsBuilder, column};
use crate::bulk::remote::RemoteWork;
use crate::bulk::stream::{self, encoded};
use crate::bulk::{Client, KeyIdentity, SourceError};
use crate::context::EncryptionContext;
use crate::envelope::blob::{OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use crate::envelope::{self, AnyBlob, Nonce};
use crate::key::data_key::PlaintextDataKey;
use crate::keystore::Snapshot;
use crate::splice::Blobs;
use crate::stream::Purpose;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_schema::ArrowError;
use base64_simd::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The column of the contexts to come.
const NEW_CONTEXT: &str = "new_encryption_context";

/// Opens blobs and seals them anew.
pub struct Reseal;

/// A blob, what it is bound to, and what it will be bound to.
pub struct Row<'a> {
    /// The blob.
    pub blob: &'a [u8],
    /// Its context.
    pub context: EncryptionContext,
    /// The one to come; `None` is the same.
    pub new_context: Option<EncryptionContext>,
}

impl Row<'_> {
    /// The context to come.
    #[must_use]
    pub fn destination(&self) -> &EncryptionContext {
        self.new_context.as_ref().unwrap_or(&self.context)
    }
}

impl Operation for Reseal {
    type Rows<'a> = &'a [Row<'a>];
    type Out = Blobs;
    type Done = KeyIdentity;
}

/// Reseals in this process.
#[derive(Clone)]
pub struct LocalReseal(
    /// The keys that blobs are opened with.
    pub Arc<Snapshot>,
);

impl LocalWork for LocalReseal {
    type Operation = Reseal;

    fn asked(&self, arn: &str, rows: u64) -> Value {
        json!({"DestinationKeyId": arn, "Count": rows})
    }

    fn perform(
        &self,
        keys: &Keys,
        rows: &[Row<'_>],
        out: &mut Blobs,
        made: &mut RowsDigest,
    ) -> Result<(), RowsError> {
        let none = || SourceError::NoMaterial(keys.entry.arn.clone());
        let current = keys.entry.current().ok_or_else(none)?;
        let nonces = Nonce::draw_many(&keys.entropy, rows.len())?;
        let from = out.bytes().len();
        for ((at, row), nonce) in rows.iter().enumerate().zip(nonces) {
            let refused = |(code, message): (&str, String)| RowsError::Row {
                at,
                code: code.to_owned(),
                message,
            };
            let opened = open(&self.0, row.blob, &row.context).map_err(refused)?;
            let (id, context) = (keys.entry.key.id, row.destination());
            out.append(1, |out| {
                envelope::seal_under(nonce, id, current, context, opened.expose(), out);
                Ok::<_, RowsError>(())
            })?;
        }
        // All at once: hashed one by one, blobs take several times as long.
        made.add(rows.len() as u64, &out.bytes()[from..]);
        Ok(())
    }
}

/// Reseals through a daemon.
#[derive(Clone, Debug)]
pub struct RemoteReseal {
    /// The destination as the caller names it.
    pub key: String,
    /// Whether blobs are bound to another context than before.
    pub has_new_context: bool,
}

impl RemoteWork for RemoteReseal {
    type Operation = Reseal;

    const PURPOSE: Purpose = Purpose::Rewrap;
    const ANSWER_BYTES_MAX: usize = OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX;

    fn query(&self) -> String {
        let mut query = format!("key={}", encoded(&self.key));
        if self.has_new_context {
            query.push_str("&new-map=");
            query.push_str(NEW_CONTEXT);
        }
        query
    }

    fn count(rows: &[Row<'_>]) -> usize {
        rows.len()
    }

    fn bytes(rows: &[Row<'_>], row: usize) -> usize {
        let row = &rows[row];
        let contexts = std::iter::once(&row.context).chain(&row.new_context);
        let contexts = contexts.map(|context| context.canonical().len());
        row.blob.len() + contexts.sum::<usize>()
    }

    fn batch(&self, rows: &[Row<'_>], range: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let rows = &rows[range];
        let blobs = rows.iter().map(|row| row.blob);
        let contexts = rows.iter().map(|row| &row.context);
        let new: Option<Vec<_>> = rows.iter().map(|row| row.new_context.as_ref()).collect();
        batch(blobs, contexts, new)
    }

    fn take(
        &self,
        client: &Client,
        answer: &[RecordBatch],
        out: &mut Blobs,
    ) -> Result<KeyIdentity, SourceError> {
        stream::blobs(client, answer, None, |blob| out.push(blob))
    }

    fn rehearsal(&self, rows: &[Row<'_>]) -> Option<(&'static str, Value)> {
        let row = rows.first()?;
        let pairs = |context: &EncryptionContext| {
            let pairs = context
                .pairs()
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let members = json!({
            "CiphertextBlob": STANDARD.encode_to_string(row.blob),
            "SourceEncryptionContext": pairs(&row.context),
            "DestinationEncryptionContext": pairs(row.destination()),
            "DestinationKeyId": self.key,
        });
        Some(("ReEncrypt", members))
    }
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

/// The KMS error code of a blob that does not open.
pub const INVALID: &str = "InvalidCiphertextException";

/// The data key that a blob wraps; or the KMS error code and its cause, which an operator may know.
///
/// # Errors
/// The code and the reason.
pub fn open(
    snapshot: &Snapshot,
    blob: &[u8],
    context: &EncryptionContext,
) -> Result<PlaintextDataKey, (&'static str, String)> {
    let parsed =
        AnyBlob::parse(blob).map_err(|_| (INVALID, "it is not a ciphertext blob".to_owned()))?;
    let parsed = match parsed {
        AnyBlob::Own(blob) => blob,
        AnyBlob::External(blob) => {
            let id = blob.header().key_id;
            let reason =
                format!("the key {id} is in an external key store, which jobs do not call");
            return Err(("UnsupportedOperationException", reason));
        }
    };
    let header = parsed.header();
    let mut related = snapshot.related(header.key_id);
    let first = related.clone().next();
    // Related keys have the same material: one that can be used is enough.
    let usable = related.find(|entry| entry.key.state.usable().is_ok());
    let entry = usable.or(first).ok_or_else(|| {
        let reason = format!("there is no key {}", header.key_id);
        ("NotFoundException", reason)
    })?;
    entry.key.state.usable().map_err(|state| {
        let reason = format!("{} {state}", entry.arn);
        ("KMSInvalidStateException", reason)
    })?;
    let material = entry.generation(header.generation).ok_or_else(|| {
        let reason = format!("{} has no generation {}", entry.arn, header.generation);
        (INVALID, reason)
    })?;
    envelope::open(entry.key.id, material, context, &parsed)
        .map_err(|error| (INVALID, error.to_string()))
}
