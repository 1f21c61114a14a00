//! HMAC keys (FIPS 198-1): as many random bytes as the hash has; imported ones may fill its block.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::SecretBytes;
use aws_lc_rs::hmac;
use strum::{EnumString, IntoStaticStr};

/// Which hash an HMAC key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
pub enum MacSpec {
    /// SHA-224
    #[strum(serialize = "HMAC_224")]
    Hmac224,
    /// SHA-256
    #[strum(serialize = "HMAC_256")]
    Hmac256,
    /// SHA-384
    #[strum(serialize = "HMAC_384")]
    Hmac384,
    /// SHA-512
    #[strum(serialize = "HMAC_512")]
    Hmac512,
}

/// The MAC is not the MAC of this message under this key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the MAC does not verify")]
pub struct InvalidMac;

impl MacSpec {
    /// All, in the order of the service model.
    pub const ALL: [Self; 4] = [Self::Hmac224, Self::Hmac256, Self::Hmac384, Self::Hmac512];

    /// Its name in the API, a value of `KeySpec`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The name in the API of the one algorithm of such a key, a value of `MacAlgorithm`.
    #[must_use]
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Hmac224 => "HMAC_SHA_224",
            Self::Hmac256 => "HMAC_SHA_256",
            Self::Hmac384 => "HMAC_SHA_384",
            Self::Hmac512 => "HMAC_SHA_512",
        }
    }

    /// Bytes of a key that is drawn here, of the shortest that can be imported, and of a MAC.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Hmac224 => 28,
            Self::Hmac256 => 32,
            Self::Hmac384 => 48,
            Self::Hmac512 => 64,
        }
    }

    /// Bytes of the longest key that can be imported: a block of the hash. HMAC would hash a longer
    /// one first.
    #[must_use]
    pub fn import_bytes_max(self) -> usize {
        match self {
            Self::Hmac224 | Self::Hmac256 => 64,
            Self::Hmac384 | Self::Hmac512 => 128,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Hmac224 => hmac::HMAC_SHA224,
            Self::Hmac256 => hmac::HMAC_SHA256,
            Self::Hmac384 => hmac::HMAC_SHA384,
            Self::Hmac512 => hmac::HMAC_SHA512,
        }
    }
}

/// An HMAC key. No `Debug` and no `Clone`: see WIPE-1.
pub struct MacKey {
    spec: MacSpec,
    bytes: SecretBytes,
}

impl MacKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw(spec: MacSpec, entropy: &Entropy) -> Result<Self, EntropyError> {
        let bytes = entropy.draw_secret_bytes(spec.bytes())?;
        Ok(Self { spec, bytes })
    }

    /// Takes key bytes that exist already; `None` when they are shorter than the hash or longer
    /// than its block.
    #[must_use]
    pub fn from_bytes(spec: MacSpec, bytes: SecretBytes) -> Option<Self> {
        let lengths = spec.bytes()..=spec.import_bytes_max();
        let fits = lengths.contains(&bytes.expose().len());
        fits.then_some(Self { spec, bytes })
    }

    /// The hash that this key is for.
    #[must_use]
    pub fn spec(&self) -> MacSpec {
        self.spec
    }

    /// The key in the clear: for sealing it at rest.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The MAC of a message.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(self.spec.hmac(), self.bytes.expose());
        hmac::sign(&key, message).as_ref().to_vec()
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// [`InvalidMac`].
    pub fn verify(&self, message: &[u8], mac: &[u8]) -> Result<(), InvalidMac> {
        let key = hmac::Key::new(self.spec.hmac(), self.bytes.expose());
        hmac::verify(&key, message, mac).map_err(|_| InvalidMac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, has a key shorter than ours; its message and construction are checked
    /// against the `hmac` crate instead.
    #[test]
    fn macs_are_those_of_another_implementation() {
        use ::hmac::{Hmac, KeyInit, Mac};
        let key = MacKey::draw(MacSpec::Hmac256, &Entropy::os()).unwrap();
        let mut other = Hmac::<sha2::Sha256>::new_from_slice(key.expose()).unwrap();
        other.update(b"what do ya want for nothing?");
        let expected = other.finalize().into_bytes();
        assert_eq!(
            key.mac(b"what do ya want for nothing?"),
            expected.as_slice()
        );
    }

    #[test]
    fn a_mac_is_of_its_message_and_key_alone() {
        for spec in MacSpec::ALL {
            assert_eq!(spec.name().parse(), Ok(spec));
            let key = MacKey::draw(spec, &Entropy::os()).unwrap();
            let mac = key.mac(b"message");
            assert_eq!(mac.len(), spec.bytes());
            assert_eq!(key.verify(b"message", &mac), Ok(()));
            assert_eq!(key.verify(b"massage", &mac), Err(InvalidMac));
            assert_eq!(key.verify(b"message", &mac[1..]), Err(InvalidMac));
            let other = MacKey::draw(spec, &Entropy::os()).unwrap();
            assert_eq!(other.verify(b"message", &mac), Err(InvalidMac));
            let copied = |length: usize| SecretBytes::filled(length, |to| to.fill(7));
            for (length, fits) in [
                (spec.bytes() - 1, false),
                (spec.bytes(), true),
                (spec.bytes() + 1, true),
                (spec.import_bytes_max(), true),
                (spec.import_bytes_max() + 1, false),
            ] {
                let taken = MacKey::from_bytes(spec, copied(length));
                assert_eq!(taken.is_some(), fits, "{spec:?} {length}");
            }
        }
    }
}
