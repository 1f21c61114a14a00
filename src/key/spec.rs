//! The kinds of KMS keys, what each may be used for, and with which algorithms (AWS KMS, "Key spec
//! reference").

use crate::crypto::agreement;
use crate::crypto::encryption::EncryptionAlgorithm;
use crate::crypto::mac::MacSpec;
use crate::crypto::pair::{Family, PairSpec};
use crate::crypto::signature::SigningAlgorithm;
use crate::key::regions::Region;
use std::fmt;
use std::str::FromStr;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// `KeySpec`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySpec {
    /// `SYMMETRIC_DEFAULT`
    Symmetric,
    /// `RSA_…`, `ECC_…`, `SM2`, `ML_DSA_…` or `ML_KEM_…`
    Pair(PairSpec),
    /// `HMAC_…`
    Mac(MacSpec),
}

/// `KeyUsage`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyUsage {
    /// For symmetric encryption keys, RSA and SM2 keys.
    EncryptDecrypt,
    /// For RSA, ECC, SM2 and ML-DSA keys.
    SignVerify,
    /// For HMAC keys.
    GenerateVerifyMac,
    /// For keys on the NIST curves and SM2 keys.
    KeyAgreement,
    /// For ML-KEM keys.
    EncapsulateDecapsulate,
}

/// `Origin`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyOrigin {
    /// The material is drawn here.
    AwsKms,
    /// The material is imported.
    External,
    /// The key is one of another key manager, and material drawn here goes with it.
    ExternalKeyStore,
}

/// The text is not one of these values, or not one that this build supports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not known here")]
pub struct Unknown;

impl KeySpec {
    /// Its name in the API, a value of `KeySpec`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC_DEFAULT",
            Self::Pair(spec) => spec.name(),
            Self::Mac(spec) => spec.name(),
        }
    }

    /// The type of key that `UpdateAlias` compares: an alias can only move to a key of the same
    /// type.
    #[must_use]
    pub fn key_type(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC",
            Self::Pair(_) => "ASYMMETRIC",
            Self::Mac(_) => "HMAC",
        }
    }

    /// Whether there are keys of this spec in a Region: SM2 is of China alone, and ML-KEM of all
    /// others.
    #[must_use]
    pub fn is_offered_in(self, region: &Region) -> bool {
        match self {
            Self::Symmetric | Self::Mac(_) => true,
            Self::Pair(PairSpec::Sm2) => region.is_in_china(),
            Self::Pair(spec) => spec.is_in_china() || !region.is_in_china(),
        }
    }

    /// Whether a key of this spec may have this usage.
    #[must_use]
    pub fn fits(self, usage: KeyUsage) -> bool {
        match (self, usage) {
            (Self::Symmetric, usage) => usage == KeyUsage::EncryptDecrypt,
            (Self::Mac(_), usage) => usage == KeyUsage::GenerateVerifyMac,
            (Self::Pair(spec), KeyUsage::SignVerify) => spec.family() != Family::MlKem,
            (Self::Pair(spec), KeyUsage::EncryptDecrypt) => {
                EncryptionAlgorithm::of(spec).next().is_some()
            }
            (Self::Pair(spec), KeyUsage::KeyAgreement) => agreement::fits(spec),
            (Self::Pair(spec), KeyUsage::EncapsulateDecapsulate) => spec.family() == Family::MlKem,
            (Self::Pair(_), KeyUsage::GenerateVerifyMac) => false,
        }
    }

    /// Whether the material of a key of this spec can be imported.
    #[must_use]
    pub fn is_importable(self) -> bool {
        match self {
            Self::Symmetric | Self::Mac(_) => true,
            Self::Pair(spec) => spec.is_importable(),
        }
    }

    /// The name of the API member that lists the algorithms of a key of this spec and usage, and
    /// the list.
    #[must_use]
    pub fn algorithms(self, usage: KeyUsage) -> (&'static str, Vec<&'static str>) {
        match (usage, self) {
            (KeyUsage::EncryptDecrypt, Self::Pair(spec)) => {
                let names = EncryptionAlgorithm::of(spec).map(EncryptionAlgorithm::name);
                ("EncryptionAlgorithms", names.collect())
            }
            (KeyUsage::EncryptDecrypt, _) => ("EncryptionAlgorithms", vec!["SYMMETRIC_DEFAULT"]),
            (KeyUsage::SignVerify, Self::Pair(spec)) => {
                let names = SigningAlgorithm::of(spec).map(SigningAlgorithm::name);
                ("SigningAlgorithms", names.collect())
            }
            (KeyUsage::SignVerify, _) => ("SigningAlgorithms", Vec::new()),
            (KeyUsage::GenerateVerifyMac, Self::Mac(spec)) => {
                ("MacAlgorithms", vec![spec.algorithm()])
            }
            (KeyUsage::GenerateVerifyMac, _) => ("MacAlgorithms", Vec::new()),
            (KeyUsage::KeyAgreement, _) => ("KeyAgreementAlgorithms", vec!["ECDH"]),
            (KeyUsage::EncapsulateDecapsulate, _) => ("EncapsulationAlgorithms", vec!["ML_KEM"]),
        }
    }
}

