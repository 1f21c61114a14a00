//! The envelope against independent implementations and its own frozen vectors, and blobs that must
//! not open.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::block_cipher::{BlockCipher, CipherKey};
use crate::crypto::entropy::{EntropySource, faulty::FaultyEntropy};
use crate::key::data_key::DataKeyLength;
use cmac::Mac;
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::time::Duration;
use xaes_256_gcm::Xaes256Gcm;
use xaes_256_gcm::aead::consts::U12;
use xaes_256_gcm::aead::{Aead, KeyInit, Payload};

fn key_id() -> KeyId {
    "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap()
}

const CIPHERS: [BlockCipher; 2] = [BlockCipher::Aes256, BlockCipher::Sm4];

/// Bytes 0 to 31, or as many of them as the cipher's keys have.
fn material_of(cipher: BlockCipher) -> CipherKey {
    let bytes: Vec<u8> = (0..32).collect();
    CipherKey::copy_of(cipher, &bytes[..cipher.key_bytes()]).unwrap()
}

fn material() -> CipherKey {
    material_of(BlockCipher::Aes256)
}

fn backing_key_of(cipher: BlockCipher) -> BackingKey {
    BackingKey::from_material(key_id(), 3, Timestamp(0), material_of(cipher))
}

fn backing_key() -> BackingKey {
    backing_key_of(BlockCipher::Aes256)
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
}

fn epoch() -> Epoch {
    Epoch::begin(key_id(), &backing_key(), &Entropy::os(), Duration::ZERO).unwrap()
}

fn minted_of(cipher: BlockCipher, length: usize, count: usize) -> MintedKeys {
    let key = backing_key_of(cipher);
    let mut epoch = Epoch::begin(key_id(), &key, &Entropy::os(), Duration::ZERO).unwrap();
    epoch
        .mint(DataKeyLength::new(length).unwrap(), count, Duration::ZERO)
        .unwrap()
}

fn minted(length: usize, count: usize) -> MintedKeys {
    minted_of(BlockCipher::Aes256, length, count)
}

fn bound(length: usize, context: &EncryptionContext) -> Vec<u8> {
    let mut blob = Vec::new();
    minted(length, 1).take().unwrap().bind(context, &mut blob);
    blob
}

/// Opens a blob with the independent crate `xaes-256-gcm`, from the documented layout alone; one of
/// SM4 with CMAC and GCM as their crates have them whole.
fn open_by_oracle(blob: &[u8], context: &EncryptionContext) -> Option<Vec<u8>> {
    let aad = [&blob[..24], context.canonical()].concat();
    let payload = Payload {
        msg: &blob[48..],
        aad: &aad,
    };
    let nonce: [u8; 24] = blob[24..48].try_into().unwrap();
    if blob[1] == 2 {
        let key = backing_key_of(BlockCipher::Sm4);
        let mut mac = cmac::Cmac::<sm4::Sm4>::new_from_slice(key.expose()).unwrap();
        mac.update(&[&[0, 1, b'S', 0], &nonce[..12]].concat());
        let gcm = aes_gcm::AesGcm::<sm4::Sm4, U12>::new(&mac.finalize().into_bytes());
        let rest: [u8; 12] = nonce[12..].try_into().unwrap();
        return gcm.decrypt(&rest.into(), payload).ok();
    }
    Xaes256Gcm::new_from_slice(backing_key().expose())
        .unwrap()
        .decrypt(&nonce.into(), payload)
        .ok()
}

fn open_by(
    cipher: BlockCipher,
    blob: &[u8],
    context: &EncryptionContext,
) -> Result<Vec<u8>, OpenError> {
    let blob = CiphertextBlob::parse(blob).map_err(|_| OpenError)?;
    let key = backing_key_of(cipher);
    open(key_id(), &key, context, &blob).map(|key| key.expose().to_vec())
}

fn open_by_us(blob: &[u8], context: &EncryptionContext) -> Result<Vec<u8>, OpenError> {
    open_by(BlockCipher::Aes256, blob, context)
}

#[test]
fn seal_3_every_blob_opens_by_the_independent_crate() {
    for pairs in [
        &[][..],
        &[("a", "1")],
        &[("container", "c-1"), ("tenant", "täglich")],
    ] {
        let context = context(pairs);
        let lengths = [1, 7, 15, 16, 17, 31, 32, 33, 48, 64, 1023, 1024];
        let cases = CIPHERS.map(|cipher| lengths.map(|length| (cipher, length)));
        for (cipher, length) in cases.into_iter().flatten() {
            let mut blobs = Vec::new();
            let pooled = minted_of(cipher, length, 1).take().unwrap();
            pooled.bind(&context, &mut blobs);
            let mut batch = minted_of(cipher, length, 5);
            assert_eq!(batch.bind_many(9, &context, &mut blobs), 5);
            let (key, text) = (backing_key_of(cipher), vec![9; length]);
            blobs.extend(seal(key_id(), &key, &context, &text, &Entropy::os()).unwrap());
            for blob in blobs.chunks(length + 64) {
                let plaintext = open_by_oracle(blob, &context).unwrap();
                assert_eq!(plaintext.len(), length);
                let other = CIPHERS[usize::from(cipher == BlockCipher::Aes256)];
                assert_eq!(open_by(other, blob, &context), Err(OpenError));
                assert_eq!(open_by(cipher, blob, &context), Ok(plaintext));
            }
        }
    }
}

