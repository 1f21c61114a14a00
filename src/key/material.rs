//! Backing keys: the generations of secret bytes behind a KMS key.

use crate::clock::Timestamp;
use crate::crypto::block_cipher::{BlockCipher, CipherKey};
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::mac::MacKey;
use crate::crypto::pair::{PairError, PrivateKey};
use crate::crypto::secret::SecretBytes;
use crate::key::KeyId;
use crate::key::rotation::RotationType;
use crate::key::spec::KeySpec;
use hex_simd::{AsOut, AsciiCase};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// The name of one generation of a KMS key's material: 32 bytes, printed as 64 lower-case hex
/// digits.
///
/// `HMAC-SHA-256(key = material, label ‖ key id)`: deterministic, so that imported material keeps
/// its id. For a private key, the key of the HMAC is its public key: that is one, in whatever form
/// the private key was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyMaterialId([u8; 32]);

impl KeyMaterialId {
    /// Domain separation.
    const LABEL: &[u8] = b"keymill key material id v1";

    /// The id of this material of this key.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn of(key: KeyId, material: &[u8]) -> Self {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(material).expect("HMAC takes keys of every length");
        mac.update(Self::LABEL);
        mac.update(key.bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// Parses the printed form; `None` for anything but 64 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        hex_simd::decode(text.as_bytes(), bytes.as_mut_slice().as_out()).ok()?;
        // Upper-case digits decode too, but are not the printed form.
        Some(Self(bytes)).filter(|id| id.hex() == text.as_bytes())
    }

    /// The printed form.
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

/// One generation of key material: a key of a block cipher. No `Debug` and no `Clone`: see WIPE-1.
pub struct BackingKey {
    generation: u32,
    id: KeyMaterialId,
    creation_date: Timestamp,
    rotation: Option<RotationType>,
    material: CipherKey,
}

impl BackingKey {
    /// Draws new material.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw(
        cipher: BlockCipher,
        key: KeyId,
        generation: u32,
        creation_date: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let material = CipherKey::draw(cipher, entropy)?;
        Ok(Self::from_material(
            key,
            generation,
            creation_date,
            material,
        ))
    }

    /// Uses material that exists already: from the store, from an import or from a test vector.
    #[must_use]
    pub fn from_material(
        key: KeyId,
        generation: u32,
        creation_date: Timestamp,
        material: impl Into<CipherKey>,
    ) -> Self {
        let material = material.into();
        Self {
            generation,
            id: KeyMaterialId::of(key, material.expose()),
            creation_date,
            rotation: None,
            material,
        }
    }

    /// Marks this generation as made by a rotation.
    #[must_use]
    pub fn by_rotation(mut self, rotation: RotationType) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// The generation's number, from 1; never reused.
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

    /// The rotation that made it; `None` for the first generation.
    #[must_use]
    pub fn rotation(&self) -> Option<RotationType> {
        self.rotation
    }

    /// The material: for the derivation of epoch keys.
    #[must_use]
    pub fn material(&self) -> &CipherKey {
        &self.material
    }

    /// The material in the clear: for sealing it at rest.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.material.expose()
    }
}

/// The material of an asymmetric or HMAC key, or of a key in an external key store, which never
/// changes. No `Debug` and no `Clone`: see
/// WIPE-1.
pub enum KeySecret {
    /// The private key of an asymmetric key.
    Pair(PrivateKey),
    /// The key of an HMAC key.
    Mac(MacKey),
    /// What a key in an external key store encrypts with before its proxy does. It is not one of
    /// the generations of a symmetric encryption key, so that nothing is under it alone.
    Inner(BackingKey),
}

/// Why material could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The entropy source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The key pair could not be made or read.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// The bytes do not have the spec's length.
    #[error("an HMAC key of another length")]
    Length,
    /// The spec is symmetric encryption, whose material is a [`BackingKey`].
    #[error("not the material of an asymmetric or HMAC key")]
    Symmetric,
}

impl KeySecret {
    /// Draws new material: up to seconds of arithmetic for RSA.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn draw(spec: KeySpec, entropy: &Entropy) -> Result<Self, SecretError> {
        match spec {
            KeySpec::Symmetric => Err(SecretError::Symmetric),
            KeySpec::Pair(spec) => Ok(Self::Pair(PrivateKey::generate(spec, entropy.probe()?)?)),
            KeySpec::Mac(spec) => Ok(Self::Mac(MacKey::draw(spec, entropy)?)),
        }
    }

    /// Reads material that the store has.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn from_bytes(spec: KeySpec, bytes: SecretBytes) -> Result<Self, SecretError> {
        match spec {
            KeySpec::Symmetric => Err(SecretError::Symmetric),
            KeySpec::Pair(spec) => Ok(Self::Pair(PrivateKey::from_stored(spec, bytes)?)),
            KeySpec::Mac(spec) => MacKey::from_bytes(spec, bytes)
                .map(Self::Mac)
                .ok_or(SecretError::Length),
        }
    }

    /// The name of this material as that of a key.
    #[must_use]
    pub fn id(&self, key: KeyId) -> KeyMaterialId {
        match self {
            Self::Pair(pair) => KeyMaterialId::of(key, pair.public_der()),
            Self::Mac(mac) => KeyMaterialId::of(key, mac.expose()),
            Self::Inner(inner) => inner.id(),
        }
    }

    /// The material in the clear, PKCS#8 DER, a seed or the key itself: for sealing it at rest.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match self {
            Self::Pair(key) => key.expose_stored(),
            Self::Mac(key) => key.expose(),
            Self::Inner(inner) => inner.expose(),
        }
    }

    /// The private key of an asymmetric key.
    #[must_use]
    pub fn pair(&self) -> Option<&PrivateKey> {
        match self {
            Self::Pair(key) => Some(key),
            Self::Mac(_) | Self::Inner(_) => None,
        }
    }

    /// The key of an HMAC key.
    #[must_use]
    pub fn mac(&self) -> Option<&MacKey> {
        match self {
            Self::Mac(key) => Some(key),
            Self::Pair(_) | Self::Inner(_) => None,
        }
    }

    /// The material that goes with an external key.
    #[must_use]
    pub fn inner(&self) -> Option<&BackingKey> {
        match self {
            Self::Inner(inner) => Some(inner),
            Self::Pair(_) | Self::Mac(_) => None,
        }
    }
}
