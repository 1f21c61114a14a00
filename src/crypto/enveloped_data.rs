//! A plaintext for the holder of an RSA key: `EnvelopedData` of CMS (RFC 5652, section 6), as AWS
//! KMS answers enclaves.
//!
//! The outer elements have indefinite lengths (ITU-T X.690, section 8.1.3.6): the SDK of Nitro
//! Enclaves in C walks from one to the next, and skips as a whole one whose length is given.
//! Written here, since CMS libraries write DER, which has none of them.
//!
//! ```text
//! SEQUENCE (indefinite)                              ContentInfo
//!   OBJECT IDENTIFIER id-envelopedData
//!   [0] (indefinite)
//!     SEQUENCE (indefinite)                          EnvelopedData
//!       INTEGER 2
//!       SET                                          recipientInfos, in DER
//!         SEQUENCE                                   KeyTransRecipientInfo
//!           INTEGER 2
//!           [0] SHA-256 of the public key            subjectKeyIdentifier
//!           SEQUENCE RSAES-OAEP, SHA-256, MGF1 with SHA-256
//!           OCTET STRING the content key, encrypted
//!       SEQUENCE (indefinite)                        EncryptedContentInfo
//!         OBJECT IDENTIFIER id-data
//!         SEQUENCE AES-256-CBC, its IV
//!         [0] (indefinite)
//!           OCTET STRING the plaintext, encrypted
//! ```
//!
//! Nothing authenticates the content, which is how AWS has it: each answer has a content key and an
//! IV of its own.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::oaep::{self, OaepHash};
use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, AES_CBC_IV_LEN, EncryptionContext, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// Bits of a recipient's key.
const KEY_BITS: usize = 2048;
/// The longest plaintext: no operation answers more than 4,096 bytes.
const PLAINTEXT_BYTES_MAX: usize = 8192;
/// AES encrypts, and PKCS #7 pads, in blocks of so many bytes.
const BLOCK_BYTES: usize = 16;

const INTEGER_2: [u8; 3] = [0x02, 1, 2];
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, of a value whose own tag it replaces.
const IMPLICIT_0: u8 = 0x80;
/// `[0]`, around other values.
const CONSTRUCTED_0: u8 = 0xa0;
const INDEFINITE: u8 = 0x80;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// 1.2.840.113549.1.7.3
const ID_ENVELOPED_DATA: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3];
/// 1.2.840.113549.1.7.1
const ID_DATA: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// 2.16.840.1.101.3.4.1.42
const ID_AES_256_CBC: [u8; 11] = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 0x2a];
/// `AlgorithmIdentifier` of RSAES-OAEP with SHA-256 and MGF1 with SHA-256 (RFC 8017, appendix
/// A.2.1; the label is the default).
const RSAES_OAEP_SHA_256: [u8; 62] = [
    0x30, 0x3c, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07, 0x30, 0x2f, 0xa0,
    0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];

/// The public key that plaintexts are sealed to: RSA of 2,048 bits.
pub struct RecipientKey {
    key: OaepPublicEncryptingKey,
    /// SHA-256 of the `SubjectPublicKeyInfo`.
    identifier: [u8; 32],
}

/// The key is not one that plaintexts are sealed to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RSA key of 2048 bits in DER")]
pub struct InvalidRecipientKey;

/// A plaintext could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Nothing is random now.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The library refused a key or a length that it must take.
    #[error("the plaintext could not be sealed to its recipient")]
    Library,
}

impl RecipientKey {
    /// Reads a `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1.2.7).
    ///
    /// # Errors
    /// [`InvalidRecipientKey`].
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidRecipientKey> {
        let key = PublicEncryptingKey::from_der(der).map_err(|_| InvalidRecipientKey)?;
        if key.key_size_bits() != KEY_BITS {
            return Err(InvalidRecipientKey);
        }
        Ok(Self {
            key: OaepPublicEncryptingKey::new(key).map_err(|_| InvalidRecipientKey)?,
            identifier: Sha256::digest(der).into(),
        })
    }

    /// Seals a plaintext: `ContentInfo` in BER, some 460 bytes longer than it.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, plaintext: &[u8], entropy: &Entropy) -> Result<Vec<u8>, SealError> {
        let content_key = entropy.draw_secret::<AES_256_KEY_LEN>()?;
        let mut iv = [0; AES_CBC_IV_LEN];
        entropy.draw(&mut iv)?;
        let content = encrypted(plaintext, content_key.expose(), iv)?;
        let hash = OaepHash::Sha256;
        let sealed_key = oaep::encrypt_to(&self.key, hash, content_key.expose(), entropy.probe()?);
        let sealed_key = sealed_key.map_err(|_| SealError::Library)?;
        Ok(self.content_info(&sealed_key, &iv, &content))
    }

    fn content_info(&self, sealed_key: &[u8], iv: &[u8], content: &[u8]) -> Vec<u8> {
        let identifier = element(IMPLICIT_0, &[&self.identifier]);
        let sealed_key = element(OCTET_STRING, &[sealed_key]);
        let parts = [&INTEGER_2, &*identifier, &RSAES_OAEP_SHA_256, &sealed_key];
        let recipient = element(SEQUENCE, &parts);
        let recipients = element(SET, &[&recipient]);
        let iv = element(OCTET_STRING, &[iv]);
        let algorithm = element(SEQUENCE, &[&ID_AES_256_CBC, &iv]);
        let content = element(OCTET_STRING, &[content]);
        let content = indefinite(CONSTRUCTED_0, &[&content]);
        let encrypted = indefinite(SEQUENCE, &[&ID_DATA, &algorithm, &content]);
        let enveloped = indefinite(SEQUENCE, &[&INTEGER_2, &recipients, &encrypted]);
        let enveloped = indefinite(CONSTRUCTED_0, &[&enveloped]);
        indefinite(SEQUENCE, &[&ID_ENVELOPED_DATA, &enveloped])
    }
}

/// AES-256-CBC with the padding of PKCS #7 (RFC 5652, section 6.3).
fn encrypted(
    plaintext: &[u8],
    key: &[u8; AES_256_KEY_LEN],
    iv: [u8; AES_CBC_IV_LEN],
) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > PLAINTEXT_BYTES_MAX {
        return Err(SealError::Library);
    }
    // With room for the padding: where a vector grows, it leaves a copy behind.
    let mut text = Vec::with_capacity(plaintext.len() + BLOCK_BYTES);
    text.extend_from_slice(plaintext);
    let key = UnboundCipherKey::new(&AES_256, key).and_then(PaddedBlockEncryptingKey::cbc_pkcs7);
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    let done = key.and_then(|key| key.less_safe_encrypt(&mut text, context));
    if done.is_err() {
        text.zeroize();
        return Err(SealError::Library);
    }
    Ok(text)
}

/// A value in DER.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = u16::try_from(contents.len()).expect("a plaintext is bounded");
    let mut out = vec![tag];
    match length.to_be_bytes() {
        [0, length @ ..=0x7f] => out.push(length),
        [0, length] => out.extend_from_slice(&[0x81, length]),
        [high, low] => out.extend_from_slice(&[0x82, high, low]),
    }
    out.extend_from_slice(&contents);
    out
}

/// A value of indefinite length.
fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, INDEFINITE], &*parts.concat(), &END_OF_CONTENTS].concat()
}

#[cfg(test)]
pub(crate) mod tests;
