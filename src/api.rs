//! The operations: a table of data, and what each does between the decoded request and the encoded reply.
//!
//! A request runs once from left to right: decode, resolve the key, authorize, check its state, take and bind, encode; and as its last act it
//! compares the fence, the revision and the clone word that it worked under with the present ones (POOL-4, POOL-5). If they moved it starts again
//! from the first step, twice at most.
//!
//! What this module does not do: know HTTP, or who the caller is (that is `auth`); it is handed a principal.

use crate::clock::Clock;
use crate::crypto::entropy::Entropy;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::policy::Principal;
use crate::pool::{CloneWord, LastCheck, Pool};
use bytes::Bytes;
use std::sync::Arc;

pub mod error;

pub use error::{ApiError, KmsErrorCode};

/// One row of the operation table.
#[derive(Debug)]
pub struct Operation {
    /// As `X-Amz-Target` names it after `TrentService.`.
    pub name: &'static str,
    /// Its place in [`OPERATIONS`], for tables by operation.
    pub index: usize,
}

/// Every operation of the service model that is known here, built or not.
pub static OPERATIONS: [Operation; 0] = [];

/// Finds an operation by its name.
#[must_use]
pub fn operation(_name: &str) -> Option<&'static Operation> {
    todo!()
}

/// What the operations work on.
pub struct Api {
    /// Keys, aliases, principals.
    pub keystore: Arc<Keystore>,
    /// Pooled keys.
    pub pool: Arc<Pool>,
    /// Whether the machine or process may have a twin.
    pub clone_word: Arc<CloneWord>,
    /// The last section of requests.
    pub last_check: Arc<LastCheck>,
    /// Randomness.
    pub entropy: Arc<Entropy>,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The body of a successful response; wiped when dropped, because it may carry a plaintext data key.
pub struct Reply(Vec<u8>);

impl Reply {
    /// The JSON text; empty for operations without output.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0
    }

    /// The text without a copy, still wiped when the last reference is dropped.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        todo!()
    }
}

impl Api {
    /// Performs `operation` for `principal` with the JSON `body`.
    ///
    /// # Errors
    /// [`ApiError`], in the order of checks of AWS KMS.
    pub async fn call(
        &self,
        _operation: &'static Operation,
        _principal: &Arc<Principal>,
        _body: &[u8],
    ) -> Result<Reply, ApiError> {
        todo!()
    }

    /// Performs one of the operator's own operations (principals): see `api::principals`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn administer(
        &self,
        _operation: &str,
        _principal: &Arc<Principal>,
        _body: &[u8],
    ) -> Result<Reply, ApiError> {
        todo!()
    }

    /// Begins a batch: `{"KeyId", "KeySpec" | "NumberOfBytes", "EncryptionContext"?, "Count"}`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub fn data_keys(
        self: &Arc<Self>,
        _principal: &Arc<Principal>,
        _body: &[u8],
    ) -> Result<DataKeys, ApiError> {
        todo!()
    }
}

/// A batch under way: blobs under one key, of one length, bound to one context.
pub struct DataKeys {
    /// The key's ARN.
    pub key_arn: String,
    /// The generation of its material at the beginning; a batch ends when it moves.
    pub key_material_id: String,
    /// Bytes of each blob.
    pub blob_bytes: usize,
    /// Blobs in all.
    pub count: u64,
}

impl DataKeys {
    /// Appends the blobs of the next chunk (at most [`Self::CHUNK_KEYS`]) to `out`, authorized and checked anew, and returns how many they are; 0 at the end.
    ///
    /// # Errors
    /// [`ApiError`]: the batch has ended early; nothing of the chunk was appended.
    pub fn next_chunk(&mut self, _out: &mut Vec<u8>) -> Result<usize, ApiError> {
        todo!()
    }

    /// Keys of a chunk at most.
    pub const CHUNK_KEYS: usize = 8192;

    /// Blobs handed out so far.
    #[must_use]
    pub fn handed_out(&self) -> u64 {
        todo!()
    }
}
