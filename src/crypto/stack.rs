//! Stacks that keep nothing: work whose locals, and those of the libraries that it calls, are
//! secret.
//!
//! A function that has returned leaves what it wrote on the stack until something overwrites it.
//! For work that is rare, and whose secrets outlive their use (the private half of an import's
//! wrapping key opens a recorded import), what lies below is overwritten as soon as it is done.

use std::hint::black_box;
use zeroize::Zeroize;

/// Bytes that are overwritten: several times what an RSA decryption and the parsing of its key
/// take.
const DEPTH: usize = 128 * 1024;

/// Does `work`, and overwrites the part of the stack that it had.
pub fn wiped<T>(work: impl FnOnce() -> T) -> T {
    let outcome = below(work);
    overwrite();
    outcome
}

/// A frame of its own, so that what it leaves lies where [`overwrite`] writes.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite() {
    let mut bytes = [0_u8; DEPTH];
    bytes.zeroize();
    black_box(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const PATTERN: [u8; 8] = [0x5a, 0xc3, 0x96, 0x1e, 0x78, 0xe1, 0x0f, 0xd2];

    /// Leaves the pattern, inverted until then, deep in the stack.
    #[inline(never)]
    fn leave(inverted: [u8; 8]) -> u8 {
        let mut frame = [0_u8; 16 * 1024];
        for (at, byte) in frame.iter_mut().enumerate() {
            *byte = !inverted[at % 8];
        }
        black_box(&frame)[frame.len() - 1]
    }

    /// How often the pattern lies in the 256 KiB below this frame.
    #[inline(never)]
    fn found(inverted: [u8; 8]) -> usize {
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
        // A deep stack is mapped first, so that it can be read.
        wiped(|| ());
        assert_eq!(leave(inverted), PATTERN[7]);
        assert!(found(inverted) > 1000, "it would have been found");
        assert_eq!(wiped(|| leave(inverted)), PATTERN[7]);
        assert_eq!(found(inverted), 0);
    }
}
