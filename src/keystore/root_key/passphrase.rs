//! The form of a root key file that is sealed under a passphrase.
//!
//! One line: `keymill-root-key-v2 argon2id MEMORY PASSES LANES SALT SEALED`. The key of the seal is
//! Argon2id (RFC 9106) of the passphrase and the salt, 32 bytes long, with so many KiB of memory.

use crate::crypto::entropy::Entropy;
use crate::crypto::secret::Secret;
use crate::keystore::root_key::sealed::{self, Refused};
use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

pub(super) const PREFIX: &str = "keymill-root-key-v2 argon2id ";
/// The shortest passphrase that a root key is sealed under, in bytes.
pub(super) const PASSPHRASE_BYTES_MIN: usize = 16;
const SALT_BYTES: usize = 16;
/// RFC 9106, section 4, the second recommended option: 64 MiB, three passes, four lanes.
const COST: Cost = Cost {
    memory_kib: 1 << 16,
    passes: 3,
    lanes: 4,
};
/// What a file may ask for: 1 GiB. It was written by this program, so more is damage.
const COST_MAX: Cost = Cost {
    memory_kib: 1 << 20,
    passes: 100,
    lanes: 64,
};

struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Seals a root key. The line ends with a line feed.
pub(super) fn seal(
    key: &Secret<32>,
    passphrase: &[u8],
    entropy: &Entropy,
) -> Result<String, Refused> {
    let mut salt = [0; SALT_BYTES];
    entropy.draw(&mut salt)?;
    let Cost {
        memory_kib,
        passes,
        lanes,
    } = COST;
    let salt_hex = sealed::hex(&salt);
    let head = format!("{PREFIX}{memory_kib} {passes} {lanes} {salt_hex} ");
    sealed::line(
        &head,
        &wrapping_key(&COST, &salt, passphrase)?,
        key,
        entropy,
    )
}

/// Opens what [`seal`] has made.
pub(super) fn open(line: &str, passphrase: &[u8]) -> Result<Secret<32>, Refused> {
    let number = |text: &str, max: u32| match text.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Refused::Form),
    };
    sealed::open(line, PREFIX, |[memory, passes, lanes, salt]| {
        let cost = Cost {
            memory_kib: number(memory, COST_MAX.memory_kib)?,
            passes: number(passes, COST_MAX.passes)?,
            lanes: number(lanes, COST_MAX.lanes)?,
        };
        wrapping_key(&cost, &sealed::bytes(salt)?, passphrase)
    })
}

/// The memory of Argon2id is ordinary memory of the process, and is wiped.
fn wrapping_key(
    cost: &Cost,
    salt: &[u8; SALT_BYTES],
    passphrase: &[u8],
) -> Result<Secret<32>, Refused> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32));
    let params = params.map_err(|_| Refused::Form)?;
    let blocks = params.block_count();
    let mut memory = Zeroizing::new(Vec::new());
    let reserved = memory.try_reserve_exact(blocks);
    reserved.map_err(|_| Refused::Memory)?;
    memory.resize(blocks, argon2::Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Secret::try_filled(|key: &mut [u8; 32]| {
        let done =
            argon2.hash_password_into_with_memory(passphrase, salt, key, memory.as_mut_slice());
        done.map_err(|_| Refused::Form)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::root_key::sealed::{LINE_BYTES_MAX, hex};
    use std::mem::discriminant;

    const PASSPHRASE: &[u8] = b"correct horse battery staple";

    fn sealed() -> (Secret<32>, String) {
        let entropy = Entropy::os();
        let key = entropy.draw_secret::<32>().unwrap();
        let line = seal(&key, PASSPHRASE, &entropy).unwrap();
        (key, line)
    }

    /// RFC 9106, section 5.3, without its secret and associated data; computed with the reference
    /// implementation's Python binding, argon2-cffi 25.1.0: `hash_secret_raw(b"\x01" * 32,
    /// b"\x02" * 16, 3, 32, 4, 32, Type.ID)`.
    #[test]
    fn the_wrapping_key_is_that_of_the_reference_implementation() {
        let cost = Cost {
            memory_kib: 32,
            passes: 3,
            lanes: 4,
        };
        let key = wrapping_key(&cost, &[2; 16], &[1; 32]).unwrap();
        assert_eq!(
            hex(key.expose()),
            "03aab965c12001c9d7d0d2de33192c0494b684bb148196d73c1df1acaf6d0c2e"
        );
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone() {
        let (key, line) = sealed();
        assert!(line.len() <= LINE_BYTES_MAX);
        assert!(open(&line, PASSPHRASE).unwrap().ct_eq(key.expose()));
        let other = open(&line, b"correct horse battery stable");
        assert!(matches!(other, Err(Refused::Key)));
        assert!(!line.contains(&hex(key.expose())));
    }

    #[test]
    fn a_line_that_was_changed_does_not_open() {
        let (_, line) = sealed();
        for (from, to, expected) in [
            ("65536 3 4", "65536 2 4", Refused::Key),
            ("65536 3 4", "65536 3 3", Refused::Key),
            ("65536 3 4", "4294967295 3 4", Refused::Form),
            ("65536 3 4", "1 3 4", Refused::Form),
            ("65536 3 4", "65536 0 4", Refused::Form),
            ("65536 3 4", "65536 3 65", Refused::Form),
            ("65536 3 4", "65536 3", Refused::Form),
            ("65536 3 4", "+65536 3 4", Refused::Key),
            ("argon2id", "argon2d", Refused::Form),
            ("\n", "", Refused::Form),
            ("\n", "00\n", Refused::Form),
            ("\n", " \n", Refused::Form),
        ] {
            let changed = line.replace(from, to);
            assert_ne!(changed, line);
            let refused = open(&changed, PASSPHRASE)
                .err()
                .map(|refused| discriminant(&refused));
            assert_eq!(refused, Some(discriminant(&expected)), "{changed}");
        }
        let at = line.len() - 2;
        let digit = if line.as_bytes()[at] == b'0' {
            "1"
        } else {
            "0"
        };
        let flipped = format!("{}{digit}\n", &line[..at]);
        let refused = open(&flipped, PASSPHRASE);
        assert!(matches!(refused, Err(Refused::Key)));
    }
}
