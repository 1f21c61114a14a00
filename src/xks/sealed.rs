//! Ciphertexts of external keys. The argument for their nonces is in docs/nonces.md, the layout in
//! docs/formats.md.
//!
//! An external key is a key of its own: `HMAC-SHA-256(key = material, label ‖ key id ‖ external key
//! id)`, with the material of one generation of the KMS key. Under it, each ciphertext is one of
//! XAES-256-GCM (C2SP). The first half of its 24-byte nonce, which derives the AES-256-GCM key of
//! this one message, is in the `ciphertextMetadata`; the second half is the `initializationVector`.
//! Both are drawn for each message. So what leaves is an ordinary AES-256-GCM ciphertext, with
//! additional data exactly as the specification has them, and no bound of 2^32 messages holds.
//!
//! XKS-1: a nonce is drawn for one message and used once; no ciphertext leaves that was not opened
//! again, and its integrity value is of the bytes that were opened.
//!
//! Misuse to avoid: a nonce of one's own, or the material itself as the key, under which the
//! ciphertext blobs of the KMS API are.

use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::xaes::{self, OpenError, PREFIX_BYTES, TAG_BYTES};
use crate::key::KeyId;
use crate::key::material::BackingKey;
use crate::xks_proxy::sealed::{ADDITIONAL_BYTES_MAX, METADATA_BYTES_MAX, integrity_value};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use smallvec::SmallVec;
use zeroize::Zeroizing;

/// Domain separation.
const LABEL: &[u8] = b"keymill external key v1";
/// The first byte of the metadata: the layout, and with it how additional data are made.
const LAYOUT: u8 = 1;
/// layout 1 ‖ generation 4 ‖ prefix 12
pub(super) const METADATA_BYTES: usize = 1 + 4 + PREFIX_BYTES;
/// Bytes of an initialization vector.
pub(super) const VECTOR_BYTES: usize = 12;
const _: () = assert!(METADATA_BYTES <= METADATA_BYTES_MAX);
const _: () = assert!(PREFIX_BYTES + VECTOR_BYTES == xaes::NONCE_BYTES);
const _: () = assert!(ADDITIONAL_BYTES_MAX <= u16::MAX as usize);

/// The key of one external key under one generation of its KMS key's material.
pub(super) struct ExternalSecret(Secret<32>);

impl ExternalSecret {
    pub(super) fn derive(material: &BackingKey, key: KeyId, external_id: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(material.expose())
            .expect("HMAC takes keys of every length");
        mac.update(LABEL);
        mac.update(key.bytes());
        mac.update(external_id.as_bytes());
        let derived: Zeroizing<[u8; 32]> = Zeroizing::new(mac.finalize().into_bytes().into());
        Self(Secret::filled(|bytes| bytes.copy_from_slice(&*derived)))
    }

    /// A key for one check of the cipher.
    pub(super) fn of_test(drawn: Secret<32>) -> Self {
        Self(drawn)
    }
}

/// What decides how a ciphertext is opened: the generation of the material, and the first half of
/// the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// From 1.
    pub(super) generation: u32,
    pub(super) prefix: [u8; PREFIX_BYTES],
}

impl Metadata {
    /// `None` for bytes that were not made by [`Self::encode`].
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; METADATA_BYTES] = bytes.try_into().ok()?;
        let (generation, prefix) = bytes[1..].split_first_chunk()?;
        let generation = u32::from_be_bytes(*generation);
        (bytes[0] == LAYOUT && generation > 0).then_some(Self {
            generation,
            prefix: prefix.try_into().ok()?,
        })
    }

    pub(super) fn encode(self) -> [u8; METADATA_BYTES] {
        let mut bytes = [0; METADATA_BYTES];
        bytes[0] = LAYOUT;
        bytes[1..5].copy_from_slice(&self.generation.to_be_bytes());
        bytes[5..].copy_from_slice(&self.prefix);
        bytes
    }
}

/// A ciphertext and what comes with it.
pub(super) struct Sealed {
    pub(super) metadata: [u8; METADATA_BYTES],
    pub(super) vector: [u8; VECTOR_BYTES],
    pub(super) text: Vec<u8>,
    pub(super) tag: [u8; TAG_BYTES],
}

impl Sealed {
    /// Seals `plaintext` under a nonce that is drawn for it.
    pub(super) fn seal(
        secret: &ExternalSecret,
        generation: u32,
        additional: &[u8],
        plaintext: &[u8],
        entropy: &Entropy,
    ) -> Result<Self, EntropyError> {
        let mut nonce = [0; xaes::NONCE_BYTES];
        entropy.draw(&mut nonce)?;
        let mut metadata = Metadata {
            generation,
            prefix: [0; PREFIX_BYTES],
        };
        let mut vector = [0; VECTOR_BYTES];
        let (prefix, rest) = nonce.split_at(PREFIX_BYTES);
        metadata.prefix.copy_from_slice(prefix);
        vector.copy_from_slice(rest);
        let metadata = metadata.encode();
        let additional = additional_data(additional, &metadata);
        let mut text = plaintext.to_vec();
        let tag = xaes::seal_in_place(secret.0.expose(), &nonce, &additional, &mut text);
        Ok(Self {
            metadata,
            vector,
            text,
            tag,
        })
    }

