//! Key pairs: RSA (FIPS 186-5, e = 65537), the NIST curves, secp256k1, Ed25519 and ML-DSA (FIPS
//! 204), generated and parsed by aws-lc; and ML-KEM (FIPS 203) and SM2 (GB/T 32918), by RustCrypto.
//!
//! A private key is kept as its PKCS#8 DER (RFC 5958, version 1) and is parsed once. That form is
//! what callers get, also of a key that was imported in another, and what is stored, except that of
//! ML-DSA and ML-KEM the seed alone is stored. Its public key is an X.509 `SubjectPublicKeyInfo`
//! (RFC 5280). aws-lc's own generator, which the operating system seeds, draws the pairs: aws-lc
//! has no other way to draw the primes of RSA.

use crate::crypto::ber;
use crate::crypto::entropy::Probed;
use crate::crypto::ml_kem::{self, KemKey, KemSet};
use crate::crypto::secret::SecretBytes;
use crate::crypto::sm2::Sm2Key;
use aws_lc_rs::encoding::{AsBigEndian, AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING,
    ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm,
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
    /// The curve of GB/T 32918.5
    #[strum(serialize = "SM2")]
    Sm2,
    /// ML-KEM-512
    #[strum(serialize = "ML_KEM_512")]
    MlKem512,
    /// ML-KEM-768
    #[strum(serialize = "ML_KEM_768")]
    MlKem768,
    /// ML-KEM-1024
    #[strum(serialize = "ML_KEM_1024")]
    MlKem1024,
    /// ML-DSA-44
    #[strum(serialize = "ML_DSA_44")]
    MlDsa44,
    /// ML-DSA-65
    #[strum(serialize = "ML_DSA_65")]
    MlDsa65,
    /// ML-DSA-87
    #[strum(serialize = "ML_DSA_87")]
    MlDsa87,
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
    /// SM2, for signatures, encryption and key agreement.
    Sm2,
    /// ML-KEM, for encapsulation.
    MlKem,
    /// ML-DSA, for signatures.
    MlDsa,
}

impl PairSpec {
    /// All specs, for tables by spec. Import tokens name those of wrapping keys, RSA and SM2, by
    /// their places, which must stay.
    pub const ALL: [Self; 15] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::EccNistP256,
        Self::EccNistP384,
        Self::EccNistP521,
        Self::EccSecgP256K1,
        Self::EccNistEdwards25519,
        Self::Sm2,
        Self::MlKem512,
        Self::MlKem768,
        Self::MlKem1024,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// The specs of data key pairs, the values of `KeyPairSpec`: the first of [`Self::ALL`].
    pub const DATA_KEYS: [Self; 12] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::EccNistP256,
        Self::EccNistP384,
        Self::EccNistP521,
        Self::EccSecgP256K1,
        Self::EccNistEdwards25519,
        Self::Sm2,
        Self::MlKem512,
        Self::MlKem768,
        Self::MlKem1024,
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
            Self::Sm2 => Family::Sm2,
            Self::MlKem512 | Self::MlKem768 | Self::MlKem1024 => Family::MlKem,
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => Family::MlDsa,
        }
    }

    /// Whether a private key of this spec can be imported.
    #[must_use]
    pub fn is_importable(self) -> bool {
        self.seed_bytes().is_none()
    }

    /// Whether AWS KMS has keys of this spec in China Regions.
    #[must_use]
    pub fn is_in_china(self) -> bool {
        self.family() != Family::MlKem
    }

    /// Bytes of the seed that a private key is expanded from (FIPS 203, section 7.1; FIPS 204,
    /// section 5.1), the last of its PKCS#8; `None` for keys that have none.
    fn seed_bytes(self) -> Option<usize> {
        match self.family() {
            Family::MlKem => Some(ml_kem::SEED_BYTES),
            Family::MlDsa => Some(32),
            Family::Rsa | Family::Weierstrass | Family::Edwards | Family::Sm2 => None,
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
            Self::Sm2 => Generator::Sm2,
            Self::MlKem512 => Generator::MlKem(KemSet::MlKem512),
            Self::MlKem768 => Generator::MlKem(KemSet::MlKem768),
            Self::MlKem1024 => Generator::MlKem(KemSet::MlKem1024),
            Self::MlDsa44 => Generator::MlDsa(&ML_DSA_44_SIGNING),
            Self::MlDsa65 => Generator::MlDsa(&ML_DSA_65_SIGNING),
            Self::MlDsa87 => Generator::MlDsa(&ML_DSA_87_SIGNING),
        }
    }
}

