//! Secret bytes: filled in place, exposed by one method whose name can be searched for, wiped when
//! dropped.
//!
//! WIPE-1: the types here have no `Debug`, `Display`, `Clone`, `Serialize` or `PartialEq` on
//! purpose. They are boxed, so that moving one leaves no copy behind. This module does not protect
//! memory that is swapped out or dumped: `memory` locks pages and forbids dumps.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes.
///
/// ```compile_fail
/// let secret = keymill::crypto::secret::Secret::<32>::filled(|bytes| bytes.fill(7));
/// println!("{secret:?}");
/// ```
/// ```compile_fail
/// let secret = keymill::crypto::secret::Secret::<32>::filled(|bytes| bytes.fill(7));
/// let copy = secret.clone();
/// ```
/// ```compile_fail
/// let secret = keymill::crypto::secret::Secret::<32>::filled(|bytes| bytes.fill(7));
/// assert!(secret == secret);
/// ```
/// ```compile_fail
/// let secret = keymill::crypto::secret::Secret::<32>::filled(|bytes| bytes.fill(7));
/// serde_json::to_string(&secret).ok();
/// ```
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Makes a secret whose bytes `fill` writes in place.
    pub fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut bytes = Box::new([0; N]);
        fill(&mut bytes);
        Self(bytes)
    }

    /// Makes a secret whose bytes `fill` writes in place, unless `fill` fails.
    ///
    /// # Errors
    /// The error of `fill`; the bytes that it had written are wiped.
    pub fn try_filled<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes in the clear.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn ct_eq(&self, other: &[u8; N]) -> bool {
        self.0.as_slice().ct_eq(other.as_slice()).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Secret bytes of a length known only at run time. Never grows: growing would leave copies behind.
///
/// ```compile_fail
/// let secret = keymill::crypto::secret::SecretBytes::filled(3, |bytes| bytes.fill(7));
/// println!("{secret:?}");
/// ```
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Makes a secret of `length` bytes that `fill` writes in place.
    pub fn filled(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = vec![0; length].into_boxed_slice();
        fill(&mut bytes);
        Self(bytes)
    }

    /// Copies bytes that are elsewhere already. The original is not wiped.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::filled(bytes.len(), |copy| copy.copy_from_slice(bytes))
    }

    /// Makes a secret of `length` bytes that `fill` writes in place, unless `fill` fails.
    ///
    /// # Errors
    /// The error of `fill`; the bytes that it had written are wiped.
    pub fn try_filled<E>(
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut secret = Self(vec![0; length].into_boxed_slice());
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes in the clear.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_filled_in_place_and_compared_by_value() {
        let secret = Secret::<4>::filled(|bytes| bytes.copy_from_slice(b"text"));
        assert_eq!(secret.expose(), b"text");
        assert!(secret.ct_eq(b"text"));
        for other in [b"Text", b"texu"] {
            assert!(!secret.ct_eq(other));
        }
        let secret = SecretBytes::filled(3, |bytes| bytes.fill(9));
        assert_eq!(secret.expose(), [9; 3]);
        assert_eq!(SecretBytes::copy_of(secret.expose()).expose(), [9; 3]);
    }

    #[test]
    fn a_failed_fill_makes_no_secret() {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(9);
            Err("failed")
        };
        assert_eq!(
            Secret::<4>::try_filled(|bytes| fill(bytes)).err(),
            Some("failed")
        );
        assert_eq!(SecretBytes::try_filled(4, fill).err(), Some("failed"));
        assert!(SecretBytes::try_filled(4, |_| Ok::<(), ()>(())).is_ok());
    }
}
