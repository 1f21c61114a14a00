//! The envelope: how a data key is wrapped, and why no nonce is ever used twice.
//!
//! | in the text below | here |
//! |---|---|
//! | an epoch, which gives its i-th key the nonce `P ‖ s ‖ i` (SEAL-1) | [`Epoch`] |
//! | header and encryption context are authenticated (SEAL-2) | [`BlobHeader`] |
//! | an ordinary XAES-256-GCM or SM4-GCM ciphertext (SEAL-3) | [`CiphertextBlob`] |
//! | drawing the ciphertext instead of the key (SEAL-4) | [`Epoch::mint`], [`mint_one`] |
//! | binding late, at most once | [`PooledKey`] |
//! | an epoch of one | [`seal`], [`mint_one`] |
//! | encrypted twice, here and by another key manager | [`external`] |
//!
//! What this module does not do: choose a generation, know who may ask, or store anything.
//!
#![doc = include_str!("../docs/nonces.md")]

use crate::context::{ContextRef, EncryptionContext};
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::SecretBytes;
use crate::key::KeyId;
use crate::key::data_key::{DataKeyLength, PlaintextDataKey};
use crate::key::material::BackingKey;
use blob::{HEADER_BYTES, NONCE_BYTES, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX, TAG_BYTES};
use smallvec::SmallVec;
use std::time::Duration;

pub mod blob;
pub mod epoch;
pub mod external;

pub use blob::{BlobHeader, CiphertextBlob, blob_bytes};
pub use epoch::{Epoch, EpochEnded, MintedKeys, PooledKey};
pub use external::AnyBlob;

/// Mints one key in an epoch of its own, for a request that finds no pooled key. Shares and keeps
/// no state.
///
/// # Errors
/// [`EntropyError`].
///
/// # Panics
/// Never: a new epoch has room for a key of any length.
pub fn mint_one(
    key_id: KeyId,
    key: &BackingKey,
    length: DataKeyLength,
    entropy: &Entropy,
) -> Result<PooledKey, EntropyError> {
    let mut epoch = Epoch::begin(key_id, key, entropy, Duration::ZERO)?;
    let mut minted = epoch
        .mint(length, 1, Duration::ZERO)
        .expect("a new epoch has room for one key");
    Ok(minted.take().expect("one key was minted"))
}

/// Keys minted together: their ciphertexts, masks and blobs fit a core's first-level caches.
const MINT_KEYS: usize = 256;

/// Mints a key for each row and appends its blob to `out`. A run is a context and the number of
/// consecutive rows that have it.
///
/// The epochs begin and end here. None outlives the rows that it was begun for, so a machine that
/// is cloned between two calls has no nonce to continue with, whether or not the clone is detected
/// (POOL-5).
///
/// # Errors
/// [`EntropyError`]; the bytes in `out` must then not be used.
///
/// # Panics
/// Never: a new epoch has room for 256 keys of any length.
pub fn mint_rows<'a, C: Into<ContextRef<'a>>>(
    key_id: KeyId,
    key: &BackingKey,
    length: DataKeyLength,
    entropy: &Entropy,
    runs: impl IntoIterator<Item = (C, usize), IntoIter: Clone>,
    out: &mut Vec<u8>,
) -> Result<(), EntropyError> {
    let mut runs = runs
        .into_iter()
        .map(|(context, rows)| (context.into(), rows));
    let mut unminted: usize = runs.clone().map(|(_, rows)| rows).sum();
    out.reserve(unminted * blob_bytes(length));
    let begin = || Epoch::begin(key_id, key, entropy, Duration::ZERO);
    let (mut epoch, mut minted) = (begin()?, MintedKeys::new());
    let mut singles: SmallVec<[ContextRef<'_>; MINT_KEYS]> = SmallVec::new();
    let mut run = runs.next();
    while unminted > 0 {
        let count = unminted.min(MINT_KEYS);
        // An epoch that is at its limit refuses the whole group, which the next epoch then takes.
        while epoch.mint_into(&mut minted, length, count, Duration::ZERO) == Err(EpochEnded) {
            epoch = begin()?;
        }
        unminted -= count;
        // A context may have more rows than were minted, and the minted keys more than its rows.
        while !minted.is_empty()
            && let Some((context, rows)) = run
        {
            // Rows with contexts of their own are bound side by side.
            if rows == 1 {
                singles.clear();
                while singles.len() < minted.len()
                    && let Some((context, 1)) = run
                {
                    singles.push(context);
                    run = runs.next();
                }
                minted.bind_each(&singles, out);
                continue;
            }
            let left = rows - minted.bind_many(rows, context, out);
            run = match left {
                0 => runs.next(),
                left => Some((context, left)),
            };
        }
    }
    Ok(())
}

/// 24 bytes from the operating system under which nothing was sealed yet. Sealing consumes it.
///
/// ```compile_fail
/// fn needs_clone<T: Clone>() {}
/// needs_clone::<keymill::envelope::Nonce>();
/// ```
pub struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// Draws one.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw(entropy: &Entropy) -> Result<Self, EntropyError> {
        let mut nonce = Self([0; NONCE_BYTES]);
        entropy.draw(&mut nonce.0)?;
        Ok(nonce)
    }

    /// Draws several nonces with one system call, for rows that are in memory already. If the
    /// machine is cloned before they are used, both processes seal the same rows under the same
    /// nonces, and so make the same blobs.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn draw_many(
        entropy: &Entropy,
        count: usize,
    ) -> Result<impl Iterator<Item = Self> + use<>, EntropyError> {
        let mut drawn = vec![[0; NONCE_BYTES]; count];
        entropy.draw(drawn.as_flattened_mut())?;
        Ok(drawn.into_iter().map(Self))
    }
}

