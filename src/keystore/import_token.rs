//! Import tokens: `ImportKeyMaterial` unwraps with them the material that was wrapped for one key.
//!
//! A token is `version 1 ‖ key id 16 ‖ multi-Region 1 ‖ valid to, microseconds 8 ‖ algorithm 1 ‖
//! spec 1 ‖ nonce 24 ‖ private key ‖ tag 16`: the private half of the wrapping key, PKCS#8 DER,
//! sealed by XAES-256-GCM under the sub-key `import tokens` of the root key, with everything before
//! the nonce as associated data, and behind it the Region of the key, unless it is the home Region.
//! So the wrapping key exists only in the token that its requester
//! holds and cannot open. There is nothing to keep for a day, to lose at a restart or to send to
//! another node, and no caller can fill the store with parameters that are never used. A token and
//! its public key belong together because one was sealed with the other.

use crate::clock::Timestamp;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::crypto::secret::Secret;
use crate::crypto::wrapping::WrappingAlgorithm;
use crate::crypto::xaes;
use crate::key::KeyId;
use crate::keystore::RootKey;

const VERSION: u8 = 1;
const SAID_BYTES: usize = 1 + 16 + 1 + 8 + 1 + 1;

/// Issues and reads the import tokens of one root key.
pub struct ImportTokens(Secret<32>);

/// The content of a token.
pub struct ImportToken {
    /// The key that material was wrapped for.
    pub key: KeyId,
    /// When the token expires.
    pub valid_to: Timestamp,
    /// How the material is wrapped.
    pub algorithm: WrappingAlgorithm,
    /// The private key that unwraps the material.
    pub wrapping_key: PrivateKey,
}

impl ImportTokens {
    /// The tokens of the root key `root`.
    #[must_use]
    pub fn new(root: &RootKey) -> Self {
        Self(root.subkey("import tokens"))
    }

    /// Issues a token with this content, for a key in `region`; empty for the home Region.
    ///
    /// # Errors
    /// [`EntropyError`].
    ///
    /// # Panics
    /// Never: algorithms and specs are fewer than 256.
    pub fn issue(
        &self,
        token: &ImportToken,
        region: &str,
        entropy: &Entropy,
    ) -> Result<Vec<u8>, EntropyError> {
        let algorithm = WrappingAlgorithm::ALL
            .iter()
            .position(|one| *one == token.algorithm);
        let spec = PairSpec::ALL
            .iter()
            .position(|one| *one == token.wrapping_key.spec());
        let [algorithm, spec] = [algorithm, spec].map(|place| {
            let place = place.and_then(|place| u8::try_from(place).ok());
            place.expect("every variant is in its list of a few")
        });
        let multi_region = [u8::from(token.key.is_multi_region())];
        let said = [
            &[VERSION],
            &token.key.bytes()[..],
            &multi_region,
            &token.valid_to.0.to_be_bytes(),
            &[algorithm, spec],
        ]
        .concat();
        let der = token.wrapping_key.expose_der();
        let bound = [&said, region.as_bytes()].concat();
        let sealed = xaes::seal(self.0.expose(), &bound, der, entropy)?;
        Ok([said, sealed].concat())
    }

    /// The content of a token, if the token was issued here for a key in `region`. The caller
    /// compares its key and its time of expiry.
    #[must_use]
    pub fn read(&self, token: &[u8], region: &str) -> Option<ImportToken> {
        let (said, sealed) = token.split_at_checked(SAID_BYTES)?;
        let bound = [said, region.as_bytes()].concat();
        let der = xaes::open(self.0.expose(), &bound, sealed).ok()?;
        let ([VERSION], said) = said.split_first_chunk()? else {
            return None;
        };
        let (key, said) = said.split_first_chunk::<16>()?;
        let ([multi_region], said) = said.split_first_chunk()?;
        let (valid_to, said) = said.split_first_chunk::<8>()?;
        let [algorithm, spec] = said.try_into().ok()?;
        let spec = *PairSpec::ALL.get(usize::from(spec))?;
        Some(ImportToken {
            key: KeyId::from_parts(*key, *multi_region == 1),
            valid_to: Timestamp(u64::from_be_bytes(*valid_to)),
            algorithm: *WrappingAlgorithm::ALL.get(usize::from(algorithm))?,
            wrapping_key: PrivateKey::from_der(spec, der).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::probed;

    #[test]
    fn a_token_says_what_was_sealed_and_nothing_else_is_one() {
        let tokens = ImportTokens::new(&RootKey::draw());
        let others = ImportTokens::new(&RootKey::draw());
        let said = ImportToken {
            key: KeyId::from_parts([7; 16], true),
            valid_to: Timestamp(9),
            algorithm: WrappingAlgorithm::ALL[2],
            wrapping_key: PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap(),
        };
        let token = tokens.issue(&said, "", &Entropy::os()).unwrap();
        assert!(token.len() < 6144);
        let read = tokens.read(&token, "").unwrap();
        assert_eq!(
            (read.key, read.valid_to, read.algorithm),
            (said.key, said.valid_to, said.algorithm)
        );
        assert_eq!(
            read.wrapping_key.public_der(),
            said.wrapping_key.public_der()
        );
        assert!(others.read(&token, "").is_none(), "of another root key");
        let elsewhere = tokens.read(&token, "us-west-2/");
        assert!(elsewhere.is_none(), "of another Region");
        let there = tokens.issue(&said, "us-west-2/", &Entropy::os()).unwrap();
        assert!(tokens.read(&there, "us-west-2/").is_some());
        assert!(tokens.read(&there, "").is_none());
        for at in (0..SAID_BYTES + 32).chain(token.len() - 20..token.len()) {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert!(tokens.read(&changed, "").is_none(), "byte {at}");
        }
        for length in [0, 1, SAID_BYTES, SAID_BYTES + 40, token.len() - 1] {
            assert!(tokens.read(&token[..length], "").is_none(), "{length}");
        }
    }
}