#[test]
fn single_and_batch_binding_agree_and_indices_move_on() {
    let fixed = Fixed([7; 52]);
    let entropy = || Entropy::new(Box::new(fixed), metrics::Counter::noop());
    let run = || Epoch::begin(key_id(), &backing_key(), &entropy(), Duration::ZERO).unwrap();
    let context = context(&[("a", "1")]);
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let mut epoch = run();
    for _ in 0..3 {
        let mut keys = epoch
            .mint(DataKeyLength::AES_256, 2, Duration::ZERO)
            .unwrap();
        while let Some(key) = keys.take() {
            key.bind(&context, &mut one);
        }
    }
    let mut keys = run()
        .mint(DataKeyLength::AES_256, 6, Duration::ZERO)
        .unwrap();
    keys.take().unwrap().bind(&context, &mut many);
    assert_eq!(keys.bind_many(2, &context, &mut many), 2);
    assert_eq!(keys.bind_many(99, &context, &mut many), 3);
    assert_eq!(one, many);
    let indices: Vec<&[u8]> = one.chunks(96).map(|blob| &blob[44..48]).collect();
    assert_eq!(indices, (0u32..6).map(u32::to_be_bytes).collect::<Vec<_>>());
}

#[test]
fn refilled_buffers_hold_only_new_keys() {
    let mut run = epoch();
    let mut keys = run.mint(DataKeyLength::AES_256, 4, Duration::ZERO).unwrap();
    keys.take().unwrap();
    run.mint_into(&mut keys, DataKeyLength::AES_128, 3, Duration::ZERO)
        .unwrap();
    let mut out = Vec::new();
    assert_eq!(keys.bind_many(9, &context(&[]), &mut out), 3);
    assert_eq!((out.len(), &out[44..48]), (3 * 80, &[0, 0, 0, 4][..]));
    assert!(
        out.chunks(80)
            .all(|blob| open_by_oracle(blob, &context(&[])).is_some())
    );
}

#[test]
fn rng_1_a_failed_draw_begins_no_epoch_and_seals_nothing() {
    let faulty = FaultyEntropy::default();
    let entropy = Entropy::new(Box::new(faulty.clone()), metrics::Counter::noop());
    faulty.0.store(true, Ordering::SeqCst);
    assert!(Epoch::begin(key_id(), &backing_key(), &entropy, Duration::ZERO).is_err());
    assert!(seal(key_id(), &backing_key(), &context(&[]), b"text", &entropy).is_err());
    assert!(mint_one(key_id(), &backing_key(), DataKeyLength::AES_256, &entropy).is_err());
    assert!(Nonce::draw_many(&entropy, 2).is_err());
    faulty.0.store(false, Ordering::SeqCst);
    assert!(Epoch::begin(key_id(), &backing_key(), &entropy, Duration::ZERO).is_ok());
}

#[test]
fn seal_1_nonces_that_are_drawn_together_differ_and_each_seals_once() {
    let (key, context, entropy) = (backing_key(), context(&[("a", "1")]), Entropy::os());
    let nonces = Nonce::draw_many(&entropy, 100).unwrap();
    let blobs: Vec<_> = nonces
        .map(|nonce| {
            let mut blob = Vec::new();
            seal_under(nonce, key_id(), &key, &context, b"text", &mut blob);
            blob
        })
        .collect();
    let mut nonces = std::collections::HashSet::new();
    for blob in &blobs {
        let blob = CiphertextBlob::parse(blob).unwrap();
        assert!(nonces.insert(*blob.nonce()));
        let opened = open(key_id(), &key, &context, &blob).unwrap();
        assert_eq!(opened.expose(), b"text");
    }
    assert_eq!(nonces.len(), 100);
}

/// An entropy source that gives the same bytes at each draw.
#[derive(Clone, Copy)]
struct Fixed([u8; 52]);

impl EntropySource for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        buffer.copy_from_slice(&self.0[..buffer.len()]);
        Ok(())
    }
}

