//! C2SP's vectors, single and accumulated, and inputs that must not open.

use super::*;
use serde_json::Value;
use shake::Shake128;
use shake::digest::{ExtendableOutput, Update, XofReader};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/xaes-256-gcm.json")).unwrap()
}

fn hex(text: &Value) -> Vec<u8> {
    hex_simd::decode_to_vec(text.as_str().unwrap()).unwrap()
}

#[test]
fn c2sp_single_cases() {
    for case in vectors()["cases"].as_array().unwrap() {
        let key: [u8; 32] = hex(&case["K"]).try_into().unwrap();
        let nonce: [u8; 24] = case["N_ascii"]
            .as_str()
            .unwrap()
            .as_bytes()
            .try_into()
            .unwrap();
        let derived = derive_key(&key, nonce.first_chunk().unwrap());
        assert_eq!(derived.expose().as_slice(), hex(&case["Kx"]));
        let mut text = case["plaintext_ascii"]
            .as_str()
            .unwrap()
            .as_bytes()
            .to_vec();
        let aad = case["aad_ascii"].as_str().unwrap().as_bytes();
        let tag = seal_in_place(&key, &nonce, aad, &mut text);
        assert_eq!([text.as_slice(), &tag].concat(), hex(&case["ciphertext"]));
        assert_eq!(open_in_place(&key, &nonce, aad, &mut text, &tag), Ok(()));
        assert_eq!(text, case["plaintext_ascii"].as_str().unwrap().as_bytes());
    }
}

#[test]
fn c2sp_accumulated_10_000() {
    let mut input = Shake128::default().finalize_xof();
    let mut sum = Shake128::default();
    let text_of = |input: &mut dyn XofReader| {
        let mut length = [0];
        input.read(&mut length);
        let mut text = vec![0; usize::from(length[0])];
        input.read(&mut text);
        text
    };
    for _ in 0..10_000 {
        let (mut key, mut nonce) = ([0; 32], [0; 24]);
        input.read(&mut key);
        input.read(&mut nonce);
        let plaintext = text_of(&mut input);
        let aad = text_of(&mut input);
        let mut text = plaintext.clone();
        let tag = seal_in_place(&key, &nonce, &aad, &mut text);
        sum.update(&text);
        sum.update(&tag);
        assert_eq!(open_in_place(&key, &nonce, &aad, &mut text, &tag), Ok(()));
        assert_eq!(text, plaintext);
    }
    let mut digest = [0; 32];
    sum.finalize_xof().read(&mut digest);
    assert_eq!(
        digest.to_vec(),
        hex(&vectors()["accumulated"]["iterations_10000"])
    );
}

#[test]
fn sealed_bytes_open_only_whole_and_under_the_same_key_and_data() {
    let entropy = Entropy::os();
    let sealed = seal(&[1; 32], b"data", b"text", &entropy).unwrap();
    assert_eq!(open(&[1; 32], b"data", &sealed).unwrap().expose(), b"text");
    assert_eq!(open(&[2; 32], b"data", &sealed).err(), Some(OpenError));
    assert_eq!(open(&[1; 32], b"Data", &sealed).err(), Some(OpenError));
    for length in 0..sealed.len() {
        assert_eq!(
            open(&[1; 32], b"data", &sealed[..length]).err(),
            Some(OpenError),
            "{length}"
        );
    }
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            open(&[1; 32], b"data", &damaged).err(),
            Some(OpenError),
            "bit {bit}"
        );
    }
}

#[test]
fn rng_1_a_failed_draw_seals_nothing() {
    let faulty = crate::crypto::entropy::faulty::FaultyEntropy::default();
    faulty.0.store(true, std::sync::atomic::Ordering::SeqCst);
    let entropy = Entropy::new(Box::new(faulty), metrics::Counter::noop());
    assert!(seal(&[1; 32], b"", b"text", &entropy).is_err());
}
