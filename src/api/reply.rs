//! The answer of an operation, and the resources that its audit record names.

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

    /// Marks the body as public: nothing in it needs to be wiped.
    pub(crate) fn public(mut self) -> Self {
        self.is_public = true;
        self
    }

    /// A reply with this object.
    pub(crate) fn of(value: &serde_json::Value) -> Self {
        Self::new(Zeroizing::new(value.to_string().into_bytes()))
    }

    /// The reply of an operation without output.
    pub(crate) fn empty() -> Self {
        Self::new(Zeroizing::default())
    }

    /// Notes the key of the operation for the audit log.
    pub(crate) fn about(mut self, entry: &Arc<KeyEntry>) -> Self {
        self.resources.key = Some(Arc::clone(entry));
        self
    }

    /// Notes the key to which a blob was moved.
    pub(crate) fn moved_to(mut self, entry: &Arc<KeyEntry>) -> Self {
        self.resources.destination = Some(Arc::clone(entry));
        self
    }

    /// Notes the ARN of another resource of the operation: an alias, a new key.
    pub(crate) fn naming(mut self, arn: String) -> Self {
        self.resources.other = Some(arn);
        self
    }

    /// Notes the elements of the answer that the audit log writes down, as JSON. None of them is
    /// secret.
    pub(crate) fn telling(mut self, elements: String) -> Self {
        self.resources.elements = Some(elements);
        self
    }

    /// Notes the recipient that a plaintext was sealed to, as JSON.
    pub(crate) fn sealed_to(mut self, recipient: String) -> Self {
        self.resources.recipient = Some(recipient.into());
        self
    }

    /// Notes the generation of the key's material that was used.
    pub(crate) fn with(self, material: Option<&Arc<BackingKey>>) -> Self {
        self.with_id(material.map(|material| material.id()))
    }

    /// Notes the name of that generation.
    pub(crate) fn with_id(mut self, material: Option<KeyMaterialId>) -> Self {
        self.resources.material = material;
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

/// The resources of a call, for the audit log.
#[derive(Default)]
pub(crate) struct Resources {
    /// The key.
    pub(crate) key: Option<Arc<KeyEntry>>,
    /// The key that a blob was moved to.
    pub(crate) destination: Option<Arc<KeyEntry>>,
    /// The generation of its material.
    pub(crate) material: Option<KeyMaterialId>,
    /// A resource without an entry in the store before or after the call: an alias, a new key.
    pub(crate) other: Option<String>,
    /// The elements of the answer that are written down, as JSON.
    pub(crate) elements: Option<String>,
    /// The recipient that a plaintext was sealed to, as JSON.
    pub(crate) recipient: Option<Box<str>>,
}