/// The frozen vectors of each cipher.
fn vectors() -> [(BlockCipher, serde_json::Value); 2] {
    let files = [
        include_str!("../../tests/vectors/envelope-v1.json"),
        include_str!("../../tests/vectors/envelope-sm4.json"),
    ];
    std::array::from_fn(|at| (CIPHERS[at], serde_json::from_str(files[at]).unwrap()))
}

fn text<'a>(case: &'a serde_json::Value, member: &str) -> &'a str {
    case[member].as_str().unwrap()
}

fn number(case: &serde_json::Value, member: &str) -> usize {
    case[member].as_u64().unwrap().try_into().unwrap()
}

fn context_of(case: &serde_json::Value) -> EncryptionContext {
    let pairs = case["context"].as_object().unwrap().iter();
    EncryptionContext::from_pairs(pairs.map(|(name, value)| (name, value.as_str().unwrap())))
        .unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    hex_simd::decode_to_vec(text).unwrap()
}

/// Makes the blob of a frozen case again, with the draws of the vector.
fn remade(cipher: BlockCipher, case: &serde_json::Value, draw: [u8; 52]) -> Vec<u8> {
    let entropy = Entropy::new(Box::new(Fixed(draw)), metrics::Counter::noop());
    let key_id = text(case, "key_id").parse().unwrap();
    let generation = number(case, "generation").try_into().unwrap();
    let material = material_of(cipher);
    let key = BackingKey::from_material(key_id, generation, Timestamp(0), material);
    let context = context_of(case);
    let plaintext = unhex(text(case, "plaintext"));
    if text(case, "how") == "sealed" {
        return seal(key_id, &key, &context, &plaintext, &entropy).unwrap();
    }
    let length = DataKeyLength::new(plaintext.len()).unwrap();
    let index = number(case, "index");
    let mut blob = Vec::new();
    let magazine = || {
        let mut epoch = Epoch::begin(key_id, &key, &entropy, Duration::ZERO).unwrap();
        epoch.mint(length, index + 2, Duration::ZERO).unwrap()
    };
    match text(case, "how") {
        "miss" => {
            let minted = mint_one(key_id, &key, length, &entropy).unwrap();
            minted.bind(&context, &mut blob);
        }
        "hit" => {
            let mut keys = magazine();
            let key = (0..=index).map(|_| keys.take()).last().flatten();
            key.unwrap().bind(&context, &mut blob);
        }
        "batch" => {
            assert_eq!(
                magazine().bind_many(index + 1, &context, &mut blob),
                index + 1
            );
            blob.drain(..index * blob_bytes(length));
        }
        other => panic!("unknown case {other}"),
    }
    blob
}

#[test]
fn seal_4_frozen_blobs_are_made_again_and_their_ciphertext_is_the_drawn_bytes() {
    for (cipher, vectors) in vectors() {
        made_again(cipher, &vectors);
    }
}

fn made_again(cipher: BlockCipher, vectors: &serde_json::Value) {
    let draw = unhex(text(vectors, "draw")).try_into().unwrap();
    let material = || material_of(cipher);
    assert_eq!(text(vectors, "material"), hex(material().expose()));
    for (at, case) in vectors["cases"].as_array().unwrap().iter().enumerate() {
        let blob = unhex(text(case, "blob"));
        assert_eq!(remade(cipher, case, draw), blob, "case {at}");
        if let Some(drawn) = case["drawn"].as_str() {
            // The same blob comes from a pooled key, from a key minted for its request and from a
            // batch.
            assert_eq!(hex(&blob[48..blob.len() - 16]), drawn, "case {at}");
        }
        let parsed = CiphertextBlob::parse(&blob).unwrap();
        let BlobHeader {
            key_id, generation, ..
        } = parsed.header();
        let key = BackingKey::from_material(key_id, generation, Timestamp(0), material());
        let opened = open(key_id, &key, &context_of(case), &parsed).unwrap();
        assert_eq!(hex(opened.expose()), text(case, "plaintext"), "case {at}");
    }
}

#[test]
fn seal_2_frozen_refusals_do_not_open() {
    for (cipher, vectors) in vectors() {
        let refusals = vectors["refusals"].as_array().unwrap();
        assert_eq!(refusals.len(), 32);
        for case in refusals {
            let opened = open_by(cipher, &unhex(text(case, "blob")), &context_of(case));
            assert_eq!(opened, Err(OpenError), "{}", text(case, "why"));
        }
    }
}

#[test]
fn a_key_material_id_is_frozen() {
    for (cipher, vectors) in vectors() {
        let id = backing_key_of(cipher).id().to_string();
        assert_eq!(id, text(&vectors, "key_material_id"));
    }
}

fn hex(bytes: &[u8]) -> String {
    hex_simd::encode_to_string(bytes, hex_simd::AsciiCase::Lower)
}

