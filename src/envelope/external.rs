//! Blobs of keys in external key stores: a plaintext that was encrypted twice.
//!
//! 1. This daemon seals the plaintext under the material that the key has here, with header and
//!    encryption context as additional data: the *inner text*, nonce 24 ‖ ciphertext n ‖ tag 16.
//! 2. The key store's proxy encrypts the inner text under the external key, with
//!    [`additional_data`]. The blob has all that the proxy answers.
//!
//! Neither side alone can decrypt: this daemon's store lacks the external key, and the other key
//! manager lacks the material here. The proxy never sees a plaintext, nor the encryption context,
//! only its digest.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 24 | header, with algorithm `0x04` |
//! | 24 | 1 | v, bytes of the proxy's initialization vector: 12 or 16 |
//! | 25 | 1 | m, bytes of the proxy's ciphertext metadata: 0..=20 |
//! | 26 | v | initialization vector |
//! | 26 + v | m | ciphertext metadata |
//! | 26 + v + m | n + 40 | ciphertext of the inner text |
//! | 66 + v + m + n | 16 | authentication tag |
//!
//! Lengths of the proxy's parts: AWS KMS External Key Store Proxy API specification, "Encrypt".

use crate::context::EncryptionContext;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::envelope::blob::{
    BlobHeader, CiphertextBlob, HEADER_BYTES, InvalidBlob, NONCE_BYTES, PLAINTEXT_BYTES_MAX,
    TAG_BYTES,
};
use crate::envelope::{Epoch, Nonce, OpenError, open_text, seal_text};
use crate::key::KeyId;
use crate::key::data_key::{DataKeyLength, PlaintextDataKey};
use crate::key::material::BackingKey;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The lengths of an initialization vector.
const VECTORS_BYTES: [usize; 2] = [12, 16];
/// The most bytes of ciphertext metadata.
const METADATA_BYTES_MAX: usize = 20;
const SHA_256_BYTES: usize = 32;
/// The bytes of a blob before the initialization vector.
const PREFIX_BYTES: usize = HEADER_BYTES + 2;
/// The bytes of an inner text besides its ciphertext.
pub const INNER_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// header 24 ‖ SHA-256 of the canonical encryption context.
pub const ADDITIONAL_BYTES: usize = HEADER_BYTES + SHA_256_BYTES;

/// A plaintext that is sealed here, on its way to a proxy.
pub struct InnerText {
    header: BlobHeader,
    /// header 24 ‖ nonce 24 ‖ ciphertext ‖ tag 16.
    bytes: Vec<u8>,
}

impl InnerText {
    /// Seals 1..=4096 bytes, under a fresh nonce.
    ///
    /// # Errors
    /// [`EntropyError`].
    ///
    /// # Panics
    /// When `plaintext` has no allowed length.
    pub fn seal(
        key_id: KeyId,
        inner: &BackingKey,
        context: &EncryptionContext,
        plaintext: &[u8],
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let header = BlobHeader::external(key_id, inner);
        let (nonce, mut bytes) = (Nonce::draw(entropy)?, Vec::new());
        seal_text(nonce, header, inner, context, plaintext, &mut bytes);
        Ok(Self { header, bytes })
    }

    /// Mints a data key, whose plaintext is computed nowhere.
    ///
    /// # Errors
    /// [`EntropyError`].
    ///
    /// # Panics
    /// Never: a new epoch has room for a key of any length.
    pub fn mint(
        key_id: KeyId,
        inner: &BackingKey,
        length: DataKeyLength,
        context: &EncryptionContext,
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let header = BlobHeader::external(key_id, inner);
        let mut epoch = Epoch::begin_with(header, inner, entropy, Duration::ZERO)?;
        let mut minted = epoch
            .mint(length, 1, Duration::ZERO)
            .expect("a new epoch has room for one key");
        let mut bytes = Vec::new();
        minted
            .take()
            .expect("one key was minted")
            .bind(context, &mut bytes);
        Ok(Self { header, bytes })
    }

    /// The header of the blob to come.
    #[must_use]
    pub fn header(&self) -> BlobHeader {
        self.header
    }

