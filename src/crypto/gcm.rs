//! The parts of GCM (SP 800-38D) that the pool needs apart: masks `E_K(J0)` for whole batches of
//! nonces, and GHASH over additional data and text.
//!
//! `tag = GHASH_H(A ‖ C ‖ lengths) ⊕ E_K(J0)`, with `H = E_K(0^128)` and, for 96-bit nonces, `J0 =
//! nonce ‖ 0^31 1` (SP 800-38D, sections 6.4, 7.1). Both halves are secrets (POOL-9): with `H` an
//! attacker can move any tag under this key to another context, and a mask together with its tag
//! gives away a value of the polynomial in `H`. Misuse to avoid: two tags for one nonce.

use crate::crypto::secret::Secret;
use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use polyval::Polyval;
use polyval::hazmat::FieldElement;
use polyval::universal_hash::UniversalHash;
use sm4::Sm4;
use zeroize::Zeroize;

/// A 16-byte block, as AES, SM4 and GHASH share it.
pub type Block = aes::Block;

/// Bytes of a block and of a tag.
pub const BLOCK_BYTES: usize = 16;

/// The expanded key of a block cipher, wiped when dropped.
pub struct GcmKey(Expanded);

/// Boxed, so that moving it leaves no copy behind.
enum Expanded {
    Aes256(Box<Aes256>),
    Sm4(Box<Sm4>),
}

impl GcmKey {
    /// Expands a key of AES-256.
    #[must_use]
    pub fn aes_256(key: &Secret<32>) -> Self {
        Self(Expanded::Aes256(Box::new(Aes256::new(key.expose().into()))))
    }

    /// Expands a key of SM4.
    #[must_use]
    pub fn sm4(key: &Secret<16>) -> Self {
        Self(Expanded::Sm4(Box::new(Sm4::new(key.expose().into()))))
    }

    /// The GHASH key `H`, for tags whose additional data begin with `head`.
    ///
    /// # Panics
    /// Never: 24 bytes are 16 and 8.
    #[must_use]
    pub fn authenticator(&self, head: &[u8; HEAD_BYTES]) -> Authenticator {
        let mut subkey = Block::default();
        self.mask(std::slice::from_mut(&mut subkey));
        // The key of POLYVAL from `H`: RFC 8452, appendix A.
        let mut key = FieldElement::from(subkey).reverse().mulx();
        let key_alone = Polyval::new(&key.into());
        key.zeroize();
        subkey.as_mut_slice().zeroize();
        let (first, rest) = head.split_at(BLOCK_BYTES);
        let mut hash = key_alone.clone();
        absorb(&mut hash, first);
        let rest = rest.try_into().expect("24 bytes are 16 and 8");
        Authenticator {
            key_alone,
            head: *head,
            hash,
            rest,
        }
    }

