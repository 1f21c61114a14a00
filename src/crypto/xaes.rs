//! XAES-256-GCM (C2SP, <https://c2sp.org/XAES-256-GCM>): a 192-bit nonce for AES-256-GCM.
//!
//! The first 12 bytes of the nonce derive an AES-256-GCM key from the long-lived key, by CMAC in
//! the counter mode of SP 800-108; the last 12 bytes are that key's GCM nonce. The step numbers
//! below are those of the specification.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::{Secret, SecretBytes};
use aes::Aes256;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use zeroize::Zeroize;

/// Bytes of the nonce that derive the key.
pub const PREFIX_BYTES: usize = 12;
/// Bytes of the whole nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes of the tag.
pub const TAG_BYTES: usize = 16;

/// Derives the AES-256-GCM key of all nonces that begin with `prefix`.
#[must_use]
pub fn derive_key(key: &[u8; 32], prefix: &[u8; PREFIX_BYTES]) -> Secret<32> {
    let cipher = Aes256::new(key.into());
    // Steps 1 and 2: L = AES-256_K(0^128), K1 = L doubled in GF(2^128).
    let mut block = Block::<Aes256>::default();
    cipher.encrypt_block(&mut block);
    let mut doubled = doubled(block.into());
    block.as_mut_slice().zeroize();
    // Steps 3 to 5: Kx = AES-256_K(M1 ⊕ K1) ‖ AES-256_K(M2 ⊕ K1).
    let derived = Secret::filled(|bytes| {
        for (counter, half) in (1..).zip(bytes.as_chunks_mut::<16>().0) {
            *half = (message(counter, prefix) ^ doubled).to_be_bytes();
            cipher.encrypt_block(half.into());
        }
    });
    doubled.zeroize();
    derived
}

/// The same key, where the long-lived key is elsewhere: `cmac` is its AES-CMAC of a block.
///
/// # Errors
/// That of `cmac`.
pub fn derive_by_cmac<E>(
    prefix: &[u8; PREFIX_BYTES],
    mut cmac: impl FnMut(&[u8; 16]) -> Result<[u8; 16], E>,
) -> Result<Secret<32>, E> {
    Secret::try_filled(|bytes| {
        for (counter, half) in (1..).zip(bytes.as_chunks_mut::<16>().0) {
            *half = cmac(&message(counter, prefix).to_be_bytes())?;
        }
        Ok(())
    })
}

/// The same key, where the long-lived key is elsewhere: `encrypt` is its AES of a block.
///
/// # Errors
/// That of `encrypt`.
pub fn derive_by_block<E>(
    prefix: &[u8; PREFIX_BYTES],
    mut encrypt: impl FnMut(&[u8; 16]) -> Result<[u8; 16], E>,
) -> Result<Secret<32>, E> {
    let mut doubled = doubled(encrypt(&[0; 16])?);
    // CMAC of one whole block is AES of the block ⊕ K1 (SP 800-38B, section 6.2).
    let derived = derive_by_cmac(prefix, |block| {
        encrypt(&(u128::from_be_bytes(*block) ^ doubled).to_be_bytes())
    });
    doubled.zeroize();
    derived
}

/// M1 or M2: the input of the derivation.
fn message(counter: u8, prefix: &[u8; PREFIX_BYTES]) -> u128 {
    let mut block = [0; 16];
    block[..4].copy_from_slice(&[0, counter, b'X', 0]);
    block[4..].copy_from_slice(prefix);
    u128::from_be_bytes(block)
}

/// A block doubled in GF(2^128).
fn doubled(block: [u8; 16]) -> u128 {
    let block = u128::from_be_bytes(block);
    (block << 1) ^ ((block >> 127) * 0b1000_0111)
}

/// The sealed bytes do not open: they are damaged, or they were sealed under another key or with
/// other associated data.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open")]
pub struct OpenError;

/// Encrypts `text` in place and returns the tag.
///
/// # Panics
/// Never for texts of less than 2^36 bytes, which is above every caller's bound.
pub(crate) fn seal_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    text: &mut [u8],
) -> [u8; TAG_BYTES] {
    let (prefix, rest) = split_nonce(nonce);
    Aes256Gcm::new(derive_key(key, prefix).expose().into())
        .encrypt_inout_detached(rest.into(), associated, text.into())
        .expect("shorter than GCM's limit of 2^36 - 32 bytes")
        .into()
}

/// Compares the tag in constant time, then decrypts `text` in place.
pub(crate) fn open_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let (prefix, rest) = split_nonce(nonce);
    Aes256Gcm::new(derive_key(key, prefix).expose().into())
        .decrypt_inout_detached(rest.into(), associated, text.into(), tag.into())
        .map_err(|_| OpenError)
}

/// The half of a nonce that derives the key, and the GCM nonce.
pub(super) fn split_nonce(nonce: &[u8; NONCE_BYTES]) -> (&[u8; PREFIX_BYTES], &[u8; 12]) {
    nonce
        .split_first_chunk()
        .map(|(prefix, rest)| (prefix, rest.try_into().expect("24 bytes are 12 and 12")))
        .expect("24 bytes are 12 and 12")
}

/// Seals `plaintext` under a fresh nonce from the operating system. The result is `nonce 24 ‖
/// ciphertext n ‖ tag 16`.
///
/// # Errors
/// [`EntropyError`].
pub fn seal(
    key: &[u8; 32],
    associated: &[u8],
    plaintext: &[u8],
    entropy: &Entropy,
) -> Result<Vec<u8>, EntropyError> {
    let mut nonce = [0; NONCE_BYTES];
    entropy.draw(&mut nonce)?;
    let mut sealed = Vec::with_capacity(NONCE_BYTES + plaintext.len() + TAG_BYTES);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(plaintext);
    let tag = seal_in_place(key, &nonce, associated, &mut sealed[NONCE_BYTES..]);
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

/// Opens the output of [`seal`].
///
/// # Errors
/// [`OpenError`], whatever the reason.
pub fn open(key: &[u8; 32], associated: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError)?;
    let (text, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
    SecretBytes::try_filled(text.len(), |plaintext| {
        plaintext.copy_from_slice(text);
        open_in_place(key, nonce, associated, plaintext, tag)
    })
}

#[cfg(test)]
mod tests;
