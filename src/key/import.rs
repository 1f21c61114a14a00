//! Imported material: what is known of it beside its bytes, which may have expired or been deleted.

use crate::clock::Timestamp;
use crate::key::material::KeyMaterialId;
use crate::key::rotation::RotationType;

/// One material that was imported into a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// From 1, as in the blobs under it.
    pub generation: u32,
    /// Its name: the same material imported again is known by it.
    pub id: KeyMaterialId,
    /// When it became current; the first time that it was imported, for the first.
    pub date: Timestamp,
    /// What made it current; `None` for the first.
    pub rotation: Option<RotationType>,
    /// Whether its bytes are here.
    pub present: bool,
    /// Whether it waits for the rotation that makes it current. Until then it is not bound to the
    /// key for good.
    pub pending: bool,
    /// When its bytes go; `None`: when they are deleted.
    pub valid_to: Option<Timestamp>,
    /// 0..=256 characters.
    pub description: String,
}

impl Import {
    /// Whether its bytes are here and should not be any more.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.present && self.valid_to.is_some_and(|date| date <= now)
    }

    /// `ExpirationModel`
    #[must_use]
    pub fn expiration_model(&self) -> &'static str {
        match self.valid_to {
            Some(_) => "KEY_MATERIAL_EXPIRES",
            None => "KEY_MATERIAL_DOES_NOT_EXPIRE",
        }
    }
}
