//! The cost of minting, binding and opening. Beside it are the floor (the same primitives of the
//! same crates over the same bytes in bulk, with nothing around them), a library call with a kept
//! cipher for each key, and the naive way.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod side_by_side;

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, AeadInOut, Payload};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use keymill::clock::{Clock, Timestamp};
use keymill::context::EncryptionContext;
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::blob::{HEADER_BYTES, NONCE_BYTES, TAG_BYTES};
use keymill::envelope::{self, BlobHeader, CiphertextBlob, Epoch, MintedKeys};
use keymill::key::KeyId;
use keymill::key::data_key::DataKeyLength;
use keymill::key::material::BackingKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use side_by_side::rows::Goal;
use side_by_side::{Question, Side, by_runs};
use sm4::Sm4;
use std::hint::black_box;
use std::time::Duration;
use xaes_256_gcm::Xaes256Gcm;

/// A magazine, and what an export mints at a time sixteen times over.
const MAGAZINE: usize = 64;
const BATCH: usize = 4096;
/// Keys bound one by one between two readings of the clock.
const RUN: usize = 256;
const KEY_BYTES: usize = 32;
const BLOB_BYTES: usize = HEADER_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// As a caller would send: one pair.
const NAME: &str = "container";

fn main() {
    side_by_side::answer(&mut questions());
}

/// These sides, and those that make as many keys with `aes-gcm` one by one.
fn beside_aes_gcm(keys: usize, mut sides: Vec<Side>) -> Vec<Side> {
    sides.push(Side::new("aes-gcm, cipher kept", seal_each(keys)));
    sides.push(Side::new("new cipher for each key", naive_each(keys)));
    sides
}

fn questions() -> Vec<Question> {
    let mut questions = vec![
        Question::new(
            "mint a magazine of 64",
            64,
            beside_aes_gcm(
                MAGAZINE,
                vec![
                    Side::new("mint", mint_magazine()),
                    Side::new("ChaCha20 and one AES block", floor_of_mint(MAGAZINE)),
                ],
            ),
        )
        .row(
            "mint a magazine, one core",
            ["mint", "ChaCha20 and one AES block"],
            Goal::AtMost(1.3),
        ),
        Question::new(
            "mint a batch of 4096",
            4096,
            beside_aes_gcm(
                BATCH,
                vec![
                    Side::new("mint", mint_batch(BlockCipher::Aes256)),
                    Side::new("ChaCha20 and one AES block", floor_of_mint(BATCH)),
                ],
            ),
        ),
        Question::new(
            "mint a batch of 4096 with SM4",
            4096,
            vec![
                Side::new("mint, SM4", mint_batch(BlockCipher::Sm4)),
                Side::new("ChaCha20 and one SM4 block", floor_of_sm4_mint()),
                Side::new("mint, AES-256", mint_batch(BlockCipher::Aes256)),
            ],
        )
        .row(
            "mint a batch with SM4, one core",
            ["mint, SM4", "ChaCha20 and one SM4 block"],
            Goal::AtMost(1.3),
        ),
        Question::new(
            "mint batches of 4096",
            4096,
            vec![
                Side::new("two threads", mint_on(2)),
                Side::new("one thread", mint_on(1)),
            ],
        )
        .row(
            "two cores",
            ["one thread", "two threads"],
            Goal::AtLeast(1.8),
        ),
        Question::new(
            "mint a batch of 4096 and bind it to one context",
            4096,
            beside_aes_gcm(
                BATCH,
                vec![
                    Side::new("mint and bind", mint_and_bind()),
                    Side::new("ChaCha20, AES, GHASH and a copy", floor_of_mint_and_bind()),
                ],
            ),
        )
        .row(
            "mint and bind, batch under one context",
            ["mint and bind", "ChaCha20, AES, GHASH and a copy"],
            Goal::AtMost(1.5),
        )
        .row(
            "the toy way",
            ["new cipher for each key", "mint and bind"],
            Goal::AtLeast(20.0),
        ),
    ];
    for (name, bytes) in [
        ("bind one, no context", 0),
        ("bind one, 64 bytes of context", 64),
        ("bind one, 1024 bytes of context", 1024),
    ] {
        let mut question = Question::new(
            name,
            1,
            vec![
                Side::new("take and bind", bind(bytes)),
                Side::new("GHASH in bulk and a copy", floor_of_bind(bytes)),
                Side::new("aes-gcm, cipher kept", seal_one(bytes)),
            ],
        );
        if bytes == 64 {
            question = question.row(
                "bind, 64-byte context, single",
                ["take and bind", "aes-gcm, cipher kept"],
                Goal::AtMost(0.55),
            );
        }
        questions.push(question);
    }
    questions.push(Question::new(
        "open one, 64 bytes of context",
        1,
        vec![
            Side::new("open", open(64)),
            Side::new("xaes-256-gcm", open_by_crate(64)),
            Side::new("aes-gcm, cipher kept", open_with_kept_cipher(64)),
        ],
    ));
    questions
}

