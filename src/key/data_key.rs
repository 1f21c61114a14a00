//! Data keys, the product: their lengths, and a data key in the clear on its way to the caller.

use crate::crypto::secret::SecretBytes;

/// The length of a data key in bytes, 1..=1024 (AWS KMS API reference, `NumberOfBytes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataKeyLength(u16);

/// The length is outside of 1..=1024.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a data key has 1 to 1024 bytes")]
pub struct InvalidDataKeyLength;

impl DataKeyLength {
    /// `AES_256`: 32 bytes.
    pub const AES_256: Self = Self(32);
    /// `AES_128`: 16 bytes.
    pub const AES_128: Self = Self(16);
    /// The longest.
    pub const BYTES_MAX: usize = 1024;

    /// A length of `bytes`.
    ///
    /// # Errors
    /// [`InvalidDataKeyLength`] outside of `1..=BYTES_MAX`.
    pub fn new(bytes: usize) -> Result<Self, InvalidDataKeyLength> {
        match u16::try_from(bytes) {
            Ok(length) if (1..=Self::BYTES_MAX).contains(&bytes) => Ok(Self(length)),
            _ => Err(InvalidDataKeyLength),
        }
    }

    /// The length in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::from(self.0)
    }

    /// The name that exports and metrics use: `AES_256`, `AES_128`, or `BYTES_<n>`.
    #[must_use]
    pub fn spec(self) -> String {
        match self {
            Self::AES_256 => "AES_256".to_owned(),
            Self::AES_128 => "AES_128".to_owned(),
            Self(bytes) => format!("BYTES_{bytes}"),
        }
    }
}

/// A data key (or other plaintext of at most 4,096 bytes) in the clear, on its way to a caller that
/// is entitled to it. It is wiped when dropped; WIPE-1 holds as for [`SecretBytes`].
pub struct PlaintextDataKey(pub(crate) SecretBytes);

impl PlaintextDataKey {
    /// The bytes in the clear.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}