    /// Turns counter blocks `J0` into masks `E_K(J0)`, in bulk.
    pub fn mask(&self, counter_blocks: &mut [Block]) {
        match &self.0 {
            Expanded::Aes256(cipher) => cipher.encrypt_blocks(counter_blocks),
            Expanded::Sm4(cipher) => cipher.encrypt_blocks(counter_blocks),
        }
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

/// All additional data under one key begin with this many equal bytes, a blob's header: a block and
/// a half.
pub const HEAD_BYTES: usize = 24;

/// The GHASH state under one key, with the first block absorbed. It is a secret; the crate wipes it
/// when it is dropped.
///
/// GHASH is POLYVAL with the bytes of every block reversed, under `mulX` of the reversed key (RFC
/// 8452, appendix A). POLYVAL is used directly, so that the blocks of many keys are reversed first
/// and multiplied then; the crate `ghash` does both key by key (bench row "mint and bind, batch
/// under one context" of benches/RESULTS.md).
pub struct Authenticator {
    /// The state before the first block.
    key_alone: Polyval,
    /// What the additional data begin with.
    head: [u8; HEAD_BYTES],
    hash: Polyval,
    /// The last 8 bytes of the head: half a block, completed by the first 8 bytes of the tail.
    rest: [u8; HEAD_BYTES - BLOCK_BYTES],
}

impl Authenticator {
    /// The tag of one `text`. `tail` is the additional data after the head, and `mask` is `E_K(J0)`
    /// of the nonce.
    #[must_use]
    pub fn tag(&self, tail: &[u8], text: &[u8], mask: &Block) -> [u8; BLOCK_BYTES] {
        if !gathers(tail.len(), text.len()) {
            return self.absorb(tail).tag(text, mask);
        }
        let mut gathered = Gathered::EMPTY;
        gathered.fill(&self.head, tail, text);
        gathered.reverse();
        masked(self.digest(&gathered), mask)
    }

    /// Replaces each mask `E_K(J0)` by the tag of its text, each with additional data of its own.
    /// `texts` are side by side, each of `text_bytes` bytes.
    ///
    /// # Panics
    /// When [`gathers`] is false of one of them: a fault of the caller.
    pub fn tag_each<'a>(
        &self,
        tails: impl IntoIterator<Item = &'a [u8]>,
        texts: &[u8],
        text_bytes: usize,
        masks: &mut [Block],
    ) {
        let mut gathered = [Gathered::EMPTY; EACH_AT_ONCE];
        let mut digests = [Block::default(); EACH_AT_ONCE];
        let mut tails = tails.into_iter();
        let texts = texts.chunks(text_bytes * EACH_AT_ONCE);
        for (texts, masks) in texts.zip(masks.chunks_mut(EACH_AT_ONCE)) {
            // Passes over the group, as in `tag_many`.
            let tails = tails.by_ref().take(masks.len());
            let rows = texts.chunks_exact(text_bytes).zip(tails);
            for (gathered, (text, tail)) in gathered.iter_mut().zip(rows) {
                gathered.fill(&self.head, tail, text);
            }
            let gathered = &mut gathered[..masks.len()];
            gathered.iter_mut().for_each(Gathered::reverse);
            for (gathered, digest) in gathered.iter().zip(&mut digests) {
                *digest = self.digest(gathered);
            }
            for (mask, digest) in masks.iter_mut().zip(&digests) {
                *mask = masked(*digest, mask).into();
            }
        }
        for digest in &mut digests {
            digest.as_mut_slice().zeroize();
        }
    }

    fn digest(&self, gathered: &Gathered) -> Block {
        let mut hash = match gathered.has_first {
            true => self.key_alone.clone(),
            false => self.hash.clone(),
        };
        hash.update(gathered.blocks());
        hash.finalize()
    }

    /// Absorbs `tail`, the additional data after the head, zero-padded to whole blocks. The result
    /// makes the tags of many texts under this additional data.
    #[must_use]
    pub fn absorb(&self, tail: &[u8]) -> Absorbed {
        let (filling, rest) = tail.split_at(tail.len().min(BLOCK_BYTES - self.rest.len()));
        let mut second = Block::default();
        second[..self.rest.len()].copy_from_slice(&self.rest);
        second[self.rest.len()..][..filling.len()].copy_from_slice(filling);
        let mut hash = self.hash.clone();
        // The last block, whole or padded, is kept back; all blocks before it are absorbed.
        let last = match rest.len().checked_sub(1) {
            None => second,
            Some(end) => {
                let (whole, remainder) = rest.split_at(end / BLOCK_BYTES * BLOCK_BYTES);
                absorb(&mut hash, &second);
                absorb(&mut hash, whole);
                let mut last = Block::default();
                last[..remainder.len()].copy_from_slice(remainder);
                last
            }
        };
        Absorbed {
            hash,
            last: reversed(last.into()),
            additional_bytes: HEAD_BYTES + tail.len(),
        }
    }
}

/// A GHASH state with the additional data absorbed except their last block. That block is kept back
/// because GHASH multiplies four blocks at once: it makes four together with the two blocks of an
/// `AES_256` data key and the block of lengths. It is a secret like [`Authenticator`].
pub struct Absorbed {
    hash: Polyval,
    /// The block that was kept back, with its bytes reversed.
    last: Block,
    additional_bytes: usize,
}

impl Absorbed {
    /// The tag of a text of any length.
    fn tag(&self, text: &[u8], mask: &Block) -> [u8; BLOCK_BYTES] {
        let mut hash = self.hash.clone();
        hash.update(&[self.last]);
        absorb(&mut hash, text);
        absorb(&mut hash, &lengths(self.additional_bytes, text.len()));
        masked(hash.finalize(), mask)
    }

