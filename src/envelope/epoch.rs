//! One run of nonces under a key derived from a backing key, and the keys minted in it.
//!
//! SEAL-1: no (epoch key, nonce) pair is used twice. An [`Epoch`] has one owner and is not `Clone`;
//! its index only moves forward, by the number of keys minted, and never wraps, because the block
//! limit ends the epoch long before. Everything here except the ciphertexts is a secret (POOL-9):
//! the round keys are wiped when the epoch ends, a mask when its key is bound or dropped, the GHASH
//! key when the last key of the epoch is gone.

use crate::context::{ContextRef, EncryptionContext};
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::gcm::{Authenticator, BLOCK_BYTES, Block, GcmKey, first_counter_block, gathers};
use crate::crypto::secret::Secret;
use crate::crypto::xaes;
use crate::envelope::blob::{BlobHeader, HEADER_BYTES, OVERHEAD_BYTES, TAG_BYTES, blob_bytes};
use crate::key::KeyId;
use crate::key::data_key::DataKeyLength;
use crate::key::material::BackingKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize;

/// The most blocks of the cipher under one epoch key. A minted key counts with the blocks that
/// `Decrypt` will use for its length. This is far below the bounds of SP 800-38D, section 8.3, and
/// below the 2^32 indices.
const EPOCH_BLOCKS_MAX: u64 = 1 << 24;
/// How long an epoch mints, in monotonic time.
const EPOCH_DURATION_MAX: Duration = Duration::from_secs(60);
/// `P` 12 ‖ `s` 8 ‖ seed 32, drawn at once.
const DRAW_BYTES: usize = 52;
const _: () = assert!(EPOCH_BLOCKS_MAX <= u32::MAX as u64, "an index never wraps");
const _: () = assert!(
    DRAW_BYTES == xaes::NONCE_BYTES - size_of::<u32>() + 32,
    "a nonce but for its index, and a seed"
);

/// The owner of one run of nonces.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<keymill::envelope::Epoch>();
/// ```
pub struct Epoch {
    key: GcmKey,
    binder: Arc<Binder>,
    ciphertexts: ChaCha20Rng,
    index: u32,
    blocks: u64,
    ends_at: Duration,
}

/// The epoch has reached its block or time limit: begin another.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the epoch has ended")]
pub struct EpochEnded;

impl Epoch {
    /// Draws prefix, start and seed (52 bytes) and derives the epoch key. `now` is monotonic time.
    ///
    /// # Errors
    /// [`EntropyError`].
    ///
    /// # Panics
    /// Never: 52 bytes are 12, 8 and 32.
    pub fn begin(
        key_id: KeyId,
        key: &BackingKey,
        entropy: &Entropy,
        now: Duration,
    ) -> Result<Self, EntropyError> {
        Self::begin_with(BlobHeader::of(key_id, key), key, entropy, now)
    }

    /// Begins an epoch as [`Self::begin`] does, for blobs with this header.
    pub(super) fn begin_with(
        header: BlobHeader,
        key: &BackingKey,
        entropy: &Entropy,
        now: Duration,
    ) -> Result<Self, EntropyError> {
        let drawn: Secret<DRAW_BYTES> = entropy.draw_secret()?;
        // The order of the draw is that of the nonce: `P`, then `s`; the seed follows.
        let (prefix, rest) = drawn
            .expose()
            .split_first_chunk()
            .expect("52 bytes are 12 and 40");
        let (start, seed) = rest.split_first_chunk().expect("40 bytes are 8 and 32");
        let gcm_key = key.material().derive(prefix);
        let header = header.encode();
        // Every tag of the epoch begins with the same header, so GHASH absorbs it once.
        let authenticator = gcm_key.authenticator(&header);
        let mut head = [0; HEAD_BYTES];
        let (of_header, of_nonce) = head.split_at_mut(HEADER_BYTES);
        of_header.copy_from_slice(&header);
        of_nonce.copy_from_slice(&drawn.expose()[..of_nonce.len()]);
        let binder = Binder {
            authenticator,
            head,
            start: *start,
        };
        Ok(Self {
            key: gcm_key,
            binder: Arc::new(binder),
            ciphertexts: ChaCha20Rng::from_seed(seed.try_into().expect("40 bytes are 8 and 32")),
            index: 0,
            blocks: 0,
            ends_at: now.saturating_add(EPOCH_DURATION_MAX),
        })
    }

    /// Mints `count` pooled keys of one length: draws their ciphertexts, computes their masks.
    ///
    /// # Errors
    /// [`EpochEnded`] when they would pass the block limit, or the time limit has passed.
    pub fn mint(
        &mut self,
        length: DataKeyLength,
        count: usize,
        now: Duration,
    ) -> Result<MintedKeys, EpochEnded> {
        let mut minted = MintedKeys::new();
        self.mint_into(&mut minted, length, count, now)?;
        Ok(minted)
    }

