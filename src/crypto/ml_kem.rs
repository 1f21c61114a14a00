//! ML-KEM (FIPS 203): a shared secret of 32 bytes, and its ciphertext for the holder of a private
//! key.
//!
//! A private key is its seed of 64 bytes, `d ‖ z`, and is expanded once. A ciphertext of the right
//! length always opens. One that was not made for the key opens to `SHAKE256(z ‖ ciphertext, 32)`,
//! which looks like any other secret (implicit rejection, algorithm 18): its sender must not learn
//! that it failed, so nothing here compares or checks.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::SecretBytes;
use crate::crypto::stack::wiped_below;
use ml_kem::pkcs8::{EncodePrivateKey, EncodePublicKey};
use ml_kem::{Decapsulate, Seed, ml_kem_512, ml_kem_768, ml_kem_1024};

/// Bytes of a seed.
pub(super) const SEED_BYTES: usize = 64;
/// Bytes of the stack that the library uses at most: 40 KiB were measured (ML-KEM-1024,
/// decapsulation). It leaves copies of seeds and secrets there.
const STACK_BYTES: usize = 64 * 1024;

/// A parameter set (FIPS 203, section 8).
#[derive(Clone, Copy)]
pub(super) enum KemSet {
    MlKem512,
    MlKem768,
    MlKem1024,
}

/// A private key with its public key, expanded; wiped when it is dropped. No `Debug` and no
/// `Clone`: see WIPE-1.
pub struct KemKey(Expanded);

enum Expanded {
    MlKem512(ml_kem_512::DecapsulationKey),
    MlKem768(ml_kem_768::DecapsulationKey),
    MlKem1024(ml_kem_1024::DecapsulationKey),
}

/// A secret that is shared with the holder of a private key.
pub struct Encapsulated {
    /// The secret, 32 bytes.
    pub secret: SecretBytes,
    /// What the holder gets it from: [`KemKey::ciphertext_bytes`].
    pub ciphertext: Vec<u8>,
}

/// The same work with a key of each set.
macro_rules! with_key {
    ($kem:expr, $key:ident => $work:expr) => {
        match &$kem.0 {
            Expanded::MlKem512($key) => $work,
            Expanded::MlKem768($key) => $work,
            Expanded::MlKem1024($key) => $work,
        }
    };
}

impl KemKey {
    /// Expands a seed; `None` for one of another length.
    pub(super) fn of_seed(set: KemSet, seed: &[u8]) -> Option<Self> {
        let seed: &Seed = seed.try_into().ok()?;
        Some(wiped_below::<STACK_BYTES, _>(|| Self::expand(set, seed)))
    }

    fn expand(set: KemSet, seed: &Seed) -> Self {
        Self(match set {
            KemSet::MlKem512 => Expanded::MlKem512(ml_kem_512::DecapsulationKey::from_seed(*seed)),
            KemSet::MlKem768 => Expanded::MlKem768(ml_kem_768::DecapsulationKey::from_seed(*seed)),
            KemSet::MlKem1024 => {
                Expanded::MlKem1024(ml_kem_1024::DecapsulationKey::from_seed(*seed))
            }
        })
    }

    /// The private key, PKCS#8 DER in seed form (RFC 9935).
    pub(super) fn private_der(&self) -> Option<SecretBytes> {
        let der = with_key!(self, key => key.to_pkcs8_der()).ok()?;
        Some(SecretBytes::copy_of(der.as_bytes()))
    }

    /// The public key, `SubjectPublicKeyInfo` in DER.
    pub(super) fn public_der(&self) -> Option<Box<[u8]>> {
        let der = with_key!(self, key => key.encapsulation_key().to_public_key_der());
        Some(der.ok()?.as_bytes().into())
    }

    /// Bytes of a ciphertext.
    #[must_use]
    pub fn ciphertext_bytes(&self) -> usize {
        match self.0 {
            Expanded::MlKem512(_) => 768,
            Expanded::MlKem768(_) => 1088,
            Expanded::MlKem1024(_) => 1568,
        }
    }

    /// Draws a secret and shares it with the holder of this key.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn encapsulate(&self, entropy: &Entropy) -> Result<Encapsulated, EntropyError> {
        Ok(self.encapsulated(entropy.draw_secret::<32>()?.expose()))
    }

    /// The secret that follows from these random bytes.
    fn encapsulated(&self, random: &[u8; 32]) -> Encapsulated {
        wiped_below::<STACK_BYTES, _>(|| {
            with_key!(self, key => {
                let key = key.encapsulation_key();
                let (ciphertext, shared) = key.encapsulate_deterministic(random.into());
                let secret = SecretBytes::copy_of(&shared);
                let ciphertext = ciphertext.to_vec();
                Encapsulated { secret, ciphertext }
            })
        })
    }

    /// The secret of a ciphertext; `None` for one of another length.
    #[must_use]
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Option<SecretBytes> {
        wiped_below::<STACK_BYTES, _>(|| {
            with_key!(self, key => {
                let shared = key.decapsulate_slice(ciphertext).ok()?;
                Some(SecretBytes::copy_of(&shared))
            })
        })
    }
}

#[cfg(test)]
mod tests;
