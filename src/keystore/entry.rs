//! The entries of the store: keys, aliases, principals and the audit log's head.

use crate::clock::Timestamp;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::mac::MacKey;
use crate::crypto::pair::PrivateKey;
use crate::key::arn::{AccountId, AliasName};
use crate::key::material::{BackingKey, KeyMaterialId, KeySecret};
use crate::key::regions::{RegionNumber, RegionalId};
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::access_key::AccessKey;
use crate::policy::{Principal, TrustPolicy};
use hex_simd::AsciiCase;
use serde_json::{Value, json};
use std::sync::Arc;

/// A key with its material.
pub struct KeyEntry {
    /// Metadata.
    pub key: KmsKey,
    /// The key's ARN, formatted once.
    pub arn: String,
    /// The generations of a symmetric encryption key whose material is present, in ascending order.
    pub materials: Vec<Arc<BackingKey>>,
    /// The material of an asymmetric or HMAC key, if it is present, or of one in an external key
    /// store.
    pub secret: Option<Arc<KeySecret>>,
    /// The revision of the last change of the key's state or material. After a start it is the
    /// revision of the record's last change; nothing is pooled then.
    pub fence: u64,
}

impl KeyEntry {
    /// The private key of an asymmetric key, if its material is present.
    #[must_use]
    pub fn pair(&self) -> Option<&PrivateKey> {
        self.secret.as_deref()?.pair()
    }

    /// The key of an HMAC key, if its material is present.
    #[must_use]
    pub fn mac(&self) -> Option<&MacKey> {
        self.secret.as_deref()?.mac()
    }

    /// The material that a key in an external key store has here.
    #[must_use]
    pub fn inner(&self) -> Option<&BackingKey> {
        self.secret.as_deref()?.inner()
    }

    /// Whether all symmetric material is of this cipher.
    pub(super) fn is_of(&self, cipher: BlockCipher) -> bool {
        let materials = self.materials.iter().map(|material| &**material);
        let mut all = materials.chain(self.inner());
        all.all(|material| material.material().cipher() == cipher)
    }

    /// Whether state and material are the same as those of `other`.
    pub(super) fn is_used_as(&self, other: &Self) -> bool {
        let material = |key: &Arc<BackingKey>| (key.generation(), key.id());
        let materials = self.materials.iter().map(material);
        self.key.state == other.key.state
            && materials.eq(other.materials.iter().map(material))
            && self.key.imports == other.key.imports
            && self.key.key_store == other.key.key_store
    }

    /// Whether this entry has material that `draft` does not have.
    pub(super) fn has_more_than(&self, draft: &KeyDraft) -> bool {
        let kept = |key: &Arc<BackingKey>| {
            let mut materials = draft.materials.iter();
            materials.any(|other| other.id() == key.id())
        };
        let secret_goes = self.secret.is_some() && draft.secret.is_none();
        secret_goes || !self.materials.iter().all(kept)
    }

    /// The material for new ciphertexts. `None` for an asymmetric or HMAC key, for a key whose
    /// material is missing, and for a key in an external key store.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<BackingKey>> {
        let mut materials = self.materials.iter();
        materials.rfind(|material| !self.key.is_pending(material.generation()))
    }

    /// The id of the material for new ciphertexts, alone or together with an external key.
    #[must_use]
    pub fn current_id(&self) -> Option<KeyMaterialId> {
        let inner = self.inner().map(BackingKey::id);
        inner.or_else(|| self.current().map(|material| material.id()))
    }

    /// A draft that changes only the metadata.
    #[must_use]
    pub fn with_key(&self, key: KmsKey) -> KeyDraft {
        KeyDraft {
            key,
            materials: self.materials.clone(),
            secret: self.secret.clone(),
        }
    }

    /// The same entry under another fence.
    #[must_use]
    pub(super) fn with_fence(&self, fence: u64) -> Self {
        let KeyDraft {
            key,
            materials,
            secret,
        } = self.with_key(self.key.clone());
        Self {
            key,
            arn: self.arn.clone(),
            materials,
            secret,
            fence,
        }
    }

    /// The material that a blob's header names. Pending material has wrapped nothing yet, and may
    /// be deleted without a trace.
    #[must_use]
    pub fn generation(&self, generation: u32) -> Option<&Arc<BackingKey>> {
        if self.key.is_pending(generation) {
            return None;
        }
        let mut materials = self.materials.iter();
        materials.find(|material| material.generation() == generation)
    }
}

