//! The immutable view that requests read.

use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::key::arn::{AccountId, AliasName};
use crate::key::material::BackingKey;
use crate::key::{KeyId, KmsKey};
use crate::policy::Principal;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Everything a request may need, at one revision.
#[derive(Default)]
pub struct Snapshot {
    /// The store's revision; only grows.
    pub revision: u64,
    /// Keys by id, in order (for stable listings).
    pub keys: BTreeMap<KeyId, Arc<KeyEntry>>,
    /// Aliases by account and name.
    pub aliases: BTreeMap<(AccountId, AliasName), Arc<Alias>>,
    /// Principals by ARN.
    pub principals: BTreeMap<String, Arc<PrincipalEntry>>,
    /// The same principals by access key id.
    pub access_keys: HashMap<String, Arc<PrincipalEntry>>,
}

/// A key with its material.
pub struct KeyEntry {
    /// Metadata.
    pub key: KmsKey,
    /// The key's ARN, formatted once.
    pub arn: String,
    /// Generations in ascending order; the last is current.
    pub materials: Vec<Arc<BackingKey>>,
    /// Moves whenever the key's usable state changes: the revision that last changed this key's record.
    pub fence: u64,
}

impl KeyEntry {
    /// The material that new ciphertexts use.
    ///
    /// # Panics
    /// Never: an entry has at least one generation.
    #[must_use]
    pub fn current(&self) -> &Arc<BackingKey> {
        self.materials
            .last()
            .expect("an entry has at least one generation")
    }

    /// The material that a blob's header names.
    #[must_use]
    pub fn generation(&self, generation: u32) -> Option<&Arc<BackingKey>> {
        self.materials
            .iter()
            .find(|material| material.generation() == generation)
    }
}

/// A key to be written: the entry without what the store adds (ARN, fence).
pub struct KeyDraft {
    /// Metadata.
    pub key: KmsKey,
    /// Generations in ascending order; at least one.
    pub materials: Vec<Arc<BackingKey>>,
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The account that it belongs to.
    pub account: AccountId,
    /// `alias/…`.
    pub name: AliasName,
    /// The key that it names.
    pub target: KeyId,
    /// When it was created.
    pub creation_date: Timestamp,
    /// When its target last changed.
    pub last_updated_date: Timestamp,
}

/// A principal with its credentials.
pub struct PrincipalEntry {
    /// Who it is and what it may do.
    pub principal: Arc<Principal>,
    /// At most two.
    pub access_keys: Vec<Arc<AccessKey>>,
}

/// An access key: a public id and a secret.
pub struct AccessKey {
    /// 20 characters, `AKIA…`.
    pub id: String,
    /// 40 characters of base64 alphabet.
    pub secret: SecretBytes,
}