impl KeyUsage {
    /// Its name in the API, a value of `KeyUsage`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl KeyOrigin {
    /// Its name in the API, a value of `Origin`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl FromStr for KeySpec {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        if text == "SYMMETRIC_DEFAULT" {
            return Ok(Self::Symmetric);
        }
        let pair = text.parse().map(Self::Pair);
        pair.or_else(|_| text.parse().map(Self::Mac).map_err(|_| Unknown))
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_have_the_usages_and_algorithms_of_the_service() {
        let specs = PairSpec::ALL.map(KeySpec::Pair).into_iter();
        let specs = specs.chain(MacSpec::ALL.map(KeySpec::Mac));
        let mut pairs = 0;
        for spec in specs.chain([KeySpec::Symmetric]) {
            assert_eq!(spec.name().parse(), Ok(spec));
            for &usage in KeyUsage::VARIANTS {
                assert_eq!(usage.name().parse(), Ok(usage));
                if spec.fits(usage) {
                    pairs += 1;
                    assert!(!spec.algorithms(usage).1.is_empty(), "{spec} {usage}");
                }
            }
        }
        // One for symmetric, one for each HMAC, two for each RSA key and NIST curve, one for each
        // other curve and for each set of ML-DSA and ML-KEM, three for SM2.
        assert_eq!(pairs, 1 + 4 + 2 * 6 + 2 + 3 + 3 + 3);
        let rsa = KeySpec::Pair(PairSpec::Rsa2048);
        // Clients sign with the first: AWS CLI reference, `describe-key`, example 2.
        assert_eq!(
            rsa.algorithms(KeyUsage::SignVerify).1,
            [
                "RSASSA_PKCS1_V1_5_SHA_256",
                "RSASSA_PKCS1_V1_5_SHA_384",
                "RSASSA_PKCS1_V1_5_SHA_512",
                "RSASSA_PSS_SHA_256",
                "RSASSA_PSS_SHA_384",
                "RSASSA_PSS_SHA_512",
            ]
        );
        assert_eq!(
            rsa.algorithms(KeyUsage::EncryptDecrypt).1,
            ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]
        );
        for text in ["SM4", "ML_KEM", "", "rsa_2048"] {
            assert_eq!(text.parse::<KeySpec>(), Err(Unknown));
        }
        assert!("AWS_CLOUDHSM".parse::<KeyOrigin>().is_err());
        assert_eq!("EXTERNAL".parse(), Ok(KeyOrigin::External));
        assert_eq!(KeyOrigin::AwsKms.name(), "AWS_KMS");
        assert_eq!(KeyOrigin::ExternalKeyStore.name(), "EXTERNAL_KEY_STORE");
    }
}
