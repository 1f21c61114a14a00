//! Blob version 1: byte layout, encode, parse.

use crate::key::KeyId;

/// version 1 ‖ algorithm 1 ‖ flags 2 ‖ key id 16 ‖ generation 4.
pub const HEADER_BYTES: usize = 24;
/// prefix 12 ‖ start 8 ‖ index 4.
pub const NONCE_BYTES: usize = 24;
/// GCM tag.
pub const TAG_BYTES: usize = 16;
/// What a blob has beside its ciphertext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;
/// Longest plaintext.
pub const PLAINTEXT_BYTES_MAX: usize = 4096;

/// What the first 24 bytes of a blob say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHeader {
    /// The KMS key.
    pub key_id: KeyId,
    /// The generation of its material, from 1.
    pub generation: u32,
}

impl BlobHeader {
    /// The 24 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        todo!()
    }
}

/// A blob whose layout is sound; whether it opens is another matter.
#[derive(Clone, Copy)]
pub struct CiphertextBlob<'a> {
    bytes: &'a [u8],
    header: BlobHeader,
}

/// Bytes that are no blob of a version that this build knows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ciphertext blob")]
pub struct InvalidBlob;

impl<'a> CiphertextBlob<'a> {
    /// Checks the layout.
    ///
    /// # Errors
    /// [`InvalidBlob`].
    pub fn parse(_bytes: &'a [u8]) -> Result<Self, InvalidBlob> {
        todo!()
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> BlobHeader {
        self.header
    }

    /// The whole blob.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