    /// What the proxy encrypts: 41..=4136 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// Opens an inner text, which a proxy has decrypted, under the material that the key has here.
///
/// # Errors
/// [`OpenError`], whatever the reason.
pub fn open_inner(
    key_id: KeyId,
    inner: &BackingKey,
    context: &EncryptionContext,
    text: &[u8],
) -> Result<PlaintextDataKey, OpenError> {
    let (nonce, rest) = text.split_first_chunk().ok_or(OpenError)?;
    let (ciphertext, tag) = rest.split_last_chunk().ok_or(OpenError)?;
    if !(1..=PLAINTEXT_BYTES_MAX).contains(&ciphertext.len()) {
        return Err(OpenError);
    }
    let header = BlobHeader::external(key_id, inner);
    open_text(header, inner, context, nonce, ciphertext, tag)
}

/// The additional data of the proxy: header 24 ‖ SHA-256 of the canonical encryption context. A
/// context of any allowed length fits what every proxy takes, and the proxy does not learn it.
#[must_use]
pub fn additional_data(header: &BlobHeader, context: &EncryptionContext) -> [u8; ADDITIONAL_BYTES] {
    let mut data = [0; ADDITIONAL_BYTES];
    let (of_header, of_context) = data.split_at_mut(HEADER_BYTES);
    of_header.copy_from_slice(&header.encode());
    of_context.copy_from_slice(&Sha256::digest(context.canonical()));
    data
}

/// What a proxy answers to a request to encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyParts<'a> {
    /// 12 or 16 bytes.
    pub vector: &'a [u8],
    /// At most 20 bytes.
    pub metadata: &'a [u8],
    /// As long as the inner text.
    pub ciphertext: &'a [u8],
    /// The authentication tag.
    pub tag: &'a [u8; TAG_BYTES],
}

/// A blob whose layout is valid.
#[derive(Clone, Copy)]
pub struct ExternalBlob<'a> {
    header: BlobHeader,
    parts: ProxyParts<'a>,
    bytes: &'a [u8],
}

/// The blob of these parts.
///
/// # Errors
/// [`InvalidBlob`]: a part has another length than a blob may have.
pub fn encode(header: &BlobHeader, parts: &ProxyParts<'_>) -> Result<Vec<u8>, InvalidBlob> {
    let length = |part: &[u8]| u8::try_from(part.len()).map_err(|_| InvalidBlob);
    let lengths = [length(parts.vector)?, length(parts.metadata)?];
    let blob = [
        header.encode().as_slice(),
        &lengths,
        parts.vector,
        parts.metadata,
        parts.ciphertext,
        parts.tag,
    ]
    .concat();
    ExternalBlob::parse(&blob)?;
    Ok(blob)
}

impl<'a> ExternalBlob<'a> {
    /// Checks the layout.
    ///
    /// # Errors
    /// [`InvalidBlob`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InvalidBlob> {
        let (prefix, rest) = bytes
            .split_first_chunk::<PREFIX_BYTES>()
            .ok_or(InvalidBlob)?;
        let header = BlobHeader::read(prefix.first_chunk().ok_or(InvalidBlob)?)?;
        let [.., vector_bytes, metadata_bytes] = prefix.map(usize::from);
        let is_known = header.is_external()
            && VECTORS_BYTES.contains(&vector_bytes)
            && metadata_bytes <= METADATA_BYTES_MAX;
        if !is_known {
            return Err(InvalidBlob);
        }
        let (vector, rest) = rest.split_at_checked(vector_bytes).ok_or(InvalidBlob)?;
        let (metadata, rest) = rest.split_at_checked(metadata_bytes).ok_or(InvalidBlob)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(InvalidBlob)?;
        let plaintext_bytes = ciphertext.len().checked_sub(INNER_OVERHEAD_BYTES);
        if !plaintext_bytes.is_some_and(|bytes| (1..=PLAINTEXT_BYTES_MAX).contains(&bytes)) {
            return Err(InvalidBlob);
        }
        Ok(Self {
            header,
            parts: ProxyParts {
                vector,
                metadata,
                ciphertext,
                tag,
            },
            bytes,
        })
    }

    /// The decoded header.
    #[must_use]
    pub fn header(&self) -> BlobHeader {
        self.header
    }

    /// What the proxy needs to decrypt it.
    #[must_use]
    pub fn parts(&self) -> ProxyParts<'a> {
        self.parts
    }

    /// Bytes of the plaintext, 1..=4096.
    #[must_use]
    pub fn plaintext_bytes(&self) -> usize {
        self.parts.ciphertext.len() - INNER_OVERHEAD_BYTES
    }

    /// The whole blob.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A blob of either form.
#[derive(Clone, Copy)]
pub enum AnyBlob<'a> {
    /// Of a key whose material is here.
    Own(CiphertextBlob<'a>),
    /// Of a key in an external key store.
    External(ExternalBlob<'a>),
}

impl<'a> AnyBlob<'a> {
    /// Checks the layout.
    ///
    /// # Errors
    /// [`InvalidBlob`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InvalidBlob> {
        match CiphertextBlob::parse(bytes) {
            Ok(blob) => Ok(Self::Own(blob)),
            Err(InvalidBlob) => ExternalBlob::parse(bytes).map(Self::External),
        }
    }

    /// The decoded header.
    #[must_use]
    pub fn header(&self) -> BlobHeader {
        match self {
            Self::Own(blob) => blob.header(),
            Self::External(blob) => blob.header(),
        }
    }

    /// Bytes of the plaintext, 1..=4096.
    #[must_use]
    pub fn plaintext_bytes(&self) -> usize {
        match self {
            Self::Own(blob) => blob.ciphertext().len(),
            Self::External(blob) => blob.plaintext_bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
