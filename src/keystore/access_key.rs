//! Access keys: an id, which is public, and a secret.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::SecretBytes;

const ID_DIGITS: usize = 16;

/// An access key: a public id and a secret.
pub struct AccessKey {
    /// 20 characters: `AKIA…`, `ASIA…` for a session, or `XKSP…` for an external key store.
    pub id: String,
    /// Characters of the base64 alphabet: 43 for an external key store, else 40.
    pub secret: SecretBytes,
    /// Whether it can be used.
    pub active: bool,
}

impl AccessKey {
    /// What the ids of access keys begin with that last.
    pub const LASTING: &str = "AKIA";
    /// What the ids of a session's access keys begin with.
    pub const TEMPORARY: &str = "ASIA";
    /// What the ids of access keys begin with that are given to AWS KMS for an external key store.
    pub const EXTERNAL_KEY_STORE: &str = "XKSP";

    /// Whether it was drawn for an external key store.
    #[must_use]
    pub fn is_for_external_key_store(&self) -> bool {
        self.id.starts_with(Self::EXTERNAL_KEY_STORE)
    }

    /// An active access key.
    #[must_use]
    pub fn new(id: String, secret: SecretBytes) -> Self {
        let active = true;
        Self { id, secret, active }
    }

    /// Draws an active access key: 80 bits of id in IAM's form, 240 secret bits in 40 characters.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw(prefix: &str, entropy: &Entropy) -> Result<Self, EntropyError> {
        Self::of_bits::<30>(prefix, entropy)
    }

    /// Draws one for an external key store: 256 secret bits in 43 characters (External Key Store
    /// Proxy API specification, appendix A: at least 256 bits of entropy, 43 to 64 characters).
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw_for_external_key_store(entropy: &Entropy) -> Result<Self, EntropyError> {
        Self::of_bits::<32>(Self::EXTERNAL_KEY_STORE, entropy)
    }

    fn of_bits<const BYTES: usize>(prefix: &str, entropy: &Entropy) -> Result<Self, EntropyError> {
        use base64_simd::{AsOut, STANDARD_NO_PAD};
        let id = draw_id(prefix, ID_DIGITS, entropy)?;
        let drawn = entropy.draw_secret::<BYTES>()?;
        let characters = STANDARD_NO_PAD.encoded_length(BYTES);
        let secret = SecretBytes::filled(characters, |text| {
            let _written = STANDARD_NO_PAD.encode(drawn.expose(), text.as_out());
        });
        Ok(Self::new(id, secret))
    }
}

/// Draws an id in IAM's form: `prefix` and `digits` of base 32.
///
/// # Errors
/// [`EntropyError`].
pub fn draw_id(prefix: &str, digits: usize, entropy: &Entropy) -> Result<String, EntropyError> {
    let mut drawn = vec![0; digits];
    entropy.draw(&mut drawn)?;
    let digit = |byte: &u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte & 31)]);
    Ok(prefix.chars().chain(drawn.iter().map(digit)).collect())
}
