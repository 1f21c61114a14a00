//! What an operation is answered with, and what the audit log is told of it.

use crate::key::material::{BackingKey, KeyMaterialId};
use crate::keystore::KeyEntry;
use bytes::Bytes;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The body of a successful response; wiped when dropped, because it may carry a plaintext data
/// key.
pub struct Reply {
    body: Zeroizing<Vec<u8>>,
    /// Whether nothing in it needs to be wiped.
    is_public: bool,
    /// For the audit log.
    pub(super) resources: Resources,
}

impl Reply {
    pub(crate) fn new(body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            body,
            is_public: false,
            resources: Resources::default(),
        }
    }

    /// The same, with nothing in it that needs to be wiped.
    pub(crate) fn public(mut self) -> Self {
        self.is_public = true;
        self
    }

    /// Of this object.
    pub(crate) fn of(value: &serde_json::Value) -> Self {
        Self::new(Zeroizing::new(value.to_string().into_bytes()))
    }

    /// Of an operation without output.
    pub(crate) fn empty() -> Self {
        Self::new(Zeroizing::default())
    }

    /// The same, as the outcome of an operation on this key.
    pub(crate) fn about(mut self, entry: &Arc<KeyEntry>) -> Self {
        self.resources.key = Some(Arc::clone(entry));
        self
    }

    /// The same, as the outcome of moving a blob to this key.
    pub(crate) fn moved_to(mut self, entry: &Arc<KeyEntry>) -> Self {
        self.resources.destination = Some(Arc::clone(entry));
        self
    }

    /// The same, as the outcome of an operation on what has this ARN beside it: an alias, a new
    /// key.
    pub(crate) fn naming(mut self, arn: String) -> Self {
        self.resources.other = Some(arn);
        self
    }

    /// The same, as the outcome of an operation with this generation of the key's material.
    pub(crate) fn with(mut self, material: Option<&Arc<BackingKey>>) -> Self {
        self.resources.material = material.map(|material| material.id());
        self
    }

    /// The JSON text; empty for operations without output.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The text without a copy, wiped when the last reference is dropped unless it is public.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.is_public {
            return std::mem::take(&mut *self.body).into();
        }
        Bytes::from_owner(self.body)
    }
}

/// What a call was about, and what it used of it.
#[derive(Default)]
pub(crate) struct Resources {
    /// The key.
    pub(crate) key: Option<Arc<KeyEntry>>,
    /// The key that a blob was moved to.
    pub(crate) destination: Option<Arc<KeyEntry>>,
    /// The generation of its material.
    pub(crate) material: Option<KeyMaterialId>,
    /// What has no entry in the store before or after the call: an alias, a new key.
    pub(crate) other: Option<String>,
}
