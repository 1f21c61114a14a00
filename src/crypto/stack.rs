//! Runs work whose local variables are secret, also those of the libraries that it calls, and
//! leaves nothing of them on the stack.
//!
//! When a function returns, what it wrote stays on the stack until something overwrites it. Some
//! work is rare and its secrets outlive it: the private half of an import's wrapping key opens a
//! recorded import. Some libraries wipe their memory and leave copies on the stack: those of ML-KEM
//! and ML-DSA. For such work the stack below is overwritten as soon as the work is done.

use std::hint::black_box;
use zeroize::Zeroize;

/// Bytes that are overwritten: several times the stack of an RSA decryption and of the parsing of
/// its key.
const DEPTH: usize = 128 * 1024;

/// Does `work` and then overwrites the part of the stack that it used.
pub fn wiped<T>(work: impl FnOnce() -> T) -> T {
    wiped_below::<DEPTH, T>(work)
}

/// Does `work`, which uses `BYTES` of the stack at most, and then overwrites as many.
pub fn wiped_below<const BYTES: usize, T>(work: impl FnOnce() -> T) -> T {
    let outcome = below(work);
    overwrite::<BYTES>();
    outcome
}

/// Runs `work` in a frame of its own, so that what it leaves is where [`overwrite`] writes.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite<const BYTES: usize>() {
    let mut bytes = [0_u8; BYTES];
    bytes.zeroize();
    black_box(&bytes);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    pub(in crate::crypto) const PATTERN: [u8; 8] = [0x5a, 0xc3, 0x96, 0x1e, 0x78, 0xe1, 0x0f, 0xd2];

    /// Leaves the pattern deep in the stack; it is given inverted, so that the caller holds no
    /// copy.
    #[inline(never)]
    fn leave(inverted: [u8; 8]) -> u8 {
        let mut frame = [0_u8; 16 * 1024];
        for (at, byte) in frame.iter_mut().enumerate() {
            *byte = !inverted[at % 8];
        }
        black_box(&frame)[frame.len() - 1]
    }

    /// How many times the pattern is in the 256 KiB below this frame.
    #[inline(never)]
    pub(in crate::crypto) fn found(inverted: [u8; 8]) -> usize {
        let here = black_box(0_u8);
        let end = (&raw const here).addr() & !4095;
        let mut bytes = vec![0; 256 * 1024];
        let start = u64::try_from(end - bytes.len()).unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, start).unwrap();
        let pattern = inverted.map(|byte| !byte);
        let found = bytes.windows(8).filter(|bytes| *bytes == pattern);
        found.count()
    }

    #[test]
    fn wipe_1_work_on_a_wiped_stack_leaves_nothing_there() {
        let inverted = PATTERN.map(|byte| !byte);
        // The deep stack is mapped first, so that it can be read.
        wiped(|| ());
        assert_eq!(leave(inverted), PATTERN[7]);
        assert!(found(inverted) > 1000, "it would have been found");
        assert_eq!(wiped(|| leave(inverted)), PATTERN[7]);
        assert_eq!(found(inverted), 0);
    }
}