    /// Mints as [`Self::mint`] does, into buffers that were used before. Keys that are left in them
    /// are dropped.
    ///
    /// # Errors
    /// [`EpochEnded`]; `minted` is then empty.
    pub fn mint_into(
        &mut self,
        minted: &mut MintedKeys,
        length: DataKeyLength,
        count: usize,
        now: Duration,
    ) -> Result<(), EpochEnded> {
        // Limits are checked before anything is drawn: a refusal uses up no index.
        minted.clear();
        let keys = u32::try_from(count).map_err(|_| EpochEnded)?;
        let blocks = u64::from(keys) * blocks_per_key(length);
        if now >= self.ends_at || self.blocks + blocks > EPOCH_BLOCKS_MAX {
            return Err(EpochEnded);
        }
        if count == 0 {
            return Ok(());
        }
        // From here on nothing can fail, so the index moves exactly when keys exist.
        minted.binder = Some(Arc::new(Share(Arc::clone(&self.binder))));
        minted.length = length;
        minted.index = self.index;
        minted.ciphertexts.resize(count * length.bytes(), 0);
        self.ciphertexts.fill_bytes(&mut minted.ciphertexts);
        let indices = self.index..self.index + keys;
        minted
            .masks
            .extend(indices.map(|index| first_counter_block(&self.binder.start, index)));
        self.key.mask(&mut minted.masks);
        self.index += keys;
        self.blocks += blocks;
        Ok(())
    }
}

/// One block for the mask, and the keystream that `Decrypt` will compute.
fn blocks_per_key(length: DataKeyLength) -> u64 {
    1 + length.bytes().div_ceil(BLOCK_BYTES) as u64
}

/// The part that all keys of an epoch share: the GHASH key and the equal bytes of header and nonce.
struct Binder {
    authenticator: Authenticator,
    /// The first bytes of every blob: the header, and the nonce up to the index.
    head: [u8; HEAD_BYTES],
    start: [u8; 8],
}

const HEAD_BYTES: usize = HEADER_BYTES + xaes::PREFIX_BYTES + 8;

impl Binder {
    fn tag(&self, context: &EncryptionContext, ciphertext: &[u8], mask: &Block) -> [u8; TAG_BYTES] {
        self.authenticator
            .tag(context.canonical(), ciphertext, mask)
    }

    /// Appends a blob.
    fn append(&self, index: u32, ciphertext: &[u8], tag: &[u8; TAG_BYTES], out: &mut Vec<u8>) {
        out.reserve(OVERHEAD_BYTES + ciphertext.len());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&index.to_be_bytes());
        // An `AES_256` data key has a length that the compiler knows here, so it is copied without
        // a call.
        match ciphertext.as_array::<32>() {
            Some(ciphertext) => out.extend_from_slice(ciphertext),
            None => out.extend_from_slice(ciphertext),
        }
        out.extend_from_slice(tag);
    }
}

/// A magazine's share of its epoch's [`Binder`]. The keys of one magazine have a reference count of
/// their own: they are taken and bound on one core while those of other magazines are on other
/// cores, and the cores would pull the cache line of a common count from each other.
struct Share(Arc<Binder>);

/// Consecutive pooled keys of one epoch and length: the contents of a magazine.
///
/// POOL-1: a key leaves by value, and is wiped here as it leaves.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<keymill::envelope::MintedKeys>();
/// ```
/// ```compile_fail
/// fn needs_debug<T: std::fmt::Debug>() {}
/// needs_debug::<keymill::envelope::MintedKeys>();
/// ```
pub struct MintedKeys {
    /// `None` when no key is left, so that an empty magazine keeps no epoch's GHASH key.
    binder: Option<Arc<Share>>,
    length: DataKeyLength,
    /// The index of the first key; the next key to leave has `index + taken`.
    index: u32,
    ciphertexts: Vec<u8>,
    masks: Vec<Block>,
    taken: usize,
}

