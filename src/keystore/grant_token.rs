//! Grant tokens: opaque text that names a grant. Only this service can issue one.
//!
//! A token is base64 of `version 1 ‖ key id 16 ‖ multi-Region 1 ‖ grant id 32 ‖ random 16 ‖
//! HMAC-SHA-256 of the bytes before`, under the sub-key `grant tokens` of the root key. The random
//! bytes make each token different. A token is not a secret and gives no right: it names a grant,
//! and only the grantee of that grant may use it.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::key::KeyId;
use crate::keystore::RootKey;
use crate::policy::grant::GrantId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const VERSION: u8 = 1;
const RANDOM_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
const SAID_BYTES: usize = 1 + 16 + 1 + 32 + RANDOM_BYTES;
/// The length of a token in characters; text of another length is not a token.
const CHARACTERS: usize = (SAID_BYTES + MAC_BYTES).div_ceil(3) * 4;

/// Issues and reads the grant tokens of one root key.
pub struct GrantTokens(Secret<32>);

impl GrantTokens {
    /// The tokens of the root key `root`.
    #[must_use]
    pub fn new(root: &RootKey) -> Self {
        Self(root.subkey("grant tokens"))
    }

    /// Issues a token of the grant.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn issue(
        &self,
        key: KeyId,
        grant: GrantId,
        entropy: &Entropy,
    ) -> Result<String, EntropyError> {
        let mut random = [0; RANDOM_BYTES];
        entropy.draw(&mut random)?;
        let multi_region = [u8::from(key.is_multi_region())];
        let said = [
            &[VERSION],
            &key.bytes()[..],
            &multi_region,
            &grant.0,
            &random,
        ]
        .concat();
        let mac = self.mac(&said).finalize().into_bytes();
        Ok(base64_simd::STANDARD.encode_to_string([said, mac.to_vec()].concat()))
    }

    /// The grant that a token names, if the token was issued here. The grant may have been removed
    /// since.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<(KeyId, GrantId)> {
        if token.len() != CHARACTERS {
            return None;
        }
        let bytes = base64_simd::STANDARD.decode_to_vec(token).ok()?;
        let (said, mac) = bytes.split_at_checked(SAID_BYTES)?;
        // Compared in constant time.
        self.mac(said).verify_slice(mac).ok()?;
        let ([VERSION], rest) = said.split_first_chunk()? else {
            return None;
        };
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let ([multi_region], rest) = rest.split_first_chunk()?;
        let grant = rest.first_chunk::<32>()?;
        let key = KeyId::from_parts(*key, *multi_region == 1);
        Some((key, GrantId(*grant)))
    }

    fn mac(&self, said: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.expose());
        mac.expect("HMAC takes keys of every length")
            .chain_update(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_grant_and_is_new_each_time() {
        let tokens = GrantTokens::new(&RootKey::draw());
        for multi_region in [false, true] {
            let (key, grant) = (KeyId::from_parts([7; 16], multi_region), GrantId([9; 32]));
            let issue = || tokens.issue(key, grant, &Entropy::os()).unwrap();
            let (one, other) = (issue(), issue());
            assert_ne!(one, other);
            assert_eq!(one.len(), CHARACTERS);
            for token in [one, other] {
                assert_eq!(tokens.read(&token), Some((key, grant)));
            }
        }
    }

    #[test]
    fn whatever_was_not_issued_here_is_no_token() {
        let tokens = GrantTokens::new(&RootKey::draw());
        let others = GrantTokens::new(&RootKey::draw());
        let (key, grant) = (KeyId::from_parts([7; 16], false), GrantId([9; 32]));
        let token = tokens.issue(key, grant, &Entropy::os()).unwrap();
        assert_eq!(others.read(&token), None, "of another root key");
        let bytes = base64_simd::STANDARD.decode_to_vec(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = base64_simd::STANDARD.encode_to_string(changed);
            assert_eq!(tokens.read(&changed), None, "bit {bit}");
        }
        for text in [
            "",
            "token",
            &token[1..],
            &format!("{token}="),
            &"x".repeat(8192),
        ] {
            assert_eq!(tokens.read(text), None, "{text}");
        }
        assert_eq!(tokens.read(&"\u{e9}".repeat(CHARACTERS / 2)), None);
    }
}
