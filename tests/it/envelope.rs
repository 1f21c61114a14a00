//! Blobs made through the public interface: those of AES-256 keys opened by the independent crate
//! `xaes-256-gcm` here, and all written to `target/tmp/blobs.jsonl` for the independent
//! implementation in `tests/clients/open_blobs.py`.

use keymill::clock::Timestamp;
use keymill::context::EncryptionContext;
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{self, CiphertextBlob, Epoch, blob_bytes};
use keymill::key::KeyId;
use keymill::key::data_key::DataKeyLength;
use keymill::key::material::BackingKey;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use xaes_256_gcm::aead::{Aead, KeyInit, Payload};

const CONTEXTS: [&[(&str, &str)]; 5] = [
    &[],
    &[("container", "container-000000000001")],
    &[("b", "2"), ("a", "1"), ("A", "1")],
    &[("é", ""), ("", "x"), ("e\u{301}", "\u{10348}")],
    &[("long", LONG)],
];
/// Long enough that the additional data have many blocks.
const LONG: &str = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789";
const LENGTHS: [usize; 8] = [1, 15, 16, 31, 32, 33, 100, 1024];

struct Maker {
    key_id: KeyId,
    key: BackingKey,
    entropy: Entropy,
}

impl Maker {
    fn new(cipher: BlockCipher, multi_region: bool, generation: u32) -> Self {
        let entropy = Entropy::os();
        let mut bytes = [0; 16];
        entropy.draw(&mut bytes).unwrap();
        let key_id = KeyId::from_parts(bytes, multi_region);
        let key = BackingKey::draw(cipher, key_id, generation, Timestamp(0), &entropy).unwrap();
        Self {
            key_id,
            key,
            entropy,
        }
    }

    /// Blobs of every way to make one: missed, taken from a magazine, bound as a batch, sealed.
    fn blobs(&self, length: DataKeyLength, context: &EncryptionContext) -> Vec<Vec<u8>> {
        let mut epoch =
            Epoch::begin(self.key_id, &self.key, &self.entropy, Duration::ZERO).unwrap();
        let mut all = Vec::new();
        for _ in 0..2 {
            envelope::mint_one(self.key_id, &self.key, length, &self.entropy)
                .unwrap()
                .bind(context, &mut all);
        }
        let mut magazine = epoch.mint(length, 3, Duration::ZERO).unwrap();
        while let Some(key) = magazine.take() {
            key.bind(context, &mut all);
        }
        let mut batch = epoch.mint(length, 4, Duration::ZERO).unwrap();
        assert_eq!(batch.bind_many(4, context, &mut all), 4);
        let plaintext = vec![0x5a; length.bytes()];
        let sealed = envelope::seal(self.key_id, &self.key, context, &plaintext, &self.entropy);
        all.extend(sealed.unwrap());
        all.chunks(blob_bytes(length)).map(<[u8]>::to_vec).collect()
    }

    fn open_by_oracle(&self, context: &EncryptionContext, blob: &[u8]) -> Vec<u8> {
        let aad = [&blob[..24], context.canonical()].concat();
        let payload = Payload {
            msg: &blob[48..],
            aad: &aad,
        };
        let nonce: [u8; 24] = blob[24..48].try_into().unwrap();
        xaes_256_gcm::Xaes256Gcm::new_from_slice(self.key.expose())
            .unwrap()
            .decrypt(&nonce.into(), payload)
            .expect("every blob is an ordinary XAES-256-GCM ciphertext")
    }
}

#[test]
fn seal_3_every_blob_opens_by_independent_implementations() {
    let mut lines = String::new();
    let (mut nonces, mut plaintexts) = (HashSet::new(), HashSet::new());
    let (aes, sm4) = (BlockCipher::Aes256, BlockCipher::Sm4);
    for (cipher, multi_region, generation) in [
        (aes, false, 1),
        (aes, true, u32::MAX),
        (sm4, false, 1),
        (sm4, true, u32::MAX),
    ] {
        let maker = Maker::new(cipher, multi_region, generation);
        for pairs in CONTEXTS {
            let context = EncryptionContext::from_pairs(pairs.iter().copied()).unwrap();
            for length in LENGTHS {
                let length = DataKeyLength::new(length).unwrap();
                for blob in maker.blobs(length, &context) {
                    let parsed = CiphertextBlob::parse(&blob).unwrap();
                    assert!(nonces.insert(*parsed.nonce()), "SEAL-1");
                    let opened =
                        envelope::open(maker.key_id, &maker.key, &context, &parsed).unwrap();
                    let plaintext = opened.expose().to_vec();
                    assert_eq!(plaintext.len(), length.bytes());
                    if cipher == aes {
                        assert_eq!(maker.open_by_oracle(&context, &blob), plaintext);
                    }
                    lines += &line(&maker, pairs, &blob, &plaintext);
                    // A plaintext of zeros or a repeated one would betray a keystream that was left
                    // out.
                    if length.bytes() >= 15 && plaintext != vec![0x5a; length.bytes()] {
                        assert!(plaintexts.insert(plaintext));
                    }
                }
            }
        }
    }
    assert_eq!(nonces.len(), 4 * CONTEXTS.len() * LENGTHS.len() * 10);
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/blobs.jsonl"), lines).unwrap();
}

fn line(maker: &Maker, pairs: &[(&str, &str)], blob: &[u8], plaintext: &[u8]) -> String {
    let pairs: BTreeMap<_, _> = pairs.iter().copied().collect();
    let line = serde_json::json!({
        "key_id": maker.key_id.to_string(),
        "generation": maker.key.generation(),
        "material": hex(maker.key.expose()),
        "context": pairs,
        "blob": base64_simd::STANDARD.encode_to_string(blob),
        "plaintext": hex(plaintext),
    });
    format!("{line}\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
