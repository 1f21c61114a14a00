//! The parts of GCM (SP 800-38D) that the pool needs apart: masks `E_K(J0)` for whole batches of nonces, and GHASH over
//! additional data and text.
//!
//! `tag = GHASH_H(A ‖ C ‖ lengths) ⊕ E_K(J0)`, with `H = E_K(0^128)` and, for 96-bit nonces, `J0 = nonce ‖ 0^31 1`
//! (SP 800-38D, sections 6.4, 7.1). Both halves are secrets (POOL-9): whoever has `H` can move any tag under this key to
//! another context, and a mask with its tag gives away a value of the polynomial in `H`. Misuse to avoid: two tags for one nonce.

use crate::crypto::secret::Secret;
use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroize;

/// A 16-byte block, as AES and GHASH share it.
pub type Block = aes::Block;

/// Bytes of a block and of a tag.
pub const BLOCK_BYTES: usize = 16;

/// An expanded AES-256 key, wiped when dropped; boxed, so that moving it leaves no copy behind.
pub struct GcmKey(Box<Aes256>);

impl GcmKey {
    /// Expands `key`.
    #[must_use]
    pub fn new(key: &Secret<32>) -> Self {
        Self(Box::new(Aes256::new(key.expose().into())))
    }

    /// The GHASH key `H`, ready to absorb.
    #[must_use]
    pub fn authenticator(&self) -> Authenticator {
        let mut subkey = Block::default();
        self.0.encrypt_block(&mut subkey);
        let hash = GHash::new(&subkey);
        subkey.as_mut_slice().zeroize();
        Authenticator(hash)
    }

    /// Turns counter blocks `J0` into masks `E_K(J0)`, in bulk.
    pub fn mask(&self, counter_blocks: &mut [Block]) {
        self.0.encrypt_blocks(counter_blocks);
    }
}

/// The counter block `J0` of a 96-bit nonce `fixed 8 ‖ index 4`.
#[must_use]
pub fn first_counter_block(fixed: &[u8; 8], index: u32) -> Block {
    let mut block = Block::default();
    block[..8].copy_from_slice(fixed);
    block[8..12].copy_from_slice(&index.to_be_bytes());
    block[15] = 1;
    block
}

/// GHASH under one key, nothing absorbed yet. A secret, wiped by its crate when dropped.
pub struct Authenticator(GHash);

impl Authenticator {
    /// This key with `head ‖ tail` absorbed as additional data, zero-padded to whole blocks.
    ///
    /// The head is a blob's 24 bytes: a block and a half, which the tail's first 8 bytes fill.
    #[must_use]
    pub fn absorb(&self, head: &[u8; 24], tail: &[u8]) -> Absorbed {
        let (filling, rest) = tail.split_at(tail.len().min(8));
        let mut blocks = [Block::default(); 2];
        blocks[0].copy_from_slice(&head[..16]);
        blocks[1][..8].copy_from_slice(&head[16..]);
        blocks[1][8..8 + filling.len()].copy_from_slice(filling);
        let mut hash = self.0.clone();
        let last = match rest.len().checked_sub(1) {
            None => {
                hash.update(&blocks[..1]);
                blocks[1]
            }
            Some(end) => {
                let (whole, remainder) = rest.split_at(end / BLOCK_BYTES * BLOCK_BYTES);
                hash.update(&blocks);
                hash.update_padded(whole);
                let mut last = Block::default();
                last[..remainder.len()].copy_from_slice(remainder);
                last
            }
        };
        Absorbed {
            hash,
            last,
            additional_bytes: (head.len() + tail.len()) as u64,
        }
    }
}

/// GHASH with additional data absorbed but for its last block, which is kept back: GHASH multiplies four blocks at
/// once, and with the two of an `AES_256` data key and the lengths it makes four. A secret like [`Authenticator`].
pub struct Absorbed {
    hash: GHash,
    last: Block,
    additional_bytes: u64,
}

impl Absorbed {
    /// The tag of `text` under the additional data, `mask` being the nonce's `E_K(J0)`.
    #[must_use]
    pub fn tag(&self, text: &[u8], mask: &Block) -> [u8; BLOCK_BYTES] {
        let mut lengths = Block::default();
        lengths[..8].copy_from_slice(&(self.additional_bytes * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
        let mut hash = self.hash.clone();
        match text.as_chunks::<BLOCK_BYTES>() {
            ([first, second], []) => {
                hash.update(&[self.last, (*first).into(), (*second).into(), lengths]);
            }
            _ => {
                hash.update(&[self.last]);
                hash.update_padded(text);
                hash.update(&[lengths]);
            }
        }
        let digest = u128::from_be_bytes(hash.finalize().into());
        (digest ^ u128::from_be_bytes((*mask).into())).to_be_bytes()
    }
}

#[cfg(test)]
mod tests;