/// What the libraries need to make or to read a pair.
enum Generator {
    Rsa(KeySize),
    Curve(&'static EcdsaSigningAlgorithm),
    Edwards,
    Sm2,
    MlKem(KemSet),
    MlDsa(&'static PqdsaSigningAlgorithm),
}

/// The private key as its library has it, which wipes it when it is dropped.
pub(super) enum Parsed {
    Rsa(rsa::KeyPair),
    Curve(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
    Sm2(Sm2Key),
    MlKem(KemKey),
    MlDsa(PqdsaKeyPair),
}

impl Parsed {
    fn read(spec: PairSpec, der: &[u8]) -> Result<Self, PairError> {
        let parsed = match spec.generator() {
            Generator::Rsa(_) => rsa::KeyPair::from_pkcs8(der).map(Self::Rsa),
            Generator::Curve(curve) => EcdsaKeyPair::from_pkcs8(curve, der).map(Self::Curve),
            Generator::Edwards => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Edwards)
            }
            Generator::Sm2 => return Sm2Key::read(der).map(Self::Sm2).map_err(|_| PairError),
            // Read by their seeds.
            Generator::MlKem(_) | Generator::MlDsa(_) => return Err(PairError),
        };
        parsed.map_err(|_| PairError)
    }

    /// Expands a seed.
    fn of_seed(spec: PairSpec, seed: &[u8]) -> Result<Self, PairError> {
        let expanded = match spec.generator() {
            Generator::MlKem(set) => KemKey::of_seed(set, seed).map(Self::MlKem),
            Generator::MlDsa(set) => {
                let pair = PqdsaKeyPair::from_seed(set, seed).ok();
                pair.map(Self::MlDsa)
            }
            Generator::Rsa(_) | Generator::Curve(_) | Generator::Edwards | Generator::Sm2 => None,
        };
        expanded.ok_or(PairError)
    }

    /// With its public key, which `to_der` writes into a private key of a Weierstrass curve if it
    /// was read with one.
    fn completed(self, spec: PairSpec) -> Result<Self, PairError> {
        let (Generator::Curve(curve), Self::Curve(pair)) = (spec.generator(), &self) else {
            return Ok(self);
        };
        let private = pair.private_key().as_be_bytes().map_err(|_| PairError)?;
        let public = pair.public_key().as_ref();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, private.as_ref(), public);
        pair.map(Self::Curve).map_err(|_| PairError)
    }

