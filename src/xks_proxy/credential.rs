//! What requests to a proxy are signed with: `XksProxyAuthenticationCredential`.
//!
//! Source: AWS KMS API reference, `XksProxyAuthenticationCredentialType`.

use crate::crypto::secret::SecretBytes;
use crate::keystore::AccessKey;
use std::sync::Arc;

/// The credential of a key store at its proxy. It is of no use elsewhere, and has no `Debug`, as
/// its secret has none.
#[derive(Clone)]
pub struct ProxyCredential(Arc<AccessKey>);

/// Why a credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// Its access key id.
    #[error("AccessKeyId must have 20 to 30 of A-Z and 2-7")]
    AccessKeyId,
    /// Its secret.
    #[error("RawSecretAccessKey must have 43 to 64 of A-Z, a-z, 0-9, /, + and =")]
    Secret,
}

impl ProxyCredential {
    /// An `AccessKeyId` of 20 to 30 of `A-Z2-7`, and a `RawSecretAccessKey` of 43 to 64 of
    /// `A-Za-z0-9/+=`.
    ///
    /// # Errors
    /// [`InvalidCredential`].
    pub fn new(access_key_id: &str, secret: SecretBytes) -> Result<Self, InvalidCredential> {
        let access_key = AccessKey::new(access_key_id.to_owned(), secret);
        Self::of(&Arc::new(access_key))
    }

    /// One that is kept as an access key, of the same lengths and alphabets.
    ///
    /// # Errors
    /// [`InvalidCredential`].
    pub fn of(access_key: &Arc<AccessKey>) -> Result<Self, InvalidCredential> {
        let of_id = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'2'..=b'7');
        let id = &access_key.id;
        if !((20..=30).contains(&id.len()) && id.bytes().all(of_id)) {
            return Err(InvalidCredential::AccessKeyId);
        }
        let of_secret = |byte: &u8| byte.is_ascii_alphanumeric() || b"/+=".contains(byte);
        let secret = access_key.secret.expose();
        if !((43..=64).contains(&secret.len()) && secret.iter().all(of_secret)) {
            return Err(InvalidCredential::Secret);
        }
        Ok(Self(Arc::clone(access_key)))
    }

    /// Both halves.
    #[must_use]
    pub fn access_key(&self) -> &Arc<AccessKey> {
        &self.0
    }

    /// The public half.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.0.id
    }

    /// The secret half.
    #[must_use]
    pub fn secret(&self) -> &SecretBytes {
        &self.0.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_the_lengths_and_alphabets_of_aws() {
        let of = |id: &str, secret: &str| {
            let secret = SecretBytes::copy_of(secret.as_bytes());
            ProxyCredential::new(id, secret).map(drop)
        };
        let (id, secret) = (
            "ABCDEFGHIJKLMNOPQR27",
            "0123456789abcdefghijABCDEFGHIJ/+=0123456789",
        );
        assert_eq!((id.len(), secret.len()), (20, 43));
        assert_eq!(of(id, secret), Ok(()));
        assert_eq!(of(&"A".repeat(30), &"a".repeat(64)), Ok(()));
        for id in [
            "",
            &id[1..],
            "ABCDEFGHIJKLMNOPQR21",
            "abcdefghijklmnopqrst",
            &"A".repeat(31),
        ] {
            assert_eq!(of(id, secret), Err(InvalidCredential::AccessKeyId), "{id}");
        }
        for other in ["", &secret[1..], &secret.replace('/', "-"), &"a".repeat(65)] {
            assert_eq!(of(id, other), Err(InvalidCredential::Secret), "{other}");
        }
    }
}
