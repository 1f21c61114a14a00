//! Backing keys: the generations of secret bytes behind a KMS key.

use crate::clock::Timestamp;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::key::KeyId;
use crate::key::rotation::RotationType;
use hex_simd::{AsOut, AsciiCase};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Names one generation of a KMS key's material: 32 bytes, printed as 64 lower-case hex digits.
///
/// `HMAC-SHA-256(key = material, label ‖ key id)`: deterministic, so that imported material keeps its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyMaterialId([u8; 32]);

impl KeyMaterialId {
    /// As it is printed.
    #[must_use]
    pub fn hex(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        let _written = hex_simd::encode(&self.0, digits.as_mut_slice().as_out(), AsciiCase::Lower);
        digits
    }
}

impl fmt::Display for KeyMaterialId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(std::str::from_utf8(&self.hex()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for KeyMaterialId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// One generation of key material: 256 secret bits. No `Debug` and no `Clone`: see WIPE-1.
pub struct BackingKey {
    generation: u32,
    id: KeyMaterialId,
    creation_date: Timestamp,
    rotation: Option<RotationType>,
    material: Secret<32>,
}

impl BackingKey {
    /// Domain separation of [`KeyMaterialId`].
    const ID_LABEL: &[u8] = b"keymill key material id v1";

    /// Draws new material.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw(
        key: KeyId,
        generation: u32,
        creation_date: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        Ok(Self::from_material(
            key,
            generation,
            creation_date,
            entropy.draw_secret()?,
        ))
    }

    /// Material that is known already: read back from the store, or a test vector.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn from_material(
        key: KeyId,
        generation: u32,
        creation_date: Timestamp,
        material: Secret<32>,
    ) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(material.expose())
            .expect("HMAC takes keys of every length");
        mac.update(Self::ID_LABEL);
        mac.update(key.bytes());
        let id = KeyMaterialId(mac.finalize().into_bytes().into());
        Self {
            generation,
            id,
            creation_date,
            rotation: None,
            material,
        }
    }

    /// The same, as made by a rotation.
    #[must_use]
    pub fn by_rotation(mut self, rotation: RotationType) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// From 1, never reused.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The public name of this generation.
    #[must_use]
    pub fn id(&self) -> KeyMaterialId {
        self.id
    }

    /// When this generation was made.
    #[must_use]
    pub fn creation_date(&self) -> Timestamp {
        self.creation_date
    }

    /// What rotation made it; `None` for the first generation.
    #[must_use]
    pub fn rotation(&self) -> Option<RotationType> {
        self.rotation
    }

    /// The material in the clear: for the derivation of an epoch key, and for sealing it at rest.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.material.expose()
    }
}
