//! Key pairs: RSA (FIPS 186-5, e = 65537), the NIST curves, secp256k1 and Ed25519, generated and
//! parsed by aws-lc.
//!
//! A private key is kept as its PKCS#8 DER (RFC 5958, version 1) and is parsed once. That form is
//! what is stored and what callers get. Its public key is an X.509 `SubjectPublicKeyInfo` (RFC
//! 5280). aws-lc's own generator, which the operating system seeds, draws the pairs: aws-lc has no
//! other way to draw the primes of RSA.

use crate::crypto::entropy::Probed;
use crate::crypto::secret::SecretBytes;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use strum::{EnumString, IntoStaticStr};

/// The kind of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumString, IntoStaticStr)]
pub enum PairSpec {
    /// RSA with a modulus of 2048 bits.
    #[strum(serialize = "RSA_2048")]
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    #[strum(serialize = "RSA_3072")]
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    #[strum(serialize = "RSA_4096")]
    Rsa4096,
    /// secp256r1
    #[strum(serialize = "ECC_NIST_P256")]
    EccNistP256,
    /// secp384r1
    #[strum(serialize = "ECC_NIST_P384")]
    EccNistP384,
    /// secp521r1
    #[strum(serialize = "ECC_NIST_P521")]
    EccNistP521,
    /// secp256k1
    #[strum(serialize = "ECC_SECG_P256K1")]
    EccSecgP256K1,
    /// Ed25519
    #[strum(serialize = "ECC_NIST_EDWARDS25519")]
    EccNistEdwards25519,
}

/// The family of a pair, which decides what its keys can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RSA.
    Rsa,
    /// A curve of FIPS 186-5 or secp256k1, for ECDSA and (NIST's alone) ECDH.
    Weierstrass,
    /// Ed25519.
    Edwards,
}

impl PairSpec {
    /// All specs, for tables by spec.
    pub const ALL: [Self; 8] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::EccNistP256,
        Self::EccNistP384,
        Self::EccNistP521,
        Self::EccSecgP256K1,
        Self::EccNistEdwards25519,
    ];

    /// All but the larger RSA keys, which take seconds to make and run through the same code.
    #[cfg(test)]
    pub(crate) fn quick() -> impl Iterator<Item = Self> {
        let larger = |spec: &Self| matches!(spec, Self::Rsa3072 | Self::Rsa4096);
        Self::ALL.into_iter().filter(move |spec| !larger(spec))
    }

    /// Its name in the API, a value of `KeySpec` and `KeyPairSpec`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The family, which decides what its keys can do.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => Family::Rsa,
            Self::EccNistP256 | Self::EccNistP384 | Self::EccNistP521 | Self::EccSecgP256K1 => {
                Family::Weierstrass
            }
            Self::EccNistEdwards25519 => Family::Edwards,
        }
    }

    /// Bytes of an RSA modulus; `None` for curves.
    #[must_use]
    pub fn modulus_bytes(self) -> Option<usize> {
        match self {
            Self::Rsa2048 => Some(256),
            Self::Rsa3072 => Some(384),
            Self::Rsa4096 => Some(512),
            _ => None,
        }
    }

    fn generator(self) -> Generator {
        match self {
            Self::Rsa2048 => Generator::Rsa(KeySize::Rsa2048),
            Self::Rsa3072 => Generator::Rsa(KeySize::Rsa3072),
            Self::Rsa4096 => Generator::Rsa(KeySize::Rsa4096),
            Self::EccNistP256 => Generator::Curve(&ECDSA_P256_SHA256_ASN1_SIGNING),
            Self::EccNistP384 => Generator::Curve(&ECDSA_P384_SHA384_ASN1_SIGNING),
            Self::EccNistP521 => Generator::Curve(&ECDSA_P521_SHA512_ASN1_SIGNING),
            Self::EccSecgP256K1 => Generator::Curve(&ECDSA_P256K1_SHA256_ASN1_SIGNING),
            Self::EccNistEdwards25519 => Generator::Edwards,
        }
    }
}

