//! Signatures: RSASSA-PSS with a salt as long as the hash, RSASSA-PKCS1-v1_5 (RFC 8017), ECDSA in
//! DER (FIPS 186-5), Ed25519 and Ed25519ph (RFC 8032), ML-DSA (FIPS 204),
//! and SM2 with SM3 in DER (GB/T 32918.2).

use crate::crypto::ed25519ph;
use crate::crypto::entropy::Probed;
use crate::crypto::ml_dsa::{self, MU_BYTES};
use crate::crypto::pair::{Family, PairSpec, Parsed, PrivateKey};
use crate::crypto::sm2;
use aws_lc_rs::digest::{self, Digest, SHA512_OUTPUT_LEN};
use aws_lc_rs::signature::{self as aws_lc, UnparsedPublicKey, VerificationAlgorithm};
use std::str::FromStr;

/// A signing algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSASSA-PSS with this hash.
    Pss(Hash),
    /// RSASSA-PKCS1-v1_5 with this hash.
    Pkcs1(Hash),
    /// ECDSA with this hash.
    Ecdsa(Hash),
    /// Ed25519ph of the 64 bytes of a hash, which it hashes once more.
    Ed25519ph,
    /// Ed25519, which hashes by itself.
    Ed25519,
    /// SM2 with SM3, which hashes an identifier and the public key before the message.
    Sm2Dsa,
    /// ML-DSA with an empty context, which hashes by itself.
    MlDsa,
}

/// A hash function of FIPS 180-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

/// The text does not name a signing algorithm that is supported.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signing algorithm")]
pub struct InvalidSigningAlgorithm;

/// What a caller asks to sign.
#[derive(Clone, Copy)]
pub enum Message<'a> {
    /// The message itself.
    Raw(&'a [u8]),
    /// Its hash.
    Digest(&'a [u8]),
    /// Its representative under this key, the `mu` of FIPS 204.
    ExternalMu(&'a [u8]),
}

impl Message<'_> {
    /// Whether any algorithm of keys of `spec` takes a message in this form.
    #[must_use]
    pub fn fits(self, spec: PairSpec) -> bool {
        let is_ml_dsa = spec.family() == Family::MlDsa;
        match self {
            Message::Raw(_) => true,
            Message::Digest(_) => !is_ml_dsa,
            Message::ExternalMu(_) => is_ml_dsa,
        }
    }
}

/// Why nothing was signed or verified.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The algorithm does not fit the key, or does not take the message in this form.
    #[error("the algorithm does not fit the key")]
    Algorithm,
    /// The given hash or representative does not have the length that the algorithm needs.
    #[error("the hash has another length than the algorithm's")]
    Length,
    /// The signature is not one of this message by this key.
    #[error("the signature does not verify")]
    Invalid,
    /// The library refused to sign.
    #[error("the library refused to sign")]
    Failed,
}

use Hash::{Sha256, Sha384, Sha512};
use SigningAlgorithm::{Ecdsa, Ed25519, Ed25519ph, MlDsa, Pkcs1, Pss, Sm2Dsa};

impl SigningAlgorithm {
    /// All algorithms, in the order in which AWS KMS lists those of a key (AWS CLI reference,
    /// `describe-key`, example 2; those of Ed25519 as measured, September 2026): there are clients
    /// that sign with the first.
    pub const ALL: [Self; 13] = [
        Pkcs1(Sha256),
        Pkcs1(Sha384),
        Pkcs1(Sha512),
        Pss(Sha256),
        Pss(Sha384),
        Pss(Sha512),
        Ecdsa(Sha256),
        Ecdsa(Sha384),
        Ecdsa(Sha512),
        Ed25519ph,
        Ed25519,
        Sm2Dsa,
        MlDsa,
    ];