    /// PKCS#8 DER, version 1.
    fn to_der(&self) -> Result<SecretBytes, PairError> {
        let failed = |_: Unspecified| PairError;
        Ok(match self {
            Self::Rsa(pair) => SecretBytes::copy_of(pair.as_der().map_err(failed)?.as_ref()),
            Self::Curve(pair) => SecretBytes::copy_of(pair.to_pkcs8v1().map_err(failed)?.as_ref()),
            Self::Edwards(pair) => {
                SecretBytes::copy_of(pair.to_pkcs8v1().map_err(failed)?.as_ref())
            }
            Self::Sm2(key) => key.to_der().map_err(|_| PairError)?,
            Self::MlKem(key) => key.private_der().ok_or(PairError)?,
            Self::MlDsa(pair) => SecretBytes::copy_of(pair.to_pkcs8v1().map_err(failed)?.as_ref()),
        })
    }
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
            Generator::Sm2 => Parsed::Sm2(Sm2Key::generate().map_err(|_| PairError)?),
            Generator::MlKem(set) => {
                let seed = SecretBytes::try_filled(ml_kem::SEED_BYTES, rand::fill);
                let key = KemKey::of_seed(set, seed.map_err(failed)?.expose());
                Parsed::MlKem(key.ok_or(PairError)?)
            }
            Generator::MlDsa(set) => Parsed::MlDsa(PqdsaKeyPair::generate(set).map_err(failed)?),
        };
        let der = parsed.to_der()?;
        Self::of(spec, der, parsed)
    }

    /// Reads a private key that was written here: from a token or from a test vector.
    ///
    /// # Errors
    /// [`PairError`] when `der` is not the PKCS#8 DER of a valid key of this spec, as
    /// [`Self::expose_der`] gives it.
    pub fn from_der(spec: PairSpec, der: SecretBytes) -> Result<Self, PairError> {
        let Some(bytes) = spec.seed_bytes() else {
            let parsed = Parsed::read(spec, der.expose())?;
            return Self::of(spec, der, parsed);
        };
        let at = der.expose().len().checked_sub(bytes).ok_or(PairError)?;
        let key = Self::of_seed(spec, &der.expose()[at..])?;
        let is_it = key.expose_der() == der.expose();
        is_it.then_some(key).ok_or(PairError)
    }

    /// Reads a private key as [`Self::expose_stored`] gives it.
    ///
    /// # Errors
    /// [`PairError`] when the bytes are not a valid key of this spec.
    pub fn from_stored(spec: PairSpec, bytes: SecretBytes) -> Result<Self, PairError> {
        match spec.seed_bytes() {
            Some(_) => Self::of_seed(spec, bytes.expose()),
            None => Self::from_der(spec, bytes),
        }
    }

    fn of_seed(spec: PairSpec, seed: &[u8]) -> Result<Self, PairError> {
        let parsed = Parsed::of_seed(spec, seed)?;
        Self::of(spec, parsed.to_der()?, parsed)
    }

    /// Reads a private key that was written elsewhere: PKCS#8 in either version, of RSA and
    /// Weierstrass curves also in BER, as AWS KMS takes it. It is kept as [`PrivateKey::generate`]
    /// would have written it, without attributes.
    ///
    /// # Errors
    /// [`PairError`] when the bytes are not a valid key of this spec, or none is imported.
    pub fn import(spec: PairSpec, bytes: &[u8]) -> Result<Self, PairError> {
        if !spec.is_importable() {
            return Err(PairError);
        }
        let der = ber::private_key(bytes).ok_or(PairError)?;
        if spec.family() == Family::Edwards && der.expose() != bytes {
            return Err(PairError);
        }
        let version_1 = ber::version_1(der.expose()).ok_or(PairError)?;
        let parsed = Parsed::read(spec, version_1.der.expose())?.completed(spec)?;
        let key = Self::of(spec, parsed.to_der()?, parsed)?;
        let said = version_1.public_key;
        if said.is_some() && said != ber::public_key_of(key.public_der()) {
            return Err(PairError);
        }
        Ok(key)
    }

    fn of(spec: PairSpec, der: SecretBytes, parsed: Parsed) -> Result<Self, PairError> {
        let boxed = |der: Result<PublicKeyX509Der<'static>, Unspecified>| {
            der.map(|der| Box::from(der.as_ref())).ok()
        };
        let public = match &parsed {
            Parsed::Rsa(pair) => {
                let is_of_spec = spec.modulus_bytes() == Some(pair.public_modulus_len());
                let der = pair.public_key().as_der();
                boxed(der).filter(|_| is_of_spec)
            }
            Parsed::Curve(pair) => boxed(pair.public_key().as_der()),
            Parsed::Edwards(pair) => boxed(pair.public_key().as_der()),
            Parsed::Sm2(key) => key.public_der().ok(),
            Parsed::MlKem(key) => key.public_der(),
            Parsed::MlDsa(pair) => boxed(pair.public_key().as_der()),
        };
        let public = public.ok_or(PairError)?;
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

    /// The private key of ML-KEM.
    #[must_use]
    pub fn kem(&self) -> Option<&KemKey> {
        match &self.parsed {
            Parsed::MlKem(key) => Some(key),
            _ => None,
        }
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

    /// The private key in the clear as it is stored: its seed if it has one, else its PKCS#8 DER.
    #[must_use]
    pub fn expose_stored(&self) -> &[u8] {
        let der = self.der.expose();
        let seed = self.spec.seed_bytes();
        seed.map_or(der, |bytes| &der[der.len() - bytes..])
    }
}

#[cfg(test)]
mod tests;