/// A context whose canonical form has `bytes` bytes: 2, and 4 for each pair beside its texts.
fn context(bytes: usize) -> EncryptionContext {
    let pairs = (bytes > 0).then(|| (NAME, "x".repeat(bytes - 6 - NAME.len())));
    let context = EncryptionContext::from_pairs(pairs).unwrap();
    assert_eq!(context.canonical().len(), bytes);
    context
}

fn timed(work: impl FnOnce()) -> Duration {
    let clock = Clock::system();
    work();
    clock.monotonic()
}

/// A key, and the epoch that is minted in.
struct Minter {
    id: KeyId,
    key: BackingKey,
    entropy: Entropy,
    epoch: Epoch,
    minted: MintedKeys,
}

impl Minter {
    fn new() -> Self {
        Self::of(BlockCipher::Aes256)
    }

    fn of(cipher: BlockCipher) -> Self {
        let entropy = Entropy::os();
        let mut bytes = [0; 16];
        entropy.draw(&mut bytes).unwrap();
        let id = KeyId::from_random(bytes);
        let key = BackingKey::draw(cipher, id, 1, Timestamp(0), &entropy).unwrap();
        let epoch = Epoch::begin(id, &key, &entropy, Duration::ZERO).unwrap();
        Self {
            id,
            key,
            entropy,
            epoch,
            minted: MintedKeys::new(),
        }
    }

    /// Into the same buffers, in a new epoch when one has ended: what an export does.
    fn mint(&mut self, count: usize) {
        let length = DataKeyLength::AES_256;
        while self
            .epoch
            .mint_into(&mut self.minted, length, count, Duration::ZERO)
            .is_err()
        {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.epoch = Epoch::begin(self.id, &self.key, &self.entropy, Duration::ZERO).unwrap();
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        BlobHeader::of(self.id, &self.key).encode()
    }
}

/// Mints into new buffers, which are dropped: the work of a filler, and the end of its magazines.
fn mint_magazine() -> impl FnMut(u64) -> Duration {
    let mut minter = Minter::new();
    move |times| {
        timed(|| {
            for _ in 0..times {
                let length = DataKeyLength::AES_256;
                match minter.epoch.mint(length, MAGAZINE, Duration::ZERO) {
                    Ok(magazine) => drop(black_box(magazine)),
                    Err(_ended) => minter.begin(),
                }
            }
        })
    }
}

fn mint_batch(cipher: BlockCipher) -> impl FnMut(u64) -> Duration {
    let mut minter = Minter::of(cipher);
    move |times| {
        timed(|| {
            for _ in 0..times {
                minter.mint(BATCH);
                black_box(&minter.minted);
            }
        })
    }
}

/// As many batches on each of `threads` threads: wall-clock time of all, divided among the keys.
fn mint_on(threads: u32) -> impl FnMut(u64) -> Duration {
    let mut minters: Vec<_> = (0..threads).map(|_| Minter::new()).collect();
    move |times| {
        let took = timed(|| {
            std::thread::scope(|scope| {
                for minter in &mut minters {
                    scope.spawn(move || {
                        for _ in 0..times {
                            minter.mint(BATCH);
                            black_box(&minter.minted);
                        }
                    });
                }
            });
        });
        took / threads
    }
}

fn mint_and_bind() -> impl FnMut(u64) -> Duration {
    let mut minter = Minter::new();
    let (context, mut out) = (context(64), Vec::new());
    move |times| {
        timed(|| {
            for _ in 0..times {
                minter.mint(BATCH);
                out.clear();
                minter.minted.bind_many(BATCH, &context, &mut out);
                black_box(&out);
            }
        })
    }
}

fn floor_of_sm4_mint() -> impl FnMut(u64) -> Duration {
    let mut floor = Floor::new(BATCH);
    let cipher = Sm4::new(&[7; 16].into());
    move |times| {
        timed(|| {
            for _ in 0..times {
                floor.generator.fill_bytes(&mut floor.ciphertexts);
                cipher.encrypt_blocks(&mut floor.blocks);
                black_box((&floor.ciphertexts, &floor.blocks));
            }
        })
    }
}

/// The generator's bytes and one AES block for each of `keys` keys, in bulk.
struct Floor {
    generator: ChaCha20Rng,
    cipher: Aes256,
    ciphertexts: Vec<u8>,
    blocks: Vec<aes::Block>,
}

impl Floor {
    fn new(keys: usize) -> Self {
        Self {
            generator: ChaCha20Rng::from_seed([7; 32]),
            cipher: Aes256::new(&[7; 32].into()),
            ciphertexts: vec![0; keys * KEY_BYTES],
            blocks: vec![aes::Block::default(); keys],
        }
    }

