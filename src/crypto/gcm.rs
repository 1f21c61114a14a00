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

    /// The GHASH key `H`, for tags whose additional data begin with `head`.
    ///
    /// # Panics
    /// Never: 24 bytes are 16 and 8.
    #[must_use]
    pub fn authenticator(&self, head: &[u8; HEAD_BYTES]) -> Authenticator {
        let mut subkey = Block::default();
        self.0.encrypt_block(&mut subkey);
        let mut hash = GHash::new(&subkey);
        subkey.as_mut_slice().zeroize();
        let (first, rest) = head.split_at(BLOCK_BYTES);
        hash.update_padded(first);
        let rest = rest.try_into().expect("24 bytes are 16 and 8");
        Authenticator { hash, rest }
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

/// Bytes with which all additional data under one key begin: a blob's header, a block and a half.
pub const HEAD_BYTES: usize = 24;

/// GHASH under one key, the first block absorbed. A secret, wiped by its crate when dropped.
pub struct Authenticator {
    hash: GHash,
    /// The half block that the first 8 bytes of what follows fill.
    rest: [u8; HEAD_BYTES - BLOCK_BYTES],
}

impl Authenticator {
    /// The tag of `text`, `tail` being what follows the head as additional data and `mask` the nonce's `E_K(J0)`: for one text alone.
    ///
    /// GHASH multiplies four blocks at once, so they are gathered first.
    #[must_use]
    pub fn tag(&self, tail: &[u8], text: &[u8], mask: &Block) -> [u8; BLOCK_BYTES] {
        let mut gathered = Gathered {
            hash: self.hash.clone(),
            bytes: [0; GATHERED_BYTES],
            used: 0,
        };
        gathered.push(&self.rest);
        gathered.push(tail);
        gathered.pad();
        // The length of an `AES_256` data key is worth knowing when compiling: it is copied without a call.
        match text.as_array::<32>() {
            Some(text) => gathered.push(text),
            None => gathered.push(text),
        }
        gathered.pad();
        gathered.push(&lengths(HEAD_BYTES + tail.len(), text.len()));
        masked(gathered.finish(), mask)
    }

    /// This key with `tail` absorbed behind the head as additional data, zero-padded to whole blocks: for many texts.
    #[must_use]
    pub fn absorb(&self, tail: &[u8]) -> Absorbed {
        let (filling, rest) = tail.split_at(tail.len().min(BLOCK_BYTES - self.rest.len()));
        let mut second = Block::default();
        second[..self.rest.len()].copy_from_slice(&self.rest);
        second[self.rest.len()..][..filling.len()].copy_from_slice(filling);
        let mut hash = self.hash.clone();
        let last = match rest.len().checked_sub(1) {
            None => second,
            Some(end) => {
                let (whole, remainder) = rest.split_at(end / BLOCK_BYTES * BLOCK_BYTES);
                hash.update(&[second]);
                hash.update_padded(whole);
                let mut last = Block::default();
                last[..remainder.len()].copy_from_slice(remainder);
                last
            }
        };
        Absorbed {
            hash,
            last,
            additional_bytes: HEAD_BYTES + tail.len(),
        }
    }
}

/// GHASH with additional data absorbed but for its last block, which is kept back: GHASH multiplies four blocks at
/// once, and with the two of an `AES_256` data key and the lengths it makes four. A secret like [`Authenticator`].
pub struct Absorbed {
    hash: GHash,
    last: Block,
    additional_bytes: usize,
}

impl Absorbed {
    /// The tag of `text` under the additional data, `mask` being the nonce's `E_K(J0)`.
    #[must_use]
    pub fn tag(&self, text: &[u8], mask: &Block) -> [u8; BLOCK_BYTES] {
        let lengths = lengths(self.additional_bytes, text.len()).into();
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
        masked(hash, mask)
    }
}

/// The last block that GHASH absorbs: both lengths in bits.
fn lengths(additional_bytes: usize, text_bytes: usize) -> [u8; BLOCK_BYTES] {
    (((additional_bytes as u128) << 64 | text_bytes as u128) * 8).to_be_bytes()
}

fn masked(hash: GHash, mask: &Block) -> [u8; BLOCK_BYTES] {
    let digest = u128::from_be_bytes(hash.finalize().into());
    (digest ^ u128::from_be_bytes((*mask).into())).to_be_bytes()
}

/// Bytes absorbed at once at most: enough for a context of 128 bytes and an `AES_256` data key.
const GATHERED_BYTES: usize = 12 * BLOCK_BYTES;

/// Bytes laid side by side until there are enough for GHASH; zeroes behind those used.
struct Gathered {
    hash: GHash,
    bytes: [u8; GATHERED_BYTES],
    used: usize,
}

impl Gathered {
    #[inline(always)] // so that the lengths which are known are known here too
    fn push(&mut self, mut bytes: &[u8]) {
        while GATHERED_BYTES - self.used <= bytes.len() {
            let (now, later) = bytes.split_at(GATHERED_BYTES - self.used);
            self.bytes[self.used..].copy_from_slice(now);
            self.hash.update_padded(&self.bytes);
            (self.bytes, self.used) = ([0; GATHERED_BYTES], 0);
            bytes = later;
        }
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Zeroes up to the next whole block.
    fn pad(&mut self) {
        self.used = self.used.next_multiple_of(BLOCK_BYTES);
    }

    fn finish(mut self) -> GHash {
        self.hash.update_padded(&self.bytes[..self.used]);
        self.hash
    }
}

#[cfg(test)]
mod tests;