    /// Its [`integrity_value`], which AWS KMS computes again. Compute it before [`open`] verifies
    /// the ciphertext: what is damaged after it is then noticed.
    pub(super) fn integrity_value(&self, additional: &[u8]) -> [u8; 32] {
        integrity_value(
            additional,
            &self.metadata,
            &self.vector,
            &self.text,
            &self.tag,
        )
    }
}

/// What a request has to open.
pub(super) struct ToOpen<'a> {
    pub(super) metadata: Metadata,
    pub(super) vector: &'a [u8; VECTOR_BYTES],
    pub(super) text: &'a [u8],
    pub(super) tag: &'a [u8; TAG_BYTES],
}

/// Compares the tag in constant time, then decrypts.
///
/// # Errors
/// [`OpenError`], whatever the reason.
pub(super) fn open(
    secret: &ExternalSecret,
    additional: &[u8],
    sealed: &ToOpen<'_>,
) -> Result<SecretBytes, OpenError> {
    let mut nonce = [0; xaes::NONCE_BYTES];
    let (prefix, rest) = nonce.split_at_mut(PREFIX_BYTES);
    prefix.copy_from_slice(&sealed.metadata.prefix);
    rest.copy_from_slice(sealed.vector);
    let additional = additional_data(additional, &sealed.metadata.encode());
    SecretBytes::try_filled(sealed.text.len(), |plaintext| {
        plaintext.copy_from_slice(sealed.text);
        let key = secret.0.expose();
        xaes::open_in_place(key, &nonce, &additional, plaintext, sealed.tag)
    })
}