/// What aws-lc needs to make or to read a pair.
enum Generator {
    Rsa(KeySize),
    Curve(&'static EcdsaSigningAlgorithm),
    Edwards,
}

/// The private key as aws-lc has it, which wipes it when it is dropped.
pub(super) enum Parsed {
    Rsa(rsa::KeyPair),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

/// The pair could not be made, or the bytes are not a private key of the spec.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key pair of this spec")]
pub struct PairError;

/// A private key with its public key. No `Debug` and no `Clone`: see WIPE-1.
pub struct PrivateKey {
    spec: PairSpec,
    der: SecretBytes,
    public: Box<[u8]>,
    pub(super) parsed: Parsed,
}

impl PrivateKey {
    /// Draws a new pair. It takes tens of microseconds for a curve and up to seconds for RSA.
    ///
    /// # Errors
    /// [`PairError`], when aws-lc's generator fails.
    pub fn generate(spec: PairSpec, _probed: Probed) -> Result<Self, PairError> {
        let failed = |_: Unspecified| PairError;
        let parsed = match spec.generator() {
            Generator::Rsa(size) => Parsed::Rsa(rsa::KeyPair::generate(size).map_err(failed)?),
            Generator::Curve(curve) => {
                Parsed::Curve(EcdsaKeyPair::generate(curve).map_err(failed)?)
            }
            Generator::Edwards => Parsed::Edwards(Ed25519KeyPair::generate().map_err(failed)?),
        };
        let der = match &parsed {
            Parsed::Rsa(pair) => SecretBytes::copy_of(pair.as_der().map_err(failed)?.as_ref()),
            Parsed::Curve(pair) => {
                SecretBytes::copy_of(pair.to_pkcs8v1().map_err(failed)?.as_ref())
            }
            Parsed::Edwards(pair) => {
                SecretBytes::copy_of(pair.to_pkcs8v1().map_err(failed)?.as_ref())
            }
        };
        Self::of(spec, der, parsed)
    }

    /// Reads a private key that exists already: from the store, from an import or from a test
    /// vector.
    ///
    /// # Errors
    /// [`PairError`] when `der` is not the PKCS#8 DER of a valid key of this spec.
    pub fn from_der(spec: PairSpec, der: SecretBytes) -> Result<Self, PairError> {
        let bytes = der.expose();
        let parsed = match spec.generator() {
            Generator::Rsa(_) => rsa::KeyPair::from_pkcs8(bytes).map(Parsed::Rsa),
            Generator::Curve(curve) => EcdsaKeyPair::from_pkcs8(curve, bytes).map(Parsed::Curve),
            Generator::Edwards => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map(Parsed::Edwards)
            }
        };
        Self::of(spec, der, parsed.map_err(|_| PairError)?)
    }

    fn of(spec: PairSpec, der: SecretBytes, parsed: Parsed) -> Result<Self, PairError> {
        let public = match &parsed {
            Parsed::Rsa(pair) => {
                if spec.modulus_bytes() != Some(pair.public_modulus_len()) {
                    return Err(PairError);
                }
                pair.public_key().as_der()
            }
            Parsed::Curve(pair) => pair.public_key().as_der(),
            Parsed::Edwards(pair) => pair.public_key().as_der(),
        };
        let public = public.map_err(|_| PairError)?.as_ref().into();
        Ok(Self {
            spec,
            der,
            public,
            parsed,
        })
    }

    /// The kind of this pair.
    #[must_use]
    pub fn spec(&self) -> PairSpec {
        self.spec
    }

    /// The public key: `SubjectPublicKeyInfo`, DER.
    #[must_use]
    pub fn public_der(&self) -> &[u8] {
        &self.public
    }

    /// The private key in the clear, PKCS#8 DER: for sealing it, and for a caller entitled to it.
    #[must_use]
    pub fn expose_der(&self) -> &[u8] {
        self.der.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::probed;

    #[test]
    fn pairs_of_every_spec_are_read_back_from_their_der() {
        for spec in PairSpec::ALL {
            assert_eq!(spec.name().parse(), Ok(spec));
            let made = PrivateKey::generate(spec, probed()).unwrap();
            let der = made.expose_der();
            let read = PrivateKey::from_der(spec, SecretBytes::copy_of(der)).unwrap();
            assert_eq!(read.public_der(), made.public_der(), "{spec:?}");
            let shorter = PrivateKey::from_der(spec, SecretBytes::copy_of(&der[..der.len() - 1]));
            assert_eq!(shorter.err(), Some(PairError), "{spec:?}");
            for other in PairSpec::ALL.into_iter().filter(|other| *other != spec) {
                let taken = PrivateKey::from_der(other, SecretBytes::copy_of(der));
                assert_eq!(taken.err(), Some(PairError), "{spec:?} as {other:?}");
            }
        }
        assert!("SM2".parse::<PairSpec>().is_err());
    }
}
