//! The cost of verifying a signature with a cached signing key, beside the three hashes that every
//! verifier needs: of the body, of the canonical request, and the HMAC of the string to sign.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;
mod signature;

use hmac::{Hmac, KeyInit, Mac};
use keymill::clock::Clock;
use sha2::{Digest, Sha256};
use side_by_side::rows::Goal;
use side_by_side::{Question, Side};
use signature::{BODY, Signature};
use std::hint::black_box;
use std::time::Duration;

/// Bytes of the canonical request of such a request, and of its string to sign.
const CANONICAL_BYTES: usize = 350;
const STRING_TO_SIGN_BYTES: usize = 140;

fn main() {
    let mut questions = vec![
        Question::new(
            "verify a signature, 141 bytes of body",
            1,
            vec![
                Side::new("verify", verified()),
                Side::new("its three hashes", hashed()),
            ],
        )
        .row(
            "SigV4 verification, signing key cached, 141-byte body",
            ["verify", "its three hashes"],
            Goal::AtMost(1.8),
        ),
    ];
    side_by_side::answer(&mut questions);
}

fn verified() -> impl FnMut(u64) -> Duration {
    let signature = Signature::new();
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            signature.verify();
        }
        clock.monotonic()
    }
}

fn hashed() -> impl FnMut(u64) -> Duration {
    let canonical = [b'c'; CANONICAL_BYTES];
    let string_to_sign = [b's'; STRING_TO_SIGN_BYTES];
    let keyed = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
    move |times| {
        let clock = Clock::system();
        for _ in 0..times {
            black_box(Sha256::digest(black_box(BODY)));
            black_box(Sha256::digest(black_box(&canonical)));
            let mut hmac = keyed.clone();
            hmac.update(black_box(&string_to_sign));
            black_box(hmac.finalize());
        }
        clock.monotonic()
    }
}