#[test]
fn every_bit_and_every_length_matters() {
    let context = context(&[("container", "c-1")]);
    let blob = bound(32, &context);
    assert!(open_by_us(&blob, &context).is_ok());
    for bit in 0..blob.len() * 8 {
        let mut damaged = blob.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open_by_us(&damaged, &context), Err(OpenError), "bit {bit}");
    }
    for length in (0..200).filter(|length| *length != blob.len()) {
        let mut resized = blob.clone();
        resized.resize(length, 0);
        assert_eq!(open_by_us(&resized, &context), Err(OpenError), "{length}");
    }
}

#[test]
fn a_blob_opens_under_its_own_key_id_generation_and_material_alone() {
    let context = context(&[]);
    let blob = bound(32, &context);
    let blob = CiphertextBlob::parse(&blob).unwrap();
    let other_id = KeyId::from_parts(*key_id().bytes(), true);
    let key = |generation, material| {
        BackingKey::from_material(key_id(), generation, Timestamp(0), material)
    };
    let other_material = CipherKey::copy_of(BlockCipher::Aes256, &[1; 32]).unwrap();
    for (key_id, key) in [
        (other_id, backing_key()),
        (KeyId::from_random([1; 16]), backing_key()),
        (key_id(), key(4, material())),
        (key_id(), key(3, other_material)),
    ] {
        assert_eq!(open(key_id, &key, &context, &blob).err(), Some(OpenError));
    }
}

#[test]
fn sealing_fits_from_1_to_4096_bytes_and_never_twice_alike() {
    let context = context(&[("a", "1")]);
    let sealed = |length| {
        let plaintext = vec![7; length];
        seal(
            key_id(),
            &backing_key(),
            &context,
            &plaintext,
            &Entropy::os(),
        )
        .unwrap()
    };
    for length in [1, 4096] {
        assert_eq!(open_by_us(&sealed(length), &context), Ok(vec![7; length]));
        assert_ne!(sealed(length)[24..48], sealed(length)[24..48]);
    }
    for length in [0, 4097] {
        assert!(std::panic::catch_unwind(|| sealed(length)).is_err());
    }
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::btree_map("[a-zA-Z/é]{1,9}", ".{0,9}", 0..5)
        .prop_map(|pairs| pairs.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_and_any_truncation_is_one_error(length in 1..200usize, pairs in pairs(), bit: prop::sample::Index) {
        let context = EncryptionContext::from_pairs(pairs).unwrap();
        let blob = bound(length, &context);
        let bit = bit.index(blob.len() * 8);
        let mut damaged = blob.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open_by_us(&damaged, &context).err(), Some(OpenError));
        prop_assert_eq!(open_by_us(&blob[..bit / 8], &context).err(), Some(OpenError));
    }

    #[test]
    fn what_parses_is_what_was_encoded(
        head in prop::array::uniform24(0..4u8),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [head.as_slice(), &rest].concat();
        if let Ok(blob) = CiphertextBlob::parse(&bytes) {
            let header = blob.header().encode();
            let parts = [&header, blob.nonce().as_slice(), blob.ciphertext(), blob.tag()].concat();
            prop_assert_eq!(parts, bytes);
        }
    }

    #[test]
    fn seal_2_another_context_is_one_error(mut pairs in pairs(), at: prop::sample::Index) {
        let blob = bound(32, &EncryptionContext::from_pairs(pairs.clone()).unwrap());
        let opens = |pairs: &[(String, String)]| {
            let context = EncryptionContext::from_pairs(pairs.to_vec()).unwrap();
            open_by_us(&blob, &context).is_ok()
        };
        pairs.reverse();
        prop_assert!(opens(&pairs), "the order of pairs is irrelevant");
        let mut added = pairs.clone();
        added.push(("a name too long to be drawn".into(), String::new()));
        prop_assert!(!opens(&added));
        if !pairs.is_empty() {
            let at = at.index(pairs.len());
            let mut missing = pairs.clone();
            missing.remove(at);
            prop_assert!(!opens(&missing));
            let mut changed = pairs.clone();
            changed[at].1.push('x');
            prop_assert!(!opens(&changed));
            changed[at].1 = swap_case(&pairs[at].1);
            prop_assert!(changed == pairs || !opens(&changed));
            let mut cased = pairs.clone();
            cased[at].0 = swap_case(&cased[at].0);
            let clash = pairs.iter().any(|pair| pair.0 == cased[at].0);
            prop_assert!(clash || !opens(&cased));
        }
    }
}

fn swap_case(text: &str) -> String {
    let swapped = text.chars().map(|letter| match letter {
        'a'..='z' => letter.to_ascii_uppercase(),
        _ => letter.to_ascii_lowercase(),
    });
    swapped.collect()
}