    fn draw_and_mask(&mut self) {
        self.generator.fill_bytes(&mut self.ciphertexts);
        self.cipher.encrypt_blocks(&mut self.blocks);
        black_box((&self.ciphertexts, &self.blocks));
    }
}

fn floor_of_mint(keys: usize) -> impl FnMut(u64) -> Duration {
    let mut floor = Floor::new(keys);
    move |times| {
        timed(|| {
            for _ in 0..times {
                floor.draw_and_mask();
            }
        })
    }
}

/// Beside the floor of mint, GHASH over what differs from key to key (two blocks of ciphertext),
/// and the blobs copied once.
fn floor_of_mint_and_bind() -> impl FnMut(u64) -> Duration {
    let mut floor = Floor::new(BATCH);
    let (blobs, mut out) = (vec![7; BATCH * BLOB_BYTES], Vec::new());
    let ghash = GHash::new(&[7; 16].into());
    let text = vec![ghash::Block::default(); 2 * BATCH];
    move |times| {
        timed(|| {
            for _ in 0..times {
                floor.draw_and_mask();
                black_box(hash(&ghash, &text));
                copy(&blobs, &mut out);
            }
        })
    }
}

fn hash(ghash: &GHash, blocks: &[ghash::Block]) -> ghash::Block {
    let mut ghash = ghash.clone();
    ghash.update(blocks);
    ghash.finalize()
}

/// Blob by blob, as they are handed over.
fn copy(blobs: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for blob in blobs.as_chunks::<BLOB_BYTES>().0 {
        out.extend_from_slice(blob);
    }
    black_box(out);
}

fn bind(context_bytes: usize) -> impl FnMut(u64) -> Duration {
    let mut minter = Minter::new();
    let (context, mut out) = (context(context_bytes), Vec::new());
    by_runs(RUN, move |count| {
        minter.mint(count);
        out.clear();
        timed(|| {
            while let Some(key) = minter.minted.take() {
                key.bind(&context, &mut out);
            }
            black_box(&out);
        })
    })
}

/// As many blocks as each tag has: header and context, ciphertext, lengths.
fn floor_of_bind(context_bytes: usize) -> impl FnMut(u64) -> Duration {
    let blocks = (HEADER_BYTES + context_bytes).div_ceil(16) + 3;
    let blocks = vec![ghash::Block::default(); RUN * blocks];
    let ghash = GHash::new(&[7; 16].into());
    let (blobs, mut out) = (vec![7; RUN * BLOB_BYTES], Vec::new());
    by_runs(RUN, move |count| {
        let (blocks, blobs) = (
            &blocks[..blocks.len() / RUN * count],
            &blobs[..count * BLOB_BYTES],
        );
        timed(|| {
            black_box(hash(&ghash, blocks));
            copy(blobs, &mut out);
        })
    })
}

/// A key from the generator, sealed under a cipher that is kept, with a nonce that counts: a whole
/// blob.
fn append_sealed(
    cipher: &Aes256Gcm,
    generator: &mut ChaCha20Rng,
    counter: u64,
    additional: &[u8],
    out: &mut Vec<u8>,
) {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    let mut key = [0; KEY_BYTES];
    generator.fill_bytes(&mut key);
    let tag = cipher
        .encrypt_inout_detached(&nonce.into(), additional, key.as_mut_slice().into())
        .unwrap();
    out.extend_from_slice(&additional[..HEADER_BYTES]);
    out.extend_from_slice(&[7; NONCE_BYTES - 12]);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&key);
    out.extend_from_slice(&tag);
}