/// `length u16 ‖ additional data ‖ length u8 ‖ metadata`, big-endian (specification, "Encrypt",
/// `ciphertextMetadata`). The callers have bounded both lengths.
fn additional_data(additional: &[u8], metadata: &[u8]) -> SmallVec<[u8; 160]> {
    let (long, short) = (additional.len(), metadata.len());
    let long = u16::try_from(long).expect("at most 8,192 bytes: the request was checked");
    let short = u8::try_from(short).expect("metadata have 17 bytes");
    let mut data = SmallVec::with_capacity(additional.len() + metadata.len() + 3);
    data.extend_from_slice(&long.to_be_bytes());
    data.extend_from_slice(additional);
    data.push(short);
    data.extend_from_slice(metadata);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::AeadInOut;
    use proptest::prelude::*;

    const ADDITIONAL: &[u8] = b"project=nile,department=marketing";
    const METADATA: &[u8] = b"key_version=1";
    const VECTOR: &str = "1ccae5470f39700254779031";

    fn bytes(hex: &str) -> Vec<u8> {
        hex_simd::decode_to_vec(hex).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        hex_simd::encode_to_string(bytes, hex_simd::AsciiCase::Lower)
    }

    /// Computed with the Python package `cryptography` and with `@noble/ciphers`.
    #[test]
    fn xks_1_additional_data_are_those_of_the_specification() {
        let key: Vec<u8> = (0..32).collect();
        for (additional, tag, value) in [
            (
                ADDITIONAL,
                "1e5ab9852819b91a36431ede1165187d",
                "c44c8dd3ec551515c25d2ef89c7332b413dd2d4a67314f5ed960443f06a4bc84",
            ),
            (
                b"",
                "1d1016829566ee69b2659c5faf521a98",
                "50a6c9a93c0b69cabd47bdc3e2380ea7890e5f630820a65d60270ec4bc2df254",
            ),
        ] {
            let mut text = b"Hello World!".to_vec();
            let vector = bytes(VECTOR);
            let made = Aes256Gcm::new_from_slice(&key)
                .unwrap()
                .encrypt_inout_detached(
                    vector.as_slice().try_into().unwrap(),
                    &additional_data(additional, METADATA),
                    text.as_mut_slice().into(),
                )
                .unwrap();
            assert_eq!(hex(&text), "a8db4da0b7ffd328750a6d45");
            assert_eq!(hex(&made), tag);
            let made = integrity_value(additional, METADATA, &vector, &text, &made.into());
            assert_eq!(hex(&made), value);
        }
    }

    fn secret(external_id: &str, material: u8, generation: u32) -> ExternalSecret {
        let id: KeyId = "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap();
        let material = Secret::<32>::filled(|bytes| bytes.fill(material));
        let key = BackingKey::from_material(id, generation, Timestamp(0), material);
        ExternalSecret::derive(&key, id, external_id)
    }

    fn to_open(sealed: &Sealed) -> ToOpen<'_> {
        ToOpen {
            metadata: Metadata::parse(&sealed.metadata).unwrap(),
            vector: &sealed.vector,
            text: &sealed.text,
            tag: &sealed.tag,
        }
    }

    /// Frozen: computed by the `hmac` and `cryptography` packages of Python from the text of
    /// docs/formats.md (`tests/clients/xks.py` does so for what a daemon answers).
    #[test]
    fn xks_1_a_frozen_ciphertext_opens() {
        let metadata: Vec<u8> = [1, 0, 0, 0, 7].into_iter().chain(0..12).collect();
        let vector: [u8; 12] = bytes("0c0d0e0f1011121314151617").try_into().unwrap();
        let text = bytes(FROZEN_TEXT);
        let tag = bytes(FROZEN_TAG).try_into().unwrap();
        let sealed = ToOpen {
            metadata: Metadata::parse(&metadata).unwrap(),
            vector: &vector,
            text: &text,
            tag: &tag,
        };
        let opened = open(&secret("orders.1", 9, 7), ADDITIONAL, &sealed).unwrap();
        assert_eq!(opened.expose(), b"Hello World!");
    }

    const FROZEN_TEXT: &str = "a3f6e37eb530953e4a73b71b";
    const FROZEN_TAG: &str = "605992f42f9c19b07fcd1f1c417833ac";

    #[test]
    fn metadata_of_other_layouts_are_refused() {
        let metadata = Metadata {
            generation: 3,
            prefix: [5; PREFIX_BYTES],
        };
        let good = metadata.encode();
        assert_eq!(Metadata::parse(&good), Some(metadata));
        for length in [0, 13, 16, 18, 20] {
            assert_eq!(Metadata::parse(&[1; 20][..length]), None, "{length}");
        }
        for (at, value) in [(0, 0), (0, 2), (4, 0)] {
            let mut other = good;
            other[at] = value;
            assert_eq!(Metadata::parse(&other), None, "{at} {value}");
        }
    }

    #[test]
    fn xks_1_a_ciphertext_is_of_one_external_key_and_one_material() {
        let entropy = Entropy::os();
        let sealed = Sealed::seal(&secret("a", 1, 1), 1, b"x", b"text", &entropy).unwrap();
        assert!(open(&secret("a", 1, 1), b"x", &to_open(&sealed)).is_ok());
        for (external_id, material) in [("b", 1), ("a", 2)] {
            let other = secret(external_id, material, 1);
            assert!(open(&other, b"x", &to_open(&sealed)).is_err());
        }
        // Metadata cannot pass as additional data.
        let mut joined = b"x".to_vec();
        joined.extend_from_slice(&sealed.metadata);
        assert!(open(&secret("a", 1, 1), &joined, &to_open(&sealed)).is_err());
    }

    #[test]
    fn xks_1_nonces_differ_in_both_halves() {
        let (entropy, secret) = (Entropy::os(), secret("a", 1, 1));
        let seal = || Sealed::seal(&secret, 1, b"", b"text", &entropy).unwrap();
        let (one, other) = (seal(), seal());
        assert_ne!(one.metadata, other.metadata);
        assert_ne!(one.vector, other.vector);
        assert_eq!(one.metadata[..5], other.metadata[..5]);
    }

    proptest! {
        #[test]
        fn xks_1_what_was_sealed_opens_and_what_was_changed_does_not(
            additional in prop::collection::vec(any::<u8>(), 0..40),
            plaintext in prop::collection::vec(any::<u8>(), 0..40),
            flip in any::<prop::sample::Index>(),
        ) {
            let (entropy, secret) = (Entropy::os(), secret("a", 1, 1));
            let sealed = Sealed::seal(&secret, 1, &additional, &plaintext, &entropy).unwrap();
            prop_assert_eq!(sealed.text.len(), plaintext.len());
            let opened = open(&secret, &additional, &to_open(&sealed)).unwrap();
            prop_assert_eq!(opened.expose(), plaintext.as_slice());
            let mut all: Vec<u8> = additional.clone();
            for part in [&sealed.metadata[5..], &sealed.vector, &sealed.text, &sealed.tag] {
                all.extend_from_slice(part);
            }
            let bit = flip.index(all.len() * 8);
            all[bit / 8] ^= 1 << (bit % 8);
            let (additional, rest) = all.split_at(additional.len());
            let (prefix, rest) = rest.split_at(PREFIX_BYTES);
            let (vector, rest) = rest.split_at(VECTOR_BYTES);
            let (text, tag) = rest.split_at(plaintext.len());
            let changed = ToOpen {
                metadata: Metadata { generation: 1, prefix: prefix.try_into().unwrap() },
                vector: vector.try_into().unwrap(),
                text,
                tag: tag.try_into().unwrap(),
            };
            prop_assert!(open(&secret, additional, &changed).is_err());
        }
    }
}
