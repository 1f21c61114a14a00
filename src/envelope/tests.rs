//! The envelope against independent implementations, its own frozen vectors, and what must not open.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::entropy::{EntropySource, faulty::FaultyEntropy};
use crate::crypto::secret::Secret;
use crate::key::data_key::DataKeyLength;
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::time::Duration;
use xaes_256_gcm::Xaes256Gcm;
use xaes_256_gcm::aead::{Aead, KeyInit, Payload};

fn key_id() -> KeyId {
    "1234abcd-12ab-34cd-56ef-1234567890ab".parse().unwrap()
}

fn backing_key() -> BackingKey {
    let material = Secret::filled(|bytes| {
        bytes.copy_from_slice(&std::array::from_fn::<u8, 32, _>(|at| {
            u8::try_from(at).unwrap()
        }))
    });
    BackingKey::from_material(key_id(), 3, Timestamp(0), material)
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
}

fn epoch() -> Epoch {
    Epoch::begin(key_id(), &backing_key(), &Entropy::os(), Duration::ZERO).unwrap()
}

fn minted(length: usize, count: usize) -> MintedKeys {
    epoch()
        .mint(DataKeyLength::new(length).unwrap(), count, Duration::ZERO)
        .unwrap()
}

fn bound(length: usize, context: &EncryptionContext) -> Vec<u8> {
    let mut blob = Vec::new();
    minted(length, 1).take().unwrap().bind(context, &mut blob);
    blob
}

/// Opens by the independent crate `xaes-256-gcm`, knowing only the layout.
fn open_by_oracle(blob: &[u8], context: &EncryptionContext) -> Option<Vec<u8>> {
    let aad = [&blob[..24], context.canonical()].concat();
    let payload = Payload {
        msg: &blob[48..],
        aad: &aad,
    };
    let nonce: [u8; 24] = blob[24..48].try_into().unwrap();
    Xaes256Gcm::new(backing_key().expose().into())
        .decrypt(&nonce.into(), payload)
        .ok()
}

fn open_by_us(blob: &[u8], context: &EncryptionContext) -> Result<Vec<u8>, OpenError> {
    let blob = CiphertextBlob::parse(blob).map_err(|_| OpenError)?;
    open(key_id(), &backing_key(), context, &blob).map(|key| key.expose().to_vec())
}

#[test]
fn seal_3_every_blob_opens_by_the_independent_crate() {
    for pairs in [
        &[][..],
        &[("a", "1")],
        &[("container", "c-1"), ("tenant", "täglich")],
    ] {
        let context = context(pairs);
        for length in [1, 7, 15, 16, 17, 31, 32, 33, 48, 64, 1023, 1024] {
            let mut blobs = vec![bound(length, &context)];
            let mut batch = Vec::new();
            assert_eq!(minted(length, 5).bind_many(9, &context, &mut batch), 5);
            blobs.extend(batch.chunks(length + 64).map(<[u8]>::to_vec));
            let sealed = seal(
                key_id(),
                &backing_key(),
                &context,
                &vec![9; length],
                &Entropy::os(),
            );
            blobs.push(sealed.unwrap());
            for blob in blobs {
                let plaintext = open_by_oracle(&blob, &context).unwrap();
                assert_eq!(plaintext.len(), length);
                assert_eq!(open_by_us(&blob, &context), Ok(plaintext));
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
    faulty.0.store(false, Ordering::SeqCst);
    assert!(Epoch::begin(key_id(), &backing_key(), &entropy, Duration::ZERO).is_ok());
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

#[test]
fn seal_4_frozen_vectors_and_the_ciphertext_is_the_drawn_bytes() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/envelope-v1.json")).unwrap();
    assert_eq!(
        vectors["material"].as_str().unwrap(),
        hex(backing_key().expose())
    );
    let draw: [u8; 52] = std::array::from_fn(|at| u8::try_from(200 - at).unwrap());
    assert_eq!(vectors["epoch_draw"].as_str().unwrap(), hex(&draw));
    for case in vectors["cases"].as_array().unwrap() {
        let length = DataKeyLength::new(case["length"].as_u64().unwrap().try_into().unwrap());
        let pairs = case["context"].as_object().unwrap();
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
        let context = EncryptionContext::from_pairs(pairs).unwrap();
        let entropy = Entropy::new(Box::new(Fixed(draw)), metrics::Counter::noop());
        let mut run = Epoch::begin(key_id(), &backing_key(), &entropy, Duration::ZERO).unwrap();
        let mut blob = Vec::new();
        let mut keys = run.mint(length.unwrap(), 1, Duration::ZERO).unwrap();
        match case["how"].as_str().unwrap() {
            "hit" => keys.take().unwrap().bind(&context, &mut blob),
            "batch" => assert_eq!(keys.bind_many(1, &context, &mut blob), 1),
            other => panic!("unknown case {other}"),
        }
        assert_eq!(hex(&blob), case["blob"].as_str().unwrap());
        // RFC 8439's ChaCha20 with the seed as key and a nonce of zeros: the generator's first bytes.
        let drawn = case["drawn"].as_str().unwrap();
        assert_eq!(hex(&blob[48..blob.len() - 16]), drawn);
        let plaintext = open_by_oracle(&blob, &context).unwrap();
        assert_eq!(hex(&plaintext), case["plaintext"].as_str().unwrap());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn seal_2_another_context_is_one_error(mut pairs in pairs(), at: prop::sample::Index) {
        let blob = bound(32, &EncryptionContext::from_pairs(pairs.clone()).unwrap());
        let opens = |pairs: &[(String, String)]| {
            let context = EncryptionContext::from_pairs(pairs.to_vec()).unwrap();
            open_by_us(&blob, &context).is_ok()
        };
        pairs.reverse();
        prop_assert!(opens(&pairs), "the order of pairs is irrelevant");
        let mut added = pairs.clone();
        added.push(("added".into(), String::new()));
        prop_assert!(!opens(&added));
        if !pairs.is_empty() {
            let at = at.index(pairs.len());
            let mut missing = pairs.clone();
            missing.remove(at);
            prop_assert!(!opens(&missing));
            let mut changed = pairs.clone();
            changed[at].1.push('x');
            prop_assert!(!opens(&changed));
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

/// Writes what the Python implementation in `tests/clients/open_blobs.py` opens.
#[test]
fn blobs_for_the_independent_implementation() {
    let mut lines = String::new();
    let contexts: [&[(&str, &str)]; 3] = [&[], &[("b", "2"), ("a", "1")], &[("é", ""), ("", "x")]];
    for pairs in contexts {
        let context = context(pairs);
        for length in [1, 16, 32, 100, 1024] {
            let mut batch = Vec::new();
            minted(length, 20).bind_many(20, &context, &mut batch);
            let mut blobs: Vec<Vec<u8>> = batch.chunks(length + 64).map(<[u8]>::to_vec).collect();
            blobs.push(bound(length, &context));
            let sealed = seal(
                key_id(),
                &backing_key(),
                &context,
                &vec![7; length],
                &Entropy::os(),
            );
            blobs.push(sealed.unwrap());
            for blob in blobs {
                let plaintext = open_by_us(&blob, &context).unwrap();
                let pairs: std::collections::BTreeMap<_, _> = pairs.iter().copied().collect();
                let line = serde_json::json!({
                    "material": hex(backing_key().expose()), "context": pairs,
                    "blob": hex(&blob), "plaintext": hex(&plaintext),
                });
                lines.push_str(&line.to_string());
                lines.push('\n');
            }
        }
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vectors");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("blobs.jsonl"), lines).unwrap();
}
