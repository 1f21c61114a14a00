//! The names of grants: their ids, the names that their makers gave them, and their tokens.

use hex_simd::AsciiCase;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A grant's id: 256 random bits, printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(pub [u8; 32]);

/// Text that is not 64 hex digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant id is 64 hex digits")]
pub struct InvalidGrantId;

impl fmt::Display for GrantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex_simd::encode_to_string(self.0, AsciiCase::Lower))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for GrantId {
    type Err = InvalidGrantId;

    fn from_str(text: &str) -> Result<Self, InvalidGrantId> {
        let bytes = hex_simd::decode_to_vec(text).map_err(|_| InvalidGrantId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidGrantId)
    }
}

/// A grant's name: 1..=256 characters of `[a-zA-Z0-9:/_-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantName(Arc<str>);

/// The text is not a grant name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant's name has 1 to 256 characters of a-z, A-Z, 0-9, ':', '/', '_' and '-'")]
pub struct InvalidGrantName;

impl GrantName {
    /// The most characters of a name.
    pub const CHARACTERS_MAX: usize = 256;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrantName {
    type Err = InvalidGrantName;

    fn from_str(text: &str) -> Result<Self, InvalidGrantName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        let fits = (1..=Self::CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into())).ok_or(InvalidGrantName)
    }
}

/// A grant token as a caller holds it: 1..=8192 characters, opaque to the caller. The holder can
/// use a grant of which it is the grantee, so a token is never listed and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantToken(Box<str>);

/// The text is not a grant token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant token has 1 to 8192 characters")]
pub struct InvalidGrantToken;

impl GrantToken {
    /// The most characters of a token.
    pub const CHARACTERS_MAX: usize = 8192;

    /// The token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrantToken {
    type Err = InvalidGrantToken;

    fn from_str(text: &str) -> Result<Self, InvalidGrantToken> {
        let fits = (1..=Self::CHARACTERS_MAX).contains(&text.chars().count());
        fits.then(|| Self(text.into())).ok_or(InvalidGrantToken)
    }
}

impl fmt::Debug for GrantToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("GrantToken(…)")
    }
}
