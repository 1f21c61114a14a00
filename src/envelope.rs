//! The envelope: how a data key is wrapped, and why no nonce is ever used twice.
//!
//! # Construction
//! Every blob is an ordinary **XAES-256-GCM** (C2SP) ciphertext under a backing key (SEAL-3): 24 bytes of nonce, of which the first
//! 12 derive an AES-256-GCM key and the last 12 are that key's nonce. Additional data are the blob's 24-byte header and the canonical
//! encryption context (SEAL-2). Whoever has the backing key can open a blob with any implementation of that standard.
//!
//! The derived key depends on the first half of the nonce alone, so it is derived once for a whole run: an [`Epoch`] draws a
//! prefix `P` (12 bytes), a start `s` (8 bytes) and the seed of its ciphertext generator (32 bytes) from the operating system, and gives its
//! i-th key the nonce `P ‖ s ‖ i`, i being 4 bytes that only move forward. It ends after 2^24 AES blocks or 60 seconds.
//!
//! # Nonces (SEAL-1)
//! *Within an epoch* the index never repeats: the epoch has one owner, cannot be cloned, and ends before the index could wrap. The counter blocks of
//! two nonces cannot overlap, since they differ in the 12 bytes that fill a counter block and a message has at most 257 blocks.
//! *Between epochs*, on whichever thread, process or host, a nonce repeats only if the 20 random bytes of `P ‖ s` repeat. With q epochs under one
//! backing key that chance is below q²/2^161. Fillers put some 2^22 keys into an epoch:
//! 10^15 keys a day, ten years long, are 2^40 epochs and a chance below 2^-80. A request that misses the pool begins an epoch of its own: a million misses a
//! second, ten years long, are 2^49 epochs and a chance below 2^-63. No counter is shared, stored or coordinated.
//! What a random draw cannot protect against is a machine that is cloned with its memory; `pool::clone_word` is about that.
//!
//! # Minting: draw the ciphertext, not the key
//! A data key is uniform random bytes, so drawing the ciphertext `C` uniformly and *calling* `C ⊕ keystream` the data key gives exactly the same
//! distribution of blobs and keys. [`Epoch::mint`] does that and computes no keystream: on the without-plaintext path the data key exists nowhere
//! until somebody calls `Decrypt` (SEAL-4). Neither `mint` nor `bind` has a plaintext type in reach.
//!
//! # Binding late
//! `tag = GHASH_H(AAD ‖ C ‖ lengths) ⊕ E(J0)`: only GHASH sees the encryption context. A [`PooledKey`] holds `C` and the mask `E(J0)`, and
//! binding it to whatever context a request brings costs one GHASH, no AES and no draw. It is bound by value, at most once: two tags for one
//! nonce would give away `H`, and with `H` every blob of the epoch could be moved to another context.
//!
//! What this module does not do: choose which generation to use, know who may ask, or keep anything.

use crate::context::EncryptionContext;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::SecretBytes;
use crate::crypto::xaes;
use crate::key::KeyId;
use crate::key::data_key::PlaintextDataKey;
use crate::key::material::BackingKey;
use blob::{HEADER_BYTES, NONCE_BYTES, OVERHEAD_BYTES};

pub mod blob;
pub mod epoch;

pub use blob::{BlobHeader, CiphertextBlob};
pub use epoch::{Epoch, EpochEnded, MintedKeys, PooledKey};

/// Seals 1..=4096 bytes that exist already (`Encrypt`): a fresh 24-byte nonce from the operating system for each call.
///
/// # Errors
/// [`EntropyError`].
pub fn seal(
    key_id: KeyId,
    key: &BackingKey,
    context: &EncryptionContext,
    plaintext: &[u8],
    entropy: &Entropy,
) -> Result<Vec<u8>, EntropyError> {
    let header = BlobHeader {
        key_id,
        generation: key.generation(),
    }
    .encode();
    let mut nonce = [0; NONCE_BYTES];
    entropy.draw(&mut nonce)?;
    let mut blob = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
    blob.extend_from_slice(&header);
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(plaintext);
    let text = &mut blob[HEADER_BYTES + NONCE_BYTES..];
    let additional = additional_data(&header, context);
    let tag = xaes::seal_in_place(key.expose(), &nonce, &additional, text);
    blob.extend_from_slice(&tag);
    Ok(blob)
}

/// What does not open: damaged, under another context, or under other material. One error for all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext blob does not open")]
pub struct OpenError;

/// Opens a blob under `key`, which must be of the key id and generation that the header names.
///
/// # Errors
/// [`OpenError`], whatever the reason; the tag is compared in constant time, before any plaintext is released.
pub fn open(
    key_id: KeyId,
    key: &BackingKey,
    context: &EncryptionContext,
    blob: &CiphertextBlob<'_>,
) -> Result<PlaintextDataKey, OpenError> {
    let header = BlobHeader {
        key_id,
        generation: key.generation(),
    };
    if blob.header() != header {
        return Err(OpenError);
    }
    let additional = additional_data(&header.encode(), context);
    let text = blob.ciphertext();
    SecretBytes::try_filled(text.len(), |plaintext| {
        plaintext.copy_from_slice(text);
        xaes::open_in_place(
            key.expose(),
            blob.nonce(),
            &additional,
            plaintext,
            blob.tag(),
        )
    })
    .map(PlaintextDataKey)
    .map_err(|_| OpenError)
}

fn additional_data(header: &[u8; HEADER_BYTES], context: &EncryptionContext) -> Vec<u8> {
    [header.as_slice(), context.canonical()].concat()
}

#[cfg(test)]
mod tests;
