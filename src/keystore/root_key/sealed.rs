//! What the sealed forms of a root key file have in common: a line whose last word is the root key
//! under XAES-256-GCM, in hex (nonce, 32 bytes, tag). Everything before it is authenticated with
//! it, and says how its key is made.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::Secret;
use crate::crypto::xaes;
use crate::pkcs11::TokenError;
use hex_simd::AsciiCase;

/// No line is longer.
pub(super) const LINE_BYTES_MAX: usize = 512;
const SEALED_BYTES: usize = xaes::NONCE_BYTES + 32 + xaes::TAG_BYTES;

/// Why a root key is not sealed or opened.
#[derive(Debug)]
pub(super) enum Refused {
    /// The line is not of this form.
    Form,
    /// The key that was made does not open it: of another passphrase or token, or of a changed
    /// line.
    Key,
    /// The memory that the line asks for is not there.
    Memory,
    /// The token does not make the key.
    Token(TokenError),
    /// The entropy source failed.
    Entropy,
}

impl From<EntropyError> for Refused {
    fn from(_: EntropyError) -> Self {
        Self::Entropy
    }
}

/// The line that begins with `head`, which ends with a space. It ends with a line feed.
pub(super) fn line(
    head: &str,
    wrapping: &Secret<32>,
    key: &Secret<32>,
    entropy: &Entropy,
) -> Result<String, Refused> {
    let sealed = xaes::seal(wrapping.expose(), head.as_bytes(), key.expose(), entropy)?;
    Ok(format!("{head}{}\n", hex(&sealed)))
}

/// Opens a line with the key that `wrapping` makes of the words between `prefix` and the last one.
pub(super) fn open<const WORDS: usize>(
    line: &str,
    prefix: &str,
    wrapping: impl FnOnce([&str; WORDS]) -> Result<Secret<32>, Refused>,
) -> Result<Secret<32>, Refused> {
    let line = line.strip_suffix('\n').ok_or(Refused::Form)?;
    let (head, sealed) = line.split_at(line.rfind(' ').ok_or(Refused::Form)? + 1);
    let sealed = bytes::<SEALED_BYTES>(sealed)?;
    let words = head
        .strip_prefix(prefix)
        .and_then(|words| words.strip_suffix(' '));
    let words: Vec<_> = words.ok_or(Refused::Form)?.split(' ').collect();
    let wrapping = wrapping(words.try_into().map_err(|_| Refused::Form)?)?;
    let opened = xaes::open(wrapping.expose(), head.as_bytes(), &sealed);
    let opened = opened.map_err(|_| Refused::Key)?;
    let opened: &[u8; 32] = opened.expose().try_into().map_err(|_| Refused::Form)?;
    Ok(Secret::filled(|key| key.copy_from_slice(opened)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    hex_simd::encode_to_string(bytes, AsciiCase::Lower)
}

pub(super) fn bytes<const N: usize>(hex: &str) -> Result<[u8; N], Refused> {
    let bytes = hex_simd::decode_to_vec(hex).map_err(|_| Refused::Form)?;
    bytes.try_into().map_err(|_| Refused::Form)
}
