//! Open, read a snapshot, apply a change; the only writer.

use crate::key::arn::Region;
use std::sync::Arc;

pub mod record;
pub mod root_key;
pub mod snapshot;
pub mod sqlite;

pub use root_key::RootKey;
pub use snapshot::{AccessKey, Alias, KeyEntry, PrincipalEntry, Snapshot};

/// One change of the store; several are applied in one transaction.
pub enum Change {
    /// Creates or replaces a key (metadata and all material generations).
    PutKey(snapshot::KeyDraft),
    /// Removes a key and its material for good.
    RemoveKey(crate::key::KeyId),
    /// Creates or replaces an alias.
    PutAlias(Alias),
    /// Removes an alias.
    RemoveAlias(crate::key::arn::AccountId, crate::key::arn::AliasName),
    /// Creates or replaces a principal with its access keys and policies.
    PutPrincipal(PrincipalEntry),
    /// Removes a principal by ARN.
    RemovePrincipal(String),
}

/// Why the store could not be opened, read or written. Each prints as one line that names the file or record and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Helper C replaces this by the real variants.
    #[error("unspecified")]
    Unspecified,
}

/// The keystore of one daemon.
pub struct Keystore(());

impl Keystore {
    /// The current view; cheap, never locks.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }

    /// The partition and Region of the ARNs.
    #[must_use]
    pub fn region(&self) -> &Region {
        todo!()
    }

    /// Decides a change on the current snapshot, makes it durable, publishes the next snapshot. Changes are serialized; the outcome of
    /// `decide` is final only when this returns.
    ///
    /// # Errors
    /// What `decide` refused, or [`KeystoreError`]; in both cases nothing has changed.
    pub async fn apply<T, E: From<KeystoreError>>(
        &self,
        _decide: impl FnOnce(&Snapshot) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        todo!()
    }
}