    /// Its name in the API, a value of `SigningAlgorithm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Pss(Sha256) => "RSASSA_PSS_SHA_256",
            Pss(Sha384) => "RSASSA_PSS_SHA_384",
            Pss(Sha512) => "RSASSA_PSS_SHA_512",
            Pkcs1(Sha256) => "RSASSA_PKCS1_V1_5_SHA_256",
            Pkcs1(Sha384) => "RSASSA_PKCS1_V1_5_SHA_384",
            Pkcs1(Sha512) => "RSASSA_PKCS1_V1_5_SHA_512",
            Ecdsa(Sha256) => "ECDSA_SHA_256",
            Ecdsa(Sha384) => "ECDSA_SHA_384",
            Ecdsa(Sha512) => "ECDSA_SHA_512",
            Ed25519ph => "ED25519_PH_SHA_512",
            Ed25519 => "ED25519_SHA_512",
            Sm2Dsa => "SM2DSA",
            MlDsa => "ML_DSA_SHAKE_256",
        }
    }

    /// The algorithms that keys of `spec` sign with, in the order of [`Self::ALL`].
    pub fn of(spec: PairSpec) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |one| one.fits(spec))
    }

    /// Whether keys of `spec` sign with this algorithm.
    #[must_use]
    pub fn fits(self, spec: PairSpec) -> bool {
        match self {
            Pss(_) | Pkcs1(_) => spec.family() == Family::Rsa,
            Ecdsa(Sha256) => matches!(spec, PairSpec::EccNistP256 | PairSpec::EccSecgP256K1),
            Ecdsa(Sha384) => spec == PairSpec::EccNistP384,
            Ecdsa(Sha512) => spec == PairSpec::EccNistP521,
            Ed25519ph | Ed25519 => spec.family() == Family::Edwards,
            Sm2Dsa => spec.family() == Family::Sm2,
            MlDsa => spec.family() == Family::MlDsa,
        }
    }

    fn hash(self) -> Option<&'static digest::Algorithm> {
        match self {
            Pss(hash) | Pkcs1(hash) | Ecdsa(hash) => Some(match hash {
                Sha256 => &digest::SHA256,
                Sha384 => &digest::SHA384,
                Sha512 => &digest::SHA512,
            }),
            Ed25519ph | Ed25519 | Sm2Dsa | MlDsa => None,
        }
    }

    /// As aws-lc has it; `None` for SM2, which it does not have.
    fn verification(self, spec: PairSpec) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Pss(Sha256) => &aws_lc::RSA_PSS_2048_8192_SHA256,
            Pss(Sha384) => &aws_lc::RSA_PSS_2048_8192_SHA384,
            Pss(Sha512) => &aws_lc::RSA_PSS_2048_8192_SHA512,
            Pkcs1(Sha256) => &aws_lc::RSA_PKCS1_2048_8192_SHA256,
            Pkcs1(Sha384) => &aws_lc::RSA_PKCS1_2048_8192_SHA384,
            Pkcs1(Sha512) => &aws_lc::RSA_PKCS1_2048_8192_SHA512,
            Ecdsa(_) => match spec {
                PairSpec::EccNistP384 => &aws_lc::ECDSA_P384_SHA384_ASN1,
                PairSpec::EccNistP521 => &aws_lc::ECDSA_P521_SHA512_ASN1,
                PairSpec::EccSecgP256K1 => &aws_lc::ECDSA_P256K1_SHA256_ASN1,
                _ => &aws_lc::ECDSA_P256_SHA256_ASN1,
            },
            Ed25519ph | Ed25519 => &aws_lc::ED25519,
            MlDsa => match spec {
                PairSpec::MlDsa44 => &aws_lc::ML_DSA_44,
                PairSpec::MlDsa65 => &aws_lc::ML_DSA_65,
                _ => &aws_lc::ML_DSA_87,
            },
            Sm2Dsa => return None,
        })
    }

    fn encoding(self) -> Option<&'static dyn aws_lc::RsaEncoding> {
        Some(match self {
            Pss(Sha256) => &aws_lc::RSA_PSS_SHA256,
            Pss(Sha384) => &aws_lc::RSA_PSS_SHA384,
            Pss(Sha512) => &aws_lc::RSA_PSS_SHA512,
            Pkcs1(Sha256) => &aws_lc::RSA_PKCS1_SHA256,
            Pkcs1(Sha384) => &aws_lc::RSA_PKCS1_SHA384,
            Pkcs1(Sha512) => &aws_lc::RSA_PKCS1_SHA512,
            Ecdsa(_) | Ed25519ph | Ed25519 | Sm2Dsa | MlDsa => return None,
        })
    }

    /// The hash of the message: computed here, or given by the caller.
    fn digest(self, message: Message<'_>) -> Result<Digest, SignatureError> {
        let hash = self.hash().ok_or(SignatureError::Algorithm)?;
        match message {
            Message::Raw(message) => Ok(digest::digest(hash, message)),
            Message::Digest(given) => {
                Digest::import_less_safe(given, hash).map_err(|_| SignatureError::Length)
            }
            Message::ExternalMu(_) => Err(SignatureError::Algorithm),
        }
    }

    /// Checks whether this algorithm can sign the message, before anything is signed.
    ///
    /// # Errors
    /// [`SignatureError::Algorithm`] for a form of the message that it does not take,
    /// [`SignatureError::Length`] for a hash or a representative of another length.
    pub fn check(self, message: Message<'_>) -> Result<(), SignatureError> {
        let has = |given: &[u8], bytes: usize| {
            let fits = given.len() == bytes;
            fits.then_some(()).ok_or(SignatureError::Length)
        };
        match (self, message) {
            (Ed25519ph, Message::Digest(given)) => has(given, SHA512_OUTPUT_LEN),
            (Ed25519ph, _) => Err(SignatureError::Algorithm),
            (Sm2Dsa, Message::Digest(given)) => has(given, sm2::DIGEST_BYTES),
            (MlDsa, Message::ExternalMu(mu)) => has(mu, MU_BYTES),
            (_, Message::Raw(_)) => Ok(()),
            (_, message) => self.digest(message).map(|_| ()),
        }
    }
}

