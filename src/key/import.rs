//! Imported material: the facts that stay known when its bytes have expired or were deleted.

use crate::clock::Timestamp;
use crate::key::material::KeyMaterialId;
use crate::key::rotation::RotationType;

/// One material that was imported into a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// From 1; blobs under this material name it.
    pub generation: u32,
    /// Its name, by which a second import of the same material is recognised.
    pub id: KeyMaterialId,
    /// When it became current. For the first material: when it was imported first.
    pub date: Timestamp,
    /// The rotation that made it current; `None` for the first material.
    pub rotation: Option<RotationType>,
    /// Whether the store has its bytes.
    pub present: bool,
    /// Whether it waits for the rotation that will make it current. Until then it is not bound to
    /// the key permanently.
    pub pending: bool,
    /// When its bytes expire; `None` when they stay until they are deleted.
    pub valid_to: Option<Timestamp>,
    /// 0..=256 characters.
    pub description: String,
}

impl Import {
    /// Whether its bytes are still here after they have expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.present && self.valid_to.is_some_and(|date| date <= now)
    }

    /// Its name in the API, a value of `ExpirationModel`.
    #[must_use]
    pub fn expiration_model(&self) -> &'static str {
        match self.valid_to {
            Some(_) => "KEY_MATERIAL_EXPIRES",
            None => "KEY_MATERIAL_DOES_NOT_EXPIRE",
        }
    }
}
