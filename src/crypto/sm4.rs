//! SM4-GCM (GB/T 32907 in SP 800-38D's mode, as RFC 8998 has it) with a 192-bit nonce, for the
//! symmetric encryption keys of the China Regions.
//!
//! As in XAES-256-GCM, the first 12 bytes of the nonce derive a GCM key from the long-lived key, by
//! CMAC (SP 800-38B) in the counter mode of SP 800-108, and the last 12 bytes are that key's GCM
//! nonce. An SM4 key is one block, so one counter value derives it whole:
//!
//! `Kx = SM4-CMAC_K(0x00 0x01 ‖ "S" ‖ 0x00 ‖ prefix)`
//!
//! The crate's SM4 looks its S-box up in memory: SECURITY.md says what that leaves open.

use crate::crypto::secret::Secret;
use crate::crypto::xaes::{NONCE_BYTES, OpenError, PREFIX_BYTES, TAG_BYTES, split_nonce};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use cmac::{Cmac, KeyInit, Mac};
use sm4::Sm4;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Counter 1 as 16 bits, the letter of this construction, and the byte between label and context.
const LABEL: [u8; 4] = [0, 1, b'S', 0];

type Sm4Gcm = AesGcm<Sm4, U12>;

/// Derives the SM4-GCM key of all nonces that begin with `prefix`. Different prefixes give
/// different keys: the message is one block, on which CMAC is a permutation.
#[must_use]
pub fn derive_key(key: &[u8; KEY_BYTES], prefix: &[u8; PREFIX_BYTES]) -> Secret<KEY_BYTES> {
    let mut mac = Cmac::<Sm4>::new(key.into());
    mac.update(&LABEL);
    mac.update(prefix);
    Secret::filled(|derived| {
        let mut output = mac.finalize().into_bytes();
        derived.copy_from_slice(&output);
        zeroize::Zeroize::zeroize(output.as_mut_slice());
    })
}

/// Encrypts `text` in place and returns the tag.
///
/// # Panics
/// Never for texts of less than 2^36 bytes, which is above every caller's bound.
pub(crate) fn seal_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    text: &mut [u8],
) -> [u8; TAG_BYTES] {
    let (prefix, rest) = split_nonce(nonce);
    Sm4Gcm::new(derive_key(key, prefix).expose().into())
        .encrypt_inout_detached(rest.into(), associated, text.into())
        .expect("shorter than GCM's limit of 2^36 - 32 bytes")
        .into()
}

/// Compares the tag in constant time, then decrypts `text` in place.
pub(crate) fn open_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let (prefix, rest) = split_nonce(nonce);
    Sm4Gcm::new(derive_key(key, prefix).expose().into())
        .decrypt_inout_detached(rest.into(), associated, text.into(), tag.into())
        .map_err(|_| OpenError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::gcm::{GcmKey, first_counter_block};
    use sm4::cipher::BlockCipherEncrypt;

    /// GB/T 32907-2016, appendix A; RFC 8998, appendix A.
    const KEY: [u8; 16] = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes();

    fn unhex(text: &str) -> Vec<u8> {
        hex_simd::decode_to_vec(text).unwrap()
    }

    #[test]
    fn blocks_are_those_of_the_standard() {
        let cipher = Sm4::new(&KEY.into());
        let mut block = KEY.into();
        cipher.encrypt_block(&mut block);
        assert_eq!(block.as_slice(), unhex("681edf34d206965e86b3e94f536e4246"));
        for _ in 1..1_000_000 {
            cipher.encrypt_block(&mut block);
        }
        assert_eq!(block.as_slice(), unhex("595298c7c6fd271f0402f804c33d3f66"));
    }

    #[test]
    fn gcm_is_that_of_rfc_8998_by_the_whole_and_by_the_parts() {
        let nonce: [u8; 12] = unhex("00001234567800000000abcd").try_into().unwrap();
        let additional = unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let bytes = [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0xee, 0xaa];
        let mut text: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; 8]).collect();
        let tag: [u8; 16] = Sm4Gcm::new(&KEY.into())
            .encrypt_inout_detached(&nonce.into(), &additional, text.as_mut_slice().into())
            .unwrap()
            .into();
        let expected = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
                        d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d";
        assert_eq!(text, unhex(expected));
        assert_eq!(tag, *unhex("83de3541e4c2b58177e065a9bf7b62ec"));

        // The parts take additional data of a blob: at least 24 bytes.
        let additional = [additional, vec![7; 9]].concat();
        let mut text = vec![5; 33];
        let tag: [u8; 16] = Sm4Gcm::new(&KEY.into())
            .encrypt_inout_detached(&nonce.into(), &additional, text.as_mut_slice().into())
            .unwrap()
            .into();
        let key = GcmKey::sm4(&Secret::filled(|to| *to = KEY));
        let (fixed, index) = nonce.split_first_chunk().unwrap();
        let index = u32::from_be_bytes(index.try_into().unwrap());
        let mut mask = [first_counter_block(fixed, index)];
        key.mask(&mut mask);
        let (head, tail) = additional.split_first_chunk().unwrap();
        assert_eq!(key.authenticator(head).tag(tail, &text, &mask[0]), tag);
    }

    /// The derivation from blocks alone, as SP 800-38B writes it: `SM4_K(M ⊕ 2 · SM4_K(0))`.
    #[test]
    fn a_derived_key_is_the_cmac_of_one_block() {
        let cipher = Sm4::new(&KEY.into());
        for prefix in [[0; 12], [0xff; 12], *b"twelve bytes"] {
            let mut block = [0; 16].into();
            cipher.encrypt_block(&mut block);
            let zero = u128::from_be_bytes(block.into());
            let doubled = (zero << 1) ^ ((zero >> 127) * 0x87);
            let message: [u8; 16] = [LABEL.as_slice(), &prefix].concat().try_into().unwrap();
            let mut block = (u128::from_be_bytes(message) ^ doubled)
                .to_be_bytes()
                .into();
            cipher.encrypt_block(&mut block);
            assert_eq!(derive_key(&KEY, &prefix).expose(), block.as_slice());
        }
        // Computed with pyca/cryptography: CMAC(algorithms.SM4(key)).
        let derived = derive_key(&KEY, b"twelve bytes");
        assert_eq!(
            *derived.expose(),
            *unhex("233a8f671fe9b6f3d5118de93e1dbbff")
        );
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let (nonce, mut text) = ([3; NONCE_BYTES], *b"text");
        let tag = seal_in_place(&KEY, &nonce, b"associated", &mut text);
        assert_ne!(&text, b"text");
        let opened = |associated: &[u8], nonce: &[u8; NONCE_BYTES], tag: &[u8; TAG_BYTES]| {
            let mut text = text;
            open_in_place(&KEY, nonce, associated, &mut text, tag).map(|()| text)
        };
        assert_eq!(opened(b"associated", &nonce, &tag), Ok(*b"text"));
        assert_eq!(opened(b"other", &nonce, &tag), Err(OpenError));
        for at in 0..NONCE_BYTES {
            let mut other = nonce;
            other[at] ^= 1;
            assert_eq!(opened(b"associated", &other, &tag), Err(OpenError), "{at}");
        }
        let mut other = tag;
        other[15] ^= 1;
        assert_eq!(opened(b"associated", &nonce, &other), Err(OpenError));
    }
}