/// A key to be written: the entry without the ARN and the fence, which the store adds.
#[derive(Clone)]
pub struct KeyDraft {
    /// Metadata.
    pub key: KmsKey,
    /// The generations of a symmetric encryption key whose material is present, in ascending order.
    pub materials: Vec<Arc<BackingKey>>,
    /// The material of an asymmetric or HMAC key, if it is present, or of one in an external key
    /// store.
    pub secret: Option<Arc<KeySecret>>,
}

impl KeyDraft {
    /// Without the bytes of imports that are not present any more, and in the state that follows
    /// from what is missing. `before` is the key before those went.
    #[must_use]
    pub(crate) fn settled(mut self, before: &KmsKey) -> Self {
        let Self {
            key,
            materials,
            secret,
        } = &mut self;
        let here = |generation| {
            let mut imports = key.imports.iter();
            imports.any(|import| import.generation == generation && import.present)
        };
        materials.retain(|material| here(material.generation()));
        if key.lacks_material() {
            *secret = None;
            // A cancelled deletion would leave the key disabled too.
            if !before.lacks_material() {
                key.was_disabled = key.state != KeyState::Enabled;
            }
            if let KeyState::Enabled | KeyState::Disabled = key.state {
                key.state = KeyState::PendingImport;
            }
        }
        self
    }
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The Region that it and its target are in.
    pub region: RegionNumber,
    /// The account that it belongs to.
    pub account: AccountId,
    /// `alias/…`.
    pub name: AliasName,
    /// The key that it refers to.
    pub target: KeyId,
    /// When it was created.
    pub creation_date: Timestamp,
    /// When its target last changed.
    pub last_updated_date: Timestamp,
}

impl Alias {
    /// What names the key that it refers to.
    #[must_use]
    pub fn target_id(&self) -> RegionalId {
        RegionalId {
            id: self.target,
            region: self.region,
        }
    }
}

/// A principal with its credentials.
#[derive(Clone)]
pub struct PrincipalEntry {
    /// The principal's names, tags and policies.
    pub principal: Arc<Principal>,
    /// At most two; a role has none.
    pub access_keys: Vec<Arc<AccessKey>>,
    /// Whether it can be authenticated.
    pub enabled: bool,
    /// Who may assume it, if it is a role; `None`: no caller.
    pub trust_policy: Option<Arc<TrustPolicy>>,
    /// The most seconds of a session that is assumed.
    pub session_seconds_max: u32,
}

impl PrincipalEntry {
    /// [`Self::session_seconds_max`] of a role for which none was given (IAM).
    pub const SESSION_SECONDS_MAX: u32 = 3600;

    /// Whether this entry has access keys that `other` does not have.
    pub(super) fn has_more_than(&self, other: &Self) -> bool {
        let kept = |key: &Arc<AccessKey>| other.access_keys.iter().any(|one| one.id == key.id);
        !self.access_keys.iter().all(kept)
    }

    /// An enabled principal.
    #[must_use]
    pub fn new(principal: Principal, access_keys: Vec<Arc<AccessKey>>) -> Self {
        Self {
            principal: Arc::new(principal),
            access_keys,
            enabled: true,
            trust_policy: None,
            session_seconds_max: Self::SESSION_SECONDS_MAX,
        }
    }
}

/// The state of an audit log at its last group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The log's id.
    pub log: [u8; 16],
    /// Groups written, headers among them.
    pub group: u64,
    /// The last group's MAC.
    pub mac: [u8; 32],
}

impl AuditHead {
    /// `{"Log":"<32 hex digits>","Group":<number>,"Mac":"<64 hex digits>"}`
    #[must_use]
    pub fn to_json(&self) -> Value {
        let hex = |bytes: &[u8]| hex_simd::encode_to_string(bytes, AsciiCase::Lower);
        json!({"Log": hex(&self.log), "Group": self.group, "Mac": hex(&self.mac)})
    }

    /// Parses the output of [`Self::to_json`].
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let bytes = |name: &str| hex_simd::decode_to_vec(value[name].as_str()?).ok();
        Some(Self {
            log: bytes("Log")?.try_into().ok()?,
            group: value["Group"].as_u64()?,
            mac: bytes("Mac")?.try_into().ok()?,
        })
    }
}
