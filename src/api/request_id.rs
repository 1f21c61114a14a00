//! Request ids: random UUIDs (RFC 9562, section 5.4), drawn without a system call for each.
//!
//! Ids are not secrets and serve nothing else: their generator is neither the one of nonces nor the
//! one of ciphertexts (RNG-1).

use crate::crypto::entropy::Entropy;
use crate::pool::thread_number;
use http::HeaderValue;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cell::RefCell;
use std::fmt;

/// Ids that one seed gives: seldom enough to cost nothing, often enough that clones of a machine
/// soon part.
const IDS_PER_SEED: u32 = 65_536;

/// One request's id, as `x-amzn-RequestId` carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 36]);

struct Generator {
    random: ChaCha20Rng,
    left: u32,
}

thread_local! {
    static GENERATOR: RefCell<Option<Generator>> = const { RefCell::new(None) };
}

impl RequestId {
    /// Draws the next id of this thread.
    pub fn draw(entropy: &Entropy) -> Self {
        let mut bytes = [0; 16];
        GENERATOR.with_borrow_mut(|slot| {
            let generator = match slot {
                Some(generator) if generator.left > 0 => generator,
                slot => {
                    let previous = slot.take();
                    slot.insert(Generator::seeded(entropy, previous))
                }
            };
            generator.left -= 1;
            generator.random.fill_bytes(&mut bytes);
        });
        Self::from_random(bytes)
    }

    fn from_random(bytes: [u8; 16]) -> Self {
        let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let mut text = [0; 36];
        uuid.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// 36 characters.
    ///
    /// # Panics
    /// Never: there are hex digits and dashes alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and dashes: the only constructor")
    }

    /// The id as a header field's value.
    ///
    /// # Panics
    /// Never: hex digits and dashes are allowed in a header.
    #[must_use]
    pub fn to_header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("hex digits and dashes: the only constructor")
    }
}

impl Generator {
    /// A fresh generator. Where the operating system gives no random bytes, the previous one goes
    /// on, or one that differs at least between threads begins: a request must not fail for want of
    /// an id, and whatever needs real randomness fails by itself.
    fn seeded(entropy: &Entropy, previous: Option<Self>) -> Self {
        let mut seed = [0; 32];
        let random = match (entropy.draw(&mut seed), previous) {
            (Err(_), Some(previous)) => previous.random,
            (drawn, _) => {
                if drawn.is_err() {
                    seed[..8].copy_from_slice(&(thread_number() as u64).to_be_bytes());
                }
                ChaCha20Rng::from_seed(seed)
            }
        };
        Self {
            random,
            left: IDS_PER_SEED,
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::faulty::FaultyEntropy;
    use std::collections::HashSet;
    use std::sync::atomic::Ordering;

    #[test]
    fn ids_are_random_uuids() {
        let id = RequestId::from_random([0xff; 16]);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let id = RequestId::from_random(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        assert_eq!(id.as_str(), "00010203-0405-4607-8809-0a0b0c0d0e0f");
        assert_eq!(id.to_header(), id.as_str());
    }

    #[test]
    fn ids_differ_over_a_reseeding_and_between_threads() {
        let draw = || {
            let entropy = Entropy::os();
            let ids = 0..IDS_PER_SEED + 100;
            ids.map(|_| RequestId::draw(&entropy)).collect::<Vec<_>>()
        };
        let other = std::thread::spawn(draw);
        let mut ids = draw();
        ids.extend(other.join().unwrap());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn a_failed_draw_ends_no_request() {
        let faulty = FaultyEntropy::default();
        let entropy = Entropy::new(Box::new(faulty.clone()), metrics::Counter::noop());
        faulty.0.store(true, Ordering::SeqCst);
        let first = RequestId::draw(&entropy);
        let there = std::thread::spawn(move || RequestId::draw(&entropy));
        assert!(
            first != there.join().unwrap(),
            "threads differ all the same"
        );
    }
}
