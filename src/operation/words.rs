//! What modules must agree on about an operation, and the words in which its row says it.

use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use crate::key::{InvalidState, KmsKey};

/// The facts of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Which resource policies decide on.
    pub about: About,
    /// Whether another account's key may be named.
    pub crosses_accounts: bool,
    /// Whether `KeyId` may be an alias, or the ARN of one.
    pub takes_alias: bool,
    /// The place of its first action in `GrantOperationList`; `None` if no grant allows it.
    pub grant_place: Option<u8>,
    /// Whether a grant's constraint on the encryption context applies to it.
    pub has_context: bool,
    /// Which keys have it.
    pub keys: Keys,
    /// Where the material of the key must come from; `None` if it does not matter.
    pub origin: Option<KeyOrigin>,
    /// Whether multi-Region replica keys have it.
    pub on_replicas: bool,
    /// In which states of the key it is performed.
    pub states: States,
    /// Whether it counts against the limits of `[rates]`.
    pub is_limited: bool,
    /// Whether it is a use of the key, as `GetKeyLastUsage` answers it.
    pub is_use: bool,
    /// Whether it changes the store: the audit log calls every other one read-only.
    pub changes: bool,
    /// Whether a dry run does the work before it answers, since the work is the check.
    pub works_in_dry_runs: bool,
    /// The members of its request that the audit log writes down, beside [`Facts::RECORDED`]. None
    /// of them is secret.
    pub records: &'static [&'static str],
}

/// Which resource policies decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A key: its policy and its grants decide too.
    Key,
    /// A grant: it says itself who may retire it.
    Grant,
    /// A role: its trust policy decides too.
    Role,
    /// `*`: identity policies decide alone.
    Nothing,
}

/// Which keys have an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every key.
    All,
    /// Keys of this usage.
    Having(KeyUsage),
    /// Symmetric encryption keys.
    Symmetric,
    /// Keys with a public key.
    Asymmetric,
}

/// In which states of a key an operation is performed (AWS KMS, "Key states").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// In every state, or the operation decides by itself.
    Any,
    /// In `Enabled` alone, and of a key in a custom key store while that is connected.
    Usable,
    /// In `Enabled`, whether or not the key's custom key store is connected.
    Enabled,
    /// In all but `PendingDeletion`.
    NotPendingDeletion,
    /// In `Enabled` and `Disabled`: its material is there.
    WithMaterial,
}

impl Keys {
    /// The usage that a key must have.
    #[must_use]
    pub const fn usage(self) -> Option<KeyUsage> {
        match self {
            Self::All | Self::Asymmetric => None,
            Self::Having(usage) => Some(usage),
            Self::Symmetric => Some(KeyUsage::EncryptDecrypt),
        }
    }

    /// Whether a key of this spec and usage is among them.
    #[must_use]
    pub fn contain(self, spec: KeySpec, usage: KeyUsage) -> bool {
        match self {
            Self::All => true,
            Self::Having(needed) => usage == needed,
            Self::Symmetric => spec == KeySpec::Symmetric,
            Self::Asymmetric => matches!(spec, KeySpec::Pair(_)),
        }
    }
}

impl States {
    /// Refuses a key in a state in which the operation is not performed.
    ///
    /// # Errors
    /// [`InvalidState`]: which state that is.
    pub fn check(self, key: &KmsKey) -> Result<(), InvalidState> {
        match self {
            Self::Any => Ok(()),
            Self::Usable => key.usable(),
            Self::Enabled => key.state.usable(),
            Self::NotPendingDeletion => key.state.not_pending_deletion(),
            Self::WithMaterial => key.state.has_material(),
        }
    }
}

/// An operation about no key.
pub(super) const fn about_nothing() -> Facts {
    Facts {
        about: About::Nothing,
        crosses_accounts: false,
        takes_alias: false,
        grant_place: None,
        has_context: false,
        keys: Keys::All,
        origin: None,
        on_replicas: true,
        states: States::Any,
        is_limited: false,
        is_use: false,
        changes: false,
        works_in_dry_runs: false,
        records: &[],
    }
}

/// An operation about a key of the caller's own account, named by its id or ARN.
pub(super) const fn about_key() -> Facts {
    Facts {
        about: About::Key,
        ..about_nothing()
    }
}

/// An operation about a grant.
pub(super) const fn about_grant() -> Facts {
    Facts {
        about: About::Grant,
        ..about_nothing()
    }
}

/// An action about a role.
pub(super) const fn about_role() -> Facts {
    Facts {
        about: About::Role,
        ..about_nothing()
    }
}

/// A cryptographic operation with these keys, of any account, by any of the four forms of `KeyId`.
pub(super) const fn cryptographic(keys: Keys) -> Facts {
    Facts {
        is_use: true,
        has_context: true,
        keys,
        states: States::Usable,
        ..about_key().by_alias().across_accounts().limited()
    }
}

impl Facts {
    /// The members that the audit log writes down of every operation that has them.
    pub const RECORDED: [&'static str; 2] = ["KeyId", "DryRun"];

    /// The same operation, for a key that may be named by an alias.
    pub(super) const fn by_alias(self) -> Self {
        let takes_alias = true;
        Self {
            takes_alias,
            ..self
        }
    }

    /// The same operation, for keys of other accounts too.
    pub(super) const fn across_accounts(self) -> Self {
        let crosses_accounts = true;
        Self {
            crosses_accounts,
            ..self
        }
    }

    /// The same operation, which a grant may allow: its first action has this place in
    /// `GrantOperationList`.
    pub(super) const fn grantable(self, place: u8) -> Self {
        let grant_place = Some(place);
        Self {
            grant_place,
            ..self
        }
    }

    /// The same operation, to which a grant's constraint on the encryption context applies.
    pub(super) const fn with_context(self) -> Self {
        let has_context = true;
        Self {
            has_context,
            ..self
        }
    }

    /// The same operation, for these keys alone.
    pub(super) const fn takes(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// The same operation, for keys whose material comes from there.
    pub(super) const fn of_origin(self, origin: KeyOrigin) -> Self {
        let origin = Some(origin);
        Self { origin, ..self }
    }

    /// The same operation, but not of multi-Region replica keys.
    pub(super) const fn not_on_replicas(self) -> Self {
        let on_replicas = false;
        Self {
            on_replicas,
            ..self
        }
    }

    /// The same operation, in these states of the key alone.
    pub(super) const fn in_states(self, states: States) -> Self {
        Self { states, ..self }
    }

    /// The same operation, counted against the limits.
    pub(super) const fn limited(self) -> Self {
        let is_limited = true;
        Self { is_limited, ..self }
    }

    /// The same operation, as one that changes the store.
    pub(super) const fn changes(self) -> Self {
        let changes = true;
        Self { changes, ..self }
    }

    /// The same operation, whose dry run does the work before it answers.
    pub(super) const fn works_in_dry_runs(self) -> Self {
        let works_in_dry_runs = true;
        Self {
            works_in_dry_runs,
            ..self
        }
    }

    /// The same operation, of whose request the audit log writes these members down.
    pub(super) const fn records(self, records: &'static [&'static str]) -> Self {
        Self { records, ..self }
    }
}