impl FromStr for SigningAlgorithm {
    type Err = InvalidSigningAlgorithm;

    fn from_str(text: &str) -> Result<Self, InvalidSigningAlgorithm> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or(InvalidSigningAlgorithm)
    }
}

/// Signs a message. For RSA, and for a representative by ML-DSA, that takes up to some milliseconds
/// of arithmetic.
///
/// # Errors
/// [`SignatureError`].
pub fn sign(
    key: &PrivateKey,
    algorithm: SigningAlgorithm,
    message: Message<'_>,
    _probed: Probed,
) -> Result<Vec<u8>, SignatureError> {
    if !algorithm.fits(key.spec()) {
        return Err(SignatureError::Algorithm);
    }
    algorithm.check(message)?;
    // Ed25519 and ML-DSA hash by themselves and need the message; the others sign the digest.
    match (&key.parsed, algorithm.encoding(), message) {
        (Parsed::Rsa(pair), Some(encoding), message) => {
            let digest = algorithm.digest(message)?;
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign_digest(encoding, &digest, &mut signature)
                .map_err(|_| SignatureError::Failed)?;
            Ok(signature)
        }
        (Parsed::Curve(pair), _, message) => {
            let digest = algorithm.digest(message)?;
            pair.sign_digest(&digest)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignatureError::Failed)
        }
        (Parsed::Edwards(_), _, Message::Digest(digest)) => {
            ed25519ph::sign(key, digest).ok_or(SignatureError::Failed)
        }
        (Parsed::Edwards(pair), _, Message::Raw(message)) => pair
            .try_sign(message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| SignatureError::Failed),
        (Parsed::Sm2(key), _, Message::Raw(message)) => key
            .sign(sm2::Message::Raw(message))
            .map_err(|_| SignatureError::Failed),
        (Parsed::Sm2(key), _, Message::Digest(digest)) => key
            .sign(sm2::Message::Digest(digest))
            .map_err(|_| SignatureError::Failed),
        (Parsed::MlDsa(pair), _, Message::Raw(message)) => {
            let mut signature = vec![0; pair.algorithm().signature_len()];
            pair.sign(message, &mut signature)
                .map_err(|_| SignatureError::Failed)?;
            Ok(signature)
        }
        (Parsed::MlDsa(_), _, Message::ExternalMu(mu)) => {
            ml_dsa::sign(key, mu).ok_or(SignatureError::Failed)
        }
        _ => Err(SignatureError::Algorithm),
    }
}

/// Verifies a signature with the pair's public key.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    key: &PrivateKey,
    algorithm: SigningAlgorithm,
    message: Message<'_>,
    signature: &[u8],
) -> Result<(), SignatureError> {
    if !algorithm.fits(key.spec()) {
        return Err(SignatureError::Algorithm);
    }
    algorithm.check(message)?;
    let Some(verification) = algorithm.verification(key.spec()) else {
        let message = match message {
            Message::Raw(message) => sm2::Message::Raw(message),
            Message::Digest(digest) => sm2::Message::Digest(digest),
            Message::ExternalMu(_) => return Err(SignatureError::Algorithm),
        };
        let verified = sm2::verify(key.public_der(), message, signature);
        return verified.map_err(|_| SignatureError::Invalid);
    };
    let public = UnparsedPublicKey::new(verification, key.public_der());
    let verifies = match (algorithm, message) {
        (Ed25519ph, Message::Digest(digest)) => {
            ed25519ph::verifies(key.public_der(), digest, signature)
        }
        (Ed25519 | MlDsa, Message::Raw(message)) => public.verify(message, signature).is_ok(),
        (MlDsa, Message::ExternalMu(mu)) => {
            ml_dsa::verifies(key.spec(), key.public_der(), mu, signature)
        }
        (_, message) => {
            let digest = algorithm.digest(message)?;
            public.verify_digest(&digest, signature).is_ok()
        }
    };
    verifies.then_some(()).ok_or(SignatureError::Invalid)
}

#[cfg(test)]
mod tests;