    /// Replaces each mask `E_K(J0)` by the tag of its text. `texts` are side by side, each of
    /// `text_bytes` bytes.
    pub fn tag_many(&self, texts: &[u8], text_bytes: usize, masks: &mut [Block]) {
        // The fast path below is for data keys of two blocks, as `AES_256` has.
        if text_bytes != 2 * BLOCK_BYTES {
            for (text, mask) in texts.chunks_exact(text_bytes).zip(masks) {
                *mask = self.tag(text, mask).into();
            }
            return;
        }
        let lengths = reversed(lengths(self.additional_bytes, text_bytes));
        let mut gathered =
            [[self.last, Block::default(), Block::default(), lengths]; TAGGED_AT_ONCE];
        let mut digests = [Block::default(); TAGGED_AT_ONCE];
        let texts = texts.as_chunks::<BLOCK_BYTES>().0.as_chunks::<2>().0;
        for (texts, masks) in texts
            .chunks(TAGGED_AT_ONCE)
            .zip(masks.chunks_mut(TAGGED_AT_ONCE))
        {
            // Three passes over the group: reverse all, hash all, mask all.
            for (blocks, text) in gathered.iter_mut().zip(texts) {
                (blocks[1], blocks[2]) = (reversed(text[0]), reversed(text[1]));
            }
            for (blocks, digest) in gathered.iter().zip(&mut digests).take(texts.len()) {
                let mut hash = self.hash.clone();
                hash.update(blocks);
                *digest = hash.finalize();
            }
            for (mask, digest) in masks.iter_mut().zip(&digests) {
                *mask = masked(*digest, mask).into();
            }
        }
        // A digest together with its tag gives the mask, and the mask gives a value of `H`.
        for digest in &mut digests {
            digest.as_mut_slice().zeroize();
        }
    }
}

/// How many texts go through each step (reverse, multiply, mask) together. Key by key, every step
/// would wait: the processor cannot forward two 8-byte stores that were just made to one 16-byte
/// load (bench row "mint and bind, batch under one context" of benches/RESULTS.md).
const TAGGED_AT_ONCE: usize = 32;

fn reversed(mut block: [u8; BLOCK_BYTES]) -> Block {
    block.reverse();
    block.into()
}

/// Absorbs `bytes`, zero-padded to whole blocks.
fn absorb(hash: &mut Polyval, bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    let mut blocks = [Block::default(); GATHERED_BYTES / BLOCK_BYTES];
    for whole in whole.chunks(blocks.len()) {
        for (block, bytes) in blocks.iter_mut().zip(whole) {
            *block = reversed(*bytes);
        }
        hash.update(&blocks[..whole.len()]);
    }
    if !rest.is_empty() {
        let mut last = [0; BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        hash.update(&[reversed(last)]);
    }
}

/// The last block that GHASH absorbs: both lengths in bits.
fn lengths(additional_bytes: usize, text_bytes: usize) -> [u8; BLOCK_BYTES] {
    (((additional_bytes as u128) << 64 | text_bytes as u128) * 8).to_be_bytes()
}

fn masked(digest: Block, mask: &Block) -> [u8; BLOCK_BYTES] {
    (u128::from_le_bytes(digest.into()) ^ u128::from_be_bytes((*mask).into())).to_be_bytes()
}

/// Up to this many bytes are gathered and absorbed in one call: a context of 128 bytes, an
/// `AES_256` data key, and what makes fours of their blocks.
const GATHERED_BYTES: usize = 16 * BLOCK_BYTES;
/// How many rows with additional data of their own go through each step together.
const EACH_AT_ONCE: usize = 16;
/// Blocks that GHASH multiplies at once.
const MULTIPLIED_AT_ONCE: usize = 4;

/// Whether the additional data after the head and a text, of so many bytes, are short enough for
/// [`Authenticator::tag_each`].
#[must_use]
pub fn gathers(tail_bytes: usize, text_bytes: usize) -> bool {
    let padded = |bytes: usize| bytes.next_multiple_of(BLOCK_BYTES);
    padded(HEAD_BYTES + tail_bytes) + padded(text_bytes) + BLOCK_BYTES <= GATHERED_BYTES
}

/// All that one tag is made of, at the end of a buffer that is zero before it.
struct Gathered {
    bytes: [u8; GATHERED_BYTES],
    /// Where the blocks begin that are absorbed.
    begin: usize,
    /// Whether the first block of the head is among them; else it was absorbed before.
    has_first: bool,
}

impl Gathered {
    const EMPTY: Self = Self {
        bytes: [0; GATHERED_BYTES],
        begin: 0,
        has_first: false,
    };

    fn fill(&mut self, head: &[u8; HEAD_BYTES], tail: &[u8], text: &[u8]) {
        let text_at = (HEAD_BYTES + tail.len()).next_multiple_of(BLOCK_BYTES);
        let lengths_at = text_at + text.len().next_multiple_of(BLOCK_BYTES);
        let start = GATHERED_BYTES - lengths_at - BLOCK_BYTES;
        self.bytes.fill(0);
        let bytes = &mut self.bytes[start..];
        bytes[..HEAD_BYTES].copy_from_slice(head);
        bytes[HEAD_BYTES..][..tail.len()].copy_from_slice(tail);
        // An `AES_256` data key has a length that the compiler knows here, so it is copied without
        // a call.
        match text.as_array::<32>() {
            Some(text) => bytes[text_at..][..32].copy_from_slice(text),
            None => bytes[text_at..][..text.len()].copy_from_slice(text),
        }
        let lengths = lengths(HEAD_BYTES + tail.len(), text.len());
        bytes[lengths_at..].copy_from_slice(&lengths);
        // Blocks beyond whole fours are multiplied one by one, each waiting for the one before.
        // With zeros before the first all are fours, and zeros leave a state of zero as it is.
        let after_first = lengths_at / BLOCK_BYTES;
        self.has_first = after_first % MULTIPLIED_AT_ONCE > 1;
        self.begin = match self.has_first {
            true => start - start % (MULTIPLIED_AT_ONCE * BLOCK_BYTES),
            false => start + BLOCK_BYTES,
        };
    }

    fn reverse(&mut self) {
        let (blocks, _) = self.bytes[self.begin..].as_chunks_mut::<BLOCK_BYTES>();
        blocks.iter_mut().for_each(|block| block.reverse());
    }

    fn blocks(&self) -> &[Block] {
        Block::cast_slice_from_core(self.bytes[self.begin..].as_chunks::<BLOCK_BYTES>().0)
    }
}

#[cfg(test)]
mod tests;
