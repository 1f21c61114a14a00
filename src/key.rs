//! KMS keys as their owners see them: identifier, state and its legal transitions, metadata.

use crate::clock::Timestamp;
use import::Import;
use key_store::InKeyStore;
use regions::{RegionNumber, RegionalId};
use rotation::RotationSchedule;
use spec::{KeyOrigin, KeySpec, KeyUsage};
use std::fmt;
use std::str::FromStr;
use strum::{IntoStaticStr, VariantNames};
use uuid::Uuid;
use uuid::fmt::{Hyphenated, Simple};

pub mod arn;
pub mod data_key;
pub mod import;
pub mod key_store;
pub mod material;
pub mod regions;
pub mod rotation;
pub mod spec;

/// A KMS key's identifier: 128 bits, printed as a UUID, or as `mrk-` and 32 digits for a
/// multi-Region key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId {
    bytes: [u8; 16],
    multi_region: bool,
}

/// The text is not a key id: neither `8-4-4-4-12` hex digits nor `mrk-` and 32 of them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key id")]
pub struct InvalidKeyId;

impl KeyId {
    /// A single-Region key's id of 16 random bytes, with the version and variant bits of a random
    /// UUID (RFC 9562, section 5.4).
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Self::from_parts(uuid.into_bytes(), false)
    }

    /// The id that a blob's header holds.
    #[must_use]
    pub fn from_parts(bytes: [u8; 16], multi_region: bool) -> Self {
        Self {
            bytes,
            multi_region,
        }
    }

    /// The 128 bits.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// Whether the id is printed with `mrk-`.
    #[must_use]
    pub fn is_multi_region(&self) -> bool {
        self.multi_region
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uuid = Uuid::from_bytes(self.bytes);
        if self.multi_region {
            write!(out, "mrk-{}", uuid.simple())
        } else {
            uuid.hyphenated().fmt(out)
        }
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    /// Accepts digits of either case; [`fmt::Display`] prints lower case.
    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let (uuid, multi_region) = match text.strip_prefix("mrk-") {
            Some(digits) => (digits.parse().map(Simple::into_uuid), true),
            None => (text.parse().map(Hyphenated::into_uuid), false),
        };
        let uuid = uuid.map_err(|_| InvalidKeyId)?;
        Ok(Self::from_parts(uuid.into_bytes(), multi_region))
    }
}

/// What a KMS key may be used for now (AWS KMS, "Key states of AWS KMS keys").
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum KeyState {
    /// Usable.
    Enabled,
    /// Refuses cryptographic operations until enabled.
    Disabled,
    /// Refuses everything but cancellation; is removed at the date.
    PendingDeletion {
        /// When the key and its material go.
        deletion_date: Timestamp,
    },
    /// Its material has not been imported, or has expired or been deleted since.
    PendingImport,
    /// A primary key that waits until its last replica is removed, and then for its own deletion.
    PendingReplicaDeletion {
        /// How many days it waits then.
        window_days: u16,
    },
}

/// The name of the state of a key whose custom key store is not connected. No key is kept in it: it
/// follows from the key store.
pub const UNAVAILABLE: &str = "Unavailable";

/// The key's state does not permit the operation. The messages use the words of AWS's key-state
/// table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidState {
    /// The key is disabled.
    #[error("is disabled")]
    Disabled,
    /// The key waits for its deletion.
    #[error("is pending deletion")]
    PendingDeletion,
    /// The key does not wait for its deletion.
    #[error("is not pending deletion")]
    NotPendingDeletion,
    /// The key has no material.
    #[error("is pending import")]
    PendingImport,
    /// The key waits for the removal of its replicas.
    #[error("is pending replica deletion")]
    PendingReplicaDeletion,
    /// The key's custom key store is not connected.
    #[error("is unavailable")]
    Unavailable,
}

impl KeyState {
    /// Its name in the API, a value of `KeyMetadata.KeyState`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether cryptographic operations may use the key.
    ///
    /// # Errors
    /// The state that forbids it.
    pub fn usable(self) -> Result<(), InvalidState> {
        match self {
            Self::Enabled => Ok(()),
            Self::Disabled => Err(InvalidState::Disabled),
            Self::PendingDeletion { .. } => Err(InvalidState::PendingDeletion),
            Self::PendingImport => Err(InvalidState::PendingImport),
            Self::PendingReplicaDeletion { .. } => Err(InvalidState::PendingReplicaDeletion),
        }
    }

    /// Whether the key has its material and does not wait for its deletion.
    ///
    /// # Errors
    /// [`InvalidState::PendingDeletion`], [`InvalidState::PendingImport`].
    pub fn has_material(self) -> Result<(), InvalidState> {
        match self {
            Self::Enabled | Self::Disabled => Ok(()),
            Self::PendingDeletion { .. } => Err(InvalidState::PendingDeletion),
            Self::PendingImport => Err(InvalidState::PendingImport),
            Self::PendingReplicaDeletion { .. } => Err(InvalidState::PendingReplicaDeletion),
        }
    }