fn seal_each(keys: usize) -> impl FnMut(u64) -> Duration {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let mut generator = ChaCha20Rng::from_seed([7; 32]);
    let additional = additional(64);
    let (mut counter, mut out) = (0, Vec::new());
    move |times| {
        timed(|| {
            for _ in 0..times {
                out.clear();
                for _ in 0..keys {
                    counter += 1;
                    append_sealed(&cipher, &mut generator, counter, &additional, &mut out);
                }
                black_box(&out);
            }
        })
    }
}

fn seal_one(context_bytes: usize) -> impl FnMut(u64) -> Duration {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let mut generator = ChaCha20Rng::from_seed([7; 32]);
    let additional = additional(context_bytes);
    let (mut counter, mut out) = (0, Vec::new());
    by_runs(RUN, move |count| {
        out.clear();
        timed(|| {
            for _ in 0..count {
                counter += 1;
                append_sealed(&cipher, &mut generator, counter, &additional, &mut out);
            }
            black_box(&out);
        })
    })
}

/// Key and nonce from the operating system, a new cipher and a new vector for each key.
fn naive_each(keys: usize) -> impl FnMut(u64) -> Duration {
    let additional = additional(64);
    move |times| {
        timed(|| {
            for _ in 0..times {
                for _ in 0..keys {
                    let mut key = [0; KEY_BYTES];
                    getrandom::fill(&mut key).unwrap();
                    let mut nonce = [0; 12];
                    getrandom::fill(&mut nonce).unwrap();
                    let payload = Payload {
                        msg: &key,
                        aad: &additional,
                    };
                    let cipher = Aes256Gcm::new(&[7; 32].into());
                    black_box(cipher.encrypt(&nonce.into(), payload).unwrap());
                }
            }
        })
    }
}

fn additional(context_bytes: usize) -> Vec<u8> {
    [&[7; HEADER_BYTES], context(context_bytes).canonical()].concat()
}

/// Blobs to open, each under the same key.
fn blobs(minter: &mut Minter, context: &EncryptionContext) -> Vec<u8> {
    let mut out = Vec::new();
    minter.mint(RUN);
    minter.minted.bind_many(RUN, context, &mut out);
    out
}

fn open(context_bytes: usize) -> impl FnMut(u64) -> Duration {
    let mut minter = Minter::new();
    let context = context(context_bytes);
    let blobs = blobs(&mut minter, &context);
    by_runs(RUN, move |count| {
        timed(|| {
            for blob in blobs.chunks_exact(BLOB_BYTES).take(count) {
                let blob = CiphertextBlob::parse(blob).unwrap();
                drop(black_box(
                    envelope::open(minter.id, &minter.key, &context, &blob).unwrap(),
                ));
            }
        })
    })
}

fn open_by_crate(context_bytes: usize) -> impl FnMut(u64) -> Duration {
    let mut minter = Minter::new();
    let context = context(context_bytes);
    let blobs = blobs(&mut minter, &context);
    let additional = [minter.header().as_slice(), context.canonical()].concat();
    let cipher = Xaes256Gcm::new_from_slice(minter.key.expose()).unwrap();
    by_runs(RUN, move |count| {
        timed(|| {
            for blob in blobs.chunks_exact(BLOB_BYTES).take(count) {
                let (nonce, text) = blob[HEADER_BYTES..].split_first_chunk().unwrap();
                let payload = Payload {
                    msg: text,
                    aad: &additional,
                };
                let nonce: &[u8; NONCE_BYTES] = nonce;
                black_box(cipher.decrypt(nonce.into(), payload).unwrap());
            }
        })
    })
}

/// The cost of opening if the derived key were known.
fn open_with_kept_cipher(context_bytes: usize) -> impl FnMut(u64) -> Duration {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let additional = additional(context_bytes);
    let mut sealed = [7; KEY_BYTES];
    let nonce = [7; 12];
    let tag = cipher
        .encrypt_inout_detached(&nonce.into(), &additional, sealed.as_mut_slice().into())
        .unwrap();
    by_runs(RUN, move |count| {
        timed(|| {
            for _ in 0..count {
                let mut text = black_box(sealed);
                cipher
                    .decrypt_inout_detached(
                        &nonce.into(),
                        &additional,
                        text.as_mut_slice().into(),
                        &tag,
                    )
                    .unwrap();
                black_box(text);
            }
        })
    })
}
