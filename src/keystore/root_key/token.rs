//! The form of a root key file that is sealed under a key in an HSM.
//!
//! One line: `keymill-root-key-v2 pkcs11 SALT SEALED`. The key of the seal is what the token
//! derives of the 12 bytes of the salt ([`crate::pkcs11`]).

use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::crypto::xaes;
use crate::keystore::root_key::sealed::{self, Refused};
use crate::pkcs11;

pub(super) const PREFIX: &str = "keymill-root-key-v2 pkcs11 ";

/// Seals a root key. The line ends with a line feed.
pub(super) fn seal(
    key: &Secret<32>,
    token: &pkcs11::Config,
    entropy: &Entropy,
) -> Result<String, Refused> {
    let mut salt = [0; xaes::PREFIX_BYTES];
    entropy.draw(&mut salt)?;
    let head = format!("{PREFIX}{} ", sealed::hex(&salt));
    let wrapping = token.derive(&salt).map_err(Refused::Token)?;
    sealed::line(&head, &wrapping, key, entropy)
}

/// Opens what [`seal`] has made.
pub(super) fn open(line: &str, token: &pkcs11::Config) -> Result<Secret<32>, Refused> {
    sealed::open(line, PREFIX, |[salt]| {
        token.derive(&sealed::bytes(salt)?).map_err(Refused::Token)
    })
}
