//! Batches and streams of rows against a real store.

use super::*;
use crate::api::tests::*;
use crate::api::{ErrorCode, Requester};
use crate::clock::Timestamp;
use crate::operation::Operation;
use crate::policy::Principal;
use crate::rates;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod arrow;
mod batch;
mod compressed;
mod dictionaries;
mod limits;
mod rights;
mod rows;

impl DataKeys {
    /// The number of blobs of a chunk that does not wait for a limit; 0 at the end.
    pub(crate) fn blobs(&mut self, out: &mut Vec<u8>) -> usize {
        match self.next_chunk(out).unwrap() {
            Chunk::Blobs(keys, _) => keys,
            Chunk::End => 0,
            Chunk::Wait(exceeded) => panic!("{exceeded:?}"),
        }
    }
}