/// Seals 1..=4096 bytes that exist already (`Encrypt`), under a fresh 24-byte nonce from the
/// operating system.
///
/// # Errors
/// [`EntropyError`].
///
/// # Panics
/// When `plaintext` has no allowed length, see [`seal_under`].
pub fn seal(
    key_id: KeyId,
    key: &BackingKey,
    context: &EncryptionContext,
    plaintext: &[u8],
    entropy: &Entropy,
) -> Result<Vec<u8>, EntropyError> {
    let (nonce, mut blob) = (Nonce::draw(entropy)?, Vec::new());
    seal_under(nonce, key_id, key, context, plaintext, &mut blob);
    Ok(blob)
}

/// Seals `plaintext` under a nonce that was drawn before, and appends the blob to `out`.
///
/// # Panics
/// When `plaintext` is empty or longer than [`PLAINTEXT_BYTES_MAX`]: its blob would not open. The
/// callers' parsers refuse such lengths.
pub fn seal_under(
    nonce: Nonce,
    key_id: KeyId,
    key: &BackingKey,
    context: &EncryptionContext,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    let header = BlobHeader::of(key_id, key);
    seal_text(nonce, header, key, context, plaintext, out);
}

fn seal_text(
    Nonce(nonce): Nonce,
    header: BlobHeader,
    key: &BackingKey,
    context: &EncryptionContext,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    assert!(
        (1..=PLAINTEXT_BYTES_MAX).contains(&plaintext.len()),
        "a plaintext has 1 to 4096 bytes"
    );
    let header = header.encode();
    // All of the room before the plaintext is in it: growing would leave a copy behind.
    out.reserve(OVERHEAD_BYTES + plaintext.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&nonce);
    let from = out.len();
    out.extend_from_slice(plaintext);
    let additional = additional_data(&header, context);
    let text = &mut out[from..];
    let tag = key.material().seal_in_place(&nonce, &additional, text);
    out.extend_from_slice(&tag);
}

/// The blob does not open: it is damaged, or was sealed under another context or other material.
/// One error for all reasons.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext blob does not open")]
pub struct OpenError;

/// Opens a blob under `key`, which must have the key id and generation that the header names.
///
/// # Errors
/// [`OpenError`], whatever the reason; the tag is compared in constant time, before any plaintext
/// is released.
pub fn open(
    key_id: KeyId,
    key: &BackingKey,
    context: &EncryptionContext,
    blob: &CiphertextBlob<'_>,
) -> Result<PlaintextDataKey, OpenError> {
    let header = BlobHeader::of(key_id, key);
    // A blob of another algorithm, key or generation cannot open, so nothing is derived for it.
    if blob.header() != header {
        return Err(OpenError);
    }
    let (nonce, tag) = (blob.nonce(), blob.tag());
    open_text(header, key, context, nonce, blob.ciphertext(), tag)
}

fn open_text(
    header: BlobHeader,
    key: &BackingKey,
    context: &EncryptionContext,
    nonce: &[u8; NONCE_BYTES],
    text: &[u8],
    tag: &[u8; TAG_BYTES],
) -> Result<PlaintextDataKey, OpenError> {
    let additional = additional_data(&header.encode(), context);
    SecretBytes::try_filled(text.len(), |plaintext| {
        plaintext.copy_from_slice(text);
        key.material()
            .open_in_place(nonce, &additional, plaintext, tag)
    })
    .map(PlaintextDataKey)
    .map_err(|_| OpenError)
}

/// The additional data, on the stack except for the longest contexts.
fn additional_data(
    header: &[u8; HEADER_BYTES],
    context: &EncryptionContext,
) -> SmallVec<[u8; 160]> {
    let mut data = SmallVec::from_slice(header);
    data.extend_from_slice(context.canonical());
    data
}

#[cfg(test)]
mod tests;