    /// Whether the key does not wait for its deletion.
    ///
    /// # Errors
    /// [`InvalidState::PendingDeletion`].
    pub fn not_pending_deletion(self) -> Result<(), InvalidState> {
        match self {
            Self::Enabled | Self::Disabled | Self::PendingImport => Ok(()),
            Self::PendingDeletion { .. } => Err(InvalidState::PendingDeletion),
            Self::PendingReplicaDeletion { .. } => Err(InvalidState::PendingReplicaDeletion),
        }
    }

    /// `EnableKey`; idempotent.
    ///
    /// # Errors
    /// [`InvalidState::PendingDeletion`], [`InvalidState::PendingImport`].
    pub fn enable(self) -> Result<Self, InvalidState> {
        self.has_material().map(|()| Self::Enabled)
    }

    /// `DisableKey`; idempotent.
    ///
    /// # Errors
    /// [`InvalidState::PendingDeletion`], [`InvalidState::PendingImport`].
    pub fn disable(self) -> Result<Self, InvalidState> {
        self.has_material().map(|()| Self::Disabled)
    }

    /// `ScheduleKeyDeletion`.
    ///
    /// # Errors
    /// [`InvalidState::PendingDeletion`], [`InvalidState::PendingReplicaDeletion`].
    pub fn schedule_deletion(self, deletion_date: Timestamp) -> Result<Self, InvalidState> {
        self.not_pending_deletion()
            .map(|()| Self::PendingDeletion { deletion_date })
    }

    /// `ScheduleKeyDeletion` of a primary key that has replicas.
    ///
    /// # Errors
    /// [`InvalidState::PendingDeletion`], [`InvalidState::PendingReplicaDeletion`].
    pub fn schedule_after_replicas(self, window_days: u16) -> Result<Self, InvalidState> {
        self.not_pending_deletion()
            .map(|()| Self::PendingReplicaDeletion { window_days })
    }

    /// `CancelKeyDeletion`: the key becomes disabled, whatever its state was before, or pending
    /// import when it has no material.
    ///
    /// # Errors
    /// [`InvalidState::NotPendingDeletion`].
    pub fn cancel_deletion(self) -> Result<Self, InvalidState> {
        match self {
            Self::PendingDeletion { .. } | Self::PendingReplicaDeletion { .. } => {
                Ok(Self::Disabled)
            }
            Self::Enabled | Self::Disabled | Self::PendingImport => {
                Err(InvalidState::NotPendingDeletion)
            }
        }
    }
}

/// A tag of a KMS key or of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 1..=128 characters.
    pub key: String,
    /// 0..=256 characters.
    pub value: String,
}

/// A KMS key without its material: the facts that `DescribeKey` answers, and its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// The identifier.
    pub id: KeyId,
    /// The Region that it is in.
    pub region: RegionNumber,
    /// The Region of the primary key, its own or another; `None` for a single-Region key.
    pub primary: Option<RegionNumber>,
    /// 12 digits.
    pub account: arn::AccountId,
    /// 0..=8192 characters.
    pub description: String,
    /// The kind of key.
    pub spec: KeySpec,
    /// What the key may be used for.
    pub usage: KeyUsage,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// The state.
    pub state: KeyState,
    /// When the key was created.
    pub creation_date: Timestamp,
    /// At most 50, sorted by their keys, which are unique; case matters.
    pub tags: Vec<Tag>,
    /// When its material is rotated automatically; `None` when only on demand.
    pub rotation: Option<RotationSchedule>,
    /// The material that was imported into a key of origin `EXTERNAL`, in ascending order of
    /// generations; empty for other keys.
    pub imports: Vec<Import>,
    /// The highest generation that imported material ever had, including material that is gone: no
    /// generation is used twice.
    pub generations: u32,
    /// Whether it was disabled when imported material went: it is again when the material is back.
    pub was_disabled: bool,
    /// The custom key store that it is in, if its origin is `EXTERNAL_KEY_STORE`.
    pub key_store: Option<InKeyStore>,
}

impl KmsKey {
    /// An enabled symmetric key of the home Region, without a description, tags or automatic
    /// rotation.
    #[must_use]
    pub fn new(id: KeyId, account: arn::AccountId, creation_date: Timestamp) -> Self {
        Self {
            id,
            region: RegionNumber::HOME,
            primary: None,
            account,
            description: String::new(),
            spec: KeySpec::Symmetric,
            usage: KeyUsage::EncryptDecrypt,
            origin: KeyOrigin::AwsKms,
            state: KeyState::Enabled,
            creation_date,
            tags: Vec::new(),
            rotation: None,
            imports: Vec::new(),
            generations: 0,
            was_disabled: false,
            key_store: None,
        }
    }