impl Default for MintedKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl MintedKeys {
    /// No keys yet: buffers for [`Epoch::mint_into`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            binder: None,
            length: DataKeyLength::AES_256,
            index: 0,
            ciphertexts: Vec::new(),
            masks: Vec::new(),
            taken: 0,
        }
    }

    /// Keys left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.masks.len() - self.taken
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap that belong to these keys alone.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.ciphertexts.capacity() + self.masks.capacity() * BLOCK_BYTES
    }

    /// Takes the next key out.
    pub fn take(&mut self) -> Option<PooledKey> {
        let binder = self.binder.take()?;
        let (at, bytes) = (self.taken, self.length.bytes());
        self.taken += 1;
        let mask = self.masks[at];
        self.masks[at].as_mut_slice().zeroize();
        if !self.is_empty() {
            self.binder = Some(Arc::clone(&binder));
        }
        Some(PooledKey {
            binder,
            index: self.index_of(at),
            ciphertext: Ciphertext::new(&self.ciphertexts[at * bytes..(at + 1) * bytes]),
            mask,
        })
    }

    /// Binds the next `count` keys, or as many as are left, to one context, which is hashed once.
    /// Appends their blobs to `out` and returns how many keys were bound.
    pub fn bind_many<'a>(
        &mut self,
        count: usize,
        context: impl Into<ContextRef<'a>>,
        out: &mut Vec<u8>,
    ) -> usize {
        let context = context.into().canonical();
        self.bind(count, out, |binder, ciphertexts, bytes, tags| match tags {
            // To hash side by side pays only for several keys.
            [tag] => *tag = binder.authenticator.tag(context, ciphertexts, tag).into(),
            tags => {
                let absorbed = binder.authenticator.absorb(context);
                absorbed.tag_many(ciphertexts, bytes, tags);
            }
        })
    }

    /// As [`Self::bind_many`], each key to the context in its place.
    pub fn bind_each(&mut self, contexts: &[ContextRef<'_>], out: &mut Vec<u8>) -> usize {
        let canonical = || contexts.iter().map(|context| context.canonical());
        self.bind(contexts.len(), out, |binder, ciphertexts, bytes, tags| {
            let authenticator = &binder.authenticator;
            if tags.len() > 1 && canonical().all(|context| gathers(context.len(), bytes)) {
                return authenticator.tag_each(canonical(), ciphertexts, bytes, tags);
            }
            let keys = ciphertexts.chunks_exact(bytes).zip(tags);
            for ((ciphertext, tag), context) in keys.zip(canonical()) {
                *tag = authenticator.tag(context, ciphertext, tag).into();
            }
        })
    }

    /// Binds the next `count` keys, or as many as are left: `tag` replaces their masks by the tags
    /// of their ciphertexts, which have so many bytes each.
    fn bind(
        &mut self,
        count: usize,
        out: &mut Vec<u8>,
        tag: impl FnOnce(&Binder, &[u8], usize, &mut [Block]),
    ) -> usize {
        let Some(binder) = self.binder.take() else {
            return 0;
        };
        let count = count.min(self.len());
        out.reserve(count * blob_bytes(self.length));
        let (first, bytes) = (self.taken, self.length.bytes());
        self.taken += count;
        let index = self.index_of(first);
        let ciphertexts = &self.ciphertexts[first * bytes..self.taken * bytes];
        let tags = &mut self.masks[first..self.taken];
        tag(&binder.0, ciphertexts, bytes, tags);
        let keys = ciphertexts.chunks_exact(bytes).zip(tags);
        for ((ciphertext, tag), index) in keys.zip(index..) {
            binder.0.append(index, ciphertext, &(*tag).into(), out);
            // The tag replaced the mask in the buffer; wiped, it leaves nothing of either.
            tag.as_mut_slice().zeroize();
        }
        if !self.is_empty() {
            self.binder = Some(binder);
        }
        count
    }

    /// The index of the `at`-th of these keys.
    fn index_of(&self, at: usize) -> u32 {
        self.index + u32::try_from(at).expect("no more keys than indices in an epoch")
    }

    /// Drops the keys that are left and keeps the buffers.
    pub fn clear(&mut self) {
        self.masks[self.taken..]
            .iter_mut()
            .for_each(|mask| mask.as_mut_slice().zeroize());
        self.masks.clear();
        self.ciphertexts.clear();
        self.taken = 0;
        self.binder = None;
    }
}

impl Drop for MintedKeys {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A data key that is encrypted already and not bound to a context yet.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<keymill::envelope::PooledKey>();
/// ```
pub struct PooledKey {
    binder: Arc<Share>,
    index: u32,
    ciphertext: Ciphertext,
    mask: Block,
}

impl PooledKey {
    /// Finishes the tag over `context` and appends the blob to `out`. By value: a key is bound at
    /// most once (POOL-1).
    pub fn bind(self, context: &EncryptionContext, out: &mut Vec<u8>) {
        let (binder, ciphertext) = (&self.binder.0, self.ciphertext.bytes());
        let tag = binder.tag(context, ciphertext, &self.mask);
        binder.append(self.index, ciphertext, &tag, out);
    }
}

impl Drop for PooledKey {
    fn drop(&mut self) {
        self.mask.as_mut_slice().zeroize();
    }
}

/// The ciphertext: in place for the lengths that are pooled, on the heap for others.
enum Ciphertext {
    Short { bytes: [u8; 32], length: u8 },
    Long(Box<[u8]>),
}

impl Ciphertext {
    fn new(drawn: &[u8]) -> Self {
        match u8::try_from(drawn.len()) {
            Ok(length @ 0..=32) => {
                let mut bytes = [0; 32];
                bytes[..drawn.len()].copy_from_slice(drawn);
                Self::Short { bytes, length }
            }
            _ => Self::Long(drawn.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { bytes, length } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests;
