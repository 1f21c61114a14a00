//! Access keys: an id, which is public, and a secret.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::SecretBytes;

const ID_DIGITS: usize = 16;
const SECRET_CHARACTERS: usize = 40;

/// An access key: a public id and a secret.
pub struct AccessKey {
    /// 20 characters: `AKIA…`, or `ASIA…` for a session.
    pub id: String,
    /// 40 characters of base64 alphabet.
    pub secret: SecretBytes,
    /// Whether it can be used.
    pub active: bool,
}

impl AccessKey {
    /// What the ids of access keys begin with that last.
    pub const LASTING: &str = "AKIA";
    /// What the ids of a session's access keys begin with.
    pub const TEMPORARY: &str = "ASIA";

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
        let id = draw_id(prefix, ID_DIGITS, entropy)?;
        let drawn = entropy.draw_secret::<30>()?;
        let secret = SecretBytes::filled(SECRET_CHARACTERS, |text| {
            use base64_simd::{AsOut, STANDARD};
            let _written = STANDARD.encode(drawn.expose(), text.as_out());
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