    /// Whether it is in a key store that is not connected.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.key_store
            .as_ref()
            .is_some_and(|store| !store.is_connected)
    }

    /// Its state as the API names it: `Unavailable` where it would be enabled or disabled, and its
    /// key store is not connected.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            KeyState::Enabled | KeyState::Disabled if self.is_cut_off() => UNAVAILABLE,
            state => state.name(),
        }
    }

    /// Whether cryptographic operations may use the key.
    ///
    /// # Errors
    /// The state that forbids it.
    pub fn usable(&self) -> Result<(), InvalidState> {
        match self.state {
            KeyState::Enabled | KeyState::Disabled if self.is_cut_off() => {
                Err(InvalidState::Unavailable)
            }
            state => state.usable(),
        }
    }

    /// What names it among all keys of the daemon.
    #[must_use]
    pub fn regional_id(&self) -> RegionalId {
        RegionalId {
            id: self.id,
            region: self.region,
        }
    }

    /// Whether it is a multi-Region primary key.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.primary == Some(self.region)
    }

    /// Whether it is a multi-Region replica key.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        self.primary.is_some() && !self.is_primary()
    }

    /// Its `MultiRegionKeyType`; `None` for a single-Region key.
    #[must_use]
    pub fn multi_region_type(&self) -> Option<&'static str> {
        let primary = self.primary?;
        Some(if primary == self.region {
            "PRIMARY"
        } else {
            "REPLICA"
        })
    }

    /// Whether material that was imported for good is missing, or none was ever imported: such a
    /// key cannot be used.
    #[must_use]
    pub fn lacks_material(&self) -> bool {
        let mut lasting = self.imports.iter().filter(|import| !import.pending);
        let present = match lasting.next() {
            None => false,
            Some(first) => first.present && lasting.all(|import| import.present),
        };
        self.origin == KeyOrigin::External && !present
    }

    /// Whether this generation waits for the rotation that will make it current.
    #[must_use]
    pub fn is_pending(&self, generation: u32) -> bool {
        let mut imports = self.imports.iter();
        imports.any(|import| import.pending && import.generation == generation)
    }

    /// The last import that became current, even if its material is gone.
    #[must_use]
    pub fn current_import(&self) -> Option<&Import> {
        self.imports.iter().rfind(|import| !import.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_print_as_they_parse() {
        for text in [
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "mrk-1234abcd12ab34cd56ef1234567890ab",
        ] {
            assert_eq!(text.parse::<KeyId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "foo",
            "1234abcd12ab34cd56ef1234567890ab",
            "1234abcd-12ab-34cd-56ef-1234567890a",
            "1234abcd-12ab-34cd-56ef-1234567890abc",
            "1234abcd-12ab-34cd-56ef-1234567890ag",
            "+234abcd-12ab-34cd-56ef-1234567890ab",
            "mrk-1234",
            "mrk-1234abcd-12ab-34cd-56ef-1234567890ab",
            "é234abc-12ab-34cd-56ef-1234567890ab",
        ] {
            assert_eq!(text.parse::<KeyId>(), Err(InvalidKeyId), "{text}");
        }
    }

    #[test]
    fn states_move_as_the_table_says() {
        let pending = KeyState::PendingDeletion {
            deletion_date: Timestamp(9),
        };
        assert_eq!(KeyState::Enabled.disable(), Ok(KeyState::Disabled));
        assert_eq!(KeyState::Disabled.disable(), Ok(KeyState::Disabled));
        assert_eq!(KeyState::Disabled.enable(), Ok(KeyState::Enabled));
        assert_eq!(
            KeyState::Disabled.schedule_deletion(Timestamp(9)),
            Ok(pending)
        );
        assert_eq!(pending.cancel_deletion(), Ok(KeyState::Disabled));
        assert_eq!(pending.enable(), Err(InvalidState::PendingDeletion));
        assert_eq!(pending.disable(), Err(InvalidState::PendingDeletion));
        assert_eq!(
            pending.schedule_deletion(Timestamp(9)),
            Err(InvalidState::PendingDeletion)
        );
        assert_eq!(
            KeyState::Enabled.cancel_deletion(),
            Err(InvalidState::NotPendingDeletion)
        );
        assert_eq!(KeyState::Disabled.usable(), Err(InvalidState::Disabled));
        let import = KeyState::PendingImport;
        for moved in [import.enable(), import.disable()] {
            assert_eq!(moved, Err(InvalidState::PendingImport));
        }
        assert_eq!(import.usable(), Err(InvalidState::PendingImport));
        assert_eq!(import.schedule_deletion(Timestamp(9)), Ok(pending));
        let cancelled = import.cancel_deletion();
        assert_eq!(cancelled, Err(InvalidState::NotPendingDeletion));
    }
}
