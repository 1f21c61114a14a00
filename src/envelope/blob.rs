//! Ciphertext blob, version 1: byte layout, encode, parse. All integers are big-endian. Blobs of
//! keys in external key stores have the header alone in common with it: see [`super::external`].
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, `0x01` |
//! | 1 | 1 | algorithm, `0x01`: XAES-256-GCM; `0x02`: SM4-GCM with a key derived alike |
//! | 2 | 2 | flags: bit 0 for a multi-Region key id; all others zero |
//! | 4 | 16 | key id |
//! | 20 | 4 | generation of the key material, from 1 |
//! | 24 | 24 | nonce: prefix 12 ‖ start 8 ‖ index 4 |
//! | 48 | n | ciphertext, 1..=4096 |
//! | 48 + n | 16 | tag |

use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::xaes;
use crate::key::KeyId;
use crate::key::data_key::DataKeyLength;
use crate::key::material::BackingKey;

/// version 1 ‖ algorithm 1 ‖ flags 2 ‖ key id 16 ‖ generation 4.
pub const HEADER_BYTES: usize = 24;
/// prefix 12 ‖ start 8 ‖ index 4.
pub const NONCE_BYTES: usize = xaes::NONCE_BYTES;
/// GCM tag.
pub const TAG_BYTES: usize = xaes::TAG_BYTES;
/// The bytes of a blob besides its ciphertext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;
/// The longest plaintext (AWS KMS API reference, `Encrypt`).
pub const PLAINTEXT_BYTES_MAX: usize = 4096;

/// The bytes of a data key's blob; 96 for `AES_256`.
#[must_use]
pub fn blob_bytes(length: DataKeyLength) -> usize {
    OVERHEAD_BYTES + length.bytes()
}

const VERSION: u8 = 1;
const ALGORITHM_XAES_256_GCM: u8 = 1;
const ALGORITHM_SM4_GCM: u8 = 2;
/// 3 is kept for an envelope that commits to its key.
const ALGORITHM_EXTERNAL: u8 = 4;
const FLAG_MULTI_REGION: u16 = 1;
const CIPHERTEXT_AT: usize = HEADER_BYTES + NONCE_BYTES;

/// What a blob is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// XAES-256-GCM.
    Xaes256Gcm,
    /// SM4-GCM with a key derived alike.
    Sm4Gcm,
    /// XAES-256-GCM, and then the proxy of an external key store.
    External,
}

impl Algorithm {
    const ALL: [(Self, u8); 3] = [
        (Self::Xaes256Gcm, ALGORITHM_XAES_256_GCM),
        (Self::Sm4Gcm, ALGORITHM_SM4_GCM),
        (Self::External, ALGORITHM_EXTERNAL),
    ];

    fn byte(self) -> u8 {
        match self {
            Self::Xaes256Gcm => ALGORITHM_XAES_256_GCM,
            Self::Sm4Gcm => ALGORITHM_SM4_GCM,
            Self::External => ALGORITHM_EXTERNAL,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == byte);
        found.map(|(algorithm, _)| *algorithm)
    }
}

impl From<BlockCipher> for Algorithm {
    fn from(cipher: BlockCipher) -> Self {
        match cipher {
            BlockCipher::Aes256 => Self::Xaes256Gcm,
            BlockCipher::Sm4 => Self::Sm4Gcm,
        }
    }
}

/// The first 24 bytes of a blob. They are authenticated as the beginning of the additional data
/// (SEAL-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHeader {
    /// The algorithm, which is the key's.
    pub algorithm: Algorithm,
    /// The KMS key.
    pub key_id: KeyId,
    /// The generation of its material, from 1.
    pub generation: u32,
}

impl BlobHeader {
    /// The header of the blobs under this material of a KMS key.
    #[must_use]
    pub fn of(key_id: KeyId, key: &BackingKey) -> Self {
        Self {
            algorithm: key.material().cipher().into(),
            key_id,
            generation: key.generation(),
        }
    }

    /// The header of the blobs of a key in an external key store, which has this material here.
    #[must_use]
    pub fn external(key_id: KeyId, inner: &BackingKey) -> Self {
        Self {
            algorithm: Algorithm::External,
            ..Self::of(key_id, inner)
        }
    }

