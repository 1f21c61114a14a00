//! How tokens may be signed.
//!
//! Sources: RFC 7518 (JSON Web Algorithms), section 3.1; RFC 8037, section 3.1, for `EdDSA`.

use strum::{IntoStaticStr, VariantArray};

/// An algorithm that is taken. There is no `none` among them, none with a shared secret, and none
/// that a key could be talked into: the type of a key fixes which of them it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// All.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The algorithm of this name; case matters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|algorithm| algorithm.name() == name)
    }

    /// As `alg` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_2_only_signatures_with_a_public_key_are_known() {
        let names: Vec<_> = Algorithm::ALL.iter().map(|one| one.name()).collect();
        let expected = [
            "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA",
        ];
        assert_eq!(names, expected);
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::named(algorithm.name()), Some(*algorithm));
        }
        for other in [
            "", "none", "None", "NONE", "HS256", "HS384", "HS512", "PS256", "ES256K", "rs256",
            "RS256 ",
        ] {
            assert_eq!(Algorithm::named(other), None, "{other}");
        }
    }
}
