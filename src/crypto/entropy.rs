//! The operating system's entropy, the one exception to "the core does no I/O".
//!
//! RNG-1: three sources that are never mixed. *Nonces* and the seeds of ciphertext generators are
//! drawn here, once per epoch; *ciphertexts* come from the epoch's own ChaCha20 generator, whose
//! output is public by design; *secrets* are drawn here, each by a call of its own. A failed draw
//! fails the operation and is counted: nothing is served from what a failed draw left behind.
//!
//! aws-lc draws by itself for key pairs, RSA's blinding and padding, ECDSA, ML-DSA and TLS, and it
//! ends the process when the operating system gives it no bytes. Functions that make aws-lc draw
//! therefore take a [`Probed`], so that a source that has failed fails the call and not the
//! process.

use crate::crypto::secret::{Secret, SecretBytes};
use zeroize::Zeroize;

/// The operating system could not deliver random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system's entropy source failed")]
pub struct EntropyError;

/// Evidence that the operating system's source delivered a moment ago. A call that makes aws-lc
/// draw needs it: aws-lc ends the process when its own generator cannot be seeded.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<keymill::crypto::entropy::Probed>();
/// ```
#[must_use]
pub struct Probed(());

/// Where random bytes come from: the operating system, or a test's faulty stand-in.
pub trait EntropySource: Send + Sync {
    /// Fills `buffer` whole.
    ///
    /// # Errors
    /// [`EntropyError`]; the content of `buffer` must then not be used.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// `getrandom(2)`.
pub struct OsEntropy;

impl EntropySource for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|_| EntropyError)
    }
}

/// An entropy source whose failures are counted.
pub struct Entropy {
    source: Box<dyn EntropySource>,
    failures: metrics::Counter,
}

impl Entropy {
    /// Draws from `source` and counts its failures in `failures`.
    #[must_use]
    pub fn new(source: Box<dyn EntropySource>, failures: metrics::Counter) -> Self {
        Self { source, failures }
    }

    /// The operating system, uncounted: for tools and tests.
    #[must_use]
    pub fn os() -> Self {
        Self::new(Box::new(OsEntropy), metrics::Counter::noop())
    }

    /// Draws bytes that are not secret: nonces, identifiers, seeds of ciphertext generators.
    ///
    /// # Errors
    /// [`EntropyError`]; `buffer` is wiped.
    pub fn draw(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        self.source.fill(buffer).inspect_err(|_| {
            buffer.zeroize();
            self.failures.increment(1);
        })
    }

    /// Draws as many bytes as aws-lc is seeded with, and uses none of them.
    ///
    /// # Errors
    /// [`EntropyError`]: a call that makes aws-lc draw must not be made now.
    pub fn probe(&self) -> Result<Probed, EntropyError> {
        self.draw_secret::<32>().map(|_unused| Probed(()))
    }

    /// Draws `N` secret bytes.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw_secret<const N: usize>(&self) -> Result<Secret<N>, EntropyError> {
        Secret::try_filled(|bytes| self.draw(bytes))
    }

    /// Draws `length` secret bytes.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw_secret_bytes(&self, length: usize) -> Result<SecretBytes, EntropyError> {
        SecretBytes::try_filled(length, |bytes| self.draw(bytes))
    }
}

/// A probe of the operating system's source, for tests of functions that take one.
#[cfg(test)]
pub(crate) fn probed() -> Probed {
    Entropy::os()
        .probe()
        .expect("the operating system delivers")
}

/// An entropy source that fails on demand, for tests of what follows a failed draw.
#[cfg(test)]
pub(crate) mod faulty {
    use super::{EntropyError, EntropySource, OsEntropy};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Fails while the switch is on.
    #[derive(Clone, Default)]
    pub(crate) struct FaultyEntropy(pub(crate) Arc<AtomicBool>);

    impl EntropySource for FaultyEntropy {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            if self.0.load(Ordering::SeqCst) {
                Err(EntropyError)
            } else {
                OsEntropy.fill(buffer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Writes half of what was asked for, then fails.
    struct Half;

    impl EntropySource for Half {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            let half = buffer.len() / 2;
            buffer[..half].fill(7);
            Err(EntropyError)
        }
    }

    #[test]
    fn rng_1_a_failed_draw_is_counted_and_leaves_nothing_behind() {
        let failures = Arc::new(AtomicU64::new(0));
        let counter = metrics::Counter::from_arc(Arc::clone(&failures));
        let entropy = Entropy::new(Box::new(Half), counter);
        let mut buffer = [1; 32];
        assert!(entropy.draw(&mut buffer).is_err());
        assert_eq!(buffer, [0; 32]);
        assert!(entropy.draw_secret::<32>().is_err());
        assert!(entropy.draw_secret_bytes(100).is_err());
        assert!(entropy.probe().is_err());
        assert_eq!(failures.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn rng_1_draws_resume_when_the_source_does_and_count_no_failure() {
        let failures = Arc::new(AtomicU64::new(0));
        let faulty = faulty::FaultyEntropy::default();
        let counter = metrics::Counter::from_arc(Arc::clone(&failures));
        let entropy = Entropy::new(Box::new(faulty.clone()), counter);
        faulty.0.store(true, Ordering::SeqCst);
        assert!(entropy.draw_secret::<32>().is_err());
        faulty.0.store(false, Ordering::SeqCst);
        assert!(entropy.draw_secret::<32>().is_ok());
        assert_eq!(failures.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_operating_system_draws_different_bytes_of_the_asked_length() {
        let entropy = Entropy::os();
        let first = entropy.draw_secret::<32>().unwrap();
        let second = entropy.draw_secret_bytes(32).unwrap();
        assert_ne!(first.expose().as_slice(), second.expose());
        assert_eq!(entropy.draw_secret_bytes(0).unwrap().expose(), b"");
        assert_eq!(
            entropy.draw_secret_bytes(1024).unwrap().expose().len(),
            1024
        );
    }
}