    /// Whether it is the header of a blob of a key in an external key store.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.algorithm == Algorithm::External
    }

    /// The 24 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.key_id.is_multi_region() {
            FLAG_MULTI_REGION
        } else {
            0
        };
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.algorithm.byte();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..20].copy_from_slice(self.key_id.bytes());
        bytes[20..].copy_from_slice(&self.generation.to_be_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, InvalidBlob> {
        let [version, algorithm, flags @ .., _, _, _, _] = bytes;
        let (flags, key_id) = flags.split_first_chunk::<2>().ok_or(InvalidBlob)?;
        let flags = u16::from_be_bytes(*flags);
        let generation = bytes
            .last_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes));
        let algorithm = Algorithm::of(*algorithm).ok_or(InvalidBlob)?;
        let known = *version == VERSION && flags & !FLAG_MULTI_REGION == 0;
        match generation {
            Some(generation @ 1..) if known => {
                let key_id = key_id.try_into().map_err(|_| InvalidBlob)?;
                Ok(Self {
                    algorithm,
                    key_id: KeyId::from_parts(key_id, flags != 0),
                    generation,
                })
            }
            _ => Err(InvalidBlob),
        }
    }
}

/// A blob whose layout is valid. Whether it opens is decided by [`super::open`].
#[derive(Clone, Copy)]
pub struct CiphertextBlob<'a> {
    bytes: &'a [u8],
    header: BlobHeader,
}

/// The bytes are not a blob of a version that this build knows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ciphertext blob")]
pub struct InvalidBlob;

impl<'a> CiphertextBlob<'a> {
    /// Checks the layout.
    ///
    /// # Errors
    /// [`InvalidBlob`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InvalidBlob> {
        let plaintext_bytes = bytes.len().checked_sub(OVERHEAD_BYTES).ok_or(InvalidBlob)?;
        if !(1..=PLAINTEXT_BYTES_MAX).contains(&plaintext_bytes) {
            return Err(InvalidBlob);
        }
        let header = bytes
            .first_chunk()
            .ok_or(InvalidBlob)
            .and_then(BlobHeader::read)?;
        if header.is_external() {
            return Err(InvalidBlob);
        }
        Ok(Self { bytes, header })
    }

    /// The decoded header.
    #[must_use]
    pub fn header(&self) -> BlobHeader {
        self.header
    }

    /// The whole blob.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The 24 bytes of the nonce.
    ///
    /// # Panics
    /// Never: `parse` checked the length.
    #[must_use]
    pub fn nonce(&self) -> &'a [u8; NONCE_BYTES] {
        self.bytes[HEADER_BYTES..]
            .first_chunk()
            .expect("parse checked the length")
    }

    /// The ciphertext, as long as the plaintext.
    #[must_use]
    pub fn ciphertext(&self) -> &'a [u8] {
        &self.bytes[CIPHERTEXT_AT..self.bytes.len() - TAG_BYTES]
    }

    /// The tag.
    ///
    /// # Panics
    /// Never: `parse` checked the length.
    #[must_use]
    pub fn tag(&self) -> &'a [u8; TAG_BYTES] {
        self.bytes.last_chunk().expect("parse checked the length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let key_id = "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
        let mut bytes = BlobHeader {
            algorithm: Algorithm::Xaes256Gcm,
            key_id,
            generation: 7,
        }
        .encode()
        .to_vec();
        bytes.extend_from_slice(&[9; NONCE_BYTES + 32 + TAG_BYTES]);
        bytes
    }

    #[test]
    fn a_blob_parses_as_it_was_encoded() {
        let bytes = sample();
        let blob = CiphertextBlob::parse(&bytes).unwrap();
        assert_eq!(
            (
                blob_bytes(DataKeyLength::AES_256),
                blob.ciphertext().len(),
                blob.header().generation
            ),
            (96, 32, 7)
        );
        assert_eq!(blob.header().encode(), bytes[..HEADER_BYTES]);
        let key_id = "mrk-1234abcd12ab34cd56ef1234567890ab".parse().unwrap();
        for (algorithm, byte) in Algorithm::ALL {
            let header = BlobHeader {
                algorithm,
                key_id,
                generation: 1,
            };
            assert_eq!(header.encode()[1], byte);
            assert_eq!(BlobHeader::read(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn unknown_layouts_are_refused() {
        let edits: [(usize, u8, &str); 7] = [
            (0, 2, "version"),
            (1, 0, "algorithm"),
            (1, 3, "algorithm"),
            (1, 4, "algorithm of another layout"),
            (2, 1, "high flag"),
            (3, 2, "low flag"),
            (23, 0, "generation zero"),
        ];
        for (at, value, name) in edits {
            let mut bytes = sample();
            bytes[at] = value;
            assert_eq!(
                CiphertextBlob::parse(&bytes).err(),
                Some(InvalidBlob),
                "{name}"
            );
        }
        for length in (0..=OVERHEAD_BYTES).chain([OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX + 1]) {
            let mut bytes = sample();
            bytes.resize(length, 0);
            assert_eq!(
                CiphertextBlob::parse(&bytes).err(),
                Some(InvalidBlob),
                "{length}"
            );
        }
    }
}
