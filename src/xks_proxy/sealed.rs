//! What a proxy makes of a text, and the lengths of all that passes between it and AWS KMS.
//!
//! Source: AWS KMS External Key Store Proxy API specification, "Encrypt", "Decrypt", appendix C.

use sha2::{Digest, Sha256};

/// The one algorithm.
pub const AES_GCM: &str = "AES_GCM";
/// The one algorithm of integrity values.
pub const SHA_256: &str = "SHA_256";
/// The usages that an external key of AWS KMS must have.
pub const ENCRYPT: &str = "ENCRYPT";
/// As [`ENCRYPT`].
pub const DECRYPT: &str = "DECRYPT";
/// The one spec of an external key.
pub const AES_256: &str = "AES_256";
/// The most bytes of a text that a proxy must take.
pub const TEXT_BYTES_MAX: usize = 4300;
/// The most bytes of additional authenticated data that a proxy must take.
pub const ADDITIONAL_BYTES_MAX: usize = 8192;
/// The lengths of an initialization vector.
pub const VECTOR_BYTES: [usize; 2] = [12, 16];
/// The length of an authentication tag.
pub const TAG_BYTES: usize = 16;
/// The most bytes of `ciphertextMetadata`.
pub const METADATA_BYTES_MAX: usize = 20;

/// A ciphertext, and what the proxy needs with it to decrypt it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    ciphertext: Vec<u8>,
    /// 12 or 16 bytes.
    vector: Vec<u8>,
    tag: [u8; TAG_BYTES],
    /// At most 20 bytes.
    metadata: Vec<u8>,
}

/// Why parts do not make a [`Sealed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSealed {
    /// The ciphertext.
    #[error("ciphertext has more than {TEXT_BYTES_MAX} bytes")]
    Ciphertext,
    /// The initialization vector.
    #[error("initializationVector has not 12 or 16 bytes")]
    Vector,
    /// The metadata.
    #[error("ciphertextMetadata has more than {METADATA_BYTES_MAX} bytes")]
    Metadata,
}

impl Sealed {
    /// A ciphertext of at most [`TEXT_BYTES_MAX`], an initialization vector of one of
    /// [`VECTOR_BYTES`], a tag, and metadata of at most [`METADATA_BYTES_MAX`].
    ///
    /// # Errors
    /// [`InvalidSealed`].
    pub fn new(
        ciphertext: Vec<u8>,
        vector: &[u8],
        tag: [u8; TAG_BYTES],
        metadata: &[u8],
    ) -> Result<Self, InvalidSealed> {
        if ciphertext.len() > TEXT_BYTES_MAX {
            return Err(InvalidSealed::Ciphertext);
        }
        if !VECTOR_BYTES.contains(&vector.len()) {
            return Err(InvalidSealed::Vector);
        }
        if metadata.len() > METADATA_BYTES_MAX {
            return Err(InvalidSealed::Metadata);
        }
        Ok(Self {
            ciphertext,
            vector: vector.to_vec(),
            tag,
            metadata: metadata.to_vec(),
        })
    }

    /// The ciphertext, as long as its plaintext.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// The initialization vector, 12 or 16 bytes.
    #[must_use]
    pub fn vector(&self) -> &[u8] {
        &self.vector
    }

    /// The authentication tag.
    #[must_use]
    pub fn tag(&self) -> &[u8; TAG_BYTES] {
        &self.tag
    }

    /// `ciphertextMetadata`, at most 20 bytes, which mean something to the proxy alone.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// [`integrity_value`] of this.
    #[must_use]
    pub fn integrity_value(&self, additional: &[u8]) -> [u8; 32] {
        let Self {
            ciphertext,
            vector,
            tag,
            metadata,
        } = self;
        integrity_value(additional, metadata, vector, ciphertext, tag)
    }
}

/// `ciphertextDataIntegrityValue`: `SHA-256(additional data ‖ metadata ‖ initialization vector ‖
/// ciphertext ‖ tag)`, missing parts empty (appendix C).
#[must_use]
pub fn integrity_value(
    additional: &[u8],
    metadata: &[u8],
    vector: &[u8],
    ciphertext: &[u8],
    tag: &[u8; TAG_BYTES],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [additional, metadata, vector, ciphertext, tag.as_slice()] {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex_simd::decode_to_vec(hex).unwrap()
    }

    /// The example of appendix C.
    #[test]
    fn xks_1_the_published_integrity_value_comes_out() {
        let sealed = Sealed::new(
            bytes("821c642b5b71783367deaf18"),
            &bytes("1ccae5470f39700254779031"),
            bytes("bc1c4dda7707d6812447c5955e99b261")
                .try_into()
                .unwrap(),
            b"key_version=1",
        );
        let value = sealed
            .unwrap()
            .integrity_value(b"project=nile,department=marketing");
        let published = "a8703f2260bd8791ec2d15ea0b23e65a0631eedcf2a13a65cc82db3f47cf5ec7";
        assert_eq!(value.as_slice(), bytes(published));
    }

    #[test]
    fn parts_of_other_lengths_are_refused() {
        let of = |text: usize, vector: usize, metadata: usize| {
            let bytes = [0; TEXT_BYTES_MAX + 1];
            let text = bytes[..text].to_vec();
            Sealed::new(text, &bytes[..vector], [0; 16], &bytes[..metadata]).map(drop)
        };
        for (text, vector, metadata) in [(0, 12, 0), (4300, 16, 20)] {
            assert_eq!(of(text, vector, metadata), Ok(()));
        }
        assert_eq!(of(4301, 12, 0), Err(InvalidSealed::Ciphertext));
        for vector in [0, 11, 13, 15, 17] {
            assert_eq!(of(1, vector, 0), Err(InvalidSealed::Vector), "{vector}");
        }
        assert_eq!(of(1, 12, 21), Err(InvalidSealed::Metadata));
    }
}
