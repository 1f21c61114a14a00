//! The public keys of an issuer: a JSON Web Key Set.
//!
//! Keys that cannot verify a token are left out, as RFC 7517 asks: secrets, keys for encryption,
//! keys without an id, types and curves that are not known, lengths that are not safe. So one odd
//! key does not make a set useless.
//!
//! Sources: RFC 7517 (JSON Web Key), sections 4 and 5; RFC 7518, sections 6.2 and 6.3; RFC 8037,
//! section 2.

use crate::policy::json::Json;
use crate::web_identity::algorithm::Algorithm;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use std::sync::Arc;

/// Keys of a set at most. Issuers have two or three: the present one, and those before and after.
const KEYS_MAX: usize = 100;
/// Bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of an RSA exponent at most; 65537 has three.
const RSA_EXPONENT_BYTES_MAX: usize = 4;
/// The first byte of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The keys of an issuer that can verify tokens; at least one.
pub struct KeySet(Vec<Arc<Key>>);

/// Bytes that are not a key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// It has too many bytes.
    #[error("it has more than {} bytes", KeySet::BYTES_MAX)]
    TooLong,
    /// It is not JSON, or a member is there twice.
    #[error("it is not a JSON object with an array \"keys\"")]
    Form,
    /// It has too many keys.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    /// None of its keys can verify a token.
    #[error("it has no key that can verify a token: RSA, EC or Ed25519, with a \"kid\"")]
    Nothing,
}

/// Why a set has no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// No key has this id.
    Unknown,
    /// The key of this id is for another algorithm.
    Algorithm,
}

/// A public key, with its id.
pub struct Key {
    id: String,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    public: PublicKey,
}

/// The signature is not of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSignature;

enum PublicKey {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point of the curve of this algorithm.
    Curve(Algorithm, Vec<u8>),
}

impl KeySet {
    /// Bytes of a set at most.
    pub const BYTES_MAX: usize = 1 << 20;

    /// Reads a set.
    ///
    /// # Errors
    /// [`InvalidKeySet`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(InvalidKeySet::TooLong);
        }
        let Ok(Json::Object(members)) = serde_json::from_slice(bytes) else {
            return Err(InvalidKeySet::Form);
        };
        let keys = members.into_iter().find(|(name, _)| name == "keys");
        let Some((_, Json::Array(keys))) = keys else {
            return Err(InvalidKeySet::Form);
        };
        if keys.len() > KEYS_MAX {
            return Err(InvalidKeySet::TooMany);
        }
        let usable = keys.iter().filter_map(Key::of).map(Arc::new);
        let usable: Vec<_> = usable.collect();
        if usable.is_empty() {
            return Err(InvalidKeySet::Nothing);
        }
        Ok(Self(usable))
    }

    /// The key of this id, if it is for this algorithm.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn find(&self, id: &str, algorithm: Algorithm) -> Result<Arc<Key>, Unfit> {
        let mut unfit = Unfit::Unknown;
        for key in self.0.iter().filter(|key| key.id == id) {
            if key.fits(algorithm) {
                return Ok(Arc::clone(key));
            }
            unfit = Unfit::Algorithm;
        }
        Err(unfit)
    }

    /// How many keys it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Key {
    /// The key, if it can verify tokens.
    fn of(key: &Json) -> Option<Self> {
        let Json::Object(members) = key else {
            return None;
        };
        let member = |name: &str| members.iter().find(|(other, _)| other == name);
        let text = |name: &str| match member(name) {
            Some((_, Json::Text(text))) => Some(text.as_str()),
            _ => None,
        };
        let bytes = |name: &str| decoded(text(name)?);
        let id = text("kid").filter(|id| !id.is_empty())?.to_owned();
        if member("use").is_some() && text("use") != Some("sig") {
            return None;
        }
        if let Some((_, uses)) = member("key_ops")
            && !names(uses, "verify")
        {
            return None;
        }
        let algorithm = match member("alg") {
            None => None,
            Some(_) => Some(Algorithm::named(text("alg")?)?),
        };
        let public = match (text("kty")?, text("crv")) {
            ("RSA", _) => rsa(&bytes("n")?, &bytes("e")?)?,
            ("EC", Some("P-256")) => point(Algorithm::ES256, 32, &bytes("x")?, &bytes("y")?)?,
            ("EC", Some("P-384")) => point(Algorithm::ES384, 48, &bytes("x")?, &bytes("y")?)?,
            ("EC", Some("P-521")) => point(Algorithm::ES512, 66, &bytes("x")?, &bytes("y")?)?,
            ("OKP", Some("Ed25519")) => {
                let point = bytes("x").filter(|point| point.len() == 32)?;
                PublicKey::Curve(Algorithm::EdDSA, point)
            }
            _ => return None,
        };
        let key = Self {
            id,
            algorithm,
            public,
        };
        // A key that says that it is for an algorithm of another type can verify nothing.
        algorithm.is_none_or(|own| key.fits(own)).then_some(key)
    }

    /// Whether tokens that are signed with `algorithm` may be verified with this key.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let of_type = match &self.public {
            PublicKey::Rsa(_) => parameters(algorithm).is_some(),
            PublicKey::Curve(own, _) => *own == algorithm,
        };
        of_type && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Checks that `signature` is this key's under `signed`.
    ///
    /// # Errors
    /// [`BadSignature`]: it is not, or the key is for another algorithm.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        if !self.fits(algorithm) {
            return Err(BadSignature);
        }
        let verified = match &self.public {
            PublicKey::Rsa(key) => {
                let parameters = parameters(algorithm).ok_or(BadSignature)?;
                key.verify(parameters, signed, signature)
            }
            PublicKey::Curve(_, point) => {
                let verification = verification(algorithm).ok_or(BadSignature)?;
                UnparsedPublicKey::new(verification, point).verify(signed, signature)
            }
        };
        verified.map_err(|_| BadSignature)
    }
}

/// The parameters of an algorithm with RSA.
fn parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

/// An algorithm on a curve.
fn verification(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED),
        Algorithm::ES512 => Some(&ECDSA_P521_SHA512_FIXED),
        Algorithm::EdDSA => Some(&ED25519),
        _ => None,
    }
}

/// The bytes of base64url without padding (RFC 7515, section 2).
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()
}

fn names(list: &Json, name: &str) -> bool {
    let Json::Array(list) = list else {
        return false;
    };
    let is_name = |one: &Json| matches!(one, Json::Text(text) if text == name);
    list.iter().any(is_name)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<PublicKey> {
    // Some issuers write the zero that DER has before a high bit.
    let (n, e) = (without_zeros(modulus), without_zeros(exponent));
    let top = usize::try_from(n.first()?.leading_zeros()).ok()?;
    let fits =
        RSA_BITS.contains(&(n.len() * 8 - top)) && (1..=RSA_EXPONENT_BYTES_MAX).contains(&e.len());
    // An even exponent is none, and with 1 every text is its own signature.
    let is_exponent = e.last().is_some_and(|last| last % 2 == 1) && e != [1];
    let (n, e) = (n.to_vec(), e.to_vec());
    (fits && is_exponent).then_some(PublicKey::Rsa(RsaPublicKeyComponents { n, e }))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// A point from its coordinates, which have their full length (RFC 7518, section 6.2.1.2).
fn point(algorithm: Algorithm, bytes: usize, x: &[u8], y: &[u8]) -> Option<PublicKey> {
    let whole = x.len() == bytes && y.len() == bytes;
    whole.then(|| PublicKey::Curve(algorithm, [&[UNCOMPRESSED], x, y].concat()))
}

#[cfg(test)]
mod tests;
